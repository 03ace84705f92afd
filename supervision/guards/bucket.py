"""A token bucket: so many calls a second to one dependency, and a burst after a rest.

`BucketState` counts, without clock or task; `TokenBucket` makes calls wait. Who comes takes a
token in advance and waits until it would be there, so calls go in the order in which they came.

Rule 1: nobody waits past a deadline; who would have to is refused at once and takes nothing.
Rule 2: a waiter that is cancelled gives its token back.
Rule 3: what the other side asks for (`Retry-After`) empties the bucket for so long.
"""

from dataclasses import dataclass
from math import inf

import trio

from actors.runtime.words.places import in_place
from supervision.specs.errors import NotCalled

# A dependency that asks for a longer rest than this gets it from its breaker, not from waiting.
PAUSE_MAX = 60.0


class RateExceeded(NotCalled):
    """Raised when no token comes in time; nothing was called. Try again in `retry_in` s."""

    def __init__(self, name: str, retry_in: float) -> None:
        super().__init__(
            f"{name} takes no further call for {retry_in:.1f} s, which is later than this call can "
            "wait; nothing was called. Try again then, or allow a higher rate."
        )
        self.name, self.retry_in = name, retry_in


@dataclass(frozen=True, slots=True)
class BucketPolicy:
    """`rate` calls a second on average, `burst` of them at once after a rest."""

    rate: float = 10.0
    burst: int = 100

    def __post_init__(self) -> None:
        if not (0 < self.rate < inf and self.burst >= 1):
            raise ValueError(in_place(f"{self!r}: rate above 0 and finite, burst at least 1"))


@dataclass(frozen=True, slots=True)
class BucketStats:
    """The gauge of one bucket: `tokens` below 0 are calls that wait; `refused` came too late."""

    name: str
    tokens: float
    waited: int
    refused: int


class BucketState:
    """The counting, at times that only grow."""

    def __init__(self, policy: BucketPolicy, now: float) -> None:
        self.policy = policy
        self.waited = self.refused = 0
        self._tokens = float(policy.burst)
        self._at = now

    def take(self, now: float, latest: float = inf) -> float | None:
        """Call this before a call: seconds to wait for its token, None when `latest` is earlier."""
        self._fill(now)
        wait = max(0.0, (1.0 - self._tokens) / self.policy.rate) + (self._at - now)
        if now + wait > latest:
            self.refused += 1
            return None
        self._tokens -= 1.0
        self.waited += wait > 0
        return wait

    def give_back(self) -> None:
        """Call this when a call that took a token was not made."""
        self._tokens = min(float(self.policy.burst), self._tokens + 1.0)

    def pause(self, now: float, seconds: float) -> None:
        """Call this when the other side asks for a rest: the bucket is empty and stays so."""
        self._fill(now)
        self._tokens = min(self._tokens, 1.0)
        self._at = max(self._at, now + min(seconds, PAUSE_MAX))

    def tokens(self, now: float) -> float:
        """Call this for how many there are."""
        self._fill(now)
        return self._tokens if self._at <= now else min(0.0, self._tokens)

    def wait(self, now: float) -> float:
        """Call this for how long a call would have to wait now."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self.policy.rate) + (self._at - now)

    def _fill(self, now: float) -> None:
        # Paused, `_at` lies ahead: nothing flows in until then.
        if now > self._at:
            grown = self._tokens + (now - self._at) * self.policy.rate
            self._tokens, self._at = min(float(self.policy.burst), grown), now


class TokenBucket:
    """Makes calls to one dependency wait: `await bucket.take(deadline)`."""

    def __init__(self, name: str, policy: BucketPolicy = BucketPolicy()) -> None:
        self.name, self._policy = name, policy
        self._machine: BucketState | None = None

    def __repr__(self) -> str:
        return f"<TokenBucket {self.name}: {self._policy.rate}/s>"

    def stats(self) -> BucketStats:
        """Call this for the gauge."""
        machine = self._state()
        tokens = machine.tokens(trio.current_time())
        return BucketStats(self.name, tokens, machine.waited, machine.refused)

    def pause(self, seconds: float) -> None:
        """Call this when the other side asks to be left alone for so long, at most a minute."""
        self._state().pause(trio.current_time(), seconds)

    async def take(self, deadline: float = inf) -> None:
        """Call this before a call; waits for its token, always a checkpoint.

        Raises `RateExceeded` when it would come behind `deadline`, or behind the caller's own.
        """
        await trio.lowlevel.checkpoint()
        machine, now = self._state(), trio.current_time()
        wait = machine.take(now, min(deadline, trio.current_effective_deadline()))
        if wait is None:
            raise RateExceeded(self.name, machine.wait(now))
        if wait > 0:
            try:
                await trio.sleep(wait)
            except trio.Cancelled:
                machine.give_back()
                raise

    def _state(self) -> BucketState:
        # Made at the first use: a clock there is only inside of a run.
        if self._machine is None:
            self._machine = BucketState(self._policy, trio.current_time())
        return self._machine
