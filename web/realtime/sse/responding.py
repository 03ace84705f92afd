"""The HTTP answer around a stream: head and first events by Quart, then the fast lane.

When the opening bytes are out the stream takes the lane and is handed to its connection; the
request ends then, and nothing of it stays (PERF-23). Where there is no lane (HTTP/2, test clients)
the body passes on what a `PulledLane` holds. A client that takes gzip gets it: frames are
compressed once for all of them (`web.server`), and the stream knows their end. Leaving the
connection or the body, however that happens, closes the stream, so a disconnect frees everything
(SITE-94).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from hypercorn.typing import Scope
from quart import Response

from web.realtime.sse.encoding import OPENING
from web.realtime.sse.stream import Stream, StreamKey
from web.realtime.sse.streams import Streams
from web.server import (
    STREAM_HEAD,
    Framing,
    GzipSum,
    KeptBody,
    Lane,
    PulledLane,
    deflated,
    request_state,
    transport_of,
)

# SITE-92, SEC-52.
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform, no-store",
    "x-accel-buffering": "no",
    "vary": "accept-encoding",
}


def stream_headers(scope: Scope) -> dict[str, str]:
    """Call this for the headers of the stream that a request is answered with."""
    if request_state(scope).takes_gzip:
        return {**STREAM_HEADERS, "content-encoding": "gzip"}
    return STREAM_HEADERS


class StreamBody(KeptBody):
    """The body of a stream's response; leaving it closes the stream."""

    def __init__(self, stream: Stream, scope: Scope, first: bytes) -> None:
        self._stream, self._scope, self._first = stream, scope, first
        # Of a compressed stream, all that it carries: its end tells the sum.
        self._told = GzipSum() if request_state(scope).takes_gzip else None

    def close(self) -> None:
        """Close the stream."""
        self._stream.hang_up()

    def opening(self) -> bytes:
        """Give the opening bytes."""
        first = OPENING + self._first
        if self._told is None:
            return first
        self._told.add(first)
        return STREAM_HEAD + deflated(first)

    def take_lane(self) -> Stream | None:
        """Have the stream write chunks of its own, past ASGI, from here on."""
        lane = fast_lane(self._scope)
        if lane is None:
            return None
        self._stream.attach(lane, self._told)
        # It outlives its request; who keeps it tells it of the end.
        ends = request_state(self._scope).at_end
        if self._stream.hang_up in ends:
            ends.remove(self._stream.hang_up)
        return self._stream

    async def generate(self) -> AsyncGenerator[bytes, None]:
        """Give what the lane does not carry."""
        pulled = PulledLane(Framing.RAW if self._told is None else Framing.RAW_GZIP)
        self._stream.attach(pulled, self._told)
        while (held := await pulled.pull()) is not None:
            yield held
        yield await self._stream.last()


async def open_stream(streams: Streams, key: StreamKey, scope: Scope) -> Stream:
    """Call this in the route: opens a stream that closes when its request ends, at the latest.

    Raises what `Streams.open` raises. The request has to have passed the edge.
    """
    state = request_state(scope)
    stream = await streams.open(key, state.address)
    # Between here and the body's `__aenter__` the route may fail or the client leave; then no
    # `StreamBody` is ever left, and the end of the request is what frees the stream.
    state.at_end.append(stream.hang_up)
    return stream


def stream_response(stream: Stream, scope: Scope, *, first: bytes = b"") -> Response:
    """Call this at the end of a route: the response that carries `stream` until it closes.

    `first` are events sent right after the head: the state of every panel.
    """
    if scope["type"] != "http" or scope["method"] == "HEAD":
        stream.close("head only")
        return Response(b"", headers=stream_headers(scope))
    response = Response(StreamBody(stream, scope, first), headers=stream_headers(scope))
    response.timeout = None  # REL-16
    return response


def fast_lane(scope: Scope, *, is_plain: bool = False) -> Lane | None:
    """Call this once a streaming response's head is out; None where only Quart may write.

    A lane that `is_plain` is not compressed, whatever the client takes.
    """
    transport = transport_of(scope)
    if transport is None or scope["type"] != "http":
        return None
    is_chunked = scope["http_version"] == "1.1"
    if request_state(scope).takes_gzip and not is_plain:
        return transport.lane(Framing.CHUNKED_GZIP if is_chunked else Framing.RAW_GZIP)
    return transport.lane(Framing.CHUNKED if is_chunked else Framing.RAW)
