"""Health tells what holds the store back, and by whom."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from actors.persistence import NewEvent, StreamId
from storage.postgres import (
    Connection,
    Database,
    EmbeddedServer,
    PoolSettings,
    PoolStats,
    PostgresEventStore,
    check_health,
    judge_archive,
    judge_pool,
    migrate,
    open_database,
)
from storage.postgres.connecting.health import CHECK_S_MAX, ArchiveState, OldestTransaction, judge
from storage.testing.samples import PATIENCE_S
from tests.patience import PATIENT_POOL
from tests.processes.prepared import start_prepared


async def test_a_served_database_is_healthy(database: Database) -> None:
    # SITE-183
    health = await check_health(database)
    assert (health.status, health.message) == ("healthy", "")


async def test_a_cut_database_is_unhealthy_at_once(tmp_path: Path) -> None:
    # SITE-183
    database = Database(f"postgresql://postgres@/nothing?host={tmp_path}")
    async with trio.open_nursery() as nursery:
        await nursery.start(database.serve)
        with trio.fail_after(PATIENCE_S):
            health = await check_health(database)
        nursery.cancel_scope.cancel()
    assert health.status == "unhealthy"
    # Of what the database may take; the rest is the machine's.
    assert CHECK_S_MAX <= 1.0


@pytest.mark.parametrize(
    ("age_s", "status", "is_told"),
    [(3.0, "healthy", False), (12.0, "healthy", True), (61.0, "degraded", True)],
)
def test_an_old_transaction_is_named(age_s: float, status: str, is_told: bool) -> None:
    # STORE-23
    found, text = judge(OldestTransaction(age_s, 77, "psql"))
    assert found == status
    assert ("psql (pid 77)" in text) is is_told


def test_what_is_held_back_by_somebody_unseen_is_told_too() -> None:
    # STORE-23: a role that may not see other people's transactions sees what they do
    status, text = judge(None, held_back_s=61.0)
    assert status == "degraded"
    assert "this role cannot see" in text


@pytest.mark.parametrize(
    ("in_use", "waiting", "is_saturated", "told"),
    [
        (10, 0, False, ""),
        (9, 3, False, ""),  # they have just been called
        (10, 3, False, "every connection is in use and 3 wait for one"),
        (10, 3, True, "every connection is in use and 3 wait for one"),
        (10, 0, True, "the connection pool is saturated"),
    ],
)
def test_a_pool_tells_that_it_is_too_small(
    in_use: int, waiting: int, is_saturated: bool, told: str
) -> None:
    # STORE-33, RES-40
    stats = PoolStats(
        size=10, idle=10 - in_use, in_use=in_use, waiting=waiting, connections_max=10,
        utilization=in_use / 10, is_saturated=is_saturated,
    )  # fmt: skip
    assert judge_pool(stats) == told


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (ArchiveState(is_on=False), ""),
        (ArchiveState(True, waiting=9, waiting_s=59.9), ""),
        # A command that hangs fails never.
        (ArchiveState(True, waiting=1, waiting_s=60.0), "the log is not archived for 60 s"),
        (ArchiveState(True, True, 1, 0.4), "the log cannot be archived for 0 s"),
    ],
)
def test_an_archive_that_does_not_come_is_told(state: ArchiveState, told: str) -> None:
    # OPS-1, RES-40
    found = judge_archive(state)
    assert bool(found) is bool(told)
    assert found.startswith(told)


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server where transactions can be prepared, and where nobody else holds one open."""
    extra = ("fsync=off", "max_prepared_transactions=2")
    made = start_prepared(tmp_path_factory.mktemp("health"), extra=extra)
    yield made
    made.stop()


@asynccontextmanager
async def _migrated(server: EmbeddedServer) -> AsyncIterator[Database]:
    async with open_database(server.url, settings=PATIENT_POOL) as database:
        await migrate(database)
        # The session that a test before this one has left may still be on its way out.
        with trio.fail_after(PATIENCE_S):
            while (await check_health(database)).oldest is not None:  # noqa: ASYNC110
                await trio.sleep(0.02)
        yield database


async def _append(database: Database) -> None:
    event = NewEvent(event_id=uuid4(), type="Made", data=b"{}")
    await PostgresEventStore(database).append(StreamId(f"a-{uuid4()}"), [event])


async def _take_a_number(connection: Connection) -> None:
    await connection.execute("BEGIN; SELECT pg_current_xact_id()")


@pytest.mark.slow
async def test_a_transaction_of_another_database_is_seen(own_server: EmbeddedServer) -> None:
    # STORE-23: the numbers of transactions belong to the server, not to a database
    other = own_server.url_of("template1")
    async with (
        _migrated(own_server) as database,
        open_database(other, part="elsewhere", settings=PATIENT_POOL) as elsewhere,
    ):
        assert (await check_health(database)).held_back_s == 0.0

        async def hold(connection: Connection) -> None:
            await _take_a_number(connection)
            token.run_sync_soon(held.set)
            await connection.execute("SELECT pg_sleep(900)")

        token, held = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere.run, hold)
            await held.wait()
            await _append(database)
            health = await check_health(database)
            nursery.cancel_scope.cancel()
    assert health.oldest is not None
    assert health.oldest.application == "greenroom:elsewhere"
    assert "in another database" in str(health.oldest)
    assert health.held_back_s > 0.0


@pytest.mark.slow
async def test_a_prepared_transaction_is_seen(own_server: EmbeddedServer) -> None:
    # STORE-23: no session has it any more
    async def prepare(connection: Connection) -> None:
        await _take_a_number(connection)
        await connection.execute("PREPARE TRANSACTION 'left by a tool'")

    async def roll_back(connection: Connection) -> None:
        await connection.execute("ROLLBACK PREPARED 'left by a tool'")

    async with _migrated(own_server) as database:
        await database.run(prepare)
        try:
            await _append(database)
            health = await check_health(database)
        finally:
            await database.run(roll_back)
        after = await check_health(database)
    assert health.oldest is not None
    assert str(health.oldest) == "prepared transaction 'left by a tool'"
    assert health.held_back_s > 0.0
    assert (after.oldest, after.held_back_s) == (None, 0.0)


@pytest.mark.slow
async def test_a_server_that_takes_no_writes_is_unhealthy(own_server: EmbeddedServer) -> None:
    # REL-81: it answers, and cannot do the work
    async def refuse(connection: Connection) -> None:
        await connection.execute("SET default_transaction_read_only = on")

    url = f"postgresql://postgres@/postgres?host={own_server.sockets}"
    one = PoolSettings(connections_min=1, connections_max=1, acquire_s_max=PATIENCE_S)
    async with open_database(url, settings=one) as database:
        await database.run(refuse)
        health = await check_health(database)
        assert (health.status, "takes no writes" in health.message) == ("unhealthy", True)
        # The session is gone with what spoke against it, and the next one is well.
        assert (await check_health(database)).status == "healthy"
