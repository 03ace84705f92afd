"""A TCP proxy on loopback that turns bad while it runs: what a network does to a server's clients.

It stands before whatever `reach` connects to: a database, a broker, a mail server, the program
itself. Each direction is bad in its own way (`up` from client to server, `down` back), and can be
changed at any moment; what is drawn at random comes from the seed.

    async with trio.open_nursery() as nursery:
        proxy = await nursery.start(ToxicProxy(reach).serve)
        proxy.down.latency_s, proxy.down.jitter_s = 0.2, 0.1
        proxy.cut_apart()      # both directions silent, as a partition: nothing ends
        proxy.mend()           # and what was on its way arrives
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import trio

# What is taken from a socket at once.
_CHUNK = 64 * 1024

Reach = Callable[[], Awaitable[trio.SocketStream]]


@dataclass
class Toxic:
    """How bad one direction is; all zero is a good line."""

    # A piece is late by so much, give or take the jitter; the order stays.
    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    # No piece is larger: a frame comes in many.
    slice_bytes: int | None = None
    # Of each connection so much passes; then it is closed.
    limit_bytes: int | None = None
    # The end of a stream is told so much later.
    slow_close_s: float = 0.0
    # Nothing passes, and nothing ends: what comes waits for better times.
    is_silent: bool = False
    _changed: trio.Event = field(default_factory=trio.Event, repr=False)

    def silence(self, is_silent: bool) -> None:
        """Call this to let nothing pass from now on, or to let pass what waits."""
        self.is_silent = is_silent
        self._changed.set()
        self._changed = trio.Event()

    async def heard(self) -> None:
        """Call this to wait until the direction is not silent."""
        while self.is_silent:
            await self._changed.wait()

    async def delay(self, size: int, random: Random) -> None:
        """Call this before so many bytes are passed on."""
        wait_s = max(0.0, self.latency_s + self.jitter_s * random.uniform(-1, 1))
        if self.bytes_per_s is not None:
            wait_s += size / self.bytes_per_s
        if wait_s:
            await trio.sleep(wait_s)


class ToxicProxy:
    """Passes bytes between clients of `port` and what `reach` opens, as badly as it is told.

    `connects` counts the connections that were accepted, refused ones too.
    """

    def __init__(self, reach: Reach, *, seed: int = 0, port: int = 0) -> None:
        self._reach, self._random = reach, Random(seed)
        self.up, self.down = Toxic(), Toxic()
        # Who connects is reset at once, as when nothing listens.
        self.is_refusing = False
        self.connects = 0
        # 0 takes any; a server that tells its clients where it is must know before.
        self.port = port
        self._open: set[_Pair] = set()

    async def serve(
        self, *, task_status: trio.TaskStatus[ToxicProxy] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Call this in a nursery; started when it listens, ends all connections when cancelled."""
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started(self)
        await trio.serve_listeners(self._accepted, listeners)

    def cut_apart(self) -> None:
        """Call this to let nothing pass in either direction, on open and on new connections."""
        for toxic in (self.up, self.down):
            toxic.silence(True)

    def mend(self) -> None:
        """Call this to let everything pass again, also what waits since."""
        for toxic in (self.up, self.down):
            toxic.silence(False)

    def reset_all(self) -> int:
        """Call this to end every open connection by a reset; returns how many there were."""
        pairs = tuple(self._open)
        for pair in pairs:
            pair.reset()
        return len(pairs)

    @property
    def open_count(self) -> int:
        """Call this for how many connections are open."""
        return len(self._open)

    async def _accepted(self, client: trio.SocketStream) -> None:
        self.connects += 1
        try:
            if self.is_refusing:
                _reset(client)
                return
            try:
                server = await self._reach()
            except OSError:
                _reset(client)
                return
            pair = _Pair(client, server)
            self._open.add(pair)
            try:
                async with server, trio.open_nursery() as pair.nursery:
                    pair.nursery.start_soon(self._pump, client, server, self.up)
                    pair.nursery.start_soon(self._pump, server, client, self.down)
            finally:
                self._open.discard(pair)
        finally:
            client.socket.close()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, toxic: Toxic) -> None:
        passed = 0
        try:
            while data := await source.receive_some(_CHUNK):
                size = toxic.slice_bytes or len(data)
                for at in range(0, len(data), size):
                    piece = data[at : at + size]
                    if toxic.limit_bytes is not None:
                        piece = piece[: max(0, toxic.limit_bytes - passed)]
                    await toxic.delay(len(piece), self._random)
                    await toxic.heard()
                    await sink.send_all(piece)
                    passed += len(piece)
                    if toxic.limit_bytes is not None and passed >= toxic.limit_bytes:
                        await sink.send_eof()
                        await source.aclose()
                        return
            await trio.sleep(toxic.slow_close_s)
            await toxic.heard()
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The other side is told in the same way.
            _reset(sink)


class _Pair:
    """A client's connection and the one that was opened for it."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.client, self.server = client, server
        self.nursery: trio.Nursery

    def reset(self) -> None:
        for stream in (self.client, self.server):
            _reset(stream)
        self.nursery.cancel_scope.cancel()


def _reset(stream: trio.SocketStream) -> None:
    """Close without a goodbye: the peer reads an error, not an end."""
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, trio.ClosedResourceError):
        return  # closed already
    stream.socket.close()
