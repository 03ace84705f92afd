"""A repeat is answered as the first was (SITE-102)."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from web.routing.decided import KEPT_S, CommandKey, Decided


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def key(session: UUID, command_id: str, route: str = "crash") -> CommandKey:
    return CommandKey(session, route, command_id)


# SITE-102
def test_it_is_known_for_ten_minutes_to_its_session_and_route() -> None:
    clock, session = Clock(), uuid4()
    decided = Decided(clock)
    assert decided.get(key(session, "c1")) is None
    decided.put(key(session, "c1"), "done")
    assert decided.get(key(session, "c1")) == "done"
    assert decided.get(key(session, "c1", "kill")) is None
    assert decided.get(key(uuid4(), "c1")) is None
    clock.now = KEPT_S - 1
    assert decided.get(key(session, "c1")) == "done"
    clock.now = KEPT_S
    assert decided.get(key(session, "c1")) is None
    assert len(decided) == 0


@pytest.mark.parametrize("limits", [{"per_session_max": 3}, {"total_max": 3}])
def test_the_oldest_of_too_many_is_forgotten(limits: dict[str, int]) -> None:
    session, decided = uuid4(), Decided(Clock(), **limits)
    for number in range(4):
        decided.put(key(session, str(number)), "done")
    assert [decided.get(key(session, str(number))) for number in range(4)] == [
        None, "done", "done", "done",
    ]  # fmt: skip
    assert len(decided) == 3


class Deciding:
    """Decides when it is told to, and counts how often it was asked."""

    def __init__(self, outcome: str | Exception | None) -> None:
        self.outcome, self.count = outcome, 0
        self.began, self.go = trio.Event(), trio.Event()

    async def __call__(self) -> str | None:
        self.count += 1
        self.began.set()
        await self.go.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def test_repeats_that_come_together_are_one_command() -> None:  # SITE-102
    decided, one, deciding = Decided(trio.current_time), key(uuid4(), "c1"), Deciding("done")
    told: list[str | None] = []

    async def ask() -> None:
        told.append(await decided.once(one, deciding))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await deciding.began.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert told == []
        deciding.go.set()
    assert (told, deciding.count) == (["done"] * 3, 1)
    assert await decided.once(one, deciding) == "done"
    assert deciding.count == 1


@pytest.mark.parametrize("outcome", [None, ValueError("a limit")])
async def test_what_was_not_decided_is_decided_by_who_waits(
    outcome: ValueError | None,
) -> None:
    decided, one = Decided(trio.current_time), key(uuid4(), "c1")
    first, second = Deciding(outcome), Deciding("done")

    async def ask() -> None:
        try:
            assert await decided.once(one, first) is None
        except ValueError:
            assert outcome is not None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await first.began.wait()
        second.go.set()
        nursery.start_soon(decided.once, one, second)
        await trio.testing.wait_all_tasks_blocked()
        assert second.count == 0
        first.go.set()
    assert second.count == 1
    assert decided.get(one) == "done"


async def test_one_that_is_cancelled_keeps_nobody_waiting() -> None:
    decided, one = Decided(trio.current_time), key(uuid4(), "c1")
    first, second = Deciding("done"), Deciding("done")
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def leave() -> None:
                await first.began.wait()
                second.go.set()
                nursery.start_soon(decided.once, one, second)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            nursery.start_soon(leave)
            await decided.once(one, first)
    assert (first.count, second.count) == (1, 1)
    assert decided.get(one) == "done"
