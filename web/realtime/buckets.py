"""Token buckets: how often something may happen, by a clock that is passed in.

Pure arithmetic; used by `protocol.py` for frames and commands (SEC-47).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """Holds a limit: `per_s` in the long run, `burst` at once."""

    per_s: float
    burst: float


class TokenBucket:
    """Allows `rate.burst` things at once and `rate.per_s` in the long run."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._tokens, self._at = rate, rate.burst, now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._tokens:.1f} of {self._rate.burst}>"

    def take(self, now: float) -> bool:
        """Call this for each thing that happens; False when it is one too many."""
        earned = (now - self._at) * self._rate.per_s
        self._tokens = min(self._rate.burst, self._tokens + max(0.0, earned))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
