"""Degrading gracefully: what to answer when a dependency does not.

Three kinds: a fixed value, the last good answer, or putting the work aside for later. Each use
is counted, and a fallback that was used lately shows as degraded in the health of the site.

Rule: a fallback answers for errors only; cancellation and bugs it was not made for pass through.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import trio

from actors.runtime.words.places import in_place
from supervision.guards.retry import NotRetried, is_transient
from supervision.specs.errors import NotCalled

T = TypeVar("T")

# A minute after its last use a dependency that answers again is healthy again.
DEGRADED_FOR: Final = 60.0


@dataclass(frozen=True, slots=True)
class FallbackStats:
    """How often it was needed; `is_degraded` while the last use is less than a minute ago."""

    name: str
    calls: int
    uses: int
    is_degraded: bool


def is_unavailable(error: BaseException) -> bool:
    """Call this to know whether the dependency, not the request, is the trouble."""
    return isinstance(error, (NotCalled, NotRetried)) or is_transient(error)


class Fallback(Generic[T]):
    """Guards calls to one dependency with another answer: `await fallback.call(fetch)`."""

    def __init__(
        self,
        name: str,
        otherwise: Callable[[Exception], T],
        *,
        answers: Callable[[BaseException], bool] = is_unavailable,
        remember: Callable[[T], None] | None = None,
    ) -> None:
        self.name = name
        self._otherwise, self._answers, self._remember = otherwise, answers, remember
        self._calls = self._uses = 0
        self._used_at: float | None = None

    def __repr__(self) -> str:
        return f"<Fallback {self.name}: {self._uses} of {self._calls}>"

    def stats(self) -> FallbackStats:
        """Call this for the health of the dependency."""
        used = self._used_at
        is_degraded = used is not None and trio.current_time() - used < DEGRADED_FOR
        return FallbackStats(self.name, self._calls, self._uses, is_degraded)

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Call this to get the answer, or the other one when the dependency is unavailable.

        Raises what the call raises when there is no other answer for it.
        """
        self._calls += 1
        try:
            result = await make()
        except Exception as error:
            if not self._answers(error):
                raise
            other = self._otherwise(error)
            self._uses += 1
            self._used_at = trio.current_time()
            return other
        if self._remember is not None:
            self._remember(result)
        return result


def value_fallback(name: str, value: T) -> Fallback[T]:
    """Call this for a fallback that answers with a fixed value."""
    return Fallback(name, lambda _: value)


def cached_fallback(name: str, max_age: float) -> Fallback[T]:
    """Call this for one that answers with the last good answer, at most `max_age` s old.

    Without one it raises the error of the call. For the checkers say of what:
    `fallback: Fallback[int] = cached_fallback("prices", 60.0)`.
    """
    if not max_age > 0:
        raise ValueError(in_place(f"max_age is {max_age!r}; it must be above 0"))
    kept: list[tuple[float, T]] = []

    def remember(value: T) -> None:
        kept[:] = [(trio.current_time(), value)]

    def otherwise(error: Exception) -> T:
        if not kept or trio.current_time() - kept[0][0] > max_age:
            raise error
        return kept[0][1]

    return Fallback(name, otherwise, remember=remember)


def queue_fallback(name: str, put_aside: Callable[[], T]) -> Fallback[T]:
    """Call this for one that puts the work aside for later; `put_aside` gives the answer."""
    return Fallback(name, lambda _: put_aside())
