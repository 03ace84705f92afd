"""Messages nobody handled: kept, told, sent again, without secrets and without end."""

from __future__ import annotations

from dataclasses import field

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    DeadLetter,
    NoProc,
    System,
    message,
)
from actors.testing import AsyncPuppet, Do, Note, Puppet, sleeping
from tests.actors.runtime.kit import Go, Recorder, Small


@message
class Secret:
    password: str
    note: str


@message
class Card:
    number: str


@message
class Unfinished:
    text: str = field(init=False)


class Till(Actor[Card]):
    def on_card(self, message: Card) -> None: ...

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        return {name: "***" if name == "number" else value for name, value in state.items()}


async def test_a_dead_letter_tells_everything_and_hides_secrets(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-90, ACT-103, ACT-91
    watcher = Recorder()
    system.topics.subscribe("dead_letters", watcher)
    ref = await system.start(puppet)
    sender = await system.start(puppet, name="sender")
    await trio.sleep(3)
    secret = Secret("1234", "x" * 600)
    sender.tell(Do(lambda me: ref.tell(secret)))  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()
    (letter,) = system.dead_letters
    assert watcher.got == [letter]
    assert isinstance(letter, DeadLetter)
    assert (letter.id, letter.at, letter.path, letter.incarnation) == (1, 3, ref.path, 1)
    assert (letter.reason, letter.message_type) == ("unhandled", "Secret")
    assert letter.message.startswith("Secret(password=***, note='xxx")
    assert len(letter.message) == 512
    assert (letter.sender, letter.was_ask, letter.exit) == ("sender", False, None)
    assert letter.correlation_id == f"{system.id}:{letter.causation_id}"
    assert letter.message_id > (letter.causation_id or 0)


async def test_a_dead_letter_can_be_sent_again_while_it_is_kept(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-92
    class Small(AsyncPuppet):
        capacity = 1

    log: list[object] = []
    ref = await system.start(Small, log)
    ref.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Note("in"))
    for n in range(1001):
        ref.tell(Note(n))
    await trio.sleep(2)
    assert len(system.dead_letters) == 1000
    with pytest.raises(KeyError):
        system.dead_letters.resend(1)
    system.dead_letters.resend(2)
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["in", 1]


async def test_a_flood_is_one_line_a_second(
    autojump_clock: MockClock, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    # ACT-92, ACT-46
    ref = await system.start(Puppet)
    await ref.stop()
    capsys.readouterr()
    for _ in range(2):
        for _ in range(50):
            ref.tell(Note(1))
        await trio.sleep(1)
    lines = [line for line in capsys.readouterr().out.splitlines() if "dead_letter" in line]
    assert len(lines) == 2
    assert "left_out=49" in lines[1] or "49" in lines[1]


async def test_a_slow_watcher_of_dead_letters_makes_no_more_of_them(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-92
    class Small(AsyncPuppet):
        capacity = 1

    watcher = await system.start(Small)
    watcher.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    system.topics.subscribe("dead_letters", watcher)
    ref = await system.start(Puppet)
    await ref.stop()
    for _ in range(5):
        ref.tell(Note(1))
    assert system.dead_letters.by_reason == {"no_such_actor": 5, "overflow": 4}
    assert len(system.dead_letters) == 5


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


async def test_a_half_made_message_becomes_a_dead_letter(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-46, ACT-90
    puppet = await system.start(Puppet)
    puppet.tell(Unfinished())  # type: ignore[arg-type]  # not the puppet's
    await trio.testing.wait_all_tasks_blocked()
    assert [letter.message for letter in system.dead_letters] == ["Unfinished(text='(not set)')"]


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


async def test_a_send_that_fails_is_no_dead_letter(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-54
    ref = await system.start(Small)
    await system.suspend(ref)
    ref.tell(Go())

    async def send() -> None:
        with pytest.raises(NoProc):
            await ref.send(Go())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()
    assert len(system.dead_letters) == 1
