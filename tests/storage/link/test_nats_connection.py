"""The connection of the link over NATS: what each of its settings and repairs is there for."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
import trio

from actors.cluster.link import NoLink
from actors.runtime import open_actors
from storage.link import nats_session
from storage.link.nats import NatsLink, NatsLinkActor
from storage.link.nats_words import OUTGOING_BYTES_MAX, LinkFault, LinkLost
from tests.logged import captured, silenced
from tests.nats_server import NatsServer, ServerFile, User
from tests.patience import PATIENCE_S
from tests.storage.link.nodes import (
    N_B,
    PREFIX,
    Heard,
    Stranger,
    fast,
    opened,
    settings,
    settled,
    until,
    when,
)

MEGABYTE = 1024 * 1024


async def _publish_until_refused(link: NatsLink) -> None:
    while True:
        await link.publish(N_B, bytes(MEGABYTE // 2))


async def test_what_is_handed_over_too_late_is_dropped_and_not_kept_for_later(
    server: NatsServer,
) -> None:
    # CLU-23
    heard = Heard()
    async with opened(settings(server), settings(server)) as (a, b):
        await b.subscribe(N_B, heard)
        server.kill()
        await when(a, is_up=False)
        await when(b, is_up=False)
        # As if it had left trio a moment before the loop knew that the link is down.
        thread, session = a._thread, a._session
        assert thread is not None
        assert session is not None
        thread.post_to_loop(partial(session.put, N_B, b"late", "", 10))
        await until(lambda: a.statistics().dropped_count == 1)
        server.start()
        await when(a, is_up=True)
        await when(b, is_up=True)
        await a.publish(N_B, b"next")
        await settled(a, b)
    assert heard.data == [b"next"]


async def test_what_a_server_that_stands_still_did_not_take_is_not_sent_to_the_next(
    server: NatsServer,
) -> None:
    # CLU-23
    # CLU-46
    heard = Heard()
    async with opened(fast(server), settings(server)) as (a, b):
        await b.subscribe(N_B, heard)
        server.hang()
        # More than the buffers of the kernel and the socket: some of it waits in the client.
        with trio.fail_after(PATIENCE_S), pytest.raises(NoLink):
            await _publish_until_refused(a)
        assert a.statistics().outgoing_bytes <= OUTGOING_BYTES_MAX
        server.kill()
        server.start()
        await when(a, is_up=True, beyond=2)
        await when(b, is_up=True, beyond=2)
        await a.publish(N_B, b"next")
        await settled(a, b)
    assert heard.data == [b"next"]


async def test_a_server_that_stands_still_is_noticed_and_found_again(server: NatsServer) -> None:
    # CLU-23
    # CLU-46
    async with opened(fast(server)) as (a,):
        server.hang()
        await when(a, is_up=False)
        with pytest.raises(NoLink):
            await a.publish(N_B, b"x")
        server.go_on()
        await when(a, is_up=True, beyond=2)
        assert a.statistics().faults[LinkFault.CONNECT] >= 1


async def test_nobody_waits_for_the_socket_of_a_server_that_stands_still(
    server: NatsServer, tmp_path: Path
) -> None:
    # CLU-23
    # CLU-46
    with NatsServer(tmp_path / "other") as other:
        async with opened(fast([server, other])) as (a,):
            left = server if str(server.port) in a.status().server else other
            left.hang()
            with trio.fail_after(PATIENCE_S), pytest.raises(NoLink):
                await _publish_until_refused(a)
            await when(a, is_up=True, beyond=2)
            assert str(left.port) not in a.status().server


async def test_a_server_is_waited_for_beyond_any_number_of_attempts(server: NatsServer) -> None:
    # CLU-23
    async with opened(settings(server)) as (a,):
        server.kill()
        await until(lambda: a.statistics().faults.get(LinkFault.CONNECT, 0) >= 4)
        server.start()
        await when(a, is_up=True, beyond=2)
        assert a.loops_started == 1


async def test_the_library_asks_nowhere_else_for_answers(server: NatsServer) -> None:
    # CLU-23
    async with opened(settings(server)) as (a,):
        assert a._session is not None
        client = a._session._client
        assert client is not None
        assert client.new_inbox().startswith(f"{PREFIX}.inbox.")


async def test_what_trio_does_not_take_is_dropped_and_counted(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLU-23
    monkeypatch.setattr(nats_session, "INCOMING_BYTES_MAX", 3 * MEGABYTE // 2)
    heard = Heard()
    of = settings(server)
    async with opened(of, of, of, of, of) as (b, *senders):
        await b.subscribe(N_B, heard)
        for sender in senders:
            for _ in range(3):
                await sender.publish(N_B, bytes(MEGABYTE))
        # This thread is trio's: nothing is taken while it sleeps.
        ends_at = time.monotonic() + PATIENCE_S
        with silenced():
            while b.statistics().slow_count == 0 and time.monotonic() < ends_at:
                time.sleep(0.005)  # noqa: ASYNC251
        for sender in senders:
            await settled(sender, b)
        slow = b.statistics().slow_count
        assert slow > 0
        # With its documented file the server too drops what a slow hearer has no room for.
        assert 1 <= len(heard.data) <= 12 - slow
        assert b.statistics().incoming_bytes == 0
        assert b.status().connects == 1


async def test_a_hearer_that_raises_ends_nothing(server: NatsServer) -> None:
    # CLU-23
    heard = Heard()

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    with captured() as lines:
        async with opened(settings(server), settings(server)) as (a, b):
            await b.subscribe(N_B, fail)
            await b.subscribe(N_B, heard)
            b.watch(fail)
            await a.publish(N_B, b"1")
            await a.publish(N_B, b"2")
            await settled(a, b)
            assert b.status().connects == 1
    assert heard.data == [b"1", b"2"]
    assert [one["event"] for one in lines].count("link.hearer_failed") == 2


async def test_a_call_that_is_cancelled_costs_no_connection(server: NatsServer) -> None:
    # CLU-23
    heard, cancelled = Heard(), Heard()
    of = settings(server, ping_interval_s=PATIENCE_S)
    async with opened(of, of) as (a, b):
        await b.subscribe(N_B, heard)
        assert b._session is not None
        client = b._session._client
        assert client is not None
        # The server answers only when nobody waits for its answer any more.
        server.hang()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.subscribe, N_B, cancelled)
            await until(lambda: len(client._pongs) > 0)
            nursery.cancel_scope.cancel()
        server.go_on()
        with trio.CancelScope() as scope:
            scope.cancel()
            await a.publish(N_B, b"cancelled")
        await a.publish(N_B, b"1")
        await settled(a, b)
        assert (a.status().connects, b.status().connects) == (1, 1)
        assert repr(b).endswith("1 subscriptions>")
    assert heard.data == [b"1"]
    assert cancelled.data == []


async def test_who_publishes_more_than_is_taken_waits_and_may_be_cancelled(
    server: NatsServer,
) -> None:
    # CLU-23
    server.kill()
    # It must not drop what the hearer, on a busy machine, has not read yet.
    server.file = ServerFile(max_pending="64MB")
    server.start()
    heard = Heard()
    of = settings(server, ping_interval_s=PATIENCE_S)
    async with opened(of, of) as (a, b):
        await b.subscribe(N_B, heard)
        server.hang()
        sent = 0

        async def publish() -> None:
            nonlocal sent
            while True:
                await a.publish(N_B, sent.to_bytes(MEGABYTE // 2))
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            # It waits at the bound; so many bytes are handed over, and the next are not.
            await until(lambda: len(a._room) == 1)
            handed_over = sent
            nursery.cancel_scope.cancel()
        assert a.statistics().outgoing_bytes <= OUTGOING_BYTES_MAX
        server.go_on()
        await a.publish(N_B, b"next")
        await settled(a, b)
        assert a.status().connects == 1
    assert [int.from_bytes(one) for one in heard.data[:-1]] == list(range(handed_over))
    assert heard.data[-1] == b"next"


async def test_a_loop_that_hangs_is_replaced_and_everything_is_heard_again(
    server: NatsServer,
) -> None:
    # CLU-23
    heard, told = Heard(), list[bool]()
    link = NatsLink(settings(server), silence_s_max=0.3)

    async def keep_serving() -> None:
        while True:
            with pytest.raises(LinkLost):
                await link.serve()

    async with opened(settings(server)) as (a,), trio.open_nursery() as nursery:
        nursery.start_soon(keep_serving)
        await link.wait_up(PATIENCE_S)
        # The next loop hangs by nothing but a busy machine.
        link._silence_s_max = PATIENCE_S
        link.watch(lambda status: told.append(status.is_up))
        await link.subscribe(N_B, heard)
        assert link._thread is not None
        hangs = trio.Event()
        link._thread.post_to_loop(lambda: time.sleep(1.0))
        await until(lambda: link.loops_started >= 2)
        await when(link, is_up=True, beyond=2)
        await a.publish(N_B, b"1")
        await settled(a, link)
        nursery.cancel_scope.cancel()
        hangs.set()
    assert heard.data == [b"1"]
    assert told[:2] == [False, True]


async def test_an_actor_serves_it_and_its_end_says_goodbye(server: NatsServer) -> None:
    # CLU-23
    link, heard = NatsLink(settings(server)), Heard()
    async with opened(settings(server)) as (a,):
        await a.subscribe(N_B, heard)
        async with open_actors() as system:
            ref = await system.start(NatsLinkActor, link)
            await link.wait_up(PATIENCE_S)
            for n in range(100):
                await link.publish(N_B, b"%d" % n)
            await ref.stop()
        assert not link.status().is_up
        with trio.fail_after(PATIENCE_S):
            await heard.wait_for(100)
        with pytest.raises(NoLink):
            await link.publish(N_B, b"")
    assert heard.data == [b"%d" % n for n in range(100)]


async def test_nothing_that_a_stranger_sends_ends_the_reader(server: NatsServer) -> None:
    # CLU-24
    heard = Heard()
    async with opened(settings(server), settings(server)) as (a, b):
        await b.subscribe(f"{PREFIX}.s.b.>", heard)
        stranger = Stranger(server)
        at = f"{PREFIX}.s.b.".encode()
        stranger.say(b"PUB " + at + b"\xff\xfe 1\r\nx\r\n")
        stranger.say(b"PUB " + at + b"x \xff\xfe 1\r\nx\r\n")
        for head in (b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\n\xff: \xfe\r\n\r\n", b"NATS/1.0 x\r\n"):
            size = len(head)
            stranger.say(b"HPUB " + at + b"h %d %d\r\n" % (size, size) + head + b"\r\n")
            stranger.say(b"HPUB " + at + b"h %d %d\r\n" % (size, size + 1) + head + b"y\r\n")
        stranger.settle()
        stranger.close()
        await a.publish(f"{PREFIX}.s.b.x", b"1")
        await settled(a, b)
        assert b.status().connects == 1
        assert b.statistics().faults[LinkFault.PROTOCOL] == 2
    assert heard.data == [b"", b"y", b"", b"y", b"", b"y", b"1"]
    assert [one.is_nobody for one in heard.deliveries] == [True, *[False] * 6]


async def test_another_account_of_the_server_hears_and_says_nothing(tmp_path: Path) -> None:
    # CLU-55
    all_ = (">",)
    other = User("stranger", "a-password-of-strangers", publish=all_, subscribe=all_)
    file = ServerFile(strangers=[other])
    with NatsServer(tmp_path / "server", file) as server:
        heard = Heard()
        async with opened(settings(server), settings(server)) as (a, b):
            await b.subscribe(f"{PREFIX}.>", heard)
            stranger = Stranger(server, "stranger", "a-password-of-strangers")
            stranger.say(b"SUB > 1\r\n")
            stranger.say(b"PUB %s 1\r\nx\r\n" % N_B.encode())
            stranger.settle()
            await a.publish(N_B, b"1")
            await settled(a, b)
            # What came for it would stand before the answer to its ping.
            stranger.say(b"PUB own 4\r\nmine\r\nPING\r\n")
            assert stranger.read_until(b"PONG\r\n") == b"MSG own 1 4\r\nmine\r\nPONG\r\n"
            stranger.close()
        assert [one.data for one in heard.deliveries if one.subject == N_B] == [b"1"]


async def test_three_links_of_a_program_end_whatever_their_servers_do(
    server: NatsServer, tmp_path: Path
) -> None:
    # CLU-23
    with NatsServer(tmp_path / "other") as other:
        async with opened(fast(server), fast(other), fast(other)) as links:
            server.kill()
            other.hang()
            await until(lambda: not any(link.status().is_up for link in links))
