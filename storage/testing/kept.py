"""Everything that is kept of one database, for suites that look at several ports at once."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import trio

from actors.cluster import Nodes
from actors.persistence import (
    EVENTS,
    DeadLetters,
    DurableTimers,
    EventStore,
    EventTypes,
    Idempotency,
    Inbox,
    MailStates,
    Outbox,
    Projection,
    ProjectionStore,
    Snapshots,
)
from actors.testing import FixedClock
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryIdempotency,
    MemoryMailStates,
    MemoryNodes,
    MemoryOutbox,
    MemoryProjections,
    MemorySnapshots,
    MemoryTimers,
)
from storage.postgres import (
    Connection,
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresIdempotency,
    PostgresMailStates,
    PostgresNodes,
    PostgresOutbox,
    PostgresProjections,
    PostgresSnapshots,
    PostgresTimers,
    remove_tombstoned,
)

_AGE = """
UPDATE idempotency SET created_at = created_at - $1::interval,
    expires_at = expires_at - $1::interval;
UPDATE outbox SET created_at = created_at - $1::interval, sent_at = sent_at - $1::interval,
    next_attempt_at = next_attempt_at - $1::interval;
UPDATE outbox_leases SET lease_until = lease_until - $1::interval;
UPDATE timers SET fired_at = fired_at - $1::interval, cancelled_at = cancelled_at - $1::interval,
    given_up_at = given_up_at - $1::interval;
UPDATE inbox SET handled_at = handled_at - $1::interval;
UPDATE dead_letters SET claimed_at = claimed_at - $1::interval;
UPDATE dead_letter_audit SET at = at - $1::interval;
UPDATE checkpoints SET updated_at = updated_at - $1::interval;
UPDATE mails SET changed_at = changed_at - $1::interval;
UPDATE mail_suppressed SET until = until - $1::interval,
    excepted_at = excepted_at - $1::interval
"""


@dataclass
class Kept:
    """The ports of one database; `pass_time` lets it be later there."""

    events: EventStore
    idempotency: Idempotency
    outbox: Outbox
    inbox: Inbox
    timers: DurableTimers
    dead_letters: DeadLetters
    snapshots: Snapshots
    projections: ProjectionStore
    nodes: Nodes
    mails: MailStates
    pass_time: Callable[[float], Awaitable[None]]
    remove_tombstoned: Callable[[], Awaitable[object]]
    # What the outbox keeps of a row, sent or not.
    payload_of: Callable[[int], Awaitable[bytes]]


def kept_in_memory(inline: Sequence[Projection] = (), event_types: EventTypes = EVENTS) -> Kept:
    """Call this for the twins on one new database with a clock of its own."""
    clock = FixedClock()
    database = MemoryDatabase(now=clock.now)

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    async def payload_of(id_: int) -> bytes:
        return database.outbox[id_].message.payload

    outbox = MemoryOutbox(database)
    return Kept(
        MemoryEventStore(database, inline=inline, event_types=event_types),
        MemoryIdempotency(database),
        outbox,
        outbox,
        MemoryTimers(database),
        MemoryDeadLetters(database, rows_max=20),
        MemorySnapshots(database),
        MemoryProjections(database),
        MemoryNodes(database),
        MemoryMailStates(database),
        pass_time,
        trio.lowlevel.checkpoint,  # here it is done by the tombstone itself
        payload_of,
    )


def kept_in_postgres(
    database: Database, inline: Sequence[Projection] = (), event_types: EventTypes = EVENTS
) -> Kept:
    """Call this for the adapters on a fresh database; time passes by making rows older."""

    async def pass_time(seconds: float) -> None:
        async def work(connection: Connection) -> None:
            for statement in _AGE.split(";"):
                await connection.execute(statement, timedelta(seconds=seconds))

        await database.run(work)

    async def payload_of(id_: int) -> bytes:
        async def work(connection: Connection) -> bytes:
            payload: bytes = await connection.fetchval(
                "SELECT payload FROM outbox WHERE id = $1", id_
            )
            return payload

        return await database.run(work)

    outbox = PostgresOutbox(database)
    return Kept(
        PostgresEventStore(database, inline=inline, event_types=event_types),
        PostgresIdempotency(database),
        outbox,
        outbox,
        PostgresTimers(database),
        PostgresDeadLetters(database, rows_max=20),
        PostgresSnapshots(database),
        PostgresProjections(database),
        PostgresNodes(database),
        PostgresMailStates(database),
        pass_time,
        partial(remove_tombstoned, database, older_than=timedelta(0)),
        payload_of,
    )
