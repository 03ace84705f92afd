"""A stream whose reader takes everything at once, and what it was sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from trio.testing import wait_all_tasks_blocked

from web.realtime import SseParser, Stream, StreamKey
from web.server import Framing


class RecordingLane:
    """Takes every write."""

    def __init__(self) -> None:
        self.framing = Framing.RAW
        self.is_ready = True
        self.wrote: list[bytes] = []

    def write(self, wire: bytes) -> bool:
        self.wrote.append(wire)
        return True

    def when_ready(self, on_ready: Callable[[], None] | None) -> None:
        """Never refuses, so nobody waits."""

    def close(self) -> None:
        self.is_ready = False


class Watcher:
    """A stream and what has come out of it; one that is not reading gets it at `attach`."""

    def __init__(self, *, is_reading: bool = True, stream: Stream | None = None) -> None:
        self.stream = stream or Stream(StreamKey(uuid.uuid4(), "tab"), "address")
        self._lane = RecordingLane()
        self._parser = SseParser()
        if is_reading:
            self.attach()

    def attach(self) -> None:
        self.stream.attach(self._lane)

    async def events(self) -> list[str]:
        """Give what has come since the last look: the data of each event."""
        await wait_all_tasks_blocked()
        wire = b"".join(self._lane.wrote)
        self._lane.wrote.clear()
        return [event.data for event in self._parser.feed(wire)]
