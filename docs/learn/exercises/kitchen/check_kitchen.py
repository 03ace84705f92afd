"""What a kitchen answers; green when it is written."""

from datetime import UTC, datetime

import trio
from kitchen import Kitchen

from actors.sagas import Outcome, Refused, SagaCommand, Succeeded


def do(order: str, *, is_undo: bool = False, attempt: int = 1) -> SagaCommand:
    return SagaCommand(
        name="Cook",
        target="kitchen",
        body={"dish": "soup"},
        saga=order,
        step="cook",
        attempt=attempt,
        token=f"{order}-{attempt}",
        is_undo=is_undo,
        due_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def answers(kitchen: Kitchen, *commands: SagaCommand) -> list[Outcome]:
    async def main() -> list[Outcome]:
        return [await kitchen.answer(one) for one in commands]

    return trio.run(main)


def test_what_comes_twice_is_cooked_once() -> None:
    kitchen = Kitchen()
    assert answers(kitchen, do("a"), do("a", attempt=2)) == [Succeeded(), Succeeded()]
    assert kitchen.cooked == ["soup"]


def test_a_refusal_stays_one() -> None:
    kitchen = Kitchen()
    told = answers(kitchen, do("a"), do("b"), do("c"), do("a", is_undo=True), do("c", attempt=2))
    assert told == [Succeeded(), Succeeded(), Refused("sold out"), Succeeded(), Refused("sold out")]
    assert answers(kitchen, do("d")) == [Succeeded()]


def test_an_undo_gives_back_once() -> None:
    kitchen = Kitchen()
    undone = do("a", is_undo=True)
    assert answers(kitchen, do("a"), do("b"), undone, undone) == [Succeeded()] * 4
    assert kitchen.cooked == ["soup"]


def test_what_was_called_off_before_it_came_is_refused() -> None:
    kitchen = Kitchen()
    assert answers(kitchen, do("a", is_undo=True), do("a")) == [Succeeded(), Refused("called off")]
    assert kitchen.cooked == []
