"""How an account whose second factor is lost comes back to its owner, and the port (AUTH-10).

Rule 1: it begins with a link to the address, so nobody learns of an account who does not read its
        mail; and a day passes before anything of it can be done, unless a recovery code is shown.
Rule 2: every address the account is known by hears of it when it begins and when the day is over,
        with a link that stops it; and again when it is stopped or done. A mail and what it tells of
        are one transaction.
Rule 3: who proves a second factor has not lost it: that stops it as well, and all are told.
Rule 4: what is done voids every way to sign in but the link, and ends all sign-ins. For another day
        nothing sensitive can be done, so that a sign-in stays at its first level.
Rule 5: the times are those of the store. No program's clock makes a day shorter.

Kept by `storage/postgres/accounts/ways/recoveries.py` and its twin in `storage/memory`; both pass
`storage.testing.RecoveriesSuite`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.factors.port import CodeProof
from actors.accounts.kept.throttle import Limit
from actors.persistence.beside_log.outbox import check_messages
from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    OutboxMessage,
    check_a,
    check_integer,
    check_list,
    check_text,
    check_uuid,
)

# AUTH-10: whoever reads mail once a day hears of it in time.
RECOVERY_WAIT = timedelta(hours=24)
# Once the day is over; who is away for a week still finds it good.
RECOVERY_KEPT = timedelta(days=7)
# AUTH-10: for what was not stopped in time, a day in which nothing can be made worse.
GUARDED_FOR = timedelta(hours=24)
# One that is stopped may be begun again, and its mails are read by people.
STARTS_PER_USER_MAX = 3
STARTS_PERIOD = timedelta(hours=24)
# Of an address of the network, that tries links; as with "this was not me".
TRIES_PER_ADDRESS_MAX = 20
TRIES_PERIOD = timedelta(hours=1)
# Its own and those of a week, the oldest first: whoever changes it often now does not push out
# the address of who had it before.
ADDRESSES_TOLD_MAX = 20
# Of one look for what is ready.
READY_MAX = 100


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """An address that an account has, or had within a week and is kept for it.

    `change` is the change that took it away, by which it can be taken back; None for its own.
    """

    email: str = field(repr=False)
    change: UUID | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """Who an account is of, and where it is told: its own address first."""

    username: str
    addresses: Sequence[KnownAddress]

    @property
    def emails(self) -> list[str]:
        """Call this for the addresses alone."""
        return [one.email for one in self.addresses]


# The mails to all who are known that one was stopped. Pure: it runs on a thread of the store.
TellStopped = Callable[[UUID, Known], Sequence[OutboxMessage]]


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovery that is under way. `is_ready`: the day is over, and that was told."""

    id: UUID
    user_id: UUID
    started_at: datetime
    ready_at: datetime
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Telling:
    """Mails of a step, and which addresses they go to; nothing is done when those are others."""

    emails: Sequence[str] = field(repr=False)
    outbox: Sequence[OutboxMessage] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        given = check_list("emails", self.emails)
        if not 1 <= len(given) <= ADDRESSES_TOLD_MAX:
            raise InvalidField("emails", f"are {len(given)}; give 1 to {ADDRESSES_TOLD_MAX}")
        for one in given:
            if not check_text("emails", one, 1024):
                raise InvalidField("emails", "has an empty one")
        check_messages(self.outbox)


@dataclass(frozen=True, slots=True)
class NewRecovery:
    """A recovery to be begun."""

    id: UUID
    user_id: UUID
    telling: Telling

    def __post_init__(self) -> None:
        check_uuid("id", self.id)
        check_uuid("user_id", self.user_id)
        check_a("telling", self.telling, Telling)


class Recoveries(Protocol):
    """Recoveries of accounts. Raises `StoreUnavailable`, and `InvalidField` before any I/O.

    Cancelled, an act is wholly there or wholly absent. Each act is good only while the account has
    the address it had when it began, and `known` gives those of `telling`.
    """

    async def known(self, user_id: UUID) -> Known | None:
        """Call this for where an account is told; None for nobody. At most twenty addresses."""
        ...

    async def start(self, new: NewRecovery, origin: Origin) -> Recovery | None:
        """Call this to begin one. One that is under way goes on, and nothing is written.

        None, and nothing is, for an account without a second factor, or that is gone.
        """
        ...

    async def recover(self, new: NewRecovery, proof: CodeProof, origin: Origin) -> int | None:
        """Call this to carry one out at once, by a recovery code, which is used up; as `finish`.

        None, and nothing is, for a code that is none of the account's, or was used.
        """
        ...

    async def of_user(self, user_id: UUID) -> Recovery | None:
        """Call this for what is under way for an account."""
        ...

    async def find(self, recovery_id: UUID) -> Recovery | None:
        """Call this for one that is under way; None when it was stopped, done, or is over."""
        ...

    async def due(self, limit: int = READY_MAX) -> Sequence[Recovery]:
        """Call this for those whose day is over and not told yet; the oldest first."""
        ...

    async def make_ready(self, recovery_id: UUID, telling: Telling) -> bool:
        """Call this to tell that the day is over; False, and nothing is, when it was told, stopped
        or is not yet. Of any number at once, in any processes, one tells.
        """
        ...

    async def stop(self, recovery_id: UUID, telling: Telling, origin: Origin) -> bool:
        """Call this to stop one; False, and nothing is, when there is none any more."""
        ...

    async def finish(self, recovery_id: UUID, telling: Telling, origin: Origin) -> int | None:
        """Call this to carry one out that is ready; how many sign-ins ended.

        None, and nothing is, for one that is not. Of any number at once, in any processes, one is
        carried out, and of that and a stop one.
        """
        ...


def start_limit(user_id: UUID) -> Limit:
    """Call this for how often a recovery of an account is begun."""
    return Limit(f"recovery:{user_id}", STARTS_PER_USER_MAX, STARTS_PERIOD)


def recovery_limit(address: str) -> Limit:
    """Call this for how often one tries from an address of the network; a digest."""
    return Limit(f"recovery-open:{address}", TRIES_PER_ADDRESS_MAX, TRIES_PERIOD)


def check_start(new: object, origin: object) -> None:
    """Call this with what `start` takes; raises `InvalidField`."""
    check_a("new", new, NewRecovery)
    check_a("origin", origin, Origin)


def check_recover(new: object, proof: object, origin: object) -> None:
    """Call this with what `recover` takes; raises `InvalidField`."""
    check_start(new, origin)
    check_a("proof", proof, CodeProof)


def check_teller(tell: object) -> None:
    """Call this with what a sign-in brings to tell of a stop; raises `InvalidField`."""
    if tell is not None and not callable(tell):
        raise InvalidField("tell_stopped", "is no function")


def check_due(limit: object) -> None:
    """Call this with what `due` takes; raises `InvalidField`."""
    check_integer("limit", limit, 1, READY_MAX)


def check_step(recovery_id: object, telling: object) -> None:
    """Call this with what a step takes; raises `InvalidField`."""
    check_uuid("recovery_id", recovery_id)
    check_a("telling", telling, Telling)
