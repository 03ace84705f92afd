"""The handle on a database: sessions, limits, timeouts, losses, and their words."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import fields, replace
from math import nan
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from storage.errors import PoolExhausted, StoreRejected, StoreTimeout, StoreUnavailable
from storage.postgres import (
    Connection,
    Database,
    EmbeddedServer,
    PoolSettings,
    PoolStats,
    open_database,
)
from storage.postgres.connecting.pool import OPERATION_S_MAX, SETTLE_S_MAX
from storage.testing import TemporaryServer
from storage.testing.samples import PATIENCE_S
from tests.logged import captured
from tests.patience import PATIENT_POOL
from tests.processes.prepared import start_prepared

# One session, ready when the database is, and whoever needs it waits for it.
_ONE = replace(PATIENT_POOL, connections_min=1, connections_max=1)


async def _pid(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def _sleep(connection: Connection, seconds: float) -> None:
    await connection.execute(f"SELECT pg_sleep({seconds})")


async def _end_the_loop(_connection: Connection) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(30)


async def _sessions(connection: Connection, part: str) -> int:
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE $1 AND datname = current_database()",
            f"greenroom:{part}%",
        )
    )


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not await check():  # noqa: ASYNC110  (the server has no event for us)
            await trio.sleep(0.005)


async def _until_stats(database: Database, check: Callable[[PoolStats], bool]) -> None:
    async def is_so() -> bool:
        return check(database.pool_stats())

    await _until(is_so)


async def _run_then_cancel(database: Database, work: Callable[[], Awaitable[None]]) -> None:
    """Cancel work once it has a connection of the pool in hand."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await _until_stats(database, lambda stats: stats.in_use > 0)
        nursery.cancel_scope.cancel()


async def test_sessions_carry_the_settings(database_url: str) -> None:
    # STORE-23
    names = (
        "application_name",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    )

    async def settings(connection: Connection) -> list[str]:
        return [str(await connection.fetchval(f"SHOW {name}")) for name in names]

    patient = PoolSettings(acquire_s_max=PATIENCE_S, operation_s_max=PATIENCE_S)
    async with open_database(database_url, part="test", settings=patient) as database:
        assert await database.run(settings) == ["greenroom:test", "30s", "5s", "1min"]


async def test_a_cancelled_query_leaves_its_connection_usable(database_url: str) -> None:
    # STORE-18
    settings = replace(_ONE, statement_timeout_s=900)
    async with open_database(database_url, settings=settings) as database:
        before = await database.run(_pid)

        async def sleep() -> None:
            await database.run(_sleep, 600, timeout_s=600)

        await _run_then_cancel(database, sleep)
        # The only session answers again: the query was ended, and the session was not.
        with trio.fail_after(PATIENCE_S):
            assert await database.run(_pid) == before


async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    # STORE-18
    token, inserted = trio.lowlevel.current_trio_token(), trio.Event()

    async def make(connection: Connection) -> None:
        await connection.execute("CREATE TABLE t (n int)")

    async def insert(connection: Connection, fate: str) -> None:
        await connection.execute("INSERT INTO t VALUES (1)")
        if fate == "fail":
            raise KeyError("planted")
        if fate == "hang":
            token.run_sync_soon(inserted.set)
            await asyncio.sleep(600)

    async def count(connection: Connection) -> int:
        return int(await connection.fetchval("SELECT count(*) FROM t"))

    await database.run(make)
    with pytest.raises(KeyError):
        await database.transact(insert, "fail")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.transact, insert, "hang")
            await inserted.wait()
            nursery.cancel_scope.cancel()
    assert await database.run(count) == 0
    await database.transact(insert, "commit")
    assert await database.run(count) == 1


