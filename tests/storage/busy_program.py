"""A program that uses all ports at once until it is killed, forked anew for each line of its input.

It writes at random and tells what it tries and what was acknowledged; beside that it relays,
fires timers and fills a projection, as a program of ours does. `drain` writes nothing and ends
when nothing waits any more. A fork costs a tenth of a new process, which would load everything.
"""

import os
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import trio

from actors.persistence import (
    ANY,
    START,
    AlreadyHandled,
    AppendRequest,
    CloseTimer,
    DueTimer,
    EventTypes,
    Idempotent,
    OutboxEntry,
    OutboxMessage,
    OutboxRelay,
    Projection,
    ProjectionRunner,
    ProjectionTx,
    SetTimer,
    StoredEvent,
    StoreUnavailable,
    StreamId,
    TimerGone,
    TimerService,
    wait_until,
)
from actors.reducers import Environment
from actors.runtime import open_actors
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    open_database,
)
from storage.testing.samples import new_event
from tests.patience import PATIENCE_S, PATIENT_POOL

STREAMS = [StreamId(f"list-{number}") for number in range(8)]
EFFECTS, FIRED = StreamId("effects-1"), StreamId("fired-1")
# A thousand for each round.
PER_ROUND = 1000
_NAMES = UUID("6f1c7e0e-55a4-4c38-9a35-0d6c1e9f6a11")

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class Noted:
    number: int


def stream_of(number: int) -> StreamId:
    """Call this for where a number is noted."""
    return STREAMS[number % len(STREAMS)]


def is_sent(number: int) -> bool:
    """Call this to ask whether it leaves by the outbox."""
    return number % 3 == 0


def is_timed(number: int) -> bool:
    """Call this to ask whether it sets a timer."""
    return number % 5 == 0


class Lists(Projection):
    """The numbers of each stream in their order; those of the first break it now and then."""

    name, handles, types = "lists", (Noted,), TYPES

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        noted = TYPES.decode(event)
        assert isinstance(noted, Noted)
        if event.stream_id == STREAMS[0] and noted.number % 5 == 0:
            raise ValueError("planted")
        kept = await tx.get(event.stream_id) or {"numbers": []}
        numbers = kept["numbers"]
        assert isinstance(numbers, list)
        tx.put(event.stream_id, {"numbers": [*numbers, noted.number]})


class _Now:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def new_id(self) -> UUID:
        return uuid4()


def _tell(words: str) -> None:
    os.write(1, f"{words}\n".encode())


def _request(number: int, rng: random.Random) -> AppendRequest:
    data = b'{"number": %d}' % number
    message = OutboxMessage(
        uuid5(_NAMES, f"m{number}"), "hook", "receiver", stream_of(number), str(number).encode()
    )
    timer = SetTimer(
        uuid5(_NAMES, f"t{number}"), stream_of(number), "later", str(number), datetime.now(UTC)
    )
    key = Idempotent("busy", str(number), b"hash") if rng.random() < 0.5 else None
    return AppendRequest(
        stream_of(number),
        [new_event(data, event_id=uuid5(_NAMES, f"e{number}"), type="Noted")],
        ANY,
        outbox=[message] if is_sent(number) else [],
        timers=[timer] if is_timed(number) else [],
        idempotency=key,
    )


async def _write(store: PostgresEventStore, numbers: range, rng: random.Random) -> None:
    for number in numbers:
        request = _request(number, rng)
        _tell(f"try {number}")
        while True:
            try:
                await store.append_request(request)
                break
            except StoreUnavailable:
                # The same ids until it is known.
                await trio.sleep(0.02)
        _tell(f"ack {number}")


async def _drain(database: Database) -> None:
    store, outbox = PostgresEventStore(database), PostgresOutbox(database)
    while (  # noqa: ASYNC110  (of actors that go on)
        (await outbox.stats()).pending or await PostgresTimers(database).pending()
    ):
        await trio.sleep(0.02)
    reached = START
    for stream in STREAMS:
        async for event in store.load(stream):
            reached = max(reached, event.cursor)
    await wait_until(PostgresProjections(database), "lists", reached, timeout_s=PATIENCE_S)


async def main(url: str, plan: str) -> None:
    """Call this to be busy until killed, or with `drain` until nothing waits."""
    environment = Environment(clock=_Now(), ids=_Now())
    async with (
        open_database(url, part="busy", settings=PATIENT_POOL, wait_s=PATIENCE_S) as database,
        open_actors() as system,
    ):
        store, letters = PostgresEventStore(database), PostgresDeadLetters(database)

        async def send(entry: OutboxEntry) -> None:
            effect = new_event(entry.payload)
            try:
                await store.append_request(
                    AppendRequest(EFFECTS, [effect], ANY, inbox=("receiver", entry.message_id))
                )
            except AlreadyHandled:
                pass  # it came before: its effect is there

        async def fire(due: DueTimer) -> bool:
            fired = new_event(due.token.encode())
            try:
                await store.append_request(
                    AppendRequest(FIRED, [fired], ANY, timers=[CloseTimer(due.timer_id)])
                )
            except TimerGone:
                pass  # handled before
            return False

        await system.start(lambda: ProjectionRunner(Lists(), store, PostgresProjections(database)))
        await system.start(
            OutboxRelay,
            PostgresOutbox(database),
            send,
            environment,
            str(uuid4()),
            dead_letters=letters,
        )
        await system.start(
            TimerService,
            PostgresTimers(database),
            fire,
            environment,
            str(uuid4()),
            dead_letters=letters,
        )
        if plan == "drain":
            await _drain(database)
            return
        begin, rng = int(plan) * PER_ROUND, random.Random(plan)
        async with trio.open_nursery() as nursery:
            for writer in range(4):
                numbers = range(begin + writer, begin + PER_ROUND, 4)
                nursery.start_soon(_write, store, numbers, rng)
        await trio.sleep_forever()


def _serve(url: str) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                trio.run(main, url, line.strip())
            finally:
                os._exit(1 if sys.exc_info()[0] else 0)
        _tell(f"pid {pid}")
        _tell(f"ended {os.waitpid(pid, 0)[1]}")


if __name__ == "__main__":
    _serve(sys.argv[1])
