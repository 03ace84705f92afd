"""The writer of a socket: order, whole frames, deadlines. A real socket pair, no server."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from web.server import TransportSettings
from web.server.connection.pipe import STALLED, WritePipe


@dataclass
class Pair:
    pipe: WritePipe
    peer: trio.SocketStream
    nursery: trio.Nursery
    broken: list[str] = field(default_factory=list)

    async def read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            data += await self.peer.receive_some(min(65_536, count - len(data)))
        return bytes(data)


@asynccontextmanager
async def paired(settings: TransportSettings | None = None) -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    broken: list[str] = []
    async with trio.open_nursery() as nursery:

        def spawn(task: Callable[[], Awaitable[None]]) -> None:
            nursery.start_soon(task)

        pipe = WritePipe(
            ours.fileno(), settings or TransportSettings(), spawn=spawn, on_broken=broken.append
        )
        try:
            yield Pair(pipe, peer, nursery, broken)
        finally:
            pipe.close()
            nursery.cancel_scope.cancel()
            theirs.close()
            ours.close()


async def test_an_offer_is_written_at_once() -> None:
    # REL-44
    async with paired() as pair:
        assert pair.pipe.offer(b"hello")
        assert pair.pipe.is_idle
        assert await pair.read(5) == b"hello"


async def test_a_busy_pipe_takes_nothing_from_the_fast_lane_and_says_when_it_is_idle() -> None:
    # REL-44, SEC-50
    async with paired() as pair:
        told = trio.Event()
        pair.pipe.on_idle = told.set
        big = b"x" * 300_000
        assert pair.pipe.offer(big)
        assert not pair.pipe.offer(b"late")
        assert 0 < pair.pipe.pending_bytes < len(big)
        assert await pair.read(len(big)) == big
        await told.wait()
        assert pair.pipe.offer(b"again")
        assert await pair.read(5) == b"again"


async def test_numbered_frames_arrive_whole_and_in_order_from_both_lanes() -> None:
    # REL-44: the fast lane and the library's own writes alternate, the reader stalls at random
    rng = random.Random(44)
    async with paired() as pair:
        sent: list[bytes] = []

        async def library() -> None:
            for n in range(150):
                frame = b"<L%d:%s>" % (n, b"l" * rng.randrange(3000))
                # Recorded as it is taken: before anything else can be.
                sent.append(frame)
                await pair.pipe.write(frame)

        async def fast() -> None:
            n = 0
            while n < 150:
                frame = b"<F%d:%s>" % (n, b"f" * rng.randrange(3000))
                if pair.pipe.offer(frame):
                    sent.append(frame)
                    n += 1
                await trio.lowlevel.checkpoint()

        received = bytearray()

        async def read() -> None:
            while True:
                received.extend(await pair.peer.receive_some(rng.randrange(1, 5000)))
                for _ in range(rng.randrange(5)):
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async with trio.open_nursery() as writers:
                writers.start_soon(library)
                writers.start_soon(fast)
            await pair.pipe.wait_idle()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert bytes(received) == b"".join(sent)


async def test_a_cancelled_write_is_still_written_whole() -> None:
    # REL-10, REL-44
    async with paired() as pair:
        big = b"y" * 300_000
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.pipe.write(big)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.pipe.write, b"end")
            assert await pair.read(len(big) + 3) == big + b"end"


async def test_a_reader_that_takes_no_byte_is_cut_after_ten_seconds(
    autojump_clock: MockClock,
) -> None:
    # REL-11, SITE-96
    async with paired() as pair:
        pair.pipe.offer(b"x" * 300_000)
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await pair.pipe.write(b"never")
        assert trio.current_time() - began == pytest.approx(10, abs=0.01)
        assert pair.broken == [STALLED]
        assert not pair.pipe.offer(b"more")


async def test_a_drain_shortens_the_patience_to_a_second(autojump_clock: MockClock) -> None:
    # REL-11, REL-21
    async with paired() as pair:
        pair.pipe.offer(b"x" * 300_000)
        began = trio.current_time()
        await wait_all_tasks_blocked()
        pair.pipe.hurry()
        await pair.pipe.wait_idle()
        assert trio.current_time() - began == pytest.approx(1, abs=0.01)
        assert pair.broken == [STALLED]


async def test_a_reader_of_a_byte_now_and_then_is_cut_after_a_minute(
    autojump_clock: MockClock,
) -> None:
    # REL-11: progress, but one frame must not take for ever
    async with paired() as pair:
        pair.pipe.offer(b"x" * 2_000_000)
        began = trio.current_time()

        async def sip() -> None:
            while True:
                await trio.sleep(5)
                await pair.peer.receive_some(20_000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sip)
            await pair.pipe.wait_idle()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == pytest.approx(60, abs=0.01)
        assert pair.broken == [STALLED]


async def test_a_peer_that_left_breaks_the_pipe() -> None:
    # REL-30
    async with paired() as pair:
        pair.peer.socket.close()
        assert not pair.pipe.offer(b"x")
        assert len(pair.broken) == 1
        with pytest.raises(trio.BrokenResourceError):
            await pair.pipe.write(b"x")


async def test_several_may_wait_for_the_same_end() -> None:
    # REL-11: who closes a connection waits behind whoever writes to it
    async with paired() as pair:
        ended: list[str] = []

        async def write() -> None:
            await pair.pipe.write(b"x" * 300_000)
            ended.append("written")

        async def wait() -> None:
            await pair.pipe.wait_idle()
            ended.append("idle")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await wait_all_tasks_blocked()
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await pair.read(300_000)
        assert sorted(ended) == ["idle", "idle", "written"]
