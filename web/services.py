"""What routes are handed: the actors, registries and renderers of the running site.

Built by `app.py`, the only place that wires; routes ask, never construct.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import trio

from actors.accounts.session import Messages as SessionMessage
from actors.chat import Rooms
from actors.runtime import Ref
from web.chat.readers import ShownRooms
from web.lab.quota import LabQuota
from web.lab.tree_feed import TreeSource
from web.realtime import Audience, Stream, Streams
from web.server import CsrfTokens, RequestState
from web.settings import LabMode
from web.site.health import Health
from web.site.proof_feed import ProofSource
from web.views import Renderer, StaticTable

# A request without a deadline of its own still ends: streams ask nothing of this kind.
ASK_S_MAX = 10.0


FindSession = Callable[[str], Ref[SessionMessage]]


@dataclass(frozen=True, slots=True)
class Services:
    """The running site, as its routes see it."""

    version: str
    lab_mode: LabMode
    lab_quota: LabQuota
    is_loopback: bool
    session_of: FindSession
    rooms: Rooms
    shown: ShownRooms
    tree: TreeSource
    tree_readers: Audience[Stream]
    proof: ProofSource
    proof_readers: Audience[Stream]
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
