"""What a node hears of others, and what it answers: frames in.

Rule 1: a node whose leases are over delivers, answers and starts nothing; its clock is looked at
        before anything that came is opened.
Rule 2: whatever comes, the reader goes on: it is dropped, counted and named once in 10 s.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from actors.cluster.link import (
    Arrived,
    Delivery,
    Envelope,
    EnvelopeKind,
    LinkError,
    NotRemote,
    Refused,
    RefusedReason,
    read_body,
)
from actors.cluster.link.crossing import NotKnown
from actors.cluster.link.sayings import (
    Barrier,
    BarrierDone,
    Hello,
    Hint,
    Leaving,
    Refusal,
    decode_refusal,
    decode_saying,
    encode_saying,
)
from actors.cluster.reaching.peer import Item, Peer
from actors.cluster.reaching.routing import context_of
from actors.cluster.reaching.talking.speaking import Speaking
from actors.cluster.reaching.talking.words import (
    ENVELOPE_HEAD_BYTES,
    FRAME_COUNTS_AS,
    INBOX_FRAMES_MAX,
    LOG_INTERVAL_S,
    READ_AT_ONCE,
    REPLY_TARGET,
    UNTOLD_MAX,
    Undecodable,
    error_of,
    placed_at,
    refusal_of,
    system,
)
from actors.cluster.reaching.words import (
    NoOwner,
    RemoteError,
    UnknownMessage,
)
from actors.persistence.words import Shard
from actors.runtime import (
    ActorCrashed,
    AskError,
    Log,
    NoProc,
)
from actors.runtime.delivery.envelope import (
    MESSAGE,
    NO_DEADLINE,
    REPLY,
    Reply,
)
from actors.runtime.delivery.envelope import Envelope as Papers
from actors.runtime.life.cell import Cell

_log = Log("actors.cluster")


_TELL, _ASK = EnvelopeKind.TELL, EnvelopeKind.ASK


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


class Hearing(Speaking):
    """What comes from the others, read and put where it goes."""

    # Frames

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

    # Messages

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
        placed = placed_at(wire.target, self.member.shards)
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

    # Answers to others

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
            envelope = Envelope(kind, REPLY_TARGET, "", 1, body, ask=item.wire.ask)
            self._put(peer, envelope, ENVELOPE_HEAD_BYTES + len(body) + len(REPLY_TARGET))

    def refuse(self, item: Item, error: AskError) -> None:
        """See `Post.refuse`."""
        assert item.wire is not None, "it came from another node"
        if item.wire.kind is not EnvelopeKind.ASK:
            self.name_once("tell_lost", error=type(error).__name__, name=item.wire.message)
        elif not self.member.holding.is_fenced:
            self._answer(item, EnvelopeKind.REFUSAL, encode_saying(refusal_of(error)))

    # What others answer and say

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
        reply.fail(error_of(refusal, "/".join(item.key), kind, str(peer.node_id)))

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
