"""What a shelf does; green when it is written."""

import trio
from shelf import Put, Shelf, Take

from actors.runtime import open_actors


def taken(*messages: Put | Take) -> list[int]:
    async def main() -> list[int]:
        async with open_actors() as system:
            shelf = await system.start(Shelf)
            found = []
            for one in messages:
                if isinstance(one, Put):
                    shelf.tell(one)
                else:
                    found.append(await shelf.ask(one, timeout=1.0))
            return found

    return trio.run(main)


def test_what_was_put_can_be_taken() -> None:
    assert taken(Put("chair", 3), Put("chair"), Take("chair", 4)) == [4]


def test_no_more_is_taken_than_there_is() -> None:
    assert taken(Put("chair", 3), Take("chair", 2), Take("chair", 2), Take("chair", 2)) == [2, 1, 0]


def test_things_lie_apart() -> None:
    assert taken(Put("chair"), Take("table", 1), Take("chair", 1)) == [0, 1]
