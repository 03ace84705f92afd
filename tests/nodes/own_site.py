"""A site of one's own as a node: a till by its name, which one node at a time has.

    python -m tests.nodes.own_site

`/count/NAME` answers how often that till was asked since it began, and on which node it lives.
"""

from __future__ import annotations

import sys

from quart import Blueprint

from actors.cluster import Host
from actors.runtime import Actor, Ask, message
from supervision import ChildSpec
from web.app import OwnSite, SitePlan, serve_site

KIND = "till"


@message(remote=True, name="tills.Count")
class Count(Ask[str]):
    """Count one more; the answer is how many, and the name of the node."""


class Till(Actor[Count]):
    """Counts, in memory: a till that begins elsewhere begins at one."""

    def __init__(self, node: str) -> None:
        self._node, self._count = node, 0

    async def on_count(self, count: Count) -> str:
        self._count += 1
        return f"{self._count} {self._node}"


def owned(site: OwnSite, host: Host) -> None:
    """Tell the host what may live here."""
    node = site.settings.node_name or ""
    host.own(kinds={KIND: lambda _id, _shard: Till(node)})


def pages(site: OwnSite) -> Blueprint:
    """The one route."""
    routes = Blueprint("all", __name__)

    @routes.get("/count/<name>")
    async def count(name: str) -> str:
        assert site.cluster is not None
        return await site.cluster.ref(KIND, name, Till).ask(Count(), 5.0)

    return routes


def tree(_: OwnSite) -> list[ChildSpec]:
    """No actors beside those that are owned."""
    return []


PLAN = SitePlan(name="tills", tree=tree, pages=pages, owned=owned)

if __name__ == "__main__":
    sys.exit(serve_site(PLAN))
