"""A number that all tabs of a browser share: one actor a browser session (SITE-103).

Rule 1: a page's own sum is a guess; what counts is `serverCount`, and it comes by the stream only.
Rule 2: the actor is the only one that changes its session's number, one command after the other.
What the number is lies in `Counters`, so it outlives an incarnation and a passivation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from actors.runtime import Actor, Ask, message
from web.lab.demos.errands import IDLE
from web.realtime import Stream, StreamKey, Streams, joined, patch_signals
from web.server import BoundedMap, Frame

# SITE-103.
DELTA_MAX: Final = 100
# Some hundred bytes each. Of more the one that was changed longest ago starts again at 0.
KEPT_MAX: Final = 10_000
# So that what is printed stays short; nobody clicks that far.
COUNT_MAX: Final = 1_000_000_000
PANEL: Final = "demo-counter"
# By another name: a number that comes while the stream opens must not take the place of the rest.
BEGIN_PANEL: Final = "demo-begin"


class Counters:
    """All numbers, and the open pages that show them; they outlive every actor.

    Nothing here waits: between what a page is told first and what it is told next is no gap.
    """

    def __init__(self, streams: Streams, *, kept_max: int = KEPT_MAX) -> None:
        self._streams = streams
        self._counts: BoundedMap[str, int] = BoundedMap(kept_max)
        self._pages: dict[str, dict[Stream, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._pages.values()))

    def of(self, session: str) -> int:
        """Call this for a session's number; 0 where nothing was counted."""
        return self._counts.get(session) or 0

    def join(self, stream: Stream) -> None:
        """Call this when a page with the demos opens its stream; it leaves when that closes."""
        self._pages.setdefault(stream.session_id, {})[stream] = None
        stream.when_closed(self.leave)
        count = self.of(stream.session_id)
        # Whatever ran for a stream before this one ended with it.
        stream.put_panel(BEGIN_PANEL, _frame({"count": count, "serverCount": count, **IDLE}))

    def leave(self, stream: Stream) -> None:
        """Call this when a stream has closed; harmless when it had left."""
        pages = self._pages.get(stream.session_id, {})
        pages.pop(stream, None)
        if not pages:
            self._pages.pop(stream.session_id, None)

    def has(self, stream: Stream) -> bool:
        """Call this to learn whether a stream's page shows the demos."""
        return stream in self._pages.get(stream.session_id, {})

    def add(self, session: str, delta: int, key: StreamKey | None) -> bool:
        """Called by the session's actor: False when the tab cannot be told, and nothing is changed.

        Without a key, as a page without scripts has none, it is changed in any case.
        """
        count = min(COUNT_MAX, max(0, self.of(session) + delta))
        frame = _frame({"serverCount": count})
        if key is not None and not self._streams.send_to(key, PANEL, frame).delivered:
            return False
        self._counts.put(session, count)
        for stream in list(self._pages.get(session, ())):
            if stream.key != key:
                stream.put_panel(PANEL, frame)
        return True


@message
class Add(Ask[bool]):
    """Change the number, as `Counters.add` says."""

    delta: int
    key: StreamKey | None


class CounterActor(Actor[Add]):
    """Changes the number of one browser session."""

    def __init__(self, session_id: str, counters: Counters) -> None:
        self._session_id, self._counters = session_id, counters

    def on_add(self, message: Add) -> bool:
        """Change it, and tell all tabs."""
        return self._counters.add(self._session_id, message.delta, message.key)


def _frame(signals: Mapping[str, object]) -> Frame:
    return joined([patch_signals(dict(signals))])
