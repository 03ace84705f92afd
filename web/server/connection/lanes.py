"""How a stream hands its bytes to a connection: the fast lane, and the pulled one.

A lane takes wire bytes now or refuses; it never queues. After a refusal it calls `on_ready` once
it can take more. `PipeLane` writes straight to the socket through the connection's `WritePipe`;
`PulledLane` serves connections the server may not write to itself (HTTP/2, test clients): the
response generator pulls from it. Queues and their policies: `web.realtime`.

Backpressure is this refusal: a lane that holds nothing cannot grow, so a slow reader fills the
bounded backlog of its own stream and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from web.server.connection.framing import Framing
from web.server.connection.pipe import WritePipe

# One system call's worth of what waited; more would only wait again, in the kernel.
COALESCE_BYTES = 64 * 1024


class Lane(Protocol):
    """What a stream may do with its connection; every method is synchronous."""

    @property
    def framing(self) -> Framing:
        """Tell how payloads must be wrapped before `write`."""

    @property
    def is_ready(self) -> bool:
        """Tell whether `write` would take something now."""

    def write(self, wire: bytes) -> bool:
        """Take all of `wire` (True) or nothing (False: wait for `on_ready`)."""

    def when_ready(self, on_ready: Callable[[], None] | None) -> None:
        """Set who is told that a refused lane can take bytes again."""

    def close(self) -> None:
        """Refuse everything from now on; what was taken is still written."""


class PipeLane:
    """The fast lane: `write` is one system call when the kernel has room."""

    __slots__ = ("_pipe", "framing", "write")

    def __init__(self, pipe: WritePipe, framing: Framing) -> None:
        self._pipe = pipe
        self.framing = framing
        # The pipe's own method: a fan-out calls it once a connection.
        self.write: Callable[[bytes], bool] = pipe.offer

    @property
    def is_ready(self) -> bool:
        """Tell whether the socket takes bytes now, as far as is known."""
        return self.write is not _refuse and self._pipe.is_idle

    def when_ready(self, on_ready: Callable[[], None] | None) -> None:
        """Set who is told that the socket takes bytes again."""
        self._pipe.on_idle = on_ready

    def close(self) -> None:
        """Refuse everything from now on; the connection's own writes go on."""
        # The last chunk of a response and a WebSocket's close frame are the connection's to write.
        self.write = _refuse
        self._pipe.on_idle = None


def _refuse(_: bytes) -> bool:
    return False


class PulledLane:
    """The slow lane: holds one piece at a time until the response generator takes it."""

    __slots__ = ("_closed", "_held", "_on_ready", "_wake", "framing")

    def __init__(self, framing: Framing = Framing.RAW) -> None:
        self.framing = framing
        self._held: bytes | None = None
        self._on_ready: Callable[[], None] | None = None
        self._wake = trio.Event()
        self._closed = False

    @property
    def is_ready(self) -> bool:
        """Tell whether nothing is held."""
        return not self._closed and self._held is None

    def write(self, wire: bytes) -> bool:
        """Take `wire` if nothing is held."""
        if self._closed or self._held is not None:
            return False
        self._held = wire
        self._wake.set()
        return True

    def when_ready(self, on_ready: Callable[[], None] | None) -> None:
        """Set who is told that the held piece was taken."""
        self._on_ready = on_ready

    def close(self) -> None:
        """Let `pull` give the held piece, then None."""
        self._closed = True
        self._wake.set()

    async def pull(self) -> bytes | None:
        """Call this from the response generator: the next piece, or None at the end."""
        while self._held is None:
            if self._closed:
                return None
            # A new event each time, made before the wait and without a checkpoint between: a
            # `write` or `close` from now on sets this very one.
            self._wake = trio.Event()
            await self._wake.wait()
        held, self._held = self._held, None
        if self._on_ready is not None and not self._closed:
            self._on_ready()
        return held
