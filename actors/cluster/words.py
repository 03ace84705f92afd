"""Nodes, leases and shards as data: what is known of a cluster at one moment.

A node is one process, a shard a part of all actors, an epoch a number that rises whenever a shard
changes hands. All times here are the database's, apart from those that say otherwise.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from actors.persistence.errors import InvalidField, StoreError
from actors.persistence.words import (
    KEY_BYTES_MAX,
    Shard,
    check_a,
    check_integer,
    check_text,
    check_uuid,
)

# CLU-1. A beat is a statement of a millisecond; six of them may be late before a node is given up,
# which is what a loaded machine needs and what people wait after a crash.
HEARTBEAT_S = 1.0
LEASE_S = 6.0
# Two thirds: who was stopped knows for two seconds that it owns nothing, before another may begin.
FENCE_S = 4.0
LEASE = timedelta(seconds=LEASE_S)

# CLU-10. Twelve nodes have ten each, so that one more or less moves a tenth of a node's work.
SHARDS = 128
# A plan over more takes longer than a beat, and a hash of 32 bits spreads no finer.
SHARDS_MAX = 65_536
# Singletons have shards of their own, above all others: see `singleton_shard`.
SINGLETONS_FROM = 2**30
# A node is as good as so many of the smallest.
WEIGHT_MAX = 100
NODE_NAME_BYTES_MAX = 255
# A hash in hexadecimal digits.
MARK_BYTES_MAX = 64
# CLU-40. To so many others a heartbeat tells the round trip: more do not fit on a screen.
TRIPS_MAX = 64
SHARD_ID_MAX = 2**31 - 1
# One less than the database holds: it is raised once more.
EPOCH_MAX = 2**63 - 2
# Who is gone for a day is of no interest to anybody.
GONE_KEPT = timedelta(days=1)


class NodeState(StrEnum):
    """How far a node is: only one that is `up` is given shards; `gone` is for ever."""

    JOINING = "joining"
    UP = "up"
    DRAINING = "draining"
    GONE = "gone"


class LinkState(StrEnum):
    """Whether a node can speak with the others."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class SecretMarks:
    """What nodes compare to know that they have one secret and one cluster; tells neither.

    `seals` stands for the secret that a node signs with, `believes` for the one that it accepts
    besides; empty: none, or of a release that told nothing.
    """

    seals: str = ""
    believes: str = ""

    def __post_init__(self) -> None:
        check_text("seals", self.seals, MARK_BYTES_MAX)
        check_text("believes", self.believes, MARK_BYTES_MAX)

    def hears_and_is_heard(self, other: "SecretMarks") -> bool:
        """Call this to ask whether each of two nodes believes what the other signs."""
        if not self.seals or not other.seals:
            return True
        return other.seals in {self.seals, self.believes} and self.seals in {
            other.seals,
            other.believes,
        }


