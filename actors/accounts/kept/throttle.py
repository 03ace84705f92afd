"""How often something may be tried (AUTH-40, SITE-48, SEC-76): pure, and the port that counts.

A try is counted before it is made and given back when it was a good one: so fifty at once count
fifty, whatever becomes of them. One that is refused is not counted, so it makes nobody wait longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from actors.persistence.errors import InvalidField, StoreError
from actors.persistence.words import KEY_BYTES_MAX, check_a, check_list, check_text
from actors.runtime import Log

_log = Log("actors.accounts")

# A list of moments is kept for each key: a longer one is a bucket's work, which keeps one moment.
TRIES_MAX = 10_000
# Longer ago nobody remembers; and microseconds of it fit every type on the way.
PERIOD_MAX = timedelta(days=366)
# One statement locks the keys of all limits of one try.
LIMITS_MAX = 16
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
# A second factor is tried by who gave the first one. At one try a minute, of a million codes of
# which three are good, chance needs two hundred days.
FACTORS_FAILED_PER_ADDRESS_MAX = 10
FACTOR_PERIOD = timedelta(minutes=15)
# An account's document may be long, and is read once or twice.
EXPORTS_PER_ACCOUNT_MAX = 5
EXPORT_PERIOD = timedelta(hours=1)

# A client that comes back again and again asks for a ticket once a second at the worst (WEB-51).
TICKETS_PER_SESSION_MAX = 60
# Ten such clients behind one address.
TICKETS_PER_ADDRESS_MAX = 600
TICKET_PERIOD = timedelta(minutes=1)

# The last delay is reached by then: older failures change nothing.
_FAILURES_KEPT = LOGINS_BEFORE_DELAY + 8


class Shape(StrEnum):
    """What becomes of who tries more often than a limit says."""

    # At most so many within any period, to the microsecond.
    WINDOW = "window"
    # So many at once, and as they come back one by one: that many in a period, over time.
    BUCKET = "bucket"
    # Never locked, but ever slower.
    DELAYS = "delays"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `tries_max` tries under `key` within any `period`; `shape` says otherwise.

    Of a bucket `tries_max` fit into it, and it is full again after a `period`. Raises
    `InvalidField`: 1 to 10,000 tries, a period up to 366 days, a key up to 1,024 bytes.
    """

    key: str
    tries_max: int
    period: timedelta
    shape: Shape = Shape.WINDOW

    def __post_init__(self) -> None:
        if not check_text("key", self.key, KEY_BYTES_MAX):
            raise InvalidField("key", "is empty")
        check_a("shape", self.shape, Shape)
        check_a("tries_max", self.tries_max, int)
        if isinstance(self.tries_max, bool) or not 1 <= self.tries_max <= TRIES_MAX:
            raise InvalidField("tries_max", f"is from 1 to {TRIES_MAX}")
        check_a("period", self.period, timedelta)
        # A bucket gives one back after a part of it, which is a microsecond at least.
        if not timedelta(microseconds=self.tries_max) <= self.period <= PERIOD_MAX:
            raise InvalidField("period", f"is a microsecond a try or more, up to {PERIOD_MAX}")

    @property
    def kept_max(self) -> int:
        """Call this for how many moments must be remembered."""
        match self.shape:
            case Shape.WINDOW:
                return self.tries_max
            case Shape.BUCKET:
                return 1
            case Shape.DELAYS:
                return _FAILURES_KEPT

    @property
    def step(self) -> timedelta:
        """Call this for the time in which a bucket gets one back."""
        return self.period // self.tries_max


@dataclass(frozen=True, slots=True)
class Allowed:
    """It may be tried; so often again at once. Of several limits the least."""

    remaining: int


@dataclass(frozen=True, slots=True)
class Limited:
    """It may not, and was not counted. In `retry_after` seconds it may, if nobody is faster."""

    retry_after: float


Verdict = Allowed | Limited


def login_limits(address: str, account: str) -> tuple[Limit, Limit]:
    """Call this for the limits of a login; both are digests, and `account` of any address typed."""
    return (
        Limit(f"login:{address}", LOGINS_FAILED_PER_ADDRESS_MAX, LOGIN_PERIOD),
        Limit(f"account:{account}", LOGINS_BEFORE_DELAY, DELAY_KEPT, Shape.DELAYS),
    )


def register_limits(address: str) -> tuple[Limit, Limit]:
    """Call this for the limits of a registration: tries, then accounts that come of them."""
    return (
        Limit(f"register:{address}", REGISTER_TRIES_PER_ADDRESS_MAX, REGISTER_PERIOD),
        Limit(f"accounts:{address}", ACCOUNTS_PER_ADDRESS_MAX, REGISTER_PERIOD),
    )


def factor_limits(address: str, user_id: UUID) -> tuple[Limit, Limit]:
    """Call this for the limits of a second factor: by the digest of an address, and by account."""
    return (
        Limit(f"factor:{address}", FACTORS_FAILED_PER_ADDRESS_MAX, FACTOR_PERIOD),
        Limit(f"factor:of:{user_id}", LOGINS_BEFORE_DELAY, DELAY_KEPT, Shape.DELAYS),
    )


def export_limit(user_id: UUID) -> Limit:
    """Call this for how often an account may be taken away as a document."""
    return Limit(f"export:{user_id}", EXPORTS_PER_ACCOUNT_MAX, EXPORT_PERIOD)


