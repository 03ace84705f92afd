"""What routes are handed: the actors, registries and renderers of the running site.

Built by `app.py`, the only place that wires; routes ask, never construct.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import trio

from actors.accounts.session import Messages as SessionMessage
from actors.chat import RoomName, Rooms
from actors.runtime import Ref
from web.chat.room_feed import Messages as RoomFeedMessage
from web.lab.tree_feed import Messages as TreeFeedMessage
from web.lab.tree_feed import TreeSource
from web.realtime import Stream, Streams
from web.server import CsrfTokens, RequestState
from web.settings import LabMode
from web.site.health import Health
from web.site.proof_feed import Messages as ProofFeedMessage
from web.site.proof_feed import ProofSource
from web.views import Renderer, StaticTable

# A request without a deadline of its own still ends: streams ask nothing of this kind.
ASK_S_MAX = 10.0


FindSession = Callable[[str], Ref[SessionMessage]]


class WindowRequests:
    """Who is asked for a whole window when a stream fell behind; nobody for most pages."""

    def __init__(self) -> None:
        self._by_stream: dict[Stream, Callable[[], None]] = {}

    def __call__(self, stream: Stream) -> None:
        """Called by a stream's actor: chat overflowed."""
        ask = self._by_stream.get(stream)
        if ask is not None:
            ask()

    def set(self, stream: Stream, ask: Callable[[], None]) -> None:
        """Call this when a stream shows a room; forgotten when it closes."""
        self._by_stream[stream] = ask
        stream.when_closed(self._forget)

    def _forget(self, stream: Stream) -> None:
        self._by_stream.pop(stream, None)


@dataclass(frozen=True, slots=True)
class Feeds:
    """Finds the actors that send panels to open streams; looked up at each use."""

    room: Callable[[RoomName], Ref[RoomFeedMessage]]
    tree: Callable[[], Ref[TreeFeedMessage]]
    proof: Callable[[], Ref[ProofFeedMessage]]


@dataclass(frozen=True, slots=True)
class Services:
    """The running site, as its routes see it."""

    now: Callable[[], datetime]
    version: str
    lab_mode: LabMode
    is_loopback: bool
    session_of: FindSession
    rooms: Rooms
    windows: WindowRequests
    feeds: Feeds
    tree: TreeSource
    proof: ProofSource
    streams: Streams
    renderer: Renderer
    static: StaticTable
    csrf: CsrfTokens
    health: Health

    def session(self, visitor: UUID) -> Ref[SessionMessage]:
        """Call this to get the actor of a browser session; it starts with its first message."""
        return self.session_of(str(visitor))

    def remaining(self, state: RequestState) -> float:
        """Call this to get the seconds a request may still take, 0 when it is late."""
        return min(ASK_S_MAX, max(0.0, state.deadline - trio.current_time()))
