"""What an open page about failures is sent: what all see, and what its own sandbox lost (LAB-40).

Rule 1: with nobody looking nothing is looked at; twice a second at most a part is sent, and only
        where it is another than the page shows.
Rule 2: the two parts are looked at apart: a store that is slow holds back its own numbers alone.
Rule 3: the ring of lost messages is gone through once for all who look, and only when it has grown
        or somebody has settled something.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from actors.runtime import Actor
from web.lab.panels.failures import Failures
from web.lab.sandbox.sandboxes import Sandbox, Sandboxes
from web.realtime import Arrivals, Audience, PageHolds, Stream, joined, patch_elements
from web.server import Frame
from web.site.events import StreamQuery
from web.views import Renderer

# LAB-40.
PERIOD_S: Final = 0.5
# The parts of the page.
FACTS: Final = "failures-facts"
LOST: Final = "failures-lost"


class FailuresStreams:
    """What the stream of a page about failures is filled with."""

    def __init__(self, readers: Audience[Stream]) -> None:
        self._readers = readers

    async def check(self, query: StreamQuery) -> None:
        """Every query is one for this page."""

    def fill(self, stream: Stream, query: StreamQuery, holds: PageHolds | None) -> None:
        """Join the feed, until the stream closes."""
        stream.when_closed(self._readers.leave)
        self._readers.join(stream, holds)


@dataclass(slots=True)
class _Shown:
    """What one page shows: the marks of its parts, and of what its sandbox was read last."""

    facts: str | None
    lost: str | None
    seen: tuple[str, str | None, int, int] | None = None


class FailuresFeed(Actor[Arrivals]):
    """Looks twice a second while somebody watches."""

    def __init__(
        self,
        source: Failures,
        sandboxes: Sandboxes,
        renderer: Renderer,
        readers: Audience[Stream],
    ) -> None:
        self._source, self._sandboxes = source, sandboxes
        self._renderer, self._readers = renderer, readers
        self._shown: dict[Stream, _Shown] = {}
        self._looking: set[str] = set()

    def on_start(self) -> None:
        """Go on with the readers of an incarnation before."""
        self._readers.want_all()
        self._look_from_now()

    def on_arrivals(self, _: Arrivals) -> None:
        """Who comes shows what the page was rendered with, and is sent what differs."""
        self._look_from_now()

    def _look_from_now(self) -> None:
        if not self._readers:
            return
        for part, look in ((FACTS, self._look_at_facts), (LOST, self._look_at_lost)):
            if part not in self._looking:
                self._looking.add(part)
                self.start_soon(self._repeat, part, look)

    async def _repeat(self, part: str, look: Callable[[], Awaitable[None]]) -> None:
        try:
            while self._readers:
                await look()
                await trio.sleep(PERIOD_S)
        finally:
            self._looking.discard(part)
            if not self._looking:
                self._shown.clear()

    def _pages(self) -> dict[Stream, _Shown]:
        """Those that are open, each with what it shows."""
        for stream, holds in self._readers.take_waiting().items():
            marks = (None, None) if holds is None else (holds.one(FACTS), holds.one(LOST))
            self._shown[stream] = _Shown(*marks)
        self._shown = {stream: self._shown[stream] for stream in self._readers}
        return self._shown

    async def _look_at_facts(self) -> None:
        facts = await self._source.facts()
        mark = facts.mark
        frame: Frame | None = None
        for stream, shown in self._pages().items():
            if shown.facts != mark:
                if frame is None:
                    frame = joined([patch_elements(self._renderer.failure_facts(facts))])
                shown.facts = mark
                stream.put_panel(FACTS, frame)

    async def _look_at_lost(self) -> None:
        count = self._source.lost_count
        changed = list[tuple[Stream, _Shown, Sandbox]]()
        for stream, shown in self._pages().items():
            sandbox = self._sandboxes.of(stream.key.session)
            seen = (sandbox.record, sandbox.root, sandbox.settlings, count)
            if shown.seen != seen:
                shown.seen = seen
                changed.append((stream, shown, sandbox))
        if not changed:
            return
        letters = self._source.letters_of([sandbox for _, _, sandbox in changed])
        for stream, shown, sandbox in changed:
            lost = self._source.rows_of(sandbox, letters.get(sandbox.record, {}))
            mark = lost.mark
            if shown.lost != mark:
                shown.lost = mark
                html = self._renderer.failures_lost(lost)
                stream.put_panel(LOST, joined([patch_elements(html)]))
            # Each is a page of its own to draw: others have their turn between two of them.
            await trio.lowlevel.checkpoint()
