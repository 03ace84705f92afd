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
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.members import NOWHERE, NewSignIn
from actors.accounts.ports import check_digest
from actors.accounts.ways.left import NOTHING_OFFERED, OfferedWays
from actors.accounts.ways.links import Entered, Newcomer
from actors.accounts.ways.provider.words import (
    Identity,
    ProviderTokens,
    Shown,
    check_provider_name,
)
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.words import OutboxMessage, check_a, check_uuid

# A little longer than a state is good, for clocks of two processes.
USED_STATE_KEPT = timedelta(minutes=10)
# AUTH-6: a refresh token that was not used for so long is thrown away.
REFRESH_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class LinkedIdentity:
    """An identity of an account, with its provider's name as it was set when it was linked."""

    identity: Identity
    provider: str
    linked_at: datetime
    used_at: datetime | None


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
    ) -> Entered | AddressTaken | None:
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


def check_shown(shown: object) -> None:
    """Call this with what a provider showed; raises `InvalidField`."""
    check_a("shown", shown, Shown)


def check_enter(provider: object, shown: object, newcomer: object, sign_in: object) -> None:
    """Call this with what `enter` takes; raises `InvalidField`."""
    check_provider_name(provider)
    check_shown(shown)
    check_a("newcomer", newcomer, Newcomer)
    check_a("sign_in", sign_in, NewSignIn)


def check_state(digest: object) -> None:
    """Call this with the digest of a state; raises `InvalidField`."""
    check_digest(digest)
