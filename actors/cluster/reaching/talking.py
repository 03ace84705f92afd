"""How one node talks to the others: frames out, frames in, and who of them is there.

Rule 1: a node whose leases are over delivers, answers and starts nothing; its clock is looked at
        before anything that came is opened.
Rule 2: whatever comes, the reader goes on: it is dropped, counted and named once in 10 s.
Rule 3: an ask that was sent ends: by its reply, by a refusal, with its peer, or with the link.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from itertools import count
from typing import Final
from uuid import UUID

import msgspec
import trio

from actors.cluster.link import (
    ACK_ALONE_S,
    Ack,
    Arrived,
    Delivery,
    Envelope,
    EnvelopeKind,
    FrameHead,
    FrameKeys,
    Intake,
    Link,
    LinkError,
    LinkStatus,
    NoLink,
    NotRemote,
    Numbered,
    Refused,
    RefusedReason,
    Subjects,
    filled,
    read_body,
    write_content,
)
from actors.cluster.link.crossing import Crossing, NotKnown
from actors.cluster.link.sayings import (
    REMOTE_TEXT_MAX,
    Barrier,
    BarrierDone,
    Beacon,
    Hello,
    Hint,
    Leaving,
    Refusal,
    Saying,
    decode_refusal,
    decode_saying,
    encode_saying,
)
from actors.cluster.member import Member
from actors.cluster.membership import living
from actors.cluster.placement import shard_of
from actors.cluster.reaching.peer import Item, Peer, Waiting
from actors.cluster.reaching.ref import Standin
from actors.cluster.reaching.routing import Routing, context_of, envelope_of
from actors.cluster.reaching.words import (
    NodeGone,
    NoOwner,
    PeerOverloaded,
    RemoteError,
    UnknownMessage,
)
from actors.cluster.words import LEASE_S
from actors.persistence.words import Shard
from actors.runtime import (
    ActorCrashed,
    ActorExited,
    AskError,
    Log,
    NoProc,
    Shutdown,
    UnhandledMessage,
)
from actors.runtime.delivery.envelope import (
    DEADLINE,
    MESSAGE,
    NO_DEADLINE,
    REPLY,
    Reply,
)
from actors.runtime.delivery.envelope import Envelope as Papers
from actors.runtime.life.cell import Cell, Home
from actors.runtime.words.showing import class_name

# Often enough that an acknowledgement that nothing carries goes within its tenth of a second.
TICK_S: Final = ACK_ALONE_S / 2
# So often a node says that it is there, and what it published last.
BEACON_S: Final = 2.0
# To a node that has not answered yet; it may not have subscribed, or may not know us.
HELLO_S: Final = 0.25
# As long as a lease: who says nothing on the link for that long is taken for gone.
SILENT_S_MAX: Final = LEASE_S
# Asks whose askers wait no more are forgotten so often.
SWEEP_S: Final = 1.0
# An ask without a deadline is one of a day: longer than any node lives without its peers.
LEFT_MS_MAX: Final = 24 * 3600 * 1000
# Frames that came and were not read yet; what comes beyond is lost, and noticed by its number.
INBOX_FRAMES_MAX: Final = 4096
# What does not go to a node's data subject: topics, sayings, asks of services.
LOOSE_MAX: Final = 8192
# So many envelopes that came are acknowledged at once: half a window may be under way meanwhile.
UNTOLD_MAX: Final = 1024
# As `filled` needs it: the lengths of an envelope besides its texts and body, at most.
ENVELOPE_HEAD_BYTES: Final = 96
# Who waits for room waits for this much, so that it need not for each message.
ROOM_BYTES: Final = 64 * 1024
ROOM_ENVELOPES: Final = 256
UTF8_BYTES_MAX: Final = 4
LOG_INTERVAL_S: Final = 10.0
# Envelopes read between two looks at the scheduler, a frame counting as 16 at least: at 20 us each
# that is 5 ms, and a quarter of a mailbox.
READ_AT_ONCE: Final = 256
FRAME_COUNTS_AS: Final = 16

# Of a reply, whose asker is found by its number.
_REPLY_TARGET: Final = "reply"
# Targets that are taken apart once only: of the actors that are told something all the time.
_PLACED_MAX: Final = 4096
_TELL, _ASK = EnvelopeKind.TELL, EnvelopeKind.ASK

_log = Log("actors.cluster")


class Undecodable:
    """What stands in a dead letter for a body that could not be read."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def __repr__(self) -> str:
        return f"<Undecodable {self.name}, {self.size} bytes>"


class Relayed(Reply):
    """An ask of another node: settled, it is answered by an envelope instead of a waking task."""

    __slots__ = ("item", "settled", "token")

    def __init__(
        self,
        task: trio.lowlevel.Task,
        cell: Cell,
        message: object,
        item: Item,
        token: Shard | None,
        settled: Callable[[Relayed], None],
    ) -> None:
        super().__init__(task, cell, message, trio.current_time(), item.deadline)
        self.item, self.token, self.settled = item, token, settled

    def wake(self, task: trio.lowlevel.Task) -> None:
        """Called when it is settled."""
        self.settled(self)


