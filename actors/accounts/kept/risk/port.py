"""What is kept of sign-ins that were assessed, and of attempts that their owner allowed.

Kept by `storage/postgres/accounts/kept/logins.py` and its twin in `storage/memory`; both pass
`storage.testing.LoginsSuite`. Rows are written by sign-ins themselves, in their transaction: the
newest of each account. How one was judged never changes; its place is removed with time.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from actors.accounts.kept.audit import Origin
from actors.accounts.kept.risk.words import ALLOWED_FOR, Outcome
from actors.accounts.kept.throttle import Limit
from actors.accounts.ports import check_digest
from actors.persistence.errors import InvalidField
from actors.persistence.words import check_a, check_uuid

# Of an account: twenty that signals are about, and as many that were refused among them.
LOGINS_KEPT = 50
# SEC-134: as what else tells from where somebody came. Of the last twenty, which later ones are
# compared with, the moment stays and the place goes.
PLACES_KEPT = timedelta(days=30)
# As of those who say "this was not me".
ALLOWANCES_PER_ADDRESS_MAX = 20


@dataclass(frozen=True, slots=True)
class JudgedLogin:
    """A sign-in, or an attempt, as operators are told of it; `factors` is as in the audit.

    `unobserved` is what would have become of it, where risk is only observed.
    """

    id: UUID
    user_id: UUID
    at: datetime
    outcome: Outcome
    method: str
    browser: str
    country: str
    score: float | None
    level: str
    factors: str
    unobserved: Outcome | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """Its owner allows one more attempt: `bound` tells from where, `until` how long it is good.

    `digest` is that of what the mail carried.
    """

    user_id: UUID
    digest: bytes = field(repr=False)
    bound: bytes = field(repr=False)
    until: datetime

    def __post_init__(self) -> None:
        check_uuid("user_id", self.user_id)
        check_digest(self.digest)
        check_digest(self.bound)
        check_a("until", self.until, datetime)
        if self.until.tzinfo is None:
            raise InvalidField("until", "has no time zone")


class Logins(Protocol):
    """Sign-ins that were assessed. Raises `StoreUnavailable`, `InvalidField` before any I/O."""

    async def find(self, login_id: UUID) -> JudgedLogin | None:
        """Call this for one of them, by the reference of its sign-in; None for none kept."""
        ...

    async def allow(self, allowance: Allowance, origin: Origin) -> bool:
        """Call this when the owner of an account allows one more attempt.

        False when that mail was used before, is over, or the account is gone. The attempt uses it
        up; of any number at once one does.
        """
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this for at most so many that are 30 days old; returns how many it were.

        Of an account's last twenty that led in the place is removed, the others whole.
        """
        ...


def allow_limit(address: str) -> Limit:
    """Call this for how often one allows from an address of the network; a digest."""
    return Limit(f"allow:{address}", ALLOWANCES_PER_ADDRESS_MAX, ALLOWED_FOR)


def check_allow(allowance: object, origin: object) -> None:
    """Call this with what `allow` takes; raises `InvalidField`."""
    check_a("allowance", allowance, Allowance)
    check_a("origin", origin, Origin)
