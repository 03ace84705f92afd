"""A stream that goes on when the application has returned: one task, one cancel scope, no request.

An answer that lasts for hours needs nothing of what made it: not the request, not its scopes, not
the application's frames. So the application sends its head and first bytes, hands the connection a
`Kept` and returns; from then on the connection's own task waits for the client's end and for the
stream's, whichever comes first.

Rule 1: a `Kept` that was handed over is ended here, however the connection ends.
Rule 2: nothing is written here but the last bytes; all others come by the stream's lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from web.server.connection.framing import chunk
from web.server.connection.pipe import WritePipe
from web.server.connection.settings import Phase
from web.server.reading.requests import RequestReader


class Line(Protocol):
    """What keeping a stream needs of its connection."""

    @property
    def pipe(self) -> WritePipe:
        """The only writer."""

    async def receive(self, phase: Phase, deadline: float) -> bytes | None:
        """Bytes; empty ones when the client left; None when `stop_waiting` was called."""

    async def wait_left(self) -> bool:
        """Wait for the client's end and read nothing; False when `stop_waiting` was called."""

    def stop_waiting(self) -> None:
        """Have `receive` give None now, if it waits."""


class Kept(Protocol):
    """What a connection must know of a stream that was handed to it."""

    @property
    def is_open(self) -> bool:
        """Tell whether it goes on."""

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Call `wake` once it is over; not needed if it is already."""

    async def wait_over(self) -> None:
        """Wait until it is over."""

    async def last(self) -> bytes:
        """Give the last bytes of its body; asked once it is over, with a limit of its own."""

    def hang_up(self) -> None:
        """Be told that the client is gone, or the connection; returns at once, may be repeated."""


async def keep(
    kept: Kept, reader: RequestReader, line: Line, *, is_chunked: bool, limit: int
) -> bool:
    """Call this to stay with a stream to its end; whether its answer ended whole.

    What the client sends meanwhile is its next request; of that no more than `limit` bytes are
    read. Cancelled, the stream is told that its client is gone.
    """
    try:
        kept.wake_by(line.stop_waiting)
        while kept.is_open:
            if len(reader) >= limit:
                if await line.wait_left():
                    return False
                continue
            data = await line.receive(Phase.ANSWERING, float("inf"))
            if data:
                reader.feed(data)
            elif data is not None:
                return False
        data = await kept.last()
        if is_chunked:
            data = (chunk(data) if data else b"") + b"0\r\n\r\n"
        await line.pipe.write(data)
    except trio.BrokenResourceError:
        return False
    finally:
        kept.hang_up()
    return True
