"""Topics, and dead letters as one of them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import AnyRef, Ask, DeadLetter, Sink, System, message
from actors.testing import AsyncPuppet, Call, Do, Note, Puppet, raising, sleeping


class Recorder:
    """A sink that keeps what it gets, and fails when told to."""

    def __init__(self) -> None:
        self.got: list[object] = []
        self.fails = False

    def deliver(self, message: object, /) -> None:
        if self.fails:
            raise OSError
        self.got.append(message)


@message
class Secret:
    password: str
    note: str


@message
class Stranger(Ask[int]):
    pass


async def test_publish_reaches_all_with_one_object(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-80, ACT-145
    logs: list[list[object]] = [[], []]
    refs = [await system.start(puppet, log) for log in logs]
    sink = Recorder()
    subscribers: list[AnyRef | Sink] = [*refs, sink, sink, refs[0]]
    for subscriber in subscribers:
        system.topics.subscribe("t", subscriber)
    assert system.topics.subscribers("t") == 3
    news = object()
    assert system.topics.publish("t", Note(news)) == 3
    await trio.testing.wait_all_tasks_blocked()
    assert logs == [[news], [news]]
    assert len(sink.got) == 1
    assert system.stats(refs[0])["topics"] == ["t"]
    system.topics.unsubscribe("t", refs[0])
    system.topics.unsubscribe("t", sink)
    system.topics.unsubscribe("t", sink)
    assert system.topics.publish("t", Note(1)) == 1
    system.topics.unsubscribe("t", refs[1])
    assert system.topics.publish("t", Note(1)) == 0
    assert system.topics.topics() == []


async def test_each_sees_the_order_and_a_stalled_one_slows_nobody(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-81
    class Small(AsyncPuppet):
        capacity = 3

    stalled: list[object] = []
    fast: list[object] = []
    slow_ref, fast_ref = await system.start(Small, stalled), await system.start(Puppet, fast)
    slow_ref.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    for ref in (slow_ref, fast_ref):
        system.topics.subscribe("t", ref)
    reached = [system.topics.publish("t", Note(n)) for n in range(5)]
    assert reached == [2, 2, 2, 1, 1]
    await trio.sleep(2)
    assert fast == [0, 1, 2, 3, 4]
    assert stalled == [0, 1, 2]
    assert system.stats(slow_ref)["overflowed"] == 2


async def test_a_failing_sink_is_removed_and_gone_actors_are_unsubscribed(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-82
    bad, good = Recorder(), Recorder()
    bad.fails = True
    ref = await system.start(puppet)
    for subscriber in (bad, ref, good):
        system.topics.subscribe("t", subscriber)
    assert system.topics.publish("t", Note(1)) == 2
    assert good.got == [Note(1)]
    await ref.stop()
    assert system.topics.subscribers("t") == 1
    system.topics.subscribe("t", ref)
    assert system.topics.subscribers("t") == 1


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


async def test_ask_all_gives_replies_and_who_gave_none(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, SUP-168
    good, dead = await system.start(puppet), await system.start(puppet)
    slow = await system.start(AsyncPuppet)
    await dead.stop()
    slow.tell(Do(sleeping(3)))
    replies, without = await system.ask_all([good, dead, slow], Call(lambda me: me.path), timeout=1)
    assert (replies, without) == ({good: good.path}, [dead, slow])
    assert trio.current_time() == 1
    await trio.sleep(5)
    assert system.stats(slow)["late_replies"] == 0
    system.tell_all([good, slow], Note("all"))
    with trio.move_on_after(1):
        slow.tell(Do(sleeping(3)))
        await system.ask_all([slow], Call(lambda me: 1), timeout=9)
    await trio.sleep(5)
    assert system.stats(slow)["withdrawn"] == 1
    assert await system.ask_all([], Call(lambda me: 1), timeout=1) == ({}, [])
