"""What makes several processes one site: the actors that a node owns, and those of the others.

    reaching       one_for_one
      messages     carries what nodes say to each other over the link
      rooms        tells where the rooms stand, here and elsewhere
      people       tells who is in them

What this node owns lives beside the bus, which it ends before: its host is one for all of it. With
`CLUSTER=off` there is none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from actors.chat import ChatLog, RoomName, Rooms
from actors.cluster import Cluster, Host, LinkActor, LinkState, MakeOwned
from actors.persistence import Keyring
from actors.runtime import AnyActor
from storage.postgres import Database, PostgresChatLog, PostgresNodes
from supervision import ChildSpec, Flags, Plan, Supervisor
from web.app.clustering import SiteNode, frame_keys, node_components, node_of
from web.app.linking import NodeLink, link_of
from web.app.rooms import ROOM, PeopleAcross, RoomOwner, RoomsAcross, SharedChatLog
from web.chat.readers import Readers
from web.lab.demos.checkout.across import CheckoutsAcross
from web.lab.demos.checkout.visitors import Checkouts
from web.observability.health import Component, Finding, degraded
from web.observability.operating.nodes import nodes_view
from web.settings import Settings, is_loopback
from web.timeline.collector import asked_teller
from web.views import NodesView
from web.wiring.composition import Web
from web.wiring.directory import Directory
from web.wiring.environment import SystemClock
from web.wiring.frame.mailing import SiteMail

# Who posts first after a crash waits for no start.
REMEMBERED = (ROOM,)
# Of those that are not heard; who looks knows the rest by then.
UNHEARD_NAMED_MAX = 5


class Reach:
    """The way to all actors of the cluster, made once the tree is there."""

    def __init__(
        self,
        settings: Settings,
        node: SiteNode,
        link: NodeLink,
        directory: Directory,
        host: Host,
    ) -> None:
        self._settings, self._node, self.link = settings, node, link
        self._directory, self.host = directory, host
        self._cluster: Cluster | None = None

    def cluster(self) -> Cluster:
        """Call this, once the tree has begun to start, for what programs use."""
        if self._cluster is None:
            self._cluster = Cluster(
                self._directory.system,
                self._node.member,
                self.host,
                self.link.link,
                name=self._settings.cluster_name,
                keys=frame_keys(self._settings),
                wall=SystemClock().now,
            )
        return self._cluster

    def nodes(self) -> NodesView | None:
        """Call this for what the lab shows of the nodes; where their server is, here alone."""
        status = self.link.link.status()
        server = status.server if is_loopback(self._settings.host) else ""
        return nodes_view(
            self._node.member,
            self.cluster().statistics(),
            status,
            server=server,
            lags=self._directory.bus_lags(),
        )

    def trips(self) -> Mapping[UUID, float]:
        """Call this, at each beat, for the seconds of the last round trip to each other node."""
        return self.cluster().round_trips()

    def check_link(self) -> Finding:
        """Call this for how the link is, and whether those who live are heard over it."""
        found = self.link.check()
        # Asked before the tree stands there is nobody to hear.
        unheard = () if self._cluster is None else self._cluster.unheard()
        if found.status != "healthy" or not unheard:
            return found
        survey = self._node.member.survey
        known = {} if survey is None else survey.nodes
        names = sorted(known[one].name for one in unheard if one in known)
        words = "nodes that live are not heard over the link; is CLUSTER_SECRET the same on all?"
        return degraded(words, **found.details, unheard=", ".join(names[:UNHEARD_NAMED_MAX]))

    def link_state(self) -> LinkState:
        """Call this, at each beat, for what it tells of the link."""
        return self.cluster().link_state()


class ReachSupervisor(Supervisor):
    """Restarts each alone: what was under way over the link ends, and is answered so."""

    def __init__(
        self,
        reach: Reach,
        chat_log: ChatLog,
        rooms: Rooms,
        readers: Mapping[RoomName, Readers],
        checkouts: Checkouts | None,
    ) -> None:
        self._road, self._log, self._rooms, self._readers = reach, chat_log, rooms, readers
        self._checkouts = checkouts

    def plan(self) -> Plan:
        """Whoever hears stands behind who carries."""
        reach = self._road
        cluster = reach.cluster()
        specs = [
            ChildSpec("messages", partial(LinkActor, cluster)),
            ChildSpec(
                "rooms", partial(RoomsAcross, cluster, self._log, self._rooms, reach.link.is_up)
            ),
            ChildSpec("people", partial(PeopleAcross, cluster, self._readers)),
        ]
        if self._checkouts is not None:
            across = partial(CheckoutsAcross, cluster, self._checkouts)
            specs.append(ChildSpec("checkouts", across))
        return Plan(Flags(intensity=10, period=5.0), specs)


@dataclass(frozen=True, slots=True)
class Together:
    """What this process is among others; alone, only the log of its rooms."""

    log: PostgresChatLog
    rooms: SharedChatLog | None = None
    node: SiteNode | None = None
    link: NodeLink | None = None
    reach: Reach | None = None

    def components(self) -> Sequence[Component]:
        """Call this for the components of health that a node has."""
        shared = [] if self.rooms is None else [Component("rooms", self.rooms.check)]
        link = [] if self.reach is None else [Component("link", self.reach.check_link)]
        return [*node_components(self.node), *link, *shared]

    @property
    def host(self) -> Host | None:
        """What lives on this node, None without a cluster."""
        return None if self.reach is None else self.reach.host

    def mail_child(self, mail: SiteMail) -> Callable[[], AnyActor] | None:
        """Call this for the child that sends mails; a cluster runs one of it, as a singleton."""
        relay, host = mail.make, self.host
        if relay is None or host is None:
            return relay
        host.own(singletons={"mail": lambda token: relay(shard=host.member.lease(token))})
        return None

    def children(self, web: Web) -> Sequence[ChildSpec]:
        """Call this for what stands in the tree behind the database, before any of it starts.

        The link first: the node's first beat tells how it is. The node last, so that it hands over
        what it owns while all of it still serves.
        """
        if self.node is None or self.link is None or self.reach is None:
            return []
        if self.rooms is not None:
            self.rooms.tell_asked = asked_teller(web.timeline)
        if web.checkouts is not None:
            web.checkouts.share(self.reach.host)
        reaching = partial(
            ReachSupervisor, self.reach, self.log, web.rooms, web.room_readers, web.checkouts
        )
        return [
            ChildSpec("link", self.link.make),
            ChildSpec("reaching", reaching),
            ChildSpec("node", partial(self.node.make, self.reach.link_state, self.reach.trips)),
        ]


def together(
    settings: Settings, database: Database, keyring: Keyring, directory: Directory
) -> Together:
    """Call this for what `CLUSTER` makes of this process."""
    link = link_of(settings)
    node = None if link is None else node_of(settings, database)
    alone = PostgresChatLog(database, keyring)
    if link is None or node is None:
        return Together(alone)
    kinds: Mapping[str, MakeOwned] = {ROOM: partial(RoomOwner, alone)}
    host = Host(
        node.member,
        directory.owned,
        kinds=kinds,
        remembered=REMEMBERED,
        memory=PostgresNodes(database),
    )
    reach = Reach(settings, node, link, directory, host)
    directory.nodes = reach.nodes
    shared = SharedChatLog(database, keyring, reach.cluster)
    return Together(shared, shared, node, link, reach)
