"""The money of one reservation: attempts to take it, and what goes back. Pure.

Rule 1: money in = money kept + money back, always.
Rule 2: what the gateway says is true, in whatever order and however often it is said. Money that
came for a payment that was closed meanwhile, or a second time, goes back at once.
Rule 3: a payment that is closed keeps nothing, whether it is closed before, while or after the
money comes. So a payment that races the expiry ends in tickets or in money back.

What goes back is first decided, then told to the gateway as often as it takes, by its own id; it
leaves with the append of the decision, and so does the word that a payment has come to its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, assert_never
from uuid import NAMESPACE_OID, uuid5

import msgspec

from actors.persistence import Aggregate, Beside, Decision, OutboxMessage, Refusal, Reply, event
from actors.reducers import Environment
from actors.sagas import command
from docs.examples.ticketing.amounts import amount_of

ATTEMPTS_MAX = 3
REASON_CHARS_MAX = 500
# Until then a customer can have money back; who runs the event always.
REFUND_BEFORE = timedelta(days=7)

# By the outbox the gateway is told of money that goes back, the reservation that no more comes.
MONEY_BACK, SETTLED = "money_back", "settled"
# All of the money went back while the reservation stood: it is over, and its seats are free.
PAID_BACK = "paid_back"
# Of a payment that is closed while an attempt is under way: who made it may have died meanwhile,
# and nobody else would ever ask the gateway whether there was money.
ATTEMPT_ENDS = "attempt_ends"

# Which kind of no it is: 404, 409, 400.
UNKNOWN, OVER, INVALID = "unknown", "over", "invalid"

AttemptStatus = Literal["Pending", "Authorized", "Captured", "Failed"]
PaymentStatus = Literal["Pending", "Authorized", "Captured", "Failed", "Refunded"]


@command("payments")
@dataclass(frozen=True)
class OpenPayment:
    """Money may be taken for a reservation from now on, until it expires."""

    reservation: str
    customer: str
    cents: int
    expires_at: datetime


@command("payments")
@dataclass(frozen=True)
class ClosePayment:
    """No money is taken any more, and what was taken goes back."""

    reservation: str
    reason: str


@command("payments")
@dataclass(frozen=True)
class ConfirmPayment:
    """Asks whether the money is there: what a saga believes before it gives out tickets."""

    reservation: str


@dataclass(frozen=True)
class TryToPay:
    """`attempt` is the request's own key: one that comes again is the same attempt."""

    attempt: str
    method: str  # as it may be shown: Credit Card (****4242)


# What the gateway says of an attempt, by answer or by web hook.


@dataclass(frozen=True)
class NoteAuthorized:
    attempt: str


@dataclass(frozen=True)
class NoteCaptured:
    attempt: str
    transaction: str


@dataclass(frozen=True)
class NoteDeclined:
    attempt: str
    reason: str


@dataclass(frozen=True)
class Refund:
    """Part of the money, or all that is left of it where `cents` is None."""

    refund: str
    reason: str
    starts_at: datetime  # of the event, as it is planned now
    cents: int | None = None
    by_admin: bool = False


@dataclass(frozen=True)
class NoteRefunded:
    """The gateway has given it back."""

    refund: str


@event(name="Ticketing.PaymentOpened")
@dataclass(frozen=True)
class PaymentOpened:
    reservation: str
    customer: str
    cents: int
    expires_at: datetime
    at: datetime


@event(name="Ticketing.PaymentTried")
@dataclass(frozen=True)
class PaymentTried:
    attempt: str
    method: str
    at: datetime


@event(name="Ticketing.PaymentAuthorized")
@dataclass(frozen=True)
class PaymentAuthorized:
    attempt: str


@event(name="Ticketing.PaymentCaptured")
@dataclass(frozen=True)
class PaymentCaptured:
    attempt: str
    transaction: str
    cents: int
    at: datetime


@event(name="Ticketing.PaymentDeclined")
@dataclass(frozen=True)
class PaymentDeclined:
    attempt: str
    reason: str


