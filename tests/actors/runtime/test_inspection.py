"""State, standing still, figures and levels of running actors."""

from __future__ import annotations

import dataclasses
import gc
import json
import random
import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    ActorStats,
    CallbackFailed,
    Crashed,
    DeadlockError,
    NoProc,
    Normal,
    Ref,
    RestartWindow,
    Shutdown,
    System,
    presentable,
)
from actors.runtime.life.cell import cell_of
from actors.runtime.watching.stats import RELATIONS_MAX
from actors.runtime.words.counting import LEVELS, SENDERS_MAX, SENDERS_WINDOW_S
from actors.runtime.words.showing import redact_names, shown
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    PuppetMessage,
    sleeping,
)
from supervision import Supervisor, child, open_system


class Below(Supervisor):
    worker = child(Puppet)


class Above(Supervisor):
    below = child(Below)


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
    assert system.status(ref).status == "suspended"
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
    assert list(stats.to_json()) == FIELDS
    attributes = ["class_name" if name == "class" else name for name in FIELDS]
    assert [one.name for one in dataclasses.fields(stats)] == attributes
    assert stats.class_name == puppet.__qualname__
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.queued = 7  # type: ignore[misc]
    assert stats.kind == ("task" if puppet.__name__ == "AsyncPuppet" else "dispatched")
    assert (stats.path, stats.name, stats.supervisor) == ("x", "x", None)
    assert isinstance(system.status(ref), ActorStats)
    assert list(system.status(ref).to_json()) == [*FIELDS, "state"]
    json.dumps(system.status(ref).to_json())


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
    assert stats.current is not None
    assert (stats.current.message, stats.current.since) == ("Do", 0)
    assert stats.waiting_on == "other"
    assert stats.to_json()["current"] == {
        "message": "Do",
        "message_id": stats.current.message_id,
        "since": 0,
    }
    await trio.sleep(10)
    assert system.stats(ref).current is None


