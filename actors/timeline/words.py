"""What the timeline is made of: kinds, stages, a flow and its entries (SITE-120, SITE-122).

Rule: a kind is one of a closed set and is never found out by reading a text. What an entry holds
is numbers and fixed words, or words that `showing.py` makes fit to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias, assert_never


class Stage(StrEnum):
    """Where a thing happened, as a reader sees it."""

    REQUEST = "request"
    BACKEND = "backend"
    SSE = "sse"


class Kind(StrEnum):
    """What an entry tells of."""

    REQUEST_START = "request.start"
    REQUEST_END = "request.end"
    CHAT_INCOMING = "chat.message.incoming"
    CHAT_BROADCAST = "chat.message.broadcast"
    DB_QUERY = "db.query"
    DB_QUERY_COMPLETE = "db.query.complete"
    SSE_PATCH = "sse.patch"
    ACTOR_EXITED = "actor.exited"
    ACTOR_RESTARTED = "actor.restarted"
    LAB_ACTION = "lab.action"
    NODE_ASK = "node.ask"
    NODE_ASK_COMPLETE = "node.ask.complete"


class Level(StrEnum):
    """How much a person should mind."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


STAGE_OF: Final[Mapping[Kind, Stage]] = {
    Kind.REQUEST_START: Stage.REQUEST,
    Kind.REQUEST_END: Stage.REQUEST,
    Kind.CHAT_INCOMING: Stage.BACKEND,
    Kind.CHAT_BROADCAST: Stage.SSE,
    Kind.DB_QUERY: Stage.BACKEND,
    Kind.DB_QUERY_COMPLETE: Stage.BACKEND,
    Kind.SSE_PATCH: Stage.SSE,
    Kind.ACTOR_EXITED: Stage.BACKEND,
    Kind.ACTOR_RESTARTED: Stage.BACKEND,
    Kind.LAB_ACTION: Stage.BACKEND,
    Kind.NODE_ASK: Stage.BACKEND,
    Kind.NODE_ASK_COMPLETE: Stage.BACKEND,
}

Values: TypeAlias = Mapping[str, str | int | float | None]
NOTHING: Final[Values] = {}
# What happened in a flow: when, what, and what more is known of it. Plain, for it is made twice a
# request.
Note: TypeAlias = tuple[float, Kind, Values]

# SITE-126: the page a visitor reads, its stream, what this panel and its tabs
# themselves ask for, files, probes.
_HIDDEN: Final = frozenset({"/", "/events", "/api/operations/filter", "/api/lab/look"})
_UNSEEN: Final = ("/static/", "/health", "/ready")


def is_hidden(path: str) -> bool:
    """Call this to learn whether visitors are shown nothing of a request for `path`."""
    return path in _HIDDEN or path.startswith(_UNSEEN)


class Flow:
    """One request and all it has led to; also the scope its entries are kept by.

    `at` and `latency_s` are of the loop's clock. `tab` is known once a command has told it.
    `sender` is who speaks: `you`, `demo`, or nobody (`-`). A hidden flow is kept for operators
    only.
    """

    __slots__ = (
        "__weakref__",
        "at",
        "is_hidden",
        "is_member",
        "latency_s",
        "method",
        "notes",
        "path",
        "request_id",
        "sender",
        "session",
        "status",
        "tab",
        "touched_at",
        "traceparent",
    )

    def __init__(
        self,
        request_id: str,
        session: str,
        method: str,
        path: str,
        at: float,
        *,
        is_hidden: bool = False,
    ) -> None:
        self.request_id, self.session = request_id, session
        self.method, self.path, self.at = method, path, at
        self.is_hidden = is_hidden
        self.tab: str | None = None
        self.is_member = False
        self.sender = "-"
        self.status: int | None = None
        self.latency_s: float | None = None
        # When the last thing happened in it.
        self.touched_at = at
        # As W3C Trace Context writes it, where whoever asked has told one.
        self.traceparent: str | None = None
        # A list, bounded by `Timeline`: most flows have two, and an empty deque is larger. They do
        # not name the flow: a ring of references is found by collections of garbage only, and
        # there would be one for each request.
        self.notes: list[Note] = []

    def __repr__(self) -> str:
        return f"<Flow {self.request_id[:8]} {self.method} notes={len(self.notes)}>"

    @property
    def entries(self) -> list[Entry]:
        """All that happened in it, in the order in which it was told."""
        return [Entry(self, note) for note in self.notes]


class Entry:
    """One thing that happened in a flow, `at` seconds of the loop's clock."""

    __slots__ = ("at", "flow", "kind", "values")

    def __init__(self, flow: Flow, note: Note) -> None:
        self.flow = flow
        self.at, self.kind, self.values = note

    def __repr__(self) -> str:
        return f"<Entry {self.kind} {dict(self.values)}>"


def level_of(entry: Entry) -> Level:
    """Call this for how much a person should mind an entry."""
    match entry.kind:
        case Kind.REQUEST_END:
            status = entry.flow.status or 0
            return Level.ERROR if status >= 500 else Level.INFO
        case Kind.ACTOR_EXITED:
            return Level.WARNING
        case Kind.DB_QUERY | Kind.DB_QUERY_COMPLETE:
            return Level.DEBUG
        case (
            Kind.REQUEST_START
            | Kind.CHAT_INCOMING
            | Kind.CHAT_BROADCAST
            | Kind.SSE_PATCH
            | Kind.ACTOR_RESTARTED
            | Kind.LAB_ACTION
            | Kind.NODE_ASK
            | Kind.NODE_ASK_COMPLETE
        ):
            return Level.INFO
    assert_never(entry.kind)
