"""Nodes and shards in PostgreSQL; the twin of `storage/memory/nodes.py`.

Rule: whatever changes owner or epoch of a shard waits for the appends under way in it, and whatever
renews a lease does not (see `shards_epoch`). A claim passes over what it would have to wait for:
a node that was stopped in the middle of an append must not keep all others from the rest.
"""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import asyncpg
import msgspec

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
    SecretMarks,
    Survey,
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
from actors.persistence import Fenced, Shard
from actors.persistence.event_store import check_limit
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows

_decode_trips = msgspec.json.Decoder(dict[UUID, float]).decode

_LIVING = "state <> 'gone' AND heartbeat_at >= clock_timestamp() - $2::interval"
_IS_UP = f"state = 'up' AND link = 'up' AND {_LIVING}"

_DIVIDE = "INSERT INTO cluster_meta (shards) VALUES ($1) ON CONFLICT DO NOTHING"
# Locked: of two that join at once under one name the later sees the former.
_DIVIDED = "SELECT shards FROM cluster_meta FOR UPDATE"
_NAMED = f"SELECT EXISTS (SELECT FROM nodes WHERE name = $1 AND {_LIVING})"  # noqa: S608  (own words)
_MARKED = f"SELECT name, seals, believes FROM nodes WHERE seals <> $1 AND {_LIVING}"  # noqa: S608  (own words)
# The clock goes on within a statement: it is looked at once.
_JOIN = """
WITH this AS MATERIALIZED (SELECT clock_timestamp() AS moment)
INSERT INTO nodes (
    node_id, name, version, weight, seals, believes, started_at, heartbeat_at, link, state
)
VALUES (
    $1, $2, $3, $4, $5, $6, (SELECT moment FROM this), (SELECT moment FROM this), 'up', 'joining'
)
RETURNING heartbeat_at
"""

_BEAT = f"""
WITH me AS (
    UPDATE nodes SET heartbeat_at = clock_timestamp(), link = $3,
        trips = coalesce($4::text::jsonb, trips)
    WHERE node_id = $1 AND {_LIVING} RETURNING heartbeat_at, state
), held AS (
    UPDATE shards SET lease_until = clock_timestamp() + $2::interval
    WHERE owner = $1::uuid::text AND EXISTS (SELECT FROM me) RETURNING id, epoch
)
SELECT me.heartbeat_at, me.state, held.id, held.epoch FROM me LEFT JOIN held ON true
"""  # noqa: S608  (our own words)

# A beat that is still to come, and a lease that is longer than any, are from before the clock of
# the database was set back. They begin anew: who lives renews them, and who is dead holds nothing
# for as long as that. Rows that somebody has in hand are being renewed.
_SETTLE = """
WITH gone AS (
    UPDATE nodes SET state = 'gone'
    WHERE state <> 'gone' AND heartbeat_at < clock_timestamp() - $1::interval
), early AS (
    SELECT node_id FROM nodes
    WHERE state <> 'gone' AND heartbeat_at > clock_timestamp() + $1::interval
    FOR NO KEY UPDATE SKIP LOCKED
), beaten AS (
    UPDATE nodes n SET heartbeat_at = clock_timestamp() FROM early WHERE n.node_id = early.node_id
), long AS (
    SELECT id FROM shards WHERE lease_until > clock_timestamp() + 2 * $1::interval
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE shards s SET lease_until = clock_timestamp() + $1::interval FROM long WHERE s.id = long.id
"""
# A process that serves without a cluster is known by the name of its sessions, which costs it
# nothing; one that only starts to is known as well. Of another role's sessions no name is told.
_ALONE = """
SELECT DISTINCT application_name || ' (pid ' || pid || ')' FROM pg_stat_activity
WHERE datname = current_database() AND application_name ~ '^greenroom:(site|start)'
ORDER BY 1
"""
_NODES = """
SELECT node_id, name, version, started_at, heartbeat_at, link, state, weight, trips::text,
    seals, believes
FROM nodes
"""
_NOW = "SELECT clock_timestamp(), (SELECT shards FROM cluster_meta)"
_SHARDS = "SELECT id, owner, epoch, lease_until FROM shards"

_CLAIM = f"""
WITH me AS (
    SELECT FROM nodes WHERE node_id = $1 AND {_IS_UP}
), wanted AS (
    SELECT id, epoch FROM unnest($3::int[], $4::bigint[]) AS asked (id, epoch)
), free AS (
    SELECT s.id FROM shards s JOIN wanted w USING (id, epoch)
    WHERE s.lease_until <= clock_timestamp() AND EXISTS (SELECT FROM me)
    ORDER BY s.id FOR UPDATE OF s SKIP LOCKED
), raised AS (
    UPDATE shards s SET owner = $1::uuid::text, epoch = s.epoch + 1,
        lease_until = clock_timestamp() + $2::interval
    FROM free WHERE s.id = free.id RETURNING s.id, s.epoch
), made AS (
    INSERT INTO shards (id, owner, epoch, lease_until)
    SELECT id, $1::uuid::text, 1, clock_timestamp() + $2::interval FROM wanted
    WHERE epoch = 0 AND EXISTS (SELECT FROM me) ORDER BY id
    ON CONFLICT DO NOTHING RETURNING id, epoch
)
SELECT id, epoch FROM raised UNION ALL SELECT id, epoch FROM made
"""  # noqa: S608  (our own words)

