"""The bus on PostgreSQL: its log in the store's database, offsets beside it.

The order of a partition is (txid, position), read below `pg_snapshot_xmin`, as that of events
(`storage/postgres/events/reading.py` says why). A group's partitions are its members' by leases:
each member renews its own every second, in one transaction with what it takes; those of a member
that is silent are free. A commit names owner and epoch, so that a late one changes nothing.

The log is partitioned by day, and a day is dropped as a whole.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import count
from math import inf
from typing import TypeVar
from uuid import UUID, uuid4

import asyncpg
import trio

from actors.persistence import AlreadyHandled, StoredDeadLetter
from actors.persistence.bus import (
    LEASE_S,
    Assignment,
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
    check_whole,
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
)
from actors.persistence.event_store import check_limit
from actors.persistence.words import Cursor, check_a
from actors.runtime import Log
from storage.bus.gathering import Publishes, Row
from storage.errors import StoreUnavailable
from storage.gathering import GatherStats
from storage.postgres import Connection, Database, PostgresDeadLetters
from storage.postgres.connecting.notices import BUS
from storage.postgres.connecting.pool import Work
from storage.postgres.connecting.session import change_rows
from storage.postgres.dead_letters import settle_handed_back
from storage.postgres.events.rows import metadata_json, read_texts
from storage.postgres.outbox import note_handled

T = TypeVar("T")

KEPT = timedelta(days=7)
# Days that are made before they come; today's is made when it is missing, too.
DAYS_AHEAD = 2
# What is aside for longer has no record any more.
PARKED_KEPT = 2 * KEPT
# A publish that failed is told until another does not, and for twice as long as a relay waits for
# its next attempt: whoever gave up for good is no reason to be unhealthy.
REFUSED_TOLD_S = 60.0
# Beyond it a lag is not counted out.
LAG_MAX = 100_000
FETCH_EVERY_S, FETCH_EMPTY_S_MAX = 0.005, 0.02
# A record that rang may stand behind a transaction that is still open: look again this soon.
HIDDEN_FIRST_S, HIDDEN_S_MAX = 0.02, 0.64

_HORIZON = "txid < pg_snapshot_xmin(pg_current_snapshot())"

_PUBLISH = """
INSERT INTO bus_records (topic, partition, key, value, headers)
SELECT r.topic, r.partition, r.key, r.value, r.headers::jsonb
FROM unnest($1::text[], $2::int[], $3::text[], $4::bytea[], $5::text[])
    AS r (topic, partition, key, value, headers)
