"""State, figures, levels, changes, the watchdog."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from typing import Literal

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    CallbackFailed,
    Changes,
    Delta,
    LoopBlocked,
    NoProc,
    Normal,
    Ref,
    Snapshot,
    System,
    open_actors,
    presentable,
)
from actors.runtime.life.cell import cell_of
from actors.runtime.watching.changes import BEHIND_MAX
from actors.runtime.watching.stats import ActorStats
from actors.runtime.watching.watchdog import BLOCK_THRESHOLD_S
from actors.runtime.words.counting import LEVELS
from actors.runtime.words.showing import redact_names
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    PuppetMessage,
    raising,
    sleeping,
)
from tests.patience import PATIENCE_S

FIELDS = """
id path name class kind supervisor incarnation started_at status status_since
current waiting_on handled reductions busy_seconds
queued system_queued stashed peak capacity waiting_senders
overflowed coalesced expired unhandled withdrawn late_replies
crashes restarts restart_window next_restart_at last_exits
links monitors monitored_by timers topics senders
handling_us queue_us
""".split()


async def test_get_state_is_a_copy(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-100
    ref = await system.start(puppet)
    await ref.ask(Call(lambda me: me.state.update(x=[1])))
    state = await system.get_state(ref)
    inner = state["state"]
    assert inner == {"x": [1]}
    assert isinstance(inner, dict)
    inner["x"].append(2)
    assert (await system.get_state(ref))["state"] == {"x": [1]}
    await ref.stop()
    with pytest.raises(NoProc):
        await system.get_state(ref)


async def test_replace_state_works_while_suspended(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-100, ACT-101, SUP-165
    ref = await system.start(puppet)
    await system.suspend(ref)
    await system.suspend(ref)
    assert system.status(ref)["status"] == "suspended"
    seen: list[object] = []
    ref.tell(Do(lambda me: seen.append(me.state)))
    await trio.testing.wait_all_tasks_blocked()
    assert seen == []
    await system.replace_state(ref, lambda state: {**state, "state": {"new": 1}})
    assert (await system.get_state(ref))["state"] == {"new": 1}
    await system.resume(ref)
    await system.resume(ref)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [{"new": 1}]
    await system.suspend(ref)
    await ref.stop()


async def test_a_failing_callback_changes_nothing(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-100, SUP-166
    ref = await system.start(puppet)

    def fails(state: dict[str, object]) -> dict[str, object]:
        state["state"] = "changed"
        raise ValueError("no")

    with pytest.raises(CallbackFailed) as caught:
        await system.replace_state(ref, fails)
    assert isinstance(caught.value.error, ValueError)
    assert (await system.get_state(ref))["state"] == {}
    assert await ref.ask(Call(lambda me: "lives")) == "lives"


async def test_suspension_acts_after_the_message_in_hand(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-101
    log: list[object] = []
    ref = await system.start(AsyncPuppet, log)
    ref.tell(Do(sleeping(2)))
    ref.tell(Note("waits"))
    await trio.testing.wait_all_tasks_blocked()
    await system.suspend(ref)
    assert (trio.current_time(), log) == (2, [])


async def test_who_inspects_the_dying_is_told(autojump_clock: MockClock, system: System) -> None:
    # ACT-100, ACT-54
    ref = await system.start(AsyncPuppet)
    ref.tell(Do(sleeping(2)))
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:

        async def looks() -> None:
            with pytest.raises(NoProc):
                await system.get_state(ref)

        nursery.start_soon(looks)
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()


async def test_stats_have_exactly_these_fields(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-104, ACT-102
    ref = await system.start(puppet, name="x")
    stats = system.stats(ref)
    assert list(stats) == FIELDS
    assert set(ActorStats.__annotations__) | {"class"} == set(FIELDS)
    assert stats["kind"] == ("task" if puppet.__name__ == "AsyncPuppet" else "dispatched")
    assert (stats["path"], stats["name"], stats["supervisor"]) == ("x", "x", None)
    assert list(system.status(ref)) == [*FIELDS, "state"]
    json.dumps(system.status(ref))


async def test_the_message_in_hand_is_shown(autojump_clock: MockClock, system: System) -> None:
    # ACT-104
    other = await system.start(AsyncPuppet, name="other")
    other.tell(Do(sleeping(9)))
    ref = await system.start(AsyncPuppet)

    async def asks(_: AnyPuppet) -> None:
        await other.ask(Call(lambda me: None), timeout=20)

    ref.tell(Do(asks))
    await trio.testing.wait_all_tasks_blocked()
    stats = system.stats(ref)
    assert stats["current"] is not None
    assert (stats["current"]["message"], stats["current"]["since"]) == ("Do", 0)
    assert stats["waiting_on"] == "other"
    await trio.sleep(10)
    assert system.stats(ref)["current"] is None


async def test_a_state_is_cut_and_redacted(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-102, ACT-103
    ref = await system.start(puppet)

    def fill(me: AnyPuppet) -> None:
        deep: dict[str, object] = {"bottom": 1}
        for _ in range(9):
            deep = {"deeper": deep}
        me.state.update(token="abc", deep=deep, long="x" * 100_000, many=list(range(10_000)))

    await ref.ask(Call(fill))
    text = json.dumps(system.status(ref)["state"])
    assert len(text) <= 8 * 1024
    assert "abc" not in text
    assert "bottom" not in text
    assert "cut" in text
    assert presentable({"a": float("nan"), "b": {1, 2}}) == {"a": "nan", "b": [1, 2]}


@pytest.mark.parametrize(
    "name", ["password", "api_token", "client_secret", "cookies", "Authorization"]
)
def test_names_of_secrets_are_hidden(name: str) -> None:
    # ACT-103
    assert redact_names({name: "x", "n": {name: "y"}}) == {name: "***", "n": {name: "***"}}


async def test_levels_can_be_switched_while_running(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-106, ACT-146
    class Own(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        pass

    ref: Ref[PuppetMessage] = await system.start(Own)
    sender = await system.start(Puppet, name="sender")

    async def burst() -> ActorStats:
        for n in range(64):
            sender.tell(Do(lambda me, n=n: ref.tell(Note(n))))  # type: ignore[misc]
        await trio.testing.wait_all_tasks_blocked()
        return system.stats(ref)

    stats = await burst()
    assert (stats["handled"], stats["busy_seconds"], stats["senders"]) == (64, None, None)
    assert stats["handling_us"] is None
    for level, measured in (("sampled", range(3, 6)), ("full", range(64, 65))):
        system.set_level(Own, level)  # type: ignore[arg-type]
        cell = cell_of(ref)
        cell.meter = type(cell.meter)() if cell.meter else None
        stats = await burst()
        assert stats["handling_us"] is not None
        assert stats["queue_us"] is not None
        assert len(stats["handling_us"]) == 32
        assert sum(stats["handling_us"]) in measured
        assert sum(stats["queue_us"]) == sum(stats["handling_us"])
        assert (stats["busy_seconds"] or 0) > 0
    assert stats["senders"] == ["sender"]
    system.set_level(Own, "off")
    stats = await burst()
    assert (stats["handled"], stats["reductions"], stats["handling_us"]) == (None, None, None)
    assert stats["queued"] == 0


async def test_system_totals(autojump_clock: MockClock, system: System) -> None:
    # ACT-105
    ref, other = await system.start(Puppet), await system.start(AsyncPuppet)
    await ref.ask(Call(lambda me: me.after(9, Note(1)).due))
    other.tell(Do(sleeping(1)))
    await ref.stop()
    ref.tell(Note(1))
    totals = system.totals()
    assert set(totals) == set(
        "spawned stopped passivated restarts dead_letters actors asks_open timers run_queue "
        "loop_lag_us".split()
    )
    assert (totals["spawned"], totals["stopped"], totals["actors"]) == (2, 1, 1)
    assert totals["dead_letters"] == {"no_such_actor": 1}
    assert (totals["timers"], totals["asks_open"], totals["run_queue"]) == (0, 0, 0)


async def test_changes_begin_with_a_snapshot_and_rise_by_one(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-108, ACT-107, ACT-51
    ref = await system.start(puppet, name="x")
    await system.start(puppet, name="y")
    with system.changes("x") as changes:
        first = await anext(changes)
        assert isinstance(first, Snapshot)
        assert [actor["path"] for actor in first.actors] == ["x"]
        assert system.stats(ref)["handling_us"] is not None
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
    assert system.stats(ref)["handled"] == 10_000
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
        assert ended.exit["kind"] == "normal"
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Puppet, AsyncPuppet])
async def test_the_watchdog_names_who_blocks_the_loop(kind: type[Puppet]) -> None:
    # ACT-110, SUP-178 (real time)
    reports: list[LoopBlocked] = []
    is_told = threading.Event()

    def note(report: LoopBlocked) -> None:
        # A busy machine holds the loop now and then, too: that is no report of ours.
        if "block_the_loop" in report.stack:
            reports.append(report)
            is_told.set()

    def block_the_loop(_: AnyPuppet) -> None:
        is_told.wait(1)

    async with open_actors() as system:
        system.block_listeners.append(note)
        ref = await system.start(kind, name="blocker")
        with trio.fail_after(PATIENCE_S):
            # Told while it blocks, or never: the block ends with the report.
            while not reports:
                ref.tell(Do(block_the_loop))
                await ref.ask(Call(lambda me: None))
            while len(reports) < 2:
                await trio.lowlevel.checkpoint()
        assert sum(system.totals()["loop_lag_us"]) >= 1
    first, last = reports
    assert (first.path, first.message_type, first.ended) == ("blocker", "Do", False)
    assert (last.path, last.message_type, last.ended) == ("blocker", "Do", True)
    assert BLOCK_THRESHOLD_S <= first.blocked_for < last.blocked_for
    assert not [t for t in threading.enumerate() if t.name == "actors: watchdog"]


async def test_the_watchdog_can_be_switched_off() -> None:
    # ACT-110 (real time)
    async with open_actors(block_threshold=0) as system:
        await system.start(Puppet)
        assert not [t for t in threading.enumerate() if t.name == "actors: watchdog"]


def test_literals_cover_the_levels() -> None:
    # ACT-106
    levels: tuple[Literal["off", "counters", "sampled", "full"], ...] = (
        "off",
        "counters",
        "sampled",
        "full",
    )
    assert tuple(LEVELS) == levels
    assert Normal().clean
