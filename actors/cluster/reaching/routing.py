"""Where a message goes: to an actor here, to the node that owns it, or nowhere until that is known.

Rule 1: nothing is delivered, sent on or answered by a node whose leases are over.
Rule 2: of one sender and one actor nothing overtakes: what comes for a shard that is between two
        owners waits behind what waits already, and behind what the former owner sends back.
Rule 3: what was sent back goes to an owner of a later epoch, once; sent back again it ends.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import count
from typing import Final, Protocol
from uuid import UUID

from actors.cluster.holding import Moved
from actors.cluster.link.sayings import Barrier, BarrierDone, Hint, Saying
from actors.cluster.link.words import (
    NAME_LENGTH_MAX,
    TRACE_LENGTH_MAX,
    Envelope,
    EnvelopeKind,
    NoLink,
)
from actors.cluster.member import Member
from actors.cluster.placement import shard_of
from actors.cluster.reaching.hosting import Elsewhere, Host, StartSoon, UnknownKind
from actors.cluster.reaching.peer import Item, Peer
from actors.cluster.reaching.ref import Standin
from actors.cluster.reaching.words import NodeGone, NoOwner, PeerOverloaded
from actors.persistence.words import Shard
from actors.runtime import ActorCrashed, AnyRef, AskError, DeadlockError, NoProc
from actors.runtime.delivery.envelope import MESSAGE, REPLY, Context
from actors.runtime.delivery.envelope import Envelope as Papers
from actors.runtime.delivery.ref import refuse_ring
from actors.runtime.life.cell import Cell

# CLU-12. A hand-over takes a third of a second; who sends more than that meanwhile is told to wait.
HELD_PER_SHARD_MAX: Final = 1000
# A lease, after which somebody else may have the shard; longer than a hand-over may take.
HELD_S_MAX: Final = 6.0
# Of an actor that is being started.
STARTING_PER_ACTOR_MAX: Final = 1000
# A node that does not answer a barrier is stopped or gone; then order is nobody's any more.
BARRIER_S_MAX: Final = 2.0
# One for each shard and node, and some; beyond, order is not kept.
BARRIERS_OWED_MAX: Final = 1024


class Post(Protocol):
    """The link actor's half, as far as messages are sent by it."""

    @property
    def is_up(self) -> bool:
        """Whether there is a link at all."""

    def peer(self, name: str) -> Peer | None:
        """A node that lives, as far as is known here, by its id as text."""

    def send(self, peer: Peer, item: Item, epoch: int) -> bool:
        """Send a message of this node's own; False when there is no room.

        Raises `NotRemote` and `MessageTooLarge`.
        """

    def ready_peer(self, name: str) -> Peer | None:
        """A node that may be sent something now, by its id as text."""

    def send_first(self, peer: Peer, standin: Standin, papers: Papers, epoch: int) -> bool:
        """As `send`, for a message that was never sent before."""

    def bounce(self, item: Item) -> None:
        """Send a message back to the node that it came from."""

    def say(self, node_id: UUID, saying: Saying, *, behind_data: bool = False) -> None:
        """Tell a node something."""

    def papers_of(self, item: Item, token: Shard, cell: Cell) -> Papers | None:
        """Read a message of another node; None when that was answered already."""

    def refuse(self, item: Item, error: AskError) -> None:
        """Tell the node that a message came from why it will not be handled."""


class Held:
    """What waits for a shard that is between two owners.

    `bounced` was sent back by the former one, `behind` came since. Both go on once an owner of an
    epoch after `after` is known and the former one has answered the barrier.
    """

    def __init__(self, after: int, since: float) -> None:
        self.after, self.since = after, since
        self.bounced: list[Item] = []
        self.behind: list[Item] = []
        self.barrier: tuple[UUID, int, float] | None = None

    def __repr__(self) -> str:
        return f"<Held: {len(self)} behind epoch {self.after}>"

    def __len__(self) -> int:
        return len(self.bounced) + len(self.behind)