"""

# How large a value is stands beside it: one that is left out is not read for it.
_FETCH = f"""
SELECT txid, position, key, value, headers, published_at FROM (
    SELECT txid, position, key, value, headers, published_at,
        sum(octet_length(key) + octet_length(value) + octet_length(headers::text)) OVER w AS size,
        row_number() OVER w AS place
    FROM bus_records
    WHERE topic = $1 AND partition = $2 AND (txid, position) > ($3::xid8, $4::bigint) AND {_HORIZON}
    WINDOW w AS (ORDER BY txid, position ROWS UNBOUNDED PRECEDING)
    ORDER BY txid, position LIMIT $5
) next WHERE size <= $6 OR place = 1
ORDER BY txid, position
"""  # noqa: S608  (our own words)

_LEASE = timedelta(seconds=LEASE_S)

# The row of the group is its lock: of two members that renew at once the second waits.
_SEEN = """
INSERT INTO bus_groups (name) VALUES ($1)
ON CONFLICT (name) DO UPDATE SET seen_at = clock_timestamp(), is_counted = true
"""
_ALIVE = """
INSERT INTO bus_members (group_name, member, topics, lease_until)
VALUES ($1, $2, $3, clock_timestamp() + $4::interval)
ON CONFLICT (group_name, member) DO UPDATE SET lease_until = excluded.lease_until
"""
_LIVING = "SELECT member, topics FROM bus_members WHERE group_name = $1"
# A lease that is longer than any is from before the clock was set back: it begins anew.
_DEAD = """
WITH anew AS (
    UPDATE bus_members SET lease_until = clock_timestamp() + $2::interval
    WHERE group_name = $1 AND lease_until > clock_timestamp() + 2 * $2::interval
)
DELETE FROM bus_members WHERE group_name = $1 AND lease_until <= clock_timestamp()
"""
_OFFSETS = """
SELECT topic, partition, owner, epoch, txid, position FROM bus_offsets
WHERE group_name = $1 AND topic = ANY($2)
"""
_TAKE = """
UPDATE bus_offsets o SET owner = $2, epoch = epoch + 1
FROM unnest($3::text[], $4::int[]) AS t (topic, partition)
WHERE o.group_name = $1 AND o.topic = t.topic AND o.partition = t.partition
RETURNING o.topic, o.partition, o.epoch, o.txid, o.position
"""
_FIRST_OFFSETS = """
INSERT INTO bus_offsets (group_name, topic, partition, txid)
SELECT $1, t.name, n, CASE WHEN $3 THEN pg_snapshot_xmin(pg_current_snapshot()) ELSE '0' END
FROM bus_topics t CROSS JOIN LATERAL generate_series(0, t.partitions - 1) n
WHERE t.name = ANY($2)
ON CONFLICT DO NOTHING
"""
_OURS = "group_name = $1 AND topic = $2 AND partition = $3 AND owner = $4 AND epoch = $5"
_COMMIT = f"""
UPDATE bus_offsets SET txid = $6::xid8, position = $7, handled_at = clock_timestamp()
WHERE {_OURS}
"""  # noqa: S608  (our own words)
# What a crash of the server takes of it is handled again, as what was not noted at all.
_NOTE = f"{_COMMIT} AND set_config('synchronous_commit', 'off', true) = 'off'"
_IS_OURS = f"SELECT FROM bus_offsets WHERE {_OURS} FOR SHARE"
_RELEASE = f"UPDATE bus_offsets SET owner = '' WHERE {_OURS}"  # noqa: S608
_LEFT = "UPDATE bus_offsets SET owner = '' WHERE group_name = $1 AND owner = $2"

_LAG = f"""
SELECT o.topic, o.partition, o.handled_at, b.behind,
    coalesce(greatest(0, extract(epoch FROM clock_timestamp() - b.oldest)), 0)::float8 AS seconds
FROM bus_offsets o CROSS JOIN LATERAL (
    SELECT count(*) AS behind, min(published_at) AS oldest FROM (
        SELECT published_at FROM bus_records r
        WHERE r.topic = o.topic AND r.partition = o.partition
            AND (r.txid, r.position) > (o.txid, o.position) AND {_HORIZON}
        ORDER BY r.txid, r.position LIMIT {LAG_MAX}
    ) unread
) b
WHERE o.group_name = $1 ORDER BY o.topic, o.partition
"""  # noqa: S608  (our own words)

_GROUPS = """
SELECT g.name, g.seen_at, g.is_counted,
    (SELECT count(*) FROM bus_members m
        WHERE m.group_name = g.name AND m.lease_until > clock_timestamp()) AS members,
    ARRAY(SELECT DISTINCT o.topic FROM bus_offsets o WHERE o.group_name = g.name ORDER BY 1)
        AS topics
FROM bus_groups g ORDER BY g.name
"""

# Without an owner, and with a higher epoch: what a member says late is refused.
_SEEK = """
UPDATE bus_offsets o SET owner = '', epoch = epoch + 1, txid = p.txid, position = p.position
FROM ({place}) p
WHERE o.group_name = $1 AND ($2::text IS NULL OR o.topic = $2)
    AND p.topic = o.topic AND p.partition = o.partition
