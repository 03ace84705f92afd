"""The port of the event bus, and what an engine gives a subscription to stand on.

`EventBus` is what programs use. `Member` is one membership in a group, `Parking` what a group has
put aside: only `subscription.py` calls them, and it is the same on all engines.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from actors.persistence.beside_log.dead_letters import DeadLetters, StoredDeadLetter
from actors.persistence.bus.words import (
    PARTITIONS_DEFAULT,
    BusHealth,
    Goal,
    GroupInfo,
    Part,
    PartLag,
    RawRecord,
    Received,
    Record,
    StartAt,
    TopicInfo,
)
from actors.persistence.words import Cursor

# A member says that it lives every second; two words may be lost before its partitions go to
# others, which have them within eight seconds of a death.
HEARTBEAT_S = 1.0
# For so long a member that says nothing is taken to live.
LEASE_S = 6.0

# What a subscription calls with each record.
Handler = Callable[[Received], Awaitable[object]]
# With `Guard.TRANSACTION` it is also given what the engine calls a transaction.
HandlerInTransaction = Callable[[Any, Received], Awaitable[object]]  # type: ignore[explicit-any]  # each engine's own


class EventBus(Protocol):
    """Records between processes, at least once, in order per key. Never the truth: that is the log.

    There is no request with a reply: ask an actor, or send a command through the outbox.
    """

    async def declare(self, topic: str, partitions: int = PARTITIONS_DEFAULT) -> None:
        """Call this to make a topic; raises `PartitionsDiffer` when it is there with others."""
        ...

    async def publish(self, topic: str, record: Record) -> None:
        """Call this to publish a record; when it returns the record is kept.

        Raises `InvalidTopic`, `RecordTooLarge`, `UnknownTopic`, `PublishFailed`, `BusUnavailable`.
        Cancelled, it is published or not.
        """
        ...

    async def publish_batch(self, topic: str, records: Sequence[Record]) -> None:
        """Call this with up to 1000 records, those of a key in their order; as `publish`."""
        ...

    async def lag(self, group: str) -> Sequence[PartLag]:
        """Call this to learn how far a group is behind; raises `UnknownGroup`."""
        ...

    async def topics(self) -> Sequence[TopicInfo]:
        """Call this for all topics by name."""
        ...

    async def groups(self) -> Sequence[GroupInfo]:
        """Call this for all groups by name."""
        ...

    async def seek(self, group: str, goal: Goal, topic: str | None = None) -> int:
        """Call this to move a stopped group; gives how many partitions were moved.

        Raises `UnknownGroup`, and `GroupError` while it has members. Behind an inbox nothing
        happens twice, however far back it goes.
        """
        ...

    async def health(self) -> BusHealth:
        """Call this for how the bus is; asks it."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A partition that a member has: its epoch, and the offset up to which all is handled."""

    epoch: int
    offset: Cursor


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a member has now, and what of it others wait for."""

    held: Mapping[Part, Held]
    surplus: frozenset[Part] = frozenset()


class Parking(Protocol):
    """What a group has put aside, in the order in which it was; by event."""

    async def parked_keys(self, group: str, topic: str, keys: Sequence[str]) -> frozenset[str]:
        """Call this for those of the keys of which something is put aside."""
        ...

    async def park(
        self, group: str, topic: str, key: str, event_id: UUID, tries: int, delay_s: float
    ) -> None:
        """Call this to put an event aside, or to note that it failed again."""
        ...

    async def parked(
        self, group: str, topic: str, event_ids: Sequence[UUID]
    ) -> Mapping[UUID, tuple[int, float]]:
        """Call this for those that are aside: how often tried, and in how many seconds again."""
        ...

    async def unpark(self, group: str, topic: str, event_id: UUID) -> None:
        """Call this when an event is handled or given up."""
        ...


class Member(Protocol):
    """One membership in a group; ends with `leave`, or when it is silent for `LEASE_S`."""

    async def renew(self) -> Assignment:
        """Call this every `HEARTBEAT_S`; takes what is free, up to a fair share."""
        ...

    async def fetch(
        self, part: Part, after: Cursor, limit: int, bytes_max: int
    ) -> Sequence[RawRecord]:
        """Call this for the next records of a partition, none that others may still precede.

        So many at most, and of so many bytes together; the first in any case.
        """
        ...

    async def wait(self, part: Part, timeout_s: float) -> None:
        """Call this behind a fetch to wait until there may be more since, or so long."""
        ...

    async def commit(self, part: Part, epoch: int, offset: Cursor) -> bool:
        """Call this when all up to an offset is handled; False when another has the partition."""
        ...

    async def transact(
        self,
        part: Part,
        epoch: int,
        received: Received,
        handler: HandlerInTransaction,
        offset: Cursor | None,
    ) -> bool:
        """Call this to handle a record, and note it and an offset, in one transaction.

        One that the inbox knows is not handled again. False when another has the partition: then
        nothing was done.
        """
        ...

    async def release(self, part: Part, epoch: int) -> None:
        """Call this to give a partition to others."""
        ...

    async def leave(self) -> None:
        """Call this at the end; others need not wait for the lease."""
        ...


@runtime_checkable
class PutsBack(Protocol):
    """An engine that has its dead letters in the database of its records."""

    async def put_back(self, id_: int, by: str) -> StoredDeadLetter:
        """Call this to publish a letter's record and settle the letter, in one commit.

        Raises `NotHandedBack`, `UnknownTopic` and `BusUnavailable`; then neither was done, or, of
        the last, both may have been.
        """
        ...


class Engine(EventBus, Protocol):
    """What a subscription stands on."""

    @property
    def parking(self) -> Parking:
        """What groups have put aside."""
        ...

    @property
    def dead_letters(self) -> DeadLetters:
        """Where what was given up is kept."""
        ...

    @property
    def has_transactions(self) -> bool:
        """Whether `Member.transact` is there."""
        ...

    async def join(self, group: str, topics: Sequence[str], start_at: StartAt) -> Member:
        """Call this to be a member; raises `SubscriptionFailed` for an unknown topic."""
        ...

    async def publish_raw(self, topic: str, partition: int, raw: Sequence[RawRecord]) -> None:
        """Call this to copy raw records, whatever they are, to a partition."""
        ...
