"""Who tells the timeline of what: requests, statements, patches, posts, and actors that ended.

Rule 1: what is told here is kept as it comes, in the task of whoever does it; nothing is rendered.
Rule 2: what is sent of the timeline itself goes past all of these, so it can never cause an entry
(SITE-127): its feed puts its frames into streams directly, and no request of it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import trio

from actors.chat import ROOM_NAMES, MessagePosted, RoomName, Status, topic_of
from actors.chat.words import DEMO_USER_ID
from actors.runtime import Actor, Context, Exit, current_context, message
from actors.timeline import ExitWatch, Kind, Timeline, Values, is_hidden
from supervision import REPORTS, Report
from web.realtime import TellSent
from web.routing import paths
from web.server import Frame, RequestSpan, RequestState, TellBegin, TellSpan

# A restart takes a millisecond; one with a backoff some seconds.
LOOK_FIRST_S, LOOK_LONGEST_S, LOOK_GIVEN_UP_S = 0.005, 1.0, 60.0
SWEEP_S = 60.0

_SENDERS = {paths.CHAT_POST: "you", paths.CHAT_POST_AS_DEMO: "demo"}


# -- plain calls, in whoever's task --------------------------------------------------------------


def begin_teller(timeline: Timeline) -> TellBegin:
    """Call this for what the edge tells of a request that has come in."""

    def begin(method: str, path: str, state: RequestState) -> None:
        # Files and probes are asked for far more often than anything else, and show nothing.
        if path.startswith(("/static/", "/health", "/ready")):
            return
        request_id, visitor = state.request_id, state.visitor
        if state.correlation_id not in (None, request_id):
            # SEC-111: a client may name any request as the cause of its own. One of somebody else
            # would have what is done here told to them.
            named = timeline.maybe_flow(state.correlation_id)
            if named is not None and named.session != visitor.text:
                state.correlation_id = request_id
        timeline.begin(
            request_id,
            visitor.text,
            method,
            path,
            is_new=visitor.is_new,
            traceparent=state.traceparent,
        )
        if method == "POST" and not is_hidden(path):
            sender = _SENDERS.get(path, "-")
            state.on_tab = lambda tab: timeline.tell_tab(request_id, tab, sender)

    return begin


def span_teller(timeline: Timeline, further: TellSpan) -> TellSpan:
    """Call this for what the edge tells of a request that was answered; `further` hears it too."""

    def tell(span: RequestSpan) -> None:
        further(span)
        is_member = span.user_id is not None
        timeline.end(span.request_id, span.status, span.latency_s, is_member=is_member)

    return tell


def sent_teller(timeline: Timeline) -> TellSent:
    """Call this for what streams tell when a command's own tab is sent something."""

    def tell(frame: Frame) -> None:
        context = current_context()
        if context is not None:
            values = patch_values(frame) | caused_by(context)
            timeline.note(context.correlation_id, Kind.SSE_PATCH, values)

    return tell


def patched_teller(timeline: Timeline) -> TellSent:
    """Call this for what the tree's feed tells when its readers were sent a crash."""
    return lambda frame: timeline.patched(patch_values(frame))


def story_teller(timeline: Timeline) -> Callable[[Frame, str], None]:
    """Call this for what the lab's stage tells when a session was sent a crash of its own."""
    return lambda frame, session: timeline.patched(patch_values(frame), session)


class StatementLike(Protocol):
    """What a store tells of a statement."""

    @property
    def text(self) -> str: ...
    @property
    def took_s(self) -> float: ...
    @property
    def rows(self) -> int | None: ...


def statements_teller(
    timeline: Timeline,
) -> Callable[[Sequence[str], Sequence[StatementLike]], None]:
    """Call this for what a store tells of the statements it ran, and for whom."""

    def tell(behalf: Sequence[str], statements: Sequence[StatementLike]) -> None:
        at = trio.current_time() - sum(one.took_s for one in statements)
        for one in statements:
            began, at = at, at + one.took_s
            values = {"statement": one.text}
            done: Values = {"db_duration_ms": one.took_s * 1000, "rows": one.rows}
            for request_id in behalf:
                timeline.note_at(request_id, began, Kind.DB_QUERY, values)
                timeline.note_at(request_id, at, Kind.DB_QUERY_COMPLETE, done)

    return tell


