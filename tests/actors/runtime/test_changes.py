"""Watching actors live: a snapshot, what changes, and what is left of it afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    Changes,
    Delta,
    Snapshot,
    System,
)
from actors.runtime.life.cell import cell_of
from actors.runtime.watching.changes import BEHIND_MAX
from actors.testing import (
    Do,
    Note,
    Puppet,
    raising,
)


async def test_changes_begin_with_a_snapshot_and_rise_by_one(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-108, ACT-107, ACT-51
    ref = await system.start(puppet, name="x")
    await system.start(puppet, name="y")
    with system.changes("x") as changes:
        first = await anext(changes)
        assert isinstance(first, Snapshot)
        assert [actor.path for actor in first.actors] == ["x"]
        assert system.stats(ref).handling_us is not None
        ref.tell(Note("one"))
        await system.suspend(ref)
        await system.resume(ref)
        await trio.sleep(2)
        ref.tell(Do(raising(OSError("disk"))))
        got = [await anext(changes) for _ in range(5)]
    assert [change.seq for change in (first, *got)] == [1, 2, 3, 4, 5, 6]
    kinds = [(c.kind, c.data.get("status")) for c in got if isinstance(c, Delta)]
    assert kinds == [
        ("status", "suspended"),
        ("status", "running"),
        ("message", None),
        ("status", "stopping"),
        ("ended", None),
    ]
    last = got[-1]
    assert isinstance(last, Delta)
    assert last.at == 2
    assert last.data["exit"]["error"] == "OSError"  # type: ignore[index]


async def test_the_level_falls_a_second_after_the_last_watcher(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-107
    ref = await system.start(Puppet, name="x")
    with system.changes(""):
        late = await system.start(Puppet, name="late")
        assert (cell_of(ref).level, cell_of(late).level) == ("full", "full")
    await trio.sleep(0.5)
    assert cell_of(ref).level == "full"
    await trio.sleep(0.6)
    assert (cell_of(ref).level, cell_of(late).level) == ("counters", "counters")


async def test_with_nobody_watching_nothing_is_built(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ACT-107
    built: list[object] = []
    for name in ("handled", "status", "snapshot"):
        monkeypatch.setattr(
            type(system.changes_log), name, lambda *args, name=name, **_: built.append(name)
        )
    monkeypatch.setattr(Changes, "put", lambda *args: built.append("put"))
    ref = await system.start(puppet)
    for _ in range(100):
        for n in range(100):
            ref.tell(Note(n))
        await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    assert system.stats(ref).handled == 10_000
    assert built == []


async def test_a_watcher_far_behind_gets_a_new_snapshot(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-108
    ref = await system.start(Puppet, name="x")
    with system.changes("") as changes:
        await anext(changes)
        for _ in range(BEHIND_MAX // 100 + 2):
            for n in range(100):
                ref.tell(Note(n))
            await trio.testing.wait_all_tasks_blocked()
        again = await anext(changes)
        assert isinstance(again, Snapshot)
        assert again.resync
        ref.tell(Note("next"))
        following = await anext(changes)
        assert following.seq == again.seq + 1


async def test_the_ended_stay_listed_for_a_minute(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-108
    ref = await system.start(Puppet, name="x")
    await ref.stop()
    await trio.sleep(59)
    with system.changes("x") as changes:
        snapshot = await anext(changes)
        assert isinstance(snapshot, Snapshot)
        (ended,) = snapshot.ended
        assert (ended.path, ended.at, ended.incarnation) == ("x", 0.0, 1)
        assert ended.exit is not None
        assert ended.exit.kind == "normal"
    await trio.sleep(2)
    with system.changes("x") as changes:
        snapshot = await anext(changes)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.ended == ()


async def test_the_ended_keep_nothing_alive(autojump_clock: MockClock, system: System) -> None:
    # ACT-54, SUP-143
    class Heavy:
        pass

    for what in (lambda me: me.stop(), raising(OSError())):
        heavy = Heavy()
        gone = weakref.ref(heavy)
        log: list[object] = [heavy]
        ref = await system.start(Puppet, log)
        del log
        del heavy
        ref.tell(Do(what))
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        assert cell_of(ref).gone
        gc.collect()
        assert gone() is None
