"""Who belongs to the cluster, who may be given work, and when a node must end its own.

Pure decisions on a `Survey`; `node.py` carries them out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from actors.cluster.placement import Move, plan
from actors.cluster.words import (
    FENCE_S,
    LEASE,
    SINGLETONS_FROM,
    ClockOffset,
    LinkState,
    Node,
    NodeState,
    Survey,
)

# CLU-5. A server that is started anew is back by then, and no shard needs to change hands.
ISOLATED_AFTER_S = 10.0
# A line that comes and goes is not trusted at once.
RETURNS_AFTER_S = 3.0


def is_living(node: Node, now: datetime) -> bool:
    """Call this to ask whether a node was heard of within its lease."""
    return node.state is not NodeState.GONE and now - node.heartbeat_at <= LEASE


def living(survey: Survey) -> Sequence[Node]:
    """Call this for those that were heard of within their lease, by name."""
    found = [node for node in survey.nodes.values() if is_living(node, survey.now)]
    return sorted(found, key=lambda node: (node.name, node.node_id))


def may_own(survey: Survey) -> Mapping[str, int]:
    """Call this for the weight of each node that may be given shards."""
    return {
        str(node.node_id): node.weight
        for node in living(survey)
        if node.state is NodeState.UP and node.link is LinkState.UP
    }


def owners(survey: Survey, shards: int) -> Mapping[int, str | None]:
    """Call this for the owner of each shard, None where nobody's lease runs."""
    return {
        shard: _owner(survey, shard)
        for shard in [*range(shards), *sorted(s for s in survey.shards if s >= SINGLETONS_FROM)]
    }


def _owner(survey: Survey, shard: int) -> str | None:
    row = survey.shards.get(shard)
    return row.owner if row is not None and row.owner and row.lease_until > survey.now else None


def moves(survey: Survey, shards: int, singletons: Sequence[int] = ()) -> Sequence[Move]:
    """Call this for what should change hands, singletons by themselves.

    One of the `singletons` that no row names yet is planned as well: it has no owner.
    """
    nodes, owned = may_own(survey), owners(survey, shards)
    alone = {shard: owner for shard, owner in owned.items() if shard >= SINGLETONS_FROM}
    alone |= {shard: None for shard in singletons if shard not in alone}
    shared = {shard: owner for shard, owner in owned.items() if shard < shards}
    return [*plan(shared, nodes), *plan(alone, nodes)]


def clock_offset(sent: datetime, database: datetime, received: datetime) -> ClockOffset:
    """Call this with a node's own time before and after it asked the database for its own."""
    trip = max(received - sent, timedelta(0))
    offset = database - (sent + trip / 2)
    return ClockOffset(offset.total_seconds(), (trip / 2).total_seconds())


@dataclass(slots=True)
class Renewals:
    """When a node's leases were last renewed, by a clock that goes on while the process is stopped.

    The time that counts is the one *before* the renewal was sent: the database's lease begins
    later, so a node ends its work before anybody else may begin.
    """

    sent_at: float

    def renewed(self, sent_at: float) -> None:
        """Call this when a renewal was answered; an older one changes nothing."""
        self.sent_at = max(self.sent_at, sent_at)

    def is_over(self, now: float) -> bool:
        """Call this to ask whether the node must have ended all that it owns."""
        return now - self.sent_at >= FENCE_S

    def left_s(self, now: float) -> float:
        """Call this for how long what is owned may still be worked on; never below 0."""
        return max(0.0, self.sent_at + FENCE_S - now)


class LinkTold:
    """What beats tell of a link: a short loss is none, and who comes back has to stay a while.

    Before the first connection it is down, with it up.
    """

    def __init__(self) -> None:
        self.state = LinkState.DOWN
        self._was_up = False
        self._since: float | None = None

    def look(self, *, is_up: bool, now: float) -> LinkState:
        """Call this with how the link is at a time in seconds; gives what is to be told."""
        if is_up and not self._was_up:
            self._was_up, self.state = True, LinkState.UP
        if is_up is (self.state is LinkState.UP) or not self._was_up:
            self._since = None
            return self.state
        since = self._since = now if self._since is None else self._since
        if now - since >= (RETURNS_AFTER_S if is_up else ISOLATED_AFTER_S):
            self.state, self._since = LinkState.UP if is_up else LinkState.DOWN, None
        return self.state


def named(survey: Survey, text: str) -> Node | None:
    """Call this to find a living node by its name or its id."""
    for node in living(survey):
        if text in {node.name, str(node.node_id)}:
            return node
    return None


def owner_name(survey: Survey, owner: str | None) -> str:
    """Call this to show an owner to people; a dash for nobody."""
    if not owner:
        return "-"
    node = survey.nodes.get(UUID(owner))
    return owner if node is None else node.name
