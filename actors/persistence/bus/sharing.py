"""Who of a group gets which partition, and when a failed record is tried again: pure decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

BLOCK_FIRST_S, BLOCK_S_MAX = 1.0, 30.0
RECONNECT_FIRST_S, RECONNECT_S_MAX = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member takes of a topic's partitions, and what others wait for of what it has."""

    take: Sequence[int]
    surplus: Sequence[int]


def fair_share(topic: str, member: str, members: Sequence[str], partitions: int) -> int:
    """Call this for how many of a topic's partitions a member may have.

    Those that are left over go round by the topic's name: topics with one partition are not all
    the same member's.
    """
    order = sorted(members)
    place = (order.index(member) - crc32(topic.encode())) % len(order)
    return partitions // len(order) + (place < partitions % len(order))


def claim(topic: str, member: str, members: Sequence[str], owners: Mapping[int, str]) -> Claim:
    """Call this with who owns each partition, "" for nobody; as little as possible moves."""
    share = fair_share(topic, member, members, len(owners))
    mine = [number for number, owner in sorted(owners.items()) if owner == member]
    free = [number for number, owner in sorted(owners.items()) if owner == ""]
    return Claim(free[: max(0, share - len(mine))], mine[share:])


def backoff_s(tries: int, first_s: float, most_s: float, jitter: float) -> float:
    """Call this for the wait behind so many tries; `jitter`, from 0 to 1, takes off up to half."""
    return min(first_s * 2.0 ** min(tries - 1, 10), most_s) * (1.0 - jitter / 2)
