"""Everything that leaves the process goes through one of these: all guards in one, by name.

    outside = Dependencies({"gateway": DependencyPolicy(deadline=5.0)}, on_change=tell)
    charged = await outside.dependency("gateway").call(partial(client.charge, order))

From outside in: deadline > bulkhead > breaker > retry > token bucket > call. So a call that waits
for a place is no call yet, an open breaker is asked once and not by each attempt, and every attempt
takes a token of its own.

Rule 1: a call has an end. One that the dependency did not answer in its own time is a failure of
        the dependency; one whose caller had less time, or went away, says nothing of it.
Rule 2: a refusal (4xx, a domain error that `counts` names none) passes, and is no failure.
Rule 3: names are declared once, where a program is put together. Nobody makes one on the way.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Final, TypeVar

import trio

from actors.runtime.words.places import in_place
from supervision.guards.breaker import Breaker, BreakerChange, BreakerPolicy, BreakerStats
from supervision.guards.bucket import BucketPolicy, BucketStats, RateExceeded, TokenBucket
from supervision.guards.bulkhead import Bulkhead, BulkheadFull, BulkheadPolicy, BulkheadStats
from supervision.guards.retry import LIGHT_RETRY, NotRetried, RetryPolicy, retry
from supervision.specs.errors import SupervisionError

T = TypeVar("T")

_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class UnknownDependency(SupervisionError):
    """Raised for a name that was not declared; it tells those that were."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        there = ", ".join(known) or "none"
        super().__init__(
            f"there is no dependency {name!r}; nothing was called. Declared are: {there}. "
            "Add it where the program is put together"
        )
        self.name, self.known = name, known


class DependencyTimeout(SupervisionError, TimeoutError):
    """Raised when a dependency did not answer within `seconds`; it may have done its work."""

    def __init__(self, name: str, seconds: float, *, is_callers: bool = False) -> None:
        super().__init__(
            f"{name} did not answer within {seconds:.1f} s. Whether it has done something is not "
            "known; ask again with the same key"
        )
        self.name, self.seconds = name, seconds
        # Whether it was the caller who had no more time: says nothing of the dependency.
        self.is_callers = is_callers


def is_failure(error: BaseException) -> bool:
    """Call this for whether an error speaks against the dependency: all but a refusal (4xx)."""
    if isinstance(error, NotRetried):
        error = error.cause
    status = getattr(error, "status", None)
    return not (isinstance(status, int) and 400 <= status < 500 and status not in {408, 429})


