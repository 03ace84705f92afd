"""Snapshots in memory; the twin of `storage/postgres/events/snapshots.py`."""

from copy import copy
from typing import Self

from actors.persistence import Keyring, Snapshot, StreamId
from actors.persistence.beside_log.subject_keys import open_snapshot, seal_snapshot
from actors.persistence.event_store import check_view
from actors.persistence.words import check_a, check_stream, owned_name
from storage.memory.database import MemoryDatabase
from storage.memory.twin import Twin


class MemorySnapshots(Twin):
    """The port `Snapshots` on a `MemoryDatabase`."""

    def __init__(
        self, database: MemoryDatabase | None = None, *, keyring: Keyring | None = None
    ) -> None:
        super().__init__(database)
        self._keyring = keyring
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
        snapshot = await seal_snapshot(self._keyring, snapshot, key)
        await self.pass_faults()
        if key in self.database.gone:
            return
        kept = self.database.snapshots.get(key)
        if kept is None or kept.version < snapshot.version or kept.schema != snapshot.schema:
            self.database.snapshots[key] = snapshot

    async def latest(self, stream_id: StreamId) -> Snapshot | None:
        """See `Snapshots.latest`."""
        check_stream(stream_id)
        await self.pass_faults()
        key = owned_name(self._tenant, stream_id)
        kept = self.database.snapshots.get(key)
        return await open_snapshot(self._keyring, kept, key)

    async def discard(self, stream_id: StreamId) -> None:
        """See `Snapshots.discard`."""
        check_stream(stream_id)
        await self.pass_faults()
        self.database.snapshots.pop(owned_name(self._tenant, stream_id), None)
