"""Snapshots in memory; the twin of `storage/postgres/snapshots.py`."""

from actors.persistence import Keyring, Snapshot, StreamId
from actors.persistence.beside_log.subject_keys import open_snapshot, seal_snapshot
from actors.persistence.words import check_a, check_stream
from storage.memory.database import MemoryDatabase
from storage.memory.faults import Faults


class MemorySnapshots(Faults):
    """The port `Snapshots` on a `MemoryDatabase`."""

    def __init__(
        self, database: MemoryDatabase | None = None, *, keyring: Keyring | None = None
    ) -> None:
        super().__init__()
        self._keyring = keyring
        self.database = database if database is not None else MemoryDatabase()

    async def save(self, snapshot: Snapshot) -> None:
        """See `Snapshots.save`."""
        check_a("snapshot", snapshot, Snapshot)
        snapshot = await seal_snapshot(self._keyring, snapshot)
        await self.pass_faults()
        if snapshot.stream_id in self.database.gone:
            return
        kept = self.database.snapshots.get(snapshot.stream_id)
        if kept is None or kept.version < snapshot.version or kept.schema != snapshot.schema:
            self.database.snapshots[snapshot.stream_id] = snapshot

    async def latest(self, stream_id: StreamId) -> Snapshot | None:
        """See `Snapshots.latest`."""
        check_stream(stream_id)
        await self.pass_faults()
        kept = self.database.snapshots.get(stream_id)
        return await open_snapshot(self._keyring, kept)

    async def discard(self, stream_id: StreamId) -> None:
        """See `Snapshots.discard`."""
        check_stream(stream_id)
        await self.pass_faults()
        self.database.snapshots.pop(stream_id, None)
