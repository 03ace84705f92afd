"""What becomes of a mail: on which day it is tried again, when it is given up, and who is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import MailState, OutboxEntry
from actors.persistence.beside_log.outbox import MAIL_PARTS
from actors.runtime import open_actors
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryMailStates,
    MemoryOutbox,
)
from tests.engines import virtual_environment
from tests.logged import captured
from tests.patience import until
from tests.tallied import numbers
from tests.web.mail.mail_server import CUT, SILENT, MailServer, mail_server
from web.mail.answers import RETRIES, Answer, Asked, Verdict, judge, retry_in
from web.mail.delivering import LEFT_ALONE_S, MailDelivery, MailRelay
from web.mail.mails import Mails
from web.mail.senders.memory import MemorySender
from web.mail.senders.port import (
    AnswerLost,
    BeforeLeaving,
    MayNotLeave,
    Outgoing,
    ServerAway,
)
from web.mail.senders.smtp import SmtpSender, SmtpSettings
from web.mail.templates import MAGIC_LINK, SECURITY_ALERT
from web.mail.words import MailAddress, SmtpSecurity, address_digest
from web.observability.health.of_mail import mail_component

_FROM = MailAddress("greenroom@example.org")
_ADA = "ada@example.org"
_OK = Answer(Verdict.SENT, "250")


class _Scripted:
    """A way out that answers as told, and then takes all. An error is raised behind the end."""

    def __init__(self, *script: Answer | Exception) -> None:
        self.script = list(script)
        self.tried: list[float] = []
        self.left: list[Outgoing] = []

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        self.tried.append(trio.current_time())
        told = self.script.pop(0) if self.script else _OK
        if isinstance(told, ServerAway):
            raise told
        if not await before_leaving():
            raise MayNotLeave
        self.left.append(outgoing)
        if isinstance(told, Exception):
            raise told
        return told

    async def close_idle(self) -> None:
        pass

    async def close(self) -> None:
        pass


class _World:
    def __init__(self, sender: _Scripted | SmtpSender | MemorySender) -> None:
        self.env = virtual_environment()
        database = MemoryDatabase(now=self.env.clock.now)
        self.outbox, self.states = MemoryOutbox(database), MemoryMailStates(database)
        self.dead = MemoryDeadLetters(database)
        self.mails = Mails(self.outbox)
        self.delivery = MailDelivery(sender, _FROM, self.states, self.env)

    def relay(self) -> MailRelay:
        return MailRelay(self.outbox, self.delivery, self.env, self.dead)

    async def state(self) -> MailState:
        (known, *_) = await self.states.newest()
        return known.state

    async def put(self, key: str = "k", to: str = _ADA) -> None:
        assert await self.mails.send(to, SECURITY_ALERT, SECURITY_ALERT.sample, key)

    async def put_link(self, key: str, *, to: str = _ADA, in_s: float = 600.0) -> None:
        at = self.env.clock.now() + timedelta(seconds=in_s)
        context = replace(MAGIC_LINK.sample, expires_at=at)
        await self.outbox.add(self.mails.magic_link(to, context, key))


async def test_a_mail_is_a_span_below_that_of_its_message(autojump_clock: MockClock) -> None:
    # OBS-3
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    world = _World(_Scripted())
    expires = world.env.clock.now() + timedelta(seconds=600)
    (mail,) = world.mails.magic_link(_ADA, replace(MAGIC_LINK.sample, expires_at=expires), "k")
    await world.outbox.add([replace(mail, headers={**mail.headers, "traceparent": trace})])
    async with open_actors() as system:
        spans = system.trace()
        await system.start(world.relay)
        await trio.sleep(10)
        read = {one.name: one for one in map(spans.read, spans.ring)}
    assert read["mail.send"].parent == read["outbox.send"].span
    assert dict(read["mail.send"].fields) == {"template": MAGIC_LINK.name, "attempt": 1}
    assert _ADA not in repr(read)


async def test_a_mail_that_is_not_taken_is_tried_for_fifteen_hours(
    autojump_clock: MockClock,
) -> None:
    # MAIL-5: 1, 5, 30 min, 2 h, 12 h, then a dead letter; the relay may die meanwhile
    later = Answer(Verdict.DEFERRED, "451 4.3.0 at RCPT TO")
    sender = _Scripted(*[later] * 10)
    world = _World(sender)
    await world.put()
    for wait in (0, *(one.total_seconds() for one in RETRIES)):
        # Nobody is there in between; nor is it tried before its time.
        await trio.sleep(max(0, wait - 40))
        async with open_actors() as system:
            await system.start(world.relay)
            await trio.sleep(50)
    gaps = [after - before for before, after in itertools.pairwise(sender.tried)]
    wanted = [one.total_seconds() for one in RETRIES]
    assert gaps == [pytest.approx(one, abs=30) for one in wanted]
    (letter,) = await world.dead.list(kind="outbox")
    assert letter.letter.source == "mail"
    assert letter.letter.error_message == "NotSent: 451 4.3.0 at RCPT TO"
    assert await world.state() is MailState.DEFERRED
    # Handed back, it begins anew.
    await world.dead.hand_back(letter.id, "ada")
    sender.script.clear()
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(10)
    assert await world.state() is MailState.SENT


async def test_a_mail_that_is_refused_is_given_up_and_its_address_gets_no_more(
    autojump_clock: MockClock,
) -> None:
    # MAIL-7: but for a link that is asked for by hand, once a day
    nobody = judge(Asked.RECIPIENT, 550, b"5.1.1 no such user")
    sender = _Scripted(nobody)
    world = _World(sender)
    await world.put("first")
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(5)
        assert await world.state() is MailState.REFUSED
        assert len(await world.dead.list(kind="outbox")) == 1
        await world.put("second")
        await trio.sleep(5)
        assert await world.state() is MailState.SUPPRESSED
        # OBS-1
        assert numbers(system, "mail_sent_total") == {("refused",): 1, ("suppressed",): 1}
        await world.put_link("link one")
        await trio.sleep(5)
        assert await world.state() is MailState.SENT
        await world.put_link("link two")
        await trio.sleep(5)
        assert await world.state() is MailState.SUPPRESSED
        await world.put("other", to="bob@example.org")
        await trio.sleep(5)
    assert [one.mail.to for one in sender.left] == [_ADA, _ADA, "bob@example.org"]
    assert (await world.outbox.stats()).pending == 0
    assert await world.states.maybe_suppression(address_digest(_ADA)) is not None


async def test_a_policy_is_no_reason_to_hold_an_address(autojump_clock: MockClock) -> None:
    # MAIL-7
    world = _World(_Scripted(judge(Asked.RECIPIENT, 550, b"5.7.1 not from you")))
    await world.put()
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(5)
    assert await world.state() is MailState.REFUSED
    assert await world.states.maybe_suppression(address_digest(_ADA)) is None


async def test_a_link_that_is_over_is_not_sent(autojump_clock: MockClock) -> None:
    # MAIL-5: nor kept, once it is known
    later = Answer(Verdict.DEFERRED, "451")
    sender = _Scripted(later, later, later)
    world = _World(sender)
    await world.put_link("k", in_s=120.0)
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(3600)
    assert len(sender.tried) == 2
    assert await world.state() is MailState.EXPIRED
    assert await world.dead.list(kind="outbox") == []
    assert (await world.outbox.stats()).pending == 0


async def test_a_lost_answer_costs_one_more_copy_and_never_two(autojump_clock: MockClock) -> None:
    # MAIL-5, REL-86
    sender = _Scripted(AnswerLost(), AnswerLost(), AnswerLost())
    world = _World(sender)
    await world.put()
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(600)
        # OBS-1
        assert numbers(system, "mail_unknown_total") == {(): 1}
    first, second = sender.left
    assert first.data.split(b"Message-ID")[1] == second.data.split(b"Message-ID")[1]
    assert world.delivery.statistics.unknown == 2 - 1
    (letter,) = await world.dead.list(kind="outbox")
    assert "two copies have left" in letter.letter.error_message
    # A person decides that it goes once more.
    await world.dead.hand_back(letter.id, "ada")
    sender.script.clear()
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(10)
    assert await world.state() is MailState.SENT
    assert len(sender.left) == 3


async def test_a_process_that_dies_behind_the_data_leaves_one_more_copy(
    autojump_clock: MockClock,
) -> None:
    # MAIL-5, REL-86: killed at the same place again and again
    entered = trio.Event()

    class _Hangs(_Scripted):
        async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
            await super().send(outgoing, before_leaving)
            entered.set()
            await trio.sleep_forever()
            raise AssertionError

    sender = _Hangs()
    world = _World(sender)
    await world.put()
    for _ in range(2):
        entered = trio.Event()
        async with open_actors() as system:
            relay = await system.start(world.relay)
            await entered.wait()
            relay.kill()
            await trio.sleep(20)
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(60)
    assert len(sender.left) == 2
    assert await world.state() is MailState.REFUSED


async def test_a_server_that_is_away_is_left_alone_and_told(autojump_clock: MockClock) -> None:
    # REL-86: a thousand mails ask it once, and health says why; all leave when it is back
    sender = _Scripted(ServerAway("the mail server cannot be reached (refused)"))
    world = _World(sender)
    delivery = world.delivery
    component = mail_component(lambda: str(delivery.trouble or ""), dict)
    for number in range(200):
        await world.put(f"k{number}", to=f"user{number}@example.org")
    async with open_actors() as system:
        await system.start(world.relay)
        await trio.sleep(LEFT_ALONE_S - 5)
        assert len(sender.tried) == 1
        found = component.check()
        assert getattr(found, "status", "") == "degraded"
        await trio.sleep(120)
        assert getattr(component.check(), "status", "") == "healthy"
    assert len(sender.left) == 200
    assert (await world.outbox.stats()).pending == 0


async def test_nothing_of_a_mail_is_logged_or_in_its_letter(autojump_clock: MockClock) -> None:
    # MAIL-6, SEC-131
    world = _World(_Scripted(judge(Asked.BODY, 554, b"5.6.0 SAMPLE quux@example.org")))
    await world.put_link("k", to="quux@example.org")
    with captured() as lines:
        async with open_actors() as system:
            await system.start(world.relay)
            await trio.sleep(5)
    (letter,) = await world.dead.list(kind="outbox")
    (known,) = await world.states.newest()
    for shown in (repr(lines), repr(letter), repr(known)):
        assert "SAMPLE" not in shown
        assert "quux" not in shown
    assert known.mail.template == "magic_link"


def test_retries_are_five_and_then_none() -> None:
    # MAIL-5
    assert [retry_in(n) for n in range(1, 7)] == [*RETRIES, None]
    minutes = [one.total_seconds() / 60 for one in RETRIES]
    assert minutes == [1, 5, 30, 120, 720]


@pytest.mark.parametrize(
    ("asked", "code", "text", "verdict", "is_nobody"),
    [
        (Asked.BODY, 250, b"2.0.0 ok", Verdict.SENT, False),
        (Asked.RECIPIENT, 550, b"5.1.1 nobody", Verdict.REFUSED, True),
        (Asked.RECIPIENT, 550, b"nobody", Verdict.REFUSED, True),
        (Asked.RECIPIENT, 550, b"5.7.1 policy", Verdict.REFUSED, False),
        (Asked.RECIPIENT, 552, b"full", Verdict.REFUSED, False),
        (Asked.BODY, 554, b"5.1.1 odd", Verdict.REFUSED, False),
        (Asked.SENDER, 550, b"5.1.1 us", Verdict.REFUSED, False),
        (Asked.RECIPIENT, 450, b"4.2.0 grey", Verdict.DEFERRED, False),
        (Asked.BODY, 421, b"", Verdict.DEFERRED, False),
        (Asked.BODY, -1, b"what", Verdict.DEFERRED, False),
        (Asked.BODY, 354, b"", Verdict.DEFERRED, False),
        (Asked.RECIPIENT, 550, b"5.1.1" + b"9" * 5000, Verdict.REFUSED, True),
    ],
)
def test_an_answer_is_judged_by_its_code(
    asked: Asked, code: int, text: bytes, verdict: Verdict, *, is_nobody: bool
) -> None:
    # MAIL-7
    told = judge(asked, code, text)
    assert (told.verdict, told.is_nobody) == (verdict, is_nobody)
    assert len(told.reason) < 60


@pytest.fixture
def box() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def _real(box: MailServer) -> _World:
    settings = SmtpSettings("127.0.0.1", box.port, SmtpSecurity.NONE, _FROM)
    return _World(SmtpSender(settings))


async def _entry(world: _World) -> OutboxEntry:
    (waiting,) = await world.outbox.waiting()
    held = await world.outbox.lease("test", MAIL_PARTS)
    for part, epoch in held.items():
        for entry in await world.outbox.next_batch(part, epoch):
            assert entry.id == waiting.id
            return entry
    raise AssertionError("nothing waits")


async def test_mails_go_from_the_outbox_to_a_real_server(box: MailServer) -> None:
    # MAIL-1, MAIL-10: from the commit to the mailbox
    world = _real(box)
    for number in range(20):
        await world.put(f"k{number}", to=f"user{number}@example.org")
    async with open_actors() as system:
        await system.start(world.relay)
        await until(lambda: len(box.got) == 20)
    assert sorted(box.recipients) == sorted(f"user{number}@example.org" for number in range(20))
    assert (await world.outbox.stats()).pending == 0


async def test_a_greylisted_mail_is_taken_the_second_time(box: MailServer) -> None:
    # MAIL-10
    box.is_greylisting = True
    world = _real(box)
    await world.put()
    entry = await _entry(world)
    with pytest.raises(Exception, match=r"451 4\.7\.1") as caught:
        await world.delivery.send(entry)
    assert getattr(caught.value, "retry_in", None) == timedelta(minutes=1)
    await world.delivery.send(replace(entry, attempts=1))
    assert await world.state() is MailState.SENT
    await world.delivery.sender.close()


async def test_a_stop_while_a_server_is_silent_counts_the_copy_that_left(box: MailServer) -> None:
    # MAIL-5, MAIL-1: the drain does not wait for it, and the next start knows
    box.at_data.extend([SILENT, CUT])
    world = _real(box)
    await world.put()
    entry = await _entry(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.delivery.send, entry)
        await trio.to_thread.run_sync(box.silent.wait)
        nursery.cancel_scope.cancel()
    with pytest.raises(Exception, match="no answer came"):
        await world.delivery.send(entry)
    with pytest.raises(Exception, match="two copies have left"):
        await world.delivery.send(replace(entry, attempts=1))
    assert len(box.got) == 2
    assert len({mail["Message-ID"] for mail in box.mails()}) == 1
    await world.delivery.sender.close()
