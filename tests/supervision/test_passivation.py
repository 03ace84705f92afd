"""Stopping dynamic children that are idle, and starting them again with their next message."""

import trio
from trio.testing import MockClock

from actors.runtime import Shutdown
from actors.runtime.life.cell import cell_of
from supervision import DynamicFlags, Passivated, open_system
from tests.supervision.pools import Pool, counted, template
from tests.supervision.puppets import Kit, Note, Number, Sleep


async def test_an_idle_child_is_passivated(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-52
    flags = DynamicFlags(intensity=0, key="child_id", passivate_after=10.0)
    async with open_system(Pool, flags, template(kit)) as pool:
        kit.stage.follow(pool.system)
        ref = pool["a"]
        assert await ref.ask(Number()) == 1
        await trio.sleep(9.0)
        assert await ref.ask(Number()) == 1
        await trio.sleep(9.0)
        assert pool.keys() == ["a"]
        await trio.sleep(2.0)
        assert pool.keys() == []
        assert kit.stage.log == ["start a", "stop a shutdown"]
        assert await counted(pool) == [1, 0, 0, 0]
        # The ref still stands; its next message starts the next one.
        assert await ref.ask(Number()) == 2
        assert kit.stage.reports == []
        assert list(pool.system.dead_letters) == []


async def test_a_message_while_passivating_is_handled_by_the_next(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-52, SUP-195
    kit = async_kit
    flags = DynamicFlags(intensity=0, key="child_id", passivate_after=10.0)
    async with open_system(Pool, flags, template(kit)) as pool:
        kit.stage.stops["a"] = 2.0
        ref = pool["a"]
        assert await ref.ask(Number()) == 1
        await trio.sleep(11.0)
        assert (await pool.which_child(ref)).status == "stopping"
        ref.tell(Note("late"))
        await trio.sleep(2.0)
        assert kit.stage.log == ["start a", "stop a shutdown", "start a", "a late"]
        assert list(pool.system.dead_letters) == []
        assert pool.keys() == ["a"]
        last = cell_of(ref).last_exits[-1]
        assert isinstance(last, Shutdown)
        assert isinstance(last.info, Passivated)


async def test_a_busy_child_is_not_passivated(async_kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-52
    flags = DynamicFlags(key="child_id", passivate_after=10.0)
    async with open_system(Pool, flags, template(async_kit)) as pool:
        pool["a"].tell(Sleep(50.0))
        await trio.sleep(49.0)
        assert pool.keys() == ["a"]
        await trio.sleep(10.0)
        assert pool.keys() == ["a"]
        await trio.sleep(3.0)
        assert pool.keys() == []