def ticket_limits(session: str, address: str, user_id: UUID | None) -> tuple[Limit, ...]:
    """Call this for how often tickets for sockets are given; the digest of an address.

    A member is counted as such, in whatever browser and from wherever; a guest by both.
    """
    if user_id is not None:
        return (Limit(f"ticket:user:{user_id}", TICKETS_PER_SESSION_MAX, TICKET_PERIOD),)
    return (
        Limit(f"ticket:session:{session}", TICKETS_PER_SESSION_MAX, TICKET_PERIOD),
        Limit(f"ticket:address:{address}", TICKETS_PER_ADDRESS_MAX, TICKET_PERIOD),
    )


def judge(limit: Limit, tries: Sequence[datetime], now: datetime) -> Verdict:
    """Call this for whether one more may be made now, without counting it.

    `tries` is what `counted` gave at the last one. A moment that is yet to come was written by a
    clock that went wrong, and counts for nothing: it would lock somebody out until then.
    """
    kept = _recent(limit, tries, now)
    if limit.shape is Shape.BUCKET:
        full_at = kept[0] if kept else now
        left = full_at - (limit.tries_max - 1) * limit.step - now
        free = (now + limit.tries_max * limit.step - full_at) // limit.step
    else:
        free = limit.tries_max - len(kept)
        left = timedelta(0)
        if free <= 0 and limit.shape is Shape.WINDOW:
            left = kept[-limit.tries_max] + limit.period - now
        elif free <= 0:
            doubled = DELAY_FIRST * (1 << (len(kept) - limit.tries_max))
            left = kept[-1] + min(DELAY_MAX, doubled) - now
    if left > timedelta(0):
        return Limited(left.total_seconds())
    return Allowed(max(0, free - 1))


def counted(limit: Limit, tries: Sequence[datetime], now: datetime) -> list[datetime]:
    """Call this for what to keep when one more is made now, oldest first."""
    kept = _recent(limit, tries, now)
    if limit.shape is Shape.BUCKET:
        # When it is full again, if nothing is taken from it.
        return [(kept[0] if kept else now) + limit.step]
    return [*kept, now][-limit.kept_max :]


def uncounted(limit: Limit, tries: Sequence[datetime]) -> list[datetime]:
    """Call this for what to keep when one was given back: the last one."""
    if limit.shape is Shape.BUCKET:
        return [at - limit.step for at in tries]
    return list(tries[:-1])


def _recent(limit: Limit, tries: Sequence[datetime], now: datetime) -> list[datetime]:
    if limit.shape is Shape.BUCKET:
        return [at for at in tries if now < at <= now + limit.tries_max * limit.step]
    return sorted(at for at in tries if now - limit.period < at <= now)[-limit.kept_max :]


class RateLimiter(Protocol):
    """Counts tries, over all processes of a database, by its clock.

    Every method raises `StoreUnavailable` and its kin while the store is away: whoever lets people
    in refuses then, others let them try and count that they did (`LenientLimiter`). Cancelled, a
    try is perhaps counted.
    """

    async def hit(self, *limits: Limit) -> Verdict:
        """Call this before a try, with its limits: counted under each key when all of them allow.

        When one does not nothing is counted, and the longest wait is told. Of calls at once each
        sees those before it.
        """
        ...

    async def peek(self, *limits: Limit) -> Verdict:
        """Call this for what `hit` would say now; nothing is counted."""
        ...

    async def give_back(self, *limits: Limit) -> None:
        """Call this when a try was a good one: one of each key counts no more."""
        ...

    async def clear(self, key: str) -> None:
        """Call this when nothing tried under a key is to count any more."""
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove at most so many keys whose tries are over; returns how many."""
        ...


class LenientLimiter:
    """Lets everybody through while the store is away, for what opens nothing (AUTH-40).

    `let_through` counts the tries that nobody counted; the first of an outage is logged.
    """

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter, self._is_away = limiter, False
        self.let_through = 0

    async def hit(self, *limits: Limit) -> Verdict:
        """See `RateLimiter.hit`; raises `InvalidField` only."""
        try:
            verdict = await self._limiter.hit(*limits)
        except StoreError as error:
            if isinstance(error, InvalidField):
                raise
            if not self._is_away:
                _log.warning("rate_limits.away", code=error.code)
            self._is_away = True
            self.let_through += 1
            return Allowed(min(limit.tries_max for limit in limits) - 1)
        self._is_away = False
        return verdict


def check_limits(limits: Sequence[Limit]) -> list[Limit]:
    """Call this with limits; gives them in the order in which they are locked."""
    found: dict[str, Limit] = {}
    for limit in check_list("limits", limits):
        check_a("a limit", limit, Limit)
        assert isinstance(limit, Limit)
        if limit.key in found:
            raise InvalidField("limits", "name a key twice")
        found[limit.key] = limit
    if not 1 <= len(found) <= LIMITS_MAX:
        raise InvalidField("limits", f"are {len(found)}; give 1 to {LIMITS_MAX}")
    return [found[key] for key in sorted(found)]


def check_key(key: str) -> str:
    """Call this with the key of a limit; raises `InvalidField`."""
    if not check_text("key", key, KEY_BYTES_MAX):
        raise InvalidField("key", "is empty")
    return str(key)