"""
_PARTS = "SELECT o.topic, o.partition, {} FROM bus_offsets o WHERE o.group_name = $1"
_TO_EARLIEST = _PARTS.format("'0'::xid8 AS txid, 0::bigint AS position")
_TO_LATEST = _PARTS.format("pg_snapshot_xmin(pg_current_snapshot()) AS txid, 0::bigint AS position")
_TO_OFFSET = _PARTS.format("$3::xid8 AS txid, $4::bigint AS position")
_TO_TIME = f"""
SELECT o.topic, o.partition, t.txid, t.position
FROM bus_offsets o CROSS JOIN LATERAL (
    SELECT txid, position - 1 AS position, true AS is_found FROM (
        SELECT txid, position FROM bus_records r
        WHERE r.topic = o.topic AND r.partition = o.partition
            AND published_at >= $3 AND {_HORIZON}
        ORDER BY txid, position LIMIT 1
    ) first
    UNION ALL SELECT pg_snapshot_xmin(pg_current_snapshot()), 0, false
    ORDER BY is_found DESC LIMIT 1
) t
WHERE o.group_name = $1
"""  # noqa: S608  (our own words)

_PARKED_KEYS = """
SELECT DISTINCT key FROM bus_parked WHERE group_name = $1 AND topic = $2 AND key = ANY($3)
"""
_PARK = """
INSERT INTO bus_parked (group_name, topic, event_id, key, tries, due_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
ON CONFLICT (group_name, topic, event_id) DO UPDATE
    SET tries = excluded.tries, due_at = excluded.due_at WHERE bus_parked.tries < excluded.tries
"""
_PARKED = """
SELECT event_id, tries,
    greatest(0, extract(epoch FROM due_at - clock_timestamp()))::float8 AS due_in_s
FROM bus_parked WHERE group_name = $1 AND topic = $2 AND event_id = ANY($3)
"""
_UNPARK = "DELETE FROM bus_parked WHERE group_name = $1 AND topic = $2 AND event_id = $3"

_SILENT = """
UPDATE bus_groups SET is_counted = false
WHERE is_counted AND seen_at <= clock_timestamp() - $1::interval RETURNING name
"""
_DAYS = """
SELECT to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') AS day FROM pg_inherits
WHERE inhparent = 'bus_records'::regclass ORDER BY 1
"""
_IS_PASSED = """
SELECT NOT EXISTS (
    SELECT FROM bus_offsets o JOIN bus_groups g ON g.name = o.group_name AND g.is_counted
    CROSS JOIN LATERAL (
        SELECT FROM bus_records r
        WHERE r.topic = o.topic AND r.partition = o.partition
            AND r.published_at >= $1 AND r.published_at < $2
            AND (r.txid, r.position) > (o.txid, o.position) LIMIT 1
    ) unread
)
"""
_OLD_PARKED = """
DELETE FROM bus_parked WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM bus_parked WHERE due_at <= clock_timestamp() - $1::interval LIMIT $2))
"""

_log = Log("storage.bus")


class Retention(StrEnum):
    """How long records are kept: seven days, or until every group that is counted passed them."""

    TIME = "time"
    ACKED = "acked"


class PostgresBus:
    """The port `EventBus` on a `Database`; see the module's docstring."""

    has_transactions = True

    def __init__(
        self,
        database: Database,
        *,
        dead_letters: PostgresDeadLetters | None = None,
        retention: Retention = Retention.TIME,
    ) -> None:
        check_a("retention", retention, Retention)
        self.database, self._retention = database, retention
        self.dead_letters = dead_letters or PostgresDeadLetters(database)
        self.parking = _PostgresParking(self)
        self._publishes = Publishes(database, self._send, lambda: database.settings.operation_s_max)
        self._name, self._numbers = str(uuid4()), count(1)
        self._partitions: dict[str, int] = {}
        self._away_since = 0.0
        self._away = ""
        # Of publishes that failed on a database that answers, such as one whose disk is full.
        self._refused_since = self._refused_at = -inf
        self._refused = ""

    async def declare(self, topic: str, partitions: int = PARTITIONS_DEFAULT) -> None:
        """See `EventBus.declare`."""
        check_topic(topic)
        check_partitions(partitions)

        async def work(connection: Connection) -> int:
            await connection.execute(
                "INSERT INTO bus_topics (name, partitions) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                topic,
                partitions,
            )
            return int(
                await connection.fetchval(
                    "SELECT partitions FROM bus_topics WHERE name = $1", topic
                )
            )

        found = await self.call(work)
        if found != partitions:
            raise PartitionsDiffer(topic, partitions, found)

    async def publish(self, topic: str, record: Record) -> None:
        """See `EventBus.publish`."""
        await self.publish_batch(topic, [record])

    async def publish_batch(self, topic: str, records: Sequence[Record]) -> None:
        """See `EventBus.publish_batch`."""
        records = check_records(topic, records)
        partitions = await self._partitions_of(topic)
        await self._publishes.publish([self._row(topic, one, partitions) for one in records])

    async def put_back(self, id_: int, by: str) -> StoredDeadLetter:
        """Call this as the function `put_back`, which does: record and letter are one commit."""
        topic, record = check_whole(await self.dead_letters.get(id_))
        row = self._row(topic, record, await self._partitions_of(topic))

        async def work(connection: Connection) -> StoredDeadLetter:
            settled = await settle_handed_back(connection, id_, by)
            # In a transaction it cannot be made behind a refusal.
            await connection.execute("SELECT bus_add_days(0)")
            await _insert(connection, [row])
            return settled

        settled = await self.call(work, begin="BEGIN", channel=BUS)
        self.database.tallies.add("dead_letters_resolved_total", settled.letter.kind)
        return settled

    def _row(self, topic: str, record: Record, partitions: int) -> Row:
        partition, headers = partition_for(record.key, partitions), record.wire_headers
        return Row(topic, partition, record.key, record.value, metadata_json(headers))

    async def publish_raw(self, topic: str, partition: int, raw: Sequence[RawRecord]) -> None:
        """See `Engine.publish_raw`."""
        await self._partitions_of(topic)
        await self._send(
            [
                Row(
                    topic,
                    partition,
                    one.key.decode(errors="replace"),
                    one.value,
                    metadata_json(
                        {name: text.decode(errors="replace") for name, text in one.headers.items()}
                    ),
                )
                for one in raw
            ]
        )

    async def lag(self, group: str) -> Sequence[PartLag]:
        """See `EventBus.lag`; beyond 100 000 records are not counted out."""
        check_group(group)

        async def work(connection: Connection) -> list[PartLag] | None:
            rows = await connection.fetch(_LAG, group)
            if not rows and not await _is_known(connection, group):
                return None
            return [
                PartLag(
                    row["topic"], row["partition"], row["behind"], row["seconds"], row["handled_at"]
                )
                for row in rows
            ]

        found = await self.call(work)
        if found is None:
            raise UnknownGroup(group)
        return found

    async def topics(self) -> Sequence[TopicInfo]:
        """See `EventBus.topics`."""

        async def work(connection: Connection) -> list[TopicInfo]:
            rows = await connection.fetch("SELECT name, partitions FROM bus_topics ORDER BY name")
            return [TopicInfo(*row) for row in rows]

        return await self.call(work)

    async def groups(self) -> Sequence[GroupInfo]:
        """See `EventBus.groups`."""

        async def work(connection: Connection) -> list[GroupInfo]:
            return [
                GroupInfo(
                    row["name"], row["topics"], row["members"], row["seen_at"], row["is_counted"]
                )
                for row in await connection.fetch(_GROUPS)
            ]

        return await self.call(work)

    async def seek(self, group: str, goal: Goal, topic: str | None = None) -> int:
        """See `EventBus.seek`."""
        check_goal(group, goal, topic)

        async def work(connection: Connection) -> int:
            locked = await connection.fetchrow(
                "SELECT FROM bus_groups WHERE name = $1 FOR UPDATE", group
            )
            if locked is None:
                raise UnknownGroup(group)
            await connection.execute(_DEAD, group, _LEASE)
            if await connection.fetchval(
                "SELECT count(*) FROM bus_members WHERE group_name = $1", group
            ):
                raise GroupError(group, "has members; stop them first")
            place, given = _place(goal)
            return await change_rows(connection, _SEEK.format(place=place), group, topic, *given)

        return await self.call(work, begin="BEGIN")

    def statistics(self) -> GatherStats:
        """Call this to see how publishes share statements."""
        return self._publishes.statistics()

    async def health(self) -> BusHealth:
        """See `EventBus.health`."""

        async def work(connection: Connection) -> None:
            await connection.execute("SELECT 1")

        try:
            await self.call(work)
        except BusUnavailable:
            pass  # it is noted, and told below
        now = trio.current_time()
        if self._refused and not self._away and now - self._refused_at <= REFUSED_TOLD_S:
            return BusHealth.after(now - self._refused_since, self._refused)
        return BusHealth.after(now - self._away_since, self._away)

    async def join(self, group: str, topics: Sequence[str], start_at: StartAt) -> "PostgresMember":
        """See `Engine.join`."""
        for topic in topics:
            try:
                await self._partitions_of(topic)
            except UnknownTopic as error:
                raise SubscriptionFailed([topic], error.reason) from None

        async def work(connection: Connection) -> None:
            await connection.execute(_SEEN, group)
            await connection.execute(
                _FIRST_OFFSETS, group, list(topics), start_at is StartAt.LATEST
            )

        await self.call(work, begin="BEGIN")
        return PostgresMember(self, group, topics, f"{self._name}-{next(self._numbers)}")

    async def purge(self, limit: int = 1000) -> int:
        """Call this now and then: makes days to come, removes old ones; gives how many are gone.

        A group that was silent for as long as records are kept is reported, and not waited for.
        """
        check_limit(limit)

        async def look(connection: Connection) -> list[date]:
            await connection.execute("SELECT bus_add_days($1)", DAYS_AHEAD)
            await connection.execute(_OLD_PARKED, PARKED_KEPT, limit)
            for row in await connection.fetch(_SILENT, KEPT):
                _log.error("bus.group_silent", group=row["name"], days=KEPT.days)
            return [row["day"] for row in await connection.fetch(_DAYS)]

        gone = 0
        for day in await self.call(look):
            gone += await self.call(self._drop, day, begin="BEGIN")
        return gone

    async def call(
        self,
        work: Work[T],
        *args: object,
        begin: str | None = None,
        channel: str | None = None,
    ) -> T:
        """Call this to run work on the database; one that is away is told in the bus's words."""
        try:
            if begin is None:
                result = await self.database.run(work, *args, channel=channel)
            else:
                result = await self.database.transact(work, *args, begin=begin, channel=channel)
        except StoreUnavailable as error:
            if not self._away:
                self._away_since = trio.current_time()
            self._away = str(error)
            raise BusUnavailable(str(error)) from error
        self._away = ""
        return result

    async def _drop(self, connection: Connection, day: date) -> int:
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if self._retention is Retention.ACKED:
            is_over = await connection.fetchval(_IS_PASSED, begin, begin + timedelta(days=1))
        else:
            is_over = await connection.fetchval(
                "SELECT $1 <= clock_timestamp() - $2::interval", begin + timedelta(days=1), KEPT
            )
        return int(is_over and await connection.fetchval("SELECT bus_drop_day($1)", day))

    async def _partitions_of(self, topic: str) -> int:
        # Neither their number nor a topic ever goes.
        if topic not in self._partitions:
            for info in await self.topics():
                self._partitions[info.name] = info.partitions
        if topic not in self._partitions:
            raise UnknownTopic(topic)
        return self._partitions[topic]

    async def _send(self, rows: Sequence[Row]) -> None:
        try:
            await self.call(_publish, rows, channel=BUS)
        except BusUnavailable as error:
            now = trio.current_time()
            if not self._refused or now - self._refused_at > REFUSED_TOLD_S:
                self._refused_since = now
            self._refused, self._refused_at = str(error), now
            raise
        self._refused = ""