@dataclass(frozen=True, slots=True)
class NewNode:
    """A process that joins: `node_id` is new at each start, `name` is for people."""

    node_id: UUID
    name: str
    version: str
    weight: int = 1
    shards: int = SHARDS
    marks: SecretMarks = SecretMarks()

    def __post_init__(self) -> None:
        check_uuid("node_id", self.node_id)
        if check_text("name", self.name, NODE_NAME_BYTES_MAX) == 0:
            raise InvalidField("name", "must not be empty")
        check_text("version", self.version)
        check_integer("weight", self.weight, 1, WEIGHT_MAX)
        check_integer("shards", self.shards, 1, SHARDS_MAX)
        check_a("marks", self.marks, SecretMarks)


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the database knows it."""

    node_id: UUID
    name: str
    version: str
    started_at: datetime
    heartbeat_at: datetime
    link: LinkState
    state: NodeState
    weight: int = 1
    # Seconds that a word to each other node and back took, as this one measured it last.
    trips: Mapping[UUID, float] = field(default_factory=dict)
    marks: SecretMarks = SecretMarks()


@dataclass(frozen=True, slots=True)
class Owned:
    """Whose a shard is, in which epoch, and until when if nothing is renewed.

    `owner` is a node's id as text, as `Shard.owner` has it; empty when it was given back.
    """

    shard: int
    owner: str
    epoch: int
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Survey:
    """All nodes and shards at one moment, and who serves the store without being of a cluster.

    `divided` is the number of shards that the first node fixed; None before there was one.
    """

    now: datetime
    nodes: Mapping[UUID, Node]
    shards: Mapping[int, Owned]
    alone: Sequence[str] = ()
    divided: int | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat: the database's time, the node's state, the epoch of each shard."""

    now: datetime
    state: NodeState
    held: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far the database's clock is ahead of a node's own, and how wrong that may be."""

    offset_s: float
    error_s: float


class NotMember(StoreError):
    """Raised by a heartbeat of a node that is not a member any more; nothing was renewed.

    It was silent for longer than its lease, or has left. What it owned is another's, or will be:
    end all of it, and join as a new node.
    """

    code = "not_member"

    def __init__(self, node_id: UUID) -> None:
        super().__init__(
            f"node {node_id} is no member of the cluster any more; nothing was renewed. Join anew."
        )
        self.node_id = node_id


class NodeNameTaken(StoreError):
    """Raised by `join` when a living node has that name; nothing was written.

    It may be an earlier life of the same process: then it is gone within the lease.
    """

    code = "node_name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a living node is called {name!r}; nothing was written. Give another NODE_NAME, or "
            f"wait {LEASE_S:g} s if that node has ended."
        )
        self.name = name


class OtherShardCount(StoreError):
    """Raised by `join` when the store was divided otherwise; nothing was written."""

    code = "other_shard_count"

    def __init__(self, given: int, kept: int) -> None:
        super().__init__(
            f"this store is divided into {kept} shards, not {given}; nothing was written. "
            "The number is fixed with the first node that joins."
        )
        self.given, self.kept = given, kept


class OtherSecret(StoreError):
    """Raised by `join` when a living node has another secret, or another cluster's name.

    Nothing was written: neither would believe what the other says. It may be a node that has just
    ended; else give both the same.
    """

    code = "other_secret"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the living node {name!r} has another secret, or is of another cluster's name; "
            "nothing was written."
        )
        self.name = name


# What is asked of a caller before any I/O, by every engine. Each raises `InvalidField`.


def check_shard(shard: object) -> None:
    """Call this with the number of a shard."""
    check_integer("shard", shard, 0, SHARD_ID_MAX)


def check_claim(node_id: object, wanted: object) -> None:
    """Call this with who claims, and the epoch in which each shard was seen."""
    check_uuid("node_id", node_id)
    if not isinstance(wanted, Mapping):
        raise InvalidField("wanted", "must be a mapping from shards to epochs")
    for shard, epoch in wanted.items():
        check_shard(shard)
        check_integer("an epoch", epoch, 0, EPOCH_MAX)


def check_hand_over(node_id: object, shard: object, epoch: object, to: object) -> None:
    """Call this with who hands over what to whom."""
    check_uuid("node_id", node_id)
    check_shard(shard)
    check_integer("epoch", epoch, 0, EPOCH_MAX)
    check_uuid("to", to)


def check_new_node(node: object) -> None:
    """Call this with a node that joins."""
    check_a("node", node, NewNode)


def check_beat(node_id: object, link: object, trips: object = None) -> None:
    """Call this with a heartbeat."""
    check_uuid("node_id", node_id)
    check_a("link", link, LinkState)
    if trips is None:
        return
    if not isinstance(trips, Mapping):
        raise InvalidField("trips", "must be seconds by node")
    if len(trips) > TRIPS_MAX:
        raise InvalidField("trips", f"are {len(trips)}, the limit is {TRIPS_MAX}")
    for node, trip_s in trips.items():
        check_uuid("a node of trips", node)
        if not isinstance(trip_s, float | int) or not 0 <= trip_s < math.inf:
            raise InvalidField("a trip", "must be seconds, 0 or more")


def check_state(node_id: object, state: object) -> None:
    """Call this with what is to be noted of a node."""
    check_uuid("node_id", node_id)
    check_a("state", state, NodeState)


def check_remembered(shard: object, kind: object, id_: object) -> None:
    """Call this with an actor that is to be remembered, or forgotten, under an ownership."""
    check_a("shard", shard, Shard)
    for name, value in (("kind", kind), ("id", id_)):
        if check_text(name, value, KEY_BYTES_MAX) == 0:
            raise InvalidField(name, "must not be empty")


def check_recall(shards: object, after: object) -> None:
    """Call this with whose remembered actors are asked for, and behind which."""
    if not isinstance(shards, Collection) or isinstance(shards, str | bytes):
        raise InvalidField("shards", "must be a collection of numbers")
    for shard in shards:
        check_shard(shard)
    match after:
        case (kind, id_):
            check_text("kind", kind, KEY_BYTES_MAX)
            check_text("id", id_, KEY_BYTES_MAX)
        case _:
            raise InvalidField("after", "must be a pair of kind and id")
