"""Members: people with an account, their sign-ins, and the port that keeps both.

Kept by `storage/postgres/accounts.py` and `storage/memory/accounts.py`; both pass
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
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from actors.accounts.ports import check_digest, check_session
from actors.accounts.words import SessionId
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import OutboxMessage, check_a, check_text, check_uuid

# SITE-39. Without a request for a week, whoever finds the browser is not signed in.
SIGN_IN_IDLE = timedelta(days=7)
SIGN_IN_KEPT = timedelta(days=30)
# A request within a minute of another writes nothing.
SEEN_EVERY = timedelta(minutes=1)
# SEC-19: a sixth ends the one that was seen least recently.
SIGN_INS_PER_USER_MAX = 5
# What stands where the name of who deleted their account stood (SITE-47).
DELETED_NAME = "deleted user"
# Who has forgotten their subject, in the audit.
FORGOTTEN_BY = "account.delete"


class Role(StrEnum):
    """What a member may do: nothing more, decide over messages, or operate the site."""

    USER = "user"
    MODERATOR = "moderator"
    ADMIN = "admin"


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
class NewSignIn:
    """A sign-in to be made. `session_id` is the browser session that begins with it.

    `former` is the one the browser had until now; it ends, with a sign-in that it may have had.
    """

    reference: UUID
    digest: bytes = field(repr=False)
    session_id: SessionId
    browser: str
    former: SessionId | None = None

    def __post_init__(self) -> None:
        check_uuid("reference", self.reference)
        check_digest(self.digest)
        check_session(self.session_id)
        check_text("browser", self.browser)
        if self.former is not None:
            check_session(self.former)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is compared with."""

    user_id: UUID
    username: str
    email: str
    password_hash: str = field(repr=False)


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


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in, as its owner sees it."""

    reference: UUID
    browser: str
    created_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Swept:
    """How many sign-ins were over, and in how many seconds the next is; None without any."""

    count: int
    next_in_s: float | None


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

    async def register(self, account: NewAccount, sign_in: NewSignIn) -> Taken | None:
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

    async def sign_in(self, user_id: UUID, password_hash: str, sign_in: NewSignIn) -> bool:
        """Call this when a password was the right one for a hash; False, and nothing is, when the
        hash is another one by now, or the account is gone.

        A password that was changed in this moment opens nothing. The oldest of more than five ends.
        """
        ...

    async def who(self, digest: bytes) -> Member | None:
        """Call this at each request with a token's digest; None for one that is over or unknown.

        Notes that the sign-in is used, at most once a minute.
        """
        ...

    async def sign_out(self, session_id: SessionId) -> None:
        """Call this to end a browser's sign-in; harmless when it has none."""
        ...

    async def sign_ins(self, user_id: UUID) -> Sequence[SignIn]:
        """Call this for somebody's sign-ins, the newest first."""
        ...

    async def end_sign_in(self, user_id: UUID, reference: UUID) -> bool:
        """Call this to end one of somebody's own; False for another's, or one that is over."""
        ...

    async def end_others(self, user_id: UUID, reference: UUID) -> int:
        """Call this to end all of somebody's but one; returns how many."""
        ...

    async def change_password(self, change: NewPassword) -> bool:
        """Call this to change a password; False, and nothing is, when it was changed meanwhile."""
        ...

    async def delete(self, user_id: UUID, former_hash: str) -> bool:
        """Call this to delete an account; False, and nothing is, when its password changed.

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
