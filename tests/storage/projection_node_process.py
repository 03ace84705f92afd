"""A node of a cluster that fills the parts of a projection that it owns, until it is killed.

What it applies it notes with its name, in the transaction that applies it.
"""

import sys
from collections.abc import Mapping
from functools import partial

import trio

from actors.cluster import Host, HostActor, LinkState, MakeSingleton, made
from actors.persistence import ProjectionRunner, ProjectionTx, Shard, StoredEvent
from storage.postgres import Database, PostgresEventStore, PostgresProjections, open_database
from storage.testing.projections.parts import PARTS, Receipts
from supervision import ChildSpec, Dynamic, DynamicFlags, Flags, Plan, Supervisor, open_system
from tests.patience import PATIENT_POOL
from web.app.clustering import SiteNode, node_of
from web.settings import Cluster, Settings
from web.wiring.directory import OWNED, Directory


class Noting(Receipts):
    """Receipts, and who applied what."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Apply, and note it: both or neither."""
        await super().apply(event, tx)
        tx.execute(
            "INSERT INTO applied (node, stream_id, version) VALUES ($1, $2, $3)",
            self._node,
            event.stream_id,
            event.version,
        )


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


def parts(database: Database, name: str) -> Mapping[str, MakeSingleton]:
    """Call this for the parts as singletons of the cluster."""
    store, views = PostgresEventStore(database), PostgresProjections(database)

    def runner(part: int, _token: Shard) -> ProjectionRunner:
        return ProjectionRunner(Noting(name), store, views, partition=part)

    return {f"receipts-{part}": partial(runner, part) for part in range(PARTS)}


async def main(url: str, name: str) -> None:
    """Call this to be a node until killed."""
    async with open_database(url, part="node-test", settings=PATIENT_POOL) as database:
        directory = Directory()
        node = node_of(Settings(cluster=Cluster.ON, node_name=name), database)
        assert node is not None
        host = Host(node.member, directory.owned, singletons=parts(database, name))
        async with open_system(_Tree, directory, node, host):
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