# Who holds rows of `shards` and has said nothing for longer than a lease was stopped in an append.
_END_STOPPED = """
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.usename = current_user
    AND a.state = 'idle in transaction'
    AND a.state_change < clock_timestamp() - $1::interval
    AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.relation = 'shards'::regclass)
"""

_HAND_OVER = f"""
UPDATE shards SET owner = $1::uuid::text, epoch = epoch + 1,
    lease_until = clock_timestamp() + $2::interval
WHERE id = $3 AND epoch = $4 AND owner = $5
    AND EXISTS (SELECT FROM nodes WHERE node_id = $1 AND {_IS_UP})
RETURNING epoch
"""  # noqa: S608  (our own words)

_RELEASE = """
UPDATE shards s SET owner = '', epoch = s.epoch + 1, lease_until = clock_timestamp()
FROM (
    SELECT s.id FROM shards s JOIN unnest($2::int[], $3::bigint[]) AS asked (id, epoch)
        USING (id, epoch)
    WHERE s.owner = $1 ORDER BY s.id FOR UPDATE OF s
) mine WHERE s.id = mine.id
"""
_SET_STATE = "UPDATE nodes SET state = $2 WHERE node_id = $1 AND state <> 'gone'"
_HELD = "SELECT id, epoch FROM shards WHERE owner = $1"

_PURGE = """
DELETE FROM nodes WHERE node_id IN (
    SELECT node_id FROM nodes WHERE heartbeat_at < clock_timestamp() - $1::interval
    ORDER BY heartbeat_at LIMIT $2)
"""

# Fenced as appends are: a former owner neither adds nor removes what the present one goes by.
_MINE = """
WITH mine AS MATERIALIZED (
    SELECT id FROM shards WHERE id = $1 AND owner = $2 AND epoch = $3 FOR KEY SHARE
)
"""
_REMEMBER = f"""
{_MINE}, noted AS (
    INSERT INTO remembered (kind, id, shard) SELECT $4, $5, id FROM mine
    ON CONFLICT (kind, id) DO UPDATE SET shard = excluded.shard
        WHERE remembered.shard <> excluded.shard
)
SELECT EXISTS (SELECT FROM mine)
"""  # noqa: S608  (our own words)
_FORGET = f"""
{_MINE}
DELETE FROM remembered r USING mine WHERE r.kind = $4 AND r.id = $5 AND r.shard = mine.id
"""  # noqa: S608  (our own words)
_REMEMBERED = """
SELECT kind, id FROM remembered WHERE shard = ANY($1::int[]) AND (kind, id) > ($2, $3)
ORDER BY kind, id LIMIT $4
"""
_EPOCH = "SELECT epoch FROM shards WHERE id = $1"


