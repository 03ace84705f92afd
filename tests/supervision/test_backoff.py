"""Waiting before a restart, with real actors in virtual time."""

import pytest
import trio
from trio.testing import MockClock

from supervision import Backoff, open_system
from tests.supervision.puppets import BOOM, MANY, Crash, Kit, Number, Troupe, crash, settle


async def test_backoff_waits_and_serves(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-43, SUP-44, SUP-45, SUP-192
    backoff = Backoff(0.1, 30.0, jitter=0.2)
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=backoff), kit.spec("b")]) as sup:
        ref = (await sup.refs())["a"]
        waits = []
        for _ in range(12):
            ref.tell(Crash(BOOM))
            await settle()
            assert (await sup.which_child("a")).status == "backing_off"
            began = trio.current_time()
            assert await sup.numbers() == {"b": 1}
            await ref.ask(Number(), timeout=None)
            waits.append(trio.current_time() - began)
        expected = [min(30.0, 0.1 * 2.0**n) for n in range(12)]
        assert waits == pytest.approx(expected, rel=0.201)
        await trio.sleep(60.0)
        ref.tell(Crash(BOOM))
        await settle()
        began = trio.current_time()
        await ref.ask(Number())
        assert trio.current_time() - began == pytest.approx(0.1, rel=0.201)


async def test_restart_now_and_the_shown_time(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-44
    backoff = Backoff(9.0, jitter=0.0)
    async with open_system(Troupe, MANY, [kit.spec("a", backoff=backoff)]) as sup:
        began = trio.current_time()
        await crash(sup, "a")
        (node,) = sup.tree.snapshot(sup.path + "/a").actors
        assert node.next_restart_at == began + 9.0
        await sup.restart_now("a")
        await settle()
        assert await sup.numbers() == {"a": 2}
        assert trio.current_time() == began


async def test_cancellation_from_outside_ends_a_backoff(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-92, SUP-179
    with trio.move_on_after(1.0) as scope:
        async with open_system(Troupe, MANY, [kit.spec("a", backoff=Backoff(5.0))]) as sup:
            await crash(sup, "a")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await trio.sleep(20.0)
    assert kit.stage.log.count("start a") == 1