class Routing:
    """The roads to all actors of a cluster. Belongs to the trio thread; nothing here waits."""

    def __init__(self, member: Member, host: Host, post: Post) -> None:
        self.member, self._host, self._post = member, host, post
        self._held: dict[int, Held] = {}
        self._starting: dict[tuple[str, str], list[Item]] = {}
        self._barriers = count(1)
        # By shard: to which owner of which epoch the newest own message went. One for another
        # owner, or epoch, must not overtake what that one may still send back.
        self._sent_to: dict[int, Moved] = {}
        # Barriers of other nodes that have messages waiting here.
        self._owed: list[tuple[UUID, Barrier]] = []
        # Runs a start beside others; None while the link's actor does not run.
        self.start_soon: StartSoon | None = None
        self.counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        held = sum(len(one) for one in self._held.values())
        return f"<Routing: {held} messages wait in {len(self._held)} shards>"

    # Of this node's own senders

    def resident_of(self, standin: Standin) -> AnyRef | None:
        """See `Roads.resident_of`."""
        shard = standin.shard
        if shard in self._held or shard in self._sent_to or standin.key in self._starting:
            return None
        return self._host.resident_now(standin.key)

    def take(self, standin: Standin, papers: Papers) -> None:
        """See `Roads.take`.

        Nearly all go to the owner that was sent something before, of a shard for which nothing
        waits: those go without what the others need. The map keeps one and the same `Moved` for
        as long as nothing newer was heard.
        """
        shard = standin.shard
        if (known := self._sent_to.get(shard)) is not None:
            member = self.member
            is_same = known is member.map.of(shard) and shard not in member.holding.epochs
            if is_same and shard not in self._held:
                peer = self._post.ready_peer(known.owner)
                if peer is not None and self._post.send_first(peer, standin, papers, known.epoch):
                    return
        self.route(Item(standin.key, shard, cell=standin, papers=papers))

    def route(self, item: Item) -> None:
        """Call this with a message whose place in the order has come."""
        if item.source is not None:
            self._route_foreign(item)
        elif (held := self._held.get(item.shard)) is not None:
            self._wait_behind(held, item)
        else:
            self._route_own(item)

    def _route_own(self, item: Item) -> None:
        reply = item.papers[REPLY] if item.papers is not None else None
        if reply is not None and reply.task is None:
            return  # Its asker waits no more.
        member, holding, shard = self.member, self.member.holding, item.shard
        epoch = holding.epochs.get(shard)
        if epoch is not None:
            token = holding.token_of(shard)
            if token is not None:
                if shard not in self._sent_to or not self._waits_for_former(item, epoch):
                    self._deliver(item, token)
                return
            if not holding.is_fenced:
                self._hold(item, epoch)  # It is being handed over, by this node.
                return
        moved = member.map.of(shard)
        if not moved.owner:
            self.give_up(item, NoOwner(_path(item), _kind(item), shard))
        elif moved.owner == holding.owner:
            self._hold(item, moved.epoch - 1)
        elif moved.epoch <= item.after:
            self._hold(item, item.after)
        else:
            self._send(item, moved)

    def _send(self, item: Item, moved: Moved) -> None:
        peer = self._post.peer(moved.owner)
        if not self._post.is_up:
            self.give_up(item, NoLink(_path(item), _kind(item)))
        elif self._is_gone(moved.owner, peer):
            self.member.want_news()
            gone = NodeGone(_path(item), _kind(item), moved.owner, maybe_handled=False)
            self.give_up(item, gone)
        elif peer is None or not peer.is_ready:
            # It has joined, or the link is back, a moment ago: it is greeted first.
            self._hold(item, moved.epoch - 1)
        else:
            sent_to = self._sent_to.get(item.shard)
            if sent_to is not moved:
                if sent_to not in (None, moved) and self._waits_for_former(item, moved.epoch):
                    return
                self._sent_to[item.shard] = moved
            if not self._post.send(peer, item, moved.epoch):
                self.give_up(item, PeerOverloaded(_path(item), _kind(item), moved.owner))

    def _waits_for_former(self, item: Item, epoch: int) -> bool:
        """Hold a message until the former owner of its shard has sent back what it will not do.

        False when there is none to wait for: then nothing of this node's is under way there.
        """
        peer = self._post.peer(self._sent_to.pop(item.shard).owner)
        if peer is None or not peer.is_ready or not peer.sending.is_open:
            return False
        self._hold(item, epoch - 1)
        self._ask_former(item.shard, self._held[item.shard], peer.node_id)
        return True

    def _ask_former(self, shard: int, held: Held, node_id: UUID) -> None:
        """What went to that node before comes back before its answer."""
        held.barrier = node_id, next(self._barriers), self.member.clock()
        self._post.say(node_id, Barrier(shard, held.barrier[1]), behind_data=True)
        sent_to = self._sent_to.get(shard)
        if sent_to is not None and sent_to.owner == str(node_id):
            del self._sent_to[shard]

    def _is_gone(self, name: str, peer: Peer | None) -> bool:
        """Whether a node is known to be gone; one that is not known may have joined just now."""
        if peer is not None:
            return not peer.sending.is_open
        survey = self.member.survey
        return survey is not None and UUID(name) in survey.nodes

    # Of other nodes

    def cell_now(self, key: tuple[str, str], token: Shard) -> Cell | None:
        """Call this for the actor that gets what comes in the epoch of a token, at once.

        None when something waits before it, or the actor has to be started: `route` knows more.
        """
        if token.id in self._held or key in self._starting:
            return None
        return self._host.resident(key, token)

    def _route_foreign(self, item: Item) -> None:
        holding, wire = self.member.holding, item.wire
        assert wire is not None, "it came from another node"
        token = holding.token_of(item.shard)
        if token is not None and token.epoch == wire.epoch:
            held = self._held.get(item.shard)
            if held is None:
                self._deliver(item, token)
            else:
                self._wait_behind(held, item)
            return
        if holding.is_fenced:
            self.counts["fenced"] += 1
            return
        held_epoch = holding.epochs.get(item.shard, 0)
        known = self.member.map.of(item.shard)
        is_mine = known.owner == self.member.holding.owner and known.epoch == wire.epoch
        if wire.epoch > max(held_epoch, known.epoch) or (is_mine and not held_epoch):
            # It was sent by who knows more: what was given to this node is known here soon.
            self._hold(item, wire.epoch - 1)
        elif (held := self._held.get(item.shard)) is not None and _waits(held, item.source):
            # What that node sent before is not sent back yet.
            self._wait_behind(held, item)
        else:
            self._post.bounce(item)

    # Here

    def _deliver(self, item: Item, token: Shard) -> None:
        starting = self._starting.get(item.key)
        if starting is not None:
            if len(starting) >= STARTING_PER_ACTOR_MAX:
                self.give_up(item, PeerOverloaded(_path(item), _kind(item), "the actor's start"))
            else:
                starting.append(item)
            return
        cell = self._host.resident(item.key, token)
        if cell is not None:
            self.put(item, cell, token)
        elif not self._host.knows(item.key[0]):
            because = f"node {self.member.node_id} has no actors of this kind"
            self.give_up(item, NoProc(_path(item), _kind(item), because))
        else:
            self._starting[item.key] = [item]
            if self.start_soon is not None:
                self.start_soon(partial(self._start, item.key))

    def start_all(self) -> None:
        """Call this when `start_soon` is there again: what waited for it is started."""
        if self.start_soon is not None:
            for key in self._starting:
                self.start_soon(partial(self._start, key))

    async def _start(self, key: tuple[str, str]) -> None:
        failure: AskError | None = None
        try:
            await self._host.reach(*key)
        except (Elsewhere, UnknownKind):
            pass  # Each is routed anew below, and finds out.
        except AskError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever a start of the user's code raises
            failure = ActorCrashed("/".join(key), error)
        for item in self._starting.pop(key, ()):
            if failure is not None:
                self.give_up(item, failure)
            else:
                self._deliver_started(item)
        self._answer_owed()

    def _deliver_started(self, item: Item) -> None:
        """Ahead of what is held since: its turn had come before."""
        token, wire = self.member.holding.token_of(item.shard), item.wire
        if token is None or (wire is not None and wire.epoch != token.epoch):
            self._route_late(item)
        else:
            self._deliver(item, token)

    def put(self, item: Item, cell: Cell, token: Shard) -> None:
        """Call this with what `cell_now` gave: reads a message and puts it into the mailbox."""
        papers = item.papers
        if item.source is not None:
            papers = self._post.papers_of(item, token, cell)
        if papers is None:
            return
        reply = papers[REPLY]
        if reply is None:
            cell.mailbox.put(papers)
            return
        if reply.task is None:
            return
        if cell.mailbox.closed:
            reply.fail(cell.no_proc(papers[MESSAGE]))
            return
        if reply.asker is not None:
            try:
                refuse_ring(reply.asker, cell, type(papers[MESSAGE]))
            except DeadlockError as error:
                reply.fail(error)
                return
            reply.asker.waiting_on = cell
        reply.cell, reply.stage = cell, "mailbox"
        cell.mailbox.offer(papers, None)

    # Waiting

    def _hold(self, item: Item, after: int) -> None:
        held = self._held.get(item.shard)
        if held is None:
            held = self._held[item.shard] = Held(after, self.member.clock())
        held.after = max(held.after, after)
        self.member.want_news()
        self._wait_behind(held, item)

    def _wait_behind(self, held: Held, item: Item, *, was_bounced: bool = False) -> None:
        if len(held) >= HELD_PER_SHARD_MAX:
            whom = f"the next owner of shard {item.shard}"
            self.give_up(item, PeerOverloaded(_path(item), _kind(item), whom))
            return
        (held.bounced if was_bounced else held.behind).append(item)

    def came_back(self, item: Item, node_id: UUID, epoch: int) -> None:
        """Call this with an own message that the owner of an epoch has sent back."""
        if item.moves:
            self.give_up(item, NoOwner(_path(item), _kind(item), item.shard))
            return
        item.moves, item.after = 1, epoch
        held = self._held.get(item.shard)
        if held is None:
            held = self._held[item.shard] = Held(epoch, self.member.clock())
        if held.barrier is None:
            self._ask_former(item.shard, held, node_id)
        held.after = max(held.after, epoch)
        self.member.want_news()
        self._wait_behind(held, item, was_bounced=True)

    def asked(self, node_id: UUID, barrier: Barrier) -> None:
        """Call this with a barrier of another node: answered when nothing of it waits here."""
        if len(self._owed) < BARRIERS_OWED_MAX and self._has_waiting(node_id, barrier.shard):
            self._owed.append((node_id, barrier))
        else:
            self._answer(node_id, barrier)

    def _answer(self, node_id: UUID, barrier: Barrier) -> None:
        self._post.say(node_id, BarrierDone(barrier.shard, barrier.number), behind_data=True)

    def _answer_owed(self) -> None:
        owed, self._owed = self._owed, []
        for node_id, barrier in owed:
            self.asked(node_id, barrier)

    def _has_waiting(self, node_id: UUID, shard: int) -> bool:
        held = self._held.get(shard)
        return (held is not None and _waits(held, node_id)) or any(
            item.shard == shard and item.source == node_id
            for items in self._starting.values()
            for item in items
        )

    def barrier_done(self, node_id: UUID, shard: int, number: int) -> None:
        """Call this with the answer to a barrier."""
        held = self._held.get(shard)
        if held is not None and held.barrier is not None and held.barrier[:2] == (node_id, number):
            held.barrier = None
            self._go_on(shard, held)

    def learn(self, hint: Hint) -> None:
        """Call this with what another node says of a shard."""
        is_new = self.member.map.learn(Moved(hint.shard, hint.owner, hint.epoch))
        if is_new and hint.owner == self.member.holding.owner:
            self.member.want_news()
        held = self._held.get(hint.shard)
        if held is None:
            return
        if hint.is_kept and hint.epoch == held.after:
            held.after -= 1
            for item in (*held.bounced, *held.behind):
                item.after = min(item.after, held.after)
        self._go_on(hint.shard, held)

    def look(self) -> None:
        """Call this now and then, and when what is owned has changed: who can go on goes on."""
        now = self.member.clock()
        for shard, held in list(self._held.items()):
            if self._held.get(shard) is not held:
                continue
            if held.barrier is not None and now - held.barrier[2] > BARRIER_S_MAX:
                held.barrier = None
            if now - held.since > HELD_S_MAX:
                del self._held[shard]
                for item in (*held.bounced, *held.behind):
                    self.give_up(item, NoOwner(_path(item), _kind(item), shard))
            else:
                self._go_on(shard, held)
        if self._held:
            self.member.want_news()
        self._answer_owed()

    def _go_on(self, shard: int, held: Held) -> None:
        if held.barrier is not None or not self._has_owner(shard, held.after):
            return
        # To look for its owner may have shown that a node is gone, and let them go on already.
        if self._held.get(shard) is not held:
            return
        del self._held[shard]
        for item in (*held.bounced, *held.behind):
            self._route_late(item)
        self._answer_owed()

    def _has_owner(self, shard: int, after: int) -> bool:
        """Whether an owner of a later epoch is there, and can be sent something."""
        token = self.member.holding.token_of(shard)
        if token is not None:
            return token.epoch > after
        known = self.member.map.of(shard)
        if known.epoch <= after or known.owner in ("", self.member.holding.owner):
            return False
        peer = self._post.peer(known.owner)
        return self._is_gone(known.owner, peer) or (peer is not None and peer.is_ready)

    def _route_late(self, item: Item) -> None:
        """As `route`, when its caller is not there any more to get an error."""
        try:
            self.route(item)
        except AskError as error:
            self.give_up(item, error)

    def lost(self, node_id: UUID) -> None:
        """Call this when a node is gone: it answers no barrier."""
        for held in self._held.values():
            if held.barrier is not None and held.barrier[0] == node_id:
                held.barrier = None
        self.look()

    # What comes to nothing

    def give_up(self, item: Item, error: AskError) -> None:
        """Call this with a message that will not be handled, and why."""
        self.counts[type(error).__name__] += 1
        if item.source is not None:
            self._post.refuse(item, error)
        elif item.papers is not None and isinstance(item.cell, Standin):
            item.cell.give_up(item.papers, error)

    def shard(self, key: tuple[str, str]) -> int:
        """Call this for the shard of an actor."""
        return shard_of(*key, self.member.shards)


