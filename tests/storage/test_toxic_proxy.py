"""The proxy does each harm that it is told to, and no other; then a database behind it."""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import StoredEvent, StoreUnavailable, StreamId
from storage.postgres import (
    Connection,
    Database,
    PoolSettings,
    PostgresEventStore,
    check_health,
    open_database,
)
from storage.testing import TemporaryServer, ToxicProxy
from storage.testing.event_store import following
from storage.testing.samples import PATIENCE_S, new_events

_SIZE = 300_000


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # it was reset


@asynccontextmanager
async def _before_an_echo() -> AsyncIterator[ToxicProxy]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, _echo, 0)
        port = listeners[0].socket.getsockname()[1]
        reach = partial(trio.open_tcp_stream, "127.0.0.1", port)
        yield await nursery.start(ToxicProxy(reach, seed=1).serve)
        nursery.cancel_scope.cancel()


async def _read(stream: trio.SocketStream, size: int) -> list[bytes]:
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < size and (data := await stream.receive_some(65536)):
        pieces.append(data)
    return pieces


async def test_a_good_line_changes_nothing() -> None:
    # REL-80, TEST-10
    async with _before_an_echo() as proxy:
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        text = bytes(range(256)) * (_SIZE // 256)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, text)
            assert b"".join(await _read(stream, len(text))) == text
            await stream.send_eof()
            assert await stream.receive_some() == b""
        assert proxy.connects == 1


async def test_latency_and_bandwidth_make_it_wait(mock_clock: MockClock) -> None:
    # REL-80: virtual time, so that it is exact
    async with _before_an_echo() as proxy:
        proxy.up.latency_s, proxy.up.jitter_s, proxy.down.bytes_per_s = 10.0, 5.0, 2.0
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        async with stream:
            await stream.send_all(b"abcd")
            with trio.move_on_after(4.9):
                await _passing(mock_clock, 4.9, stream)
                pytest.fail("it was not late")
            mock_clock.rate = 1000.0
            assert await _read(stream, 4) == [b"abcd"]
            assert trio.current_time() >= 7.0


async def _passing(clock: MockClock, seconds: float, stream: trio.SocketStream) -> None:
    clock.jump(seconds)
    await stream.receive_some()


async def test_slices_and_a_limit() -> None:
    # REL-80
    async with _before_an_echo() as proxy:
        proxy.down.slice_bytes, proxy.down.limit_bytes = 3, 10
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        async with stream:
            await stream.send_all(b"x" * 100)
            pieces = await _read(stream, 100)
            assert b"".join(pieces) == b"x" * 10
        proxy.down.limit_bytes = None
        second = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        async with second:
            await second.send_all(b"y" * 100)
            assert b"".join(await _read(second, 100)) == b"y" * 100


async def test_cut_apart_nothing_passes_and_nothing_ends_until_it_is_mended() -> None:
    # REL-80
    async with _before_an_echo() as proxy:
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        async with stream:
            await stream.send_all(b"before")
            assert await _read(stream, 6) == [b"before"]
            proxy.cut_apart()
            await stream.send_all(b"meanwhile")
            with trio.move_on_after(0.1):
                pytest.fail(f"{await stream.receive_some()!r} came through")
            assert proxy.open_count == 1
            proxy.mend()
            assert b"".join(await _read(stream, 9)) == b"meanwhile"


async def test_resets_and_refusals_are_no_ends() -> None:
    # REL-80
    async with _before_an_echo() as proxy:
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        async with stream:
            await stream.send_all(b"x")
            assert await _read(stream, 1) == [b"x"]
            assert proxy.reset_all() == 1
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        proxy.is_refusing = True
        refused = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        async with refused:
            with pytest.raises(trio.BrokenResourceError):
                await refused.receive_some()
        assert (proxy.connects, proxy.open_count) == (2, 0)


# A database behind it.


@asynccontextmanager
async def _far_database(
    server: TemporaryServer, url: str, settings: PoolSettings
) -> AsyncIterator[tuple[ToxicProxy, Database]]:
    folder = server.server.sockets

    async def reach() -> trio.SocketStream:
        sock = trio.socket.socket(socket.AF_UNIX)
        await sock.connect(str(folder / ".s.PGSQL.5432"))
        return trio.SocketStream(sock)

    name = urlsplit(url).path.lstrip("/")
    async with trio.open_nursery() as nursery:
        proxy = await nursery.start(ToxicProxy(reach).serve)
        far = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"
        async with open_database(far, part="far", settings=settings) as database:
            yield proxy, database
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_refused", [False, True], ids=["cancelled", "refused"])
async def test_a_connection_that_did_not_come_about_holds_up_nobody_in_line(
    postgres_server: TemporaryServer, database_url: str, is_refused: bool
) -> None:
    # STORE-33: its room is the next one's, or that one is told that there is none
    # Too old to be used again: the session by which the database was found to be up is none.
    settings = PoolSettings(
        connections_min=0, connections_max=1, acquire_s_max=20.0, lifetime_s_max=1e-9
    )
    told: list[object] = []

    async def one(connection: Connection) -> int:
        return int(await connection.fetchval("SELECT 1"))

    async def wait() -> None:
        try:
            told.append(await database.run(one, timeout_s=PATIENCE_S))
        except StoreUnavailable:  # or its kin: on a busy machine a wait may end by its limit
            told.append(StoreUnavailable)

    async with _far_database(postgres_server, database_url, settings) as (proxy, database):
        proxy.cut_apart()
        async with trio.open_nursery() as nursery:
            first = await nursery.start(_in_a_scope, wait)
            with trio.fail_after(PATIENCE_S):
                while proxy.open_count == 0:  # noqa: ASYNC110  (of another thread)
                    await trio.sleep(0.005)
                for _ in range(2):
                    nursery.start_soon(wait)
                while database.pool_stats().waiting < 2:  # noqa: ASYNC110  (of another thread)
                    await trio.sleep(0.005)
            if is_refused:
                proxy.reset_all()
            else:
                proxy.mend()
                first.cancel()
    assert told == ([StoreUnavailable] * 3 if is_refused else [1, 1])


@pytest.mark.slow
async def test_a_database_that_is_away_is_tried_by_one_at_a_time(
    postgres_server: TemporaryServer, database_url: str
) -> None:
    # REL-84: however many ask; those who come meanwhile wait for that attempt, or fail at once
    settings = PoolSettings(connections_min=0, connections_max=8, acquire_s_max=0.2)
    most = 0

    async def one(connection: Connection) -> int:
        return int(await connection.fetchval("SELECT 1"))

    async def until_away() -> None:
        with suppress(StoreUnavailable):
            while True:
                await database.run(one)

    async def ask_for_ever(database: Database) -> None:
        while True:
            with suppress(StoreUnavailable):
                await database.run(one)
            await trio.sleep(0.01)

    async with _far_database(postgres_server, database_url, settings) as (proxy, database):
        proxy.is_refusing = True
        proxy.reset_all()
        await until_away()
        proxy.cut_apart()
        proxy.is_refusing = False
        before = proxy.connects
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask_for_ever, database)
                while proxy.connects < before + 3:
                    # Those that are being opened: there is no other.
                    most = max(most, database.pool_stats().size)
                    await trio.sleep(0.002)
                nursery.cancel_scope.cancel()
            assert most == 1
            proxy.mend()
            # All of those who wait are let in by the first that comes through.
            settled = [0]

            async def ask() -> None:
                while settled[0] < 20:
                    with suppress(StoreUnavailable):
                        settled[0] += await database.run(one)

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)


