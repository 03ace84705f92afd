"""The bus on PostgreSQL passes its suite; its log is removed by the day; a killed member."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from structlog.testing import capture_logs

from actors.persistence import DeadLetterStatus, InvalidTransition, StreamId
from actors.persistence.bus import (
    LEASE_S,
    BusState,
    BusUnavailable,
    OnFailure,
    Received,
    Record,
    StartAt,
    put_back,
)
from actors.persistence.bus.words import AWAY_UNHEALTHY_S
from storage.bus import PostgresBus, Retention
from storage.postgres import Connection, Database, PostgresEventStore, migrate, open_database
from storage.testing import TemporaryServer
from storage.testing.bus import (
    GROUP,
    TOPIC,
    BusKit,
    BusSuite,
    Heard,
    options,
    records,
    subscribed,
)
from storage.testing.kept import kept_in_postgres
from tests.patience import PATIENCE_S, PATIENT_POOL
from tests.processes.prepared import start_prepared
from tests.storage.bus_member_process import subscription_on

_ROOT = Path(__file__).parents[2]
# How long a server stays away once it was killed; `make soak` says a minute (BUS-13).
AWAY_S = float(os.environ.get("AWAY_S", "0"))


async def _age_members(connection: Connection, seconds: float) -> None:
    older = timedelta(seconds=seconds)
    statement = "UPDATE bus_members SET lease_until = lease_until - $1::interval"
    await connection.execute(statement, older)


def kit_of(database: Database) -> BusKit:
    """Call this for the engine on a fresh database."""

    async def effect(transaction: Connection, received: Received) -> None:
        value = received.record.value.decode()
        await transaction.execute("INSERT INTO effects VALUES ($1)", value)

    async def told() -> Sequence[str]:
        async def work(connection: Connection) -> list[str]:
            return [row["value"] for row in await connection.fetch("SELECT value FROM effects")]

        return await database.run(work)

    async def pass_time(seconds: float) -> None:
        await database.run(_age_members, seconds)

    bus = PostgresBus(database)
    another = lambda: PostgresBus(database)  # noqa: E731
    kept = kept_in_postgres(database)
    return BusKit(bus, another, kept, bus.dead_letters, pass_time, effect, told)


@pytest.fixture(scope="module")
def shared_url(postgres_server: TemporaryServer) -> Iterator[str]:
    """One database for the suite: to empty it is quicker than to make another."""
    name = postgres_server.make_database()
    yield postgres_server.server.url_of(name)
    postgres_server.drop_database(name)


async def _empty(connection: Connection) -> None:
    await connection.execute("CREATE TABLE IF NOT EXISTS effects (value text)")
    await connection.execute(
        "TRUNCATE effects, inbox, dead_letters, bus_topics, bus_records, bus_parked,"
        " bus_groups, bus_members, bus_offsets CASCADE"
    )


class TestPostgresBus(BusSuite):
    @pytest.fixture
    async def kit(self, shared_url: str) -> AsyncIterator[BusKit]:
        async with open_database(shared_url, part="test", settings=PATIENT_POOL) as database:
            await database.run(_empty)
            yield kit_of(database)


@contextmanager
def _member(url: str) -> Iterator[None]:
    """A member in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "tests.storage.bus_member_process", url]
    process = subprocess.Popen(command, cwd=_ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def _effects(database: Database) -> list[int]:
    events = PostgresEventStore(database)
    return [
        int(one.data)
        for partition in range(3)
        async for one in events.load(StreamId(f"effects-{partition}"))
    ]


@pytest.mark.slow
async def test_a_killed_member_loses_and_doubles_nothing(
    database: Database, database_url: str
) -> None:
    # BUS-4, BUS-13: kill -9 somewhere within 1000 records, twice; another member goes on
    bus = PostgresBus(database)
    await bus.declare(TOPIC)
    await bus.publish_batch(TOPIC, records(1000, keys=40))
    for least in (100, 400):
        with _member(database_url), trio.fail_after(PATIENCE_S):
            while len(await _effects(database)) < least:  # noqa: ASYNC110  (of another process)
                await trio.sleep(0.02)
        await database.run(_age_members, LEASE_S)
    last = subscription_on(database, PostgresBus(database))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(last.run)
        with trio.fail_after(PATIENCE_S):
            while sum(one.records for one in await bus.lag(GROUP)):  # noqa: ASYNC110
                await trio.sleep(0.02)
        await last.stop()
    effects = await _effects(database)
    assert sorted(effects) == list(range(1000))
    assert await bus.dead_letters.list(kind="bus") == []


async def test_old_days_are_removed_and_missing_ones_made(database: Database) -> None:
    # BUS-14: by age, or when every group that is counted has passed them
    bus = PostgresBus(database)
    await bus.declare(TOPIC, 1)
    await bus.publish_batch(TOPIC, records(3))
    heard = Heard()
    async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
        await heard.count(3)
    assert await bus.purge() == 0

    async def days(connection: Connection) -> list[str]:
        rows = await connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
            " WHERE inhparent = 'bus_records'::regclass ORDER BY 1"
        )
        return [row["name"] for row in rows]

    async def older(connection: Connection, by: int) -> None:
        # A table of that day, with one record that nobody has handled.
        await connection.execute(
            f"CREATE TABLE bus_records_{_day(by):%Y%m%d} PARTITION OF bus_records"
            f" FOR VALUES FROM ('{_day(by)} 00:00Z') TO ('{_day(by - 1)} 00:00Z')"
        )
        await connection.execute(
            "INSERT INTO bus_records (topic, partition, published_at, key, value, headers)"
            " VALUES ($1, 0, $2, 'k', '', '{}')",
            TOPIC,
            datetime.now(UTC) - timedelta(days=by),
        )

    assert len(await database.run(days)) == 3
    await database.run(older, 9)
    await database.run(older, 4)
    assert await bus.purge() == 1
    acked = PostgresBus(database, retention=Retention.ACKED)
    assert await acked.purge() == 0
    await bus.seek(GROUP, StartAt.LATEST)
    assert await acked.purge() == 1
    assert len(await database.run(days)) == 3


