"""Taking note that a store went back in time: what was read ahead of it counts no more.

A recovery to an earlier moment gives out transaction numbers again, and so does a promoted replica
that had not received everything. Whoever kept a cursor outside of the database would take new
events for ones he has read. The server begins a new timeline each time, which is remembered.
"""

import re
from dataclasses import dataclass

from storage.errors import InvalidField, RewindNotLossless, StoreUnavailable
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection
from storage.postgres.schema.holding import hold_alone

# Of the log that is being written. What `pg_control_checkpoint` says is old for a while.
_TIMELINE = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint"

# To the end of what there is, for one that lies beyond it.
_BACK_TO_THE_HEAD = """
UPDATE checkpoints c SET txid = head.txid, position = head.position
FROM (
    SELECT coalesce(max(e.txid::text::bigint), 0)::text::xid8 AS txid,
           coalesce(max(e.position), 0) AS position
    FROM (SELECT txid, position FROM events ORDER BY txid DESC, position DESC LIMIT 1) AS e
) AS head
WHERE (c.txid, c.position) > (head.txid, head.position)
"""

# A line for each promotion that a server's data ever saw.
HISTORY_BYTES_MAX = 1 << 20

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


@dataclass(frozen=True, slots=True)
class Rewound:
    """The store goes on from where it is: on which timeline, and under which lineage."""

    timeline: int
    lineage: str


async def accept_rewind(
    database: Database, *, is_lossless: bool = False, written_to: str | None = None
) -> Rewound:
    """Call this after `StoreRewound`, with nothing else on the database, to serve it as it is.

    Cursors of before are outdated then: the store has a new lineage. `is_lossless` when nothing
    acknowledged is missing, as after promoting a replica that had received everything: the
    lineage stays, and so does every cursor. `written_to` is how far the former server had written
    (its `pg_current_wal_lsn()`, such as `0/3000148`): if this one had not come so far when it took
    over, that is `RewindNotLossless`, and asking needs a role that may read the server's files.

    Needs the owner of the tables. Everything or nothing. Raises `InvalidField` before any I/O, and
    `StoreInUse` where the lineage changes and a program of ours is connected.
    """
    if written_to is not None:
        if not is_lossless:
            raise InvalidField("written_to", "is asked for a lossless rewind only")
        if _LSN.fullmatch(written_to) is None:
            raise InvalidField("written_to", "is no place in a log, such as 0/3000148")
    return await database.transact(_accept, is_lossless, written_to)


async def read_timeline(connection: Connection) -> int:
    """Call this to learn which history of its own the server is writing; none while it recovers."""
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        raise StoreUnavailable("the server is recovering, or is a standby", nothing_written=True)
    return int(await connection.fetchval(_TIMELINE))


async def _check_replayed(connection: Connection, written_to: str) -> None:
    replayed = await _taken_over_at(connection)
    if not await connection.fetchval(
        "SELECT $1::text::pg_lsn >= $2::text::pg_lsn", replayed, written_to
    ):
        raise RewindNotLossless(replayed, written_to)


async def _taken_over_at(connection: Connection) -> str:
    """How far the server had come when it left the timeline on which the store was served.

    From its own file of history. What it says of its replay (`pg_last_wal_replay_lsn`) is another
    thing once it was started again.
    """
    kept = await connection.fetchval("SELECT timeline FROM store_meta")
    name = f"pg_wal/{await read_timeline(connection):08X}.history"
    text = await connection.fetchval(
        "SELECT pg_read_file($1, 0, $2, true)", name, HISTORY_BYTES_MAX
    )
    # A line for each timeline before: its number, where it was left, and why.
    for line in (text or "").splitlines():
        number, _, rest = line.strip().partition("\t")
        if number == str(kept):
            return str(rest.partition("\t")[0])
    return "0/0"


async def _accept(connection: Connection, is_lossless: bool, written_to: str | None) -> Rewound:
    if written_to is not None:
        await _check_replayed(connection, written_to)
    if not is_lossless:
        await hold_alone(connection)
        await connection.execute(_BACK_TO_THE_HEAD)
        await connection.execute("UPDATE store_meta SET lineage = gen_random_uuid()")
        await connection.execute(
            "UPDATE checkpoints SET lineage = (SELECT lineage FROM store_meta)"
        )
    row = await connection.fetchrow(
        "UPDATE store_meta SET timeline = $1 RETURNING timeline, lineage::text",
        await read_timeline(connection),
    )
    assert row is not None, "the first migration writes this row"
    return Rewound(row["timeline"], row["lineage"])
