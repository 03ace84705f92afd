"""Crash reports: they hold what one needs, show no secret, and never fail."""

from __future__ import annotations

import gc
import json
import linecache
import weakref

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    ActorCrashed,
    ActorExited,
    Log,
    Ref,
    Shutdown,
    StartError,
    StopActor,
    System,
)
from actors.runtime.watching.reports import BYTES_KEPT
from actors.runtime.watching.traces import ERRORS_MAX, FRAMES_MAX, trace_of
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Puppet,
    PuppetMessage,
    raising,
)
from tests.actors.runtime.kit import Counting, Recorder


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


STATES = {
    "iterator": map(str, [1]),
    "surrogate": "\ud800",
    "nested": {"a": ["\ud800"]},
    "long": 10**6000,
    "wide": -(10**99),
}


async def test_a_crash_report_holds_what_one_needs(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-49, ACT-103, SUP-160, SUP-167
    class Secretive(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        def redact(self, state: dict[str, object]) -> dict[str, object]:
            return {**super().redact(state), "state": "hidden"}

    ref: Ref[PuppetMessage] = await system.start(Secretive)

    def fails(me: AnyPuppet) -> None:
        me.state["pin"] = "hunter2"
        raise KeyError("where")

    ref.tell(Do(fails))
    await system.wait_down(ref)
    (report,) = system.reports.kept
    assert report.path == ref.path
    assert (report.incarnation, report.at) == (1, 0.0)
    assert report.last_message is not None
    assert report.last_message.startswith("Do(")
    assert "KeyError: 'where'" in report.stack
    assert "hunter2" not in str(report)
    assert isinstance(report.state, dict)
    assert report.state["state"] == "hidden"


async def test_a_failing_redaction_shows_nothing(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-103
    class Broken(puppet):  # type: ignore[misc, valid-type]
        def redact(self, state: dict[str, object]) -> dict[str, object]:
            raise TypeError(state)

    ref: Ref[PuppetMessage] = await system.start(Broken)
    assert system.status(ref).state == "<redaction failed: TypeError>"
    ref.tell(Do(raising(OSError())))
    await system.wait_down(ref)
    assert system.reports.kept[0].state == "<redaction failed: TypeError>"


async def test_crash_reports_are_a_topic(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-49
    watcher = Recorder()
    system.topics.subscribe("crash_reports", watcher)
    ref = await system.start(puppet)
    ref.tell(Do(raising(OSError())))
    await system.wait_down(ref)
    assert watcher.got == list(system.reports.kept)


async def test_an_error_without_text_hurts_no_other(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-55, ACT-3, ACT-32
    with system.changes():
        bad, good = await system.start(puppet), await system.start(puppet)
        with pytest.raises(ActorCrashed, match="its text failed"):
            await bad.ask(Call(raising(Unspeakable())))
        assert await good.ask(Call(lambda me: 1)) == 1
    assert "its text failed" in str(system.reports.kept[-1].exit.to_json()["message"])
    with pytest.raises(StartError, match="its text failed"):
        await system.start(puppet, None, raising(Unspeakable()))


async def test_a_shutdown_without_text_hurts_no_other(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-3, ACT-49
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    bad = await system.start(Puppet)
    with pytest.raises(ActorExited, match="its text failed"):
        await bad.ask(Call(raising(StopActor(Shutdown(Mute())))))


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
async def test_any_state_can_be_shown(
    autojump_clock: MockClock, system: System, state: object
) -> None:  # ACT-102, ACT-49
    def keep(me: AnyPuppet) -> None:
        me.state["it"] = state

    puppet = await system.start(Puppet)
    await puppet.ask(Call(keep))
    json.dumps(system.status(puppet).to_json()).encode()
    puppet.tell(Do(raising(ValueError())))
    await system.wait_down(puppet)
    json.dumps(system.reports.kept[-1].state).encode()


async def test_secrets_in_lists_are_hidden(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-103
    def keep(me: AnyPuppet) -> None:
        me.state["users"] = [{"password": "hunter2"}, ({"token": "hunter2"},)]

    puppet = await system.start(Puppet)
    await puppet.ask(Call(keep))
    assert "hunter2" not in json.dumps(system.status(puppet).to_json())


async def test_a_report_disturbs_nobody_whose_error_it_was(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-49
    # The error was raised, and caught, in a handler that still waits.
    victim, crasher = await system.start(AsyncPuppet), await system.start(Puppet)

    async def share(me: AnyPuppet) -> str:
        try:
            raise OSError("mine")
        except OSError as error:
            shared = error
        crasher.tell(Do(raising(shared)))
        await trio.sleep(1)
        return "alive"

    assert await victim.ask(Call(share)) == "alive"
    assert system.reports.kept[-1].path == crasher.path


@pytest.mark.parametrize("is_redacted_by_hand", [False, True])
async def test_a_crash_looks_at_no_more_of_a_state_than_it_shows(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    is_redacted_by_hand: bool,
) -> None:
    # ACT-29, ACT-102: a crash, and a look at the status, of an actor that holds a table
    class Holder(puppet):  # type: ignore[misc, valid-type]  # both kinds in turn
        def redact(self, state: dict[str, object]) -> dict[str, object]:
            if is_redacted_by_hand:
                assert len(state["state"]["rows"]) == 100_000  # type: ignore[index]  # the real one
                return {**super().redact(state), "log": "hidden"}
            return super().redact(state)  # type: ignore[no-any-return]

    def fill(me: AnyPuppet) -> None:
        me.state.update(rows={number: Counting() for number in range(100_000)}, pin="0000")

    ref: Ref[PuppetMessage] = await system.start(Holder)
    await ref.ask(Call(fill))
    Counting.asked = 0
    assert "item" in str(system.status(ref).state)
    assert Counting.asked <= 5000
    ref.tell(Do(raising(ValueError([Counting()] * 100_000))))
    Counting.asked = 0
    await system.wait_down(ref)
    (report,) = system.reports.kept
    assert 0 < Counting.asked <= 10_000
    assert "item" in str(report.state)
    assert "cut" in str(report.state)


async def test_a_stack_is_written_when_it_is_read(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ACT-29: no source file is read on the loop for a crash that nobody looks at
    monkeypatch.setattr(Log, "has_debug", False)  # at that level the log looks at each
    read: list[str] = []

    def counted(filename: str, module_globals: object = None) -> list[str]:
        read.append(filename)
        return update(filename, module_globals)  # type: ignore[arg-type]

    def fails(me: AnyPuppet) -> None:
        try:
            int("password=hunter2")
        except ValueError as error:
            raise OSError(2, "gone") from error

    ref = await system.start(puppet)
    linecache.clearcache()
    update = linecache.updatecache
    monkeypatch.setattr(linecache, "updatecache", counted)
    ref.tell(Do(fails))
    await system.wait_down(ref)
    (report,) = system.reports.kept
    assert read == []
    assert __file__ == report.trace.frames[-1].file
    stack = report.stack
    assert __file__ in read
    assert 'in fails\n    raise OSError(2, "gone") from error\n' in stack
    assert "direct cause of the following" in stack
    assert stack.endswith("FileNotFoundError: [Errno 2] gone\n")
    assert "hunter2" not in stack


def test_a_trace_is_bounded_and_shows_both_ends() -> None:
    # ACT-29
    def down(levels: int) -> None:
        if not levels:
            raise ValueError("the bottom " + "x" * 100_000)
        down(levels - 1)

    with pytest.raises(ValueError, match="the bottom") as caught:
        down(500)
    trace = trace_of(caught.value)
    assert len(trace.frames) == 2 * FRAMES_MAX
    assert trace.left_out == 502 - 2 * FRAMES_MAX
    text = str(trace)
    assert f"{trace.left_out} more frames" in text
    assert "in test_a_trace_is_bounded_and_shows_both_ends" in text
    assert "the bottom" in text
    assert len(text) < 20_000


def test_causes_and_groups_are_written_once_each_and_not_without_end() -> None:
    # ACT-49
    chain: BaseException = ValueError(0)
    for number in range(1, 100):
        error = ValueError(number)
        error.__context__ = chain
        chain = error
    text = str(trace_of(chain))
    assert text.count("During handling") == ERRORS_MAX - 1
    assert text.endswith("ValueError: 99\n")
    ring = ValueError("ring")
    ring.__cause__ = KeyError("other")
    ring.__cause__.__context__ = ring
    assert str(trace_of(ring)).count("ring") == 1
    group = ExceptionGroup("many", [OSError("first"), ExceptionGroup("inner", [KeyError("last")])])
    lines = str(trace_of(group)).splitlines()
    assert lines[0] == "ExceptionGroup: many (2 sub-exceptions)"
    assert "  | OSError: first" in lines
    assert "  |   | KeyError: 'last'" in lines
    wide = ExceptionGroup("wide", [ValueError(number) for number in range(1000)])
    assert str(trace_of(wide)).count("ValueError") == ERRORS_MAX - 1


async def test_kept_reports_are_bounded_in_bytes(autojump_clock: MockClock, system: System) -> None:
    # ACT-29
    for number in range(40):
        ref = await system.start(Puppet)
        ref.tell(Do(raising(ValueError(f"{number}" + "x" * 1_000_000))))
        await system.wait_down(ref)
    assert 10 <= len(system.reports.kept) <= BYTES_KEPT // 1_000_000
    assert str(system.reports.kept[-1].exit.error).startswith("39x")
    ref = await system.start(Puppet)
    ref.tell(Do(raising(ValueError("y" * (BYTES_KEPT + 1)))))
    await system.wait_down(ref)
    assert len(system.reports.kept) == 1  # The newest is kept, whatever it holds.


async def test_a_crashed_actor_does_not_live_on(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-49: its report holds no frame that holds it
    found: list[weakref.ref[AnyPuppet]] = []

    def fails(me: AnyPuppet) -> None:
        found.append(weakref.ref(me))
        try:
            raise OSError("first")
        except OSError as error:
            raise ValueError("second") from error

    ref = await system.start(puppet)
    ref.tell(Do(fails))
    await system.wait_down(ref)
    await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    assert len(system.reports.kept) == 1
    assert found[0]() is None