def _day(ago: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=ago)


async def test_a_silent_group_is_reported_and_not_waited_for(database: Database) -> None:
    # BUS-14
    bus = PostgresBus(database, retention=Retention.ACKED)
    await bus.declare(TOPIC, 1)
    await bus.join(GROUP, [TOPIC], StartAt.EARLIEST)

    async def age(connection: Connection) -> None:
        await connection.execute("UPDATE bus_groups SET seen_at = seen_at - interval '8 days'")

    await database.run(age)
    with capture_logs() as logs:
        await bus.purge()
    assert [one["group"] for one in logs if one["event"] == "bus.group_silent"] == [GROUP]
    assert [one.is_counted for one in await bus.groups()] == [False]
    member = await bus.join(GROUP, [TOPIC], StartAt.EARLIEST)
    await member.renew()
    assert [one.is_counted for one in await bus.groups()] == [True]
    await member.leave()


async def test_a_clock_that_is_set_back_holds_neither_parts_nor_records(
    database: Database,
) -> None:
    # REL-88: a dead member's parts are free a lease later, and what was put aside is not waited
    # for any longer than it was to be
    bus = PostgresBus(database)
    await bus.declare(TOPIC, 1)
    heard = Heard(failing={"0": ValueError("not today")})
    async with subscribed(bus, heard, options(parked_delays_s=(900,))):
        await bus.publish_batch(TOPIC, records(2))
        await heard.count(1)  # the second, and so the first is put aside
    dead = await bus.join(GROUP, [TOPIC], StartAt.EARLIEST)
    assert len((await dead.renew()).held) == 1

    async def set_back(connection: Connection) -> None:
        await _age_members(connection, -3600)
        await connection.execute("UPDATE bus_parked SET due_at = due_at + interval '1 hour'")

    await database.run(set_back)
    living = await bus.join(GROUP, [TOPIC], StartAt.EARLIEST)
    assert (await living.renew()).held == {}
    await database.run(_age_members, LEASE_S)
    assert len((await living.renew()).held) == 1
    assert (await dead.renew()).held == {}
    await dead.leave()
    await living.leave()
    heard.failing.clear()
    async with subscribed(bus, heard):
        await heard.count(2)
    assert heard.values == ["1", "0"]


