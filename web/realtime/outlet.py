"""The sending half of one WebSocket: frames in, bytes on the socket, synchronously.

Rule 1: `send` and `send_topic` are plain calls that return at once and never raise.
Rule 2: after `close` nothing more is taken; what was taken is still written, for a second.

Who decides what is sent: `connection.py`. The ASGI side around it: `endpoint.py`.
"""

from __future__ import annotations

import trio

from web.realtime.messages import Error, encode_server
from web.realtime.protocol import CloseCode
from web.realtime.socket_outbox import Policy, SocketOutbox
from web.realtime.stream import COALESCE_BYTES
from web.server import Frame, Lane


class Outlet:
    """Sends to one client; `closing` is set when our side wants the end."""

    __slots__ = ("_flushed", "_lane", "_outbox", "close_code", "close_reason", "closing", "sent")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._outbox = SocketOutbox(_lagged)
        self._flushed = trio.Event()
        self.closing = trio.Event()
        self.close_code = CloseCode.NORMAL
        self.close_reason = ""
        self.sent = 0
        lane.when_ready(self._flush)

    def __repr__(self) -> str:
        return f"<Outlet sent={self.sent} {self._outbox!r}>"

    @property
    def queued(self) -> int:
        """Count the messages that wait for the reader."""
        return len(self._outbox)

    def send(self, frame: Frame) -> None:
        """Send a reply, or keep it in order."""
        self._put(frame, None, None)

    def send_topic(self, frame: Frame, topic: str, policy: Policy) -> None:
        """Send an event of a topic, or keep it by the topic's policy."""
        self._put(frame, topic, policy)

    def send_control(self, wire: bytes) -> bool:
        """Send a ping if nothing is waiting; False means the reader is behind anyway."""
        return not self.closing.is_set() and self._lane.write(wire)

    def close(self, code: CloseCode, reason: str = "") -> None:
        """End the connection from our side; the first code given counts."""
        if self.closing.is_set():
            return
        self.close_code, self.close_reason = code, reason
        if code is CloseCode.SLOW:
            self._outbox.clear()
        if not self._outbox:
            self._flushed.set()
        self.closing.set()

    async def wait_flushed(self, limit_s: float) -> None:
        """Call this after `close`: waits until what was taken is written, or the limit."""
        with trio.move_on_after(limit_s):
            await self._flushed.wait()
        self._lane.close()

    def _put(self, frame: Frame, topic: str | None, policy: Policy | None) -> None:
        if self.closing.is_set():
            return
        if not self._outbox and self._lane.write(frame.wire(self._lane.framing)):
            self.sent += 1
            return
        if not self._outbox.put(frame, topic, policy):
            self.close(CloseCode.SLOW, "too far behind")

    def _flush(self) -> None:
        while self._outbox and self._lane.is_ready:
            frames = self._outbox.take(COALESCE_BYTES)
            wire = b"".join([frame.wire(self._lane.framing) for frame in frames])
            if not self._lane.write(wire):
                return
            self.sent += len(frames)
        if not self._outbox and self.closing.is_set():
            self._flushed.set()


def _lagged(topic: str, missed: int) -> Frame:
    text = f"You are behind: {missed} events of {topic} were left out; load it anew."
    return Frame(encode_server(Error(text)))
