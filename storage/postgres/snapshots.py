"""Snapshots in PostgreSQL; the twin of `storage/memory/snapshots.py`."""

import asyncpg

from actors.persistence import Keyring, Snapshot, StreamId
from actors.persistence.beside_log.subject_keys import open_snapshot, seal_snapshot
from actors.persistence.words import check_a, check_stream
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

# Asked when reading too: of a state that is saved while its stream is tombstoned, nobody hears.
_IS_THERE = "NOT EXISTS (SELECT FROM tombstones WHERE stream_id = $1)"


class PostgresSnapshots:
    """The port `Snapshots` on a `Database`."""

    def __init__(self, database: Database, *, keyring: Keyring | None = None) -> None:
        self._database, self._keyring = database, keyring

    async def save(self, snapshot: Snapshot) -> None:
        """See `Snapshots.save`."""
        check_a("snapshot", snapshot, Snapshot)
        await self._database.run(_save, await seal_snapshot(self._keyring, snapshot))

    async def latest(self, stream_id: StreamId) -> Snapshot | None:
        """See `Snapshots.latest`."""
        check_stream(stream_id)
        row = await self._database.run(_latest, stream_id)
        if row is None:
            return None
        kept = Snapshot(stream_id, row["version"], row["schema"], row["state_data"])
        return await open_snapshot(self._keyring, kept)

    async def discard(self, stream_id: StreamId) -> None:
        """See `Snapshots.discard`."""
        check_stream(stream_id)
        await self._database.run(_discard, stream_id)


async def _save(connection: Connection, snapshot: Snapshot) -> None:
    await connection.execute(
        "INSERT INTO snapshots AS s (stream_id, version, schema, state_data)"
        f" SELECT $1, $2, $3, $4 WHERE {_IS_THERE} ON CONFLICT (stream_id) DO UPDATE"
        " SET version = $2, schema = $3, state_data = $4, created_at = clock_timestamp()"
        " WHERE s.version < $2 OR s.schema <> $3",
        snapshot.stream_id,
        snapshot.version,
        snapshot.schema,
        snapshot.data,
    )


async def _latest(connection: Connection, stream_id: str) -> asyncpg.Record | None:
    return await connection.fetchrow(
        f"SELECT version, schema, state_data FROM snapshots WHERE stream_id = $1 AND {_IS_THERE}",  # noqa: S608  (our own words)
        stream_id,
    )


async def _discard(connection: Connection, stream_id: str) -> None:
    await connection.execute("DELETE FROM snapshots WHERE stream_id = $1", stream_id)
