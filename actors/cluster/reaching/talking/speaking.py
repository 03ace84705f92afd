"""What a node says to others, and who of them is there: frames out.

Rule 1: nobody but its own task numbers frames to a node, for they must go in that order.
Rule 2: an ask that was sent ends: by its reply, by a refusal, with its peer, or with the link.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import count
from uuid import UUID

import trio

from actors.cluster.link import (
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
    Numbered,
    RefusedReason,
    Subjects,
    filled,
    write_content,
)
from actors.cluster.link.crossing import Crossing
from actors.cluster.link.sayings import (
    Beacon,
    Hello,
    Saying,
)
from actors.cluster.member import Member
from actors.cluster.membership import living
from actors.cluster.reaching.peer import Item, Peer, Waiting
from actors.cluster.reaching.ref import Standin
from actors.cluster.reaching.routing import Routing, envelope_of
from actors.cluster.reaching.talking.words import (
    ENVELOPE_HEAD_BYTES,
    LOOSE_AT_ONCE,
    LOOSE_MAX,
    ROOM_BYTES,
    ROOM_ENVELOPES,
    Loose,
    bytes_of,
    item_of,
    left_ms_of,
    no_link,
    node_gone,
    size_of,
    system,
)
from actors.runtime import (
    AskError,
)
from actors.runtime.delivery.envelope import (
    DEADLINE,
    MESSAGE,
    REPLY,
)
from actors.runtime.delivery.envelope import Envelope as Papers
from actors.runtime.life.cell import Home

_TELL, _ASK = EnvelopeKind.TELL, EnvelopeKind.ASK


class Speaking:
    """Who is there, and what goes to them. `hearing.py` and `talk.py` stand upon it."""

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

    def full_peer(self, name: str) -> Peer | None:
        """Call this for a node whose window has no room for what may wait; None for any other."""
        peer = self._named_peers.get(name)
        if peer is None or not peer.sending.is_open or peer.has_room(ROOM_BYTES, ROOM_ENVELOPES):
            return None
        return peer

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

    # Messages

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

    def next_ask(self) -> int:
        """Call this for the number of an ask."""
        return next(self._asks)

    # Sayings, and what goes to no node alone

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

    def acknowledge(self, peer: Peer) -> None:
        """Call this to have a node told how far it was heard, without anything that carries it."""
        peer.untold = 0
        hint = Beacon({})
        self.put_loose(Loose(self.subjects.system(peer.node_id), system(hint), ack_to=peer.node_id))

    # Frames

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
            gone = partial(node_gone, node=str(peer.node_id), maybe_handled=False)
            for one in part:
                self._end_one(peer, one, gone)
            return
        head = self._head(numbered.sequence, numbered.before, self._ack_to(peer))
        try:
            await self._publish_data(peer, head, [one.envelope for one in part])
        except LinkError:
            for one in part:
                self._end_one(peer, one, partial(no_link, maybe_handled=False))

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
                for _ in range(LOOSE_AT_ONCE):
                    # While one waits for room all may be dropped.
                    if self.loose:
                        await self._send_loose(self.loose.popleft())
                await trio.lowlevel.checkpoint()

    async def _send_loose(self, loose: Loose) -> None:
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

    # Ends

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
            self._end_waiting(peer, partial(no_link, maybe_handled=False))
            self._end_under_way(peer, partial(no_link, maybe_handled=True))
        for number in list(self.service_asks):
            item = self.service_asks.pop(number)
            self.routing.give_up(item, no_link(item, maybe_handled=True))

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
        self._end_waiting(peer, partial(node_gone, node=node, maybe_handled=False))
        self._end_under_way(peer, partial(node_gone, node=node, maybe_handled=True))
        self.routing.lost(peer.node_id)
        self.member.want_news()
