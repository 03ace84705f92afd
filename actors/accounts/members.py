"""Members: people with an account, their sign-ins, and the port that keeps both.

Kept by `accounts/members.py` of `storage/postgres` and `storage/memory`; both pass
`storage.testing.AccountsSuite`. Every method raises `StoreUnavailable` and its kin while the store
is away, and `InvalidField` for nonsense, before any I/O. Cancelled, a change is wholly there or
wholly absent.

Rule 1: a sign-in and the browser session that began with it end together. Whatever ends a sign-in
        here ends its session in the same transaction, and every process closes what that has open
        (`SessionEnds`).
Rule 2: a token is known by its digest only, a password by its hash only (SEC-12, SITE-37).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.factors.port import PasskeyProof, Proof, check_proof
from actors.accounts.kept.recoveries import TellStopped, check_teller
from actors.accounts.kept.risk.words import Arrival, Proven, Withheld
from actors.accounts.kept.tokens import Scope
from actors.accounts.ports import check_digest, check_session
from actors.accounts.words import SessionId
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import OutboxMessage, check_a, check_text, check_uuid
from actors.runtime import Log

_log = Log("actors.accounts")
# Of what no request asked for: its row says nobody did it.
NOWHERE = Origin(method="")

# SITE-39. Without a request for a week, whoever finds the browser is not signed in.
SIGN_IN_IDLE = timedelta(days=7)
# However often they come: after that everybody signs in again.
SIGN_IN_KEPT = timedelta(days=30)
# A request within a minute of another writes nothing.
SEEN_EVERY = timedelta(minutes=1)
# SEC-19: a sixth ends the one that was seen least recently.
SIGN_INS_PER_USER_MAX = 5
# A proof counts so long for what needs a fresh one (SEC-20).
FRESH_FOR = timedelta(minutes=10)
# What a member calls a sign-in fits on one line of a list.
SIGN_IN_NAME_MAX = 40
# What stands where the name of who deleted their account stood (SITE-47).
DELETED_NAME = "deleted user"
# What stands for the hash of a password where there is none: no password fits it.
NO_PASSWORD = "$none$"  # noqa: S105 - a word
# Who has forgotten their subject, in the audit.
FORGOTTEN_BY = "account.delete"


class Role(StrEnum):
    """What a member may do: nothing more, decide over messages, or operate the site."""

    USER = "user"
    MODERATOR = "moderator"
    ADMIN = "admin"


class Level(IntEnum):
    """How surely somebody has shown who they are (AUTH-22)."""

    BASIC = 1  # one factor
    MULTI_FACTOR = 2
    HARDWARE_BACKED = 3
    BIOMETRIC = 4


class Taken(StrEnum):
    """Which field of a registration somebody else has already."""

    USERNAME = "username"
    EMAIL = "email"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to be made; its fields passed `policy.py`."""

    user_id: UUID
    username: str
    email: str
    password_hash: str = field(repr=False)

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        for name, text in (("username", self.username), ("email", self.email)):
            if not check_text(name, text, 1024):
                raise InvalidField(name, "is empty")
        check_hash(self.password_hash)


@dataclass(frozen=True, slots=True)
class AtProvider:
    """At which provider a sign-in began, and by which of its sessions; "" where it names none.

    When that session is over there, the sign-in ends here (AUTH-13).
    """

    provider: str
    session: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not check_text("provider", self.provider):
            raise InvalidField("provider", "is empty")
        check_text("session", self.session)


