"""Crash reports: they hold what one needs, show no secret, and never fail."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    ActorCrashed,
    ActorExited,
    Ref,
    Shutdown,
    StartError,
    StopActor,
    System,
)
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Puppet,
    PuppetMessage,
    raising,
)
from tests.actors.runtime.kit import Recorder


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
        me.state["pin"] = "0000"
        raise KeyError("where")

    ref.tell(Do(fails))
    await system.wait_down(ref)
    (report,) = system.reports.kept
    assert report.path == ref.path
    assert (report.incarnation, report.at) == (1, 0.0)
    assert report.last_message is not None
    assert report.last_message.startswith("Do(")
    assert "KeyError: 'where'" in report.stack
    assert "0000" not in str(report)
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
    assert system.status(ref)["state"] == "<redaction failed: TypeError>"
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
    json.dumps(system.status(puppet)).encode()
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
    assert "hunter2" not in json.dumps(system.status(puppet))


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
