"""The bank of the examples in a test's hand: on either engine, its actors crash, its process dies.

A process that dies is a whole tree that is cancelled behind a commit nobody has heard of. An actor
that crashes does so behind a commit too, in the middle of its message.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import trio

from actors.persistence import EVENTS, AggregateActor, EventStore
from actors.runtime import AskError
from actors.sagas import SagaActor, Status, lines
from docs.examples.banking.accounts import (
    Account,
    Accounts,
    Command,
    Happened,
    MoneyDeposited,
    MoneyWithdrawn,
)
from docs.examples.banking.bank import (
    INLINE,
    Bank,
    Office,
    Ports,
)
from docs.examples.banking.transfers import MoveMoney
from storage.errors import StoreError
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryOutbox,
    MemoryProjections,
    MemoryTimers,
)
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
)
from supervision import dynamic_method, open_system
from tests.engines import MemoryCommits, PostgresCommits, real_environment, virtual_environment
from web.app import Beside

# As many as a bank can begin beside what it does: more would only wait in mailboxes.
AT_ONCE = 50
# A second of a storm; a bank of customers is given up far earlier.
CRASHES_BORNE = 10_000


class CrashedByTest(Exception):
    """An actor crashes behind its commit."""


@dataclass
class Storm:
    """Which appends are the last of a process, and how often an actor crashes behind one."""

    chance: random.Random
    crash_share: float = 0.0
    dies_at: int = 0
    appends: int = 0
    crashes: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def pass_by(self) -> None:
        """Call this behind each commit."""
        self.appends += 1
        if self.appends == self.dies_at:
            self.scope.cancel()
            await trio.sleep_forever()
        if self.chance.random() < self.crash_share:
            self.crashes += 1
            raise CrashedByTest


class Patient(Bank, intensity=CRASHES_BORNE, period=1.0):
    """A bank that is not given up, however often its actors crash."""

    @dynamic_method(key="key", restart="transient", intensity=CRASHES_BORNE, period=1.0)
    def sagas(self, key: str) -> SagaActor:
        return SagaActor(self.office.parts, key)

    @dynamic_method(key="name", restart="transient", intensity=CRASHES_BORNE, period=1.0)
    def accounts(self, name: str) -> AggregateActor[Account, Command, Happened]:
        return AggregateActor(Accounts(), name, self.ports.store, self.ports.env)


@dataclass
class World:
    """One database with a bank on it, which may be opened again and again."""

    ports: Ports
    set_storm: Callable[[Storm], None]

    @property
    def store(self) -> EventStore:
        return self.ports.store

    async def live(self, storm: Storm, body: Callable[[Office], Awaitable[None]]) -> bool:
        """Run a bank until the body ends, True, or its process dies by the storm, False."""
        self.set_storm(storm)
        with storm.scope:
            async with open_office(self.ports) as office:
                await body(office)
        return not storm.scope.cancelled_caught


@asynccontextmanager
async def open_office(ports: Ports) -> AsyncIterator[Office]:
    """Have a bank that runs as long as the block."""
    opened: list[Bank] = []
    office = Office(ports, lambda: opened[0])
    async with open_system(Patient, office) as bank:
        opened.append(bank)
        yield office


def memory_world() -> World:
    """Call this under virtual time."""
    env = virtual_environment()
    database = MemoryDatabase(now=env.clock.now)
    events = MemoryCommits(database, inline=INLINE)
    beside = Beside(
        MemoryOutbox(database),
        MemoryTimers(database),
        MemoryDeadLetters(database),
        MemoryProjections(database),
    )

    def set_storm(storm: Storm) -> None:
        events.behind = storm.pass_by

    return World(Ports(events, beside, env, "the-bank"), set_storm)


def postgres_world(database: Database) -> World:
    """Call this on a fresh database."""
    events = PostgresCommits(database, inline=INLINE)
    beside = Beside(
        PostgresOutbox(database),
        PostgresTimers(database),
        PostgresDeadLetters(database),
        PostgresProjections(database),
    )

    def set_storm(storm: Storm) -> None:
        events.behind = storm.pass_by

    return World(Ports(events, beside, real_environment(), "the-bank"), set_storm)


async def begin_all(office: Office, asked: Sequence[MoveMoney]) -> None:
    """Begin transfers as customers do: many at once, asking again until it is known."""
    limit = trio.CapacityLimiter(AT_ONCE)

    async def begin(one: MoveMoney) -> None:
        async with limit:
            while True:
                try:
                    await office.transfer(one)
                except (AskError, StoreError):
                    await trio.sleep(0.05)
                else:
                    return

    async with trio.open_nursery() as nursery:
        for one in asked:
            nursery.start_soon(begin, one)


async def all_ended(office: Office, count: int) -> dict[str, Status]:
    """Wait until so many transfers are over, or need a person."""
    rows = office.ports.beside.projections
    ended = {Status.COMPLETED, Status.FAILED, Status.STUCK}
    while True:
        # A look at a page of them: all are read once none is on its way.
        is_one_open = False
        async with aclosing(lines(rows, is_over=False)) as open_ones:
            async for line in open_ones:
                is_one_open = line.status is not Status.STUCK
                if is_one_open:
                    break
        if not is_one_open:
            found = {line.saga: line.status async for line in lines(rows)}
            if len(found) == count and set(found.values()) <= ended:
                return found
        await trio.sleep(0.1)


@dataclass
class Books:
    """What the log says of money: in each account, and on its way in each transfer."""

    total: int = 0
    balances: dict[str, int] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    moved: int = 0

    def take(self, stream: str, happened: object) -> None:
        """Call this with each event of the log, in its order."""
        match happened:
            case MoneyDeposited(cents, transfer):
                self._move(stream, cents, transfer)
            case MoneyWithdrawn(cents, transfer):
                self._move(stream, -cents, transfer)

    def _move(self, stream: str, cents: int, transfer: str) -> None:
        self.balances[stream] = self.balances.get(stream, 0) + cents
        assert self.balances[stream] >= 0, f"{stream} owes money"
        if not transfer:
            self.total += cents
        else:
            self.moved += 1
            left = self.in_flight.get(transfer, 0) - cents
            self.in_flight[transfer] = left
            assert left >= 0, f"{transfer} gave more than it took"
        assert sum(self.balances.values()) + sum(self.in_flight.values()) == self.total


async def books(store: EventStore) -> Books:
    """Read the whole log; raises AssertionError at the first event that makes or loses money."""
    found, after = Books(), None
    while (page := await store.read_all(after=after, limit=500)).events:
        for stored in page.events:
            if stored.stream_id.startswith("account-"):
                for happened in EVENTS.decode_all(stored):
                    found.take(str(stored.stream_id), happened)
        after = page.next
    return found
