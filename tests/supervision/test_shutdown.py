"""The end of what is no actor: phases, and handlers that raise, hang and cannot be cancelled."""

from __future__ import annotations

from functools import partial
from math import inf, nan

import pytest
import trio
from trio.testing import MockClock

from supervision import ShutdownCoordinator
from supervision.shutdown import GRACE_S
from tests.logged import captured


class Parts:
    """Parts of a program that note when they ended."""

    def __init__(self) -> None:
        self.log: list[tuple[str, float]] = []

    async def ends(self, name: str, seconds: float = 0.0) -> None:
        await trio.sleep(seconds)
        self.log.append((name, trio.current_time()))

    async def raises(self) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("a bug at the end")

    async def hangs(self) -> None:
        await trio.sleep_forever()

    async def is_stuck(self) -> None:
        # For longer than anybody waits, and not for ever: the run waits for it at its end.
        with trio.move_on_after(3600.0, shield=True):
            await trio.sleep_forever()


async def test_phases_end_in_order_and_their_handlers_side_by_side(
    autojump_clock: MockClock,
) -> None:
    # RES-11
    parts, ending = Parts(), ShutdownCoordinator()
    ending.add("pool", partial(parts.ends, "pool"), phase=2)
    ending.add("one", partial(parts.ends, "one", 2.0))
    ending.add("other", partial(parts.ends, "other", 1.0))
    outcomes = await ending.shut_down()
    assert parts.log == [("other", 1.0), ("one", 2.0), ("pool", 2.0)]
    assert [(one.name, one.result, one.seconds) for one in outcomes] == [
        ("pool", "done", 0.0),
        ("one", "done", 2.0),
        ("other", "done", 1.0),
    ]


async def test_one_that_raises_hangs_or_is_stuck_stops_nobody(autojump_clock: MockClock) -> None:
    # RES-11
    parts, ending = Parts(), ShutdownCoordinator()
    ending.add("raises", parts.raises)
    ending.add("hangs", parts.hangs, timeout=1.0)
    ending.add("stuck", parts.is_stuck, timeout=2.0)
    ending.add("ends", partial(parts.ends, "ends", 0.5))
    ending.add("next", partial(parts.ends, "next"), phase=1)
    with captured() as lines:
        outcomes = await ending.shut_down()
    assert parts.log == [("ends", 0.5), ("next", 2.0 + GRACE_S)]
    assert [(one.name, one.result) for one in outcomes] == [
        ("raises", "failed"),
        ("hangs", "late"),
        ("stuck", "stuck"),
        ("ends", "done"),
        ("next", "done"),
    ]
    assert "a bug at the end" in outcomes[0].error
    assert [line["name"] for line in lines] == ["raises", "hangs", "stuck"]
    assert [one.is_clean for one in outcomes] == [False, False, False, True, True]


async def test_the_budget_is_for_all_phases(autojump_clock: MockClock) -> None:
    # RES-11: what comes behind it had a moment, and was cancelled
    parts, ending = Parts(), ShutdownCoordinator(budget=3.0)
    ending.add("slow", parts.hangs, timeout=2.5)
    ending.add("slower", parts.hangs, phase=1, timeout=2.5)
    ending.add("quick", partial(parts.ends, "quick"), phase=2)
    ending.add("last", parts.hangs, phase=2)
    with captured():
        outcomes = await ending.shut_down()
    assert [one.result for one in outcomes] == ["late", "late", "late", "late"]
    assert trio.current_time() == 3.0


async def test_the_end_is_one_whoever_asks_for_it(autojump_clock: MockClock) -> None:
    # RES-11
    parts, ending = Parts(), ShutdownCoordinator()
    ending.add("one", partial(parts.ends, "one", 1.0))
    found = list[object]()

    async def end() -> None:
        found.append(await ending.shut_down())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        nursery.start_soon(end)
    assert found[0] == found[1]
    assert len(parts.log) == 1
    with pytest.raises(RuntimeError, match="has begun"):
        ending.add("late", parts.hangs)


async def test_an_end_that_is_cancelled_cancels_what_runs(autojump_clock: MockClock) -> None:
    # RES-11
    parts, ending = Parts(), ShutdownCoordinator()
    ending.add("hangs", parts.hangs)
    ending.add("next", partial(parts.ends, "next"), phase=1)
    with trio.move_on_after(1.0):
        await ending.shut_down()
    await trio.testing.wait_all_tasks_blocked()
    assert parts.log == []
    assert trio.current_time() == 1.0


async def test_without_anything_to_end_it_is_over(autojump_clock: MockClock) -> None:
    assert await ShutdownCoordinator().shut_down() == []


@pytest.mark.parametrize("seconds", [0.0, -1.0, inf, nan])
def test_times_that_are_none_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        ShutdownCoordinator(budget=seconds)
    with pytest.raises(ValueError, match="above 0"):
        ShutdownCoordinator().add("one", Parts().hangs, timeout=seconds)


@pytest.mark.parametrize("name", ["", "one"])
def test_a_name_is_of_one_handler(name: str) -> None:
    ending = ShutdownCoordinator()
    ending.add("one", Parts().hangs)
    with pytest.raises(ValueError, match="of its own"):
        ending.add(name, Parts().hangs)
