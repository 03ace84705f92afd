"""Fan-out: one message of a topic, encoded once for each kind of viewer, to every member.

A `Broadcast` is the topic's sink: the runtime calls `deliver` and it calls every member's `put`
with the same `Frame` object (ACT-145). `Hub` keeps one per topic while it has members, or events
that somebody may come back for (WEB-47). What a member does with a frame is its own business:
`sse/stream.py`, `socket/outlet.py`.

Rule 1: a message is delivered within the publisher's turn, without a checkpoint. So all members
        hear a topic's messages in one order, and who joins hears every later one and none before.
        An actor that fills a topic may `spread` instead: several messages in one write for each
        member, and others have their turns between slices of members. Order, and who hears what,
        are the same: who joins meanwhile joins behind those messages, who leaves hears no more.
Rule 2: `seq` rises with every message that members hear, by one where the topic counts for itself.
        Of a topic that stands in the store it is the store's number (see `stored.py`), which has
        holes where nobody hears of an event; `prev` then tells the one before.
Rule 3: what `after` gives together with what is delivered from then on, in the same turn, is every
        event behind a place; where that cannot be promised it gives None.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast

import trio

from actors.runtime import Log, current_context
from web.realtime.stored import StoredTopic
from web.server import COALESCE_BYTES, Bundle, Frame, bundled

log = Log(__name__)

M = TypeVar("M")
V = TypeVar("V", bound=Hashable)
M_contra = TypeVar("M_contra", contravariant=True)
V_contra = TypeVar("V_contra", bound=Hashable, contravariant=True)

# A topic without history is kept for who looks at it and joins a little later.
IDLE_S = 1.0

# Members between two checkpoints of `spread`: a write costs 5 to 10 us, so two milliseconds and a
# half; and no more bytes than the kernel copies in one.
SLICE_MEMBERS = 256
SLICE_BYTES = 2 * 1024 * 1024

# Takes a frame and its number in the topic; returns at once.
Put = Callable[[Frame, int], None]
# Takes several of them; returns at once.
PutAll = Callable[[Bundle], None]


class Slices:
    """Says when somebody who hands bytes to many should let others have their turn."""

    __slots__ = ("_bytes", "_count")

    def __init__(self) -> None:
        self._count = self._bytes = 0

    def is_over(self, size: int) -> bool:
        """Call this before each write of `size` bytes: True when a checkpoint is due first."""
        if self._count == SLICE_MEMBERS or (self._count and self._bytes + size > SLICE_BYTES):
            self._count, self._bytes = 1, size
            return True
        self._count += 1
        self._bytes += size
        return False


class TopicSink(Protocol):
    """What the runtime's topics deliver to."""

    def deliver(self, message: object, /) -> None:
        """Take one message; returns at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands: `seq` counts within `epoch`; `prev` is told where numbers have holes.

    An epoch of a topic in memory ends with the topic; of one in the store it is the lineage.
    """

    seq: int
    epoch: str
    prev: int | None = None
    correlation_id: str | None = None


class Encoding(Protocol[M_contra, V_contra]):
    """How messages of a topic become frames."""

    def encode(self, message: M_contra, viewer: V_contra, place: Place, /) -> Frame | None:
        """Turn a message into what this kind of viewer sees; None when it sees nothing."""

    def position(self, message: M_contra) -> int | None:
        """Tell the store's number of the message; None for what no member of the topic hears.

        Of a topic that counts for itself any number will do.
        """


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """Holds how much of a topic is kept for those who come back (WEB-42, REL-70)."""

    # A busy room's minute, and as long as a train takes through a tunnel.
    events_max: int = 1000
    kept_s: float = 300.0


@dataclass(slots=True)
class Kept(Generic[M, V]):
    """One event that is kept, with the frames it was encoded to."""

    place: Place
    at: float
    message: M
    frames: dict[V, Frame | None] = field(default_factory=dict)


