"""Whose request is next: by counts and order, on virtual time; on sockets in test_bursts.py."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.abc
import trio.testing

from web.server.edge.turns import LATE_S, PLACE_S, Place, Turns


class Loop(trio.abc.Instrument):
    """Counts the turns of the loop."""

    turn = 0

    def before_io_wait(self, timeout: float) -> None:
        self.turn += 1


class Crowd:
    """Asks for places, and keeps who has one and in which order they came to it."""

    def __init__(self, turns: Turns, nursery: trio.Nursery) -> None:
        self._turns, self._nursery = turns, nursery
        self.called: list[str] = []
        self.places: dict[str, Place] = {}

    async def come(self, *names: str, address: str = "a", visitor: str | None = None) -> None:
        for name in names:
            self._nursery.start_soon(self._come, name, address, visitor)
            await trio.testing.wait_all_tasks_blocked()

    async def leave(self, *names: str) -> None:
        for name in names:
            self.places[name].leave()
            await trio.testing.wait_all_tasks_blocked()

    async def _come(self, name: str, address: str, visitor: str | None) -> None:
        self.places[name] = await self._turns.wait_place(address, visitor)
        self.called.append(name)


async def test_a_burst_waits_for_itself_and_visitors_take_turns(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # PERF-42, SITE-143
    turns = Turns(2)
    # The clock stands: nobody is long in hand.
    autojump_clock.autojump_threshold = float("inf")
    async with trio.open_nursery() as nursery:
        crowd = Crowd(turns, nursery)
        await crowd.come("b1", "b2", "b3", "b4", "b5", visitor="burst")
        assert (crowd.called, turns.waiting_count()) == (["b1", "b2"], 3)
        # Another address has a line of its own, another visitor of this one the next turn but one.
        await crowd.come("far", address="b", visitor="burst")
        assert crowd.called == ["b1", "b2", "far"]
        await crowd.come("o1", "o2", visitor="other")
        await crowd.come("n1", "n2")
        await crowd.leave("b1", "b1", "b2", "b3", "o1", "n1", "b4", "o2", "n2")
        assert crowd.called[3:] == ["b3", "o1", "n1", "b4", "o2", "n2", "b5"]
        await crowd.leave("b5", "far")
    assert repr(turns) == "<Turns of 0 addresses, 0 wait>"


async def test_who_waits_for_nothing_is_one_of_a_few_in_a_turn_of_the_loop() -> None:
    # PERF-42: a page that is made in one step is never seen in hand
    turns, begun = Turns(2), list[tuple[int, str]]()
    loop = Loop()
    trio.lowlevel.add_instrument(loop)

    async def page(address: str, visitor: str) -> None:
        place = turns.maybe_place(address, loop.turn)
        if place is None:
            place = await turns.wait_place(address, visitor, loop.turn)
        begun.append((loop.turn, visitor))
        place.leave()

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(page, "a", "burst")
            nursery.start_soon(page, "b", "far")
            await trio.lowlevel.checkpoint()
            nursery.start_soon(page, "a", "near")
    finally:
        trio.lowlevel.remove_instrument(loop)
    of_address = Counter(turn for turn, visitor in begun if visitor != "far")
    assert of_address.total() == 10
    assert max(of_address.values()) == 2
    # Another address is begun at once, and a visitor of this one before the burst is over.
    assert begun.index((begun[0][0], "far")) < 3
    order = [visitor for _, visitor in begun]
    assert "burst" in order[order.index("near") :]
    assert repr(turns) == "<Turns of 0 addresses, 0 wait>"


async def test_who_gives_up_before_the_next_turn_leaves_no_line() -> None:
    turns = Turns(1)
    place = turns.maybe_place("a", 1)
    assert place is not None
    place.leave()
    with trio.CancelScope() as gone:
        gone.cancel()
        await turns.wait_place("a", None, 1)
    assert gone.cancelled_caught
    assert repr(turns) == "<Turns of 0 addresses, 0 wait>"
    assert turns.maybe_place("a", 2) is not None


async def test_who_gives_up_stands_in_no_line_and_holds_no_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns = Turns(1)
    autojump_clock.autojump_threshold = float("inf")
    async with trio.open_nursery() as nursery:
        crowd = Crowd(turns, nursery)
        await crowd.come("first")
        with trio.CancelScope() as waiting:
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            async with trio.open_nursery() as leaving:
                leaving.start_soon(turns.wait_place, "a", "leaves")
                await trio.testing.wait_all_tasks_blocked()
                assert turns.waiting_count() == 1
                waiting.cancel()
        assert turns.waiting_count() == 0
        with trio.CancelScope() as called:
            async with trio.open_nursery() as leaving:
                leaving.start_soon(turns.wait_place, "a", "called")
                await trio.testing.wait_all_tasks_blocked()
                await crowd.come("behind")
                called.cancel()
                # It is given the place in the very turn in which it leaves.
                crowd.places["first"].leave()
        await trio.testing.wait_all_tasks_blocked()
        assert crowd.called == ["first", "behind"]
        await crowd.leave("behind")
    assert repr(turns) == "<Turns of 0 addresses, 0 wait>"


async def test_who_waits_for_something_else_does_not_hold_up_the_line(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns = Turns(2)
    autojump_clock.autojump_threshold = float("inf")
    async with trio.open_nursery() as nursery:
        crowd = Crowd(turns, nursery)
        await crowd.come("slow", "quick", "third", "fourth")
        autojump_clock.jump(PLACE_S)
        await trio.testing.wait_all_tasks_blocked()
        # Two that are called in one turn of the loop run in the order trio likes.
        assert crowd.called[:2] == ["slow", "quick"]
        assert sorted(crowd.called[2:]) == ["fourth", "third"]
        await crowd.come("fifth")
        # What does not count any more calls nobody when it is over.
        await crowd.leave("slow", "quick")
        assert turns.waiting_count() == 1
        await crowd.leave("fourth")
        assert crowd.called[4:] == ["fifth"]
        # Long before anybody waits, as long as nobody counts.
        autojump_clock.jump(60)
        await crowd.come("sixth")
        assert crowd.called[5:] == ["sixth"]


async def test_a_loop_that_is_late_begins_no_further_request(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # PERF-42
    turns = Turns(1)
    autojump_clock.autojump_threshold = float("inf")
    async with trio.open_nursery() as nursery:
        crowd = Crowd(turns, nursery)
        await crowd.come("first", "second", "third")
        for _ in range(3):
            autojump_clock.jump(PLACE_S + 2 * LATE_S)
            await trio.testing.wait_all_tasks_blocked()
        assert crowd.called == ["first"]
        await crowd.leave("first", "second")
        assert crowd.called == ["first", "second", "third"]


def test_nobody_at_all_is_no_limit() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Turns(0)
