"""Fan-out: one message of a topic, encoded once for each kind of viewer, to every member.

A `Broadcast` is the topic's sink: the runtime calls `deliver` and it calls every member's `put`
with the same `Frame` object (ACT-145). `Hub` keeps one per topic while it has members (WEB-47).
What a member does with a frame is its own business: `sse/stream.py`, `socket/outlet.py`.

A message is delivered within the publisher's turn, without a checkpoint. So all members hear a
topic's messages in one order, and who joins hears every later one and none of before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar, cast

from actors.runtime import Log
from web.server import Frame

log = Log(__name__)

M = TypeVar("M")
V = TypeVar("V", bound=Hashable)
M_contra = TypeVar("M_contra", contravariant=True)
V_contra = TypeVar("V_contra", bound=Hashable, contravariant=True)

# Takes a frame and its position in the topic; returns at once.
Put = Callable[[Frame, int], None]


class TopicSink(Protocol):
    """What the runtime's topics deliver to."""

    def deliver(self, message: object, /) -> None:
        """Take one message; returns at once."""


class Encoding(Protocol[M_contra, V_contra]):
    """How messages of a topic become frames."""

    def encode(self, message: M_contra, viewer: V_contra) -> Frame | None:
        """Turn a message into what this kind of viewer sees; None when it sees nothing."""

    def position(self, message: M_contra) -> int:
        """Tell the message's number in its topic; rises by one."""


class Broadcast(Generic[M, V]):
    """Sends each message of one topic to its members, by kind of viewer."""

    def __init__(self, encoding: Encoding[M, V]) -> None:
        self._encoding = encoding
        self._members: dict[V, dict[Membership, Put]] = {}
        # Rebuilt after a change; see `deliver`.
        self._lists: dict[V, list[Put]] | None = None

    def __repr__(self) -> str:
        return f"<Broadcast viewers={len(self._members)} members={self.member_count}>"

    @property
    def member_count(self) -> int:
        """Count members of every kind."""
        return sum(map(len, self._members.values()))

    def join(self, viewer: V, put: Put) -> Membership:
        """Call this to receive every later message as `viewer` sees it."""
        membership = Membership(lambda: self._leave(viewer, membership))
        self._members.setdefault(viewer, {})[membership] = put
        self._lists = None
        return membership

    def deliver(self, message: object, /) -> None:
        """Take a message from the topic: encode once a viewer, hand to every member."""
        # A topic carries one type of message; who composes gives it the fitting encoding.
        known = cast("M", message)
        # The lists are kept, not the dicts: a `put` may close its stream, which leaves, which would
        # change a dict under the loop. The one that left is still called; it is closed and takes
        # nothing.
        lists = self._lists
        if lists is None:
            lists = {viewer: [*puts.values()] for viewer, puts in self._members.items()}
            self._lists = lists
        position = self._encoding.position(known)
        for viewer, puts in lists.items():
            try:
                frame = self._encoding.encode(known, viewer)
            except Exception:
                # The topic would remove whoever raises, and with us all members for good.
                log.exception("broadcast.encoding_failed", viewer=str(viewer))
                continue
            if frame is None:
                continue
            for put in puts:
                try:
                    put(frame, position)
                except Exception:
                    log.exception("broadcast.member_failed", viewer=str(viewer))
                    self._drop(viewer, put)

    def _drop(self, viewer: V, put: Put) -> None:
        for membership, known in [*self._members.get(viewer, {}).items()]:
            if known is put:
                self._leave(viewer, membership)

    def _leave(self, viewer: V, membership: Membership) -> None:
        members = self._members.get(viewer, {})
        members.pop(membership, None)
        if not members:
            self._members.pop(viewer, None)
        self._lists = None


class Membership:
    """Holds one place in a topic; `leave` gives it back and may be repeated."""

    __slots__ = ("_leave",)

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """Call this to hear nothing more."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Hub(Generic[M, V]):
    """Keeps a `Broadcast` for each topic that has members.

    `subscribe(topic, sink)` and `unsubscribe(topic, sink)` are the runtime's topics.
    """

    def __init__(
        self,
        encoding: Encoding[M, V],
        *,
        subscribe: Callable[[str, TopicSink], object],
        unsubscribe: Callable[[str, TopicSink], object],
    ) -> None:
        self._encoding = encoding
        self._subscribe, self._unsubscribe = subscribe, unsubscribe
        self._topics: dict[str, Broadcast[M, V]] = {}

    def __repr__(self) -> str:
        return f"<Hub topics={len(self._topics)}>"

    @property
    def topic_count(self) -> int:
        """Count topics that have members."""
        return len(self._topics)

    def member_count(self, topic: str) -> int:
        """Count the members of a topic."""
        found = self._topics.get(topic)
        return 0 if found is None else found.member_count

    def join(self, topic: str, viewer: V, put: Put) -> Membership:
        """Call this to receive every later message of `topic`; no checkpoint."""
        broadcast = self._topics.get(topic)
        if broadcast is None:
            broadcast = self._topics[topic] = Broadcast(self._encoding)
            self._subscribe(topic, broadcast)
        membership = broadcast.join(viewer, put)
        return Membership(lambda: self._leave(topic, broadcast, membership))

    def _leave(self, topic: str, broadcast: Broadcast[M, V], membership: Membership) -> None:
        membership.leave()
        if broadcast.member_count == 0 and self._topics.get(topic) is broadcast:
            del self._topics[topic]
            self._unsubscribe(topic, broadcast)