def _waits(held: Held, source: UUID | None) -> bool:
    return any(item.source == source for item in held.behind)


def _path(item: Item) -> str:
    return "/".join(item.key)


def _kind(item: Item) -> type | None:
    return None if item.papers is None else type(item.papers[MESSAGE])


def context_of(envelope: Envelope, correlation: str) -> Context:
    """Call this for where a message of another node comes from."""
    return Context(
        correlation,
        None,
        envelope.traceparent or None,
        envelope.sender or None,
        envelope.user or None,
        envelope.tenant or None,
    )


def envelope_of(
    item: Item, named: tuple[str, int, bytes], epoch: int, *, ask: int = 0, left_ms: int = 0
) -> Envelope:
    """Call this for what travels of an own message; `ask` and `left_ms` are for asks."""
    assert item.papers is not None, "a message of this node's own"
    _, _, reply, _, _, context = item.papers
    name, version, body = named
    kind = EnvelopeKind.TELL if reply is None else EnvelopeKind.ASK
    path, shard = _path(item), item.shard
    if context is None:
        return Envelope(
            kind, path, name, version, body, shard, epoch, ask, left_ms, moves=item.moves
        )
    return Envelope(
        kind, path, name, version, body, shard, epoch, ask, left_ms,
        correlation=_text(context.correlation_id, NAME_LENGTH_MAX),
        traceparent=_text(context.traceparent, TRACE_LENGTH_MAX),
        sender=_text(context.sender, TRACE_LENGTH_MAX),
        user=_text(context.user_id, TRACE_LENGTH_MAX),
        tenant=_text(context.tenant, TRACE_LENGTH_MAX),
        moves=item.moves,
    )  # fmt: skip


def _text(text: str | None, length_max: int) -> str:
    """What a frame can hold of a text: names that trace a message must not keep it from going."""
    if not text:
        return ""
    if text.isascii():
        return text[:length_max]
    return text[:length_max].encode(errors="replace").decode()
