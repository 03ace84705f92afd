"""Dynamic children by key: first messages, limits and cooling down."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import ActorExited, Crashed, NoProc
from supervision import (
    AlreadyStarted,
    ChildSpec,
    DynamicFlags,
    Flags,
    KeyRefused,
    TooManyChildren,
    handle_of,
    open_system,
)
from tests.supervision.pools import KEYED, Pool, counted, template
from tests.supervision.puppets import (
    BOOM,
    Crash,
    Kit,
    Note,
    Number,
    Troupe,
    ref_of,
    settle,
)


async def test_the_first_message_starts_a_keyed_child(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-50, SUP-3
    async with open_system(Pool, KEYED, template(kit)) as pool:
        ref = pool["oak"]
        assert pool["oak"] == ref
        assert ref.path == "dynamic/oak"
        assert await counted(pool) == [1, 0, 0, 0]
        assert pool.running("oak") is None
        for i in range(100):
            pool["oak"].tell(Note(str(i)))
        assert await ref.ask(Number()) == 1
        assert kit.stage.log == ["start oak", *(f"oak {i}" for i in range(100))]
        assert pool.running("oak") == ref
        assert pool.keys() == ["oak"]
        with pytest.raises(AlreadyStarted):
            await pool.start_child(key="oak")
        assert (await pool.start_child(key="elm")).ref == pool["elm"]
        for bad in ("", "a/b", "x" * 201, "a\nb"):
            with pytest.raises(ValueError, match="name"):
                pool[bad]


async def test_a_keyed_child_that_does_not_start(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-50
    async with open_system(Pool, KEYED, template(kit)) as pool:
        kit.stage.will_start("oak", OSError("no wood"))
        pool["oak"].tell(Note("lost"))
        with pytest.raises(ActorExited) as caught:
            await pool["oak"].ask(Number())
        assert isinstance(caught.value.exit, Crashed)
        assert isinstance(caught.value.exit.error, OSError)
        assert [letter.reason for letter in pool.system.dead_letters].count("stopped") == 2
        assert await pool["oak"].ask(Number()) == 1


async def test_the_limit_of_children(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-51
    flags = DynamicFlags(key="child_id", max_children=2)
    async with open_system(Pool, flags, template(kit)) as pool:
        for key in ("a", "b"):
            await pool.start_child(key=key)
        with pytest.raises(TooManyChildren) as caught:
            await pool.start_child(key="c")
        assert caught.value.limit == 2
        pool["c"].tell(Note("lost"))
        with pytest.raises(NoProc, match="max_children=2"):
            await pool["c"].ask(Number())
        letters = list(pool.system.dead_letters)
        assert letters[0].reason == "no_such_actor"
        await pool.terminate_child(pool["a"])
        assert await pool["c"].ask(Number()) == 1


async def test_a_key_that_gave_up_cools_down(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-51
    flags = DynamicFlags(intensity=0, key="child_id")
    async with open_system(Pool, flags, template(kit)) as pool:
        pool["a"].tell(Crash(BOOM))
        await settle()
        with pytest.raises(NoProc, match="gave up"):
            await pool["a"].ask(Number())
        with pytest.raises(KeyRefused) as caught:
            await pool.start_child(key="a")
        assert caught.value.retry_in == pytest.approx(30.0)
        await trio.sleep(30.0)
        assert await pool["a"].ask(Number()) == 1


async def test_a_dynamic_supervisor_in_the_middle_is_restarted(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-33: its children were no part of a plan and do not return
    inner = ChildSpec("pool", partial(Pool, KEYED, template(kit)))
    async with open_system(Troupe, Flags(intensity=9), [inner]) as sup:
        pool = handle_of(Pool, ref_of(await sup.which_child("pool")))
        old = pool["a"]
        assert await old.ask(Number()) == 1
        pool.ref.kill()
        await settle()
        assert await counted(pool) == [1, 0, 0, 0]
        with pytest.raises(NoProc):
            await old.ask(Number())
        assert await pool["a"].ask(Number()) == 1
