"""Snapshots in memory; the twin of `storage/postgres/snapshots.py`."""

from actors.persistence import Snapshot, StreamId
from storage.memory.faults import Faults


class MemorySnapshots(Faults):
    """The port `Snapshots` in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Snapshot] = {}

    async def save(self, snapshot: Snapshot) -> None:
        """See `Snapshots.save`."""
        await self.pass_faults()
        kept = self._kept.get(snapshot.stream_id)
        if kept is None or kept.version < snapshot.version or kept.schema != snapshot.schema:
            self._kept[snapshot.stream_id] = snapshot

    async def latest(self, stream_id: StreamId) -> Snapshot | None:
        """See `Snapshots.latest`."""
        await self.pass_faults()
        return self._kept.get(stream_id)

    async def discard(self, stream_id: StreamId) -> None:
        """See `Snapshots.discard`."""
        await self.pass_faults()
        self._kept.pop(stream_id, None)
