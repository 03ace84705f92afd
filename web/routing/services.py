"""What the routes of every feature are handed: the sessions, streams and renderer of the site.

Filled by `wiring/composition.py`, the only place that wires; routes ask, never construct. What one
feature needs beyond this it declares in a record of its own, beside its routes: `SiteServices`,
`ChatServices`, `LabServices`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import trio

from actors.accounts.session import Messages as SessionMessage
from actors.runtime import Ref
from actors.timeline import Timeline
from web.realtime import Streams
from web.server import CsrfTokens, RequestState, sign_in_of
from web.views import CsrfToken, LocalPath, Renderer, csrf_token

# A request without a deadline of its own still ends: streams ask nothing of this kind.
ASK_S_MAX = 10.0


FindSession = Callable[[str], Ref[SessionMessage]]


@dataclass(frozen=True, slots=True)
class OptionalPages:
    """Where pages are that not every installation has; None for those that are not there."""

    documents: LocalPath | None = None
    licence: LocalPath | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """The running site, as the routes of every feature see it."""

    version: str
    session_of: FindSession
    streams: Streams
    renderer: Renderer
    csrf: CsrfTokens
    # How many messages wait for review, as it was read last; for the pages of moderators.
    waiting_count: Callable[[], int | None] = lambda: None
    # Where the site is, for what other sites show of a link to it; empty where nobody knows.
    origin: str = ""
    pages: OptionalPages = OptionalPages()
    # What requests have led to, for those who made them; `note` costs a visitor nothing.
    timeline: Timeline = field(default_factory=lambda: Timeline(trio.current_time))

    def session(self, visitor: UUID) -> Ref[SessionMessage]:
        """Call this to get the actor of a browser session; it starts with its first message."""
        return self.session_of(str(visitor))

    def csrf_of(self, state: RequestState) -> CsrfToken:
        """Call this once a form for the token it brings back (SEC-32)."""
        return csrf_token(self.csrf.make(state.visitor.id, sign_in_of(state)))

    def remaining(self, state: RequestState) -> float:
        """Call this to get the seconds a request may still take, 0 when it is late."""
        return min(ASK_S_MAX, max(0.0, state.deadline - trio.current_time()))
