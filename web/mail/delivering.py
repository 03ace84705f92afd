"""What is done with a mail that waits: whether it is sent at all, how, and what comes of it.

`MailDelivery` is what the outbox's relay sends mails by; `MailRelay` is that relay, two at a time,
of the parts that mails have for themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import msgspec
import trio

from actors.persistence import (
    DeadLetters,
    MailRef,
    MailState,
    MailStates,
    NotSent,
    Outbox,
    OutboxEntry,
    OutboxRelay,
    ShardLease,
)
from actors.persistence.beside_log.mails import LEFT_MAX
from actors.persistence.beside_log.outbox import MAIL_PARTS, Send
from actors.reducers import Environment
from actors.runtime import Exit, Log, current_tallies, span
from web.mail.answers import Answer, Verdict, retry_in
from web.mail.mails import MAIL
from web.mail.message import bytes_of, needs_utf8
from web.mail.sealing import SEALED, CannotOpen, MailSeal
from web.mail.senders.port import (
    AnswerLost,
    MayNotLeave,
    Outgoing,
    Sender,
    SenderTrouble,
)
from web.mail.senders.smtp import MAIL_S_MAX, WORKERS
from web.mail.words import BadMail, Mail, MailAddress, address_digest

# A server that was away is left alone so long: ten thousand mails do not ask it one by one. They
# are put off as if they had asked.
LEFT_ALONE_S = 10.0
# All that a way out takes for a mail, with what is written before and behind.
SEND_S_MAX = MAIL_S_MAX + 15.0
# How often connections that nobody uses are looked for.
CLOSE_IDLE_S = 15.0

log = Log("web.mail")


@dataclass(slots=True)
class MailStatistics:
    """What a delivery has seen since it was made. `unknown` have left, and no answer came."""

    sent: int = 0
    deferred: int = 0
    refused: int = 0
    suppressed: int = 0
    expired: int = 0
    unknown: int = 0


class MailDelivery:
    """Sends one mail of the outbox, or says when to try again; see `send`."""

    def __init__(
        self,
        sender: Sender,
        address: MailAddress,
        states: MailStates,
        env: Environment,
        seal: MailSeal | None = None,
    ) -> None:
        self._seal = seal
        self._sender, self._address, self._states, self._env = sender, address, states, env
        self.statistics = MailStatistics()
        # What the way out fails with, until it works again.
        self.trouble: SenderTrouble | None = None
        self._left_alone_until = 0.0

    @property
    def sender(self) -> Sender:
        """Call this for the way out."""
        return self._sender

    async def send(self, entry: OutboxEntry) -> None:
        """Call this with a message of the outbox; returns when nothing is left to do with it.

        Raises `NotSent`, and `StoreUnavailable` and its kin.
        """
        mail = self._read(entry)
        ref = MailRef(entry.message_id, address_digest(mail.to), mail.template)
        if mail.expires_at is not None and mail.expires_at <= self._env.clock.now():
            await self._settle(ref, MailState.EXPIRED, "its time was over")
            return
        if not await self._may_go(ref, mail):
            await self._settle(ref, MailState.SUPPRESSED, "its address takes no mail")
            return
        if trio.current_time() < self._left_alone_until and self.trouble is not None:
            await self._put_off(ref, entry, self.trouble.code)
        try:
            data = bytes_of(
                mail,
                entry.message_id,
                self._address,
                self._env.clock.now(),
                correlation_id=entry.headers.get("correlation_id", ""),
            )
        except BadMail as error:
            await self._refuse(ref, f"its {error.field} cannot be written")
        outgoing = Outgoing(entry.message_id, mail, data, needs_utf8(mail, self._address))
        await self._hand_over(ref, entry, outgoing)

    async def _hand_over(self, ref: MailRef, entry: OutboxEntry, outgoing: Outgoing) -> None:
        has_begun = False

        async def before_leaving() -> bool:
            nonlocal has_begun
            # One that was given up and is handed back begins afresh.
            before = await self._states.begin(ref, anew=entry.attempts == 0)
            if 0 < before < LEFT_MAX:
                # It left in a process that died, or its answer was lost: it goes once more.
                self.statistics.unknown += 1
                current_tallies().add("mail_unknown_total")
                log.warning("mail.unknown", mail=str(ref.message_id), template=ref.template)
            has_begun = before < LEFT_MAX
            return has_begun

        try:
            with span("mail.send", template=outgoing.mail.template, attempt=entry.attempts + 1):
                answer = await self._sender.send(outgoing, before_leaving)
        except MayNotLeave:
            await self._refuse(ref, "two copies have left, and no answer came")
        except AnswerLost:
            self.trouble = None
            await self._states.settle(ref, MailState.UNKNOWN, "no answer at the end of the data")
            raise NotSent("no answer came", retry_in(entry.attempts + 1)) from None
        except SenderTrouble as error:
            self._note_trouble(error)
            await self._put_off(ref, entry, error.code, is_answered=has_begun)
        else:
            self.trouble = None
            await self._note_answer(ref, entry, answer, is_answered=has_begun)

    async def _note_answer(
        self, ref: MailRef, entry: OutboxEntry, answer: Answer, *, is_answered: bool
    ) -> None:
        match answer.verdict:
            case Verdict.SENT:
                await self._settle(ref, MailState.SENT, answer.reason, is_answered=is_answered)
            case Verdict.DEFERRED:
                await self._put_off(ref, entry, answer.reason, is_answered=is_answered)
            case Verdict.REFUSED:
                if answer.is_nobody:
                    await self._states.suppress(ref.recipient, answer.reason)
                await self._refuse(ref, answer.reason, is_answered=is_answered)

    async def _may_go(self, ref: MailRef, mail: Mail) -> bool:
        if await self._states.maybe_suppression(ref.recipient) is None:
            return True
        return mail.is_asked_for and await self._states.take_exception(ref.recipient)

    async def _put_off(
        self, ref: MailRef, entry: OutboxEntry, reason: str, *, is_answered: bool = False
    ) -> NoReturn:
        """Try again later, or give it up when it was tried often enough; raises `NotSent`."""
        again = retry_in(entry.attempts + 1)
        await self._settle(ref, MailState.DEFERRED, reason, is_answered=is_answered)
        raise NotSent(reason, again)

    async def _refuse(self, ref: MailRef, reason: str, *, is_answered: bool = False) -> NoReturn:
        """Give it up at once; raises `NotSent`."""
        await self._settle(ref, MailState.REFUSED, reason, is_answered=is_answered)
        raise NotSent(reason, None)

    async def _settle(
        self, ref: MailRef, state: MailState, reason: str, *, is_answered: bool = False
    ) -> None:
        counts = self.statistics
        current_tallies().add("mail_sent_total", state.value)
        setattr(counts, state.value, getattr(counts, state.value) + 1)
        await self._states.settle(ref, state, reason, is_answered=is_answered)
        mail, template = str(ref.message_id), ref.template
        log.info("mail.settled", mail=mail, template=template, state=state.value, reason=reason)

    def _note_trouble(self, error: SenderTrouble) -> None:
        if self.trouble is None or self.trouble.code != error.code:
            log.warning("mail.trouble", code=error.code, words=str(error))
        self.trouble = error
        self._left_alone_until = trio.current_time() + LEFT_ALONE_S

    def _read(self, entry: OutboxEntry) -> Mail:
        payload, key_id = entry.payload, entry.headers.get(SEALED)
        try:
            if key_id is not None:
                seal = self._seal
                if seal is None:
                    raise CannotOpen("this program has no key")
                payload = seal.open(key_id, entry.message_id, payload)
            return msgspec.json.decode(payload, type=Mail)
        except CannotOpen as error:
            raise NotSent(f"a sealed mail that cannot be opened: {error}", None) from None
        except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested without end
            raise NotSent("a message that is no mail", None) from None


class MailRelay(OutboxRelay):
    """The relay of the outbox's parts that have mails: one of each leaves at a time.

    A mail that was given up holds nobody up.
    """

    def __init__(
        self,
        outbox: Outbox,
        delivery: MailDelivery,
        env: Environment,
        dead_letters: DeadLetters,
        *,
        shard: ShardLease | None = None,
        sending: Callable[[Send], Send] = lambda send: send,
    ) -> None:
        super().__init__(
            outbox,
            sending(delivery.send),
            env,
            f"mail-{env.ids.new_id()}",
            dead_letters=dead_letters,
            skipping=(MAIL,),
            partitions=MAIL_PARTS,
            sends_max=WORKERS,
            send_s_max=SEND_S_MAX,
            shard=shard,
        )
        self._delivery = delivery

    async def on_start(self) -> None:
        """Begin to look, and to let go of connections that nobody uses."""
        await super().on_start()
        self.start_soon(self._close_idle)

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002  (the runtime's word)
        """Let the mails in flight end, then let the server go."""
        await super().on_stop(exit)
        await self._delivery.sender.close()

    async def _close_idle(self) -> None:
        while True:
            await trio.sleep(CLOSE_IDLE_S)
            await self._delivery.sender.close_idle()