# Told of an ask that goes to another node: for which requests, the node's name and the shard, when
# it was sent, and how it ended.
TellAsked: TypeAlias = Callable[[Sequence[str], str, int, float, str], None]


def asked_teller(timeline: Timeline) -> TellAsked:
    """Call this for what is told of asks that go to other nodes: the road there and back."""

    def tell(behalf: Sequence[str], node: str, shard: int, began: float, outcome: str) -> None:
        at = trio.current_time()
        asked: Values = {"node": node, "shard": shard}
        ended: Values = {"node": node, "took_ms": (at - began) * 1000, "outcome": outcome}
        for request_id in behalf:
            timeline.note_at(request_id, began, Kind.NODE_ASK, asked)
            timeline.note_at(request_id, at, Kind.NODE_ASK_COMPLETE, ended)

    return tell


def caused_by(context: Context | None) -> dict[str, str | int | float | None]:
    """Call this for which message led to an entry, where one has; operators are shown it."""
    return {} if context is None else {"causation": context.causation_id}


def patch_values(frame: Frame) -> dict[str, str | int | float | None]:
    """Call this to tell what a frame does to a page, without what it holds."""
    # Only the head of its first event: what follows may be a whole window.
    values: dict[str, str | int | float | None] = {"payload_bytes": len(frame)}
    for line in frame.payload[:512].split(b"\n")[:6]:
        name, _, value = line.partition(b": ")
        word, _, rest = value.partition(b" ")
        if name == b"event":
            values["event"] = value.decode("utf-8", "replace")
        elif name == b"data" and word in (b"selector", b"mode"):
            values[word.decode()] = rest.decode("utf-8", "replace")
    return values


# -- the actor -----------------------------------------------------------------------------------


@message
class Look:
    """Time to see who is back."""


@message
class Left:
    """An actor has ended because of a request."""

    path: str
    cause: str
    incarnation: int
    at: float


@message
class Sweep:
    """Time to forget what is old."""


class Node(Protocol):
    """An actor, as far as one waits for it to be back."""

    @property
    def status(self) -> str: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def status_since(self) -> float: ...
    @property
    def restart_s(self) -> float | None: ...


Messages = Left | Look | Sweep


class PostSink:
    """Notes that a post was handed to the readers of its room, while the room publishes it."""

    def __init__(self, timeline: Timeline, readers_of: Callable[[RoomName], int]) -> None:
        self._timeline, self._readers_of = timeline, readers_of

    def deliver(self, event: object) -> None:
        """Take an event of a room; only posts are told of."""
        if not isinstance(event, MessagePosted):
            return
        posted = event.message
        is_public = posted.status is Status.VISIBLE
        values: Values = {
            "direction": "out",
            "sender": "demo" if posted.user_id == DEMO_USER_ID else "you",
            "receiver": posted.room,
            "message": str(posted.id),
            "selector": "#chat-you-list, #chat-demo-list",
            "mode": "append",
            "payload_bytes": len(posted.body.encode()),
            "streams": self._readers_of(posted.room) if is_public else 1,
            **caused_by(current_context()),
        }
        self._timeline.note(_cause(), Kind.CHAT_BROADCAST, values)


