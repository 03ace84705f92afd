"""Messages nobody handled: kept, told, sent again, without secrets and without end."""

from __future__ import annotations

from dataclasses import field
from typing import cast

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ByName,
    DeadLetter,
    DeadLetters,
    NoProc,
    Ref,
    System,
    message,
    open_actors,
)
from actors.runtime.watching.dead_letters import BYTES_KEPT, DEAD_LETTERS_KEPT, _Kept
from actors.runtime.words.showing import CUT
from actors.testing import AsyncPuppet, Do, Note, Puppet, sleeping
from tests.actors.runtime.kit import Counting, Go, Recorder, Small


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
    assert letter.correlation_id == f"{system.id}-{letter.causation_id}"
    assert isinstance(letter.causation_id, int)
    assert letter.message_id > letter.causation_id


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


async def test_what_is_sent_again_is_the_same_message(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-92, LAB-40: its id, its correlation and its sender, not its deadline
    sender = await system.start(puppet, name="sender")
    gone = await dead(system, puppet)
    sender.tell(Do(lambda me: gone.tell(Note("lost"), deadline=trio.current_time() + 5)))
    await trio.testing.wait_all_tasks_blocked()
    (first,) = system.dead_letters
    await trio.sleep(60)
    system.dead_letters.resend(first.id)
    _, second = system.dead_letters
    assert second.id != first.id
    assert second.reason == first.reason == "no_such_actor"
    for name in ("message_id", "correlation_id", "causation_id", "sender"):
        assert getattr(second, name) == getattr(first, name), name


async def test_a_flood_is_one_line_a_second(autojump_clock: MockClock, system: System) -> None:
    # ACT-92, ACT-46
    ref = await system.start(Puppet)
    await ref.stop()
    with capture_logs() as logged:
        for _ in range(2):
            for _ in range(50):
                ref.tell(Note(1))
            await trio.sleep(1)
    lines = [line for line in logged if line["event"] == "dead_letter"]
    assert [line["left_out"] for line in lines] == [0, 49]


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


@message
class Held:
    held: object


async def dead(system: System, puppet: type[Puppet]) -> Ref[object]:
    ref = await system.start(puppet)
    await ref.stop()
    return cast(Ref[object], ref)


async def test_a_lost_message_is_not_looked_at_until_somebody_reads_it(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-92, ACT-29: whatever was lost, and however much of it
    ref = await dead(system, puppet)
    Counting.asked = 0
    for _ in range(1000):
        ref.tell(Held([Counting()] * 1000))
    ref.tell(Held(b"x" * 300_000))
    assert Counting.asked == 0
    first, *_, last = system.dead_letters
    assert Counting.asked == 0
    assert first.message.startswith("Held(held=[item, item")
    assert first.message.endswith(CUT)
    assert len(first.message) == 512
    assert 0 < Counting.asked <= 512
    assert len(last.message) == 512


async def test_a_letter_is_made_for_subscribers_only(
    autojump_clock: MockClock, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ACT-92, ACT-107
    made: list[object] = []
    make = DeadLetters._letter

    def counted(self: DeadLetters, kept: _Kept) -> DeadLetter:
        made.append(kept)
        return make(self, kept)

    monkeypatch.setattr(DeadLetters, "_letter", counted)
    ref = await dead(system, Puppet)
    for number in range(100):
        ref.tell(Note(number))
    assert made == []
    watcher = Recorder()
    system.topics.subscribe("dead_letters", watcher)
    ref.tell(Note(1))
    assert len(made) == 1
    assert watcher.got == [list(system.dead_letters)[-1]]


async def test_what_is_kept_is_bounded_in_bytes(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-92
    ref = await dead(system, puppet)
    for number in range(100):
        ref.tell(Held(bytes([number]) * 1_000_000))
    assert len(system.dead_letters) == BYTES_KEPT // 1_000_000
    assert next(reversed(list(system.dead_letters))).message.startswith(r"Held(held=b'cccc")
    # One that alone is more than all may be pushes nothing out, and only its text is kept.
    ref.tell(Held([b"x"] * (BYTES_KEPT // 8)))
    *others, letter = system.dead_letters
    assert len(others) == BYTES_KEPT // 1_000_000
    assert letter.message.startswith("Held(held=[b'x', b'x'")
    assert letter.message_type == "Held"
    with pytest.raises(KeyError, match="too large to be kept"):
        system.dead_letters.resend(letter.id)
    assert system.dead_letters.by_reason == {"no_such_actor": 101}
    # Many small ones push the large ones out again, and are limited by their number.
    for number in range(2000):
        ref.tell(Note(number))
    assert len(system.dead_letters) == DEAD_LETTERS_KEPT


async def test_a_message_that_cannot_be_weighed_or_shown_is_lost_like_any_other(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-30, ACT-90
    class Odd:
        def __sizeof__(self) -> int:
            raise RuntimeError("no size")

        def __repr__(self) -> str:
            raise RuntimeError("no text")

    ref = await dead(system, Puppet)
    ref.tell(Held(Odd()))
    ref.tell(Odd())
    assert [letter.message for letter in system.dead_letters] == [
        "Held(held=<Odd: its text failed with RuntimeError>)",
        "Odd()",
    ]


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


@pytest.mark.parametrize("cut_short", [False, True])
def test_a_ref_outlives_the_run(cut_short: bool) -> None:
    # ACT-30, ACT-92: a tell is a dead letter of the system it belongs to, at the time of its close
    refs: dict[type, Ref[Note]] = {}
    heard = Recorder()

    async def run() -> System:
        with trio.CancelScope() as scope:
            async with open_actors() as system:
                for kind in (Puppet, AsyncPuppet):
                    refs[kind] = await system.start(kind, name=kind.__name__)
                await trio.sleep(7)
                system.topics.subscribe("dead_letters", heard)
                if cut_short:
                    scope.cancel()
                    await trio.sleep_forever()
        return system

    system = trio.run(run, clock=MockClock(autojump_threshold=0))
    for ref in refs.values():
        ref.tell(Note("too late"))
        ref.kill()
    ByName("nobody", Puppet, system=system).tell(Note("too late"))
    assert system.topics.publish("topic", Note("nobody hears it")) == 0
    assert [letter.at for letter in system.dead_letters] == [7, 7, 7]
    assert system.dead_letters.by_reason == {"no_such_actor": 3}
    assert heard.got == list(system.dead_letters)
    system.dead_letters.resend(1)
    assert len(system.dead_letters) == 4

    async def later() -> None:
        refs[Puppet].tell(Note("later still"))

    trio.run(later, clock=MockClock(autojump_threshold=0))
    assert len(system.dead_letters) == 5