class PostgresMember:
    """One membership; see `Member`."""

    def __init__(self, bus: PostgresBus, group: str, topics: Sequence[str], name: str) -> None:
        self._bus, self._group, self._topics, self.name = bus, group, topics, name
        self._bell, self._hearing = bus.database.bell(BUS), ExitStack()
        self._hearing.enter_context(self._bell.heard())
        self._fetch_from: dict[Part, float] = {}
        self._waits: dict[Part, Callable[[float], Awaitable[None]]] = {}
        # How long ago a ring brought nothing: what rang may not be seen yet.
        self._hidden_s: dict[Part, float] = {}

    async def renew(self) -> Assignment:
        """See `Member.renew`."""
        return await self._bus.call(self._renew, begin="BEGIN")

    async def fetch(
        self, part: Part, after: Cursor, limit: int, bytes_max: int
    ) -> Sequence[RawRecord]:
        """See `Member.fetch`."""
        # Every record rings for all partitions: so often each is looked at, at most.
        await trio.sleep_until(self._fetch_from.get(part, -inf))
        self._waits[part] = self._bell.listen()
        rows = await self._bus.call(_fetch, part, after, limit, bytes_max)
        every_s = FETCH_EVERY_S if rows else FETCH_EMPTY_S_MAX
        self._fetch_from[part] = trio.current_time() + every_s
        if rows:
            self._hidden_s.pop(part, None)
        return [
            RawRecord(
                part,
                Cursor(row["txid"], row["position"]),
                row["key"].encode(),
                row["value"],
                {name: text.encode() for name, text in read_texts(row["headers"]).items()},
                row["published_at"],
            )
            for row in rows
        ]

    async def wait(self, part: Part, timeout_s: float) -> None:
        """See `Member.wait`."""
        hidden_s = self._hidden_s.get(part)
        began = trio.current_time()
        wait = self._waits.get(part, self._bell.listen())
        await wait(timeout_s if hidden_s is None else min(timeout_s, hidden_s))
        if trio.current_time() - began < timeout_s and hidden_s is None:
            self._hidden_s[part] = HIDDEN_FIRST_S
        elif hidden_s is not None and hidden_s < HIDDEN_S_MAX:
            self._hidden_s[part] = hidden_s * 2
        else:
            self._hidden_s.pop(part, None)

    async def commit(self, part: Part, epoch: int, offset: Cursor) -> bool:
        """See `Member.commit`."""
        return await self._bus.call(self._note, _NOTE, part, epoch, offset)

    async def transact(
        self,
        part: Part,
        epoch: int,
        received: Received,
        handler: HandlerInTransaction,
        offset: Cursor | None,
    ) -> bool:
        """See `Member.transact`: the transaction is the connection.

        The handler runs on the database's thread, and so long as its session may take.
        """
        return await self._bus.call(
            self._transact, part, epoch, received, handler, offset, begin="BEGIN"
        )

    async def release(self, part: Part, epoch: int) -> None:
        """See `Member.release`."""
        await self._bus.call(change_rows, _RELEASE, self._group, *part, self.name, epoch)

    async def leave(self) -> None:
        """See `Member.leave`."""
        self._hearing.close()

        async def work(connection: Connection) -> None:
            await connection.execute(
                "DELETE FROM bus_members WHERE group_name = $1 AND member = $2",
                self._group,
                self.name,
            )
            await connection.execute(_LEFT, self._group, self.name)

        await self._bus.call(work, begin="BEGIN")

    # On the loop.

    async def _renew(self, connection: Connection) -> Assignment:
        await connection.execute(_SEEN, self._group)
        await connection.execute(_ALIVE, self._group, self.name, list(self._topics), _LEASE)
        await connection.execute(_DEAD, self._group, _LEASE)
        living = {
            row["member"]: row["topics"] for row in await connection.fetch(_LIVING, self._group)
        }
        held: dict[Part, Held] = {}
        owners: dict[str, dict[int, str]] = {topic: {} for topic in self._topics}
        for row in await connection.fetch(_OFFSETS, self._group, list(self._topics)):
            owner = row["owner"] if row["owner"] in living else ""
            owners[row["topic"]][row["partition"]] = owner
            if owner == self.name:
                held[Part(row["topic"], row["partition"])] = _held(row)
        take: list[Part] = []
        surplus: set[Part] = set()
        for topic in self._topics:
            members = [name for name, topics in living.items() if topic in topics]
            claimed = claim(topic, self.name, members, owners[topic])
            take += [Part(topic, number) for number in claimed.take]
            surplus.update(Part(topic, number) for number in claimed.surplus)
        if take:
            names, numbers = [part.topic for part in take], [part.partition for part in take]
            for row in await connection.fetch(_TAKE, self._group, self.name, names, numbers):
                held[Part(row["topic"], row["partition"])] = _held(row)
        return Assignment(held, frozenset(surplus))

    async def _note(
        self, connection: Connection, statement: str, part: Part, epoch: int, offset: Cursor
    ) -> bool:
        args = (self._group, *part, self.name, epoch, *offset)
        return await change_rows(connection, statement, *args) == 1

    async def _transact(
        self,
        connection: Connection,
        part: Part,
        epoch: int,
        received: Received,
        handler: HandlerInTransaction,
        offset: Cursor | None,
    ) -> bool:
        # First, and locked with it: who takes the partition waits for us, or we find it taken.
        if offset is not None:
            if not await self._note(connection, _COMMIT, part, epoch, offset):
                return False
        elif await connection.fetchrow(_IS_OURS, self._group, *part, self.name, epoch) is None:
            return False
        try:
            await note_handled(connection, self._group, received.record.event_id)
        except AlreadyHandled:
            return True
        await handler(connection, received)
        return True


