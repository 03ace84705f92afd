"""Nodes and shards in memory; the twin of `storage/postgres/nodes.py`, read first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from actors.cluster import (
    GONE_KEPT,
    LEASE,
    Beat,
    LinkState,
    NewNode,
    Node,
    NodeNameTaken,
    NodeState,
    NotMember,
    OtherSecret,
    OtherShardCount,
    Owned,
    Survey,
    is_living,
)
from actors.cluster.words import (
    check_beat,
    check_claim,
    check_hand_over,
    check_new_node,
    check_recall,
    check_remembered,
    check_state,
)
from actors.persistence import Shard
from actors.persistence.event_store import check_limit
from storage.memory.twin import Twin


class MemoryNodes(Twin):
    """The port `Nodes` on a `MemoryDatabase`."""

    async def join(self, node: NewNode) -> Beat:
        """See `Nodes.join`."""
        check_new_node(node)
        await self.pass_faults()
        database, now = self.database, self._settle()
        if database.shard_count not in (None, node.shards):
            raise OtherShardCount(node.shards, database.shard_count or 0)
        if any(one.name == node.name and is_living(one, now) for one in database.nodes.values()):
            raise NodeNameTaken(node.name)
        for one in database.nodes.values():
            if is_living(one, now) and not node.marks.hears_and_is_heard(one.marks):
                raise OtherSecret(one.name)
        database.shard_count = node.shards
        database.nodes[node.node_id] = Node(
            node.node_id,
            node.name,
            node.version,
            started_at=now,
            heartbeat_at=now,
            link=LinkState.UP,
            state=NodeState.JOINING,
            weight=node.weight,
            marks=node.marks,
        )
        return Beat(now, NodeState.JOINING)

    async def beat(
        self,
        node_id: UUID,
        *,
        link: LinkState = LinkState.UP,
        trips: Mapping[UUID, float] | None = None,
    ) -> Beat:
        """See `Nodes.beat`."""
        check_beat(node_id, link, trips)
        await self.pass_faults()
        database, now = self.database, self.database.now()
        node = database.nodes.get(node_id)
        if node is None or not is_living(node, now):
            raise NotMember(node_id)
        noted = node.trips if trips is None else dict(trips)
        database.nodes[node_id] = replace(node, heartbeat_at=now, link=link, trips=noted)
        held = self._held_by(node_id)
        database.shard_leases.update(dict.fromkeys(held, now + LEASE))
        return Beat(now, node.state, held)

    async def survey(self) -> Survey:
        """See `Nodes.survey`."""
        await self.pass_faults()
        database, now = self.database, self._settle()
        shards = {
            shard: Owned(shard, owner, epoch, self._lease(shard))
            for shard, (owner, epoch) in database.shards.items()
        }
        alone, divided = tuple(database.alone), database.shard_count
        return Survey(now, dict(database.nodes), shards, alone, divided)

    async def set_state(self, node_id: UUID, state: NodeState) -> bool:
        """See `Nodes.set_state`."""
        check_state(node_id, state)
        await self.pass_faults()
        database = self.database
        node = database.nodes.get(node_id)
        if node is None or node.state is NodeState.GONE:
            return False
        database.nodes[node_id] = replace(node, state=state)
        if state is NodeState.GONE:
            self._release(node_id, self._held_by(node_id))
        return True

    async def claim(self, node_id: UUID, wanted: Mapping[int, int]) -> Mapping[int, int]:
        """See `Nodes.claim`."""
        check_claim(node_id, wanted)
        await self.pass_faults()
        database, now = self.database, self.database.now()
        if not self._is_up(node_id, now):
            return {}
        got = {}
        for shard, seen in wanted.items():
            _, epoch = database.shards.get(shard, ("", 0))
            if epoch == seen and (epoch == 0 or self._lease(shard) <= now):
                got[shard] = epoch + 1
                database.shards[shard] = (str(node_id), epoch + 1)
                database.shard_leases[shard] = now + LEASE
        return got

    async def hand_over(self, node_id: UUID, shard: int, epoch: int, to: UUID) -> int | None:
        """See `Nodes.hand_over`."""
        check_hand_over(node_id, shard, epoch, to)
        await self.pass_faults()
        database, now = self.database, self.database.now()
        held = database.shards.get(shard) == (str(node_id), epoch)
        if not held or not self._is_up(to, now):
            return None
        database.shards[shard] = (str(to), epoch + 1)
        database.shard_leases[shard] = now + LEASE
        return epoch + 1

    async def release(self, node_id: UUID, shards: Mapping[int, int]) -> int:
        """See `Nodes.release`."""
        check_claim(node_id, shards)
        await self.pass_faults()
        return self._release(node_id, shards)

    async def purge(self, limit: int = 1000) -> int:
        """See `Nodes.purge`."""
        check_limit(limit)
        await self.pass_faults()
        over = self.database.now() - GONE_KEPT
        nodes = self.database.nodes.values()
        old = [one.node_id for one in nodes if one.heartbeat_at < over][:limit]
        for node_id in old:
            del self.database.nodes[node_id]
        return len(old)

    async def remember(self, shard: Shard, kind: str, id_: str) -> None:
        """See `Remembering.remember`."""
        check_remembered(shard, kind, id_)
        await self.pass_faults()
        self.database.check_shard(shard)
        self.database.remembered[kind, id_] = shard.id

    async def forget(self, shard: Shard, kind: str, id_: str) -> bool:
        """See `Remembering.forget`."""
        check_remembered(shard, kind, id_)
        await self.pass_faults()
        is_ours = self.database.shards.get(shard.id) == (shard.owner, shard.epoch)
        if not is_ours or self.database.remembered.get((kind, id_)) != shard.id:
            return False
        del self.database.remembered[kind, id_]
        return True

    async def remembered(
        self, shards: Collection[int], *, after: tuple[str, str] = ("", ""), limit: int = 100
    ) -> Sequence[tuple[str, str]]:
        """See `Remembering.remembered`."""
        check_recall(shards, after)
        check_limit(limit)
        await self.pass_faults()
        wanted, known = set(shards), self.database.remembered.items()
        return sorted(one for one, shard in known if shard in wanted and one > after)[:limit]

    def _settle(self) -> datetime:
        database, now = self.database, self.database.now()
        for node in list(database.nodes.values()):
            if not is_living(node, now):
                database.nodes[node.node_id] = replace(node, state=NodeState.GONE)
            elif node.heartbeat_at > now + LEASE:
                # From before the clock was set back, as a lease that is longer than any.
                database.nodes[node.node_id] = replace(node, heartbeat_at=now)
        for shard, until in database.shard_leases.items():
            if until > now + 2 * LEASE:
                database.shard_leases[shard] = now + LEASE
        return now

    def _held_by(self, node_id: UUID) -> dict[int, int]:
        owned = self.database.shards.items()
        return {shard: epoch for shard, (owner, epoch) in owned if owner == str(node_id)}

    def _lease(self, shard: int) -> datetime:
        return self.database.shard_leases.get(shard, self.database.now())

    def _is_up(self, node_id: UUID, now: datetime) -> bool:
        node = self.database.nodes.get(node_id)
        return (
            node is not None
            and is_living(node, now)
            and (node.state, node.link) == (NodeState.UP, LinkState.UP)
        )

    def _release(self, node_id: UUID, shards: Mapping[int, int]) -> int:
        database, count = self.database, 0
        for shard, epoch in shards.items():
            if database.shards.get(shard) == (str(node_id), epoch):
                database.shards[shard] = ("", epoch + 1)
                database.shard_leases[shard] = database.now()
                count += 1
        return count
