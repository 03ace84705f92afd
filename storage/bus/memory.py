"""The bus in memory: what holds of every engine, in as few lines as it can be said.

`BusTables` stand for the broker; each `MemoryBus` on them is a process that speaks to it. Leases
end by trio's clock, which a test may let jump; what was published when, and how old it is, is told
by the clock of the database in memory that has inbox and dead letters.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import trio

from actors.persistence.beside_log.dead_letters import DeadLetters
from actors.persistence.bus import (
    LEASE_S,
    Assignment,
    BusError,
    BusHealth,
    BusUnavailable,
    Goal,
    GroupError,
    GroupInfo,
    HandlerInTransaction,
    Held,
    Part,
    PartitionsDiffer,
    PartLag,
    RawRecord,
    Received,
    Record,
    StartAt,
    SubscriptionFailed,
    TopicInfo,
    UnknownGroup,
    UnknownTopic,
    partition_for,
)
from actors.persistence.bus.sharing import claim
from actors.persistence.bus.words import (
    PARTITIONS_DEFAULT,
    check_goal,
    check_group,
    check_partitions,
    check_records,
    check_topic,
    within,
)
from actors.persistence.words import START, Cursor
from storage.memory import MemoryDatabase, MemoryDeadLetters, Switches


@dataclass(slots=True)
class _Offset:
    """How far a group is in a partition, and whose it is."""

    offset: Cursor
    owner: str = ""
    epoch: int = 0
    handled_at: datetime | None = None


@dataclass(slots=True)
class _Group:
    """The members of a group with the topics of each, and until when it is believed to live."""

    members: dict[str, tuple[Sequence[str], float]] = field(default_factory=dict)
    offsets: dict[Part, _Offset] = field(default_factory=dict)
    seen_at: datetime | None = None

    def living(self) -> dict[str, Sequence[str]]:
        """Call this for the members that are not silent for too long; forgets the others."""
        now = trio.current_time()
        for name in [name for name, (_, until) in self.members.items() if until <= now]:
            self.forget(name)
        return {name: topics for name, (topics, _) in self.members.items()}

    def forget(self, member: str) -> None:
        """Call this when a member has left, or is taken for dead."""
        self.members.pop(member, None)
        for one in self.offsets.values():
            if one.owner == member:
                one.owner = ""


@dataclass(slots=True)
class BusTables:
    """What a broker keeps: topics, their records, and where groups are."""

    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    topics: dict[str, int] = field(default_factory=dict)
    records: dict[Part, list[RawRecord]] = field(default_factory=dict)
    groups: dict[str, _Group] = field(default_factory=dict)
    # By group and topic: events put aside, with key, tries, and when they are due.
    parked: dict[tuple[str, str], dict[UUID, tuple[str, int, float]]] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)
    # Of tests: why it cannot be reached, and since when.
    away: str = ""
    away_since: float = 0.0
    faults: Switches = field(default_factory=lambda: Switches(BusError, BusUnavailable))
    names: int = 0
    last_position: int = 0
    # Of a partition so many at least; None for all, as long as the process lives.
    kept: int | None = None

    def go_away(self, reason: str = "switched off by a test") -> None:
        """Call this in tests to have every call fail, until `come_back`."""
        self.away, self.away_since = reason, trio.current_time()

    def come_back(self) -> None:
        """Call this in tests to have calls succeed again."""
        self.away = ""
        self.ring()

    def ring(self) -> None:
        """Call this to wake who waits for records."""
        self.changed.set()
        self.changed = trio.Event()


class MemoryBus:
    """The port `EventBus` on `BusTables`, of its own when none are given."""

    has_transactions = True

    def __init__(
        self, tables: BusTables | None = None, *, dead_letters: DeadLetters | None = None
    ) -> None:
        self.tables = BusTables() if tables is None else tables
        self.parking = _MemoryParking(self.tables)
        self.dead_letters = dead_letters or MemoryDeadLetters(self.tables.database)

    def reset(self) -> None:
        """Call this in tests to begin anew: no topics, no groups, nobody away."""
        fresh = BusTables(self.tables.database)
        for name in ("topics", "records", "groups", "parked", "away"):
            setattr(self.tables, name, getattr(fresh, name))
        self.tables.faults.reset()
        self.tables.ring()

    def fail_next(self, error: BusError | None = None, times: int = 1) -> None:
        """See `Switches.fail_next`; of all who stand on the same tables, members too."""
        self.tables.faults.fail_next(error, times)

    def slow(self, seconds: float) -> None:
        """See `Switches.slow`."""
        self.tables.faults.slow(seconds)

    def lose_connection(self) -> None:
        """See `Switches.lose_connection`."""
        self.tables.faults.lose_connection()

    def topic_count(self) -> int:
        """Call this in tests for how many topics there are."""
        return len(self.tables.topics)

    def subscriber_count(self, topic: str) -> int:
        """Call this in tests for how many living members read a topic."""
        groups = self.tables.groups.values()
        return sum(topic in topics for group in groups for topics in group.living().values())

    async def declare(self, topic: str, partitions: int = PARTITIONS_DEFAULT) -> None:
        """See `EventBus.declare`."""
        check_topic(topic)
        check_partitions(partitions)
        await _reach(self.tables)
        found = self.tables.topics.setdefault(topic, partitions)
        if found != partitions:
            raise PartitionsDiffer(topic, partitions, found)

    async def publish(self, topic: str, record: Record) -> None:
        """See `EventBus.publish`."""
        await self.publish_batch(topic, [record])

    async def publish_batch(self, topic: str, records: Sequence[Record]) -> None:
        """See `EventBus.publish_batch`."""
        records = check_records(topic, records)
        await _reach(self.tables)
        partitions = self.tables.topics.get(topic)
        if partitions is None:
            raise UnknownTopic(topic)
        for record in records:
            self._add(
                Part(topic, self._partition(record, partitions)),
                record.key.encode(),
                record.value,
                {name: text.encode() for name, text in record.wire_headers.items()},
            )
        self.tables.ring()

    async def publish_raw(self, topic: str, partition: int, raw: Sequence[RawRecord]) -> None:
        """See `Engine.publish_raw`."""
        await _reach(self.tables)
        if topic not in self.tables.topics:
            raise UnknownTopic(topic)
        for one in raw:
            self._add(Part(topic, partition), one.key, one.value, one.headers)
        self.tables.ring()

    async def lag(self, group: str) -> Sequence[PartLag]:
        """See `EventBus.lag`."""
        check_group(group)
        await _reach(self.tables)
        if group not in self.tables.groups:
            raise UnknownGroup(group)
        found, now = [], self.tables.database.now()
        for part, at in sorted(self.tables.groups[group].offsets.items()):
            behind = _behind(self.tables, part, at.offset)
            age_s = (now - behind[0].published_at).total_seconds() if behind else 0.0
            found.append(PartLag(*part, len(behind), max(0.0, age_s), at.handled_at))
        return found

    async def topics(self) -> Sequence[TopicInfo]:
        """See `EventBus.topics`."""
        await _reach(self.tables)
        return [TopicInfo(*one) for one in sorted(self.tables.topics.items())]

    async def groups(self) -> Sequence[GroupInfo]:
        """See `EventBus.groups`."""
        await _reach(self.tables)
        return [
            GroupInfo(
                name,
                sorted({part.topic for part in group.offsets}),
                len(group.living()),
                group.seen_at,
            )
            for name, group in sorted(self.tables.groups.items())
        ]

    async def seek(self, group: str, goal: Goal, topic: str | None = None) -> int:
        """See `EventBus.seek`."""
        check_goal(group, goal, topic)
        await _reach(self.tables)
        known = self.tables.groups.get(group)
        if known is None:
            raise UnknownGroup(group)
        if known.living():
            raise GroupError(group, "has members; stop them first")
        parts = [part for part in known.offsets if topic in (None, part.topic)]
        for part in parts:
            known.offsets[part].offset = self._place(part, goal)
            known.offsets[part].epoch += 1
        return len(parts)

    async def health(self) -> BusHealth:
        """See `EventBus.health`."""
        tables = self.tables
        return BusHealth.after(trio.current_time() - tables.away_since, tables.away)

    async def join(self, group: str, topics: Sequence[str], start_at: StartAt) -> "MemoryMember":
        """See `Engine.join`."""
        await _reach(self.tables)
        if missing := [topic for topic in topics if topic not in self.tables.topics]:
            raise SubscriptionFailed(missing, "there is no such topic; declare it first")
        known = self.tables.groups.setdefault(group, _Group())
        for topic in topics:
            for number in range(self.tables.topics[topic]):
                part = Part(topic, number)
                if part not in known.offsets:
                    known.offsets[part] = _Offset(self._place(part, start_at))
        self.tables.names += 1
        return MemoryMember(self.tables, group, topics, f"member-{self.tables.names:06}")

    def _partition(self, record: Record, partitions: int) -> int:
        return partition_for(record.key, partitions)

    def _add(self, part: Part, key: bytes, value: bytes, headers: Mapping[str, bytes]) -> None:
        tables = self.tables
        tables.last_position += 1
        offset = Cursor(0, tables.last_position)
        raw = RawRecord(part, offset, key, value, dict(headers), tables.database.now())
        records = tables.records.setdefault(part, [])
        records.append(raw)
        # Now and then: each time would move all of them.
        if tables.kept is not None and len(records) >= 2 * tables.kept:
            del records[: len(records) - tables.kept]

    def _place(self, part: Part, goal: Goal) -> Cursor:
        match goal:
            case Cursor():
                return goal
            case StartAt.EARLIEST:
                return START
            case StartAt.LATEST:
                return Cursor(0, self.tables.last_position)
            case datetime():
                before = [
                    one.offset
                    for one in self.tables.records.get(part, ())
                    if one.published_at < goal
                ]
                return max(before, default=START)


class MemoryMember:
    """One membership; see `Member`."""

    def __init__(self, tables: BusTables, group: str, topics: Sequence[str], name: str) -> None:
        self._tables, self._group, self._topics, self.name = tables, group, topics, name
        self._since: dict[Part, trio.Event] = {}

    async def renew(self) -> Assignment:
        """See `Member.renew`."""
        await _reach(self._tables)
        group = self._tables.groups.setdefault(self._group, _Group())
        group.members[self.name] = (self._topics, trio.current_time() + LEASE_S)
        group.seen_at = self._tables.database.now()
        living = group.living()
        held: dict[Part, Held] = {}
        surplus: set[Part] = set()
        for topic in self._topics:
            mine = {part: one for part, one in group.offsets.items() if part.topic == topic}
            owners = {part.partition: one.owner for part, one in mine.items()}
            members = [name for name, topics in living.items() if topic in topics]
            claimed = claim(topic, self.name, members, owners)
            for number in claimed.take:
                one = mine[Part(topic, number)]
                one.owner, one.epoch = self.name, one.epoch + 1
            surplus.update(Part(topic, number) for number in claimed.surplus)
            for part, one in mine.items():
                if one.owner == self.name:
                    held[part] = Held(one.epoch, one.offset)
        return Assignment(held, frozenset(surplus))

    async def fetch(
        self, part: Part, after: Cursor, limit: int, bytes_max: int
    ) -> Sequence[RawRecord]:
        """See `Member.fetch`."""
        await _reach(self._tables)
        self._since[part] = self._tables.changed
        return within(_behind(self._tables, part, after, limit), bytes_max)

    async def wait(self, part: Part, timeout_s: float) -> None:
        """See `Member.wait`."""
        with trio.move_on_after(timeout_s):
            await self._since.get(part, self._tables.changed).wait()

    async def commit(self, part: Part, epoch: int, offset: Cursor) -> bool:
        """See `Member.commit`."""
        await _reach(self._tables)
        return self._note(part, epoch, offset)

    async def transact(
        self,
        part: Part,
        epoch: int,
        received: Received,
        handler: HandlerInTransaction,
        offset: Cursor | None,
    ) -> bool:
        """See `Member.transact`: the transaction is the `MemoryDatabase`.

        There is no rollback here: a handler changes it behind whatever may raise.
        """
        await _reach(self._tables)
        if not self._has(part, epoch):
            return False
        database, row = self._tables.database, (self._group, received.record.event_id)
        if row not in database.inbox:
            await handler(database, received)
            database.inbox[row] = database.now()
        return offset is None or self._note(part, epoch, offset)

    async def release(self, part: Part, epoch: int) -> None:
        """See `Member.release`."""
        await _reach(self._tables)
        if self._has(part, epoch):
            self._tables.groups[self._group].offsets[part].owner = ""

    async def leave(self) -> None:
        """See `Member.leave`."""
        await _reach(self._tables)
        if self._group in self._tables.groups:
            self._tables.groups[self._group].forget(self.name)

    def _has(self, part: Part, epoch: int) -> bool:
        group = self._tables.groups.get(self._group, _Group())
        one = group.offsets.get(part)
        return one is not None and (one.owner, one.epoch) == (self.name, epoch)

    def _note(self, part: Part, epoch: int, offset: Cursor) -> bool:
        if not self._has(part, epoch):
            return False
        one = self._tables.groups[self._group].offsets[part]
        one.offset, one.handled_at = offset, self._tables.database.now()
        return True


class _MemoryParking:
    """What groups have put aside; see `Parking`."""

    def __init__(self, tables: BusTables) -> None:
        self._tables = tables

    async def parked_keys(self, group: str, topic: str, keys: Sequence[str]) -> frozenset[str]:
        """See `Parking.parked_keys`."""
        await _reach(self._tables)
        rows = self._tables.parked.get((group, topic), {})
        return frozenset(key for key, _, _ in rows.values() if key in keys)

    async def park(
        self, group: str, topic: str, key: str, event_id: UUID, tries: int, delay_s: float
    ) -> None:
        """See `Parking.park`."""
        await _reach(self._tables)
        rows = self._tables.parked.setdefault((group, topic), {})
        if event_id not in rows or rows[event_id][1] < tries:
            rows[event_id] = (key, tries, trio.current_time() + delay_s)

    async def parked(
        self, group: str, topic: str, event_ids: Sequence[UUID]
    ) -> Mapping[UUID, tuple[int, float]]:
        """See `Parking.parked`."""
        await _reach(self._tables)
        rows, now = self._tables.parked.get((group, topic), {}), trio.current_time()
        return {
            id_: (rows[id_][1], max(0.0, rows[id_][2] - now)) for id_ in event_ids if id_ in rows
        }

    async def unpark(self, group: str, topic: str, event_id: UUID) -> None:
        """See `Parking.unpark`."""
        await _reach(self._tables)
        self._tables.parked.get((group, topic), {}).pop(event_id, None)


async def _reach(tables: BusTables) -> None:
    await trio.sleep(tables.faults.delay_s)
    if tables.away:
        raise BusUnavailable(tables.away)
    tables.faults.pass_by()


def _behind(
    tables: BusTables, part: Part, after: Cursor, limit: int | None = None
) -> list[RawRecord]:
    records = tables.records.get(part, [])
    begin = bisect_right(records, after, key=lambda one: one.offset)
    return records[begin : None if limit is None else begin + limit]