class Loose:
    """An envelope that goes to a subject of several, and where the server says that none hears."""

    __slots__ = ("ack_to", "envelope", "reply", "subject")

    def __init__(
        self, subject: str, envelope: Envelope, reply: str = "", ack_to: UUID | None = None
    ) -> None:
        self.subject, self.envelope, self.reply, self.ack_to = subject, envelope, reply, ack_to


class Talk:
    """The talk of one process with the other nodes of its cluster; it outlives the link's actor."""

    def __init__(
        self,
        system: Home,
        member: Member,
        link: Link,
        subjects: Subjects,
        keys: FrameKeys,
        crossing: Crossing,
        wall: Callable[[], datetime],
    ) -> None:
        self.system, self.member, self.link = system, member, link
        self.subjects, self._keys, self.crossing, self._wall = subjects, keys, crossing, wall
        self.node_id = UUID(int=0)
        self._own = subjects.node(self.node_id)
        self.peers: dict[UUID, Peer] = {}
        self._named_peers: dict[str, Peer] = {}
        self.numbers: dict[str, list[int]] = {}
        self._members: frozenset[UUID] = frozenset()
        self._survey: object = None
        self._intake = self._new_intake()
        self._asks = count(1)
        self.inbox: deque[Delivery] = deque()
        self.came = trio.Event()
        self.loose: deque[Loose] = deque()
        self.has_loose = trio.Event()
        self.counts: Counter[str] = Counter()
        self._named: dict[str, float] = {}
        self._task: trio.lowlevel.Task | None = None
        self._swept_at = self._beacon_at = 0.0
        # Asks of services, by number, and those who hear other kinds of envelopes.
        self.service_asks: dict[int, Item] = {}
        self.routing: Routing
        self.standin: Callable[[str, str], Standin]
        self.on_topic: Callable[[UUID, Arrived, Envelope], None] = lambda *_: None
        self.on_topic_gap: Callable[[str], None] = lambda _: None
        self.on_service: Callable[[Item], None] = lambda _: None
        self.on_saying: Callable[[UUID, Saying], None] = lambda *_: None
        self.on_gone: Callable[[UUID], None] = lambda _: None
        self.on_link: Callable[[bool], None] = lambda _: None
        self.last_numbers: Callable[[], dict[str, int]] = dict
        self.send_to: Callable[[Peer], None] | None = None
        self._was_up = link.status()
        link.watch(self._link_changed)

    def __repr__(self) -> str:
        state = "up" if self.is_up else "down"
        return f"<Talk of {self.node_id}: link {state}, {len(self.peers)} peers>"

    @property
    def is_up(self) -> bool:
        """Whether there is a link, and somebody who serves it."""
        return self._task is not None and self._was_up.is_up

    @property
    def refused(self) -> Counter[RefusedReason]:
        """What came and was dropped, by reason."""
        return self._intake.refused

    def _new_intake(self) -> Intake:
        own = self.subjects.node(self.node_id), self.subjects.system(self.node_id)
        shared = self.subjects.service("x")[:-1]
        return Intake(
            self.subjects.cluster,
            self._keys,
            is_member=lambda node_id: node_id in self._members,
            hears_all=frozenset(own).__contains__,
            shares=lambda subject: subject.startswith(shared),
        )

    # A life

    def begin(self, node_id: UUID, task: trio.lowlevel.Task) -> None:
        """Call this when the subjects of a node are heard: it is this process from now on."""
        self._task = task
        if node_id != self.node_id:
            self.node_id = node_id
            self._own = self.subjects.node(node_id)
            refused = self._intake.refused
            self.peers, self._named_peers = {}, {}
            self._survey = None
            # Those of topics go on: what was published between two lives is missed by its number.
            topics = self.subjects.topic("x")[:-1]
            self.numbers = {s: n for s, n in self.numbers.items() if s.startswith(topics)}
            self._intake = self._new_intake()
            # Sums of the process, not of one life.
            self._intake.refused = refused
        self._was_up = self.link.status()
        self._look_at_members()
        for peer in self.peers.values():
            peer.is_ready = False
        self.say_all(Hello(wants_answer=True))

    def suspend(self) -> None:
        """Call this when nobody serves the link any more: all that waits for others ends."""
        self._task = None
        self.inbox.clear()
        self._drop_loose()
        self._end_asks()

    def _link_changed(self, status: LinkStatus) -> None:
        before, self._was_up = self._was_up, status
        if not status.is_up or status.connects != before.connects:
            self._end_asks()
            self._drop_loose()
        self.on_link(status.is_up)
        if status.is_up and self._task is not None:
            self.say_all(Hello(wants_answer=True))

    def _end_asks(self) -> None:
        for peer in self.peers.values():
            peer.is_ready = False
            peer.made_room()
            self._end_waiting(peer, partial(_no_link, maybe_handled=False))
            self._end_under_way(peer, partial(_no_link, maybe_handled=True))
        for number in list(self.service_asks):
            item = self.service_asks.pop(number)
            self.routing.give_up(item, _no_link(item, maybe_handled=True))

    def _end_waiting(self, peer: Peer, error: Callable[[Item], AskError]) -> None:
        for waiting in peer.take():
            self._end_one(peer, waiting, error)

    def _end_one(self, peer: Peer, waiting: Waiting, error: Callable[[Item], AskError]) -> None:
        peer.asks.pop(waiting.envelope.ask, None)
        if waiting.standin is not None and waiting.papers is not None:
            item = waiting.item or item_of(waiting.standin, waiting.papers)
            self.routing.give_up(item, error(item))
        elif waiting.envelope.kind is not EnvelopeKind.SYSTEM:
            self.counts["replies_lost"] += 1

    def _end_under_way(self, peer: Peer, error: Callable[[Item], AskError]) -> None:
        asks, peer.asks = peer.asks, {}
        for item in asks.values():
            self.routing.give_up(item, error(item))

    def gone(self, peer: Peer) -> None:
        """Call this when a node is gone, or nobody hears it: what went there ends."""
        if peer.sending.is_open:
            self.counts["given_up"] += peer.sending.close()
            peer.made_room()
        peer.is_ready = False
        node = str(peer.node_id)
        self._end_waiting(peer, partial(_node_gone, node=node, maybe_handled=False))
        self._end_under_way(peer, partial(_node_gone, node=node, maybe_handled=True))
        self.routing.lost(peer.node_id)
        self.member.want_news()

    # Who is there

    def peer(self, name: str) -> Peer | None:
        """See `Post.peer`."""
        if self.member.survey is not self._survey:
            self._look_at_members()
        return self._named_peers.get(name)

    def _look_at_members(self) -> None:
        survey = self.member.survey
        if survey is None or survey is self._survey:
            return
        self._survey = survey
        now = self.member.clock()
        members = {node.node_id for node in living(survey)} - {self.member.node_id}
        self._members = frozenset(members)
        for node_id in members - self.peers.keys():
            gone = self.subjects.gone(self.node_id, node_id)
            peer = Peer(node_id, now, self.subjects.node(node_id), gone)
            self.peers[node_id] = self._named_peers[str(node_id)] = peer
            if self.send_to is not None:
                self.send_to(peer)
        for node_id in self.peers.keys() - members:
            peer = self.peers.pop(node_id)
            self._named_peers.pop(str(node_id), None)
            self.gone(peer)
            self._intake.forget(node_id)
            peer.is_over = True
            peer.has_work.set()
            self.on_gone(node_id)

    # Sending

    def send(self, peer: Peer, item: Item, epoch: int) -> bool:
        """See `Post.send`."""
        assert item.papers is not None, "a message of this node's own"
        reply = item.papers[REPLY]
        named = self.crossing.written(item.key, item.papers[MESSAGE])
        if reply is None:
            envelope = envelope_of(item, named, epoch)
        else:
            left_ms = left_ms_of(item.papers[DEADLINE] - trio.current_time())
            envelope = envelope_of(item, named, epoch, ask=next(self._asks), left_ms=left_ms)
        size = size_of(envelope)
        if not peer.has_room(size):
            return False
        if reply is not None:
            reply.stage = "handling"
            peer.asks[envelope.ask] = item
        assert isinstance(item.cell, Standin), "whoever sends by a ref has one"
        peer.put(envelope, size, item.cell, item.papers, item)
        return True

    def ready_peer(self, name: str) -> Peer | None:
        """See `Post.ready_peer`."""
        if self._task is None or not self._was_up.is_up:
            return None
        if self.member.survey is not self._survey:
            self._look_at_members()
        peer = self._named_peers.get(name)
        if peer is None or not peer.is_ready or not peer.sending.is_open:
            return None
        return peer

    def send_first(self, peer: Peer, standin: Standin, papers: Papers, epoch: int) -> bool:
        """See `Post.send_first`."""
        message, _, reply, deadline, _, context = papers
        if context is not None:
            return self.send(peer, item_of(standin, papers), epoch)
        name, version, body = self.crossing.written(standin.key, message)
        path, shard = standin.path, standin.shard
        size = ENVELOPE_HEAD_BYTES + len(body) + bytes_of(path) + bytes_of(name)
        if not peer.has_room(size):
            return False
        if reply is None:
            told = Envelope(_TELL, path, name, version, body, shard, epoch)
            peer.put(told, size, standin, papers)
            return True
        number, left_ms = next(self._asks), left_ms_of(deadline - reply.asked_at)
        asked = Envelope(_ASK, path, name, version, body, shard, epoch, number, left_ms)
        reply.stage = "handling"
        item = peer.asks[number] = item_of(standin, papers)
        peer.put(asked, size, standin, papers, item)
        return True

    def full_peer(self, name: str) -> Peer | None:
        """Call this for a node whose window has no room for what may wait; None for any other."""
        peer = self._named_peers.get(name)
        if peer is None or not peer.sending.is_open or peer.has_room(ROOM_BYTES, ROOM_ENVELOPES):
            return None
        return peer

    def next_ask(self) -> int:
        """Call this for the number of an ask."""
        return next(self._asks)

    def bounce(self, item: Item) -> None:
        """See `Post.bounce`."""
        assert item.wire is not None, "it came from another node"
        peer = None if item.source is None else self.peers.get(item.source)
        if peer is None or self.member.holding.is_fenced:
            return
        self.counts["moved"] += 1
        moved = self.member.whose(*item.key)
        if peer.hinted != (moved.shard, moved.epoch):
            peer.hinted = moved.shard, moved.epoch
            self._put(peer, system(Hint(moved.shard, moved.owner, moved.epoch)))
        self._put(peer, msgspec.structs.replace(item.wire, kind=EnvelopeKind.MOVED))

    def say(self, node_id: UUID, saying: Saying, *, behind_data: bool = False) -> None:
        """See `Post.say`."""
        peer = self.peers.get(node_id)
        if peer is None or self.member.holding.is_fenced:
            return
        if behind_data:
            self._put(peer, system(saying))
        else:
            self.put_loose(Loose(self.subjects.system(node_id), system(saying), ack_to=node_id))

    def say_all(self, saying: Saying) -> None:
        """Call this to tell every node something."""
        self.put_loose(Loose(self.subjects.everyone, system(saying)))

    def put_loose(self, loose: Loose) -> bool:
        """Call this with what goes to no node's data subject; False when it could not be sent."""
        if not self.is_up or len(self.loose) >= LOOSE_MAX:
            self.counts["not_sent"] += 1
            return False
        self.loose.append(loose)
        self.has_loose.set()
        return True

    def skip(self, subject: str) -> None:
        """Call this for an envelope that could not be sent, where others have to notice that."""
        numbers = self.numbers.setdefault(subject, [0, 0])
        numbers[0], numbers[1] = numbers[0] + 1, numbers[1] + 1

    def _drop_loose(self) -> None:
        while self.loose:
            self.skip(self.loose.popleft().subject)

    def _put(self, peer: Peer, envelope: Envelope, size: int = 0) -> None:
        size = size or size_of(envelope)
        if self.is_up and peer.has_room(size):
            peer.put(envelope, size)
        else:
            self.counts["replies_lost"] += 1

    async def serve_peer(self, peer: Peer) -> None:
        """Call this in a task of its own: sends what waits for a node, for as long as it lives.

        Nobody else numbers frames to it, for they must go in the order of their numbers.
        """
        while not peer.is_over:
            await peer.has_work.wait()
            waiting = peer.take()
            parts = [
                waiting[places.start : places.stop]
                for places in filled([one.size for one in waiting])
            ]
            # All at once: what is taken counts as under way before anybody else looks for room.
            now = self.member.clock()
            numbers = [
                peer.sending.maybe_number(len(part), sum(one.size for one in part), now)
                for part in parts
            ]
            for part, numbered in zip(parts, numbers, strict=True):
                await self._send_part(peer, part, numbered)
            if (asking := peer.sending.maybe_ask(self.member.clock())) is not None:
                await self._send_question(peer, asking)

    async def _send_part(
        self, peer: Peer, part: Sequence[Waiting], numbered: Numbered | None
    ) -> None:
        if numbered is None:
            gone = partial(_node_gone, node=str(peer.node_id), maybe_handled=False)
            for one in part:
                self._end_one(peer, one, gone)
            return
        head = self._head(numbered.sequence, numbered.before, self._ack_to(peer))
        try:
            await self._publish_data(peer, head, [one.envelope for one in part])
        except LinkError:
            for one in part:
                self._end_one(peer, one, partial(_no_link, maybe_handled=False))

    async def _send_question(self, peer: Peer, numbered: Numbered) -> None:
        """Ask how far this node was heard, behind all that it has sent."""
        head = self._head(numbered.sequence, numbered.before, self._ack_to(peer), asks=True)
        try:
            await self._publish_data(peer, head, ())
        except LinkError:
            self.counts["not_sent"] += 1

    async def _publish_data(
        self, peer: Peer, head: FrameHead, envelopes: Sequence[Envelope]
    ) -> None:
        frame = self._keys.seal(peer.subject, write_content(head, envelopes))
        await self.link.publish(peer.subject, frame, reply=peer.gone_subject)

    async def serve_loose(self) -> None:
        """Call this in a task of its own: sends what goes to no node's data subject."""
        while True:
            await self.has_loose.wait()
            self.has_loose = trio.Event()
            while self.loose:
                loose = self.loose.popleft()
                try:
                    await self._publish_loose(loose)
                except LinkError:
                    self.counts["not_sent"] += 1

    async def _publish_loose(self, loose: Loose) -> None:
        numbers = self.numbers.setdefault(loose.subject, [0, 0])
        peer = None if loose.ack_to is None else self.peers.get(loose.ack_to)
        ack = Ack() if peer is None else self._ack_to(peer)
        head = self._head(numbers[0] + 1, numbers[1], ack)
        numbers[0], numbers[1] = numbers[0] + 1, numbers[1] + 1
        content = write_content(head, [loose.envelope])
        frame = self._keys.seal(loose.subject, content)
        await self.link.publish(loose.subject, frame, reply=loose.reply)

    def _head(self, sequence: int, before: int, ack: Ack, *, asks: bool = False) -> FrameHead:
        cluster, node = self.subjects.cluster, self.node_id.bytes
        return FrameHead(cluster, node, sequence, before, self.now_us(), ack, asks)

    def _ack_to(self, peer: Peer) -> Ack:
        hearing = self._intake.hearing(peer.node_id, self._own)
        peer.untold = 0
        return Ack() if hearing is None else hearing.ack()

    def now_us(self) -> int:
        """Call this for the database's time, as far as this node knows it."""
        offset = self.member.offset
        now = self._wall().timestamp() + (0.0 if offset is None else offset.offset_s)
        return int(now * 1e6)

    # What comes

    def hear(self, delivery: Delivery) -> None:
        """Call this, as the link, with what comes."""
        if len(self.inbox) >= INBOX_FRAMES_MAX:
            self.counts["inbox_full"] += 1
            return
        self.inbox.append(delivery)
        self.came.set()

    async def serve_inbox(self) -> None:
        """Call this in a task of its own: reads what comes."""
        while True:
            await self.came.wait()
            self.came = trio.Event()
            while self.inbox:
                left = READ_AT_ONCE
                while self.inbox and left > 0:
                    left -= self.take(self.inbox.popleft())
                await trio.lowlevel.checkpoint()

    def take(self, delivery: Delivery) -> int:
        """Call this with one message of the link; gives how much work it was."""
        if not delivery.data and not delivery.is_nobody:
            return 0  # A node that begins tries whether it may speak here.
        if self.member.holding.is_fenced or self.member.node_id != self.node_id:
            self.counts["fenced"] += 1
            return FRAME_COUNTS_AS
        if delivery.is_nobody:
            self._nobody_heard(delivery.subject)
            return FRAME_COUNTS_AS
        self._look_at_members()
        now_us, at = self.now_us(), self.member.clock()
        arrived = self._intake.take(delivery.subject, delivery.data, now_us=now_us, at=at)
        if isinstance(arrived, Refused):
            self._refused(arrived)
            return FRAME_COUNTS_AS
        peer = self.peers.get(arrived.head.node_id)
        if peer is None:
            return FRAME_COUNTS_AS
        peer.heard_at = at
        settled = peer.sending.acknowledge(arrived.head.ack)
        if settled.delivered or settled.lost:
            self.counts["lost"] += settled.lost
            peer.made_room()
        self.counts["late"] += len(arrived.late)
        is_own = delivery.subject == self._own
        # Of trio's clock, as deadlines are: when the frame was made.
        now = trio.current_time()
        made_at = now - (now_us - arrived.head.at_us) / 1e6
        # Looked at once a frame: while one is delivered nobody else runs.
        tokens: dict[int, Shard | None] = {}
        for envelope in arrived.envelopes:
            kind = envelope.kind
            if kind is _TELL or kind is _ASK:
                self._open_message(peer, envelope, now, made_at, tokens, is_own=is_own)
            else:
                self._open(peer, arrived, envelope)
        if is_own:
            peer.untold += len(arrived.envelopes)
            if peer.untold >= UNTOLD_MAX:
                self.acknowledge(peer)
        return max(FRAME_COUNTS_AS, len(arrived.envelopes))

    def _refused(self, refused: Refused) -> None:
        if refused.reason is RefusedReason.NODE:
            # It may have joined a moment ago.
            self.member.want_news()
        self.name_once(f"frame_{refused.reason}", detail=refused.detail)

    def name_once(self, event: str, **fields: object) -> None:
        """Call this to log a thing that others decide the number of: once in 10 s a kind."""
        now = self.member.clock()
        if now - self._named.get(event, float("-inf")) >= LOG_INTERVAL_S:
            self._named[event] = now
            _log.warning("cluster.link_refused", what=event, **fields)

    def _nobody_heard(self, subject: str) -> None:
        front = f"gr.{self.subjects.cluster}.s.{self.node_id}."
        what, _, whom = subject.removeprefix(front).partition(".")
        if what == "unheard" and whom.isdecimal():
            item = self.service_asks.pop(int(whom), None)
            if item is not None:
                path = "/".join(item.key)
                self.routing.give_up(item, NoOwner(path, None, None))
        elif what == "gone":
            for peer in list(self.peers.values()):
                if str(peer.node_id) == whom:
                    self.gone(peer)

    def _open(self, peer: Peer, arrived: Arrived, envelope: Envelope) -> None:
        match envelope.kind:
            case EnvelopeKind.REPLY:
                self._replied(peer, envelope)
            case EnvelopeKind.REFUSAL:
                self._was_refused(peer, envelope)
            case EnvelopeKind.MOVED:
                self._came_back(peer, envelope)
            case EnvelopeKind.TOPIC:
                self.on_topic(peer.node_id, arrived, envelope)
            case EnvelopeKind.SYSTEM:
                self._said(peer, envelope)

    def _open_message(
        self,
        peer: Peer,
        wire: Envelope,
        now: float,
        made_at: float,
        tokens: dict[int, Shard | None],
        *,
        is_own: bool,
    ) -> None:
        placed = _placed(wire.target, self.member.shards)
        if placed is None or wire.shard not in (placed[1], 0):
            self._bad_body(f"an impossible target in shard {wire.shard}")
            return
        key, shard = placed
        is_ask = wire.kind is _ASK
        cell = token = None
        if is_own:
            if shard not in tokens:
                tokens[shard] = self.member.holding.token_of(shard)
            token = tokens[shard]
            if token is not None and wire.epoch == token.epoch:
                cell = self.routing.cell_now(key, token)
                if cell is not None and not is_ask and self._tell(cell, wire):
                    return
        item = Item(key, shard, wire=wire, source=peer.node_id)
        if is_ask:
            item.deadline = max(now, made_at + wire.left_ms / 1000)
        if cell is not None and token is not None:
            self.routing.put(item, cell, token)
        elif is_own:
            self.routing.route(item)
        elif is_ask:
            self.on_service(item)

    def _tell(self, cell: Cell, wire: Envelope) -> bool:
        """Whether an actor could be told; what cannot be read is `papers_of`'s to answer."""
        try:
            message = self.crossing.read(wire.message, wire.version, wire.body)
        except NotKnown:
            return False
        if isinstance(message, Refused):
            return False
        context = context_of(wire, wire.correlation) if wire.correlation else None
        papers = (message, self.system.next_id(), None, NO_DEADLINE, 0.0, context)
        cell.mailbox.put(papers)
        return True

    def _bad_body(self, detail: str) -> None:
        refused = Refused(RefusedReason.BODY, detail)
        self._intake.refuse(refused)
        self._refused(refused)

    def papers_of(self, item: Item, token: Shard | None, cell: Cell) -> Papers | None:
        """See `Post.papers_of`."""
        wire = item.wire
        assert wire is not None, "it came from another node"
        number = self.system.next_id()
        # Without any it is as one that was told here from outside: its number is its correlation.
        context = context_of(wire, wire.correlation) if wire.correlation else None
        try:
            message = self.crossing.read(wire.message, wire.version, wire.body)
        except NotKnown:
            name, node = f"{wire.message} {wire.version}", str(self.node_id)
            self.name_once("message_unknown", name=name)
            self.refuse(item, UnknownMessage(cell.path, None, name, node))
            return None
        if isinstance(message, Refused):
            self._bad_body(message.detail)
            lost = Undecodable(wire.message, len(wire.body))
            papers = (lost, number, None, NO_DEADLINE, 0.0, context)
            self.system.dead_letters.add(cell, papers, "unhandled", note="it cannot be read")
            error = RemoteError("BadBody", f"{wire.message} cannot be read: {message.detail}")
            self.refuse(item, ActorCrashed(cell.path, error))
            return None
        if wire.kind is not EnvelopeKind.ASK or self._task is None:
            return message, number, None, NO_DEADLINE, 0.0, context
        reply = Relayed(self._task, cell, message, item, token, self._settled)
        self.system.wheel.add(reply)
        return message, number, reply, item.deadline, 0.0, context

    # Answers

    def _settled(self, relayed: Relayed) -> None:
        """An ask of another node was answered, or will not be."""
        item, token = relayed.item, relayed.token
        if relayed.outcome == "timed_out":
            return  # Its asker has its own clock.
        error = relayed.error
        was_begun = not isinstance(error, NoProc) and getattr(error, "begun", True)
        if error is not None and not was_begun and not item.is_again:
            # Its actor went away before its turn had come.
            item.is_again = True
            self.routing.route(item)
        elif token is not None and not self.member.may(token):
            self.counts["stale_replies"] += 1
        elif error is not None:
            self.refuse(item, error)
        else:
            self._reply(item, relayed.value)

    def _reply(self, item: Item, value: object) -> None:
        try:
            body = self.crossing.written_reply(value)
        except (NotRemote, LinkError) as error:
            self.refuse(item, ActorCrashed("/".join(item.key), error))
            return
        self._answer(item, EnvelopeKind.REPLY, body)

    def _answer(self, item: Item, kind: EnvelopeKind, body: bytes) -> None:
        assert item.wire is not None, "it came from another node"
        peer = None if item.source is None else self.peers.get(item.source)
        if peer is not None:
            envelope = Envelope(kind, _REPLY_TARGET, "", 1, body, ask=item.wire.ask)
            self._put(peer, envelope, ENVELOPE_HEAD_BYTES + len(body) + len(_REPLY_TARGET))

    def refuse(self, item: Item, error: AskError) -> None:
        """See `Post.refuse`."""
        assert item.wire is not None, "it came from another node"
        if item.wire.kind is not EnvelopeKind.ASK:
            self.name_once("tell_lost", error=type(error).__name__, name=item.wire.message)
        elif not self.member.holding.is_fenced:
            self._answer(item, EnvelopeKind.REFUSAL, encode_saying(_refusal_of(error)))

    def _replied(self, peer: Peer, envelope: Envelope) -> None:
        item = peer.asks.pop(envelope.ask, None) or self.service_asks.pop(envelope.ask, None)
        if item is None or item.papers is None or (reply := item.papers[REPLY]) is None:
            self.counts["late_replies"] += 1
            return
        value = self.crossing.read_reply(type(item.papers[MESSAGE]), envelope.body)
        if isinstance(value, Refused):
            self._bad_body(value.detail)
            error = RemoteError("BadReply", "its reply cannot be read here")
            reply.fail(ActorCrashed("/".join(item.key), error, type(item.papers[MESSAGE])))
        else:
            reply.give(value)

    def _was_refused(self, peer: Peer, envelope: Envelope) -> None:
        item = peer.asks.pop(envelope.ask, None) or self.service_asks.pop(envelope.ask, None)
        if item is None or item.papers is None or (reply := item.papers[REPLY]) is None:
            return
        refusal = read_body(decode_refusal, envelope)
        if isinstance(refusal, Refused):
            self._bad_body(refusal.detail)
            refusal = Refusal("crashed", "BadRefusal", "it cannot be read here")
        kind = type(item.papers[MESSAGE])
        reply.fail(_error_of(refusal, "/".join(item.key), kind, str(peer.node_id)))

    def _came_back(self, peer: Peer, envelope: Envelope) -> None:
        number = envelope.ask
        item = peer.asks.pop(number, None) if number else self._read_back(envelope)
        if item is not None:
            self.routing.came_back(item, peer.node_id, envelope.epoch)

    def _read_back(self, envelope: Envelope) -> Item | None:
        """A tell that this node has sent, as it was: it kept none of it."""
        kind, _, id_ = envelope.target.partition("/")
        shard = self.routing.shard((kind, id_))
        try:
            message = self.crossing.read(envelope.message, envelope.version, envelope.body)
        except NotKnown:
            return None
        if isinstance(message, Refused):
            return None
        context = context_of(envelope, envelope.correlation)
        papers = (message, self.system.next_id(), None, NO_DEADLINE, 0.0, context)
        item = Item((kind, id_), shard, cell=self.standin(kind, id_), papers=papers)
        item.moves = envelope.moves
        return item

    def _said(self, peer: Peer, envelope: Envelope) -> None:
        saying = read_body(decode_saying, envelope)
        match saying:
            case Refused():
                self._bad_body(saying.detail)
            case Hello():
                self._greeted(peer, saying)
            case Leaving():
                self.gone(peer)
            case Hint():
                self.routing.learn(saying)
            case Barrier():
                self.routing.asked(peer.node_id, saying)
            case BarrierDone():
                self.routing.barrier_done(peer.node_id, saying.shard, saying.number)
            case _:
                self.on_saying(peer.node_id, saying)

    def _greeted(self, peer: Peer, hello: Hello) -> None:
        peer.is_ready = True
        peer.sending.open_again()
        self.routing.look()
        if hello.wants_answer:
            self.say(peer.node_id, Hello(wants_answer=False))

    # Now and then

    async def serve_clock(self) -> None:
        """Call this in a task of its own: acknowledges, asks, greets and forgets in time."""
        while True:
            self.tick()
            await trio.sleep(TICK_S)

    def tick(self) -> None:
        """Call this every 50 ms."""
        now = self.member.clock()
        self._look_at_members()
        for peer in self.peers.values():
            if peer.sending.is_ask_due(now):
                peer.has_work.set()
            hearing = self._intake.hearing(peer.node_id, self._own)
            if hearing is not None and hearing.is_ack_due(now):
                self.acknowledge(peer)
            if not peer.is_ready and now - peer.said_hello_at >= HELLO_S:
                peer.said_hello_at = now
                self.say(peer.node_id, Hello(wants_answer=True))
        if now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            self._sweep()
        if now - self._beacon_at >= BEACON_S:
            self._beacon_at = now
            self.say_all(Beacon(self.last_numbers()))

    def acknowledge(self, peer: Peer) -> None:
        """Call this to have a node told how far it was heard, without anything that carries it."""
        peer.untold = 0
        hint = Beacon({})
        self.put_loose(Loose(self.subjects.system(peer.node_id), system(hint), ack_to=peer.node_id))

    def _sweep(self) -> None:
        for peer in self.peers.values():
            _forget_settled(peer.asks)
        _forget_settled(self.service_asks)


