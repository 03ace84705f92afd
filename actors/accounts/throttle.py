"""How often a sign-in or a registration may be tried (SITE-48, SEC-76): pure, and its port.

A try is counted before it is made and given back when it was a good one: so fifty at once count
fifty, whatever becomes of them. One that is refused here is not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from actors.persistence.errors import InvalidField
from actors.persistence.words import KEY_BYTES_MAX, check_a, check_list, check_text

LOGINS_FAILED_PER_ADDRESS_MAX = 10
LOGIN_PERIOD = timedelta(minutes=15)
# An account is never locked, or anybody could lock out anybody: tries of it become slow.
LOGINS_BEFORE_DELAY = 5
DELAY_FIRST = timedelta(seconds=1)
DELAY_MAX = timedelta(seconds=60)
# So long after the last failure its slowness is forgotten.
DELAY_KEPT = timedelta(hours=1)
REGISTER_TRIES_PER_ADDRESS_MAX = 20
ACCOUNTS_PER_ADDRESS_MAX = 5
REGISTER_PERIOD = timedelta(hours=1)
# An account's document may be long, and is read once or twice.
EXPORTS_PER_ACCOUNT_MAX = 5
EXPORT_PERIOD = timedelta(hours=1)

# The last delay is reached by then: older failures change nothing.
_FAILURES_KEPT = LOGINS_BEFORE_DELAY + 8


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many tries under `key` within any `period`; or, `delays`, ever slower ones."""

    key: str
    tries_max: int
    period: timedelta
    delays: bool = False

    def __post_init__(self) -> None:
        if not check_text("key", self.key, KEY_BYTES_MAX):
            raise InvalidField("key", "is empty")

    @property
    def kept_max(self) -> int:
        """Call this for how many tries must be remembered."""
        return _FAILURES_KEPT if self.delays else self.tries_max


def login_limits(address: str, account: str) -> tuple[Limit, Limit]:
    """Call this for the limits of a login; both are digests, and `account` of any address typed."""
    return (
        Limit(f"login:{address}", LOGINS_FAILED_PER_ADDRESS_MAX, LOGIN_PERIOD),
        Limit(f"account:{account}", LOGINS_BEFORE_DELAY, DELAY_KEPT, delays=True),
    )


def register_limits(address: str) -> tuple[Limit, Limit]:
    """Call this for the limits of a registration: tries, then accounts that come of them."""
    return (
        Limit(f"register:{address}", REGISTER_TRIES_PER_ADDRESS_MAX, REGISTER_PERIOD),
        Limit(f"accounts:{address}", ACCOUNTS_PER_ADDRESS_MAX, REGISTER_PERIOD),
    )


def export_limit(user_id: UUID) -> Limit:
    """Call this for how often an account may be taken away as a document."""
    return Limit(f"export:{user_id}", EXPORTS_PER_ACCOUNT_MAX, EXPORT_PERIOD)


def recent(limit: Limit, tries: Sequence[datetime], now: datetime) -> list[datetime]:
    """Call this for those tries that still count, oldest first."""
    return sorted(at for at in tries if now - at < limit.period)[-limit.kept_max :]


def wait_s(limit: Limit, tries: Sequence[datetime], now: datetime) -> float:
    """Call this for how long the next try has to wait, 0 for not at all."""
    counted = recent(limit, tries, now)
    if len(counted) < limit.tries_max:
        return 0.0
    if limit.delays:
        doubled = DELAY_FIRST * (1 << (len(counted) - limit.tries_max))
        left = counted[-1] + min(DELAY_MAX, doubled) - now
    else:
        left = counted[-limit.tries_max] + limit.period - now
    return max(0.0, left.total_seconds())


class Attempts(Protocol):
    """Counts tries. Every method raises `StoreUnavailable` and its kin while the store is away."""

    async def take(self, limits: Sequence[Limit]) -> float:
        """Call this before a try: 0 when it may be made, and is counted under each key.

        Else the seconds until it may be; then nothing was counted. Of calls at once each sees those
        before it.
        """
        ...

    async def give_back(self, keys: Sequence[str]) -> None:
        """Call this when a try was a good one: one of each key counts no more."""
        ...

    async def forget(self, key: str) -> None:
        """Call this when nothing tried under a key is to count any more."""
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove at most so many keys whose tries are over; returns how many."""
        ...


def check_limits(limits: Sequence[Limit]) -> list[Limit]:
    """Call this with limits; gives them in the order in which they are locked."""
    found: list[Limit] = []
    for limit in check_list("limits", limits):
        check_a("a limit", limit, Limit)
        assert isinstance(limit, Limit)
        found.append(limit)
    return sorted(found, key=lambda limit: limit.key)


def check_keys(keys: Sequence[str]) -> list[str]:
    """Call this with keys of limits; raises `InvalidField`."""
    found = [
        str(key) for key in check_list("keys", keys) if check_text("a key", key, KEY_BYTES_MAX)
    ]
    return sorted(found)