@event(name="Ticketing.RefundDecided")
@dataclass(frozen=True)
class RefundDecided:
    refund: str
    attempt: str
    transaction: str
    cents: int
    reason: str
    at: datetime


@event(name="Ticketing.RefundPaid")
@dataclass(frozen=True)
class RefundPaid:
    refund: str


@event(name="Ticketing.PaymentClosed")
@dataclass(frozen=True)
class PaymentClosed:
    reason: str
    at: datetime


Asked = OpenPayment | ClosePayment | ConfirmPayment | TryToPay | Refund
Noted = NoteAuthorized | NoteCaptured | NoteDeclined | NoteRefunded
Command = Asked | Noted
Attempted = PaymentTried | PaymentAuthorized | PaymentCaptured | PaymentDeclined
Happened = PaymentOpened | Attempted | RefundDecided | RefundPaid | PaymentClosed


@dataclass(frozen=True)
class RefundOrder:
    """What the gateway is told; `refund` is its name, and the same one is paid once."""

    reservation: str
    refund: str
    transaction: str
    cents: int


@dataclass(frozen=True)
class EndOrder:
    """Which attempt the gateway is to make an end to."""

    reservation: str
    attempt: str


@dataclass(frozen=True)
class Attempt:
    method: str
    status: AttemptStatus = "Pending"
    reason: str = ""
    transaction: str = ""
    at: datetime | None = field(default=None, compare=False)
    captured_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True)
class GivenBack:
    attempt: str
    transaction: str
    cents: int
    reason: str
    is_paid: bool = False


@dataclass(frozen=True)
class Payment:
    """A payment as its events have left it. `kept` is the attempt whose money pays for tickets."""

    opened: PaymentOpened | None = None
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    refunds: Mapping[str, GivenBack] = field(default_factory=dict)
    money_in: int = 0
    kept: str = ""
    is_closed: bool = False

    @property
    def money_back(self) -> int:
        return sum(one.cents for one in self.refunds.values())

    @property
    def money_kept(self) -> int:
        """What of the money that pays for tickets was not given back."""
        if not self.kept or self.opened is None:
            return 0
        back = sum(one.cents for one in self.refunds.values() if one.attempt == self.kept)
        return self.opened.cents - back

    @property
    def declined_count(self) -> int:
        return sum(one.status == "Failed" for one in self.attempts.values())

    @property
    def is_exhausted(self) -> bool:
        """All attempts were declined."""
        return not self.kept and self.declined_count >= ATTEMPTS_MAX

    @property
    def is_settled(self) -> bool:
        """There is money that pays for tickets, or nothing more is tried."""
        return bool(self.kept) or self.is_exhausted

    @property
    def status(self) -> PaymentStatus:
        if self.kept:
            return "Captured" if self.money_kept else "Refunded"
        if self.money_in:
            return "Refunded"
        is_authorized = any(one.status == "Authorized" for one in self.attempts.values())
        if is_authorized and not self.is_closed:
            return "Authorized"
        return "Failed" if self.is_closed or self.is_exhausted else "Pending"


