"""Streams with a real reader on a real socket."""

from __future__ import annotations

import uuid

import pytest
import trio
import trio.testing

from tests.patience import FOR_EVER_S, PATIENCE_S, until
from tests.web.realtime.site_kit import Site, opened
from web.realtime import ServerEvent, SseParser, StreamCaps, StreamKey, encode_event
from web.server import Frame, TransportSettings

SESSION = uuid.UUID(int=7)


class Reader:
    """A client that reads one stream: chunks undone by hand, events by the parser."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.head = b""
        self.parser = SseParser()
        self.events: list[ServerEvent] = []
        self.is_over = False
        self._raw = b""

    async def wait_head(self) -> int:
        while b"\r\n\r\n" not in self._raw:
            data = await self.stream.receive_some()
            assert data, "the server closed before its head was out"
            self._raw += data
        self.head, _, self._raw = self._raw.partition(b"\r\n\r\n")
        return int(self.head.split(b" ", 2)[1])

    async def wait_events(self, count: int) -> list[ServerEvent]:
        with trio.fail_after(PATIENCE_S):
            while len(self.events) < count and not self.is_over:
                self._unchunk()
                if len(self.events) >= count or self.is_over:
                    break
                data = await self.stream.receive_some()
                if not data:
                    self.is_over = True
                self._raw += data
        if count == 1:
            # The first events come before the stream takes the lane; let it.
            await trio.testing.wait_all_tasks_blocked()
        return self.events[:count]

    def _unchunk(self) -> None:
        while b"\r\n" in self._raw:
            size, _, rest = self._raw.partition(b"\r\n")
            wanted = int(size, 16)
            if len(rest) < wanted + 2:
                return
            assert rest[wanted : wanted + 2] == b"\r\n", "a torn chunk"
            self._raw = rest[wanted + 2 :]
            if wanted == 0:
                self.is_over = True
                return
            self.events += self.parser.feed(rest[:wanted])


async def connect(site: Site, tab: str = "a", session: uuid.UUID = SESSION) -> Reader:
    stream = await trio.open_tcp_stream("127.0.0.1", site.server.port)
    site.clients.append(stream)
    await stream.send_all(
        f"GET /events?session={session}&tab={tab} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{site.server.port}\r\n\r\n".encode()
    )
    return Reader(stream)


async def settled(site: Site, open_streams: int) -> None:
    await until(lambda: len(site.streams) == open_streams)


async def test_a_stream_opens_with_its_state_and_hears_the_room() -> None:
    # SITE-91, SITE-92, SEC-52, REL-60
    async with opened() as site:
        reader = await connect(site)
        assert await reader.wait_head() == 200
        head = reader.head.lower()
        assert b"content-type: text/event-stream; charset=utf-8" in head
        assert b"cache-control: no-cache, no-transform, no-store" in head
        assert b"x-accel-buffering: no" in head
        (first,) = await reader.wait_events(1)
        assert first == ServerEvent("datastar-patch-signals", 'signals {"sseConnected":true}', "")
        assert reader.parser.retry_ms == 2000
        for n in range(200):
            site.room.say(f"message {n}")
        events = await reader.wait_events(201)
        assert [event.data for event in events[1:]] == [f"message {n}" for n in range(200)]


async def test_one_encoding_serves_every_reader_of_a_kind() -> None:
    # ACT-145
    async with opened() as site:
        readers = [await connect(site, tab=f"t{n}") for n in range(10)]
        for reader in readers:
            await reader.wait_head()
            await reader.wait_events(1)
        site.room.say("once")
        for reader in readers:
            assert (await reader.wait_events(2))[1].data == "once"
            await reader.stream.aclose()
        assert site.encoding.encoded == 1


async def test_a_disconnect_frees_everything() -> None:
    # SITE-94, REL-30, REL-33, WEB-47
    async with opened() as site:
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(5):
            readers = [await connect(site, tab=f"t{n}") for n in range(10)]
            for reader in readers:
                await reader.wait_events(1) if await reader.wait_head() == 200 else None
            await settled(site, 10)
            for reader in readers:
                await reader.stream.aclose()
            await settled(site, 0)
        await until(lambda: not site.server.connections)
        await trio.testing.wait_all_tasks_blocked()
        assert site.hub.topic_count == 0
        assert site.streams.counts().sessions == site.streams.counts().addresses == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_a_client_that_leaves_behind_what_nobody_read_frees_its_stream() -> None:
    # REL-30: past a head of what comes early nobody reads on
    async with opened() as site:
        reader = await connect(site)
        await reader.wait_head()
        await reader.wait_events(1)
        await reader.stream.send_all(b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\n" + b"a: b\r\n" * 9000)
        site.room.say("it goes on")
        assert (await reader.wait_events(2))[1].data == "it goes on"
        await reader.stream.aclose()
        await settled(site, 0)


async def test_a_new_stream_on_a_key_replaces_the_old() -> None:
    # SITE-90, SITE-93: and never hits a cap
    async with opened(stream_caps=StreamCaps(per_session=1)) as site:
        old = await connect(site)
        await old.wait_head()
        await old.wait_events(1)
        new = await connect(site)
        assert await new.wait_head() == 200
        await new.wait_events(1)
        await old.wait_events(99)
        assert old.is_over
        assert site.streams.counts().replaced == 1
        assert len(site.streams) == 1
        site.room.say("to the new one")
        assert (await new.wait_events(2))[1].data == "to the new one"


async def test_caps_are_told_and_freed() -> None:
    # SEC-48, SITE-93
    async with opened(stream_caps=StreamCaps(per_session=1)) as site:
        first = await connect(site, tab="a")
        await first.wait_head()
        second = await connect(site, tab="b")
        assert await second.wait_head() == 429
        assert b"retry-after: 10" in second.head
        await first.stream.aclose()
        await settled(site, 0)
        third = await connect(site, tab="b")
        assert await third.wait_head() == 200


async def test_sending_tells_missing_from_delivered() -> None:
    # SITE-90
    async with opened() as site:
        here, gone = StreamKey(SESSION, "a"), StreamKey(SESSION, "b")
        reader = await connect(site)
        await reader.wait_head()
        await reader.wait_events(1)
        frame = Frame(encode_event("state"))
        delivery = site.streams.send_to_each([here, gone], "panel", frame)
        assert (delivery.delivered, delivery.missing, delivery.failed) == (1, (gone,), ())
        assert site.streams.send_to(gone, "panel", frame).delivered == 0
        assert site.streams.send_to_session(SESSION, "panel", frame).delivered == 1
        assert site.streams.send_to_all("panel", frame).delivered == 1
        assert [event.data for event in (await reader.wait_events(4))[1:]] == ["state"] * 3


async def test_a_drain_tells_streams_and_ends_them() -> None:
    # SITE-185, REL-20
    async with opened() as site:
        reader = await connect(site)
        await reader.wait_head()
        await reader.wait_events(1)
        result = await site.server.drain(site.steps)
        events = await reader.wait_events(99)
        assert events[-1].data == 'signals {"serverConnected":false}'
        assert reader.parser.retry_ms is not None
        assert 1000 <= reader.parser.retry_ms <= 5000
        assert reader.is_over
        assert result.is_clean


@pytest.mark.slow
async def test_a_stalled_reader_is_cut_and_delays_nobody() -> None:
    # SITE-96, REL-11, REL-13, SEC-50
    async with opened(TransportSettings(write_stall_s=0.5)) as site:
        stalled = await connect(site, tab="stalled")
        await stalled.wait_head()
        others = [await connect(site, tab=f"t{n}") for n in range(5)]
        for reader in others:
            await reader.wait_head()
            await reader.wait_events(1)
        body = "x" * 20_000
        for n in range(400):
            site.room.say(body)
            for reader in others:
                assert len(await reader.wait_events(2 + n)) == 2 + n
        await settled(site, 5)
        assert site.server.statistics().stalled == 1


@pytest.mark.slow
async def test_a_stalled_reader_does_not_delay_the_drain() -> None:
    # REL-21, SITE-96
    # Only a drain's own patience is short here.
    async with opened(TransportSettings(write_stall_s=FOR_EVER_S, frame_s=FOR_EVER_S)) as site:
        stalled = await connect(site, tab="stalled")
        await stalled.wait_head()
        (connection,) = site.server.connections
        with trio.fail_after(PATIENCE_S):
            while not connection.pipe.pending_bytes:  # until the kernel takes no more
                site.room.say("x" * 20_000)
                await trio.testing.wait_all_tasks_blocked()
            await site.server.drain(site.steps)
        assert not site.server.connections


@pytest.mark.slow
async def test_overflowing_chat_becomes_one_window() -> None:
    # SITE-95: a slow reader gets one window instead of a gap
    async with opened() as site:
        slow = await connect(site, tab="slow")
        await slow.wait_head()
        await slow.wait_events(1)
        for _ in range(600):
            site.room.say("x" * 20_000)
        await trio.testing.wait_all_tasks_blocked()
        (stream,) = site.windows
        stream.put_window(Frame(encode_event("window")), site.room.n)
        site.room.say("after")
        seen: list[str] = []
        with trio.fail_after(PATIENCE_S):
            while not seen or seen[-1] != "after":
                await slow.wait_events(len(slow.events) + 1)
                seen = [event.data for event in slow.events]
        assert seen.count("window") == 1
        assert seen[-2:] == ["window", "after"]
        assert site.streams.counts().resyncs == 1


async def test_readers_that_stall_cost_their_own_backlog_and_nobody_a_message() -> None:
    # REL-13, REL-70, SITE-96: ten that never read, beside three that do
    async with opened(stream_caps=StreamCaps(per_session=30)) as site:
        stalled = [await connect(site, tab=f"s{n}") for n in range(10)]
        readers = [await connect(site, tab=f"t{n}") for n in range(3)]
        for reader in (*stalled, *readers):
            await reader.wait_head()
            await reader.wait_events(1)
        # More than the kernel takes for who does not read: about 6 MB on Linux.
        text, count = "x" * 100_000, 100
        for n in range(count):
            site.room.say(f"{n} {text}")
            for reader in readers:
                last = (await reader.wait_events(n + 2))[n + 1]
                assert last.data.startswith(f"{n} ")
                reader.events[n + 1] = ServerEvent("", f"{n}", "")
        waiting = [found.statistics() for found in site.streams.all()]
        behind = [found.backlog for found in waiting if found.key.tab.startswith("s")]
        assert all(found.resyncs for found in behind), "all of them fell behind"
        assert all(found.chat_events <= 64 for found in behind)
        assert all(found.bytes <= 256 * 1024 for found in behind)
        # Of what the pipe took, one write of each stalled reader waits at most.
        pending = [connection.pipe.pending_bytes for connection in site.server.connections]
        assert max(pending) <= len(text) + 1000
