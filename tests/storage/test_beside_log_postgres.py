"""What stands beside the log, in PostgreSQL, passes its suites and holds under races."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
import trio

from actors.persistence import (
    ANY,
    EXISTS,
    Appended,
    AppendRequest,
    CleanUp,
    CloseTimer,
    DeadLettersFull,
    ExpectedVersion,
    Fenced,
    GenerationState,
    Idempotent,
    Shard,
    StoreError,
    StreamId,
    TimerGone,
)
from actors.persistence.beside_log.outbox import OutboxEntry, partition_of
from actors.runtime import Secret, open_actors
from storage.keyring import SubjectKeyring
from storage.postgres import (
    Connection,
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresOutbox,
    PostgresSubjectKeys,
    PostgresTimers,
)
from storage.postgres.outbox import PLACE_S_MAX
from storage.testing import DeadLettersSuite, WithAppendSuite
from storage.testing.dead_letters import letter
from storage.testing.event_store import read_to_end
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.samples import NOON, PATIENCE_S, message, new_events, timer
from tests.patience import until
from tests.storage.plans import watched
from web.app import make_cleaner

A = StreamId("order-a")


class TestPostgresBesideLog(WithAppendSuite, DeadLettersSuite):
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)


async def test_the_same_key_in_parallel_has_one_effect(database: Database) -> None:
    # STORE-55
    store = PostgresEventStore(database)
    key = Idempotent("orders", "k", b"hash")
    answers: list[Appended | StoreError] = []

    async def append() -> None:
        try:
            answers.append(await store.append(A, new_events(1), idempotency=key))
        except StoreError as error:
            answers.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(append)
    assert await store.head(A) == 1
    assert sum(isinstance(one, Appended) and not one.replayed for one in answers) == 1
    assert all(isinstance(one, Appended) for one in answers)


async def test_cancelling_and_firing_race_safely(database: Database) -> None:
    # STORE-51: exactly one of both is ever set
    store, timers = PostgresEventStore(database), PostgresTimers(database)
    outcomes: list[str] = []
    for round_ in range(20):
        one = timer(name=f"n{round_}")
        await timers.set(one)
        outcomes.clear()

        async def close(timer_id: UUID = one.timer_id) -> None:
            try:
                await store.append(A, new_events(1), timers=[CloseTimer(timer_id)])
            except TimerGone:
                outcomes.append("gone")
            else:
                outcomes.append("fired")

        async def cancel(name: str = one.name) -> None:
            if await timers.cancel("saga/1", name):
                outcomes.append("cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            nursery.start_soon(cancel)
        assert sorted(outcomes) in (["cancelled", "gone"], ["fired"])

    async def both(connection: Connection) -> int:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM timers WHERE (fired_at IS NULL) = (cancelled_at IS NULL)"
            )
        )

    assert await database.run(both) == 0


async def test_a_takeover_waits_for_appends_and_fences_the_old_owner(database: Database) -> None:
    # STORE-16
    async def own(connection: Connection, owner: str) -> int:
        return int(
            await connection.fetchval(
                "INSERT INTO shards AS s VALUES (3, $1, 1, now()) ON CONFLICT (id)"
                " DO UPDATE SET owner = $1, epoch = s.epoch + 1 RETURNING epoch",
                owner,
            )
        )

    store = PostgresEventStore(database)
    first = Shard(3, "node-a", await database.run(own, "node-a"))
    await store.append(A, new_events(1), shard=first)
    second = Shard(3, "node-b", await database.run(own, "node-b"))
    with pytest.raises(Fenced) as caught:
        await store.append(A, new_events(1), shard=first)
    assert (caught.value.held, caught.value.current) == (1, 2)
    assert (await store.append(A, new_events(1), shard=second)).version == 2


async def test_two_services_share_due_timers(database: Database) -> None:
    # STORE-50: skipped, not waited for
    timers = PostgresTimers(database)
    for _ in range(40):
        await timers.set(timer(0, name=str(uuid4())))
    claimed: list[object] = []

    async def claim(worker: str) -> None:
        claimed.extend(one.timer_id for one in await timers.claim_due(worker, NOON, limit=20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim, "w-1")
        nursery.start_soon(claim, "w-2")
    assert len(claimed) == len(set(claimed)) == 40


_HOLD_KEYS = """
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(77);
    RETURN NEW;
END
$$;
CREATE TRIGGER wait_for_test AFTER INSERT ON idempotency
    FOR EACH ROW EXECUTE FUNCTION wait_for_test()