@lru_cache(_PLACED_MAX)
def _placed(target: str, shards: int) -> tuple[tuple[str, str], int] | None:
    """The kind, id and shard of an actor; None for a target that none can have."""
    kind, slash, id_ = target.partition("/")
    return ((kind, id_), shard_of(kind, id_, shards)) if slash and kind else None


def _forget_settled(asks: dict[int, Item]) -> None:
    over = [n for n, one in asks.items() if one.papers is None or not _is_open(one.papers)]
    for number in over:
        del asks[number]


def _is_open(papers: Papers) -> bool:
    reply = papers[REPLY]
    return reply is not None and reply.task is not None


def left_ms_of(left_s: float) -> int:
    """Call this for what is told of how long an ask may still take, in milliseconds."""
    return int(min(max(0.0, left_s) * 1000, LEFT_MS_MAX))


def item_of(standin: Standin, papers: Papers) -> Item:
    """Call this for a message that was sent without one, when it comes to nothing."""
    return Item(standin.key, standin.shard, cell=standin, papers=papers)


def bytes_of(text: str) -> int:
    """Call this for the bytes of a text, or more: no other text than ASCII is worth counting."""
    return len(text) if text.isascii() else len(text) * UTF8_BYTES_MAX


def size_of(envelope: Envelope) -> int:
    """Call this for the bytes that an envelope takes of a frame, or a few more."""
    texts = (
        f"{envelope.target}{envelope.message}{envelope.correlation}{envelope.traceparent}"
        f"{envelope.sender}{envelope.user}{envelope.tenant}"
    )
    return ENVELOPE_HEAD_BYTES + len(envelope.body) + bytes_of(texts)


