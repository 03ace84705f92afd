"""Whose identity at a provider is which account's, and the port that keeps it (AUTH-6).

Rule 1: an account is found by issuer and subject, never by an address (SEC-93).
Rule 2: a state is used once, in whatever process (SEC-91). Before it is used nothing is kept of it.
Rule 3: an act, its event, its row of the audit and its mail are one transaction.

Kept by `storage/postgres/accounts/ways/identities.py` and its twin in memory; both pass
`storage.testing.IdentitiesSuite`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Protocol
from uuid import UUID

import msgspec

from actors.accounts.kept.audit import Origin
from actors.accounts.members import NOWHERE, AtProvider, NewSignIn
from actors.accounts.ports import check_digest
from actors.accounts.ways.left import NOTHING_OFFERED, OfferedWays
from actors.accounts.ways.links import Entered, Newcomer
from actors.accounts.ways.provider.words import (
    Identity,
    ProviderTokens,
    SaidLogout,
    Shown,
    check_provider_name,
)
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import (
    OutboxMessage,
    check_a,
    check_integer,
    check_list,
    check_uuid,
)

# A little longer than a state is good, for clocks of two processes.
USED_STATE_KEPT = timedelta(minutes=10)
# AUTH-6: a refresh token that was not used for so long is thrown away.
REFRESH_KEPT = timedelta(days=30)
# What a provider is asked with is renewed so long before it is over, or at half of a shorter life.
RENEW_BEFORE = timedelta(minutes=5)
# However short a life is: a provider is asked for somebody no more often.
RENEW_EVERY = timedelta(minutes=1)
# A renewal that came to nothing is tried again after so long, then after twice that, up to an hour.
RENEW_AGAIN = timedelta(seconds=30)
RENEW_AGAIN_MAX = timedelta(hours=1)
RENEWALS_CLAIMED_MAX = 100
# A session of a provider that is over opens nothing so long: as a flow that is under way is good.
ENDED_SESSION_KEPT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class LinkedIdentity:
    """An identity of an account, with its provider's name as it was set when it was linked.

    `is_refused`: the provider takes no more what it gave to be asked with; it is dropped, until
    its owner comes from there once more. Signing in by it works as ever.
    """

    identity: Identity
    provider: str
    linked_at: datetime
    used_at: datetime | None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class SessionOver:
    """The session that somebody was shown in is over at their provider. Nobody was signed in."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """Tokens that are to be renewed now, by who was given this."""

    user_id: UUID
    provider: str


@dataclass(frozen=True, slots=True)
class AddressTaken:
    """The address is somebody's who did not link this identity. Nobody was signed in (SEC-93).

    With an `email` the identity is linked, and its account opens by a link to that address only.
    """

    email: str | None = field(default=None, repr=False)


class Linking(StrEnum):
    """What became of an identity that somebody wanted to link, or to unlink."""

    DONE = "done"
    # It is another account's; or, at an unlinking, nobody's.
    NOT_THEIRS = "not_theirs"
    # Of this account there is one of the provider already.
    TWICE = "twice"
    # Nothing else signs in to the account.
    LAST_WAY = "last_way"
    # The sign-in that wanted it is over.
    OVER = "over"


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """An identity to be linked to the account of a sign-in."""

    user_id: UUID
    reference: UUID
    provider: str
    shown: Shown
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)
        check_provider_name(self.provider)
        check_shown(self.shown)
        check_messages(self.outbox)


@dataclass(frozen=True, slots=True)
class Unlinking:
    """An identity to be taken from an account; `offered` are the other ways there are."""

    user_id: UUID
    reference: UUID
    provider: str
    offered: OfferedWays = NOTHING_OFFERED
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)
        check_provider_name(self.provider)
        check_a("offered", self.offered, OfferedWays)
        check_messages(self.outbox)


class Identities(Protocol):
    """Identities at providers. Raises `StoreUnavailable` and its kin, `InvalidField` before I/O."""

    async def use_state(self, digest: bytes) -> bool:
        """Call this to use a state up; False when it was. Of any number at once one gets True."""
        ...

    async def enter(
        self,
        provider: str,
        shown: Shown,
        newcomer: Newcomer,
        sign_in: NewSignIn,
        origin: Origin = NOWHERE,
    ) -> Entered | AddressTaken | SessionOver | None:
        """Call this to sign in whose identity it is, in one transaction.

        An identity that is nobody's makes an account where its address is nobody's. None when no
        name was free. Cancelled, all is there or nothing.
        """
        ...

    async def link(self, new: NewIdentity, origin: Origin) -> Linking:
        """Call this to link an identity to the account of a living sign-in."""
        ...

    async def unlink(self, unlinking: Unlinking, origin: Origin) -> Linking:
        """Call this to take the identity of a provider from an account; its tokens go with it."""
        ...

    async def of_user(self, user_id: UUID) -> Sequence[LinkedIdentity]:
        """Call this for the identities of an account, the oldest first."""
        ...

    async def tokens(self, user_id: UUID, provider: str) -> ProviderTokens | None:
        """Call this for what a provider can be asked with in somebody's name; None for nothing.

        A refresh token that is over its own term is not given.
        """
        ...

    async def renew_tokens(
        self, user_id: UUID, provider: str, former: ProviderTokens, renewed: ProviderTokens
    ) -> bool:
        """Call this with tokens that came for those of before; False when others came meanwhile."""
        ...

    async def claim_renewals(self, providers: Sequence[str], limit: int) -> Sequence[Renewal]:
        """Call this for whose tokens of these providers are to be renewed now.

        Nobody else is given them for a while, which is longer each time until `renew_tokens`.
        """
        ...

    async def drop_tokens(
        self, user_id: UUID, provider: str, former: ProviderTokens, origin: Origin
    ) -> bool:
        """Call this when a provider takes them no more; False when others came meanwhile."""
        ...

    async def provider_of(self, reference: UUID) -> AtProvider | None:
        """Call this for where a sign-in began; None for one that began here, or that is not."""
        ...

    async def log_out(self, said: SaidLogout, origin: Origin) -> int | None:
        """Call this to end the sign-ins that began in a session of a provider (AUTH-13); how many.

        None, and nothing is, when the same was said before. What is under way in that session
        opens nothing for a while.
        """
        ...


def check_shown(shown: object) -> None:
    """Call this with what a provider showed; raises `InvalidField`."""
    check_a("shown", shown, Shown)


def check_enter(provider: object, shown: object, newcomer: object, sign_in: object) -> None:
    """Call this with what `enter` takes; raises `InvalidField`."""
    check_provider_name(provider)
    check_shown(shown)
    check_a("newcomer", newcomer, Newcomer)
    check_a("sign_in", sign_in, NewSignIn)


def check_claim(providers: object, limit: object) -> list[str]:
    """Call this with what `claim_renewals` takes; raises `InvalidField`."""
    given = [check_provider_name(name) for name in check_list("providers", providers)]
    check_integer("limit", limit, 1, RENEWALS_CLAIMED_MAX)
    return given


def said_digest(said: SaidLogout) -> bytes:
    """Call this for what is kept of something that a provider said, so that it is good once."""
    return _digest("logout", said.issuer, said.token)


def session_digest(issuer: str, session: str) -> bytes:
    """Call this for what a session of a provider that is over is known by."""
    return _digest("session", issuer, session)


def _digest(*parts: str) -> bytes:
    return sha256(msgspec.json.encode(parts)).digest()


def check_state(digest: object) -> None:
    """Call this with the digest of a state; raises `InvalidField`."""
    check_digest(digest)
