"""Read models in memory; the twin of `storage/postgres/projections.py`.

First the port, then the inline projections: those that an append applies in its own
transaction.
"""

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

import trio

from actors.persistence import (
    START,
    Checkpoint,
    Document,
    GenerationState,
    InlineProjectionFailed,
    InlineProjections,
    Projection,
    ProjectionBatch,
    ProjectionTx,
    StoredEvent,
    inline_collection,
)
from actors.persistence.projections.projection import collection_of
from actors.persistence.projections.store import RETIRED_KEPT, serves
from storage.memory.database import MemoryDatabase
from storage.memory.faults import Faults

T = TypeVar("T")
Changes = Mapping[str, Mapping[str, Document | None]]

_FILLED = (GenerationState.BUILDING, GenerationState.LIVE, GenerationState.HALTED)


class MemoryProjections(Faults):
    """The port `ProjectionStore` on a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__()
        self.database = database if database is not None else MemoryDatabase()
        self._checkpoints: dict[tuple[str, int, int], Checkpoint] = {}
        self._retired_at: dict[tuple[str, int], datetime] = {}
        self._changed = trio.Event()

    async def open(
        self,
        projection: str,
        generation: int,
        version: int,
        state: GenerationState,
        partition: int = 0,
    ) -> Checkpoint:
        """See `ProjectionStore.open`."""
        await self.pass_faults()
        fresh = Checkpoint(
            projection, generation, version, START, self.database.lineage, state, None, partition
        )
        return self._checkpoints.setdefault((projection, generation, partition), fresh)

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        await self.pass_faults()
        return [self._checkpoints[key] for key in sorted(self._checkpoints) if key[0] == projection]

    async def commit(self, batch: ProjectionBatch) -> bool:
        """See `ProjectionStore.commit`."""
        await self.pass_faults()
        if batch.statements:
            raise TypeError("the twin in memory knows no SQL; write documents")
        begun = batch.checkpoint
        key = (begun.projection, begun.generation, begun.partition)
        kept = self._checkpoints.get(key)
        # The guard of exactly once: the batch was applied to what stood at this cursor.
        if kept is None or kept.cursor != begun.cursor or kept.state not in _FILLED:
            return False
        self.database.write_documents({begun.collection: batch.documents})
        self._checkpoints[key] = replace(kept, cursor=batch.reached)
        self._announce()
        return True

    async def set_state(
        self, projection: str, generation: int, state: GenerationState, error: str | None = None
    ) -> None:
        """See `ProjectionStore.set_state`."""
        await self.pass_faults()
        self._set(projection, generation, state, error)
        self._announce()

    async def swap(self, projection: str, generation: int) -> None:
        """See `ProjectionStore.swap`."""
        await self.pass_faults()
        for (name, other, _), kept in tuple(self._checkpoints.items()):
            if name == projection and other != generation and serves(kept):
                self._set(name, other, GenerationState.RETIRED, None)
                self._retired_at[name, other] = self.database.now()
        self._set(projection, generation, GenerationState.LIVE, None)
        self._announce()

    async def purge(self, projection: str, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """See `ProjectionStore.purge`."""
        await self.pass_faults()
        limit = self.database.now() - older_than
        gone = [key for key, at in self._retired_at.items() if key[0] == projection and at <= limit]
        for name, generation in gone:
            del self._retired_at[name, generation]
            self.database.documents.pop(collection_of(name, generation), None)
            for key in [key for key in self._checkpoints if key[:2] == (name, generation)]:
                del self._checkpoints[key]
        return len(gone)

    async def get(self, collection: str, key: str) -> Document | None:
        """See `ProjectionStore.get`."""
        await self.pass_faults()
        return self.database.documents.get(collection, {}).get(key)

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        """See `ProjectionStore.get_many`."""
        await self.pass_faults()
        kept = self.database.documents.get(collection, {})
        return {key: kept[key] for key in keys if key in kept}

    async def exists(self, collection: str, key: str) -> bool:
        """See `ProjectionStore.exists`."""
        return await self.get(collection, key) is not None

    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """See `ProjectionStore.query`."""
        await self.pass_faults()
        kept = self.database.documents.get(collection, {})
        return [
            (key, kept[key])
            for key in sorted(kept, key=str.encode)
            if key.startswith(prefix) and (after is None or key.encode() > after.encode())
        ][:limit]

    async def changed(self, timeout_s: float) -> None:
        """See `ProjectionStore.changed`."""
        with trio.move_on_after(timeout_s):
            await self._changed.wait()

    def _set(
        self, projection: str, generation: int, state: GenerationState, error: str | None
    ) -> None:
        for key, kept in self._checkpoints.items():
            if key[:2] == (projection, generation):
                self._checkpoints[key] = replace(kept, state=state, error=error)

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


# Inline projections: in the transaction of an append.


def apply_inline(
    inline: InlineProjections, database: MemoryDatabase, txid: int, placed: Sequence[StoredEvent]
) -> Changes:
    """Call this in an append for what is to be written; a refusal rolls it back and is raised."""
    try:
        return {
            inline_collection(one): _apply(inline, database, one, placed).documents
            for one in inline.wanting(placed)
        }
    except Exception:
        database.roll_back(txid)
        raise


def _apply(
    inline: InlineProjections,
    database: MemoryDatabase,
    projection: Projection,
    placed: Sequence[StoredEvent],
) -> ProjectionTx:
    kept = database.documents.get(inline_collection(projection), {})

    async def read(key: str) -> Document | None:
        return kept.get(key)

    try:
        tx = _at_once(inline.apply(projection, placed, read))
        if tx.statements:
            raise TypeError("the twin in memory knows no SQL; write documents")
    except TypeError as error:
        raise InlineProjectionFailed(projection.name, placed[0].stream_id, error) from error
    return tx


def _at_once(work: Coroutine[object, None, T]) -> T:
    """Run a coroutine that has nothing to wait for: a transaction here has no checkpoint."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise TypeError("an inline projection waits for its tx only")
