"""The risk of sign-ins: each row of the table, each border, what follows; and histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

import pytest

from actors.accounts.kept.devices.words import Trust
from actors.accounts.kept.risk.assessing import WeighedRisk, is_too_fast, level_of
from actors.accounts.kept.risk.breached import parse_breached
from actors.accounts.kept.risk.deciding import outcome_of
from actors.accounts.kept.risk.rules import (
    WEIGHT_NAMES,
    WEIGHTS,
    RiskRules,
    parse_levels,
    parse_weights,
)
from actors.accounts.kept.risk.words import (
    KnownDevice,
    LoginContext,
    LoginHistory,
    Outcome,
    PastLogin,
    Place,
    Proven,
    Required,
    RiskLevel,
)
from actors.persistence.errors import InvalidField

NOW = datetime(2025, 3, 4, 12, 0, tzinfo=UTC)
AMSTERDAM, MADRID, HAARLEM = (52.37, 4.90), (40.42, -3.70), (52.38, 4.64)
NL, ES = Place("NL", *AMSTERDAM), Place("ES", *MADRID)
HOME, AWAY = b"h" * 32, b"a" * 32
KNOWN = KnownDevice(Trust.RECOGNIZED, "Firefox on Linux")


def past(ago: timedelta = timedelta(days=1), place: Place = NL) -> PastLogin:
    return PastLogin(NOW - ago, HOME, place.country, place.latitude, place.longitude)


# A day after the last sign-in, on a known device, at home.
USUAL = LoginContext(
    at=NOW,
    method="password",
    browser="Firefox on Linux",
    network=HOME,
    place=NL,
    device=KNOWN,
    past=[past()],
    failures=0,
    account_since=NOW - timedelta(days=400),
)


def of_trust(trust: Trust) -> LoginContext:
    return replace(USUAL, device=replace(KNOWN, trust=trust))


_BASE = ("password", 0.15)
ROWS: list[tuple[LoginContext, str, float]] = [
    (replace(USUAL, method="passkey"), "passkey", 0.05),
    (replace(USUAL, method="magic_link"), "link", 0.10),
    (replace(USUAL, method="oauth_google"), "link", 0.10),
    (USUAL, "password", 0.15),
    (replace(USUAL, device=None), "device_new", 0.20),
    (of_trust(Trust.FAMILIAR), "device_familiar", -0.05),
    (of_trust(Trust.TRUSTED), "device_trusted", -0.10),
    (of_trust(Trust.HIGHLY_TRUSTED), "device_highly_trusted", -0.15),
    (replace(USUAL, network=AWAY), "network_new", 0.05),
    (replace(USUAL, place=Place("BE", *HAARLEM)), "country_new", 0.15),
    (
        replace(USUAL, place=Place("NL", *MADRID), past=[past(timedelta(hours=1)), past()]),
        "travel",
        0.40,
    ),
    (replace(USUAL, place=replace(NL, is_anonymizer=True)), "anonymizer", 0.25),
    (replace(USUAL, place=replace(NL, is_bad=True)), "bad_address", 0.40),
    (replace(USUAL, browser="Safari on iPhone"), "browser_changed", 0.10),
    (replace(USUAL, failures=3), "failure", 0.05),
    (replace(USUAL, failures=5), "failure", 0.15),
    (replace(USUAL, failures=50), "failure", 0.25),
    (replace(USUAL, past=[past(timedelta(hours=27))]), "hour_new", 0.05),
    (replace(USUAL, past=[past(timedelta(days=91))]), "long_away", 0.10),
    (replace(USUAL, account_since=NOW - timedelta(hours=23)), "account_young", 0.05),
    (replace(USUAL, is_breached=True), "breached", 0.15),
]


def test_a_list_of_breaches_is_addresses_or_their_digests() -> None:
    # AUTH-30, AUTH-31: in small letters; a broken line is named by its number only
    digest = sha256(b"bob@example.org").hexdigest().upper()
    broken = ["no address", "abc123", f"{'x' * 300}@example.org", "e\0ve@example.org"]
    found = parse_breached(["# a list", "", " Ada@Example.org \n", digest, *broken])
    assert (found.lines_count, found.broken_count) == (6, 4)
    assert found.problems[0] == "line 5: neither an address nor its SHA-256"
    for email in ("ada@example.org", "ADA@example.org ", "bob@example.org"):
        assert found.has(email), email
    for email in ("eve@example.org", "", "ada@example.org.evil.example", "\ud800"):
        assert not found.has(email), email
    assert not parse_breached([]).has("")
    assert "ada" not in repr(found)


@pytest.mark.parametrize(("login", "name", "weight"), ROWS, ids=[row[1] for row in ROWS])
def test_each_signal_weighs_what_the_table_says(
    login: LoginContext, name: str, weight: float
) -> None:
    # AUTH-30
    found = WeighedRisk().assess(login)
    factors = {one.name: one.weight for one in found.factors}
    base = {"passkey", "link", "password"} & set(factors)
    assert factors.keys() == base | {name}
    assert factors[name] == pytest.approx(weight)
    assert found.score == max(0.0, round(sum(factors.values()), 2))


def test_every_signal_has_a_row() -> None:
    # AUTH-30
    assert {name for _, name, _ in ROWS} == set(WEIGHT_NAMES)


def test_what_is_not_known_adds_nothing() -> None:
    # AUTH-30, AUTH-31: a first sign-in, without a table, without failures
    first = replace(USUAL, past=[], device=None, place=Place(), network=HOME, account_since=NOW)
    assert WeighedRisk().assess(first).in_words == "password +0.15, account_young +0.05"
    # Without a table of addresses nothing is said of places.
    there = replace(USUAL, past=[past(place=Place())], place=Place())
    assert WeighedRisk().assess(there).in_words == "password +0.15"
    # With one that has no degrees nothing of ways.
    coarse = replace(USUAL, place=Place("NL"))
    assert not is_too_fast(coarse)
    # None of networks where no earlier one is known.
    assert WeighedRisk().assess(replace(USUAL, network=None)).score == 0.15


def test_the_borders() -> None:
    # AUTH-30, SEC-80
    rules = RiskRules()
    for score, level in (
        (0.0, RiskLevel.LOW), (0.29, RiskLevel.LOW), (0.30, RiskLevel.MEDIUM),
        (0.59, RiskLevel.MEDIUM), (0.60, RiskLevel.HIGH), (0.79, RiskLevel.HIGH),
        (0.80, RiskLevel.CRITICAL), (1.0, RiskLevel.CRITICAL),
    ):  # fmt: skip
        assert level_of(score, rules) is level, score
    # Sums of floats that miss a border by a hair are on it.
    thirty = replace(USUAL, device=None, method="magic_link")
    assert WeighedRisk().assess(thirty).level is RiskLevel.MEDIUM
    worst = replace(
        USUAL, device=None, network=AWAY, failures=9,
        place=Place("ES", *MADRID, is_anonymizer=True, is_bad=True),
        past=[past(timedelta(minutes=15))],
    )  # fmt: skip
    assert (WeighedRisk().assess(worst).score, WeighedRisk().assess(worst).level) == (
        1.0, RiskLevel.CRITICAL,
    )  # fmt: skip
    best = replace(of_trust(Trust.HIGHLY_TRUSTED), method="passkey")
    assert WeighedRisk().assess(best).score == 0.0


def test_nobody_flies_faster_than_a_plane() -> None:
    # AUTH-30: Amsterdam to Madrid are some 1,480 km
    for hours, is_fast in ((1.6, True), (1.7, False), (0.0, True), (-1.0, True)):
        trip = replace(USUAL, place=ES, past=[past(timedelta(hours=hours))])
        assert is_too_fast(trip) is is_fast, hours
    near = replace(USUAL, place=Place("NL", *HAARLEM), past=[past(timedelta(0))])
    assert not is_too_fast(near), "a coarse table says so of one town"
    # The last one of which a place is known counts.
    unknown = past(timedelta(minutes=5), Place())
    assert is_too_fast(replace(USUAL, place=ES, past=[unknown, past(timedelta(hours=1))]))


def test_every_weight_and_border_is_set_by_an_operator() -> None:
    # AUTH-30
    weights = parse_weights(" device_new = 0.5 , travel=-0.1,")
    assert (weights.device_new, weights.travel) == (0.5, -0.1)
    assert replace(weights, device_new=0.2, travel=0.4) == WEIGHTS
    assert parse_weights("") == WEIGHTS
    rules = RiskRules(weights, *parse_levels("0.1,0.2, 0.9"))
    assert WeighedRisk(rules).assess(replace(USUAL, device=None)).level is RiskLevel.HIGH
    for text in ("device", "device_old=1", "travel=2", "travel=-2", "travel=nan", "travel=much"):
        with pytest.raises(InvalidField):
            parse_weights(text)
    for text in ("", "0.3", "0.3,0.6", "0.6,0.3,0.8", "0.1,0.2,1.1", "a,b,c", "0.1,0.2,nan"):
        with pytest.raises(InvalidField):
            parse_levels(text)


_NOBODY = LoginHistory(UUID(int=1), "ada", "ada@example.org", NOW, NOW, False, False, None, (), 0)
_WITH_KEY = replace(_NOBODY, has_second=True, has_passkey=True)
_WITH_APP = replace(_NOBODY, has_second=True)
_PLAIN, _SECOND = Proven(), Proven(by_second=True)
_KEY, _MAILBOX, _ALLOWED = Proven(by_passkey=True), Proven(by_mailbox=True), Proven(is_allowed=True)
R, O = Required, Outcome  # noqa: E741 - of this table


@pytest.mark.parametrize(
    ("required", "history", "proven", "outcome", "without_mail"),
    [
        (R.NOTHING, _NOBODY, _PLAIN, O.ENTERED, O.ENTERED),
        (R.SECOND_FACTOR, _NOBODY, _PLAIN, O.LIMITED, O.LIMITED),
        (R.SECOND_FACTOR, _NOBODY, _MAILBOX, O.LIMITED, O.LIMITED),
        (R.SECOND_FACTOR, _WITH_APP, _SECOND, O.ENTERED, O.ENTERED),
        (R.SECOND_FACTOR, _WITH_KEY, _KEY, O.ENTERED, O.ENTERED),
        (R.PASSKEY, _WITH_KEY, _KEY, O.ENTERED, O.ENTERED),
        (R.PASSKEY, _WITH_KEY, _SECOND, O.ASKED_PASSKEY, O.ASKED_PASSKEY),
        (R.PASSKEY, _WITH_KEY, _ALLOWED, O.ASKED_PASSKEY, O.ASKED_PASSKEY),
        (R.PASSKEY, _NOBODY, _PLAIN, O.ASKED_MAIL, O.LIMITED),
        (R.PASSKEY, _NOBODY, _MAILBOX, O.LIMITED, O.LIMITED),
        (R.PASSKEY, _NOBODY, _ALLOWED, O.LIMITED, O.LIMITED),
        (R.PASSKEY, _WITH_APP, _SECOND, O.ASKED_MAIL, O.ENTERED),
        (R.PASSKEY, _WITH_APP, _SECOND.allowed(), O.ENTERED, O.ENTERED),
        (R.ALLOWANCE, _NOBODY, _PLAIN, O.REFUSED, O.REFUSED),
        (R.ALLOWANCE, _NOBODY, _MAILBOX, O.REFUSED, O.REFUSED),
        (R.ALLOWANCE, _WITH_KEY, _KEY, O.REFUSED, O.REFUSED),
        (R.ALLOWANCE, _WITH_KEY, _KEY.allowed(), O.ENTERED, O.ENTERED),
        (R.ALLOWANCE, _WITH_KEY, _SECOND.allowed(), O.ASKED_PASSKEY, O.ASKED_PASSKEY),
        (R.ALLOWANCE, _NOBODY, _ALLOWED, O.LIMITED, O.LIMITED),
    ],
)
def test_what_becomes_of_a_sign_in(
    required: Required,
    history: LoginHistory,
    proven: Proven,
    outcome: Outcome,
    without_mail: Outcome,
) -> None:
    # AUTH-30, AUTH-32, AUTH-33
    assert outcome_of(required, history, proven, has_mail=True) is outcome
    assert outcome_of(required, history, proven, has_mail=False) is without_mail


class Recorded(NamedTuple):
    """A sign-in as it was, in words, and what must be said of it."""

    what: str
    method: str
    score: float
    level: str
    # Hours since the last sign-in; None for the first.
    ago: float | None = 24.0
    device: str = "recognized"
    browser: str = "Firefox on Linux"
    network: bytes = HOME
    country: str = "NL"
    place: tuple[float, float] | None = AMSTERDAM
    flags: str = ""
    failures: int = 0
    age_hours: float = 9600.0


HISTORIES = [
    Recorded("the first sign-in, by a password", "password", 0.20, "low", None, "new", age_hours=0),
    Recorded("the first, by a link", "magic_link", 0.15, "low", None, "new", age_hours=0),
    Recorded("the first, by a provider", "oauth_github", 0.15, "low", None, "new", age_hours=0),
    Recorded("as every day", "password", 0.15, "low"),
    Recorded("as every day for a year", "password", 0.10, "low", device="familiar"),
    Recorded("on the own laptop", "password", 0.05, "low", device="trusted"),
    Recorded("with the key on it", "passkey", 0.0, "low", device="highly_trusted"),
    Recorded("with a key on a new phone", "passkey", 0.25, "low", device="new"),
    Recorded("a key, a new phone, at a friend's", "passkey", 0.30, "medium", device="new",
             network=AWAY),
    Recorded("a password on a new phone", "password", 0.35, "medium", device="new"),
    Recorded("a link on a new phone", "magic_link", 0.30, "medium", device="new"),
    Recorded("a provider on a new phone", "oauth_work", 0.30, "medium", device="new"),
    Recorded("three typos, then right", "password", 0.20, "low", failures=3),
    Recorded("somebody guesses meanwhile", "password", 0.40, "medium", failures=40),
    Recorded("guessed from a new device", "password", 0.60, "high", device="new", failures=7),
    Recorded("late at night", "password", 0.20, "low", 33.0),
    Recorded("after a long summer", "password", 0.25, "low", 24.0 * 100),
    Recorded("after a long summer, a new phone", "password", 0.45, "medium", 24.0 * 100, "new"),
    Recorded("from a café", "password", 0.20, "low", network=AWAY),
    Recorded("on a train to Spain", "password", 0.35, "medium", 24.0, network=AWAY, country="ES",
             place=MADRID),
    Recorded("on holiday, a familiar laptop", "password", 0.30, "medium", 24.0, "familiar",
             network=AWAY, country="ES", place=MADRID),
    Recorded("on holiday, the own laptop", "password", 0.25, "low", 24.0, "trusted", network=AWAY,
             country="ES", place=MADRID),
    Recorded("in two places at once", "password", 0.75, "high", 1.0, network=AWAY, country="ES",
             place=MADRID),
    Recorded("the traveller of a quarter", "password", 0.95, "critical", 0.25, "new", network=AWAY,
             country="ES", place=MADRID),
    Recorded("the same, by a key", "passkey", 0.85, "critical", 0.25, "new", network=AWAY,
             country="ES", place=MADRID),
    Recorded("behind an anonymizer", "password", 0.45, "medium", network=AWAY,
             flags="anonymizer"),
    Recorded("an anonymizer, a new device", "password", 0.65, "high", device="new", network=AWAY,
             flags="anonymizer"),
    Recorded("from a bad address", "password", 0.80, "critical", device="new", network=AWAY,
             flags="bad"),
    Recorded("a copied cookie in another browser", "password", 0.30, "medium", network=AWAY,
             browser="Chrome on Windows"),
    Recorded("no place is known", "password", 0.40, "medium", device="new", network=AWAY,
             country="", place=None),
    Recorded("a key, at home, at noon", "passkey", 0.05, "low"),
]  # fmt: skip


@pytest.mark.parametrize("one", HISTORIES, ids=[one.what for one in HISTORIES])
def test_recorded_histories(one: Recorded) -> None:
    # AUTH-33
    north, east = one.place or (None, None)
    # An hour that is known, but where the history is about it.
    hours = [] if one.ago is None else [one.ago, 24.0 * 500 if one.ago < 24 else 24.0 * 501]
    login = LoginContext(
        at=NOW,
        method=one.method,
        browser=one.browser,
        network=one.network,
        place=Place(one.country, north, east, "anonymizer" in one.flags, "bad" in one.flags),
        device=None if one.device == "new" else KnownDevice(Trust(one.device), KNOWN.browser),
        past=[past(timedelta(hours=ago)) for ago in (hours if one.ago != 33.0 else hours[:1])],
        failures=one.failures,
        account_since=NOW - timedelta(hours=one.age_hours),
    )
    found = WeighedRisk().assess(login)
    assert (found.score, found.level.value) == (one.score, one.level), found.in_words


def test_there_are_thirty_of_them() -> None:
    # AUTH-33
    assert len(HISTORIES) >= 30
    assert {one.level for one in HISTORIES} == {level.value for level in RiskLevel}
