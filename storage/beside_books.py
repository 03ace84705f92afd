"""Read models on a server that may lose them, beside the books of a store that loses nothing.

What Redis and a search server have in common. The documents are there. Checkpoints, parked events
and who has been forgotten stay in the *books*, another `ProjectionStore`: PostgreSQL's. A commit is
the books': with the checkpoint they keep what the batch writes, until the next batch. Then it is
written to the server, with a token of its own, and only over the token of the batch before. Whoever
was killed in between left a batch that is in the books alone: the next look at the checkpoints, by
whomever, writes it to the server before it tells of it.

Rule 1: no checkpoint is told before its documents are there.
Rule 2: a token that is neither the last one of the books nor the one before says that documents are
missing: a server that was emptied, or went back to an old copy. Its generation is outdated then,
which has its runner build another one, and until that serves its documents cannot be read.
Rule 3: a token is read before the books and after them: one that has moved meanwhile is no loss.

Who derives from it says how a server keeps documents and tokens: `storage/redis/projections.py`,
`storage/search/projections.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar
from uuid import UUID, uuid4

import msgspec

from actors.persistence import (
    Checkpoint,
    Document,
    GenerationState,
    ProjectionBatch,
    ProjectionStore,
    StoreUnavailable,
    WritesRefused,
)
from actors.persistence.event_store import check_limit
from actors.persistence.projections.projection import check_key, encoded, is_key, projection_of
from actors.persistence.projections.store import (
    RETIRED_KEPT,
    InFrontOfProjections,
    check_documents,
    live_among,
    serves,
)
from actors.persistence.words import check_a, check_list, split_name

# A look that is overtaken so often looks at a generation that is filled: nothing is lost there.
_LOOKS_MAX = 5


class ReadModelLost(StoreUnavailable):
    """Raised for a generation whose documents the server has lost; nothing was read or written.

    Its runner builds another one, which serves as soon as it has caught up: ask again then.
    """

    code = "read_model_lost"

    def __init__(self, collection: str) -> None:
        super().__init__(f"{collection} was lost and is built anew", nothing_written=True)
        self.collection = collection


class Redo(msgspec.Struct, frozen=True):
    """What a batch writes, as the books keep it until the next one; None removes."""

    token: str
    before: str
    revision: int
    cursor: str
    writes: dict[str, str | None]


class BesideBooks(InFrontOfProjections, ABC):
    """What of the port `ProjectionStore` is the same on any server beside `books`.

    A generation that was filled without the server is one whose documents are missing there: it is
    built anew. `statements` are the books'.

    What was made of a forgotten subject's fields and serves nobody is removed by the next look at
    the checkpoints, of which a runner has one a second.
    """

    # What the books keep a batch under.
    kind: ClassVar[str]

    def __init__(self, books: ProjectionStore, *, ids: Callable[[], UUID] = uuid4) -> None:
        super().__init__(books)
        self._ids = ids
        # By collection and part: a revision of the books, and the token that it has there. As many
        # as there are generations; `_drop` forgets one.
        self._known: dict[tuple[str, int], tuple[int, str]] = {}

    # What a server is asked.

    @abstractmethod
    async def _tokens(self, parts: Sequence[Checkpoint]) -> list[str] | None:
        """The token of each part, empty before its first batch; None for what is not there."""

    @abstractmethod
    async def _begin(self, parts: Sequence[Checkpoint], stale: Sequence[str] | None) -> None:
        """Make a generation's place; over what is left of another life, whose tokens are told."""

    @abstractmethod
    async def _write(self, collection: str, partition: int, redo: Redo) -> bool:
        """Write a batch over the one before; False for one that was written, or written over.

        Raises `ReadModelLost` when there is nothing that it could follow.
        """

    @abstractmethod
    async def _read(self, collection: str, keys: Sequence[str]) -> dict[str, Document]:
        """Those of the documents that there are; raises `ReadModelLost` as `_check_lost` does."""

    async def _is_there(self, collection: str, key: str) -> bool:
        """Whether there is a document of a key; raises as `_read`."""
        return key in await self._read(collection, [key])

    @abstractmethod
    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """See `ProjectionStore.query`."""

    @abstractmethod
    async def _remove_some(self, collection: str, limit: int) -> int:
        """Remove so many documents of a generation, or fewer at its end; says how many."""

    @abstractmethod
    async def _remove_whole(self, collection: str) -> None:
        """Remove a generation, and what says that it is there."""

    @abstractmethod
    async def _collections(self) -> list[str]:
        """Whatever generations are there, in order."""

    def _check(self, collection: str, document: Document) -> None:
        """Raise a ValueError or TypeError for a document that the server would not have."""

    # The port.

    async def open(
        self,
        projection: str,
        generation: int,
        version: int,
        state: GenerationState,
        partition: int = 0,
    ) -> Checkpoint:
        """See `ProjectionStore.open`."""
        opened = await self.behind.open(projection, generation, version, state, partition)
        for one in await self._look(projection, opening=generation):
            if (one.generation, one.partition) == (generation, partition):
                return one
        return opened

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        return await self._look(projection)

    async def live(self, projection: str) -> str | None:
        """See `live_collection`. The books know it; who reads what is lost is told so."""
        return live_among(await self.behind.checkpoints(projection))

    async def commit(self, batch: ProjectionBatch) -> bool:
        """See `ProjectionStore.commit`; raises `ReadModelLost` too."""
        check_a("batch", batch, ProjectionBatch)
        begun = batch.checkpoint
        writes = self._checked(batch)
        before = await self._token_of(begun)
        redo = Redo(
            f"{begun.revision + 1}:{self._ids().hex}",
            before,
            begun.revision + 1,
            f"{batch.reached.txid}-{batch.reached.position}",
            writes,
        )
        kept: dict[str, Document | None] = {
            f"{self.kind}:{begun.partition}": msgspec.to_builtins(redo)
        }
        if not await self.behind.commit(replace(batch, documents=kept)):
            return False
        # Cancelled or killed from here on, the next look does it.
        await self._apply(begun.collection, begun.partition, redo)
        return True

    async def swap(self, projection: str, generation: int) -> None:
        """See `ProjectionStore.swap`; one that was lost cannot be made live either."""
        known = await self._look(projection)
        if any(one.generation == generation and one.is_outdated for one in known):
            return
        await self.behind.swap(projection, generation)
        # Killed before it, `purge` does it.
        for one in known:
            if serves(one) and one.is_outdated and one.generation != generation:
                await self._drop(one.collection)

    async def purge(self, limit: int = 1000, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """See `ProjectionStore.purge`."""
        check_limit(limit)
        before = await self._redo_count()
        # One row says which there is no way back to; what a batch left in the books is no row.
        rows = await self.behind.purge(1, older_than=older_than)
        gone = rows - before + (now := await self._redo_count())
        for collection in await self._collections():
            if gone < limit and await self._is_over(collection):
                gone += await self._remove(collection, limit - gone)
        if gone < limit:
            rows = await self.behind.purge(limit - gone, older_than=older_than)
            gone += rows - now + await self._redo_count()
        return gone

    async def _remove(self, collection: str, limit: int) -> int:
        removed = await self._remove_some(collection, limit)
        if removed < limit:
            await self._drop(collection)
        return removed

    async def _is_over(self, collection: str) -> bool:
        """Whether there is no way back to a generation, or nobody knows of it any more."""
        return _is_left(await self._kept_of(collection))

    async def _redo_count(self) -> int:
        count = 0
        for collection in await self._collections():
            parts = await self._kept_of(collection)
            if parts and parts[0].state is GenerationState.RETIRED:
                count += sum(redo is not None for redo in await self._redos(parts))
        return count

    async def _kept_of(self, collection: str) -> list[Checkpoint]:
        """What the books say of a generation, by its collection's name."""
        name, generation = projection_of(collection)
        known = await self.behind.checkpoints(name) if name else []
        return [one for one in known if one.generation == generation]

    # The documents.

    async def get(self, collection: str, key: str) -> Document | None:
        """See `ProjectionStore.get`; raises `ReadModelLost` too, as do the others that read."""
        check_documents(collection)
        return (await self._read(collection, [key] if is_key(key) else [])).get(key)

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        """See `ProjectionStore.get_many`."""
        check_documents(collection)
        check_list("keys", keys)
        return await self._read(collection, [key for key in keys if is_key(key)])

    async def exists(self, collection: str, key: str) -> bool:
        """See `ProjectionStore.exists`."""
        check_documents(collection)
        if not is_key(key):
            return False
        return await self._is_there(collection, key)

    async def tenants(
        self, collection: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """See `ProjectionStore.tenants`."""
        check_documents(collection, after=after, limit=limit)
        found = list[str]()
        for one in await self._collections():
            tenant, own = split_name(one)
            if tenant is None or own != collection or (after is not None and tenant <= after):
                continue
            if len(found) < limit and await self.query(one, limit=1):
                found.append(tenant)
        return found

    # What is here, and what the books say.

    async def _look(self, projection: str, *, opening: int | None = None) -> list[Checkpoint]:
        """The checkpoints of the books, once their documents are here; see the rules above."""
        told = list[Checkpoint]()
        known = await self.behind.checkpoints(projection)
        for generation in sorted({one.generation for one in known}):
            parts = [one for one in known if one.generation == generation]
            if _is_left(parts):
                await self._remove_forgotten(parts)
                told += parts
                continue
            is_whole = await self._is_whole(parts, is_opened=generation == opening)
            if not is_whole:
                parts = await self._given_up(parts)
            told += parts
        return told

    async def _given_up(self, parts: Sequence[Checkpoint]) -> list[Checkpoint]:
        """The checkpoints of a lost generation; one that was being built is never completed."""
        lost = [replace(one, is_outdated=True) for one in parts]
        if lost[0].state is not GenerationState.BUILDING:
            return lost
        # As one is that was outdated by a forgotten subject: whoever begins one begins another.
        retired = GenerationState.RETIRED
        await self.behind.set_state(lost[0].projection, lost[0].generation, retired)
        return [replace(one, state=retired) for one in lost]

    async def _remove_forgotten(self, parts: Sequence[Checkpoint]) -> None:
        """Remove what was made of a forgotten subject's fields, as the books have removed it.

        That moved its checkpoint without a batch. What is merely old is removed in pieces.
        """
        tokens = await self._tokens(parts) or []
        if any(
            int(token.partition(":")[0] or 0) != part.revision
            for part, token in zip(parts, tokens, strict=False)
        ):
            await self._drop(parts[0].collection)

    async def _is_whole(self, parts: Sequence[Checkpoint], *, is_opened: bool = False) -> bool:
        """Whether a generation is here as its checkpoints say, or could be completed."""
        collection = parts[0].collection
        for _ in range(_LOOKS_MAX):
            tokens = await self._tokens(parts)
            if tokens is not None and self._are_known(parts, tokens):
                return True
            redos = await self._redos(parts)
            if tokens != await self._tokens(parts):
                continue
            fresh = [
                redo is None and part.revision == 0 for part, redo in zip(parts, redos, strict=True)
            ]
            is_unbegun = all(
                is_fresh or (redo is not None and not redo.before)
                for is_fresh, redo in zip(fresh, redos, strict=True)
            )
            if tokens is None and is_unbegun:
                # Nothing was here yet but what the books have still.
                await self._begin(parts, None)
                continue
            if tokens is None:
                return False
            if is_opened and all(fresh) and any(tokens):
                # Another life's: these books begin it now.
                await self._begin(parts, tokens)
                continue
            return await self._is_completed(collection, parts, redos, tokens)
        return True

    async def _is_completed(
        self,
        collection: str,
        parts: Sequence[Checkpoint],
        redos: Sequence[Redo | None],
        tokens: Sequence[str],
    ) -> bool:
        for part, redo, token in zip(parts, redos, tokens, strict=True):
            if redo is None:
                if token or part.revision:
                    return False
                self._known[collection, part.partition] = (0, "")
            elif token == redo.token:
                self._known[collection, part.partition] = (redo.revision, token)
            elif token != redo.before:
                return False
            else:
                try:
                    await self._apply(collection, part.partition, redo)
                except ReadModelLost:
                    return False
        return True

    async def _apply(self, collection: str, partition: int, redo: Redo) -> None:
        """Write a batch of the books to the server; raises `ReadModelLost` as `_write` does."""
        if await self._write(collection, partition, redo):
            self._known[collection, partition] = (redo.revision, redo.token)

    def _are_known(self, parts: Sequence[Checkpoint], tokens: Sequence[str]) -> bool:
        return all(
            self._known.get((one.collection, one.partition)) == (one.revision, token)
            for one, token in zip(parts, tokens, strict=True)
        )

    async def _token_of(self, checkpoint: Checkpoint) -> str:
        """The token that a batch from there on follows; raises `ReadModelLost`."""
        place = (checkpoint.collection, checkpoint.partition)
        tokens = await self._tokens([checkpoint])
        if tokens is None or self._known.get(place) != (checkpoint.revision, tokens[0]):
            mine = await self._kept_of(checkpoint.collection)
            if mine and not await self._is_whole(mine):
                raise ReadModelLost(checkpoint.collection)
        return self._known.get(place, (0, ""))[1]

    def _checked(self, batch: ProjectionBatch) -> dict[str, str | None]:
        """What is to be written, as JSON; what cannot be kept is refused before any I/O."""
        collection, writes = batch.checkpoint.collection, dict[str, str | None]()
        try:
            for key, one in batch.documents.items():
                check_key(key)
                if one is not None:
                    self._check(collection, one)
                writes[str(key)] = None if one is None else encoded(one).decode()
        except (TypeError, ValueError) as error:
            raise WritesRefused(collection, error) from error
        return writes

    async def _redos(self, parts: Sequence[Checkpoint]) -> list[Redo | None]:
        keys = [f"{self.kind}:{one.partition}" for one in parts]
        found = await self.behind.get_many(parts[0].collection, keys)
        return [msgspec.convert(found[key], Redo) if key in found else None for key in keys]

    async def _check_lost(self, collection: str) -> None:
        """Raise `ReadModelLost` for a generation that is not here and should be."""
        kept = await self._kept_of(collection)
        if not _is_left(kept) and any(one.revision for one in kept):
            raise ReadModelLost(collection)

    async def _drop(self, collection: str) -> None:
        for place in [one for one in self._known if one[0] == collection]:
            del self._known[place]
        await self._remove_whole(collection)


def _is_left(parts: Sequence[Checkpoint]) -> bool:
    """Whether there is no way back to a generation, as the books say; also to an unknown one."""
    return all(one.state is GenerationState.RETIRED and one.is_outdated for one in parts)
