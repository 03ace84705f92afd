"""Read models in memory; the twin of `storage/postgres/projections.py`.

First the port, then the inline projections: those that an append applies in its own
transaction.
"""

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec
import trio

from actors.persistence import (
    START,
    Checkpoint,
    Document,
    GenerationState,
    InlineProjectionFailed,
    InlineProjections,
    ParkedEvent,
    Projection,
    ProjectionBatch,
    ProjectionTx,
    StoredEvent,
    UnknownProjection,
    WritesRefused,
    inline_collection,
)
from actors.persistence.beside_log.dead_letters import ROWS_MAX, storable
from actors.persistence.event_store import check_limit
from actors.persistence.projections.projection import check_key, encoded, is_key
from actors.persistence.projections.store import (
    REPLAY,
    RETIRED_KEPT,
    check_documents,
    check_generation,
    check_parked,
    check_seconds,
    serves,
)
from actors.persistence.words import check_a, check_delay, check_list, check_text, split_name
from storage.memory.database import MemoryDatabase
from storage.memory.dead_letters import (
    add_letter,
    are_open,
    give_up_parked,
    make_room,
    replay_failed,
    replayed,
)
from storage.memory.twin import Twin

T = TypeVar("T")
Changes = Mapping[str, Mapping[str, Document | None]]

_FILLED = (GenerationState.BUILDING, GenerationState.LIVE)
_KEPT = (*_FILLED, GenerationState.HALTED)