async def test_a_full_pool_refuses_in_time(database_url: str) -> None:
    # DOC-4, STORE-33
    settings = replace(_ONE, acquire_s_max=0.2)
    async with open_database(database_url, settings=settings) as database:

        async def fill() -> None:
            await database.run(_sleep, 30, timeout_s=PATIENCE_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            await _until_stats(database, lambda stats: stats.in_use > 0)
            with pytest.raises(PoolExhausted) as caught:
                await database.run(_pid)
            assert (caught.value.limit, caught.value.is_transient) == (1, True)
            assert database.pool_stats().utilization == 1.0
            nursery.cancel_scope.cancel()
        await _until_stats(database, lambda stats: stats.idle == 1)
        assert await database.run(_pid)


async def test_who_waits_in_line_gets_the_room_of_a_session_that_ended(database_url: str) -> None:
    # STORE-33: with two in line the first found the other there, and lined up behind it again
    settings = replace(_ONE, connections_min=0)
    pids: list[int] = []
    async with (
        open_database(database_url, part="watch", settings=PATIENT_POOL) as watch,
        open_database(database_url, part="ended", settings=settings) as database,
    ):

        async def hold() -> None:
            with pytest.raises(StoreUnavailable):
                await database.run(_sleep, 30, timeout_s=PATIENCE_S)

        async def wait() -> None:
            pids.append(await database.run(_pid, timeout_s=PATIENCE_S))

        async def kill(connection: Connection) -> None:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'greenroom:ended' AND datname = current_database()"
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await _until_stats(database, lambda stats: stats.idle == 0 and stats.size == 1)
            for _ in range(3):
                nursery.start_soon(wait)
            await _until_stats(database, lambda stats: stats.waiting == 3)
            await watch.run(kill)
        assert len(set(pids)) == 1
        assert len(pids) == 3


async def test_the_limit_of_connections_is_never_passed(database_url: str) -> None:
    # SITE DB_MAX_CONNECTIONS
    settings = replace(PATIENT_POOL, connections_min=2, connections_max=4)
    most = 0
    async with (
        open_database(database_url, part="watch", settings=PATIENT_POOL) as watch,
        open_database(database_url, part="load", settings=settings) as database,
    ):
        left = 40

        async def load() -> None:
            nonlocal left
            # At least once; and until all sessions there may be were seen in use.
            await database.run(_sleep, 0.005)
            while most < settings.connections_max:
                await database.run(_sleep, 0.005)
            left -= 1

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for _ in range(left):
                    nursery.start_soon(load)
                while left:
                    most = max(most, await watch.run(_sessions, "load"))
        stats = database.pool_stats()
        # One of the four listens.
        assert most == 4
        assert (stats.size, stats.idle, stats.in_use, stats.waiting) == (4, 3, 0, 0)


async def test_nothing_stays_open_after_closing(database_url: str) -> None:
    async with open_database(database_url, part="watch", settings=PATIENT_POOL) as watch:
        async with open_database(database_url, part="gone", settings=PATIENT_POOL) as database:
            await database.run(_pid)
            assert await watch.run(_sessions, "gone") >= 1

        async def none_left() -> bool:
            return await watch.run(_sessions, "gone") == 0

        await _until(none_left)


async def test_slow_work_times_out(database: Database) -> None:
    # REL-82
    with pytest.raises(StoreTimeout):
        await database.run(_sleep, 30, timeout_s=0.05)
    assert await database.run(_pid)


async def test_a_cut_connection_fails_its_query_and_no_other(database: Database) -> None:
    # REL-81
    async def kill(connection: Connection, pid: int) -> None:
        await connection.execute(f"SELECT pg_terminate_backend({pid})")

    async def cut_itself(connection: Connection) -> None:
        await kill(connection, await _pid(connection))

    with pytest.raises(StoreUnavailable, match="outcome of a write in hand is not known"):
        await database.run(cut_itself)
    assert await database.run(_pid)
    idle = await database.run(_pid)
    size = database.pool_stats().size
    async with open_database(database.url, settings=PATIENT_POOL) as other:
        await other.run(kill, idle)
    await _until_stats(database, lambda stats: stats.size < size)
    assert await database.run(_pid) != idle


async def test_a_lost_loop_is_made_anew(database: Database) -> None:
    # REL-87
    with pytest.raises(StoreUnavailable):
        await database.run(_end_the_loop)

    async def is_served() -> bool:
        try:
            return await database.run(_pid) > 0
        except StoreUnavailable:
            return False  # a call's own patience with a missing loop is two seconds

    await _until(is_served)
    assert database.loops_started == 2


async def test_a_wrong_address_is_told_at_once(postgres_server: TemporaryServer) -> None:
    # REL-25: no waiting mends it, and so nothing is waited for
    url = postgres_server.server.url_of("no_such_database")
    with trio.fail_after(PATIENCE_S), pytest.RaisesGroup(StoreRejected, flatten_subgroups=True):
        async with open_database(url, wait_s=5 * PATIENCE_S):
            pass


@pytest.mark.slow
async def test_an_absent_database_is_waited_for_then_told(tmp_path: object) -> None:
    # REL-25: nothing was sent, so nothing is said of a write in hand
    told = pytest.RaisesExc(StoreUnavailable, match=r"Nothing was written; try again\.$")
    began = trio.current_time()
    with (
        trio.fail_after(PATIENCE_S),
        pytest.RaisesGroup(told, flatten_subgroups=True),
    ):
        async with open_database(f"postgresql://a@/b?host={tmp_path}", wait_s=0.8):
            pass
    assert trio.current_time() - began >= 0.4


async def test_a_database_that_says_nothing_is_given_up_when_its_time_is_over() -> None:
    """In the middle of an attempt, which alone would take four seconds."""
    # REL-25, OBS-5: who looks on is told of it all the same
    silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent[0].socket.getsockname()[1]
    told = pytest.RaisesExc(
        StoreUnavailable, match=r"no answer within 0\.4 s\. Nothing was written"
    )
    async with silent[0]:
        with (
            captured() as lines,
            trio.fail_after(PATIENCE_S),
            pytest.RaisesGroup(told, flatten_subgroups=True),
        ):
            async with open_database(f"postgresql://a@127.0.0.1:{port}/b", wait_s=0.4):
                pass
    assert [line["event"] for line in lines] == ["store.database_awaited"]


async def test_old_and_doubtful_connections_are_renewed(database_url: str) -> None:
    # STORE-33
    old = replace(_ONE, lifetime_s_max=0.001)
    async with open_database(database_url, settings=old) as database:
        first = await database.run(_pid)
        await trio.sleep(0.002)
        assert await database.run(_pid) != first
    tested = replace(_ONE, test_after_idle_s=0.0)
    async with open_database(database_url, settings=tested) as database:
        assert await database.run(_pid) == await database.run(_pid)


async def test_a_busy_pool_shows_itself_saturated(database_url: str) -> None:
    # STORE-33
    settings = replace(_ONE, saturated_after_s=0.0)
    async with open_database(database_url, settings=settings) as database:
        assert not database.pool_stats().is_saturated
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.run, _sleep, 30)
            await _until_stats(database, lambda stats: stats.is_saturated)
            nursery.cancel_scope.cancel()


