"""Snapshots in PostgreSQL; the twin of `storage/memory/snapshots.py`."""

from copy import copy
from typing import Self

import asyncpg

from actors.persistence import Keyring, Snapshot, StreamId
from actors.persistence.beside_log.subject_keys import open_snapshot, seal_snapshot
from actors.persistence.event_store import check_view
from actors.persistence.words import check_a, check_stream, owned_name
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

# Asked when reading too: of a state that is saved while its stream is tombstoned, nobody hears.
_IS_THERE = "NOT EXISTS (SELECT FROM tombstones WHERE stream_id = $1)"


class PostgresSnapshots:
    """The port `Snapshots` on a `Database`."""

    def __init__(self, database: Database, *, keyring: Keyring | None = None) -> None:
        self._database, self._keyring = database, keyring
        self._tenant: str | None = None

    def for_tenant(self, tenant: str) -> Self:
        """See `Snapshots.for_tenant`."""
        check_view(self._tenant, tenant)
        view = copy(self)
        view._tenant = tenant
        return view

    async def save(self, snapshot: Snapshot) -> None:
        """See `Snapshots.save`."""
        check_a("snapshot", snapshot, Snapshot)
        key = owned_name(self._tenant, snapshot.stream_id)
        await self._database.run(_save, key, await seal_snapshot(self._keyring, snapshot, key))

    async def latest(self, stream_id: StreamId) -> Snapshot | None:
        """See `Snapshots.latest`."""
        check_stream(stream_id)
        key = owned_name(self._tenant, stream_id)
        row = await self._database.run(_latest, key)
        if row is None:
            return None
        kept = Snapshot(stream_id, row["version"], row["schema"], row["state_data"])
        return await open_snapshot(self._keyring, kept, key)

    async def discard(self, stream_id: StreamId) -> None:
        """See `Snapshots.discard`."""
        check_stream(stream_id)
        await self._database.run(_discard, owned_name(self._tenant, stream_id))


async def _save(connection: Connection, key: str, snapshot: Snapshot) -> None:
    await connection.execute(
        "INSERT INTO snapshots AS s (stream_id, version, schema, state_data)"
        f" SELECT $1, $2, $3, $4 WHERE {_IS_THERE} ON CONFLICT (stream_id) DO UPDATE"
        " SET version = $2, schema = $3, state_data = $4, created_at = clock_timestamp()"
        " WHERE s.version < $2 OR s.schema <> $3",
        key,
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
