"""What "this was not me" does, and the port that does it (AUTH-16).

A mail that tells of a change carries what disavows it: good once, for a week, without a sign-in.
The act mends what somebody in the account may have done, and takes nothing off its guard:

Rule 1: all sign-ins end with their sessions, and with the epoch those that are being made.
Rule 2: nobody enters with what they may have seen or left there. The password is void, so are links
        that are on their way and recovery codes; no device is known, nor trusted, any more;
        identities at providers that were linked since the change that the mail tells of are
        unlinked.
Rule 3: until its owner has come in by a link to the address, the account opens by nothing else: no
        provider, no passkey alone. A second factor is asked for behind the link, as ever: a mailbox
        alone removes none (SEC-85).
Rule 4: who comes in with a second factor from before the change loses those that were added since.

Kept by `storage/postgres/accounts/ways/disavowals.py` and its twin in `storage/memory`; both pass
`storage.testing.DisavowalsSuite`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.recoveries import TellStopped, check_teller
from actors.accounts.kept.throttle import Limit
from actors.accounts.ports import check_digest
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import OutboxMessage, check_a, check_uuid

# AUTH-16: who is away for a week still finds it good.
DISAVOWAL_KEPT = timedelta(days=7)
# A mail is written a little before what it tells of, by a clock that is not the store's.
TOLD_MARGIN = timedelta(minutes=1)
# Of an address of the network; a mail is opened once, and a house of people shares an address.
DISAVOWALS_PER_ADDRESS_MAX = 20
DISAVOWAL_PERIOD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Disavowal:
    """Somebody says that a change of an account was not theirs.

    `digest` is that of what their mail carried, `told_at` when the change was made. With
    `needs_mailbox` the account opens next by a link to its address only; it is off where no links
    are sent, and then the password stays, for there is nothing else.
    """

    user_id: UUID
    digest: bytes = field(repr=False)
    told_at: datetime
    needs_mailbox: bool = True
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)
    # Who is told when it stops a recovery of the account.
    tell_stopped: TellStopped | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_digest(self.digest)
        check_a("told_at", self.told_at, datetime)
        if self.told_at.tzinfo is None:
            raise InvalidField("told_at", "has no time zone")
        check_a("needs_mailbox", self.needs_mailbox, bool)
        check_messages(self.outbox)
        check_teller(self.tell_stopped)

    @property
    def since(self) -> datetime:
        """Call this for the moment since which what was added is doubted."""
        return self.told_at - TOLD_MARGIN


class Disavowals(Protocol):
    """Changes that somebody disavows. Raises `StoreUnavailable`, `InvalidField` before any I/O."""

    async def disavow(self, disavowal: Disavowal, origin: Origin) -> int | None:
        """Call this to carry one out, in one transaction; how many sign-ins ended.

        None, and nothing is, when it was used, or the account is gone. Of any number at once, in
        any processes, one is carried out. Cancelled, all is done or nothing.
        """
        ...


def disavow_limit(address: str) -> Limit:
    """Call this for how often one tries from an address of the network; a digest."""
    return Limit(f"disavow:{address}", DISAVOWALS_PER_ADDRESS_MAX, DISAVOWAL_PERIOD)


def check_disavow(disavowal: object, origin: object) -> None:
    """Call this with what `disavow` takes; raises `InvalidField`."""
    check_a("disavowal", disavowal, Disavowal)
    check_a("origin", origin, Origin)