def signal_all(pid: int, word: signal.Signals) -> None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in (pid, *map(int, children)):
        os.kill(one, word)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test alone, which may be stopped."""
    made = start_prepared(tmp_path)
    yield made
    made.stop()


@pytest.mark.slow
async def test_a_frozen_server_blocks_nobody_for_long(own_server: EmbeddedServer) -> None:
    # REL-82, REL-22
    answered: list[type[StoreUnavailable]] = []
    async with open_database(own_server.url) as database:
        assert await database.run(_pid)
        pid = own_server.pid
        assert pid is not None
        signal_all(pid, signal.SIGSTOP)
        try:

            async def ask() -> None:
                with pytest.raises(StoreUnavailable) as caught:
                    await database.run(_pid)
                answered.append(caught.type)

            # All have their answer before the server goes on: none has waited for it.
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    for _ in range(30):
                        nursery.start_soon(ask)
        finally:
            signal_all(pid, signal.SIGCONT)
        await database.wait_up(PATIENCE_S)
        assert await database.run(_pid)
    assert len(answered) == 30


@pytest.mark.slow
async def test_a_database_is_up_when_it_answers(own_server: EmbeddedServer) -> None:
    # REL-82: a pool full of sessions says nothing of the server behind them
    async with open_database(own_server.url) as database:
        assert database.pool_stats().size == database.settings.connections_min
        pid = own_server.pid
        assert pid is not None
        signal_all(pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable):
                await database.wait_up(0)
        finally:
            signal_all(pid, signal.SIGCONT)
        await database.wait_up(PATIENCE_S)


async def test_who_waits_for_a_database_is_told_at_once_and_then_now_and_again(
    autojump_clock: MockClock,
) -> None:
    # OBS-5: what is waited for, why, and for how long; never the password
    url = "postgresql://app:hunter2@db.internal:6543/shop?application_name=x"
    database = Database(url, part="start", patience_s=0.0)
    with captured() as lines, pytest.raises(StoreUnavailable):
        await database.wait_up(12.0)
    assert [line["event"] for line in lines] == ["store.database_awaited"] * 3
    assert [line["waited_s"] for line in lines] == [0.0, 5.0, 10.0]
    assert "hunter2" not in str(lines)
    first = {name: lines[0][name] for name in ("part", "database", "reason", "wait_s")}
    assert first == {
        "part": "start",
        "database": "db.internal:6543/shop",
        "reason": "its loop is not running",
        "wait_s": 12.0,
    }
    # Who does not wait is told by the error alone.
    with captured() as lines, pytest.raises(StoreUnavailable):
        await database.wait_up(0.0)
    assert lines == []


async def test_a_pause_that_takes_longer_than_the_time_is_told_by_what_kept_it_away(
    mock_clock: MockClock,
) -> None:
    # REL-25: as of a machine that has too much to do
    database = Database("postgresql://a@/b", patience_s=0.0)

    async def wait() -> None:
        with pytest.raises(StoreUnavailable, match="its loop is not running"):
            await database.wait_up(2.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10.0)


async def test_of_many_silent_sessions_one_call_pays(database: Database) -> None:
    # REL-84: a line that swallows everything; each session would cost a call its patience else
    async def hold(connection: Connection) -> None:
        pids.add(await _pid(connection))
        while len(pids) < 4:  # noqa: ASYNC110  (four in hand at once make four sessions)
            await asyncio.sleep(0.001)

    pids: set[int] = set()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(database.run, hold)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreTimeout):
            await database.run(_pid, timeout_s=0.2)
        # The line is found out to be silent a second later, and all that were quiet with it.
        await _until_stats(database, lambda stats: stats.idle == 0 and stats.in_use == 0)
        assert await database.run(_pid, timeout_s=PATIENCE_S) not in pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_after_a_failover_one_call_pays(
    own_server: EmbeddedServer, postgres_server: TemporaryServer
) -> None:
    # REL-81: the old primary comes back read-only and keeps its sessions; the new one is next
    async def write(connection: Connection) -> str:
        await connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS t (n int)")
        await connection.execute("SELECT pg_current_xact_id()")
        return str(await connection.fetchval("SHOW unix_socket_directories"))

    async def fence(connection: Connection) -> None:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")

    async def is_fenced(connection: Connection) -> bool:
        return bool(await connection.fetchval("SHOW transaction_read_only") == "on")

    async def hold(connection: Connection) -> None:
        held.add(await _pid(connection))
        while len(held) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    held: set[int] = set()
    old, new = str(own_server.sockets), str(postgres_server.server.sockets)
    url = f"postgresql://postgres@/postgres?host={old},{new}"
    async with open_database(url, settings=PATIENT_POOL) as database:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(database.run, hold)
        assert await database.run(write) == old
        await database.run(fence)

        async def fenced() -> bool:
            return await database.run(is_fenced)

        await _until(fenced)
        with pytest.raises(StoreUnavailable):
            await database.transact(write)
        assert [await database.transact(write) for _ in range(5)] == [new] * 5


def test_a_caller_of_a_frozen_server_has_its_answer_within_five_seconds() -> None:
    # REL-82: as far as limits can promise it; how fast the machine is they cannot know
    assert OPERATION_S_MAX + SETTLE_S_MAX <= 5.0
    assert PoolSettings().operation_s_max == OPERATION_S_MAX
    assert PoolSettings().acquire_s_max <= 5.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"connections_max": 0},
        {"connections_max": 201},
        {"connections_min": -1},
        {"acquire_s_max": 0},
        {"operation_s_max": 0},
        *({one.name: -1} for one in fields(PoolSettings)),
        # Every comparison with what is no number is false.
        *({one.name: nan} for one in fields(PoolSettings)),
    ],
)
def test_nonsense_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        PoolSettings(**wrong)


async def test_a_task_of_the_handle_has_nothing_of_who_started_it(database: Database) -> None:
    # STORE-18: neither his variables nor his end
    seen: list[str] = []
    ended, done = trio.Event(), trio.Event()

    async def look() -> None:
        await ended.wait()
        seen.append(_var.get())
        done.set()

    async def start() -> None:
        _var.set("mine")
        assert database.start_soon(look)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
    ended.set()
    with trio.fail_after(PATIENCE_S):
        await done.wait()
    assert seen == ["nobody's"]
    assert not Database(database.url).start_soon(look)


_var: ContextVar[str] = ContextVar("_var", default="nobody's")
