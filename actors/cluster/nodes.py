"""The ports of membership and ownership: who is there, and who owns which shard in which epoch.

Every method is one transaction of the database, by its clock. A raise of an epoch waits for the
appends that are under way in that shard (`FOR SHARE` in the append), so that of two owners each
append is wholly before or refused with `Fenced`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from actors.cluster.words import Beat, LinkState, NewNode, NodeState, Survey
from actors.persistence.words import Shard


class Nodes(Protocol):
    """The tables `nodes` and `shards`."""

    async def join(self, node: NewNode) -> Beat:
        """Call this first: the node is there, `joining`, and owns nothing.

        Raises `OtherShardCount`, `NodeNameTaken` when a living node has its name, and
        `OtherSecret` when one neither believes it nor is believed.
        """
        ...

    async def beat(
        self,
        node_id: UUID,
        *,
        link: LinkState = LinkState.UP,
        trips: Mapping[UUID, float] | None = None,
    ) -> Beat:
        """Call this every second: renews the membership, and the leases of all that is held.

        `trips` notes the seconds of the last round trip to each other node, `TRIPS_MAX` at most;
        without, what was noted stays. One statement. Raises `NotMember`: nothing was renewed.
        """
        ...

    async def survey(self) -> Survey:
        """Call this for all nodes and shards; marks as `gone` who was silent for a lease.

        A beat or a lease that ends later than any may is from before the clock was set back: it
        begins anew, so that a dead node holds nothing for as long as that. So it does at a join.
        """
        ...

    async def set_state(self, node_id: UUID, state: NodeState) -> bool:
        """Call this to note how far a node is; False when it is gone, which is for ever.

        `gone` also gives back all that it holds, as `release` does.
        """
        ...

    async def claim(self, node_id: UUID, wanted: Mapping[int, int]) -> Mapping[int, int]:
        """Call this to own shards that nobody owns; gives the new epochs of those that were got.

        `wanted` has the epoch in which each was seen, 0 for one that no row names. Got is what is
        still at that epoch with its lease over, and only by a living node that is `up`. Of two
        claimants of one epoch one wins.
        """
        ...

    async def hand_over(self, node_id: UUID, shard: int, epoch: int, to: UUID) -> int | None:
        """Call this to give a shard to a living node that is `up`; gives the new epoch.

        None, and nothing is changed, when it is not held in that epoch or `to` cannot have it.
        """
        ...

    async def release(self, node_id: UUID, shards: Mapping[int, int]) -> int:
        """Call this to give back shards held in these epochs; gives how many were.

        Their epochs rise: whoever still writes for them is refused from then on.
        """
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove nodes that are gone for a day, at most `limit`."""
        ...


class Remembering(Protocol):
    """The table of actors that begin without a message wherever their shard goes."""

    async def remember(self, shard: Shard, kind: str, id_: str) -> None:
        """Call this before an actor begins that is to begin again wherever its shard goes.

        Raises `Fenced` when the shard is another's; nothing was noted.
        """
        ...

    async def forget(self, shard: Shard, kind: str, id_: str) -> bool:
        """Call this when it has ended by itself; False when it is not known, or another's."""
        ...

    async def remembered(
        self, shards: Collection[int], *, after: tuple[str, str] = ("", ""), limit: int = 100
    ) -> Sequence[tuple[str, str]]:
        """Call this for a page of kinds and ids of some shards, in their order, behind a pair."""
        ...