async def test_a_record_behind_an_open_transaction_is_not_passed_over(database: Database) -> None:
    # BUS-10: the one that was begun first is published last
    bus = PostgresBus(database)
    await bus.declare(TOPIC, 1)
    await bus.purge()  # makes the table of today
    heard, begun, go = Heard(), trio.Event(), asyncio.Event()
    token = trio.lowlevel.current_trio_token()
    loops: list[asyncio.AbstractEventLoop] = []

    async def late(connection: Connection) -> None:
        loops.append(asyncio.get_running_loop())
        await connection.execute(
            "INSERT INTO bus_records (topic, partition, key, value, headers)"
            " VALUES ($1, 0, 'order-0', '0', jsonb_build_object('event_id', gen_random_uuid()))",
            TOPIC,
        )
        token.run_sync_soon(begun.set)
        await go.wait()

    async with subscribed(bus, heard), trio.open_nursery() as nursery:
        nursery.start_soon(partial(database.transact, late))
        await begun.wait()
        await bus.publish_batch(TOPIC, records(3)[1:])
        await trio.sleep(0.1)
        assert heard.records == []
        loops[0].call_soon_threadsafe(go.set)
        await heard.count(3)
    assert heard.values == ["0", "1", "2"]


async def test_publishes_of_one_moment_share_a_statement(database: Database) -> None:
    # PERF-57, BUS-3
    bus, heard = PostgresBus(database), Heard()
    await bus.declare(TOPIC)
    await bus.declare("others")
    sent = records(50)
    await bus.publish("others", sent[0])
    before = bus.statistics()
    async with trio.open_nursery() as nursery:
        for one in sent:
            nursery.start_soon(bus.publish, TOPIC, one)
            nursery.start_soon(bus.publish, "others", one)
    # The first of all, and then all others.
    after = bus.statistics()
    assert (after.singles - before.singles, after.statements - before.statements) == (1, 1)
    assert after.rows - before.rows == 99
    async with subscribed(bus, heard, options()):
        await heard.count(50)
    assert sorted(heard.values, key=int) == [one.value.decode() for one in sent]


async def test_a_record_is_put_back_and_its_letter_settled_in_one_commit(
    database: Database,
) -> None:
    # BUS-7: what is refused on the way leaves neither
    bus, heard = PostgresBus(database), Heard(failing={"0": ValueError("no")})
    await bus.declare(TOPIC)
    await bus.publish_batch(TOPIC, records(1))
    async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
        with trio.fail_after(PATIENCE_S):
            while not await bus.dead_letters.list(kind="bus"):  # noqa: ASYNC110  (no event)
                await trio.sleep(0.01)
    (letter,) = await bus.dead_letters.list(kind="bus")

    async def rows(connection: Connection) -> int:
        return int(
            await connection.fetchval("SELECT count(*) FROM bus_records WHERE topic = $1", TOPIC)
        )

    async def refuse(connection: Connection) -> None:
        await connection.execute(
            "ALTER TABLE bus_records ADD CONSTRAINT planted CHECK (topic = '') NOT VALID"
        )

    async def allow(connection: Connection) -> None:
        await connection.execute("ALTER TABLE bus_records DROP CONSTRAINT planted")

    before = await database.run(rows)
    await database.run(refuse)
    with pytest.raises(Exception, match="planted"):
        await put_back(bus, letter.id, "ada")
    assert await database.run(rows) == before
    assert (await bus.dead_letters.get(letter.id)).status is DeadLetterStatus.PENDING
    await database.run(allow)
    assert (await put_back(bus, letter.id, "ada")).status is DeadLetterStatus.RESOLVED
    assert await database.run(rows) == before + 1
    # Once is all.
    with pytest.raises(InvalidTransition):
        await put_back(bus, letter.id, "ada")
    assert await database.run(rows) == before + 1


# Of how many the log is filled, of eight days; `make soak` takes a million.
RECORDS = int(os.environ.get("RECORDS", "1600"))
DAYS = 8
_FILL = """
INSERT INTO bus_records (topic, partition, published_at, key, value, headers)
SELECT $1, n % 3, $2::timestamptz + n * interval '1 microsecond', 'order-' || n % 50,
    convert_to(n || repeat('x', 200), 'UTF8'),
    jsonb_build_object('event_id', gen_random_uuid(), 'content_type', 'application/json')
FROM generate_series(1, $3) n
"""
_LOG_BYTES = """
SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits
WHERE inhparent = 'bus_records'::regclass
"""
_BESIDE_BYTES = """
SELECT sum(pg_total_relation_size(name))::bigint
FROM unnest('{bus_offsets,bus_groups,bus_members,bus_parked}'::regclass[]) name
"""