@dataclass(frozen=True, slots=True)
class NewSignIn:
    """A sign-in to be made. `session_id` is the browser session that begins with it.

    `former` is the one the browser had until now; it ends, with a sign-in that it may have had.
    `proof` is a second factor, which it uses up; an account that has one needs it. `by_mailbox`:
    the first one was a link to the address; an account that is doubted needs that (AUTH-16).
    `arrival` is where it comes from: without one no device is noted, and no risk looked at.
    """

    reference: UUID
    digest: bytes = field(repr=False)
    session_id: SessionId
    browser: str
    former: SessionId | None = None
    level: Level = Level.BASIC
    proof: Proof | None = None
    by_mailbox: bool = False
    at_provider: AtProvider | None = None
    arrival: Arrival | None = None
    # Written in the same transaction, where it is made.
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)
    # Who is told when what is proven stops a recovery of the account.
    tell_stopped: TellStopped | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_uuid("reference", self.reference)
        check_digest(self.digest)
        check_session(self.session_id)
        if self.at_provider is not None:
            check_a("at_provider", self.at_provider, AtProvider)
        if self.arrival is not None:
            check_a("arrival", self.arrival, Arrival)
            if self.arrival.reference != self.reference:
                raise InvalidField("arrival", "is that of another sign-in")
        check_a("level", self.level, Level)
        check_a("by_mailbox", self.by_mailbox, bool)
        check_text("browser", self.browser)
        check_messages(self.outbox)
        check_teller(self.tell_stopped)
        if self.former is not None:
            check_session(self.former)
        if self.proof is not None:
            check_proof(self.proof)

    def proven(self, key: PasskeyProof | None = None) -> Proven:
        """Call this for what was proven: by what it says, and by a passkey that signs in alone."""
        by_key = key or (self.proof if isinstance(self.proof, PasskeyProof) else None)
        is_verified = by_key is not None and by_key.is_verified
        return Proven(self.proof is not None, is_verified, self.by_mailbox)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is compared with, and whether a second factor is asked for behind it."""

    user_id: UUID
    username: str
    email: str
    password_hash: str = field(repr=False)
    has_second: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """Who is signed in by which sign-in."""

    user_id: UUID
    username: str
    email: str
    role: Role
    since: datetime
    reference: UUID
    session_id: SessionId
    level: Level = Level.BASIC
    # How long ago they proved it last, by the clock of the store.
    proven_ago: timedelta = timedelta.max
    # What is sensitive then needs it.
    has_second: bool = False
    # It came in as a risk that nobody confirmed: for a day it does nothing sensitive (AUTH-32).
    is_limited: bool = False
    # How long it still takes until anything sensitive can be done: it was recovered (AUTH-10).
    guarded_for: timedelta = timedelta(0)
    # By an API token, which does this and nothing else; None for a sign-in (SEC-87).
    scopes: frozenset[Scope] | None = None

    @property
    def is_fresh(self) -> bool:
        """Call this for whether they proved within ten minutes who they are (SEC-20).

        A proof that is yet to come was written by a clock that went wrong, and counts for nothing.
        """
        return timedelta(0) <= self.proven_ago < FRESH_FOR

    @property
    def is_guarded(self) -> bool:
        """Call this for whether nothing sensitive can be done, whatever is proven."""
        return self.guarded_for > timedelta(0)


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in, as its owner sees it: `address` is masked, `name` is theirs or empty.

    `username` is whose it is.
    """

    reference: UUID
    browser: str
    created_at: datetime
    seen_at: datetime
    address: str = ""
    name: str = ""
    user_id: UUID | None = None
    username: str = ""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who operates the site, and by which sign-in."""

    user_id: UUID
    reference: UUID

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)


@dataclass(frozen=True, slots=True)
class StepUp:
    """A proof that was given again: the sign-in goes on under a new token (SEC-13).

    `former_hash` is what a password was compared with; None for another factor. `proof` is a second
    factor, which it uses up.
    """

    user_id: UUID
    reference: UUID
    digest: bytes = field(repr=False)
    level: Level = Level.BASIC
    former_hash: str | None = field(default=None, repr=False)
    proof: Proof | None = None
    # Written in the same transaction, where it is good.
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)
    # As with a sign-in.
    tell_stopped: TellStopped | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)
        check_digest(self.digest)
        check_a("level", self.level, Level)
        check_messages(self.outbox)
        check_teller(self.tell_stopped)
        if self.former_hash is not None:
            check_hash(self.former_hash)
        if self.proof is not None:
            check_proof(self.proof)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many sign-ins and API tokens were over, and in how many seconds the next is, if any."""

    count: int
    next_in_s: float | None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class NewPassword:
    """A changed password. The sign-in it is changed from goes on under a new token.

    `former_hash` is what the current password was compared with. `outbox` leaves with the change:
    it is written in the same transaction.
    """

    user_id: UUID
    former_hash: str = field(repr=False)
    password_hash: str = field(repr=False)
    reference: UUID
    digest: bytes = field(repr=False)
    ends_others: bool = True
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)
        check_hash(self.former_hash)
        check_hash(self.password_hash)
        check_digest(self.digest)
        check_messages(self.outbox)