async def test_what_is_nested_is_plain_data_in_json(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-104
    ref = await system.start(puppet, name="x")
    other = await system.start(puppet, name="other")
    await ref.ask(Call(lambda me: (me.every(9, Note(1)), me.link(other))[0]))
    stats = system.stats(ref)
    assert [(timer.due, timer.interval) for timer in stats.timers] == [(9, 9)]
    told = stats.to_json()
    assert (told["timers"], told["links"]) == ([{"due": 9, "interval": 9}], ["other"])
    cell_of(ref).last_exits = (Crashed(OSError("disk"), incarnation=1),)
    cell_of(ref).restart_window = (1, 3, 5.0)
    stats = system.stats(ref)
    (ended,) = stats.last_exits
    assert (ended.kind, ended.error, ended.message, ended.incarnation) == (
        "crashed", "OSError", "disk", 1,
    )  # fmt: skip
    assert stats.restart_window == RestartWindow(1, 3, 5.0)
    told = stats.to_json()
    assert told["last_exits"] == [Crashed(OSError("disk"), incarnation=1).to_json()]
    assert told["restart_window"] == {"used": 1, "max": 3, "period": 5.0}


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
    text = json.dumps(system.status(ref).state)
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
    state: dict[str, object] = {name: "x", "n": {name: "y"}}
    assert redact_names(state) == {name: "***", "n": {name: "y"}}
    assert presentable(state) == {name: "***", "n": {name: "***"}}
    assert shown(state) == f"{{'{name}': ***, 'n': {{'{name}': ***}}}}"


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
    assert (stats.handled, stats.busy_seconds, stats.senders) == (64, None, None)
    assert stats.handling_us is None
    for level, measured in (("sampled", range(3, 6)), ("full", range(64, 65))):
        system.set_level(Own, level)  # type: ignore[arg-type]
        cell = cell_of(ref)
        cell.meter = type(cell.meter)() if cell.meter else None
        stats = await burst()
        assert stats.handling_us is not None
        assert stats.queue_us is not None
        assert len(stats.handling_us) == 32
        assert sum(stats.handling_us) in measured
        assert sum(stats.queue_us) == sum(stats.handling_us)
        assert (stats.busy_seconds or 0) > 0
    assert stats.senders == ("sender",)
    with pytest.raises(ValueError, match="the level is"):
        system.set_level(Own, "all")  # type: ignore[arg-type]
    system.set_level(Own, "off")
    stats = await burst()
    assert (stats.handled, stats.reductions, stats.handling_us) == (None, None, None)
    assert stats.queued == 0


async def test_of_relations_the_first_thousand_are_named(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-29, ACT-104: whatever is held, a look at it is a small thing
    ref: Ref[PuppetMessage] = await system.start(puppet)
    peer = await system.start(Puppet)
    many = 3 * RELATIONS_MAX

    def hold(me: AnyPuppet) -> None:
        for number in range(many):
            me.monitor(peer)
            me.after(1000.0 + number, Note(number))
            system.topics.subscribe(f"{number:06}", me.ref)

    await ref.ask(Call(hold))
    stats = system.stats(ref)
    assert len(stats.topics) == RELATIONS_MAX
    assert stats.monitors == (peer.path,) * RELATIONS_MAX
    assert [timer.due for timer in stats.timers] == [1000.0 + n for n in range(RELATIONS_MAX)]
    assert system.stats(peer).monitored_by == (ref.path,) * RELATIONS_MAX


async def test_of_many_senders_the_newest_are_kept(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-104, ACT-106: also when nobody ever asks for them
    class Own(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        level = "full"

    ref: Ref[PuppetMessage] = await system.start(Own)
    peer = await system.start(Puppet)
    senders, now = cell_of(ref).senders, time.perf_counter()
    assert senders is not None
    senders.update({f"old/{n}": now - 2 * SENDERS_WINDOW_S for n in range(SENDERS_MAX // 2)})
    # Before now, or the peer would come between them.
    senders.update({f"new/{n}": now - 1 + n * 1e-6 for n in range(2 * SENDERS_MAX)})
    peer.tell(Do(lambda me: ref.tell(Note(1))))
    await trio.testing.wait_all_tasks_blocked()
    assert len(senders) <= SENDERS_MAX + 1
    assert peer.path in senders
    assert "new/0" not in senders
    assert f"new/{2 * SENDERS_MAX - 1}" in senders
    # Both roads of a message: alone, and in a batch.
    senders.update({f"more/{n}": now for n in range(2 * SENDERS_MAX)})
    for _ in range(3):
        peer.tell(Do(lambda me: ref.tell(Note(1))))
    await trio.testing.wait_all_tasks_blocked()
    assert len(senders) <= SENDERS_MAX + 1
    assert system.stats(ref).senders == tuple(sorted(senders))


async def test_system_totals(autojump_clock: MockClock, system: System) -> None:
    # ACT-105
    ref, other = await system.start(Puppet), await system.start(AsyncPuppet)
    await ref.ask(Call(lambda me: me.after(9, Note(1)).due))
    other.tell(Do(sleeping(1)))
    await ref.stop()
    ref.tell(Note(1))
    totals = system.totals()
    assert list(totals.to_json()) == (
        "spawned stopped passivated restarts dead_letters actors asks_open timers run_queue "
        "loop_lag_us".split()
    )
    json.dumps(totals.to_json())
    assert (totals.spawned, totals.stopped, totals.actors) == (2, 1, 1)
    assert totals.dead_letters == {"no_such_actor": 1}
    assert (totals.timers, totals.asks_open, totals.run_queue) == (0, 0, 0)


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


async def test_replacing_the_state_by_nothing_changes_nothing(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-100
    puppet = await system.start(Puppet)
    with pytest.raises(CallbackFailed):
        await system.replace_state(puppet, lambda state: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(CallbackFailed, match=r"Puppet\.stop takes"):
        await system.replace_state(puppet, lambda state: {"stop": 1})
    with pytest.raises(CallbackFailed, match="are texts"):
        await system.replace_state(puppet, lambda state: {**state, 1: 1})  # type: ignore[dict-item]
    assert await puppet.ask(Call(lambda me: me.path)) == puppet.path
    assert "log" in await system.get_state(puppet)


async def test_a_copied_state_holds_the_same_actors(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-100
    puppet, other = await system.start(Puppet), await system.start(Puppet)

    def keep(me: AnyPuppet) -> None:
        me.state.update(peers=[other], numbers=[1], timer=me.after(1, Do(keep)))

    await puppet.ask(Call(keep))
    copied = (await system.get_state(puppet))["state"]
    assert isinstance(copied, dict)
    copied["numbers"].append(2)
    assert copied["peers"] == [other]
    again = (await system.get_state(puppet))["state"]
    assert isinstance(again, dict)
    assert again["numbers"] == [1]


async def test_an_actor_cannot_wait_for_its_own_inspection(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-100
    async def look(me: AnyPuppet) -> None:
        with pytest.raises(DeadlockError):
            await system.get_state(me.ref)

    puppet = await system.start(AsyncPuppet)
    await puppet.ask(Call(look))


@dataclass
class Pair:
    left: object
    right: object


class Plain:
    """An object of user code, with a place in its dictionary and one in a slot."""

    __slots__ = ("__dict__", "slot")

    def __init__(self, slot: object, other: object = None) -> None:
        self.slot, self.other = slot, other


class Fragile:
    """What must not be half made: its end needs what its beginning sets."""

    unfinished: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __del__(self) -> None:
        if not hasattr(self, "lock"):
            Fragile.unfinished.append("half made")


@pytest.mark.parametrize("kind", [Puppet, AsyncPuppet])
async def test_slots_are_a_part_of_the_state(
    autojump_clock: MockClock, system: System, kind: type[Puppet]
) -> None:  # ACT-100, ACT-102
    class Slotted(kind):  # type: ignore[misc, valid-type]  # both kinds in turn
        __slots__ = ("__private", "count", "unset")

        def __init__(self) -> None:
            super().__init__()
            self.count, self.__private = [1], "own"

        def on_call(self, message: Call) -> object:
            return (self.count, self.__private, hasattr(self, "unset"))

    ref: Ref[PuppetMessage] = await system.start(Slotted)
    state = await system.get_state(ref)
    assert (state["count"], state["_Slotted__private"]) == ([1], "own")
    assert "unset" not in state
    assert '"count": [1]' in json.dumps(system.status(ref).state)
    await system.replace_state(
        ref,
        lambda old: {**old, "count": [*old["count"], 2], "unset": 1},  # type: ignore[misc]
    )
    assert await ref.ask(Call(lambda me: None)) == ([1, 2], "own", True)
    await system.replace_state(
        ref, lambda old: {name: value for name, value in old.items() if name != "unset"}
    )
    assert await ref.ask(Call(lambda me: None)) == ([1, 2], "own", False)


async def test_what_runs_is_neither_copied_nor_handed_out(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    capsys: pytest.CaptureFixture[str],
) -> None:  # ACT-100
    ref = await system.start(puppet)
    other = await system.start(puppet)
    fragile, lock = Fragile(), threading.Lock()

    async with trio.open_nursery() as nursery:

        def fill(me: AnyPuppet) -> None:
            me.state.update(
                nursery=nursery,
                rows=[1, nursery, {"scope": nursery.cancel_scope}],
                plain=Plain([1], nursery),
                pair=Pair([2], lock),
                fragile=fragile,
                own=me,
                method=me.unstash_all,
                system=me.system,
                peer=other,
            )

        await ref.ask(Call(fill))
        state = (await system.get_state(ref))["state"]
        assert isinstance(state, dict)
        assert state["rows"][0] == 1
        texts = [
            *(state[name] for name in state if name not in ("rows", "peer")),
            state["rows"][1],
            state["rows"][2]["scope"],
        ]
        assert [text for text in texts if not isinstance(text, str)] == []
        assert "Nursery" in state["nursery"]
        assert state["peer"] == other
        # Whoever puts the state back puts the things themselves back.
        await system.replace_state(ref, lambda old: old)
        held = await ref.ask(Call(lambda me: me.state))
        assert isinstance(held, dict)
        assert held["nursery"] is nursery
        assert held["rows"][1] is nursery
        assert held["fragile"] is fragile
        assert isinstance(held["own"], puppet)
    gc.collect()
    assert Fragile.unfinished == []
    assert capsys.readouterr().err == ""


async def test_data_is_copied_whatever_it_is_made_of(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:  # ACT-100
    ref = await system.start(puppet)
    shared: list[object] = [1]
    ring: dict[str, object] = {}
    ring["self"] = ring
    kept: dict[str, object] = {
        "plain": Plain(shared, {"a": shared}),
        "pair": Pair(deque([1, 2], 5), (shared, {3})),
        "counter": Counter("aab"),
        "default": defaultdict(list, a=[1]),
        "ordered": OrderedDict(b=1, a=2),
        "error": ValueError([1]),
        "exit": Shutdown({"why": [1]}),
        "random": random.Random(5),
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "namespace": SimpleNamespace(a=[1]),
        "frozen": frozenset({1}),
        "ring": ring,
    }
    await ref.ask(Call(lambda me: me.state.update(kept)))
    state = (await system.get_state(ref))["state"]
    assert isinstance(state, dict)
    for name in ("pair", "counter", "default", "ordered", "exit", "when", "namespace", "frozen"):
        assert state[name] == kept[name]
        assert type(state[name]) is type(kept[name])
    plain = state["plain"]
    assert (plain.slot, plain.other) == ([1], {"a": [1]})
    assert plain.slot is plain.other["a"]
    assert plain.slot is state["pair"].right[0]
    assert plain.slot is not shared
    assert state["pair"].left.maxlen == 5
    assert state["default"]["a"] is not kept["default"]["a"]  # type: ignore[index]
    assert state["exit"].info["why"] is not kept["exit"].info["why"]  # type: ignore[attr-defined]
    assert state["random"].random() == random.Random(5).random()
    assert repr(state["error"]) == "ValueError([1])"
    assert state["ring"]["self"] is state["ring"]


async def test_the_workings_of_a_supervisor_are_not_handed_out(
    autojump_clock: MockClock,
) -> None:  # ACT-100
    async with open_system(Above) as above:
        for path in ("above", "above/below"):
            cell = above.system.at(path)
            assert cell is not None
            ref = cell.ref
            state = await above.system.get_state(ref)
            assert state["_hands"] == f"<Hands of {ref.path}: 1 children>"
            await above.system.replace_state(ref, lambda old: old)
        assert await above.below.worker.ask(Call(lambda me: 1)) == 1
