"""What becomes of a sign-in of some risk, by what was proven and what the account has: pure."""

from typing import assert_never

from actors.accounts.kept.risk.assessing import RiskCalculator
from actors.accounts.kept.risk.words import (
    Arrival,
    LoginContext,
    LoginHistory,
    Outcome,
    Proven,
    Required,
    RiskAssessment,
)


def assessed(
    calculator: RiskCalculator,
    arrival: Arrival,
    history: LoginHistory,
    *,
    is_breached: bool = False,
) -> RiskAssessment:
    """Call this for how much of a risk it is that somebody enters an account from there.

    `is_breached`: its address is known from a breach.
    """
    login = LoginContext(
        at=history.now,
        method=arrival.method,
        browser=arrival.browser,
        network=arrival.network,
        place=arrival.place,
        device=history.device,
        past=history.past,
        failures=history.failures,
        account_since=history.since,
        is_breached=is_breached,
    )
    return calculator.assess(login)


def outcome_of(
    required: Required, history: LoginHistory, proven: Proven, *, has_mail: bool
) -> Outcome:
    """Call this for what becomes of it. Without mail nobody can confirm by one.

    What needs a passkey of an account without one needs its mailbox: a link that was opened is
    that, and so is an attempt that was allowed by mail. Where no mail leaves the site it is as one
    of less risk, so that nobody is locked out; an attempt of the gravest kind is refused anyway.
    """
    match required:
        case Required.NOTHING:
            return Outcome.ENTERED
        case Required.SECOND_FACTOR:
            return _with_second(proven)
        case Required.PASSKEY:
            if proven.by_passkey:
                return Outcome.ENTERED
            if history.has_passkey:
                return Outcome.ASKED_PASSKEY
            is_confirmed = proven.by_mailbox or proven.is_allowed or not has_mail
            return _with_second(proven) if is_confirmed else Outcome.ASKED_MAIL
        case Required.ALLOWANCE:
            if not proven.is_allowed:
                return Outcome.REFUSED
            return outcome_of(Required.PASSKEY, history, proven, has_mail=has_mail)
    assert_never(required)


def _with_second(proven: Proven) -> Outcome:
    return Outcome.ENTERED if proven.by_second or proven.by_passkey else Outcome.LIMITED
