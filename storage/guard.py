"""What a program puts before each call to a server: deadline, breaker and their kin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

T = TypeVar("T")


class Guard(Protocol):
    """What stands before each command: deadline, breaker and their kin, of a program's own."""

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Make the call, or raise `StoreUnavailable` without."""
        ...


class Unguarded(Guard):
    """Lets everything pass: for tests, and tools that ask once."""

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """See `Guard.call`."""
        return await make()


UNGUARDED: Final = Unguarded()