"""

_COUNT = "SELECT count(*) FROM events"
_IS_HELD = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory')"


async def _execute(connection: Connection, statement: str) -> None:
    await connection.execute(statement)


@pytest.mark.parametrize("expected", [ANY, EXISTS, 2])
async def test_an_append_that_wrote_first_builds_on_what_it_saw_before(
    database: Database, expected: ExpectedVersion
) -> None:
    # STORE-20: its number is older than that of an event stored meanwhile
    store = PostgresEventStore(database)
    await store.append(A, new_events(1))
    await database.run(_execute, _HOLD_KEYS)
    outcomes: list[Appended] = []

    async def with_key() -> None:
        key = Idempotent("orders", "k", b"hash")
        outcomes.append(await store.append(A, new_events(1), expected=expected, idempotency=key))

    async def hold_back(connection: Connection) -> None:
        await connection.execute("SELECT pg_advisory_lock(77)")
        try:
            token.run_sync_soon(nursery.start_soon, with_key)
            while not await connection.fetchval(_IS_HELD):  # noqa: ASYNC110  (another session)
                await asyncio.sleep(0.01)
            token.run_sync_soon(nursery.start_soon, plainly)
            while await connection.fetchval(_COUNT) < 2:  # noqa: ASYNC110  (another session)
                await asyncio.sleep(0.01)
        finally:
            await connection.execute("SELECT pg_advisory_unlock(77)")

    async def plainly() -> None:
        outcomes.append(await store.append(A, new_events(1), expected=1))

    token = trio.lowlevel.current_trio_token()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await database.run(hold_back)
    assert [one.version for one in outcomes] == [2, 3]
    await read_to_end(store)


_WAITING = """
INSERT INTO outbox (partition, kind, target, key, message_id, payload)
SELECT $1, 'bus', 't', 'k', gen_random_uuid(), 'x' FROM generate_series(1, $2)
"""

_SENT_EARLIER = """
INSERT INTO outbox (partition, kind, target, key, message_id, payload, sent_at)
SELECT $1, 'bus', 't', 'k', gen_random_uuid(), 'x', now() FROM generate_series(1, $2)
"""


async def test_a_look_behind_a_dead_key_reads_what_is_new(database: Database) -> None:
    # STORE-52: however many wait behind a message that was given up, and however many were sent
    part = partition_of("k")
    other = next(f"o{n}" for n in range(1000) if partition_of(f"o{n}") == part)
    store = PostgresEventStore(database)

    async def fill(connection: Connection) -> None:
        await connection.execute(_SENT_EARLIER, part, 3000)
        await connection.execute(_WAITING, part, 3000)
        await connection.execute("ANALYZE outbox")

    await database.run(fill)
    async with watched(database, "WITH tried") as (alone, touched):
        outbox = PostgresOutbox(alone)
        held = await outbox.lease("r", [part])
        dead, *_ = await outbox.next_batch(part, held[part])
        await outbox.mark_failed(part, held[part], dead.id, "no", None)
        await touched()

        async def look() -> tuple[list[str], int]:
            batch = await outbox.next_batch(part, held[part])
            (count,) = await touched()
            await outbox.mark_sent(part, held[part], [one.id for one in batch])
            return [one.key for one in batch], count

        # The backlog is read once for each change of what holds, never for each look.
        assert await look() == ([], 3000)
        assert await look() == ([], 1)
        await store.append(A, new_events(1), outbox=[message(other), message("k")])
        assert await look() == ([other], 1)
        assert await look() == ([], 1)
        await outbox.revive(dead.id)
        assert await look() == (["k"] * 100, 100)
    async with watched(database, "AS pending") as (alone, touched):
        # What was sent is not counted, only kept for a week.
        assert (await PostgresOutbox(alone).stats()).pending == 2901
        assert max(await touched()) < 3500


async def test_both_outboxes_give_the_same_whatever_happened_before(database: Database) -> None:
    # STORE-52: the order by key, with failures, dead ones, revivals, targets that are passed, and
    # what the caller has already
    part = partition_of("k")
    keys = [f"o{n}" for n in range(200) if partition_of(f"o{n}") == part][:4]
    both = (kept_in_postgres(database), kept_in_memory())
    draw = Random(7)
    dead: list[int] = []
    had: list[int] = []
    for step in range(300):
        epochs = [await one.outbox.lease("r", [part]) for one in both]
        skipping = ["t"] if draw.random() < 0.3 else []
        limit, without = draw.choice((2, 100)), had if draw.random() < 0.5 else []
        batches: list[Sequence[OutboxEntry]] = []
        ids: list[list[tuple[int, str, int]]] = []
        with trio.move_on_after(PATIENCE_S):
            # A transaction of the server's own, such as an analysis, holds back what is behind it.
            while not ids or ids[0] != ids[1]:
                batches = [
                    await one.outbox.next_batch(
                        part, epoch[part], limit=limit, skipping=skipping, without=without
                    )
                    for one, epoch in zip(both, epochs, strict=True)
                ]
                ids = [[(one.id, one.key, one.attempts) for one in batch] for batch in batches]
        assert ids[0] == ids[1], f"at step {step}"
        batch = batches[0]
        had = [entry.id for entry in batch if draw.random() < 0.5]
        what = draw.choice(
            ("append", "append", "sent", "sent", "fail", "give-up", "settle", "wait")
        )
        new = message(draw.choice(keys), draw.choice("tu"))
        settled = dead.pop(draw.randrange(len(dead))) if what == "settle" and dead else None
        # Far apart, so that the time of a slow machine decides nothing.
        is_revived, seconds = draw.random() < 0.5, draw.choice((10_000, 40_000))
        if what == "give-up" and batch:
            dead.append(batch[0].id)
        for one, epoch in zip(both, epochs, strict=True):
            if what == "append":
                await one.events.append(A, new_events(1), outbox=[new])
            elif what == "sent":
                await one.outbox.mark_sent(part, epoch[part], [entry.id for entry in batch])
            elif what == "wait":
                await one.pass_time(seconds)
            elif what in ("fail", "give-up") and batch:
                # As a relay does: what is had is sent, and marked before a failure is.
                await one.outbox.mark_sent(part, epoch[part], without)
                retry_in = timedelta(seconds=seconds) if what == "fail" else None
                await one.outbox.mark_failed(part, epoch[part], batch[0].id, "no", retry_in)
            elif settled is not None:
                await (one.outbox.revive if is_revived else one.outbox.drop)(settled)


async def test_a_place_in_the_outbox_is_not_relied_on_for_long(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # STORE-52: a server set back in time under a running program gives out numbers once more
    part = partition_of("k")
    outbox = PostgresOutbox(database)
    held = await outbox.lease("r", [part])
    assert await outbox.next_batch(part, held[part]) == []
    await PostgresEventStore(database).append(A, new_events(1), outbox=[message("k")])

    async def set_back(connection: Connection) -> None:
        await connection.execute("UPDATE outbox SET txid = '3'")

    await database.run(set_back)
    assert await outbox.next_batch(part, held[part]) == []
    now = trio.current_time()
    monkeypatch.setattr(trio, "current_time", lambda: now + PLACE_S_MAX)
    assert len(await outbox.next_batch(part, held[part])) == 1


async def test_the_last_places_for_dead_letters_are_given_once(database: Database) -> None:
    # STORE-62: many at once do not pass the limit, and nobody counts the table
    letters = PostgresDeadLetters(database, rows_max=10)
    refused: list[str] = []

    async def add(number: int) -> None:
        try:
            await letters.add(letter(number))
        except DeadLettersFull as error:
            refused.append(error.code)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(add, number)
    assert len(refused) == 20

    async def taken(connection: Connection) -> tuple[int, int]:
        rows = await connection.fetchval("SELECT count(*) FROM dead_letters")
        return int(rows), int(await connection.fetchval("SELECT taken FROM dead_letter_room"))

    assert await database.run(taken) == (10, 10)
    for one in await letters.list(limit=4):
        await letters.discard(one.id, "ada", "x")
    for number in range(100, 104):
        await letters.add(letter(number))
    assert await database.run(taken) == (10, 10)


async def test_the_sites_cleaner_removes_what_was_kept_long_enough(database: Database) -> None:
    # STORE-54
    kept = kept_in_postgres(database)
    request = AppendRequest(
        A,
        new_events(1),
        outbox=[message()],
        inbox=("c", uuid4()),
        idempotency=Idempotent("orders", "k", b"hash"),
        timers=[timer(name="over")],
    )
    await kept.events.append_request(request)
    await kept.timers.cancel("saga/1", "over")
    discarded = await kept.dead_letters.add(letter())
    await kept.dead_letters.discard(discarded, "ada", "x")
    held = await kept.outbox.lease("r", [partition_of("k")])
    (entry,) = await kept.outbox.next_batch(*next(iter(held.items())))
    await kept.outbox.mark_sent(*next(iter(held.items())), [entry.id])
    for generation in (1, 2):
        await kept.projections.open("orders", generation, generation, GenerationState.LIVE)
    await kept.projections.swap("orders", 2)
    await kept.pass_time(366 * 86400)
    keyring = SubjectKeyring(PostgresSubjectKeys(database), Secret(b"k" * 32))
    cleaner = make_cleaner(database, keyring)
    counts = {"outbox": 2, "timers": 1, "idempotency": 1, "dead_letters": 1, "projections": 1}
    async with open_actors() as system:
        ref = await system.start(lambda: cleaner)
        ref.tell(CleanUp())
        await until(lambda: all(cleaner.removed[name] for name in counts))
    assert {name: cleaner.removed[name] for name in counts} == counts


async def test_what_is_kept_and_settled_is_counted_by_kind(database: Database) -> None:
    # OBS-1
    letters = PostgresDeadLetters(database)
    first, second = await letters.add(letter(1, "mail")), await letters.add(letter(2))
    await letters.retry(first)
    await letters.resolve(first, "ada")
    await letters.discard(second, "ada", "x")
    told = {(name, *labels): number for name, labels, number in database.tallies.counts()}
    assert told["dead_letters_added_total", "mail"] == 1
    assert told["dead_letters_resolved_total", "mail"] == 1
    assert told["dead_letters_discarded_total", "event"] == 1
