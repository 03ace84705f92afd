"""What tests on both engines share: their clocks and ids, and stores that do something at a commit.

Whoever crashes a process there crashes it behind a commit that nobody has heard of.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import trio

from actors.persistence import Appended, AppendRequest
from actors.reducers import Environment
from storage.memory import MemoryEventStore
from storage.postgres import PostgresEventStore

_BASE = datetime(2025, 1, 1, tzinfo=UTC)


class _Ids:
    def new_id(self) -> UUID:
        return uuid4()


class _RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class _VirtualClock:
    def now(self) -> datetime:
        return _BASE + timedelta(seconds=trio.current_time() % 1e9)


def virtual_environment() -> Environment:
    """Call this for the engine in memory: its time is trio's."""
    return Environment(_VirtualClock(), _Ids())


def real_environment() -> Environment:
    """Call this for PostgreSQL, which has a clock of its own."""
    return Environment(_RealClock(), _Ids())


class MemoryCommits(MemoryEventStore):
    """A log in memory that awaits `behind` after each commit, before anybody hears of it."""

    behind: Callable[[], Awaitable[None]]
    # Else nobody learns what it has put into the outbox, and the relay has to look.
    tells_of_outbox = True

    async def append_request(self, request: AppendRequest) -> Appended:
        appended = await super().append_request(request)
        await self.behind()
        return appended if self.tells_of_outbox else replace(appended, outbox=())


class PostgresCommits(PostgresEventStore):
    """The same on PostgreSQL."""

    behind: Callable[[], Awaitable[None]]
    # Else nobody learns what it has put into the outbox, and the relay has to look.
    tells_of_outbox = True

    async def append_request(self, request: AppendRequest) -> Appended:
        appended = await super().append_request(request)
        await self.behind()
        return appended if self.tells_of_outbox else replace(appended, outbox=())
