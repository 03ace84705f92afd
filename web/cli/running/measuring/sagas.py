"""What is measured of sagas: one of three steps, from its start to its end, on either engine.

Whoever is asked answers at once: what is left is what sagas, relay and store take.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from actors.persistence import (
    AggregateRef,
    DeadLetters,
    Done,
    DueTimer,
    DurableTimers,
    EventStore,
    Failed,
    LookAtOutbox,
    Outbox,
    OutboxEntry,
    OutboxRelay,
    TimerService,
)
from actors.persistence.beside_log.timers import LookForTimers
from actors.reducers import Environment
from actors.runtime import Actor
from actors.sagas import (
    Outcome,
    Saga,
    SagaActor,
    SagaCommand,
    SagaCompleted,
    SagaId,
    SagaIndex,
    SagaKinds,
    SagaParts,
    Sagas,
    Succeeded,
    command,
    saga_clock,
    saga_relay,
    step,
)
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryOutbox,
    MemoryTimers,
)
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresOutbox,
    PostgresTimers,
)
from supervision import Supervisor, child_method, dynamic_method, open_system
from web.cli.running.measuring.words import Turn
from web.observability import Code, CommandFailed
from web.wiring.environment import SystemClock, SystemIds

TARGET = "bench"
TOPIC = "bench-sagas"
# Those that are over give their actors back, or a minute of them would be thousands.
IDLE_S = 1.0
# One that is not over by then will not be: its steps themselves time out sooner.
SAGA_S_MAX = 30.0


@dataclass(frozen=True)
class Begun:
    """What a saga is about."""

    number: int


@command(TARGET, name="BenchFirst")
@dataclass(frozen=True)
class First:
    """What its first step asks for."""

    number: int


@command(TARGET, name="BenchSecond")
@dataclass(frozen=True)
class Second:
    """What its second step asks for."""

    number: int


@command(TARGET, name="BenchThird")
@dataclass(frozen=True)
class Third:
    """What its third step asks for."""

    number: int


class BenchSaga(Saga[Begun]):
    """Three steps, one behind the other."""

    first = step(First)
    second = step(Second)
    third = step(Third)


@dataclass(frozen=True)
class Ports:
    """What of a store its sagas need."""

    store: EventStore
    outbox: Outbox
    timers: DurableTimers
    dead_letters: DeadLetters
    env: Environment


class Ends(Actor[Done | Failed]):
    """Hears what is stored of sagas, and tells when one is over."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def on_start(self) -> None:
        """Subscribe before the first is begun."""
        self.system.topics.subscribe(TOPIC, self.ref)

    def on_done(self, message: Done) -> None:
        if any(isinstance(one, SagaCompleted) for one in message.events):
            self._tell()

    def on_failed(self, message: Failed) -> None:
        pass  # it is tried again, or the turn is not over in time


Send = Callable[[OutboxEntry], Awaitable[None]]
Deliver = Callable[[DueTimer], Awaitable[bool]]


class Tree(Supervisor):
    """The sagas, and below them who carries out what they say."""

    def __init__(
        self,
        ports: Ports,
        parts: SagaParts,
        send: Send,
        deliver: Deliver,
        tell: Callable[[], None],
    ) -> None:
        self.ports, self.parts, self.tell_end = ports, parts, tell
        self.send, self.deliver = send, deliver

    @child_method()
    def ends(self) -> Ends:
        return Ends(self.tell_end)

    @dynamic_method(key="key", restart="transient")
    def sagas(self, key: str) -> SagaActor:
        return SagaActor(self.parts, key)

    @child_method()
    def relay(self) -> OutboxRelay:
        return saga_relay(self.ports, self.send, self.ports.env, TARGET)

    @child_method()
    def clock(self) -> TimerService:
        return saga_clock(self.ports, self.deliver, self.ports.env, TARGET)


@asynccontextmanager
async def open_memory(_: Database | None) -> AsyncIterator[Turn]:
    """Call this to have a saga run on the store in memory."""
    database = MemoryDatabase()
    ports = Ports(
        MemoryEventStore(database, inline=[SagaIndex()]),
        MemoryOutbox(database),
        MemoryTimers(database),
        MemoryDeadLetters(database),
        Environment(SystemClock(), SystemIds()),
    )
    async with _open(ports) as turn:
        yield turn


@asynccontextmanager
async def open_postgres(database: Database | None) -> AsyncIterator[Turn]:
    """Call this to have a saga run on PostgreSQL."""
    assert database is not None, "it needs one"
    ports = Ports(
        PostgresEventStore(database, inline=[SagaIndex()]),
        PostgresOutbox(database),
        PostgresTimers(database),
        PostgresDeadLetters(database),
        Environment(SystemClock(), SystemIds()),
    )
    async with _open(ports) as turn:
        yield turn


@asynccontextmanager
async def _open(ports: Ports) -> AsyncIterator[Turn]:
    trees, opened = list[Tree](), trio.Event()
    over, number = trio.Event(), 0

    def look_at_outbox(look: LookAtOutbox) -> None:
        trees[0].relay.tell(look)

    def ref_of(saga: SagaId) -> AggregateRef:
        return trees[0].sagas[saga.key]

    parts = SagaParts(
        SagaKinds(BenchSaga),
        ports.store,
        ports.env,
        idle_s=IDLE_S,
        look_at_outbox=look_at_outbox,
        look_for_timers=lambda: trees[0].clock.tell(LookForTimers()),
        topic=TOPIC,
    )
    sagas = Sagas(parts, ref_of, {TARGET: _answer}, dead_letters=ports.dead_letters)

    async def send(entry: OutboxEntry) -> None:
        await opened.wait()
        await sagas.send(entry)

    async def deliver(timer: DueTimer) -> bool:
        await opened.wait()
        return await sagas.deliver(timer)

    async def turn() -> None:
        nonlocal over, number
        over, number = trio.Event(), number + 1
        with trio.move_on_after(SAGA_S_MAX) as limit:
            await sagas.start(BenchSaga, Begun(number))
            await over.wait()
        if limit.cancelled_caught:
            raise CommandFailed(Code.FAILED, f"a saga was not over after {SAGA_S_MAX:.0f} s")

    def tell() -> None:
        over.set()

    async with open_system(Tree, ports, parts, send, deliver, tell, name="bench") as tree:
        trees.append(tree)
        opened.set()
        yield turn


async def _answer(command: SagaCommand) -> Outcome:
    return Succeeded()
