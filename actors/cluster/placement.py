"""Which shard an actor belongs to, and which node should own which shard.

Pure: every node computes the same plan from the same rows, so none has to tell the others.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from actors.cluster.words import SHARDS, SINGLETONS_FROM

# What is under way at once keeps its actors waiting; eight of 128 are 6 % of all.
MOVES_MAX = 8


@dataclass(frozen=True, slots=True)
class Move:
    """A shard that goes to another node; without a `source` nobody owns it."""

    shard: int
    source: str | None
    to: str


def shard_of(kind: str, id_: str, shards: int = SHARDS) -> int:
    """Call this for the shard of an actor: the same on every node and in every release."""
    return crc32(f"{kind}/{id_}".encode()) % shards


def singleton_shard(name: str) -> int:
    """Call this for the shard of a singleton.

    Two names may meet in one shard: then one node runs both, which harms nobody.
    """
    return SINGLETONS_FROM + crc32(name.encode()) % SINGLETONS_FROM


def plan(owners: Mapping[int, str | None], nodes: Mapping[str, int]) -> Sequence[Move]:
    """Call this for the fewest moves after which all shards lie on `nodes`, by weight.

    `owners` has every shard, None for one that nobody owns; `nodes` the weight of each that may
    own some. Each gets its share of the total, rounded down or up; of equal nodes that is a
    difference of one at most. Moves from nobody come first. Empty without nodes.
    """
    if not nodes:
        return []
    held: dict[str, list[int]] = {name: [] for name in nodes}
    homeless: list[tuple[bool, int]] = []
    for shard, owner in owners.items():
        if owner is not None and owner in held:
            held[owner].append(shard)
        else:
            homeless.append((owner is not None, shard))
    wanted = _shares(len(owners), nodes, {name: len(mine) for name, mine in held.items()})
    for name, mine in held.items():
        # Those of the highest numbers: any will do, if every node names the same.
        mine.sort()
        homeless += [(True, shard) for shard in mine[wanted[name] :]]
    takers = [name for name in sorted(nodes) for _ in range(wanted[name] - len(held[name]))]
    return [
        Move(shard, owners[shard], to)
        for (_, shard), to in zip(sorted(homeless), takers, strict=True)
    ]


def _shares(total: int, nodes: Mapping[str, int], counts: Mapping[str, int]) -> Mapping[str, int]:
    """How many each should have: who has more than its share rounded down keeps one of them."""
    weight = sum(nodes.values())
    shares = {name: total * of // weight for name, of in nodes.items()}
    rest = total - sum(shares.values())
    unequal = [name for name, of in nodes.items() if total * of % weight]
    unequal.sort(key=lambda name: (counts[name] <= shares[name], name))
    for name in unequal[:rest]:
        shares[name] += 1
    return shares


def counts_of(owners: Mapping[int, str | None]) -> Mapping[str, int]:
    """Call this for how many shards each owner has."""
    return Counter(owner for owner in owners.values() if owner is not None)