def system(saying: Saying) -> Envelope:
    """Call this for the envelope of a saying."""
    return Envelope(EnvelopeKind.SYSTEM, "node", "", 1, encode_saying(saying))


def _no_link(item: Item, *, maybe_handled: bool) -> AskError:
    return NoLink("/".join(item.key), _kind(item), maybe_handled=maybe_handled)


def _node_gone(item: Item, *, node: str, maybe_handled: bool) -> AskError:
    return NodeGone("/".join(item.key), _kind(item), node, maybe_handled=maybe_handled)


def _kind(item: Item) -> type | None:
    return None if item.papers is None else type(item.papers[MESSAGE])


def _refusal_of(error: AskError) -> Refusal:
    """What another node is told of the end of its ask."""
    match error:
        case ActorCrashed():
            cause = error.error
            return Refusal("crashed", class_name(type(cause)), str(cause)[:REMOTE_TEXT_MAX])
        case UnknownMessage():
            return Refusal("unknown_message", error.name[:256])
        case NoOwner():
            return Refusal("no_owner")
        case PeerOverloaded():
            return Refusal("overloaded", "", error.node[:256])
        case NoProc():
            return Refusal("no_proc", "", (error.because or "")[:REMOTE_TEXT_MAX])
        case UnhandledMessage():
            return Refusal("unhandled")
        case ActorExited():
            return Refusal("exited", class_name(type(error.exit)), error.exit.because or "")
        case _:
            return Refusal("crashed", type(error).__name__, str(error)[:REMOTE_TEXT_MAX])


def _error_of(refusal: Refusal, path: str, kind: type, node: str) -> AskError:
    """What the asker is told of a refusal."""
    match refusal.code:
        case "unknown_message":
            return UnknownMessage(path, kind, refusal.kind, node)
        case "no_owner":
            return NoOwner(path, kind, None)
        case "overloaded":
            return PeerOverloaded(path, kind, node)
        case "no_proc":
            return NoProc(path, kind, refusal.text or f"on node {node}")
        case "unhandled":
            return UnhandledMessage(path, kind)
        case "exited":
            return ActorExited(path, Shutdown(because=refusal.text or refusal.kind), kind)
        case _:
            return ActorCrashed(path, RemoteError(refusal.kind, refusal.text), kind)
