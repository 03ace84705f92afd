"""Compressed streams: every event readable at once, the same bytes for all, and a whole end."""

from __future__ import annotations

import zlib

import pytest
import trio

from tests.patience import PATIENCE_S, until
from tests.web.realtime.site_kit import Site, opened
from tests.web.realtime.test_sse_streams import SESSION
from web.realtime import ServerEvent, SseParser


class GzipReader:
    """A client of one compressed stream that looks at each byte as it comes."""

    def __init__(self, stream: trio.SocketStream, *, is_chunked: bool) -> None:
        self.stream, self._is_chunked = stream, is_chunked
        self.head, self.events = "", list[ServerEvent]()
        self.wire = b""
        self.inflate, self._parser = zlib.decompressobj(31), SseParser()
        self._raw = b""
        self.is_over = False

    async def wait(self, count: int) -> list[ServerEvent]:
        """Read until there are so many events, or the stream is over; then nothing more."""
        with trio.fail_after(PATIENCE_S):
            while len(self.events) < count and not self.is_over:
                data = await self.stream.receive_some()
                self.is_over = not data
                self._raw += data
                self._look()
        return self.events

    async def wait_end(self) -> None:
        await self.wait(10**9)

    def has_end(self) -> bool:
        """Tell whether the end came, and told the right sum: a wrong one raises."""
        return self.inflate.eof

    def _look(self) -> None:
        if not self.head:
            if b"\r\n\r\n" not in self._raw:
                return
            head, _, self._raw = self._raw.partition(b"\r\n\r\n")
            self.head = head.decode().lower()
        if not self._is_chunked:
            self._take(self._raw)
            self._raw = b""
        while self._is_chunked and b"\r\n" in self._raw:
            size, _, rest = self._raw.partition(b"\r\n")
            wanted = int(size, 16)
            if len(rest) < wanted + 2:
                return
            self._take(rest[:wanted])
            self._raw = rest[wanted + 2 :]
            self.is_over = self.is_over or not wanted

    def _take(self, piece: bytes) -> None:
        self.wire += piece
        self.events += self._parser.feed(self.inflate.decompress(piece))


async def connect(site: Site, tab: str, *, version: str = "1.1") -> GzipReader:
    stream = await trio.open_tcp_stream("127.0.0.1", site.server.port)
    site.clients.append(stream)
    await stream.send_all(
        f"GET /events?session={SESSION}&tab={tab} HTTP/{version}\r\n"
        f"Host: 127.0.0.1:{site.server.port}\r\nAccept-Encoding: gzip\r\n\r\n".encode()
    )
    reader = GzipReader(stream, is_chunked=version == "1.1")
    await reader.wait(1)
    await trio.testing.wait_all_tasks_blocked()
    return reader


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_each_event_is_readable_with_the_next_withheld(version: str) -> None:
    # REL-61, SITE-92
    async with opened() as site:
        reader = await connect(site, "a", version=version)
        assert "content-encoding: gzip" in reader.head
        assert "no-transform" in reader.head
        for n, body in enumerate(("short", "a longer word, " * 40, "last")):
            site.room.say(body)
            assert (await reader.wait(2 + n))[-1].data == body
        assert not reader.has_end()
        site.streams.all()[0].close("test")
        await reader.wait_end()
    assert reader.has_end(), "the sum at the end was right"
    assert reader.inflate.unused_data == b""


async def test_all_compressed_streams_get_the_same_bytes() -> None:
    # ACT-145, REL-61
    async with opened() as site:
        early = await connect(site, "early")
        site.room.say("heard by one" * 30)
        await early.wait(2)
        late = await connect(site, "late")
        before = len(early.wire), len(late.wire)
        site.room.say("heard by both" * 30)
        assert (await early.wait(3))[-1].data == (await late.wait(2))[-1].data
    assert early.wire[before[0] :] == late.wire[before[1] :]


async def test_what_waited_for_a_reader_counts_too() -> None:
    # REL-61, SITE-95
    async with opened() as site:
        reader = await connect(site, "a")
        stream = site.streams.all()[0]
        for n in range(60):
            site.room.say(f"{n}" + "x" * 4000)
        await until(lambda: stream.frames_sent > 0)
        events = await reader.wait(61)
        stream.close("test")
        await reader.wait_end()
    assert [event.data.rstrip("x") for event in events[1:]] == [str(n) for n in range(60)]
    assert reader.has_end()
