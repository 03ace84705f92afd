"""What is remembered: rings of entries, by request and by session (SITE-127, SITE-130).

Rule 1: to note something is a plain call that renders nothing, waits for nobody and never raises.
Rule 2: memory is flat: each ring, and the number of rings, has a limit; of too many scopes the one
that was touched longest ago goes first.
Rule 3: what belongs to no request that is known here is not kept: nobody could be shown it.
Rule 4: a visitor whose cookie is not kept yet has no session scope. A script that drops its cookies
would else push out everybody's; the first requests of a real one are found again by its second.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from actors.timeline.words import NOTHING, Entry, Flow, Kind, Note, Values, is_hidden

# SITE-130. A reader sees twenty flows of two or three entries; an operator looks for a cause.
LIVE_ENTRIES_MAX: Final = 50
DIAGNOSTIC_ENTRIES_MAX: Final = 100
REQUEST_SCOPES_MAX: Final = 1024
SESSION_SCOPES_MAX: Final = 512
KEPT_S: Final = 900.0
# Exits whose actors are not back yet; of a storm the rest is in the tree's own history.
EXITS_MAX: Final = 64
PATH_KEPT_MAX: Final = 200
METHOD_KEPT_MAX: Final = 32


Noted: TypeAlias = tuple[Flow, Note]


class Session:
    """What is kept of one browser session: `live` for itself, `diagnostic` for operators."""

    __slots__ = ("diagnostic", "live")

    def __init__(self) -> None:
        self.live: deque[Noted] = deque(maxlen=LIVE_ENTRIES_MAX)
        self.diagnostic: deque[Noted] = deque(maxlen=DIAGNOSTIC_ENTRIES_MAX)


class Timeline:
    """All scopes of a process; `now` is the loop's clock.

    `on_change` is called with a session's id when what it may see of itself has changed.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        request_scopes_max: int = REQUEST_SCOPES_MAX,
        session_scopes_max: int = SESSION_SCOPES_MAX,
    ) -> None:
        self._now = now
        self._requests_max, self._sessions_max = request_scopes_max, session_scopes_max
        # What was touched last comes last. Not plain dicts: finding the first of one of which the
        # first was taken a thousand times walks over all the gaps, at every request.
        self._flows: OrderedDict[str, Flow] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        # Requests whose exits were not sent to anybody yet, and whether to its own session only.
        self._unpatched: dict[str, bool] = {}
        self.on_change: Callable[[str], None] | None = None

    def __repr__(self) -> str:
        return f"<Timeline flows={len(self._flows)} sessions={len(self._sessions)}>"

    def counts(self) -> tuple[int, int]:
        """Call this for how many scopes there are, of requests and of sessions."""
        return len(self._flows), len(self._sessions)

    # -- telling ------------------------------------------------------------------------------

    def begin(
        self,
        request_id: str,
        session: str,
        method: str,
        path: str,
        *,
        is_new: bool,
        traceparent: str | None = None,
    ) -> None:
        """Call this when a request has come in; `is_new` when its session is this moment's."""
        now = self._now()
        # Cut here: an address of 8 KiB is shown to nobody, and would be kept a thousand times.
        flow = Flow(
            request_id,
            session,
            method[:METHOD_KEPT_MAX],
            path[:PATH_KEPT_MAX],
            now,
            is_hidden=is_hidden(path),
        )
        flow.traceparent = traceparent
        flows, sessions = self._flows, self._sessions
        flows[request_id] = flow
        if len(flows) > self._requests_max:
            flows.popitem(last=False)
        if session in sessions:
            sessions.move_to_end(session)
        elif not is_new:
            self._session(session)
        self._keep(flow, (now, Kind.REQUEST_START, NOTHING))

    def end(
        self, request_id: str, status: int | None, latency_s: float, *, is_member: bool
    ) -> None:
        """Call this when its answer has begun; `status` None when its client has left."""
        flow = self._flows.get(request_id)
        if flow is None:
            return
        flow.status, flow.latency_s, flow.is_member = status, latency_s, is_member
        self._keep(flow, (flow.at + latency_s, Kind.REQUEST_END, NOTHING))

    def note(self, request_id: str | None, kind: Kind, values: Values) -> None:
        """Call this when something was done on behalf of a request, whoever did it."""
        self.note_at(request_id, self._now(), kind, values)

    def note_at(self, request_id: str | None, at: float, kind: Kind, values: Values) -> None:
        """Call this for what was done some time ago."""
        flow = None if request_id is None else self._flows.get(request_id)
        if flow is not None:
            self._flows.move_to_end(flow.request_id)
            self._keep(flow, (at, kind, values))

    def tell_tab(self, request_id: str, tab: str, sender: str = "-") -> None:
        """Call this when a command has told which tab it comes from, and who speaks."""
        flow = self._flows.get(request_id)
        if flow is not None:
            flow.tab = tab
            if sender != "-":
                flow.sender = sender

    def exited(self, request_id: str | None, values: Values, *, is_own: bool = False) -> bool:
        """Call this when an actor ended badly; False when nobody here has caused it.

        What its readers are sent next belongs to that request, too (`patched`): those of the site's
        tree, or, with `is_own`, the pages of the session that has the actor for its own.
        """
        if request_id is None or request_id not in self._flows:
            return False
        self.note(request_id, Kind.ACTOR_EXITED, values)
        self._unpatched[request_id] = is_own
        while len(self._unpatched) > EXITS_MAX:
            del self._unpatched[next(iter(self._unpatched))]
        return True

    def patched(self, values: Values, session: str | None = None) -> None:
        """Call this when readers of the tree were sent what became of it.

        With a session: when its own pages were sent what became of its own actors.
        """
        for request_id, is_own in list(self._unpatched.items()):
            flow = self._flows.get(request_id)
            is_this = not is_own if session is None else is_own
            if flow is None or (is_this and session in (None, flow.session)):
                del self._unpatched[request_id]
                self.note(request_id, Kind.SSE_PATCH, values)

    # -- asking -------------------------------------------------------------------------------

    def live(self, session: str) -> list[Entry]:
        """Call this for what a session may see of itself, oldest first."""
        kept = self._sessions.get(session)
        if kept is None:
            kept = self._session(session)
        return self._fresh(kept.live)

    def flows_of(self, session: str) -> Iterator[Flow]:
        """Call this for the flows of `live`, the one of the newest entry first; a flow comes once
        an entry. Who needs a few stops there: the rest is not looked at."""
        kept = self._sessions.get(session)
        if kept is None:
            kept = self._session(session)
        oldest = self._now() - KEPT_S
        return (flow for flow, note in reversed(kept.live) if note[0] >= oldest)

    def maybe_flow(self, request_id: str) -> Flow | None:
        """Call this to find the flow of a request, if it is still known."""
        return self._flows.get(request_id)

    def maybe_flow_of(self, session: str, message: str) -> str | None:
        """Call this for the flow of a session in which a message of a room was posted."""
        for entry in reversed(self.live(session)):
            if entry.kind is Kind.CHAT_BROADCAST and entry.values.get("message") == message:
                return entry.flow.request_id
        return None

    def diagnostic(
        self, *, request_id: str | None = None, session: str | None = None
    ) -> list[Entry]:
        """Call this for an operator: all of one request, or of one session, oldest first."""
        if request_id is not None:
            flow = self._flows.get(request_id)
            return [] if flow is None else self._fresh((flow, note) for note in flow.notes)
        kept = None if session is None else self._sessions.get(session)
        return [] if kept is None else self._fresh(kept.diagnostic)

    def sweep(self) -> None:
        """Call this now and then: what is older than `KEPT_S` goes, and empty scopes with it."""
        oldest = self._now() - KEPT_S
        for request_id in [one for one, flow in self._flows.items() if flow.touched_at < oldest]:
            del self._flows[request_id]
        for session, kept in list(self._sessions.items()):
            for ring in (kept.live, kept.diagnostic):
                while ring and ring[0][1][0] < oldest:
                    ring.popleft()
            if not kept.diagnostic:
                del self._sessions[session]

    # -- keeping ------------------------------------------------------------------------------

    def _keep(self, flow: Flow, note: Note) -> None:
        flow.touched_at = note[0]
        notes = flow.notes
        notes.append(note)
        if len(notes) > DIAGNOSTIC_ENTRIES_MAX:
            del notes[0]
        # A session is touched when it asks for something.
        session = self._sessions.get(flow.session)
        if session is None:
            return
        noted = flow, note
        session.diagnostic.append(noted)
        if not flow.is_hidden:
            session.live.append(noted)
            if self.on_change is not None:
                self.on_change(flow.session)

    def _session(self, session: str) -> Session:
        sessions = self._sessions
        kept = sessions.get(session)
        if kept is not None:
            return kept
        kept = sessions[session] = Session()
        if len(sessions) > self._sessions_max:
            sessions.popitem(last=False)
        # What it did before its cookie came back.
        for flow in self._flows.values():
            if flow.session == session:
                noted = [(flow, note) for note in flow.notes]
                kept.diagnostic.extend(noted)
                if not flow.is_hidden:
                    kept.live.extend(noted)
        return kept

    def _fresh(self, noted: Iterable[Noted]) -> list[Entry]:
        oldest = self._now() - KEPT_S
        return [Entry(flow, note) for flow, note in noted if note[0] >= oldest]


class ExitWatch:
    """Which ended actors are not back yet, and which request each of them ended for.

    Bounded: of too many the oldest is given up.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, int, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, path: str, request_id: str, incarnation: int, at: float) -> None:
        """Call this when the actor at `path` has ended."""
        self._waiting.pop(path, None)
        self._waiting[path] = request_id, incarnation, at
        while len(self._waiting) > EXITS_MAX:
            del self._waiting[next(iter(self._waiting))]

    def waiting(self) -> list[tuple[str, str, int, float]]:
        """Call this for all: path, request, the incarnation that ended, when."""
        return [(path, *rest) for path, rest in self._waiting.items()]

    def forget(self, path: str) -> None:
        """Call this when it is back, or never will be."""
        self._waiting.pop(path, None)
