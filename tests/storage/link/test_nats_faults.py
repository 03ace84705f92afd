"""What callers see when the real server is killed, stands still, leaves, or takes something back.

Above the link two nodes keep their numbers (`Pair`): what was lost is what they count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from actors.cluster.link import NoLink
from storage.link.nats import NatsLink
from storage.link.nats_words import LinkFault, NatsSettings
from storage.testing.servers.toxic_proxy import ToxicProxy
from tests.logged import silenced
from tests.nats_server import NatsServer, ServerFile, User, are_routed, missing, three
from tests.patience import PATIENCE_S, until
from tests.storage.link.nodes import (
    N_B,
    PREFIX,
    Heard,
    fast,
    opened,
    password_file,
    settings,
    settled,
    when,
)
from tests.storage.link.pair import Pair

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@asynccontextmanager
async def talking(
    of_a: NatsSettings, of_b: NatsSettings
) -> AsyncIterator[tuple[Pair, NatsLink, NatsLink]]:
    """Node A tells node B something every millisecond or so, until the block is left."""
    async with opened(of_a, of_b) as (a, b):
        pair = Pair(a)
        await b.subscribe(pair.subject, pair.hear)
        is_over = False
        async with trio.open_nursery() as nursery:

            async def talk() -> None:
                n = 0
                while not is_over:
                    n += 1
                    await pair.tell([b"%d.%d" % (n, one) for one in range(3)])
                    await trio.sleep(0.001)
                    pair.acknowledge()
                    await pair.ask()

            with silenced():
                nursery.start_soon(talk)
                await until(lambda: len(pair.handled) > 30)
                yield pair, a, b
                before = len(pair.handled)
                await until(lambda: len(pair.handled) > before + 30)
                # Not cancelled: a frame that has its number is sent.
                is_over = True
        # What is under way is asked for once; then its answer is waited for.
        pair.ahead_s += 3.0
        await pair.ask()
        await settled(a, b)
        pair.ahead_s += 1.0
        pair.acknowledge()


def check(pair: Pair) -> int:
    """Nothing came twice or out of order, and what was lost is counted; gives how much."""
    handled = set(pair.handled)
    assert len(pair.handled) == len(handled)
    assert pair.handled == [one for one in pair.sent if one in handled]
    assert pair.sending.envelopes_under_way == 0
    lost = len(pair.sent) - len(pair.handled)
    assert pair.sending.lost_count == lost
    return lost


async def test_killed_and_started_again(server: NatsServer) -> None:
    # CLU-46
    async with talking(settings(server), settings(server)) as (pair, a, b):
        server.kill()
        await when(a, is_up=False)
        server.start()
        await when(a, is_up=True, beyond=2)
        await when(b, is_up=True, beyond=2)
    assert check(pair) > 0


async def test_stopped_and_noticed(server: NatsServer) -> None:
    # CLU-46
    async with talking(fast(server), fast(server)) as (pair, a, b):
        server.hang()
        await when(a, is_up=False)
        await when(b, is_up=False)
        server.go_on()
        await when(a, is_up=True, beyond=2)
        await when(b, is_up=True, beyond=2)
    check(pair)


async def test_stopped_for_a_moment_costs_nothing(server: NatsServer) -> None:
    # CLU-46: for less than a line is given up, which on a busy machine is soon over
    of = settings(server, ping_interval_s=PATIENCE_S)
    async with talking(of, of) as (pair, a, b):
        server.hang()
        await until(lambda: pair.sending.envelopes_under_way > 60)
        server.go_on()
    assert check(pair) == 0
    assert (a.status().connects, b.status().connects) == (1, 1)


@pytest.mark.parametrize("whose", ["caller", "receiver"])
async def test_one_of_three_servers_is_killed(whose: str, tmp_path: Path) -> None:
    # CLU-46
    servers = three(tmp_path)
    try:
        for one in servers:
            one.start()
        await until(lambda: are_routed(servers))
        first, second, _ = servers
        url_a, url_b = (settings([one, *servers]) for one in (first, second))
        async with talking(_beginning_at(first, url_a), _beginning_at(second, url_b)) as (
            pair,
            a,
            b,
        ):
            link = a if whose == "caller" else b
            place = link.status().server
            left = next(one for one in servers if place.endswith(f":{one.port}"))
            left.kill()
            await until(lambda: link.status().is_up and link.status().server != place)
            other = b if whose == "caller" else a
            await when(other, is_up=True)
        check(pair)
    finally:
        for one in servers:
            one.kill()


def _beginning_at(server: NatsServer, of: NatsSettings) -> NatsSettings:
    """The order is drawn; a server named more often is begun with more often."""
    return replace(of, servers=tuple(dict.fromkeys((server.url, *of.servers))))


async def test_a_server_that_leaves_is_left_before_it_is_gone(tmp_path: Path) -> None:
    # CLU-46
    # CLU-56
    servers = three(tmp_path)
    try:
        for one in servers:
            one.start()
        await until(lambda: are_routed(servers))
        async with talking(settings(servers), settings(servers)) as (pair, a, _):
            place = a.status().server
            left = next(one for one in servers if place.endswith(f":{one.port}"))
            left.lame_duck()
            await until(lambda: a.status().is_up and a.status().server != place)
            assert left.process is not None
            assert left.process.poll() is None
        check(pair)
    finally:
        for one in servers:
            one.kill()


async def test_a_lonely_server_that_leaves_is_heard_to_its_end(server: NatsServer) -> None:
    # CLU-46
    async with talking(settings(server), settings(server)) as (pair, a, b):
        server.lame_duck()
        await until(lambda: b"lame duck mode" in server.log())
        before = len(pair.handled)
        await until(lambda: len(pair.handled) > before + 30)
        server.kill()
        await when(a, is_up=False)
        server.start()
        await when(b, is_up=True, beyond=2)
        await when(a, is_up=True, beyond=2)
    check(pair)


async def test_a_password_that_was_changed_is_read_when_it_is_there(server: NatsServer) -> None:
    # CLU-46
    async with talking(settings(server), settings(server)) as (pair, a, b):
        server.reload(ServerFile(users=[User(password="another")]))
        await when(a, is_up=False)
        with pytest.raises(NoLink):
            await a.publish(N_B, b"")
        await until(lambda: a.statistics().faults.get(LinkFault.CREDENTIALS, 0) >= 2)
        password_file(server.folder, "another")
        await when(a, is_up=True, beyond=2)
        await when(b, is_up=True, beyond=2)
    check(pair)


async def test_a_permission_that_was_removed_takes_the_link_until_it_is_back(
    server: NatsServer,
) -> None:
    # CLU-46
    heard = Heard()
    async with opened(settings(server), settings(server)) as (a, b):
        await b.subscribe(N_B, heard)
        with silenced():
            server.reload(ServerFile(users=[User(subscribe=[f"{PREFIX}.all"])]))
            await until(lambda: b.statistics().faults.get(LinkFault.PERMISSION, 0) >= 1)
            await when(b, is_up=False)
            server.reload(ServerFile())
            await when(b, is_up=True, beyond=2)
            await when(a, is_up=True)
        await a.publish(N_B, b"1")
        await settled(a, b)
    assert heard.data == [b"1"]


async def test_a_line_that_turns_bad_is_a_link_that_is_down(server: NatsServer) -> None:
    # CLU-46
    heard = Heard()
    proxy = ToxicProxy(partial(trio.open_tcp_stream, "127.0.0.1", server.port))
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        of = replace(fast(server), servers=(f"nats://127.0.0.1:{proxy.port}",))
        async with opened(settings(server), of) as (a, b):
            await b.subscribe(N_B, heard)
            with silenced():
                for spoil, mend in _bad_lines(proxy):
                    before = b.status().connects
                    spoil()
                    await when(b, is_up=False)
                    mend()
                    await when(b, is_up=True, beyond=before + 1)
                    await a.publish(N_B, b"%d" % before)
                    await settled(a, b)
            # Bytes that come one by one are bytes.
            proxy.down.slice_bytes = proxy.up.slice_bytes = 1
            await a.publish(N_B, b"slow")
            await settled(a, b)
        nursery.cancel_scope.cancel()
    assert heard.data[-1] == b"slow"
    assert len(heard.data) == len(set(heard.data)) == 5


def _bad_lines(proxy: ToxicProxy) -> Sequence[tuple[Callable[[], object], Callable[[], object]]]:
    return [
        (proxy.cut_apart, proxy.mend),
        (lambda: proxy.up.silence(True), proxy.mend),
        (lambda: proxy.down.silence(True), proxy.mend),
        (proxy.reset_all, lambda: None),
    ]


async def test_a_server_that_hangs_up_again_and_again_uses_up_no_supervisor(
    tmp_path: Path,
) -> None:
    # CLU-23
    served = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal served
        async with stream:
            await stream.send_all(
                b'INFO {"version":"2.15.1","headers":true,"max_payload":1048576}\r\n'
            )
            flushes = 0
            while part := await stream.receive_some():
                for _ in range(part.count(b"PING\r\n")):
                    flushes += 1
                    await stream.send_all(b"PONG\r\n")
                # Greeted, probed and settled: it is up.
                if flushes >= 5:
                    served += 1
                    await trio.sleep(0.05)
                    await stream.send_all(b"-ERR 'Slow Consumer'\r\n")
                    return

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        url = f"nats://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        began = trio.current_time()
        with silenced(), trio.fail_after(PATIENCE_S):
            async with opened(NatsSettings((url,))) as (a,):
                await until(lambda: a.loops_started >= 4)
        # After the first crash it connects at once; after the next within 10 s it waits a second.
        assert trio.current_time() - began >= 1.0
        assert served >= 2
        nursery.cancel_scope.cancel()
