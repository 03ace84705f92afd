"""Trying again: which errors are worth it, how long to wait, and when to stop.

`RetryPolicy` is pure; `retry` carries it out. Order of the guards around a call, outermost
first: deadline > bulkhead > breaker > retry > call. A retry stands inside the breaker, so an
open breaker is never tried again before its `retry_in`.

Rule: a retry never waits past the deadline of the message it works for.
"""

import random as random_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import trio

from actors.runtime.words.places import in_place
from supervision.specs.errors import SupervisionError

T = TypeVar("T")

# A server that asks for more patience than this is told to whoever called, not waited for.
RETRY_AFTER_MAX: Final = 60.0
RETRYABLE_STATUS: Final = frozenset({429, 503})
RETRYABLE_SQLSTATE: Final = frozenset({"40P01", "40001"})
# Named by class, because the packages they live in are above this one.
RETRYABLE_NAMES: Final = frozenset({"StoreUnavailable", "BusUnavailable"})


class NotRetried(SupervisionError):
    """Raised when the attempts are used up; `cause` is the last error, `attempts` how many."""

    def __init__(self, attempts: int, cause: Exception) -> None:
        super().__init__(
            f"gave up after {attempts} attempts: {type(cause).__name__}: {cause}. "
            "Nothing more is tried; ask again later."
        )
        self.attempts, self.cause = attempts, cause


def is_transient(error: BaseException) -> bool:
    """Call this to know whether trying again may help: time-outs, lost connections, overload.

    Not worth it: validation, authorisation, not found, other 4xx, codec errors, conflicts.
    """
    if isinstance(error, (TimeoutError, trio.TooSlowError, ConnectionError)):
        return True
    if getattr(error, "status", None) in RETRYABLE_STATUS:
        return True
    if getattr(error, "sqlstate", None) in RETRYABLE_SQLSTATE:
        return True
    return any(cls.__name__ in RETRYABLE_NAMES for cls in type(error).__mro__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` calls, `first` seconds apart and doubling up to `max`, jittered.

    The defaults are 3 attempts after 100 and 200 ms. A wait is its length times 1 +- `jitter`; with
    a `least`, times something between that and 1. `retries` decides which errors count.
    """

    attempts: int = 3
    first: float = 0.1
    max: float = 30.0
    factor: float = 2.0
    jitter: float = 0.2
    least: float | None = field(default=None, kw_only=True)
    retries: Callable[[BaseException], bool] = field(default=is_transient)

    def __post_init__(self) -> None:
        if not (self.attempts >= 1 and 0 < self.first <= self.max and self.factor >= 1):
            raise ValueError(in_place(f"{self!r}: attempts >= 1, 0 < first <= max, factor >= 1"))
        if not 0 <= self.jitter <= 1:
            raise ValueError(in_place(f"jitter is {self.jitter!r}; it must be in [0, 1]"))
        if self.least is not None and not 0 <= self.least <= 1:
            raise ValueError(in_place(f"least is {self.least!r}; it must be in [0, 1]"))

    def wait(self, attempt: int, error: BaseException, u: float) -> float | None:
        """Call this after failed `attempt` (from 1): seconds to wait, None to stop trying.

        `u` is in [-1, 1]. What the other side asks for (`retry_after`) is honoured.
        """
        if attempt >= self.attempts or not self.retries(error):
            return None
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, (int, float)) and not isinstance(asked, bool):
            return float(asked) if 0 <= asked <= RETRY_AFTER_MAX else None
        try:
            grown = self.first * self.factor ** (attempt - 1)
        except OverflowError:
            grown = self.max
        if self.least is not None:
            return min(self.max, grown) * (self.least + (1 - self.least) * (1 + u) / 2)
        return min(self.max, grown) * (1 + u * self.jitter)


# Of a call that somebody waits for: 3 more, and whoever failed together does not come together
# again (full jitter; M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
LIGHT_RETRY: Final = RetryPolicy(attempts=4, first=0.1, max=30.0, least=0.0)
# Of an effect, which nobody waits for.
EFFECT_RETRY: Final = RetryPolicy(attempts=5, first=1.0, max=32.0, least=0.5)


async def retry(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy = RetryPolicy(),
    *,
    deadline: float | None = None,
    random: Callable[[], float] = random_module.random,
) -> T:
    """Call this to make a call, again if it failed in a way that may pass; a checkpoint.

    `deadline` is absolute (`self.deadline` in a handler); the caller's own cancel scopes count
    too. Raises the error of the call when it is not worth trying again, and `NotRetried` from
    it when the attempts or the time are used up. Cancellation passes through.
    """
    # What cannot be over before this is not begun: a wait that would end in a cancellation is
    # only time lost to whoever waits for us.
    limit = trio.current_effective_deadline()
    if deadline is not None:
        limit = min(limit, deadline)
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except Exception as error:
            wait = policy.wait(attempt, error, 2 * random() - 1)
            if wait is None and not (policy.retries(error) and attempt >= policy.attempts):
                raise
            if wait is None or trio.current_time() + wait >= limit:
                raise NotRetried(attempt, error) from error
            delay = wait
        await trio.sleep(delay)