class Payments(Aggregate[Payment, Command, Happened]):
    category, state_type = "payment", Payment

    def initial(self) -> Payment:
        return Payment()

    def decide(self, state: Payment, command: Command, env: Environment) -> Decision[Happened]:
        now = env.clock.now().astimezone(UTC)
        match command:
            case OpenPayment():
                return _open(state, command, now)
            case ClosePayment():
                return _close(state, command.reason, now)
            case _ if state.opened is None:
                return Refusal(UNKNOWN, "There is no such payment.")
            case ConfirmPayment():
                return _confirm(state)
            case TryToPay():
                return _try(state, state.opened, command, now)
            case Refund():
                return _refund(state, command, now)
            case NoteRefunded(refund):
                known = state.refunds.get(refund)
                return [] if known is None or known.is_paid else [RefundPaid(refund)]
            case NoteAuthorized() | NoteCaptured() | NoteDeclined():
                return _note(state, state.opened, command, now)
        assert_never(command)

    def apply(self, state: Payment, event: Happened) -> Payment:
        match event:
            case PaymentOpened():
                return replace(state, opened=event)
            case PaymentTried(attempt, method, at):
                return _with(state, attempt, Attempt(method, at=at))
            case PaymentAuthorized(attempt):
                return _with(state, attempt, replace(state.attempts[attempt], status="Authorized"))
            case PaymentDeclined(attempt, reason):
                failed = replace(state.attempts[attempt], status="Failed", reason=reason)
                return _with(state, attempt, failed)
            case PaymentCaptured(attempt, transaction, cents, at):
                got = replace(
                    state.attempts[attempt],
                    status="Captured",
                    reason="",
                    transaction=transaction,
                    captured_at=at,
                )
                is_kept = not state.kept and not state.is_closed
                after = replace(state, money_in=state.money_in + cents)
                return _with(replace(after, kept=attempt) if is_kept else after, attempt, got)
            case RefundDecided(refund, attempt, transaction, cents, reason):
                back = GivenBack(attempt, transaction, cents, reason)
                return replace(state, refunds={**state.refunds, refund: back})
            case RefundPaid(refund):
                paid = replace(state.refunds[refund], is_paid=True)
                return replace(state, refunds={**state.refunds, refund: paid})
            case PaymentClosed():
                return replace(state, is_closed=True)
        assert_never(event)

    def beside(
        self, before: Payment, events: Sequence[Happened], metadata: Mapping[str, str]
    ) -> Beside:
        if before.opened is None:
            return Beside()
        name, after = before.opened.reservation, before
        for one in events:
            after = self.apply(after, one)
        told = [_order(name, one, metadata) for one in events if isinstance(one, RefundDecided)]
        if after.is_closed and not before.is_closed:
            told.extend(_end(name, one, metadata) for one in open_attempts(after))
        elif before.money_kept and not after.money_kept:
            told.append(_message(PAID_BACK, name, name.encode(), metadata))
        if after.is_settled and not before.is_settled:
            told.append(_message(SETTLED, name, name.encode(), metadata))
        return Beside(told)


def _order(reservation: str, decided: RefundDecided, headers: Mapping[str, str]) -> OutboxMessage:
    order = RefundOrder(reservation, decided.refund, decided.transaction, decided.cents)
    return _message(
        MONEY_BACK, f"{reservation} {decided.refund}", msgspec.json.encode(order), headers
    )


def _end(reservation: str, attempt: str, headers: Mapping[str, str]) -> OutboxMessage:
    order = EndOrder(reservation, attempt)
    return _message(ATTEMPT_ENDS, f"{reservation} {attempt}", msgspec.json.encode(order), headers)


def _message(target: str, name: str, payload: bytes, headers: Mapping[str, str]) -> OutboxMessage:
    """One of this name there is once, in order with no other: a refund waits for nothing."""
    key = f"{target} {name}"
    return OutboxMessage(uuid5(NAMESPACE_OID, key), "command", target, key, payload, headers)


def _with(state: Payment, name: str, attempt: Attempt) -> Payment:
    return replace(state, attempts={**state.attempts, name: attempt})


def _open(state: Payment, command: OpenPayment, now: datetime) -> Decision[PaymentOpened]:
    if state.is_closed:
        return Refusal(OVER, "The reservation is over.")
    if state.opened is not None:
        return []
    if command.cents <= 0:
        return Refusal(INVALID, "An amount is more than nothing.")
    return [
        PaymentOpened(command.reservation, command.customer, command.cents, command.expires_at, now)
    ]


def _close(state: Payment, reason: str, now: datetime) -> Decision[Happened]:
    if state.is_closed:
        return []
    closed: list[Happened] = [PaymentClosed(reason, now)]
    if left := state.money_kept:
        closed.append(_back(state, "closed", left, reason, now))
    return closed


def _back(state: Payment, refund: str, cents: int, reason: str, now: datetime) -> RefundDecided:
    """Of the money that pays for the tickets."""
    transaction = state.attempts[state.kept].transaction
    return RefundDecided(refund, state.kept, transaction, cents, reason, now)


