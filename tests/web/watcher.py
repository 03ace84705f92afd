"""A stream whose reader takes all at once, and what it was sent; a feed that is watched so."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from trio.testing import wait_all_tasks_blocked

from actors.runtime import Actor, Ref, System, open_actors
from web.realtime import Arrivals, Audience, SseParser, Stream, StreamKey, waker
from web.server import Framing

M = TypeVar("M")


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


class WatchedFeed(Generic[M]):
    """A feed and its readers, who outlive its incarnations."""

    def __init__(
        self, system: System, make: Callable[[Audience[Stream]], Actor[Arrivals | M]]
    ) -> None:
        self._system, self._make = system, make
        self.readers = Audience[Stream](waker(lambda: self.ref))
        self._ref: Ref[Arrivals | M] | None = None

    @property
    def ref(self) -> Ref[Arrivals | M]:
        assert self._ref is not None, "nobody looks for the feed before it starts"
        return self._ref

    async def start(self) -> None:
        self._ref = await self._system.start(self._make, self.readers)


@asynccontextmanager
async def open_feed(
    make: Callable[[Audience[Stream]], Actor[Arrivals | M]],
) -> AsyncIterator[WatchedFeed[M]]:
    """Start the feed that `make` makes of its readers; it is stopped at the end."""
    async with open_actors() as system:
        feed: WatchedFeed[M] = WatchedFeed(system, make)
        await feed.start()
        yield feed