class PostgresNodes:
    """The port `Nodes` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def join(self, node: NewNode) -> Beat:
        """See `Nodes.join`."""
        check_new_node(node)
        # By itself: a name that is refused now is free once what begins anew is over.
        await self._database.run(_settle)
        return await self._database.transact(_join, node)

    async def beat(
        self,
        node_id: UUID,
        *,
        link: LinkState = LinkState.UP,
        trips: Mapping[UUID, float] | None = None,
    ) -> Beat:
        """See `Nodes.beat`."""
        check_beat(node_id, link, trips)
        noted = None if trips is None else msgspec.json.encode(trips).decode()
        return await self._database.run(_beat, node_id, link, noted)

    async def survey(self) -> Survey:
        """See `Nodes.survey`."""
        return await self._database.run(_survey)

    async def set_state(self, node_id: UUID, state: NodeState) -> bool:
        """See `Nodes.set_state`."""
        check_state(node_id, state)
        return await self._database.transact(_set_state, node_id, state)

    async def claim(self, node_id: UUID, wanted: Mapping[int, int]) -> Mapping[int, int]:
        """See `Nodes.claim`."""
        check_claim(node_id, wanted)
        return await self._database.run(_claim, node_id, dict(wanted))

    async def hand_over(self, node_id: UUID, shard: int, epoch: int, to: UUID) -> int | None:
        """See `Nodes.hand_over`."""
        check_hand_over(node_id, shard, epoch, to)
        return await self._database.run(_hand_over, str(node_id), shard, epoch, to)

    async def release(self, node_id: UUID, shards: Mapping[int, int]) -> int:
        """See `Nodes.release`."""
        check_claim(node_id, shards)
        return await self._database.run(_release, str(node_id), dict(shards))

    async def remember(self, shard: Shard, kind: str, id_: str) -> None:
        """See `Remembering.remember`."""
        check_remembered(shard, kind, id_)
        await self._database.run(_remember, shard, kind, id_)

    async def forget(self, shard: Shard, kind: str, id_: str) -> bool:
        """See `Remembering.forget`."""
        check_remembered(shard, kind, id_)
        token = (shard.id, shard.owner, shard.epoch)
        return await self._database.run(change_rows, _FORGET, *token, kind, id_) == 1

    async def remembered(
        self, shards: Collection[int], *, after: tuple[str, str] = ("", ""), limit: int = 100
    ) -> Sequence[tuple[str, str]]:
        """See `Remembering.remembered`."""
        check_recall(shards, after)
        check_limit(limit)
        return await self._database.run(_remembered, list(shards), after, limit)

    async def purge(self, limit: int = 1000) -> int:
        """See `Nodes.purge`."""
        check_limit(limit)
        return await self._database.run(change_rows, _PURGE, GONE_KEPT, limit)


async def _settle(connection: Connection) -> None:
    await connection.execute(_SETTLE, LEASE)


async def _join(connection: Connection, node: NewNode) -> Beat:
    await connection.execute(_DIVIDE, node.shards)
    kept = await connection.fetchval(_DIVIDED)
    if kept != node.shards:
        raise OtherShardCount(node.shards, kept)
    if await connection.fetchval(_NAMED, node.name, LEASE):
        raise NodeNameTaken(node.name)
    marks = node.marks
    for one in await connection.fetch(_MARKED, marks.seals, LEASE):
        if not marks.hears_and_is_heard(SecretMarks(one["seals"], one["believes"])):
            raise OtherSecret(one["name"])
    told = (node.node_id, node.name, node.version, node.weight, marks.seals, marks.believes)
    now = await connection.fetchval(_JOIN, *told)
    return Beat(now, NodeState.JOINING)


async def _beat(connection: Connection, node_id: UUID, link: LinkState, trips: str | None) -> Beat:
    rows = await connection.fetch(_BEAT, node_id, LEASE, link, trips)
    if not rows:
        raise NotMember(node_id)
    held = {row["id"]: row["epoch"] for row in rows if row["id"] is not None}
    return Beat(rows[0]["heartbeat_at"], NodeState(rows[0]["state"]), held)


async def _survey(connection: Connection) -> Survey:
    await _settle(connection)
    # The time first: what is read after it cannot look older than it is.
    row = await connection.fetchrow(_NOW)
    assert row is not None, "a row of expressions is always there"
    now, divided = row
    shards = [
        Owned(row["id"], row["owner"], row["epoch"], row["lease_until"])
        for row in await connection.fetch(_SHARDS)
    ]
    nodes = [_node(row) for row in await connection.fetch(_NODES)]
    alone = [row[0] for row in await connection.fetch(_ALONE)]
    return Survey(
        now,
        {one.node_id: one for one in nodes},
        {one.shard: one for one in shards},
        tuple(alone),
        divided,
    )


def _node(row: asyncpg.Record) -> Node:
    return Node(
        row["node_id"],
        row["name"],
        row["version"],
        row["started_at"],
        row["heartbeat_at"],
        LinkState(row["link"]),
        NodeState(row["state"]),
        row["weight"],
        _decode_trips(row["trips"]),
        SecretMarks(row["seals"], row["believes"]),
    )


async def _set_state(connection: Connection, node_id: UUID, state: NodeState) -> bool:
    if not await change_rows(connection, _SET_STATE, node_id, state):
        return False
    if state is NodeState.GONE:
        rows = await connection.fetch(_HELD, str(node_id))
        await _release(connection, str(node_id), {row["id"]: row["epoch"] for row in rows})
    return True


async def _claim(connection: Connection, node_id: UUID, wanted: dict[int, int]) -> dict[int, int]:
    rows = await connection.fetch(_CLAIM, node_id, LEASE, list(wanted), list(wanted.values()))
    if len(rows) < len(wanted):
        await connection.execute(_END_STOPPED, LEASE)
    return {row["id"]: row["epoch"] for row in rows}


async def _hand_over(
    connection: Connection, owner: str, shard: int, epoch: int, to: UUID
) -> int | None:
    raised: int | None = await connection.fetchval(_HAND_OVER, to, LEASE, shard, epoch, owner)
    return raised


async def _release(connection: Connection, owner: str, shards: dict[int, int]) -> int:
    return await change_rows(connection, _RELEASE, owner, list(shards), list(shards.values()))


async def _remember(connection: Connection, shard: Shard, kind: str, id_: str) -> None:
    token = (shard.id, shard.owner, shard.epoch)
    if not await connection.fetchval(_REMEMBER, *token, kind, id_):
        raise Fenced(shard.id, shard.epoch, await connection.fetchval(_EPOCH, shard.id))


async def _remembered(
    connection: Connection, shards: list[int], after: tuple[str, str], limit: int
) -> list[tuple[str, str]]:
    return [tuple(row) for row in await connection.fetch(_REMEMBERED, shards, *after, limit)]