class MemoryProjections(Twin):
    """The port `ProjectionStore` on a `MemoryDatabase`."""

    def __init__(
        self, database: MemoryDatabase | None = None, *, letters_max: int = ROWS_MAX
    ) -> None:
        super().__init__(database)
        self._letters_max = letters_max
        self._changed = trio.Event()

    @property
    def _checkpoints(self) -> dict[tuple[str, int, int], Checkpoint]:
        return self.database.checkpoints

    async def open(
        self,
        projection: str,
        generation: int,
        version: int,
        state: GenerationState,
        partition: int = 0,
    ) -> Checkpoint:
        """See `ProjectionStore.open`."""
        check_generation(projection, generation, version, state, partition)
        await self.pass_faults()
        fresh = Checkpoint(
            projection, generation, version, START, self.database.lineage, state, None, partition
        )
        key = (projection, generation, partition)
        kept = self._checkpoints[key] = replace(self._checkpoints.get(key, fresh), is_filled=True)
        return kept

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        check_text("projection", projection)
        await self.pass_faults()
        return [self._checkpoints[key] for key in sorted(self._checkpoints) if key[0] == projection]

    async def names(self) -> Sequence[str]:
        """See `ProjectionStore.names`."""
        await self.pass_faults()
        return sorted({name for name, _, _ in self._checkpoints})

    async def commit(self, batch: ProjectionBatch) -> bool:
        """See `ProjectionStore.commit`."""
        check_a("batch", batch, ProjectionBatch)
        await self.pass_faults()
        begun = batch.checkpoint
        key = (begun.projection, begun.generation, begun.partition)
        kept = self._checkpoints.get(key)
        # The guard of exactly once: the batch was applied to what stood at this cursor, and
        # nothing was replayed since.
        if kept is None or kept.is_halted or kept.state not in _FILLED:
            return False
        if (kept.cursor, kept.revision) != (begun.cursor, begun.revision):
            return False
        if batch.forgets is not None and batch.forgets != len(self.database.forgotten):
            return False
        ids = [*batch.replayed, *([batch.failed[0]] if batch.failed is not None else [])]
        if not are_open(self.database, ids):
            return False
        # All that can be refused comes before all that is written.
        documents = _checked(batch)
        make_room(self.database, len(batch.letters), self._letters_max)
        self.database.write_documents({begun.collection: documents})
        self._checkpoints[key] = replace(
            kept,
            cursor=batch.reached,
            revision=kept.revision + 1,
            is_filled=True,
        )
        if batch.subjects:
            read_of = self.database.projection_subjects
            read_of.setdefault(key[:2], set()).update(batch.subjects)
        for letter in batch.letters:
            add_letter(self.database, letter, self._letters_max)
        replayed(self.database, batch.replayed, REPLAY)
        if batch.failed is not None:
            replay_failed(self.database, *batch.failed, REPLAY)
        if batch.halted is not None:
            is_live = kept.state is GenerationState.LIVE
            state = GenerationState.HALTED if is_live else kept.state
            self._set(begun.projection, begun.generation, state, batch.halted)
            self._checkpoints[key] = replace(self._checkpoints[key], poison=batch.poison)
        self._announce()
        return True

    async def parked_streams(
        self, collection: str, among: Sequence[str] | None = None
    ) -> frozenset[str]:
        """See `ProjectionStore.parked_streams`."""
        check_parked(collection, among)
        await self.pass_faults()
        return frozenset(
            stream_id
            for _, stream_id, _ in self._parked(collection)
            if among is None or stream_id in among
        )

    async def parked_events(
        self, collection: str, stream_id: str, *, limit: int = 100
    ) -> Sequence[ParkedEvent]:
        """See `ProjectionStore.parked_events`."""
        check_parked(collection, [stream_id], limit)
        await self.pass_faults()
        found = sorted(one for one in self._parked(collection) if one[1] == stream_id)
        return [ParkedEvent(letter_id, version) for version, _, letter_id in found[:limit]]

    async def wished_replays(self, collection: str) -> frozenset[str]:
        """See `ProjectionStore.wished_replays`."""
        check_documents(collection)
        await self.pass_faults()
        rows = self.database.dead_letters.rows
        parked = self._parked(collection)
        return frozenset(
            stream_id for _, stream_id, id_ in parked if rows[id_].stored.next_retry_at
        )

    async def resume(self, projection: str, generation: int) -> bool:
        """See `ProjectionStore.resume`."""
        check_generation(projection, generation)
        await self.pass_faults()
        return self._resume(projection, generation)

    def _resume(self, projection: str, generation: int) -> bool:
        halted = {
            key: one
            for key, one in self._checkpoints.items()
            if key[:2] == (projection, generation) and one.is_halted and one.state in _KEPT
        }
        for key, one in halted.items():
            is_halted = one.state is GenerationState.HALTED
            state = GenerationState.LIVE if is_halted else one.state
            self._checkpoints[key] = replace(one, state=state, error=None, poison=None)
        if halted:
            self._announce()
        return bool(halted)

    async def leave_out(self, projection: str, generation: int) -> UUID | None:
        """See `ProjectionStore.leave_out`."""
        check_generation(projection, generation)
        await self.pass_faults()
        for key, one in self._checkpoints.items():
            is_it = key[:2] == (projection, generation) and one.state in _KEPT
            if is_it and one.poison is not None:
                self._checkpoints[key] = replace(one, left_out=one.poison)
                self._resume(projection, generation)
                return one.poison
        return None

    async def set_state(
        self, projection: str, generation: int, state: GenerationState, error: str | None = None
    ) -> None:
        """See `ProjectionStore.set_state`."""
        check_generation(projection, generation, 1, state)
        if error is not None:
            check_a("error", error, str)
            error = storable(error)
        await self.pass_faults()
        known = self._checkpoints.items()
        if any(key[:2] == (projection, generation) and one.state in _KEPT for key, one in known):
            self._set(projection, generation, state, error)
            self._announce()

    async def leave(self, checkpoint: Checkpoint) -> None:
        """See `ProjectionStore.leave`."""
        check_a("checkpoint", checkpoint, Checkpoint)
        await self.pass_faults()
        key = (checkpoint.projection, checkpoint.generation, checkpoint.partition)
        kept = self._checkpoints.get(key)
        if kept is not None and kept.revision == checkpoint.revision:
            self._checkpoints[key] = replace(kept, is_filled=False)
            self._announce()

    async def swap(self, projection: str, generation: int) -> None:
        """See `ProjectionStore.swap`."""
        check_generation(projection, generation)
        await self.pass_faults()
        if not any(key[:2] == (projection, generation) for key in self._checkpoints):
            raise UnknownProjection(projection, generation)
        known = self._checkpoints.items()
        if any(key[:2] == (projection, generation) and one.is_outdated for key, one in known):
            return
        for (name, other, _), kept in tuple(self._checkpoints.items()):
            if name == projection and other != generation and serves(kept):
                self._set(name, other, GenerationState.RETIRED, None)
                self.database.retired_at[name, other] = self.database.now()
                if kept.is_outdated:
                    self.database.documents.pop(kept.collection, None)
                    self.database.projection_subjects.pop((name, other), None)
        self._set(projection, generation, GenerationState.LIVE, None, is_filled=True)
        self._announce()

    async def purge(self, limit: int = 1000, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """See `ProjectionStore.purge`."""
        check_limit(limit)
        check_delay("older_than", older_than)
        await self.pass_faults()
        database, gone = self.database, 0
        for (name, generation), collection in self._over(database.now() - older_than).items():
            documents = database.documents.get(collection, {})
            for key in list(documents)[: limit - gone]:
                del documents[key]
                gone += 1
            if gone < limit:
                gone += give_up_parked(database, collection, limit - gone)
            if gone == limit:
                break
            database.documents.pop(collection, None)
            database.projection_subjects.pop((name, generation), None)
            database.retired_at.pop((name, generation), None)
            for of in [of for of in self._checkpoints if of[:2] == (name, generation)]:
                del self._checkpoints[of]
                gone += 1
        return gone

    def _over(self, at: datetime) -> dict[tuple[str, int], str]:
        """Generations that were retired by then, with their collections: no way back from here."""
        found: dict[tuple[str, int], str] = {}
        for key, one in sorted(self._checkpoints.items()):
            retired_at = self.database.retired_at.get(key[:2])
            if one.state is not GenerationState.RETIRED or retired_at is None or retired_at > at:
                continue
            found[key[:2]] = one.collection
            self._checkpoints[key] = replace(one, is_outdated=True)
        return found

    async def get(self, collection: str, key: str) -> Document | None:
        """See `ProjectionStore.get`."""
        check_documents(collection)
        await self.pass_faults()
        kept = self.database.documents.get(collection, {})
        return deepcopy(kept[key]) if is_key(key) and key in kept else None

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        """See `ProjectionStore.get_many`."""
        check_documents(collection)
        check_list("keys", keys)
        await self.pass_faults()
        kept = self.database.documents.get(collection, {})
        return {key: deepcopy(kept[key]) for key in keys if is_key(key) and key in kept}

    async def exists(self, collection: str, key: str) -> bool:
        """See `ProjectionStore.exists`."""
        check_documents(collection)
        return await self.get(collection, key) is not None

    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """See `ProjectionStore.query`."""
        check_documents(collection, prefix, after, limit)
        await self.pass_faults()
        kept = self.database.documents.get(collection, {})
        found = [
            key
            for key in kept
            if key.startswith(prefix) and (after is None or key.encode() > after.encode())
        ]
        return [(key, deepcopy(kept[key])) for key in sorted(found, key=str.encode)[:limit]]

    async def tenants(
        self, collection: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """See `ProjectionStore.tenants`."""
        check_documents(collection, after=after, limit=limit)
        await self.pass_faults()
        named = [split_name(one) for one, kept in self.database.documents.items() if kept]
        found = [tenant for tenant, own in named if tenant is not None and own == collection]
        return [one for one in sorted(found) if after is None or one > after][:limit]

    async def changed(self, timeout_s: float) -> None:
        """See `ProjectionStore.changed`."""
        check_seconds("timeout_s", timeout_s)
        with trio.move_on_after(timeout_s):
            await self._changed.wait()

    def _parked(self, collection: str) -> Iterator[tuple[int, str, int]]:
        table = self.database.dead_letters
        for (kind, source, _), id_ in table.open_ids.items():
            letter = table.rows[id_].stored.letter
            if (kind, source) == ("projection", collection) and letter.stream_version is not None:
                yield letter.stream_version, letter.stream_key or "", id_

    def _set(
        self,
        projection: str,
        generation: int,
        state: GenerationState,
        error: str | None,
        *,
        is_filled: bool = False,
    ) -> None:
        for key, kept in self._checkpoints.items():
            if key[:2] == (projection, generation):
                self._checkpoints[key] = replace(
                    kept,
                    state=state,
                    error=error,
                    poison=None,
                    is_filled=is_filled or kept.is_filled,
                )

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _checked(batch: ProjectionBatch) -> Mapping[str, Document | None]:
    """What is to be written, as it would come back from a real store."""
    try:
        if batch.statements:
            raise TypeError("the twin in memory knows no SQL; write documents")
        for key in batch.documents:
            check_key(key)
        return {
            key: None if one is None else msgspec.json.decode(encoded(one))
            for key, one in batch.documents.items()
        }
    except (TypeError, ValueError) as error:
        raise WritesRefused(batch.checkpoint.collection, error) from error


# Inline projections: in the transaction of an append.


def apply_inline(
    inline: InlineProjections, database: MemoryDatabase, txid: int, placed: Sequence[StoredEvent]
) -> Changes:
    """Call this in an append for what is to be written; a refusal rolls it back and is raised."""
    try:
        return {
            inline_collection(one, tenant=placed[0].tenant): _apply(
                inline, database, one, placed
            ).documents
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
    kept = database.documents.get(inline_collection(projection, tenant=placed[0].tenant), {})

    async def read(key: str) -> Document | None:
        return deepcopy(kept.get(key))

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
