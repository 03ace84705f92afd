"""Errors, states and messages that cannot be shown hurt nobody; secrets do not get out."""

from __future__ import annotations

import json
from dataclasses import field

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorCrashed,
    ActorExited,
    CallbackFailed,
    DeadlockError,
    Shutdown,
    StartError,
    StopActor,
    System,
    message,
)
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Puppet, raising


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@message
class Card:
    number: str


@message
class Unfinished:
    text: str = field(init=False)


STATES = {
    "iterator": map(str, [1]),
    "surrogate": "\ud800",
    "nested": {"a": ["\ud800"]},
    "long": 10**6000,
    "wide": -(10**99),
}


class Till(Actor[Card]):
    def on_card(self, message: Card) -> None: ...

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        return {name: "***" if name == "number" else value for name, value in state.items()}


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


async def test_a_half_made_message_becomes_a_dead_letter(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-46, ACT-90
    puppet = await system.start(Puppet)
    puppet.tell(Unfinished())  # type: ignore[arg-type]  # not the puppet's
    await trio.testing.wait_all_tasks_blocked()
    assert [letter.message for letter in system.dead_letters] == ["Unfinished(text='(not set)')"]


async def test_secrets_in_lists_are_hidden(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-103
    def keep(me: AnyPuppet) -> None:
        me.state["users"] = [{"password": "hunter2"}, ({"token": "hunter2"},)]

    puppet = await system.start(Puppet)
    await puppet.ask(Call(keep))
    assert "hunter2" not in json.dumps(system.status(puppet))


async def test_the_hook_hides_secrets_also_when_nobody_runs(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-103: in messages that the actor left behind, or that came later
    till = await system.start(Till)
    till.tell(Card("4111"))
    till.kill()
    await system.wait_down(till)
    till.tell(Card("4111"))
    assert {letter.reason for letter in system.dead_letters} == {"stopped", "no_such_actor"}
    assert {letter.message for letter in system.dead_letters} == {"Card(number='***')"}


async def test_a_watcher_of_dead_letters_cannot_make_more_of_them(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-92: a loss there is only counted
    watcher = await system.start(Puppet)  # It has no handler for a DeadLetter.
    system.topics.subscribe("dead_letters", watcher)
    watcher.tell(Card("1"))  # type: ignore[arg-type]  # not the puppet's
    await trio.testing.wait_all_tasks_blocked()
    assert len(system.dead_letters) == 1
    assert system.dead_letters.by_reason == {"unhandled": 2}


async def test_replacing_the_state_by_nothing_changes_nothing(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-100
    puppet = await system.start(Puppet)
    with pytest.raises(CallbackFailed):
        await system.replace_state(puppet, lambda state: None)  # type: ignore[arg-type,return-value]
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


@pytest.mark.parametrize("name", ["👨‍👩‍👧", "a\u00a0b", "日本　語"])
async def test_what_is_no_control_character_may_be_in_a_name(
    autojump_clock: MockClock, system: System, name: str
) -> None:
    # ACT-60
    assert system.whereis(name) is None
    assert (await system.start(Puppet, name=name)).path == name
    for refused in ("\x7f", "\x85", "a\u2028b", "\ud800"):
        with pytest.raises(ValueError, match="control"):
            await system.start(Puppet, name=refused)
