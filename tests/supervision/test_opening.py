"""How `open_system` ends when it is not simply left: by cancellation, interrupt or force."""

import pytest
import trio
from trio.testing import MockClock

from supervision import GaveUp, open_system
from tests.supervision.puppets import MANY, Crash, Kit, Troupe, failure_of


async def test_cancellation_while_a_child_starts(async_kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-92, SUP-179
    async_kit.stage.will_start("a", 5.0)
    with trio.move_on_after(1.0) as scope:
        async with open_system(Troupe, MANY, [async_kit.spec("a"), async_kit.spec("b")]):
            raise AssertionError("never reached")
    assert scope.cancelled_caught
    assert async_kit.stage.log == ["start a"]


async def test_keyboard_interrupt_is_no_crash(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-180
    async def scenario() -> None:
        async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
            kit.stage.follow(sup.system)
            (await sup.refs())["a"].tell(Crash(KeyboardInterrupt()))
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        await scenario()
    assert kit.stage.log.count("start a") == 1
    assert kit.stage.reports == []


async def test_a_killed_root_closes_the_system(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-42
    async def scenario() -> None:
        async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
            sup.ref.kill()
            await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert [type(error) for error in caught.exceptions] == [GaveUp]