async def _in_a_scope(
    work: Callable[[], Awaitable[None]], *, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await work()


@dataclass(frozen=True)
class Form:
    """How long the two are cut apart, how slow the line is afterwards, and the patience of a call.

    In the suite just as long as it takes until calls fail; `make soak` has it as REL-84 says.
    """

    cut_s: float
    round_trip_s: float
    operation_s_max: float


_FORMS = {"short": Form(0.0, 0.04, 0.5), "long": Form(10.0, 0.2, 4.0)}


def _make_slow(proxy: ToxicProxy, round_trip_s: float) -> None:
    """Half of it in each direction, give or take as much again."""
    for side in (proxy.up, proxy.down):
        side.latency_s, side.jitter_s = round_trip_s / 2, round_trip_s / 4


@pytest.mark.slow
async def test_a_program_cut_off_from_its_database_recovers_by_itself(
    postgres_server: TemporaryServer, database_url: str
) -> None:
    """REL-84: silent, refused and slow; nothing acknowledged lost, nothing doubled or skipped."""
    form = _FORMS[os.environ.get("FORM", "short")]
    settings = PoolSettings(
        connections_max=4,
        operation_s_max=form.operation_s_max,
        acquire_s_max=1.0,
        test_after_idle_s=0.0,
    )
    one = StreamId("order-1")
    stored: list[str] = []
    seen: list[StoredEvent] = []
    failed = [0]

    async def write(store: PostgresEventStore) -> None:
        while True:
            (event,) = new_events(1)
            while True:
                # The same id until it is known: an answer may be lost, the event is not.
                try:
                    await store.append(one, [event])
                except StoreUnavailable:
                    failed[0] += 1
                    await trio.sleep(0.01)
                else:
                    stored.append(str(event.event_id))
                    break

    async def follow(store: PostgresEventStore) -> None:
        async with following(store) as pages:
            async for page in pages:
                seen.extend(page.events)

    async def until_more(count: int) -> None:
        wanted = len(stored) + count
        while len(stored) < wanted:  # noqa: ASYNC110  (of tasks that go on)
            await trio.sleep(0.01)

    async def until_failed(count: int) -> None:
        wanted = failed[0] + count
        while failed[0] < wanted:  # noqa: ASYNC110  (of tasks that go on)
            await trio.sleep(0.01)

    async def endure(proxy: ToxicProxy, failures: int) -> None:
        """Be without a database until calls have failed, and for as long as the form says."""
        began, before = trio.current_time(), proxy.connects
        await until_failed(failures)
        await trio.sleep_until(began + form.cut_s)
        assert (await check_health(database)).status == "unhealthy"
        # A connection is tried for once a second at most, and not by every caller.
        elapsed = trio.current_time() - began
        assert proxy.connects - before <= settings.connections_max * (elapsed + 1)

    async with _far_database(postgres_server, database_url, settings) as (proxy, database):
        store = PostgresEventStore(database, poll_s=0.1)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(write, store)
                nursery.start_soon(follow, store)
                await until_more(10)
                proxy.cut_apart()
                await endure(proxy, 3)
                proxy.mend()
                await until_more(10)
                proxy.is_refusing = True
                proxy.reset_all()
                await endure(proxy, 8)
                proxy.is_refusing = False
                await until_more(10)
                _make_slow(proxy, form.round_trip_s)
                await until_more(10)
                _make_slow(proxy, 0.0)
                await until_more(1)
                nursery.cancel_scope.cancel()
            while (page := await store.read_all(after=seen[-1].cursor)).events:
                seen.extend(page.events)
            # After it: what was under way when its writer was cancelled may be stored only now.
            kept = [event async for event in store.load(one)]
    ids = [str(event.event_id) for event in kept]
    assert len(set(ids)) == len(ids)
    assert set(stored) <= set(ids)
    # The last of each writer may have been under way.
    assert len(ids) <= len(stored) + 3
    assert [event.version for event in kept] == list(range(1, len(kept) + 1))
    assert set(stored) <= {str(event.event_id) for event in seen}
    assert [event.event_id for event in seen] == [one.event_id for one in kept[: len(seen)]]
