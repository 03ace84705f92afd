"""How a member's address is changed, and changed back; and the port that keeps it (AUTH-11).

Rule 1: nothing changes before somebody who reads the new address confirms it, while the sign-in
        that asked is still alive. A later wish replaces one that waits.
Rule 2: an address that is somebody's answers as any other: a wish for it is kept, and comes to
        nothing (SEC-77).
Rule 3: for a week the former address can take the account back, and is nobody else's: not by a
        registration, a link, a provider or another change.
Rule 4: who takes it back says "this was not me" with it (`disavowals.py`): what came behind the
        wish is doubted, and whatever the address was changed to since is let go.

Kept by `storage/postgres/accounts/ways/addresses.py` and its twin in `storage/memory`; both pass
`storage.testing.AddressesSuite`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.recoveries import TellStopped, check_teller
from actors.accounts.kept.throttle import Limit
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import OutboxMessage, check_a, check_text, check_uuid

# As long as a link that signs in (SEC-82).
CONFIRM_KEPT = timedelta(minutes=10)
# From the wish until it is confirmed and, confirmed, once more: who is away for a week sees it.
REVERT_KEPT = timedelta(days=7)
# More wishes than that are no slips of the hand.
CHANGES_PER_USER_MAX = 5
CHANGES_PERIOD = timedelta(hours=1)
# Of an address of the network, that tries links.
TRIES_PER_ADDRESS_MAX = 20


@dataclass(frozen=True, slots=True)
class NewAddress:
    """Somebody wishes for another address, from the sign-in `reference`.

    `to_new` leaves when the address is nobody's, `to_former` always.
    """

    id: UUID
    user_id: UUID
    reference: UUID
    email: str = field(repr=False)
    to_new: Sequence[OutboxMessage] = field(default=(), repr=False)
    to_former: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_uuid("id", self.id)
        check_uuid("user_id", self.user_id)
        check_uuid("reference", self.reference)
        if not check_text("email", self.email, 1024):
            raise InvalidField("email", "is empty")
        check_messages(self.to_new)
        check_messages(self.to_former)


@dataclass(frozen=True, slots=True)
class AddressChange:
    """A change that waits, or that was made and can be taken back."""

    id: UUID
    user_id: UUID
    username: str
    former: str = field(repr=False)
    email: str = field(repr=False)
    asked_at: datetime
    is_made: bool


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Somebody at the former address takes the account back; the rest as of a `Disavowal`."""

    id: UUID
    needs_mailbox: bool = True
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)
    # Who is told when it stops a recovery of the account.
    tell_stopped: TellStopped | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_uuid("id", self.id)
        check_a("needs_mailbox", self.needs_mailbox, bool)
        check_messages(self.outbox)
        check_teller(self.tell_stopped)


class Addresses(Protocol):
    """Changes of addresses. Raises `StoreUnavailable`, and `InvalidField` before any I/O.

    Cancelled, an act is wholly there or wholly absent.
    """

    async def ask(self, new: NewAddress, origin: Origin) -> bool:
        """Call this to keep a wish and queue its mails; False when its sign-in is over.

        Wishes of the account that wait are void. Some that are over are removed with it.
        """
        ...

    async def find(self, change_id: UUID) -> AddressChange | None:
        """Call this for a change that can still be taken back; None for none."""
        ...

    async def confirm(
        self, change_id: UUID, origin: Origin, outbox: Sequence[OutboxMessage] = ()
    ) -> bool:
        """Call this to make a change; once. False, and nothing is, for one that is over or made,
        whose sign-in is over, or whose address is somebody's.
        """
        ...

    async def take_back(self, back: TakeBack, origin: Origin) -> int | None:
        """Call this to take an account back; how many sign-ins ended, None for no such change.

        Of any number at once, in any processes, one is carried out.
        """
        ...


def ask_limit(user_id: UUID) -> Limit:
    """Call this for how often a member wishes for another address."""
    return Limit(f"address:{user_id}", CHANGES_PER_USER_MAX, CHANGES_PERIOD)


def try_limit(address: str) -> Limit:
    """Call this for how often links are tried from an address of the network; a digest."""
    return Limit(f"address-open:{address}", TRIES_PER_ADDRESS_MAX, CHANGES_PERIOD)


def check_confirm(change_id: object, origin: object, outbox: Sequence[OutboxMessage]) -> None:
    """Call this with what `confirm` takes; raises `InvalidField`."""
    check_uuid("change_id", change_id)
    check_a("origin", origin, Origin)
    check_messages(outbox)
