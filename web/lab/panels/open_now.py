"""What each session has open: how often a tab came back, and whose sign-in a stream belongs to.

Plain calls of whoever opens and closes streams; nothing here waits or sends. Bounded: of tabs that
are gone the longest gone is forgotten first.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from web.realtime import SocketStatistics, Stream, StreamKey
from web.server import SignedIn
from web.views import ConnectionView, element_id

# A tab that was closed is no news after a while; each takes some 200 bytes.
TABS_KEPT_MAX = 10_000
SHORT = 8


class OpenNow:
    """Knows the streams of pages that are open, and how often each tab has come back."""

    def __init__(self) -> None:
        self._opened: dict[StreamKey, int] = {}
        self._members: dict[Stream, SignedIn] = {}

    def opened(self, stream: Stream, member: SignedIn | None) -> None:
        """Call this when a page's stream opened, in the name of whoever is signed in."""
        # To the end: the tab that came longest ago is forgotten first.
        times = self._opened.pop(stream.key, -1) + 1
        self._opened[stream.key] = times
        while len(self._opened) > TABS_KEPT_MAX:
            del self._opened[next(iter(self._opened))]
        if member is not None:
            self._members[stream] = member
            stream.when_closed(self._left)

    def _left(self, stream: Stream) -> None:
        self._members.pop(stream, None)

    def reconnects(self, key: StreamKey) -> int:
        """Call this for how often the stream of a tab was opened again."""
        return self._opened.get(key, 0)

    def member(self, stream: Stream) -> SignedIn | None:
        """Call this for who was signed in when a stream opened; None for guests."""
        return self._members.get(stream)

    def members(self) -> Mapping[Stream, SignedIn]:
        """Call this for the open streams of members, with who they are."""
        return self._members

    def streams_of(self, reference: UUID) -> int:
        """Call this for how many open streams a sign-in has in this process."""
        return sum(one.reference == reference for one in self._members.values())


def stream_view(stream: Stream, own: Stream, reconnects: int, opened: datetime) -> ConnectionView:
    """Call this to show an open page; `own` is the one that looks."""
    kept = stream.statistics().backlog
    tab = str(stream.key.tab)
    return ConnectionView(
        id=element_id(tab),
        name=tab[:SHORT],
        kind="page",
        opened_at=opened,
        queued=kept.chat_events + kept.panels,
        queued_bytes=kept.bytes,
        coalesced=0,
        anew=kept.resyncs,
        reconnects=reconnects,
        is_this=stream is own,
    )


def socket_view(socket: SocketStatistics, opened: datetime) -> ConnectionView:
    """Call this to show an open socket."""
    return ConnectionView(
        id=element_id(f"socket-{socket.number}"),
        name=str(socket.number),
        kind="socket",
        opened_at=opened,
        queued=socket.waiting,
        queued_bytes=None,
        coalesced=socket.replaced,
        anew=socket.dropped,
        reconnects=None,
        is_this=False,
    )