def _confirm(state: Payment) -> Decision[Happened]:
    if state.is_closed:
        return Refusal(OVER, "The reservation is over.")
    if not state.kept:
        why = "every card was declined" if state.is_exhausted else "no money came"
        return Refusal(OVER, f"It is not paid: {why}.")
    if not state.money_kept:
        return Refusal(OVER, "All of the money was given back.")
    return []


def _try(
    state: Payment, opened: PaymentOpened, command: TryToPay, now: datetime
) -> Decision[PaymentTried]:
    if command.attempt in state.attempts:
        return Reply(state.attempts[command.attempt])
    if state.kept:
        return Refusal(OVER, "It is paid already.")
    if state.is_closed or now >= opened.expires_at:
        return Refusal(OVER, "The reservation has expired.")
    if open_attempts(state):
        return Refusal(OVER, "Another attempt to pay is under way.")
    if len(state.attempts) >= ATTEMPTS_MAX:
        return Refusal(OVER, f"It was tried {ATTEMPTS_MAX} times; reserve again.")
    return [PaymentTried(command.attempt, command.method, now)]


def _note(
    state: Payment,
    opened: PaymentOpened,
    note: NoteAuthorized | NoteCaptured | NoteDeclined,
    now: datetime,
) -> Decision[Happened]:
    """What is said of an attempt later, or again, changes nothing that is further on."""
    attempt = state.attempts.get(note.attempt)
    if attempt is None:
        return Refusal(UNKNOWN, "There was no such attempt to pay.")
    match note:
        case NoteAuthorized(name):
            return [PaymentAuthorized(name)] if attempt.status == "Pending" else []
        case NoteDeclined(name, reason):
            is_open = attempt.status in ("Pending", "Authorized")
            return [PaymentDeclined(name, reason)] if is_open else []
        case NoteCaptured() if attempt.status == "Captured":
            return []
        case NoteCaptured(name, transaction):
            came: list[Happened] = [PaymentCaptured(name, transaction, opened.cents, now)]
            if state.is_closed or state.kept:
                why = "it was paid already" if state.kept else "the reservation was over"
                # Of each attempt once; the customer's own refunds have other names.
                came.append(
                    RefundDecided(f"late {name}", name, transaction, opened.cents, why, now)
                )
            return came
    assert_never(note)


def _refund(state: Payment, command: Refund, now: datetime) -> Decision[RefundDecided]:
    refund = asked_name(command)
    if refund in state.refunds:
        return Reply(state.refunds[refund])
    left = state.money_kept
    wrong = _wrong_refund(command, left, now)
    if wrong is not None:
        return Refusal(INVALID, wrong)
    cents = left if command.cents is None else command.cents
    return [_back(state, refund, cents, command.reason, now)]


def asked_name(command: Refund) -> str:
    """Call this for the name of a refund that somebody asked for: no other refund has it."""
    return f"asked {command.refund}"


def _wrong_refund(command: Refund, left: int, now: datetime) -> str | None:
    if not command.reason.strip() or len(command.reason) > REASON_CHARS_MAX:
        return f"A refund has a reason of 1 to {REASON_CHARS_MAX} characters."
    if not left:
        return "There is no captured money that could be given back."
    if command.cents is not None and command.cents <= 0:
        return "An amount is more than nothing."
    if command.cents is not None and command.cents > left:
        return f"At most {amount_of(left)} can be given back."
    if not command.by_admin and command.starts_at - now < REFUND_BEFORE:
        return f"Money is given back until {REFUND_BEFORE.days} days before the event."
    return None


def open_attempts(state: Payment) -> Sequence[str]:
    """Call this for the attempts of which the gateway has not said what became of them."""
    under_way = ("Pending", "Authorized")
    return [name for name, one in state.attempts.items() if one.status in under_way]


def unpaid(state: Payment) -> Sequence[str]:
    """Call this for the refunds that the gateway was not heard to have paid."""
    return [name for name, one in state.refunds.items() if not one.is_paid]
