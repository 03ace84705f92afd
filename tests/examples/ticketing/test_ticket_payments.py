"""The money of a reservation: what the gateway says in any order, and that none of it is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from actors.persistence import OutboxMessage, Refusal, Reply
from actors.reducers import Environment
from actors.testing import FixedClock, FixedIds, given
from docs.examples.ticketing.payments import (
    Attempt,
    ClosePayment,
    Command,
    ConfirmPayment,
    GivenBack,
    Happened,
    NoteAuthorized,
    NoteCaptured,
    NoteDeclined,
    NoteRefunded,
    OpenPayment,
    Payment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentClosed,
    PaymentDeclined,
    PaymentOpened,
    Payments,
    PaymentTried,
    Refund,
    RefundDecided,
    RefundPaid,
    TryToPay,
    unpaid,
)
from tests.machines import machine_settings

NOW = FixedClock().now()
START = NOW + timedelta(days=20)
EXPIRES = NOW + timedelta(minutes=5)
OPENED = PaymentOpened("r", "ann", 9000, EXPIRES, NOW)
CARD = "Credit Card (****4242)"


def tried(*attempts: str) -> list[Happened]:
    return [OPENED, *(PaymentTried(one, CARD, NOW) for one in attempts)]


def captured(attempt: str, transaction: str = "t") -> PaymentCaptured:
    return PaymentCaptured(attempt, transaction, 9000, NOW)


def back(refund: str, cents: int, reason: str, attempt: str = "a") -> RefundDecided:
    return RefundDecided(refund, attempt, "t", cents, reason, NOW)


def asked(cents: int | None = None, *, refund: str = "k", by_admin: bool = False) -> Refund:
    return Refund(refund, "ill", START, cents, by_admin)


PAID = [*tried("a"), captured("a")]
CLOSED = PaymentClosed("expired", NOW)
OPEN = OpenPayment("r", "ann", 9000, EXPIRES)
CLOSE = ClosePayment("r", "expired")


@pytest.mark.parametrize(
    ("before", "command", "events"),
    [
        ([], OPEN, [OPENED]),
        ([OPENED], OPEN, []),
        ([OPENED], TryToPay("a", CARD), [PaymentTried("a", CARD, NOW)]),
        (tried("a"), NoteAuthorized("a"), [PaymentAuthorized("a")]),
        (tried("a"), NoteCaptured("a", "t"), [captured("a")]),
        (tried("a"), NoteDeclined("a", "no"), [PaymentDeclined("a", "no")]),
        # Said again, or in another order: the same end.
        ([*tried("a"), PaymentAuthorized("a")], NoteAuthorized("a"), []),
        ([*tried("a"), PaymentAuthorized("a")], NoteCaptured("a", "t"), [captured("a")]),
        (PAID, NoteCaptured("a", "t"), []),
        (PAID, NoteAuthorized("a"), []),
        (PAID, NoteDeclined("a", "no"), []),
        ([*tried("a"), PaymentDeclined("a", "no")], NoteAuthorized("a"), []),
        ([*tried("a"), PaymentDeclined("a", "no")], NoteCaptured("a", "t"), [captured("a")]),
        # A declined card can be followed by another one.
        (
            [*tried("a"), PaymentDeclined("a", "no")],
            TryToPay("b", CARD),
            [PaymentTried("b", CARD, NOW)],
        ),
        # What came too late, or twice, goes back at once.
        (
            [*tried("a"), CLOSED],
            NoteCaptured("a", "t"),
            [captured("a"), back("late a", 9000, "the reservation was over")],
        ),
        (
            [
                *tried("a"),
                PaymentDeclined("a", "no"),
                PaymentTried("b", CARD, NOW),
                captured("b", "u"),
            ],
            NoteCaptured("a", "t"),
            [captured("a"), back("late a", 9000, "it was paid already")],
        ),
        # Closed before, while and after the money came; and once.
        ([], CLOSE, [CLOSED]),
        ([OPENED], CLOSE, [CLOSED]),
        (PAID, CLOSE, [CLOSED, back("closed", 9000, "expired")]),
        ([*PAID, back("asked k", 4000, "ill")], CLOSE, [CLOSED, back("closed", 5000, "expired")]),
        ([*PAID, CLOSED, back("closed", 9000, "expired")], CLOSE, []),
        # All of it, a part, the rest; each once, whoever asks again.
        (PAID, asked(), [back("asked k", 9000, "ill")]),
        (PAID, asked(1), [back("asked k", 1, "ill")]),
        ([*PAID, back("asked j", 8999, "ill")], asked(1), [back("asked k", 1, "ill")]),
        ([*PAID, back("asked j", 8999, "ill")], asked(), [back("asked k", 1, "ill")]),
        ([*PAID, back("asked k", 9000, "ill")], NoteRefunded("asked k"), [RefundPaid("asked k")]),
        ([*PAID, back("asked k", 9, "ill"), RefundPaid("asked k")], NoteRefunded("asked k"), []),
        (PAID, NoteRefunded("asked z"), []),
        (PAID, ConfirmPayment("r"), []),
    ],
)
def test_what_a_payment_does(
    before: list[Happened], command: Command, events: list[Happened]
) -> None:  # EX-42, EX-44, EX-49
    given(Payments(), *before).when(command).then(*events)


THREE = [
    *tried("a", "b", "c"),
    *(PaymentDeclined(one, "no") for one in "abc"),
]


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        ([], TryToPay("a", CARD), "unknown"),
        ([], NoteCaptured("a", "t"), "unknown"),
        ([OPENED], NoteCaptured("a", "t"), "unknown"),
        ([], replace(OPEN, cents=0), "invalid"),
        ([CLOSED], OPEN, "over"),
        ([OPENED, CLOSED], TryToPay("a", CARD), "over"),
        (tried("a"), TryToPay("b", CARD), "over"),
        ([*tried("a"), PaymentAuthorized("a")], TryToPay("b", CARD), "over"),
        (PAID, TryToPay("b", CARD), "over"),
        (THREE, TryToPay("d", CARD), "over"),
        ([OPENED], ConfirmPayment("r"), "over"),
        (THREE, ConfirmPayment("r"), "over"),
        ([*PAID, CLOSED], ConfirmPayment("r"), "over"),
        ([*PAID, back("asked k", 9000, "ill")], ConfirmPayment("r"), "over"),
        # Only captured money, no more than there is, and for a reason.
        ([OPENED], asked(), "invalid"),
        (tried("a"), asked(), "invalid"),
        ([*PAID, back("asked j", 9000, "ill")], asked(), "invalid"),
        (PAID, asked(9001), "invalid"),
        ([*PAID, back("asked j", 1, "ill")], asked(9000), "invalid"),
        (PAID, asked(0), "invalid"),
        (PAID, asked(-1), "invalid"),
        (PAID, replace(asked(), reason=" "), "invalid"),
        (PAID, replace(asked(), reason="x" * 501), "invalid"),
        ([*PAID, CLOSED, back("closed", 9000, "expired")], asked(by_admin=True), "invalid"),
    ],
)
def test_what_a_payment_refuses(before: list[Happened], command: Command, code: str) -> None:
    # EX-42, EX-44
    given(Payments(), *before).when(command).then_refused(code)


def test_a_payment_that_expires_is_tried_before_and_not_then() -> None:  # EX-42
    case = given(Payments(), OPENED)
    just_before = EXPIRES - timedelta(microseconds=1)
    env = Environment(FixedClock(just_before), FixedIds())
    case.with_env(env).when(TryToPay("a", CARD)).then(PaymentTried("a", CARD, just_before))
    env = Environment(FixedClock(EXPIRES), FixedIds())
    case.with_env(env).when(TryToPay("a", CARD)).then_refused("over")


def test_a_customer_has_money_back_until_a_week_before_and_an_admin_always() -> None:  # EX-44
    border = START - timedelta(days=7)
    for now, is_late in ((border, False), (border + timedelta(microseconds=1), True)):
        env = Environment(FixedClock(now), FixedIds())
        case = given(Payments(), *PAID).with_env(env)
        if is_late:
            case.when(asked()).then_refused("invalid")
        else:
            case.when(asked()).then(replace(back("asked k", 9000, "ill"), at=now))
        case.when(asked(by_admin=True)).then(replace(back("asked k", 9000, "ill"), at=now))


def test_what_comes_again_is_answered_as_before() -> None:  # EX-44, EX-49
    given(Payments(), *PAID).when(TryToPay("a", CARD)).then_reply(
        Attempt(CARD, "Captured", "", "t")
    )
    given(Payments(), *PAID, back("asked k", 5, "ill")).when(asked(7)).then_reply(
        GivenBack("a", "t", 5, "ill")
    )


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], "Pending"),
        (tried("a"), "Pending"),
        ([*tried("a"), PaymentAuthorized("a")], "Authorized"),
        (PAID, "Captured"),
        ([*PAID, back("asked k", 1, "ill")], "Captured"),
        ([*PAID, back("asked k", 9000, "ill")], "Refunded"),
        ([*tried("a"), PaymentDeclined("a", "no")], "Pending"),
        (THREE, "Failed"),
        ([OPENED, CLOSED], "Failed"),
        ([*tried("a"), CLOSED, captured("a"), back("late a", 9000, "over")], "Refunded"),
    ],
)
def test_the_status_of_a_payment(events: list[Happened], status: str) -> None:  # EX-44
    state = Payment()
    for one in events:
        state = Payments().apply(state, one)
    assert state.status == status


@pytest.mark.parametrize(
    ("before", "command", "targets"),
    [
        (tried("a"), NoteCaptured("a", "t"), ["settled"]),
        (tried("a"), CLOSE, ["attempt_ends"]),
        ([*tried("a"), PaymentAuthorized("a")], CLOSE, ["attempt_ends"]),
        ([OPENED], CLOSE, []),
        ([], CLOSE, []),
        (PAID, CLOSE, ["money_back"]),
        (PAID, asked(1), ["money_back"]),
        (PAID, asked(), ["money_back", "paid_back"]),
        ([*PAID, back("asked j", 8999, "ill")], asked(1), ["money_back", "paid_back"]),
        ([*tried("a"), CLOSED], NoteCaptured("a", "t"), ["money_back"]),
        ([*tried("a"), PaymentDeclined("a", "no")], TryToPay("b", CARD), []),
        (THREE[:-1], NoteDeclined("c", "no"), ["settled"]),
    ],
)
def test_who_is_told_in_the_append_of_a_decision(
    before: list[Happened], command: Command, targets: list[str]
) -> None:  # EX-42, EX-44
    case = given(Payments(), *before).when(command)
    case.then_effects(lambda sent: [_target(one) for one in sent] == targets)


def _target(sent: object) -> str:
    assert isinstance(sent, OutboxMessage)
    return sent.target


_ATTEMPTS = st.sampled_from(["a", "b", "c", "d"])


class MoneyMachine(RuleBasedStateMachine):
    """Attempts, words of the gateway, refunds and the end, in any order and as often as may be."""

    payments = Payments()

    def __init__(self) -> None:
        super().__init__()
        self.clock = FixedClock()
        self.env = Environment(self.clock, FixedIds())
        self.events: list[Happened] = []
        self.state = self.payments.initial()
        self.came: set[str] = set()
        self._decide(OPEN)

    @rule(attempt=_ATTEMPTS)
    def tries(self, attempt: str) -> None:
        self._decide(TryToPay(attempt, CARD))

    @rule(attempt=_ATTEMPTS)
    def authorized(self, attempt: str) -> None:
        self._decide(NoteAuthorized(attempt))

    @rule(attempt=_ATTEMPTS)
    def declined(self, attempt: str) -> None:
        self._decide(NoteDeclined(attempt, "no"))

    @rule(attempt=_ATTEMPTS, transaction=st.sampled_from(["t", "u"]))
    def is_captured(self, attempt: str, transaction: str) -> None:
        # What was never tried has moved no money.
        if attempt in self.state.attempts:
            self.came.add(attempt)
            self._decide(NoteCaptured(attempt, transaction))

    @rule(refund=st.sampled_from("klm"), cents=st.one_of(st.none(), st.integers(-1, 9001)))
    def refunds(self, refund: str, cents: int | None) -> None:
        self._decide(asked(cents, refund=refund))

    @rule()
    def gateway_pays_back(self) -> None:
        for refund in unpaid(self.state):
            self._decide(NoteRefunded(refund))
        assert not unpaid(self.state)

    @rule()
    def closes(self) -> None:
        self._decide(CLOSE)

    @rule()
    def expires(self) -> None:
        self.clock.advance(timedelta(minutes=5))

    @rule()
    def crash(self) -> None:
        state = self.payments.initial()
        for one in self.events:
            state = self.payments.apply(state, one)
        assert state == self.state

    @invariant()
    def no_money_is_lost_and_none_is_made(self) -> None:
        state = self.state
        assert state.money_in == 9000 * len(self.came)
        assert state.money_in == state.money_kept + state.money_back
        assert 0 <= state.money_kept <= 9000
        assert not (state.is_closed and state.money_kept)
        assert len(state.attempts) <= 3

    @invariant()
    def what_is_confirmed_is_paid(self) -> None:
        answer = self.payments.decide(self.state, ConfirmPayment("r"), self.env)
        is_paid = self.state.money_kept > 0 and not self.state.is_closed
        assert isinstance(answer, Refusal) != is_paid

    def _decide(self, command: Command) -> None:
        found = self.payments.decide(self.state, command, self.env)
        if not isinstance(found, Refusal | Reply):
            for one in found:
                self.events.append(one)
                self.state = self.payments.apply(self.state, one)


def test_money_in_is_money_kept_and_money_back_whatever_comes() -> None:  # EX-42, EX-44, EX-49
    run_state_machine_as_test(MoneyMachine, settings=machine_settings(40, steps=20))


class KeepsLateMoney(Payments):
    """Money that comes when all is over is kept."""

    def decide(
        self, state: Payment, command: Command, env: Environment
    ) -> list[Happened] | Reply | Refusal:
        found = super().decide(state, command, env)
        if isinstance(found, Reply | Refusal):
            return found
        return [
            one
            for one in found
            if not (isinstance(one, RefundDecided) and one.refund.startswith("late"))
        ]


def test_a_payment_that_keeps_late_money_is_found() -> None:  # EX-42
    class Machine(MoneyMachine):
        payments = KeepsLateMoney()

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=machine_settings(40, steps=20, is_planted=True))