@dataclass(frozen=True, slots=True)
class DependencyPolicy:
    """`deadline` seconds for all of a call, `attempt` for each try of it; and the guards' own.

    Calls that must not be made twice get `retry=ONCE`. `counts` tells of an error whether it speaks
    against the dependency; None is neither for nor against it.
    """

    deadline: float = 30.0
    attempt: float = 10.0
    bulkhead: BulkheadPolicy = field(default_factory=BulkheadPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    retry: RetryPolicy = LIGHT_RETRY
    bucket: BucketPolicy = field(default_factory=BucketPolicy)
    counts: Callable[[BaseException], bool | None] = field(default=is_failure)

    def __post_init__(self) -> None:
        if not 0 < self.attempt <= self.deadline < inf:
            raise ValueError(
                in_place(f"{self!r}: 0 < attempt <= deadline, and the deadline is finite")
            )


# For what cannot be known to be done once only when it is done again.
ONCE: Final = RetryPolicy(attempts=1)


@dataclass(frozen=True, slots=True)
class DependencyStats:
    """What one dependency has seen: its guards' figures, and `attempts` made for its calls.

    `exhausted` calls used all their attempts up, `timed_out` had no answer in time; `retried`
    attempts were not the first of their call.
    """

    name: str
    breaker: BreakerStats
    bulkhead: BulkheadStats
    bucket: BucketStats
    attempts: int
    exhausted: int
    timed_out: int
    retried: int


class Dependency:
    """All guards of one thing outside, for whoever calls it; see the top of this file."""

    def __init__(
        self,
        name: str,
        policy: DependencyPolicy = DependencyPolicy(),
        *,
        on_change: Callable[[BreakerChange], object] | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a dependency: small letters, digits, '_', '-' and '.', "
                "at most 64, a letter first"
            )
        self.name, self.policy = name, policy
        self._bulkhead = Bulkhead(name, policy.bulkhead)
        self._breaker = Breaker(name, policy.breaker, counts=self._counts, on_change=on_change)
        self._bucket = TokenBucket(name, policy.bucket)
        self._attempts = self._exhausted = self._timed_out = self._retried = 0

    def __repr__(self) -> str:
        return f"<Dependency {self.name} {self._breaker.state}>"

    def stats(self) -> DependencyStats:
        """Call this for what it has seen since the process began."""
        return DependencyStats(
            self.name,
            self._breaker.stats(),
            self._bulkhead.stats(),
            self._bucket.stats(),
            self._attempts,
            self._exhausted,
            self._timed_out,
            self._retried,
        )

    def reset(self) -> None:
        """Call this to close its breaker by hand: the next call is made at once."""
        self._breaker.reset()

    async def call(self, make: Callable[[], Awaitable[T]], *, deadline: float | None = None) -> T:
        """Call this to make a call of it; `make` begins one attempt, and may be called again.

        `deadline` is absolute, as `self.deadline` of a handler. Raises `BulkheadFull`,
        `CircuitOpen` and `RateExceeded` when nothing was called, `DependencyTimeout`, `NotRetried`
        when all attempts failed in passing ways, else what the call raises. Cancelled at once.
        """
        own = trio.current_time() + self.policy.deadline
        limit = own if deadline is None else min(own, deadline)
        with trio.move_on_at(limit) as waiting:
            async with self._bulkhead.place():
                # From here on the limits are those below: the breaker must see a time-out as the
                # error it is, not as a cancellation.
                waiting.deadline = inf
                return await self._breaker.call(lambda: self._tried(make, limit, own))
        # Its own wait of the bulkhead was longer than the time there was.
        raise BulkheadFull(self.name, self._bulkhead.stats().waiting)

    async def _tried(self, make: Callable[[], Awaitable[T]], limit: float, own: float) -> T:
        policy, tries = self.policy.retry, count()

        async def attempt() -> T:
            self._retried += next(tries) > 0
            return await self._attempt(make, limit, own)

        try:
            return await retry(attempt, policy, deadline=limit)
        except NotRetried as error:
            if policy.attempts > 1:
                self._exhausted += 1
                raise
            only = error.cause
        # What is tried once only has failed by its own error, with the cause that it has.
        raise only

    async def _attempt(self, make: Callable[[], Awaitable[T]], limit: float, own: float) -> T:
        await self._bucket.take(limit)
        self._attempts += 1
        began = trio.current_time()
        latest = min(limit, began + self.policy.attempt)
        try:
            with trio.move_on_at(latest):
                return await make()
        except Exception as error:
            asked = getattr(error, "retry_after", None)
            if isinstance(asked, (int, float)) and not isinstance(asked, bool) and asked > 0:
                self._bucket.pause(float(asked))
            raise
        self._timed_out += 1
        is_callers = latest < min(own, began + self.policy.attempt)
        raise DependencyTimeout(self.name, latest - began, is_callers=is_callers)

    def _counts(self, error: BaseException) -> bool | None:
        cause = error.cause if isinstance(error, NotRetried) else error
        if isinstance(cause, RateExceeded) or (
            isinstance(cause, DependencyTimeout) and cause.is_callers
        ):
            return None
        return self.policy.counts(error)


class Dependencies:
    """All that a program calls outside of itself, by name; breakers' changes go to `on_change`."""

    def __init__(
        self,
        policies: Mapping[str, DependencyPolicy],
        *,
        on_change: Callable[[BreakerChange], object] | None = None,
    ) -> None:
        self._all = {
            name: Dependency(name, policy, on_change=on_change) for name, policy in policies.items()
        }

    def __iter__(self) -> Iterator[Dependency]:
        return iter(self._all.values())

    def dependency(self, name: str) -> Dependency:
        """Call this for one of them; raises `UnknownDependency`."""
        found = self._all.get(name)
        if found is None:
            raise UnknownDependency(name, tuple(self._all))
        return found

    def maybe(self, name: str) -> Dependency | None:
        """Call this for one of them, None when it was not declared: nothing is called there."""
        return self._all.get(name)

    def stats(self) -> list[DependencyStats]:
        """Call this for the figures of all, in the order in which they were declared."""
        return [one.stats() for one in self._all.values()]