async def test_a_log_that_three_groups_have_read_is_as_large_as_a_day(database: Database) -> None:
    """Eight days of records, read by three groups: what all have passed goes as whole tables."""
    # BUS-14
    bus, counts = PostgresBus(database, retention=Retention.ACKED), Counter[str]()
    await bus.declare(TOPIC)
    await bus.purge()

    async def bytes_of(statement: str) -> int:
        async def work(connection: Connection) -> int:
            return int(await connection.fetchval(statement))

        return await database.run(work)

    async def fill(connection: Connection, ago: int) -> None:
        if ago:
            await connection.execute(
                f"CREATE TABLE bus_records_{_day(ago):%Y%m%d} PARTITION OF bus_records"
                f" FOR VALUES FROM ('{_day(ago)} 00:00Z') TO ('{_day(ago - 1)} 00:00Z')"
            )
        at = datetime.combine(_day(ago), time(), UTC)
        await connection.execute(_FILL, TOPIC, at, RECORDS // DAYS)

    sizes, done = [await bytes_of(_LOG_BYTES)], trio.Event()
    for ago in reversed(range(DAYS)):
        await database.run(fill, ago)
        sizes.append(await bytes_of(_LOG_BYTES))
    a_day = (sizes[-1] - sizes[0]) // DAYS

    async def handle(group: str, received: Received) -> None:
        counts[group] += 1
        if counts.total() >= 3 * RECORDS:
            done.set()

    began = trio.current_time()
    async with AsyncExitStack() as reading:
        for group in ("mail", "search", "stock"):
            wanted = options(on_failure=OnFailure.SKIP)
            member = subscribed(bus, partial(handle, group), wanted, group)
            await reading.enter_async_context(member)
        with trio.fail_after(max(PATIENCE_S, RECORDS / 100)):
            await done.wait()
    took_s = trio.current_time() - began
    assert counts == dict.fromkeys(("mail", "search", "stock"), RECORDS)
    assert await bus.purge() == DAYS - 1
    left, beside = await bytes_of(_LOG_BYTES), await bytes_of(_BESIDE_BYTES)
    rate = 3 * RECORDS / took_s
    print(f"a day {a_day:,} B, of {sizes[-1]:,} B left {left:,}, beside {beside:,}; {rate:.0f}/s")
    assert left <= 2 * a_day + sizes[0]
    # Nine rows of offsets, written ten times a second: what was written over is used again.
    assert beside <= 2**20


@pytest.mark.slow
async def test_a_killed_server_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """PostgreSQL is killed with records on their way to the bus, and to a handler."""
    # BUS-4, BUS-9, BUS-13, REL-85
    server = start_prepared(tmp_path)

    async def kill_and_restart(bus: PostgresBus) -> None:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        while server.is_running:  # noqa: ASYNC110  (a process has no event)
            await trio.sleep(0.01)
        assert (await bus.health()).state is BusState.DEGRADED
        await trio.sleep(AWAY_S)
        if AWAY_S >= AWAY_UNHEALTHY_S:
            assert (await bus.health()).state is BusState.UNHEALTHY
        await trio.to_thread.run_sync(server.restart)

    async def publish(bus: PostgresBus, ours: Sequence[Record]) -> None:
        for one in ours:
            while True:
                try:
                    await bus.publish(TOPIC, one)
                except BusUnavailable:  # it is there or not: the inbox knows it by its id
                    await trio.sleep(0.02)
                else:
                    break

    try:
        async with open_database(server.url, settings=PATIENT_POOL) as database:
            await migrate(database)
            bus, sent = PostgresBus(database), records(600, keys=40)
            await bus.declare(TOPIC)
            member = subscription_on(database, bus)
            with trio.fail_after(PATIENCE_S + 2 * AWAY_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(member.run)
                    async with trio.open_nursery() as publishing:
                        for at in range(6):
                            publishing.start_soon(publish, bus, sent[at::6])
                        for least in (60, 240):
                            while member.statistics().handled < least:  # noqa: ASYNC110
                                await trio.sleep(0.01)  # it grows, and rings nothing
                            await kill_and_restart(bus)
                    while await _behind(bus):  # noqa: ASYNC110  (no event)
                        await trio.sleep(0.02)
                    await member.stop()
            assert sorted(await _effects(database)) == list(range(600))
            assert (await bus.health()).state is BusState.HEALTHY
            assert await bus.dead_letters.list(kind="bus") == []
    finally:
        server.stop()


async def _behind(bus: PostgresBus) -> int:
    try:
        return sum(one.records for one in await bus.lag(GROUP))
    except BusUnavailable:
        return 1
