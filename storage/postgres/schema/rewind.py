"""Taking note that a store went back in time: what was read ahead of it counts no more.

A recovery to an earlier moment gives out transaction numbers again, and so does a promoted replica
that had not received everything. Whoever kept a cursor outside of the database would take new
events for ones he has read. The server begins a new timeline each time, which is remembered.
"""

from dataclasses import dataclass

from storage.errors import StoreUnavailable
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

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


@dataclass(frozen=True, slots=True)
class Rewound:
    """The store goes on from where it is: on which timeline, and under which lineage."""

    timeline: int
    lineage: str


async def accept_rewind(database: Database, *, is_lossless: bool = False) -> Rewound:
    """Call this after `StoreRewound`, with nothing else on the database, to serve it as it is.

    Cursors of before are outdated then: the store has a new lineage. `is_lossless` when nothing
    acknowledged is missing, as after promoting a replica that had received everything: the
    lineage stays, and so does every cursor. Needs the owner of the tables. Everything or nothing.
    """
    return await database.transact(_accept, is_lossless)


async def read_timeline(connection: Connection) -> int:
    """Call this to learn which history of its own the server is writing; none while it recovers."""
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        raise StoreUnavailable("the server is recovering, or is a standby", nothing_written=True)
    return int(await connection.fetchval(_TIMELINE))


async def _accept(connection: Connection, is_lossless: bool) -> Rewound:
    if not is_lossless:
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