class ExitSink:
    """Notes that an actor ended because of a request, while its supervisor reports it.

    At once, not by the collector's mailbox: what readers are sent next belongs to that request, and
    they may be sent it before the collector has its turn. `further` is told whom to wait for.
    """

    def __init__(
        self,
        timeline: Timeline,
        cause_of: Callable[[Report], str | None],
        below_sandboxes: str | None,
        further: Callable[[Left], object],
    ) -> None:
        self._timeline, self._cause_of, self._further = timeline, cause_of, further
        self._below_sandboxes = below_sandboxes

    def deliver(self, event: object) -> None:
        """Take what a supervisor reports; only ends that a request has caused are told of."""
        if not isinstance(event, Report) or event.context != "child_terminated":
            return
        cause, offender = self._cause_of(event), event.offender
        if cause is None:
            return
        values: dict[str, str | int] = {"path": offender.path, "reason": _reason(event)}
        values |= {"incarnation": offender.incarnation}
        below = self._below_sandboxes
        is_own = below is not None and offender.path.startswith(below)
        if self._timeline.exited(cause, values, is_own=is_own):
            self._further(Left(offender.path, cause, offender.incarnation, event.at))


class TimelineCollector(Actor[Messages]):
    """Hears of posts and of actors that ended, and finds out when they are back.

    `readers_of` gives how many streams are sent an event of a room, `maybe_node` an actor by its
    path, or None. What ends below the path `sandboxes` is shown to its own visitor only; `cause_of`
    gives the flow that it ended for. What it has noted outlives it.
    """

    def __init__(
        self,
        timeline: Timeline,
        readers_of: Callable[[RoomName], int],
        maybe_node: Callable[[str], Node | None],
        sandboxes: str = "",
        cause_of: Callable[[Report], str | None] = lambda report: report.correlation_id,
    ) -> None:
        self._timeline, self._maybe_node = timeline, maybe_node
        below = f"{sandboxes}/" if sandboxes else None
        self._ends = ExitSink(timeline, cause_of, below, self._wait_for)
        self._posts = PostSink(timeline, readers_of)
        self._exits = ExitWatch()
        self._pause_s = LOOK_FIRST_S

    def on_start(self) -> None:
        """Listen to the rooms and to what supervisors report."""
        for room in ROOM_NAMES:
            self.system.topics.subscribe(topic_of(room), self._posts)
        self.system.topics.subscribe(REPORTS, self._ends)
        self.every(SWEEP_S, Sweep())

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Listen no more: the next incarnation has ears of its own."""
        for room in ROOM_NAMES:
            self.system.topics.unsubscribe(topic_of(room), self._posts)
        self.system.topics.unsubscribe(REPORTS, self._ends)

    def _wait_for(self, left: Left) -> None:
        self.ref.tell(left)

    def on_left(self, left: Left) -> None:
        """Wait until an actor is back that has ended because of a request."""
        self._exits.put(left.path, left.cause, left.incarnation, left.at)
        self._pause_s = LOOK_FIRST_S
        self.after(self._pause_s, Look(), key="look")

    def on_look(self, _: Look) -> None:
        """Note who is back, with the time it took; look later for the others."""
        now = trio.current_time()
        for path, cause, incarnation, at in self._exits.waiting():
            node = self._maybe_node(path)
            if node is None or now - at > LOOK_GIVEN_UP_S:
                self._exits.forget(path)
            elif node.status == "running" and node.incarnation != incarnation:
                self._exits.forget(path)
                took_s = node.restart_s if node.restart_s is not None else node.status_since - at
                values: Values = {
                    "path": path,
                    "incarnation": node.incarnation,
                    "restart_ms": took_s * 1000,
                }
                self._timeline.note_at(cause, node.status_since, Kind.ACTOR_RESTARTED, values)
        if self._exits:
            self._pause_s = min(LOOK_LONGEST_S, self._pause_s * 2)
            self.after(self._pause_s, Look(), key="look")

    def on_sweep(self, _: Sweep) -> None:
        """Forget what is older than a quarter of an hour."""
        self._timeline.sweep()


def _cause() -> str | None:
    context = current_context()
    return None if context is None else context.correlation_id


def _reason(report: Report) -> str:
    """How it ended, and the class of what it raised; what an error says may be anybody's words."""
    words = [type(report.reason).__name__.lower()]
    error = getattr(report.reason, "error", None)
    if error is not None:
        words.append(type(error).__name__)
    return ": ".join(words)
