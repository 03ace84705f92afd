"""A process that relays the outbox, and can be made to stop and wait to be killed.

`plan` is `run`, `before:N` or `after:N`: it stops before or after delivering message N, and
marks nothing, as if each mark were still on its way when it is killed. What it delivers is
handled as a receiver does: the effect and the inbox row in one append.
"""

import sys
from collections.abc import Sequence
from uuid import uuid4

import trio

from actors.persistence import (
    AlreadyHandled,
    AppendRequest,
    OutboxEntry,
    OutboxRelay,
    StreamId,
)
from actors.runtime import open_actors
from storage.postgres import Connection, Database, PostgresEventStore, PostgresOutbox, open_database
from storage.testing.samples import new_event
from tests.engines import real_environment
from tests.patience import PATIENT_POOL

EFFECTS = StreamId("receiver-1")
CONSUMER = "receiver"


class _NeverMarks(PostgresOutbox):
    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        await trio.sleep_forever()


async def _arrived(connection: Connection, payload: bytes) -> None:
    await connection.execute("INSERT INTO arrivals (payload) VALUES ($1)", payload.decode())


async def _stop_here(place: str) -> None:
    print(place, flush=True)
    await trio.sleep_forever()


async def deliver(database: Database, entry: OutboxEntry) -> None:
    """Call this as the receiver: note that it came, then have its effect once."""
    await database.run(_arrived, entry.payload)
    request = AppendRequest(EFFECTS, [new_event(entry.payload)], inbox=(CONSUMER, entry.message_id))
    try:
        await PostgresEventStore(database).append_request(request)
    except AlreadyHandled:
        pass  # it came before: its effect is there


async def main(url: str, plan: str) -> None:
    """Call this to relay until killed."""
    place, _, number = plan.partition(":")
    async with (
        open_database(url, part="relay", settings=PATIENT_POOL) as database,
        open_actors() as system,
    ):

        async def send(entry: OutboxEntry) -> None:
            is_here = entry.payload.decode() == number
            if is_here and place == "before":
                await _stop_here(plan)
            await deliver(database, entry)
            if is_here and place == "after":
                await _stop_here(plan)

        environment = real_environment()
        outbox = PostgresOutbox(database) if plan == "run" else _NeverMarks(database)
        await system.start(OutboxRelay, outbox, send, environment, str(uuid4()))
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