class _PostgresParking:
    """What groups have put aside; see `Parking`."""

    def __init__(self, bus: PostgresBus) -> None:
        self._bus = bus

    async def parked_keys(self, group: str, topic: str, keys: Sequence[str]) -> frozenset[str]:
        """See `Parking.parked_keys`."""
        rows = await self._bus.call(_fetch_rows, _PARKED_KEYS, group, topic, list(keys))
        return frozenset(row["key"] for row in rows)

    async def park(
        self, group: str, topic: str, key: str, event_id: UUID, tries: int, delay_s: float
    ) -> None:
        """See `Parking.park`."""
        args = (group, topic, event_id, key, tries, timedelta(seconds=delay_s))
        await self._bus.call(change_rows, _PARK, *args)

    async def parked(
        self, group: str, topic: str, event_ids: Sequence[UUID]
    ) -> Mapping[UUID, tuple[int, float]]:
        """See `Parking.parked`."""
        rows = await self._bus.call(_fetch_rows, _PARKED, group, topic, list(event_ids))
        return {UUID(str(row["event_id"])): (row["tries"], row["due_in_s"]) for row in rows}

    async def unpark(self, group: str, topic: str, event_id: UUID) -> None:
        """See `Parking.unpark`."""
        await self._bus.call(change_rows, _UNPARK, group, topic, event_id)


