"""Documents kept in memory for a while, in front of any `ProjectionStore`.

Rule 1: what is kept is as the last checkpoint that was told from here says, or newer. A commit
from here replaces or removes what it wrote; a checkpoint that somebody else has moved makes
everything of its generation forgotten before it is told. So who has waited for a projection here
reads what it waited for.
Rule 2: one load for a key at a time; who asks meanwhile waits for it. One that began before a
change is kept by nobody, and nobody who asks after the change is given it.
Rule 3: only generations with a checkpoint are kept: what an append writes itself is told by none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

import msgspec
import trio

from actors.persistence.errors import StoreError
from actors.persistence.projections.projection import Document, encoded, is_key, projection_of
from actors.persistence.projections.store import (
    RETIRED_KEPT,
    Checkpoint,
    GenerationState,
    InFrontOfProjections,
    ProjectionBatch,
    ProjectionStore,
    check_documents,
    live_among,
)
from actors.persistence.words import check_a, check_list
from actors.runtime.words.tallies import Tallies

# What nobody has told of is out of date for no longer.
TTL_S = 60.0
# Of a kilobyte each: ten megabytes.
ENTRIES_MAX = 10_000
# How long a notice of a commit may be lost before it is looked for, and the least pause in between:
# a look is a statement.
LOOK_S, PAUSE_S = 1.0, 0.02
AWAY_S = 0.5


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """How a cache is: what it holds, and what it has answered so far."""

    entries: int
    hits: int
    misses: int
    evictions: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A document's JSON, or that there is none; of an earlier epoch it is forgotten."""

    text: bytes | None
    until: float
    epoch: int


@dataclass(slots=True)
class _Load:
    """A question that the store is asked; `texts` is there when it was answered."""

    epoch: int
    done: trio.Event = field(default_factory=trio.Event)
    texts: dict[str, bytes | None] | None = None
    error: StoreError | None = None


@dataclass(slots=True)
class _Seen:
    """What was told last of a generation, by its parts."""

    epoch: int
    parts: dict[int, tuple[int, bool]] = field(default_factory=dict)


