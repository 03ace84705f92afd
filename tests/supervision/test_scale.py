"""Many children: turns that grow linearly, and nothing kept of those that are gone."""

import gc
import tracemalloc
import weakref
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor
from supervision import Backoff, ChildSpec, Dynamic, DynamicFlags, Flags, open_system
from supervision.specs.words import RestartType, Strategy
from tests.supervision.puppets import Crash, Kit, Note, Troupe, Word, settle


class Tiny(Actor[Note | Crash]):
    """As small as a child can be."""

    def __init__(self, *_: object) -> None:
        return None

    def on_note(self, message: Note | Crash) -> None:
        if isinstance(message, Crash):
            raise message.error.with_traceback(None)


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop, which are the same on every machine."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def turns_of(children: int, *, named: bool) -> tuple[int, int, int]:
    """Turns to start, to restart one in ten, and to stop so many children."""
    turns = Turns()
    specs = [
        ChildSpec(f"c{i}", Tiny, name=f"child-{i}" if named else None) for i in range(children)
    ]
    trio.lowlevel.add_instrument(turns)
    try:
        async with open_system(Troupe, Flags(intensity=children + 1), specs) as sup:
            started = turns.count
            refs = await sup.refs()
            for i in range(0, children, 10):
                refs[f"c{i}"].tell(Crash(ValueError("boom")))
            await settle()
            restarted = turns.count - started
        stopped = turns.count - started - restarted
    finally:
        trio.lowlevel.remove_instrument(turns)
    return started, restarted, stopped


@pytest.mark.slow
async def test_turns_are_linear_in_the_children(autojump_clock: MockClock) -> None:
    # SUP-80, SUP-144: at reduced count; the full 100k are in tests/bench/bench_supervision.py
    few = await turns_of(100, named=True)
    many = await turns_of(1_000, named=True)
    for one, ten in zip(few, many, strict=True):
        assert ten <= 15 * max(one, 1)
        assert ten / 1_000 <= 2 * max(one, 1) / 100


@pytest.mark.slow
async def test_a_dynamic_supervisor_of_many(autojump_clock: MockClock) -> None:
    # SUP-20, SUP-80: started one by one, listed page by page, stopped at once
    turns = Turns()
    flags = DynamicFlags()
    template = ChildSpec("one", Tiny)
    counted = []
    for children in (500, 5_000):
        trio.lowlevel.add_instrument(turns)
        turns.count = 0
        async with open_system(Dynamic[Note], flags, template) as pool:
            for _ in range(children):
                await pool.start_child()
            seen = 0
            while page := await pool.which_children(seen, 100):
                seen += len(page)
            assert seen == children
            started = turns.count
        counted.append((started, turns.count - started))
        trio.lowlevel.remove_instrument(turns)
    (few_started, few_stopped), (many_started, many_stopped) = counted
    assert many_started <= 15 * few_started
    assert many_stopped <= 15 * few_stopped


class Payload(list[int]):
    """A list that can be referred to weakly."""


# SUP-81, SUP-143
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("how", ["crash", "kill", "terminate", "group"])
async def test_arguments_of_a_temporary_child_are_let_go(
    kit: Kit, strategy: Strategy, how: str, autojump_clock: MockClock
) -> None:
    async with open_system(Troupe, Flags(strategy, 100), [kit.spec("first")]) as sup:
        payload = Payload(range(50_000))
        seen = weakref.ref(payload)
        start = partial(kit.puppet, kit.stage, "big", payload)
        await sup.start_child(ChildSpec("big", start, restart="temporary"))
        await sup.start_child(kit.spec("other"))
        del payload, start
        gc.collect()
        # The spec is let go as soon as it runs; only the actor itself may still hold it.
        assert seen() is None
        refs = await sup.refs()
        match how:
            case "crash":
                refs["big"].tell(Crash(ValueError("boom")))
            case "kill":
                refs["big"].kill()
            case "terminate":
                await sup.terminate_child("big")
            case _:
                refs["first"].tell(Crash(ValueError("boom")))
        await settle()
        assert "big" not in await sup.statuses() or (strategy, how) == ("one_for_one", "group")


@pytest.mark.slow
async def test_temporary_children_retain_less(autojump_clock: MockClock) -> None:
    # SUP-142
    async def retained(restart: RestartType) -> int:
        async with open_system(Troupe, Flags(), []) as sup:
            tracemalloc.start()
            try:
                for i in range(1_000):
                    start = partial(Tiny, list(range(100)))
                    await sup.start_child(ChildSpec(f"c{i}", start, restart=restart))
                gc.collect()
                return tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()

    assert await retained("temporary") < await retained("permanent")


async def test_nothing_is_kept_of_a_removed_child(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-81: neither of a static one, deleted, nor of dynamic ones
    spec = ChildSpec("one", partial(kit.puppet, kit.stage), backoff=Backoff(0.01, jitter=0.0))
    async with open_system(Dynamic[Word], DynamicFlags(intensity=1), spec) as pool:
        payload = Payload([1])
        seen = weakref.ref(payload)
        result = await pool.start_child("1", payload)
        del payload
        assert result.ref is not None
        for _ in range(2):
            result.ref.tell(Crash(ValueError("boom")))
            await trio.sleep(1.0)
        assert await pool.which_children() == []
        gc.collect()
        assert seen() is None
    async with open_system(Troupe, Flags(), []) as sup:
        payload = Payload([1])
        seen = weakref.ref(payload)
        await sup.start_child(ChildSpec("a", partial(kit.puppet, kit.stage, "a", payload)))
        del payload
        await sup.terminate_child("a")
        await sup.delete_child("a")
        gc.collect()
        assert seen() is None