class Broadcast(Generic[M, V]):
    """Sends each message of one topic to its members, by kind of viewer.

    With a `source` it begins when `begin` tells where the topic stands in the store; who is
    interested waits for `begun`.
    """

    def __init__(
        self,
        encoding: Encoding[M, V],
        *,
        history: HistoryLimits | None = None,
        source: StoredTopic[M] | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._encoding = encoding
        self._history, self._now = history, now
        self._members: dict[V, dict[Membership, None]] = {}
        # Rebuilt after a change; see `deliver`.
        self._lists: dict[V, list[Membership]] | None = None
        self.source = source
        self.begun = trio.Event()
        self.epoch = ""
        # The number of the last event that members heard, or would have.
        self.seq = 0
        # The last number of the store that is accounted for, heard by anybody or not.
        self.known = 0
        # All events behind this number are kept.
        self._floor = 0
        self._kept: deque[Kept[M, V]] = deque()
        if source is None:
            # Random: a client that comes back must not take another topic's numbers for ours.
            self.begin(secrets.token_urlsafe(6), 0, 0)

    def __repr__(self) -> str:
        return (
            f"<Broadcast viewers={len(self._members)} members={self.member_count} "
            f"seq={self.seq} kept={len(self._kept)}>"
        )

    @property
    def member_count(self) -> int:
        """Count members of every kind."""
        return sum(map(len, self._members.values()))

    @property
    def kept_count(self) -> int:
        """Count the events that are kept for those who come back."""
        self._let_go()
        return len(self._kept)

    def begin(self, epoch: str, seq: int, known: int) -> None:
        """Call this to tell where the topic stands: at first, or when it is another one now.

        Events of an epoch before are forgotten; members hear the new epoch with the next event.
        """
        self._kept.clear()
        self.epoch, self.seq, self.known, self._floor = epoch, seq, known, known
        self.begun.set()

    def forget(self) -> None:
        """Call this when what was said may not be said again: nothing is kept of before."""
        self._kept.clear()
        self._floor = self.known

    def pass_by(self, number: int) -> None:
        """Call this for an event of the store that no member hears."""
        self.known = max(self.known, number)

    def join(self, viewer: V, put: Put, put_all: PutAll | None = None) -> Membership:
        """Call this to receive every later message as `viewer` sees it.

        Who gives `put_all` is told so of messages that come together.
        """
        membership = Membership(lambda: self._leave(viewer, membership), put, put_all)
        self._members.setdefault(viewer, {})[membership] = None
        self._lists = None
        return membership

    def deliver(self, message: object, /, correlation_id: str | None = None) -> None:
        """Take a message from the topic: encode once a viewer, hand to every member.

        Without a `correlation_id` it is the one of the publisher's turn; empty for none.
        """
        # A topic carries one type of message; who composes gives it the fitting encoding.
        known = cast("M", message)
        number = self._encoding.position(known)
        if number is None:
            return
        kept = self._keep(known, number, correlation_id)
        seq = kept.place.seq
        for viewer, members in self._listed().items():
            frame = self.frame(kept, viewer)
            if frame is None:
                continue
            for member in members:
                try:
                    member.put(frame, seq)
                except Exception:
                    log.exception("broadcast.member_failed", viewer=str(viewer))
                    member.leave()

    async def spread(self, messages: Sequence[tuple[object, str | None]]) -> None:
        """Call this, for the topic's only source, to deliver messages and correlation ids.

        Each member gets them with one write; a checkpoint stands between slices of members, and
        nowhere else. Cancelled there, the rest is handed out at once before the cancellation goes
        on: nobody misses a message.
        """
        kept: list[Kept[M, V]] = []
        for message, correlation_id in messages:
            known = cast("M", message)
            number = self._encoding.position(known)
            if number is not None:
                kept.append(self._keep(known, number, correlation_id))
        # Encoded, and the members listed, before anything can change.
        due = [
            (viewer, bundle, member)
            for viewer, members in (self._listed().items() if kept else ())
            for bundle in self._bundles(kept, viewer)
            for member in members
        ]
        slices, at = Slices(), 0
        try:
            while at < len(due):
                if slices.is_over(due[at][1].size):
                    await trio.lowlevel.checkpoint()
                at += 1
                self._hand(*due[at - 1])
        finally:
            for one in due[at:]:
                self._hand(*one)

    def _bundles(self, kept: list[Kept[M, V]], viewer: V) -> list[Bundle]:
        frames = [(self.frame(one, viewer), one.place.seq) for one in kept]
        return bundled([(frame, seq) for frame, seq in frames if frame], COALESCE_BYTES)

    def _hand(self, viewer: V, bundle: Bundle, member: Membership) -> None:
        # Since the last checkpoint a client may have been told that it hears the topic no more.
        if member.is_left:
            return
        try:
            if member.put_all is not None and len(bundle) > 1:
                member.put_all(bundle)
            else:
                for frame, seq in bundle.entries:
                    member.put(frame, seq)
        except Exception:
            log.exception("broadcast.member_failed", viewer=str(viewer))
            member.leave()

    def _listed(self) -> dict[V, list[Membership]]:
        """Give the members, as they are now, in lists that nobody changes."""
        # The lists are kept, not the dicts: a `put` may close its stream, which leaves, which would
        # change a dict under the loop. The one that left is still called; it is closed and takes
        # nothing.
        if self._lists is None:
            self._lists = {viewer: [*members] for viewer, members in self._members.items()}
        return self._lists

    def after(self, seq: int) -> list[Kept[M, V]] | None:
        """Call this for all events behind a number, oldest first; None when some are not kept."""
        self._let_go()
        if seq < self._floor:
            return None
        # From the end: who was away for a moment misses little.
        missed: list[Kept[M, V]] = []
        for kept in reversed(self._kept):
            if kept.place.seq <= seq:
                break
            missed.append(kept)
        missed.reverse()
        return missed

    def frame(self, kept: Kept[M, V], viewer: V) -> Frame | None:
        """Call this for what a viewer is sent of an event; encoded the first time."""
        if viewer in kept.frames:
            return kept.frames[viewer]
        frame: Frame | None = None
        try:
            frame = self._encoding.encode(kept.message, viewer, kept.place)
        except Exception:
            # The topic would remove whoever raises, and with us all members for good.
            log.exception("broadcast.encoding_failed", viewer=str(viewer))
        kept.frames[viewer] = frame
        return frame

    def encode(self, message: M, viewer: V, place: Place) -> Frame | None:
        """Call this for an event that was read again from the store."""
        return self._encoding.encode(message, viewer, place)

    def _keep(self, message: M, number: int, correlation_id: str | None) -> Kept[M, V]:
        if correlation_id is None:
            context = current_context()
            correlation_id = None if context is None else context.correlation_id
        seq, prev = (self.seq + 1, None) if self.source is None else (number, self.seq)
        place = Place(seq, self.epoch, prev, correlation_id or None)
        self.seq, self.known = seq, max(self.known, seq)
        if self._history is None:
            self._floor = seq
            return Kept(place, 0.0, message)
        kept: Kept[M, V] = Kept(place, self._now(), message)
        self._kept.append(kept)
        self._let_go()
        return kept

    def _let_go(self) -> None:
        limits = self._history
        if limits is None or not self._kept:
            return
        before = self._now() - limits.kept_s
        while self._kept and (len(self._kept) > limits.events_max or self._kept[0].at <= before):
            self._floor = self._kept.popleft().place.seq

    def _leave(self, viewer: V, membership: Membership) -> None:
        members = self._members.get(viewer, {})
        members.pop(membership, None)
        if not members:
            self._members.pop(viewer, None)
        self._lists = None


class Membership:
    """Holds one place in a topic; `leave` gives it back and may be repeated."""

    __slots__ = ("_leave", "put", "put_all")

    def __init__(self, leave: Callable[[], None], put: Put, put_all: PutAll | None = None) -> None:
        self._leave: Callable[[], None] | None = leave
        self.put, self.put_all = put, put_all

    @property
    def is_left(self) -> bool:
        """Tell whether the place was given back."""
        return self._leave is None

    def leave(self) -> None:
        """Call this to hear nothing more."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Hub(Generic[M, V]):
    """Keeps a `Broadcast` for each topic that has members, or kept events.

    `subscribe(topic, sink)` and `unsubscribe(topic, sink)` are the runtime's topics. `stored` are
    topics of the store: they stay, and whoever reads the store delivers to them.
    """

    def __init__(
        self,
        encoding: Encoding[M, V],
        *,
        subscribe: Callable[[str, TopicSink], object],
        unsubscribe: Callable[[str, TopicSink], object],
        history: HistoryLimits | None = None,
        stored: Mapping[str, Broadcast[M, V]] | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._encoding = encoding
        self._subscribe, self._unsubscribe = subscribe, unsubscribe
        self._history, self._now = history, now
        self._stored = dict(stored or {})
        self._topics: dict[str, Broadcast[M, V]] = {}
        # Topics whose last member left, and when; the longest ago first.
        self._idle: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Hub topics={len(self._topics)} stored={len(self._stored)}>"

    @property
    def topic_count(self) -> int:
        """Count topics that have members or kept events; those of the store are not counted."""
        self._sweep()
        return len(self._topics)

    def member_count(self, topic: str) -> int:
        """Count the members of a topic."""
        found = self._find(topic)
        return 0 if found is None else found.member_count

    def broadcast(self, topic: str) -> Broadcast[M, V]:
        """Call this for a topic as it stands; one of the store has perhaps not begun.

        One that nobody joins is let go like one that was left.
        """
        self._sweep()
        found = self._find(topic)
        if found is None:
            found = Broadcast(self._encoding, history=self._history, now=self._now)
            self._topics[topic] = found
            self._idle[topic] = self._now()
            self._subscribe(topic, found)
        return found

    def join(self, topic: str, viewer: V, put: Put, put_all: PutAll | None = None) -> Membership:
        """Call this to receive every later message of `topic`; no checkpoint."""
        membership = self.broadcast(topic).join(viewer, put, put_all)
        self._idle.pop(topic, None)
        return Membership(lambda: self._leave(topic, membership), put, put_all)

    def _find(self, topic: str) -> Broadcast[M, V] | None:
        return self._stored.get(topic) or self._topics.get(topic)

    def _leave(self, topic: str, membership: Membership) -> None:
        membership.leave()
        broadcast = self._topics.get(topic)
        if broadcast is not None and not broadcast.member_count:
            self._idle.setdefault(topic, self._now())
            if not broadcast.kept_count:
                self._remove(topic)
        self._sweep()

    def _sweep(self) -> None:
        """Let go of topics that nobody heard for so long that nobody can come back for them."""
        before = self._now() - (IDLE_S if self._history is None else self._history.kept_s)
        while self._idle:
            topic, since = next(iter(self._idle.items()))
            if since > before:
                return
            self._remove(topic)

    def _remove(self, topic: str) -> None:
        del self._idle[topic]
        self._unsubscribe(topic, self._topics.pop(topic))