class CachedProjections(InFrontOfProjections):
    """The port `ProjectionStore` in front of another, of which it keeps single documents.

    Give it to the runner too: its commits are then known at once. `serve`, run as a task, has those
    of other processes known within a moment, and within a second when a notice is lost; without,
    it is when a checkpoint is asked for, or the time is over. `writes_through` keeps what a commit
    writes; otherwise it is loaded when somebody asks for it. `query` and `tenants` ask the store.
    """

    def __init__(
        self,
        store: ProjectionStore,
        *,
        ttl_s: float = TTL_S,
        entries_max: int = ENTRIES_MAX,
        writes_through: bool = False,
        tallies: Tallies | None = None,
    ) -> None:
        if ttl_s <= 0 or entries_max < 1:
            raise ValueError("a cache keeps one document at least, for longer than no time")
        super().__init__(store)
        self._ttl_s, self._entries_max = ttl_s, entries_max
        self._writes_through = writes_through
        self._tallies = Tallies() if tallies is None else tallies
        # The one that was used last at the end.
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        # One for each key that a task loads.
        self._loads: dict[tuple[str, str], _Load] = {}
        # One for each generation that was read.
        self._seen: dict[str, _Seen] = {}
        # One for each projection that was read: what serves, and until when that is told again.
        self._live: dict[str, tuple[str | None, float]] = {}
        self._epochs = count(1)
        self._hits = self._misses = self._evictions = 0

    def statistics(self) -> CacheStatistics:
        """Call this for how it is; waits for nothing."""
        return CacheStatistics(len(self._entries), self._hits, self._misses, self._evictions)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call this as a task: forgets what others change, for as long as it runs."""
        task_status.started()
        while True:
            try:
                await self.behind.changed(LOOK_S)
                for name in sorted({projection_of(one)[0] for one in self._seen}):
                    await self.checkpoints(name)
            except StoreError:
                await trio.sleep(AWAY_S)
            await trio.sleep(PAUSE_S)

    # What may change documents.

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
        self._note(opened)
        return opened

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        known = await self.behind.checkpoints(projection)
        for one in known:
            self._note(one)
        self._live[projection] = (live_among(known), trio.current_time() + LOOK_S)
        return known

    async def live(self, projection: str) -> str | None:
        """See `live_collection`; what was told in the last second is told again."""
        collection, until = self._live.get(projection, (None, 0.0))
        if collection is None or trio.current_time() >= until:
            return live_among(await self.checkpoints(projection))
        await trio.lowlevel.checkpoint_if_cancelled()
        return collection

    async def commit(self, batch: ProjectionBatch) -> bool:
        """See `ProjectionStore.commit`."""
        check_a("batch", batch, ProjectionBatch)
        begun = batch.checkpoint
        try:
            is_written = await self.behind.commit(batch)
        except BaseException:
            # Perhaps it was.
            self._forget(begun.collection, batch.documents)
            raise
        if not is_written:
            return False
        self._forget(begun.collection, batch.documents)
        before = self._seen.get(begun.collection)
        is_next = before is not None and before.parts.get(begun.partition) == (
            begun.revision,
            begun.is_outdated,
        )
        if before is None or not is_next:
            # Others committed too: the next checkpoint that is told says so.
            return True
        before.parts[begun.partition] = (begun.revision + 1, begun.is_outdated)
        if self._writes_through:
            for key, document in batch.documents.items():
                text = None if document is None else encoded(document)
                self._keep((begun.collection, key), text, before.epoch)
        return True

    async def swap(self, projection: str, generation: int) -> None:
        """See `ProjectionStore.swap`."""
        try:
            await self.behind.swap(projection, generation)
        finally:
            self._forget_all()

    async def purge(self, limit: int = 1000, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """See `ProjectionStore.purge`."""
        try:
            return await self.behind.purge(limit, older_than=older_than)
        finally:
            self._forget_all()

    # What is read.

    async def get(self, collection: str, key: str) -> Document | None:
        """See `ProjectionStore.get`."""
        check_documents(collection)
        if not is_key(key) or not await self._is_kept(collection):
            return await self.behind.get(collection, key)
        return _decoded((await self._read(collection, [key]))[key])

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        """See `ProjectionStore.get_many`."""
        check_documents(collection)
        check_list("keys", keys)
        if not await self._is_kept(collection):
            return await self.behind.get_many(collection, keys)
        found = await self._read(collection, [key for key in keys if is_key(key)])
        documents = ((key, _decoded(text)) for key, text in found.items())
        return {key: document for key, document in documents if document is not None}

    async def exists(self, collection: str, key: str) -> bool:
        """See `ProjectionStore.exists`."""
        return await self.get(collection, key) is not None

    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """See `ProjectionStore.query`."""
        return await self.behind.query(collection, prefix=prefix, after=after, limit=limit)

    async def tenants(
        self, collection: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """See `ProjectionStore.tenants`."""
        return await self.behind.tenants(collection, after=after, limit=limit)

    # Keeping and forgetting.

    async def _is_kept(self, collection: str) -> bool:
        """Whether a collection has a checkpoint, which tells of its changes."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if collection not in self._seen:
            name, _ = projection_of(collection)
            if name:
                await self.checkpoints(name)
        return collection in self._seen

    async def _read(self, collection: str, keys: Iterable[str]) -> dict[str, bytes | None]:
        """The texts of documents, by all keys."""
        found: dict[str, bytes | None] = {}
        missing, loads = list[str](), list[tuple[str, _Load]]()
        epoch, now = self._epoch(collection), trio.current_time()
        for key in dict.fromkeys(keys):
            place = (collection, key)
            entry, load = self._entries.get(place), self._loads.get(place)
            if entry is not None and entry.epoch == epoch and entry.until > now:
                self._entries.move_to_end(place)
                found[key] = entry.text
            elif load is not None and load.epoch == epoch:
                loads.append((key, load))
            else:
                missing.append(key)
        self._count(collection, len(found) + len(loads), len(missing))
        if missing:
            found.update(await self._load(collection, missing, epoch))
        for key, load in loads:
            await load.done.wait()
            if load.error is not None:
                raise load.error
            if load.texts is None:
                # Whoever loaded it was cancelled: one of those who waited does it.
                found.update(await self._read(collection, [key]))
            else:
                found[key] = load.texts[key]
        return found

    async def _load(
        self, collection: str, keys: Sequence[str], epoch: int
    ) -> dict[str, bytes | None]:
        load = _Load(epoch)
        for key in keys:
            self._loads[collection, key] = load
        try:
            if len(keys) == 1:
                known = {keys[0]: await self.behind.get(collection, keys[0])}
            else:
                known = dict(await self.behind.get_many(collection, keys))
            texts = {key: _encoded(known.get(key)) for key in keys}
            for key in keys:
                # Not when it was written since it was asked for.
                if self._loads.get((collection, key)) is load:
                    self._keep((collection, key), texts[key], epoch)
            load.texts = texts
        except StoreError as error:
            load.error = error
            raise
        finally:
            for key in keys:
                if self._loads.get((collection, key)) is load:
                    del self._loads[collection, key]
            load.done.set()
        return texts

    def _keep(self, place: tuple[str, str], text: bytes | None, epoch: int) -> None:
        self._entries[place] = _Entry(text, trio.current_time() + self._ttl_s, epoch)
        self._entries.move_to_end(place)
        if len(self._entries) > self._entries_max:
            (collection, _), _ = self._entries.popitem(last=False)
            self._evictions += 1
            name = projection_of(collection)[0]
            self._tallies.count("cache_evictions_total", name).number += 1

    def _forget(self, collection: str, keys: Iterable[str]) -> None:
        for key in keys:
            self._entries.pop((collection, key), None)
            self._loads.pop((collection, key), None)

    def _forget_all(self) -> None:
        self._entries.clear()
        self._loads.clear()
        self._seen.clear()
        self._live.clear()

    def _note(self, checkpoint: Checkpoint) -> None:
        """Learn where a checkpoint is; one that was moved elsewhere makes its documents old."""
        told = (checkpoint.revision, checkpoint.is_outdated)
        seen = self._seen.get(checkpoint.collection)
        if seen is None:
            seen = self._seen[checkpoint.collection] = _Seen(next(self._epochs))
        elif seen.parts.get(checkpoint.partition) != told:
            seen.epoch = next(self._epochs)
        seen.parts[checkpoint.partition] = told

    def _epoch(self, collection: str) -> int:
        seen = self._seen.get(collection)
        return 0 if seen is None else seen.epoch

    def _count(self, collection: str, hits: int, misses: int) -> None:
        self._hits += hits
        self._misses += misses
        name = projection_of(collection)[0]
        if hits:
            self._tallies.count("cache_hits_total", name).number += hits
        if misses:
            self._tallies.count("cache_misses_total", name).number += misses


def _encoded(document: Document | None) -> bytes | None:
    return None if document is None else msgspec.json.encode(document)


def _decoded(text: bytes | None) -> Document | None:
    # Anew for each reader, who may change what it is given.
    found: Document | None = None if text is None else msgspec.json.decode(text)
    return found
