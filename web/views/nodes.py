"""The nodes of a cluster as the lab shows them: who owns how much, and how the link to each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from zlib import crc32

from web.views.words import ElementId, check_count, check_text, element_id


@dataclass(frozen=True, slots=True)
class SiteNodeView:
    """One node: its shards, how long it says nothing, and what is known of the way to it.

    Round trip and window are None for the node that is asked itself, and before they are known;
    `window_percent` is how much of what may be unacknowledged at it is.
    """

    name: str
    state: str
    link: str
    shards: int
    singletons: int
    silent_s: int
    version: str
    is_this: bool = False
    round_trip_ms: float | None = None
    window_percent: int | None = None
    waiting: int = 0
    delivered: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        for field in ("name", "state", "link", "version"):
            check_text(field, getattr(self, field))
        for field in ("shards", "singletons", "silent_s", "waiting", "delivered", "lost"):
            check_count(field, getattr(self, field))


@dataclass(frozen=True, slots=True)
class ShardMoveView:
    """A shard that is to change hands; `source` is None where nobody has it."""

    shard: int
    source: str | None
    to: str
    is_under_way: bool = False

    def __post_init__(self) -> None:
        check_count("shard", self.shard)
        check_text("source", self.source or self.to)
        check_text("to", self.to)


@dataclass(frozen=True, slots=True)
class TopicLagView:
    """How far a group of the event bus is behind in a topic: records, and the oldest one's age."""

    topic: str
    records: int
    seconds: int

    def __post_init__(self) -> None:
        check_text("topic", self.topic)
        check_count("records", self.records)
        check_count("seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class GroupLagView:
    """A group of the event bus, how many members it has now, and how far it is behind."""

    group: str
    members: int
    topics: tuple[TopicLagView, ...]

    def __post_init__(self) -> None:
        check_text("group", self.group)
        check_count("members", self.members)

    @property
    def records(self) -> int:
        """How many records it has not handled."""
        return sum(one.records for one in self.topics)

    @property
    def seconds(self) -> int:
        """The age of the oldest of them."""
        return max((one.seconds for one in self.topics), default=0)


@dataclass(frozen=True, slots=True)
class NodesView:
    """The whole panel: nodes by name, moves in their order, and the link of the node asked.

    `server` and its version are empty where they are not known, or not for everybody. `groups` are
    those of the event bus, none while it is not known how far they are.
    """

    nodes: tuple[SiteNodeView, ...]
    shards: int
    unowned: int
    moves: tuple[ShardMoveView, ...]
    more_moves: int
    is_linked: bool
    server: str
    server_version: str
    refused: int = 0
    groups: tuple[GroupLagView, ...] = ()

    def __post_init__(self) -> None:
        for field in ("shards", "unowned", "more_moves", "refused"):
            check_count(field, getattr(self, field))

    @property
    def mark(self) -> ElementId:
        """Call this for what a page says it shows of it."""
        return element_id(f"n{crc32(repr(self).encode()):08x}")

    def to_json(self) -> Mapping[str, object]:
        """Call this for the same as the JSON of `/api/lab/tree`."""
        return asdict(self)
