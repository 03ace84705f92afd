"""The HTTP answer around a stream: head and first events by Quart, then the fast lane.

The body's iterator gives the opening bytes, and when Quart asks for more the head is out: the
stream takes the lane and the iterator only waits for the end. Where there is no lane (HTTP/2,
test clients) it passes on what a `PulledLane` holds. A client that takes gzip gets it: frames are
compressed once for all of them (`web.server`), and the end is written here. Leaving it, however
that happens, closes the stream, so a disconnect frees everything (SITE-94).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator
from functools import partial
from types import TracebackType
from typing import Self

from hypercorn.typing import Scope
from quart import Response
from quart.wrappers.response import ResponseBody

from web.realtime.sse.encoding import OPENING
from web.realtime.sse.stream import Stream, StreamKey
from web.realtime.sse.streams import Streams
from web.server import (
    STREAM_HEAD,
    Framing,
    GzipSum,
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


class GeneratedBody(ResponseBody):
    """The body of a response that is made as it goes; leaving it, however, closes what makes it."""

    _bytes: AsyncGenerator[bytes, None] | None = None

    @abstractmethod
    def generate(self) -> AsyncGenerator[bytes, None]:
        """Give its bytes; called once."""

    @abstractmethod
    def close(self) -> None:
        """Called when the answer is over; returns at once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bytes is not None:
            await self._bytes.aclose()
        self.close()

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        self._bytes = self.generate()
        return self._bytes


class StreamBody(GeneratedBody):
    """The body of a stream's response; leaving it closes the stream."""

    def __init__(self, stream: Stream, scope: Scope, first: bytes) -> None:
        self._stream, self._scope, self._first = stream, scope, first

    def close(self) -> None:
        """Close the stream."""
        self._stream.close("disconnected")

    async def generate(self) -> AsyncGenerator[bytes, None]:
        """Give the opening bytes, and what the lane does not carry."""
        # Of a compressed stream, all that it carries: its end tells the sum.
        told = GzipSum() if request_state(self._scope).takes_gzip else None
        first = OPENING + self._first
        if told is not None:
            told.add(first)
            first = STREAM_HEAD + deflated(first)
        yield first
        # Asked for the next piece, so Quart has sent the head and the first one and holds nothing
        # that could come later. From here on the lane writes chunks of its own past ASGI; h11
        # keeps no account of chunks and adds the last, empty one at the end.
        lane = fast_lane(self._scope)
        if lane is not None:
            self._stream.attach(lane, told)
            await self._stream.closed.wait()
        else:
            pulled = PulledLane(Framing.RAW if told is None else Framing.RAW_GZIP)
            self._stream.attach(pulled, told)
            while (held := await pulled.pull()) is not None:
                yield held
        if told is not None:
            yield told.end()


async def open_stream(streams: Streams, key: StreamKey, scope: Scope) -> Stream:
    """Call this in the route: opens a stream that closes when its request ends, at the latest.

    Raises what `Streams.open` raises. The request has to have passed the edge.
    """
    state = request_state(scope)
    stream = await streams.open(key, state.address)
    # Between here and the body's `__aenter__` the route may fail or the client leave; then no
    # `StreamBody` is ever left, and the end of the request is what frees the stream.
    state.at_end.append(partial(stream.close, "disconnected"))
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