def _place(goal: Goal) -> tuple[str, tuple[object, ...]]:
    """The statement that says where a partition is moved to, and what it is given."""
    match goal:
        case Cursor():
            return _TO_OFFSET, tuple(goal)
        case datetime():
            return _TO_TIME, (goal,)
        case StartAt.EARLIEST:
            return _TO_EARLIEST, ()
        case StartAt.LATEST:
            return _TO_LATEST, ()


def _held(row: asyncpg.Record) -> Held:
    return Held(row["epoch"], Cursor(row["txid"], row["position"]))


async def _is_known(connection: Connection, group: str) -> bool:
    return bool(
        await connection.fetchval("SELECT EXISTS (SELECT FROM bus_groups WHERE name = $1)", group)
    )


async def _fetch(
    connection: Connection, part: Part, after: Cursor, limit: int, bytes_max: int
) -> list[asyncpg.Record]:
    return await connection.fetch(_FETCH, *part, *after, limit, bytes_max)


async def _fetch_rows(
    connection: Connection, statement: str, *args: object
) -> list[asyncpg.Record]:
    return await connection.fetch(statement, *args)


async def _publish(connection: Connection, rows: Sequence[Row]) -> None:
    try:
        await _insert(connection, rows)
    except asyncpg.CheckViolationError:
        # There is no table for today: nobody has cleaned for days.
        await connection.execute("SELECT bus_add_days($1)", DAYS_AHEAD)
        await _insert(connection, rows)


async def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    await connection.execute(_PUBLISH, *[list(column) for column in zip(*rows, strict=True)])
