"""What the benchmarks of the store append and read: money that is spent, one event each time."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import trio

from actors.persistence import (
    EventTypes,
    NewEvent,
    Projection,
    ProjectionTx,
    StoredEvent,
    StreamId,
)
from storage.postgres import PostgresEventStore

SECONDS = 1.5
DATA = b'{"amount": 12, "reason": "rent", "account": "0191d3b0-0000-7000-8000-000000000000"}'

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class Spent:
    amount: int
    reason: str
    account: str


class Sums(Projection):
    """The sum spent in each stream."""

    name = "bench_sums"
    handles = (Spent,)
    types = TYPES

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        kept = await tx.get(event.stream_id) or {"sum": 0}
        spent = self.types.decode(event)
        assert isinstance(spent, Spent)
        tx.put(event.stream_id, {"sum": int(str(kept["sum"])) + spent.amount})


_numbers = itertools.count(time.time_ns())


def new_id() -> UUID:
    """A rising id, as the product's are (UUIDv7); making it costs nobody a system call."""
    return UUID(int=next(_numbers) << 64)


async def appends(
    store: PostgresEventStore, writers: int, make_event: Callable[[], NewEvent]
) -> float:
    """Appends a second of so many writers, each to a stream of its own."""
    count, deadline = 0, time.perf_counter() + SECONDS

    async def write() -> None:
        nonlocal count
        stream_id, version = StreamId(f"bench-{uuid4()}"), 0
        while time.perf_counter() < deadline:
            version = (await store.append(stream_id, [make_event()], expected=version)).version
            count += 1

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(writers):
            nursery.start_soon(write)
    return count / (time.perf_counter() - began)
