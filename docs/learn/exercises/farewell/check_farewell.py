"""What is written when; green when nothing is lost."""

from collections.abc import Sequence

import trio
from farewell import Log, Write
from trio.testing import MockClock

from actors.runtime import open_actors


def written(
    waits: Sequence[tuple[int, float]], *, seen: list[int] | None = None
) -> list[list[str]]:
    """Tell so many lines, then wait so long, again and again; what was written, by the end."""
    found: list[list[str]] = []

    async def main() -> None:
        number = 0
        async with open_actors() as system:
            log = await system.start(Log, found.append)
            for count, seconds in waits:
                for _ in range(count):
                    number += 1
                    log.tell(Write(str(number)))
                await trio.sleep(seconds)
                if seen is not None:
                    seen.append(len(found))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return found


def test_ten_lines_are_written_together() -> None:
    seen: list[int] = []
    assert [len(one) for one in written([(20, 1)], seen=seen)] == [10, 10]
    assert seen == [2]


def test_a_few_are_written_after_five_seconds() -> None:
    seen: list[int] = []
    assert written([(2, 4), (1, 2)], seen=seen) == [["1", "2", "3"]]
    assert seen == [0, 1]


def test_a_stop_loses_nothing() -> None:
    assert written([(3, 1)]) == [["1", "2", "3"]]


def test_nothing_is_never_written() -> None:
    seen: list[int] = []
    assert [len(one) for one in written([(10, 60), (0, 60)], seen=seen)] == [10]
    assert seen == [1, 1]
