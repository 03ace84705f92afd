"""A process that appends at random until it is killed: delays, savepoints, rollbacks, batches."""

import asyncio
import random
import sys
from uuid import uuid4

import trio

from actors.persistence import AppendRequest, Idempotent, StoreError, StreamId
from storage.postgres import Connection, Database, PostgresEventStore, open_database
from storage.testing.samples import new_events
from tests.patience import PATIENT_POOL

_INSERT = """
INSERT INTO events (stream_id, version, event_id, event_type, event_data)
VALUES ($1, $2, $3, 'Counted', '{}')
"""


async def _dawdle(connection: Connection, rng: random.Random) -> None:
    """A transaction of a slow writer, which may undo a part of itself or everything."""
    stream_id = f"slow-{uuid4()}"
    for version in range(1, rng.randint(2, 4)):
        await connection.execute(_INSERT, stream_id, version, uuid4())
        await asyncio.sleep(rng.random() * 0.03)
    if rng.random() < 0.3:
        await connection.execute("SAVEPOINT here")
        await connection.execute(_INSERT, stream_id, 99, uuid4())
        await connection.execute("ROLLBACK TO here")
    if rng.random() < 0.3:
        raise KeyError("rolled back")


async def _write(database: Database, rng: random.Random) -> None:
    store = PostgresEventStore(database)
    while True:
        stream_id, own = StreamId(f"fast-{rng.randrange(5)}"), StreamId(f"own-{uuid4()}")
        try:
            match rng.randrange(6):
                case 0:
                    await database.transact(_dawdle, rng)
                case 1:
                    await store.append(stream_id, new_events(rng.randint(1, 3)))
                case 2:
                    # A key and an inbox row are written before the events.
                    key = Idempotent("random", str(uuid4()), b"hash")
                    await store.append_request(
                        AppendRequest(
                            stream_id, new_events(1), idempotency=key, inbox=("random", uuid4())
                        )
                    )
                case 3:
                    # In company, of one stream or of several.
                    for expected in range(3):
                        await store.append(own, new_events(1), expected=expected)
                case 4:
                    head = await store.head(stream_id)
                    await store.append(stream_id, new_events(1), expected=head)
                case _:
                    await store.append_batch(
                        [AppendRequest(stream_id, new_events(2)) for _ in range(3)]
                    )
        except KeyError:
            pass
        except StoreError:
            await trio.sleep(0.02)


async def main(url: str, seed: int) -> None:
    rng = random.Random(seed)
    async with (
        open_database(url, part="writer", settings=PATIENT_POOL) as database,
        trio.open_nursery() as nursery,
    ):
        for _ in range(6):
            nursery.start_soon(_write, database, random.Random(rng.random()))


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
