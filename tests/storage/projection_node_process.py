"""A node of a cluster that fills the parts of a projection that it owns, until it is killed.

What it applies it notes with its name, in the transaction that applies it.
"""

import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

import trio

from actors.cluster import Host, HostActor, LinkState, MakeSingleton, made
from actors.persistence import (
    EventStore,
    ProjectionRunner,
    ProjectionStore,
    ProjectionTx,
    Shard,
    StoredEvent,
)
from actors.runtime import Secret
from storage.postgres import PostgresEventStore, PostgresProjections, open_database
from storage.redis import RedisProjections, RedisSettings, open_redis
from storage.testing.projections.parts import PARTS, Receipts
from supervision import ChildSpec, Dynamic, DynamicFlags, Flags, Plan, Supervisor, open_system
from tests.patience import PATIENT_POOL
from web.app.clustering import SiteNode, node_of
from web.settings import Cluster, Settings
from web.wiring.directory import Directory
from web.wiring.frame.finding import OWNED

IN_REDIS = "receipts_in_redis"


class Noting(Receipts):
    """Receipts, and who applied what."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Apply, and note it: both or neither."""
        await super().apply(event, tx)
        tx.execute(
            "INSERT INTO applied (node, projection, stream_id, version) VALUES ($1, $2, $3, $4)",
            self._node,
            self.name,
            event.stream_id,
            event.version,
        )


class NotingInRedis(Noting):
    """The same in Redis."""

    name = IN_REDIS


def _owned() -> Dynamic[object]:
    # As `web.app.bus` has it: what was fenced has ended cleanly.
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


class _Tree(Supervisor):
    def __init__(self, directory: Directory, node: SiteNode, host: Host) -> None:
        self._directory, self._node, self._host = directory, node, host

    def plan(self) -> Plan:
        self._directory.attach(self.system)
        specs = [
            ChildSpec("node", partial(self._node.make, lambda: LinkState.UP)),
            ChildSpec("owned", _owned, name=OWNED, type="supervisor"),
            ChildSpec("host", partial(HostActor, self._host)),
        ]
        return Plan(Flags(), specs)


def parts(
    store: EventStore, views: ProjectionStore, projection: Noting
) -> Mapping[str, MakeSingleton]:
    """Call this for the parts as singletons of the cluster."""

    def runner(part: int, _token: Shard) -> ProjectionRunner:
        return ProjectionRunner(projection, store, views, partition=part)

    return {f"{projection.name}-{part}": partial(runner, part) for part in range(PARTS)}


async def main(name: str, url: str, redis_url: str = "") -> None:
    """Call this to be a node until killed; with a Redis there is another read model there."""
    async with AsyncExitStack() as stack:
        opened = open_database(url, part="node-test", settings=PATIENT_POOL)
        database = await stack.enter_async_context(opened)
        store, views = PostgresEventStore(database), PostgresProjections(database)
        singletons = dict(parts(store, views, Noting(name)))
        if redis_url:
            settings = RedisSettings.of(Secret(redis_url))
            client = await stack.enter_async_context(open_redis(settings))
            singletons |= parts(store, RedisProjections(client, views), NotingInRedis(name))
        directory = Directory()
        node = node_of(Settings(cluster=Cluster.ON, node_name=name), database)
        assert node is not None
        host = Host(node.member, directory.owned, singletons=singletons)
        async with open_system(_Tree, directory, node, host):
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
