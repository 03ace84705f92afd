"""Sign-ins and their risk, as nouns.

Rule: nothing of an assessment is told to who signs in; it stands in the audit, and is explained to
      operators.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from actors.accounts.kept.devices.fingerprint import Fingerprint, check_fingerprint
from actors.accounts.kept.devices.words import Trust
from actors.accounts.ports import DIGEST_BYTES, check_digest
from actors.persistence.errors import InvalidField
from actors.persistence.words import OutboxMessage, check_a, check_bytes, check_text, check_uuid

# A sign-in is compared with as many before it.
PAST_LOGINS = 20
FAILURES_WITHIN = timedelta(minutes=15)
# AUTH-33, table of 3.3: so long a sign-in that was not confirmed does nothing sensitive.
LIMITED_FOR = timedelta(hours=24)
# So long the link of a mail is good, and the attempt it allows.
ALLOWED_FOR = timedelta(minutes=10)


class RiskMode(StrEnum):
    """Whether risk is looked at, only written down, or acted on."""

    OFF = "off"
    OBSERVE = "observe"
    ENFORCE = "enforce"


class RiskLevel(StrEnum):
    """How much of a risk a sign-in is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Required(StrEnum):
    """What a sign-in needs beside what was proven."""

    NOTHING = "nothing"
    SECOND_FACTOR = "second_factor"
    PASSKEY = "passkey"
    # Nothing that is shown here is enough: its owner has to allow one more attempt.
    ALLOWANCE = "allowance"


class Outcome(StrEnum):
    """What became of a sign-in; the value stands in the store."""

    ENTERED = "entered"
    # Signed in, and may do nothing sensitive for a day.
    LIMITED = "limited"
    ASKED_PASSKEY = "asked_passkey"
    # A mail went out; its owner confirms there.
    ASKED_MAIL = "asked_mail"
    REFUSED = "refused"

    @property
    def is_in(self) -> bool:
        """Whether somebody is signed in."""
        return self in (Outcome.ENTERED, Outcome.LIMITED)


@dataclass(frozen=True, slots=True)
class Withheld:
    """The proof was right, and nobody is signed in: what is asked for first."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Place:
    """What the operator's table says of an address: degrees, and a country in two letters."""

    country: str = ""
    latitude: float | None = None
    longitude: float | None = None
    is_anonymizer: bool = False
    is_bad: bool = False


NOWHERE_KNOWN = Place()


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """What is known of the device a sign-in comes from; its `browser` as it was the last time."""

    trust: Trust
    browser: str


@dataclass(frozen=True, slots=True)
class PastLogin:
    """A sign-in from before."""

    at: datetime
    network: bytes | None
    country: str
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True)
class LoginContext:
    """All a sign-in is judged by. `past` is newest first, `method` that of the first factor."""

    at: datetime
    method: str
    browser: str
    network: bytes | None
    place: Place
    device: KnownDevice | None
    past: Sequence[PastLogin]
    failures: int
    account_since: datetime
    is_breached: bool = False


@dataclass(frozen=True, slots=True)
class Factor:
    """One part of a score, with its weight."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class RiskAssessment:
    """How much of a risk a sign-in is, of what parts, and what it needs."""

    score: float
    level: RiskLevel
    factors: tuple[Factor, ...]
    required: Required

    @property
    def in_words(self) -> str:
        """Call this for the parts, as the audit has them: `password +0.15, device_new +0.20`."""
        return ", ".join(f"{one.name} {one.weight:+.2f}" for one in self.factors)


@dataclass(frozen=True, slots=True)
class LoginHistory:
    """What a store knows of the account that somebody is about to enter."""

    user_id: UUID
    username: str
    email: str = field(repr=False)
    since: datetime
    now: datetime
    has_second: bool
    has_passkey: bool
    device: KnownDevice | None
    past: Sequence[PastLogin]
    failures: int


@dataclass(frozen=True, slots=True)
class Proven:
    """What was proven: a second factor, a passkey that verified its user, the mailbox.

    `is_allowed`: the owner has allowed this attempt, by a mail.
    """

    by_second: bool = False
    by_passkey: bool = False
    by_mailbox: bool = False
    is_allowed: bool = False

    def allowed(self) -> "Proven":
        """Call this for the same where the owner has allowed it."""
        return replace(self, is_allowed=True)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a store is to do with a sign-in. `outbox` is written in its transaction."""

    outcome: Outcome
    assessment: RiskAssessment | None = None
    # In `observe`: what would have become of it.
    unobserved: Outcome | None = None
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    @property
    def facts(self) -> dict[str, str]:
        """Call this for what the event of the sign-in tells of it."""
        found = self.assessment
        if found is None:
            return {}
        told = {"risk": f"{found.score:.2f}", "risk_level": found.level.value}
        told |= {"risk_factors": found.in_words, "risk_outcome": self.outcome.value}
        if self.unobserved is not None:
            told["risk_unobserved"] = self.unobserved.value
        return told


# Pure: it runs on whatever thread a store is on.
Judge = Callable[["Arrival", LoginHistory, Proven], Judgement]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a sign-in comes from, for the store. `reference` is that of the sign-in.

    `device` is the digest of what tells the device, None for one that keeps nothing; `network` a
    keyed digest; `method` that of the first factor. Without a `judge` nothing is assessed.
    `fingerprint` is what the device showed, as keyed digests, where a service collects that.
    """

    reference: UUID
    device: bytes | None
    method: str
    browser: str
    network: bytes | None = None
    place: Place = NOWHERE_KNOWN
    judge: Judge | None = field(default=None, repr=False, compare=False)
    fingerprint: Fingerprint | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_uuid("reference", self.reference)
        for name in ("method", "browser"):
            check_text(name, getattr(self, name))
        if self.device is not None:
            check_digest(self.device)
        if self.network is not None:
            check_bytes("network", self.network, DIGEST_BYTES)
        check_a("place", self.place, Place)
        if self.judge is not None and not callable(self.judge):
            raise InvalidField("judge", "is no function")
        if self.fingerprint is not None:
            check_fingerprint(self.fingerprint)

    @property
    def bound(self) -> bytes | None:
        """Call this for what an allowance is tied to: its device, or else its network."""
        return self.device or self.network
