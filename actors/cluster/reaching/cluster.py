"""The cluster as a program sees it: refs to all its actors, topics, services, and its link.

    cluster = Cluster(system, member, host, link, name="greenroom", keys=keys, wall=clock.now)
    total = await cluster.ref("order", "17").ask(Total())

Made once for a process. `LinkActor`, a child of the tree, serves it; while none runs, other nodes
are not reached, and actors that live here are as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Never, TypeVar, overload
from uuid import UUID
from weakref import WeakValueDictionary

import trio

from actors.cluster.holding import Moved
from actors.cluster.link import (
    TARGET_BYTES_MAX,
    FrameKeys,
    Link,
    LinkMisuse,
    LinkSubscription,
    NoLink,
    Subjects,
)
from actors.cluster.link.crossing import Crossing
from actors.cluster.link.sayings import (
    Beacon,
    Hint,
    Leaving,
    Present,
    PresentDigest,
    PresentSet,
    Probe,
    Probed,
    Saying,
    WantPresent,
)
from actors.cluster.member import Member
from actors.cluster.membership import LinkTold
from actors.cluster.reaching.everyone.presence import ClusterPresence
from actors.cluster.reaching.everyone.topics import (
    Anyone,
    ClusterTopics,
    Hear,
    Hearing,
    Serve,
    Services,
)
from actors.cluster.reaching.everyone.trips import Trips
from actors.cluster.reaching.hosting import Host
from actors.cluster.reaching.peer import Peer
from actors.cluster.reaching.ref import ClusterRef, Standin
from actors.cluster.reaching.routing import Routing
from actors.cluster.reaching.talking import SILENT_S_MAX, TICK_S, Talk
from actors.cluster.reaching.watching import Watches
from actors.cluster.words import TRIPS_MAX, LinkState, NodeState
from actors.runtime import Actor, AnyRef, Exit, Log
from actors.runtime.life.cell import Home
from actors.runtime.life.hooks import AnyHooks, Hooks

M = TypeVar("M")

# Subscriptions of a link that hangs are left to its adapter, which ends with the process.
FAREWELL_S_MAX = 1.0
# Of a node that asks every 2 s, and may have been stopped for some: then it is not lost yet.
UNHEARD_S_MAX = 10.0

_log = Log("actors.cluster")


@dataclass(frozen=True, slots=True)
class PeerFigures:
    """How it stands with one other node; counts are envelopes since that node was met.

    `round_trip_s` is the last one that was measured, every 2 s; None before the first.
    """

    node_id: UUID
    is_ready: bool
    waiting: int
    under_way: int
    bytes_under_way: int
    delivered: int
    lost: int
    asks: int
    round_trip_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClusterFigures:
    """How it stands with the link; `refused` by reason, `ended` by how messages came to nothing."""

    is_up: bool
    peers: tuple[PeerFigures, ...]
    refused: Mapping[str, int]
    ended: Mapping[str, int]
    counts: Mapping[str, int]


class Cluster:
    """All actors of a cluster, from one of its nodes. Belongs to the trio thread."""

    def __init__(
        self,
        system: Home,
        member: Member,
        host: Host,
        link: Link,
        *,
        name: str,
        keys: FrameKeys,
        wall: Callable[[], datetime],
    ) -> None:
        self.member, self.host, self._link, self._system = member, host, link, system
        self._refs: WeakValueDictionary[tuple[str, str], ClusterRef[Never]] = WeakValueDictionary()
        crossing = Crossing(self._any_ref)
        self._talk = Talk(system, member, link, Subjects(name), keys, crossing, wall)
        self._routing = Routing(member, host, self._talk)
        self._talk.routing, self._talk.standin = self._routing, self._standin
        # As `Roads`: each message passes here, so it is no call more.
        self.resident_of, self.take = self._routing.resident_of, self._routing.take
        self._watches = Watches(member, host, self._talk.say, self._standin)
        self._topics = ClusterTopics(self._talk, link)
        self._services = Services(self._talk, link)
        # Who is present on which node, for whoever shows it.
        self.presence = ClusterPresence(self._talk)
        self._trips = Trips(self._talk)
        self._talk.on_link = self._link_changed
        self._talk.on_saying = self._said
        self._talk.on_gone = self._gone
        member.moved_watchers.append(self._moved)
        self._subscriptions: list[LinkSubscription] = []
        # As which node, and what beats tell of its link.
        self._told = UUID(int=0), LinkTold()

    def __repr__(self) -> str:
        return f"<Cluster: {self._talk!r}, {self._routing!r}>"

    # Actors

    @overload
    def ref(self, kind: str, id_: str, actor: type[Hooks[M]]) -> ClusterRef[M]: ...
    @overload
    def ref(self, kind: str, id_: str, actor: None = None) -> ClusterRef[Never]: ...
    def ref(
        self, kind: str, id_: str, actor: type[AnyHooks] | None = None
    ) -> ClusterRef[Never] | ClusterRef[M]:
        """Call this for the ref of an actor, wherever it lives; nothing is started by it.

        `actor`, the class of that kind, says which messages it takes. Raises `LinkMisuse` for a
        kind or id that no frame can hold: empty, with a `/` in the kind, or over 1024 characters
        together.
        """
        found = self._refs.get((kind, id_))
        if found is None:
            _check_target(kind, id_)
            shard = self._routing.shard((kind, id_))
            standin = Standin(self._system, self, (kind, id_), shard)
            found = ClusterRef(standin)
            standin.ref = found
            self._refs[kind, id_] = found
        return found

    def _any_ref(self, kind: str, id_: str) -> AnyRef:
        return self.ref(kind, id_)

    def _standin(self, kind: str, id_: str) -> Standin:
        standin = self.ref(kind, id_)._cell
        assert isinstance(standin, Standin)
        return standin

    # As `Roads`, for the refs

    def full_peer(self, standin: Standin) -> Peer | None:
        """See `Roads.full_peer`."""
        if standin.shard in self.member.holding.epochs:
            return None
        return self._talk.full_peer(self.member.map.of(standin.shard).owner)

    def watched(self, standin: Standin) -> None:
        """See `Roads.watched`."""
        self._watches.watched(standin)

    def unwatched(self, standin: Standin) -> None:
        """See `Roads.unwatched`."""
        self._watches.unwatched(standin)

    def link_broke(self, standin: Standin, path: str, exit_: Exit) -> None:
        """See `Roads.link_broke`."""
        self._watches.link_broke(standin, path, exit_)

    # Topics and services

    def publish(self, topic: str, message: object) -> None:
        """See `ClusterTopics.publish`."""
        self._topics.publish(topic, message)

    def hear(self, topic: str, hear: Hear) -> Hearing:
        """See `ClusterTopics.hear`."""
        return self._topics.hear(topic, hear)

    def offer(self, service: str, handler: Serve) -> None:
        """See `Services.offer`."""
        self._services.offer(service, handler)

    def withdraw(self, service: str) -> None:
        """See `Services.withdraw`."""
        self._services.withdraw(service)

    def anyone(self, service: str) -> Anyone:
        """See `Services.anyone`."""
        return self._services.anyone(service)

    # How it is

    def statistics(self) -> ClusterFigures:
        """Call this for how it stands with the link at this moment."""
        return ClusterFigures(
            self._talk.is_up,
            tuple(
                _figures(peer, self._trips.of(peer.node_id)) for peer in self._talk.peers.values()
            ),
            {reason.value: count for reason, count in self._talk.refused.items()},
            dict(self._routing.counts),
            dict(self._talk.counts),
        )

    def round_trips(self) -> Mapping[UUID, float]:
        """Call this, at each beat, for the seconds of the last one to each node; `TRIPS_MAX`."""
        return dict(islice(self._trips.all().items(), TRIPS_MAX))

    def unheard(self) -> Sequence[UUID]:
        """Call this for nodes that live with a link, and of which nothing is heard over it.

        Each asks the others every 2 s. What is not sealed with the cluster's secret is not heard.
        """
        member, survey = self.member, self.member.survey
        if survey is None or not self._talk.is_up:
            return ()  # of a node that hears nobody its own link tells
        now = member.clock()
        return [
            peer.node_id
            for peer in self._talk.peers.values()
            if now - peer.heard_at >= UNHEARD_S_MAX
            and peer.node_id in survey.nodes
            and survey.nodes[peer.node_id].link is LinkState.UP
        ]

    # Serving the link

    async def serve(self) -> None:
        """Call this, as `LinkActor`, to serve the link until it is cancelled."""
        async with trio.open_nursery() as starts:
            for part in (self._routing, self._watches, self._topics, self._services):
                part.start_soon = starts.start_soon
            self._routing.start_all()
            try:
                while True:
                    await self._until_there()
                    await self._serve_life(self.member.node_id)
            finally:
                for part in (self._routing, self._watches, self._topics, self._services):
                    part.start_soon = None

    async def _until_there(self) -> None:
        """Wait until this process is a node, and has a link; what is local goes on meanwhile."""
        while (
            self.member.state is NodeState.GONE
            or not self.member.lives
            or not self._link.status().is_up
        ):
            self._look()
            await trio.sleep(TICK_S)

    async def _serve_life(self, node_id: UUID) -> None:
        try:
            await self._subscribe(node_id)
            async with trio.open_nursery() as nursery:
                self._talk.send_to = lambda peer: nursery.start_soon(self._talk.serve_peer, peer)
                for peer in self._talk.peers.values():
                    if node_id == self._talk.node_id:
                        self._talk.send_to(peer)
                is_new = node_id != self._talk.node_id
                self._talk.begin(node_id, trio.lowlevel.current_task())
                if is_new:
                    self._watches.new_life()
                self._topics.new_life()
                nursery.start_soon(self._talk.serve_inbox)
                nursery.start_soon(self._talk.serve_loose)
                nursery.start_soon(self._talk.serve_clock)
                while self.member.node_id == node_id and self.member.state is not NodeState.GONE:
                    self._look()
                    await trio.sleep(TICK_S)
                nursery.cancel_scope.cancel()
        except* NoLink:
            pass  # It went away while the subjects were heard first: once more when it is there.
        finally:
            self._talk.send_to = None
            self._talk.suspend()
            await self._farewell(node_id)

    async def _subscribe(self, node_id: UUID) -> None:
        subjects = self._talk.subjects
        for pattern in (
            subjects.node(node_id),
            subjects.system_pattern(node_id),
            subjects.everyone,
        ):
            self._subscriptions.append(await self._link.subscribe(pattern, self._talk.hear))

    async def _farewell(self, node_id: UUID) -> None:
        subscriptions, self._subscriptions = self._subscriptions, []
        # Also when cancelled: another incarnation would hear everything twice.
        with trio.move_on_after(FAREWELL_S_MAX, shield=True):
            for subscription in subscriptions:
                await subscription.end()
            await self._topics.stop()
            await self._services.stop()

    def _look(self) -> None:
        self._routing.look()
        self._watches.look()
        self._topics.look()
        self._services.look()
        self.presence.look()
        self._trips.look()
        now = self.member.clock()
        for peer in self._talk.peers.values():
            if now - peer.heard_at >= SILENT_S_MAX and self._watches.is_watching(peer.node_id):
                self._watches.gone(peer.node_id)

    def _said(self, node_id: UUID, saying: Saying) -> None:
        match saying:
            case Beacon():
                self._topics.told_numbers(node_id, saying.topics)
            case Present() | PresentDigest() | PresentSet():
                self.presence.heard(node_id, saying)
            case WantPresent():
                self.presence.wanted(node_id)
            case Probe():
                self._talk.say(node_id, Probed(saying.number))
            case Probed():
                self._trips.probed(node_id, saying)
            case _:
                self._watches.heard(node_id, saying)

    def _link_changed(self, is_up: bool) -> None:
        self._topics.link_changed(is_up)
        self.presence.link_changed()

    def _gone(self, node_id: UUID) -> None:
        self._watches.gone(node_id)
        self._topics.gone(node_id)

    def _moved(self, moved: Moved, is_kept: bool) -> None:
        hint = Hint(moved.shard, moved.owner, moved.epoch, is_kept)
        self._talk.say_all(hint)
        self._routing.learn(hint)
        self._routing.look()

    def link_state(self) -> LinkState:
        """Call this, as a `ClusterNode`, at each beat: whether this node can be given shards.

        Not before its subjects are heard. A link that is lost is told down after 10 s only, and up
        again when it stayed for 3 s.
        """
        member = self.member
        if self._told[0] != member.node_id:
            self._told = member.node_id, LinkTold()
        is_up = self._talk.is_up and self._talk.node_id == member.node_id
        return self._told[1].look(is_up=is_up, now=member.clock())

    def leave(self) -> None:
        """Call this when the process ends: the others need not wait to find out."""
        self._talk.say_all(Leaving())


def _figures(peer: Peer, round_trip_s: float | None) -> PeerFigures:
    sending = peer.sending
    return PeerFigures(
        peer.node_id,
        peer.is_ready,
        len(peer.waiting),
        sending.envelopes_under_way,
        sending.bytes_under_way,
        sending.delivered_count,
        sending.lost_count,
        len(peer.asks),
        round_trip_s,
    )


def _check_target(kind: str, id_: str) -> None:
    given: tuple[tuple[str, object], ...] = (("a kind", kind), ("an id", id_))
    for name, text in given:
        if not isinstance(text, str) or not text:
            raise LinkMisuse(name, "must be a text that is not empty")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise LinkMisuse(name, "has half of a surrogate pair") from None
    if "/" in kind:
        raise LinkMisuse("a kind", "must hold no /")
    if len(kind) + 1 + len(id_) > TARGET_BYTES_MAX:
        raise LinkMisuse("kind and id", f"are over {TARGET_BYTES_MAX} characters together")


class LinkActor(Actor[Never]):
    """Serves the link of a `Cluster` for as long as it lives; takes no messages.

    A crash ends the asks that were under way with `NoLink`; the next incarnation goes on with the
    numbers of the former, so nothing is delivered twice.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def on_start(self) -> None:
        """Begin to serve."""
        self.start_soon(self._cluster.serve)

    def on_stop(self, exit_: Exit) -> None:
        """Say that this node hears nothing any more."""
        self._cluster.leave()