class Accounts(Protocol):
    """Accounts and sign-ins."""

    async def register(
        self, account: NewAccount, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> Taken | None:
        """Call this to make an account, signed in and a member of the Lobby; None when it is made.

        Of two at once that want one name or address one gets it. A field that is taken leaves all
        as it was.
        """
        ...

    async def credentials(self, email: str) -> Credentials | None:
        """Call this with an address in its one form; None for nobody, or who cannot sign in."""
        ...

    async def credentials_of(self, user_id: UUID) -> Credentials | None:
        """Call this for a member whose password is asked for again."""
        ...

    async def renew_hash(self, user_id: UUID, former: str, renewed: str) -> None:
        """Call this with a stronger hash of the same password; nothing if it was changed since."""
        ...

    async def sign_in(
        self, user_id: UUID, password_hash: str, sign_in: NewSignIn, origin: Origin = NOWHERE
    ) -> int | Withheld | None:
        """Call this when a password was the right one for a hash; None, and nothing is, when the
        hash is another one by now, or the account is gone; also when it has a second factor and
        there is no proof of one, or the proof is used or wrong.

        `Withheld` when all was right and its risk asks for more: nobody is signed in.
        A password that was changed in this moment opens nothing. The oldest of more than five ends:
        how many did is told.
        """
        ...

    async def who(self, digest: bytes) -> Member | None:
        """Call this at each request with a token's digest; None for one that is over or unknown.

        Notes that the sign-in is used, at most once a minute.
        """
        ...

    async def who_lately(self, digest: bytes) -> Member | None:
        """Call this as `who`, for a page that shows everybody the same and a member their name.

        The answer may be a second old, level and proof with it: whatever is decided by who asks is
        asked of `who`. What this process has ended is over here too, and a role is never old.
        """
        ...

    async def sign_out(self, session_id: SessionId, origin: Origin = NOWHERE) -> None:
        """Call this to end a browser's sign-in; harmless when it has none."""
        ...

    async def sign_ins(self, user_id: UUID) -> Sequence[SignIn]:
        """Call this for somebody's sign-ins, the newest first."""
        ...

    async def name_sign_in(self, user_id: UUID, reference: UUID, name: str) -> bool:
        """Call this to give one of somebody's own a name; False as for `end_sign_in`."""
        ...

    async def end_sign_in(
        self, user_id: UUID, reference: UUID, origin: Origin = NOWHERE, *, by: UUID
    ) -> bool:
        """Call this to end one of somebody's own; False for another's, or one that is over.

        Also when the sign-in `by` which it is asked is over by now.
        """
        ...

    async def end_others(
        self, user_id: UUID, reference: UUID, origin: Origin = NOWHERE
    ) -> int | None:
        """Call this to end all of somebody's but the one that asks; returns how many.

        None, and nothing is, when that one is over by now.
        """
        ...

    async def step_up(self, step: StepUp, origin: Origin = NOWHERE) -> bool:
        """Call this when somebody proved again who they are: fresh, under another token.

        False, and nothing is, when the sign-in is over, the password was changed meanwhile, the
        proof is used or wrong, or there is none of an account that has a second factor. A level
        that is proven is never lowered.
        """
        ...

    async def all_sign_ins(
        self, user_id: UUID | None = None, *, limit: int = 1000
    ) -> Sequence[SignIn]:
        """Call this, as an operator, for the sign-ins of one or of all; the newest first."""
        ...

    async def revoke(
        self,
        *,
        reference: UUID | None = None,
        user_id: UUID | None = None,
        by: Operator | None = None,
        origin: Origin = NOWHERE,
    ) -> int:
        """Call this, as an operator, to end one sign-in, all of one, or all; returns how many.

        Each is audited. With neither given all sign-ins of the site end, that of the operator too.
        None end when the sign-in of who asks (`by`) is over, or is no operator's any more.
        """
        ...

    async def change_password(self, change: NewPassword, origin: Origin = NOWHERE) -> bool:
        """Call this to change a password; False, and nothing is, when it was changed meanwhile,
        or the sign-in that asks is over.

        With the other sign-ins the epoch of the account ends: one that was made with the former
        password in this moment, or by a store that went back in time, opens nothing (SEC-17).
        """
        ...

    async def delete(
        self, user_id: UUID, former_hash: str, origin: Origin = NOWHERE, *, by: UUID | None
    ) -> bool:
        """Call this to delete an account; False, and nothing is, when its password changed, or the
        sign-in `by` which it is asked is over; None where no sign-in asks.

        Gone at once: name, address, credentials, memberships, sign-ins. A bare id stays. In the
        same transaction its subject is forgotten (`actors.chat.user_subject`): what was said
        cannot be read any more, and every process hears of it.
        """
        ...

    async def grant(self, username: str, role: Role) -> Role | None:
        """Call this to give a role; the one before, or None when there is nobody of that name.

        It counts from the next request on, and is audited in the same transaction. Where a role is
        taken away the sign-ins of its member end as well: what they have open shows what they may
        see no more.
        """
        ...

    async def named(self, username: str) -> tuple[UUID, Role] | None:
        """Call this for somebody's id and role; None when there is nobody of that name."""
        ...

    async def roles(self, user_ids: Sequence[UUID]) -> Mapping[UUID, Role]:
        """Call this for the roles of members, at most `ASKED_MAX`; who is gone is left out.

        A role that is granted rings for it, as an end does (`SessionEnds.rings`).
        """
        ...

    async def sweep(self, limit: int = 1000) -> Swept:
        """Call this to end at most so many sign-ins whose time is over."""
        ...


def check_sign_in_name(name: object) -> str:
    """Call this with what a member calls a sign-in; raises `InvalidField`. Empty takes it away."""
    check_text("name", name)
    text = " ".join(str(name).split())
    if len(text) > SIGN_IN_NAME_MAX or not text.isprintable():
        raise InvalidField("name", f"has up to {SIGN_IN_NAME_MAX} characters that can be seen")
    return text


class FixedField(Exception):
    """Raised when a field of a sign-in was to be changed that never changes; nothing was.

    It is a fault of the program, or an attack: whose a sign-in is, where it began and how (SEC-21).
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} of a sign-in never changes; nothing was changed")
        self.name = name


# What of a sign-in never changes (AUTH-21).
FIXED_FIELDS = frozenset(
    {
        "reference",
        "user_id",
        "session_id",
        "browser",
        "address",
        "method",
        "created_at",
        "device",
        "is_limited",
    }
)


def refuse_change(name: str) -> FixedField:
    """Call this where one of `FIXED_FIELDS` was to be changed, for what to raise; it is logged."""
    _log.critical("accounts.fixed_field", field=name)
    return FixedField(name)


def check_revoke(reference: object, user_id: object, by: object, origin: object) -> None:
    """Call this with what `Accounts.revoke` is given; raises `InvalidField`."""
    for name, value in (("reference", reference), ("user_id", user_id)):
        if value is not None:
            check_uuid(name, value)
    if by is not None:
        check_a("by", by, Operator)
    check_a("origin", origin, Origin)


def is_taken_away(before: Role, role: Role) -> bool:
    """Call this for whether somebody may do less, or other things, in a new role."""
    return before is not Role.USER and role is not before


def check_hash(password_hash: object) -> None:
    """Call this with the hash of a password; raises `InvalidField`."""
    # Whatever else it may be, it is no password.
    if not check_text("password_hash", password_hash, 1024) or str(password_hash)[:1] != "$":
        raise InvalidField("password_hash", "is no hash in the PHC form")


def check_role(role: object) -> None:
    """Call this with a role; raises `InvalidField`."""
    check_a("role", role, Role)
