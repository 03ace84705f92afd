"""A site of one's own as a node: its link, what it owns, and how others are reached.

`reaching.py` does the same for our own site, whose rooms and people are told across.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

from actors.cluster import Cluster, Host, HostActor, LinkActor, made
from storage.postgres import Database, PostgresNodes
from supervision import ChildSpec, Dynamic, DynamicFlags
from web.app.clustering import SiteNode, frame_keys, node_components, node_name, node_of
from web.app.linking import NodeLink, link_of
from web.observability.health import Component
from web.observability.operating.nodes import nodes_view
from web.settings import Settings
from web.views import NodesView
from web.wiring.environment import SystemClock
from web.wiring.frame.finding import OWNED, Finder
from web.wiring.frame.own_site import Among


def host_children(host: Host) -> Sequence[ChildSpec]:
    """Call this for what the actors that this node owns live under."""
    return [
        ChildSpec("owned", _owned, name=OWNED, type="supervisor"),
        ChildSpec("host", partial(HostActor, host)),
    ]


def _owned() -> Dynamic[object]:
    # One that was fenced has ended cleanly, and is not restarted.
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


class OwnNode:
    """A site of one's own as a node; see `Among`."""

    def __init__(
        self, settings: Settings, node: SiteNode, link: NodeLink, host: Host, site: Finder
    ) -> None:
        self.name, self.host = node_name(settings), host
        self._settings, self._node, self._link, self._site = settings, node, link, site
        self._cluster: Cluster | None = None

    def cluster(self) -> Cluster:
        """See `Among.cluster`."""
        if self._cluster is None:
            self._cluster = Cluster(
                self._site.system,
                self._node.member,
                self.host,
                self._link.link,
                name=self._settings.cluster_name,
                keys=frame_keys(self._settings),
                wall=SystemClock().now,
            )
        return self._cluster

    @property
    def components(self) -> Sequence[Component]:
        """See `Among.components`."""
        return [*node_components(self._node), Component("link", self._link.check)]

    def reaching(self) -> Sequence[ChildSpec]:
        """See `Among.reaching`."""
        cluster = self.cluster()
        return [
            ChildSpec("link", self._link.make),
            ChildSpec("messages", partial(LinkActor, cluster)),
            ChildSpec("node", partial(self._node.make, cluster.link_state, self._trips)),
        ]

    def living(self) -> Sequence[ChildSpec]:
        """See `Among.living`."""
        return host_children(self.host)

    def nodes(self) -> NodesView | None:
        """See `Among.nodes`."""
        link = self._link.link.status()
        return nodes_view(self._node.member, self.cluster().statistics(), link)

    async def hand_over(self) -> None:
        """See `Among.hand_over`."""
        await self._node.member.hand_over()

    def _trips(self) -> Mapping[UUID, float]:
        return self.cluster().round_trips()


def among_nodes(settings: Settings, database: Database) -> Callable[[Finder], Among] | None:
    """Call this for what makes a site of one's own a node; None with `CLUSTER=off`."""
    link = link_of(settings)
    node = None if link is None else node_of(settings, database)
    if link is None or node is None:
        return None

    def of_site(site: Finder) -> Among:
        host = Host(node.member, site.owned, memory=PostgresNodes(database))
        return OwnNode(settings, node, link, host, site)

    return of_site
