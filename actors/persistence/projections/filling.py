"""Filling one generation of a projection from the log, until it is retired.

`ProjectionRunner` keeps one of these for what serves, and one more while it is built anew; here is
no actor and no decision which generation that is.

Rule 1: a batch is applied in memory and committed with its checkpoint and its dead letters; a
batch that finds the checkpoint elsewhere wrote nothing and is read again from there.
Rule 2: what cannot be applied is parked with everything later of its stream, or stops the
projection, or is skipped; nothing is lost silently. It makes no difference where it fails: in
`apply`, at `put`, at a statement, or at the commit. A batch that the database refuses is
committed event by event, and the one that it refuses alone is the poison.
Rule 3: which streams are parked is asked of the store for each batch, and kept nowhere.
Rule 4: a generation is outdated when a subject was forgotten whose private fields it was made of.
Its filling ends, its runner fills a new one, and what was read before is committed nowhere.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast
from zlib import crc32

import trio

from actors.persistence.errors import CursorOutdated, StoreError
from actors.persistence.event_store import EventStore, Follows
from actors.persistence.projections.applying import (
    Attempt,
    attempt,
    forgets_of,
    hinted,
    said_of,
    subjects_of,
    try_apply,
)
from actors.persistence.projections.projection import Document, Projection, ProjectionTx
from actors.persistence.projections.reading import DocumentReader
from actors.persistence.projections.store import (
    Checkpoint,
    GenerationState,
    ParkedEvent,
    ProjectionBatch,
    ProjectionStore,
    WritesRefused,
    serves,
)
from actors.persistence.projections.waiting import next_waiter
from actors.persistence.words import (
    Bookmark,
    Cursor,
    Lag,
    Page,
    StoredEvent,
    StreamId,
    owned_name,
    split_name,
)
from actors.runtime import Log, current_tallies, tell_past

# Larger batches hold locks longer, smaller ones commit more often than a disk likes.
COMMIT_EVENTS_MAX = 100

# A broken row is often a moment's: a lock, a restart. Then the policy decides. A batch waits so
# once, however many of its events fail: those of the other streams wait behind it.
POISON_RETRIES_S = (0.1, 0.2, 0.4)

# A new generation this close takes over.
SWAP_LAG_MAX = 100

# How long a runner rests when its store is away.
AWAY_S = 0.5
# How often a halted runner looks whether another one of its projection was resumed.
HALTED_LOOK_S = 1.0

# How often a checkpoint moves over events that do not concern its projection: such a commit costs
# as much as any. Half of `WAIT_S`: who waits for one in another process still gets an answer; who
# waits in this one is not kept waiting at all.
EMPTY_COMMIT_S = 1.0
# A serving generation that stood still for so long, with events to read, is filled by nobody:
# longer than a checkpoint rests, and than a poisoned batch is tried.
LEFT_S = 3.0

# After a commit that came too late for a forgetting of which this process has not heard yet.
UNHEARD_S = 0.1

# Why a parked event cannot be replayed that somebody has removed by hand.
NOT_STORED = "it is not stored any more"

_FILLED = (GenerationState.BUILDING, GenerationState.LIVE)

_log = Log("actors.persistence")


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How a runner is: where, how far behind, how fast, and what it set aside.

    What only the store knows is None while it is away, and `store_error` is its error's code.
    `checkpoint` is None until a runner has begun: the store has been away since its start.
    """

    checkpoint: Checkpoint | None
    lag: Lag | None
    applied: int
    parked_streams: int | None
    rate: float
    eta_s: float | None
    progress: float | None
    store_error: str | None = None


def status_before(error: StoreError) -> ProjectionStatus:
    """Call this for how a runner is that could not begin yet."""
    return ProjectionStatus(None, None, 0, None, 0.0, None, None, error.code)


class Filling:
    """How a part of a generation is filled: where it is, what it reads, who else moved it."""

    def __init__(
        self,
        projection: Projection,
        events: EventStore,
        store: ProjectionStore,
        checkpoint: Checkpoint,
        *,
        keeps_outdated: bool = False,
        source: Follows | None = None,
    ) -> None:
        self._source: Follows = events if source is None else source
        self._projection, self._events, self._store = projection, events, store
        self._name = owned_name(events.tenant, projection.name)
        self.checkpoint = checkpoint
        self._keeps_outdated = keeps_outdated
        self._handled = frozenset(projection.types.stored_as(*projection.handles))
        # A batch of the run or the replay of a stream: never both on one checkpoint.
        self._turn = trio.Lock()
        self._documents = DocumentReader(store)
        self._resumed = trio.Event()
        # The checkpoint is not where this one left it: what it reads must be read again.
        self._is_elsewhere = False
        self._reading = trio.CancelScope()
        # Read up to there, without an event of the projection, and not committed yet.
        self._unsaved: Cursor | None = None
        self._has_unsaved = trio.Event()
        self._saved_at = -EMPTY_COMMIT_S
        self._saving = trio.CancelScope()
        # Serving checkpoints that were behind at the last look, and where.
        self._standing: dict[tuple[int, int], int] = {}
        self._looked_at = -LEFT_S
        self._applied = 0
        self._began = trio.current_time()
        self.ended = trio.Event()

    async def status(self) -> ProjectionStatus:
        """Call this for how it is, whether the store answers or not."""
        elapsed = max(trio.current_time() - self._began, 0.001)
        rate = self._applied / elapsed
        try:
            lag = await self._events.lag(self.checkpoint.cursor)
            parked = await self._store.parked_streams(self.checkpoint.collection)
        except StoreError as error:
            return ProjectionStatus(
                self.checkpoint, None, self._applied, None, rate, None, None, error.code
            )
        whole = self._applied + lag.events
        return ProjectionStatus(
            checkpoint=self.checkpoint,
            lag=lag,
            applied=self._applied,
            parked_streams=len(parked),
            rate=rate,
            eta_s=lag.events / rate if rate else None,
            progress=1.0 if not whole else self._applied / whole,
        )

    def resume(self) -> None:
        """Call this to let it go on where it is halted, and with it all parts of its generation."""
        self._resumed.set()
        self._resumed = trio.Event()

    def is_ours(self, stream_key: str) -> bool:
        """Call this to ask whether a stream belongs to this part."""
        parts = self._projection.partitions
        return parts == 1 or crc32(stream_key.encode()) % parts == self.checkpoint.partition

    async def replay(self, stream_key: str) -> int:
        """Call this to apply what was parked of one stream; stops at the first that fails again.

        A page at a time, each in one transaction with what becomes of its letters; in between
        the run goes on. Returns how many were applied.
        """
        count, limit, is_more = 0, COMMIT_EVENTS_MAX, True
        while is_more and not self.checkpoint.is_halted and self.checkpoint.state in _FILLED:
            async with self._turn:
                try:
                    done, is_more = await self._replay(stream_key, limit)
                except WritesRefused as error:
                    if limit == 1:
                        self._tell_waiting(error)
                        break
                    limit = 1  # one of them is to blame: alone it is found
                except StoreError as error:
                    self._tell_waiting(error)
                    break
                else:
                    count += done
        return count

    # The run.

    async def run(self) -> None:
        """Call this as a task: fills the generation until it is retired, halts included."""
        try:
            await self._fill()
        finally:
            self._saving.cancel()
            self.ended.set()

    @property
    def is_outdated(self) -> bool:
        """Call this to ask whether it ends, or has ended, for a subject that was forgotten."""
        return self.checkpoint.is_outdated and not self._keeps_outdated

    async def _fill(self) -> None:
        while not self.is_outdated and self.checkpoint.state is not GenerationState.RETIRED:
            try:
                await self._fill_on()
            except CursorOutdated:
                raise
            except StoreError as error:
                self._tell_waiting(error)
                await trio.sleep(AWAY_S)

    async def _fill_on(self) -> None:
        try:
            if self.checkpoint.is_halted:
                await self._wait_for_resume()
            else:
                await self._read()
        except CursorOutdated:
            await self._take_translated()

    async def _take_translated(self) -> None:
        """Go on from where the checkpoint is in the order that the store was given meanwhile."""
        before = self.checkpoint.lineage
        await self.refresh()
        if self.checkpoint.lineage == before:
            raise CursorOutdated(before, await self._events.lineage())

    def _tell_waiting(self, error: StoreError) -> None:
        name = self._name
        _log.warning("persistence.projection_waits", projection=name, code=error.code)

    async def _wait_for_resume(self) -> None:
        """Wait until this runner is told to go on, or the rows say so: by another, or by hand."""
        resumed = self._resumed
        while self.checkpoint.is_halted and not self.is_outdated:
            with trio.move_on_after(HALTED_LOOK_S):
                await resumed.wait()
            if resumed.is_set():
                await self._store.resume(self.checkpoint.projection, self.checkpoint.generation)
            await self.refresh()

    async def _read(self) -> None:
        await self._maybe_swap(1)  # a log with nothing to read is caught up with already
        self._is_elsewhere, self._unsaved = False, None
        place = Bookmark(self.checkpoint.lineage, self.checkpoint.cursor)
        # A strict one looks at whatever there is: what it does not know may have any name.
        types = None if self._projection.strict else sorted(self._handled)
        pages = self._source.follow(after=place, types=types)
        with trio.CancelScope() as self._reading:
            async with aclosing(cast("AsyncGenerator[Page, None]", pages)) as reading:
                async for page in reading:
                    if not await self._read_page(page):
                        return
                    await self._maybe_swap()

    async def _read_page(self, page: Page) -> bool:
        """Apply and commit a page; False when the run must begin anew."""
        events = page.events
        if self._projection.strict:
            events = [event for event in events if self._concerns(event)]
        if not events:
            self._unsaved = page.next
            self._has_unsaved.set()
        for begin in range(0, len(events), COMMIT_EVENTS_MAX):
            part = events[begin : begin + COMMIT_EVENTS_MAX]
            is_last = begin + COMMIT_EVENTS_MAX >= len(events)
            reached = page.next if is_last else part[-1].cursor
            mine = [event for event in part if self.is_ours(event.stream_key)]
            async with self._turn:
                # A replay may have met another runner while this one read.
                if self._is_elsewhere:
                    return False
                if not await self._settle(mine, reached, iter(POISON_RETRIES_S)):
                    return False
        return not self._is_elsewhere

    def _concerns(self, event: StoredEvent) -> bool:
        """Whether a strict one has to do with an event: it handles it, or does not know it."""
        if event.type in self._handled:
            return True
        return not event.is_system and not self._projection.types.knows(event)

    async def save_for_ever(self) -> None:
        """Call this as a task beside the run: saves how far it has read, now and then.

        That is what does not concern the projection. Ends with the run.
        """
        with self._saving:
            await self._save_again_and_again()

    async def _save_again_and_again(self) -> None:
        while True:
            await self._has_unsaved.wait()
            with trio.move_on_at(self._saved_at + EMPTY_COMMIT_S):
                await next_waiter(self._store, self._name)
            try:
                async with self._turn:
                    await self._save()
                    await self._maybe_swap()
            except StoreError as error:
                self._tell_waiting(error)
                await trio.sleep(AWAY_S)

    async def _save(self) -> None:
        unsaved = self._unsaved
        if unsaved is not None and not self._is_elsewhere and unsaved > self.checkpoint.cursor:
            await self._write(ProjectionBatch(self.checkpoint, unsaved))
        # After it: a store that is away leaves something to be saved.
        if self._unsaved == unsaved or self._is_elsewhere:
            self._unsaved, self._has_unsaved = None, trio.Event()

    async def _settle(
        self, events: Sequence[StoredEvent], reached: Cursor, waits: Iterator[float]
    ) -> bool:
        """Apply and commit a batch; False when the run must begin anew."""
        collection, began = self.checkpoint.collection, trio.current_time()
        streams = sorted({event.stream_key for event in events})
        parked = await self._store.parked_streams(collection, streams) if streams else frozenset()
        # By what its documents are likely to be kept under.
        names = set(streams)
        if self._events.tenant is not None:
            names.update(event.stream_id for event in events)
        await self._documents.begin(collection, sorted(names), hinted(self._projection, events))
        refused: Exception | None = None
        while True:
            made = await attempt(
                self._projection,
                events,
                parked,
                self._documents.read,
                collection,
                refused=refused,
                left_out=self.checkpoint.left_out,
            )
            if made.has_failed and (wait_s := next(waits, None)) is not None:
                # Again from the batch's begin: what is applied stays in the order of the log.
                refused = None
                await trio.sleep(wait_s)
                continue
            try:
                return await self._commit(made, reached, events, began)
            except WritesRefused as error:
                if len(events) > 1:
                    return await self._settle_singly(events, reached, waits)
                if refused is not None or not events:
                    raise  # nothing of a projection is left in it: the store is at fault
                refused = error.error

    async def _settle_singly(
        self, events: Sequence[StoredEvent], reached: Cursor, waits: Iterator[float]
    ) -> bool:
        for event in events:
            until = reached if event is events[-1] else event.cursor
            if not await self._settle([event], until, waits):
                return False
        return True

    async def _commit(
        self, made: Attempt, reached: Cursor, events: Sequence[StoredEvent], began: float
    ) -> bool:
        """Write what an attempt came to; False when the run must begin anew."""
        if made.halted is not None:
            # What came before it is kept: whoever waits reads a whole state.
            reached = made.done or self.checkpoint.cursor
        batch = ProjectionBatch(
            self.checkpoint,
            reached,
            made.tx.documents,
            made.tx.statements,
            letters=made.letters,
            halted=made.halted,
            poison=made.poison,
            forgets=forgets_of(events),
            subjects=subjects_of(events),
        )
        if not await self._write(batch):
            return False
        self._applied += made.applied
        name, tallies = self._name, current_tallies()
        tallies.count("projection_applied_total", name).number += made.applied
        tallies.histogram("projection_apply_seconds", name).note(trio.current_time() - began)
        tell_past("projection.apply", (one.metadata for one in events), began, projection=name,
                  events=len(events))  # fmt: skip
        if made.letters:
            _log.warning("persistence.events_set_aside", projection=name, count=len(made.letters))
        if made.halted is None:
            return True
        _log.error("persistence.projection_halted", projection=name, error=made.halted)
        await self.refresh()
        return False

    async def _write(self, batch: ProjectionBatch) -> bool:
        if await self._store.commit(batch):
            revision = batch.checkpoint.revision + 1
            self.checkpoint = replace(self.checkpoint, cursor=batch.reached, revision=revision)
            self._saved_at = trio.current_time()
            return True
        # Somebody else moved it: another runner of this part, or an operator who swapped. What
        # they say holds; the caller reads on from there.
        await self.refresh()
        if batch.forgets is not None and self.checkpoint.revision == batch.checkpoint.revision:
            await trio.sleep(UNHEARD_S)
        return False

    async def look_again(self) -> None:
        """Call this when somebody else may have changed the row: between two batches it is read."""
        async with self._turn:
            await self.refresh()

    async def refresh(self) -> None:
        """Call this in one's turn when the checkpoint is elsewhere; what is read is read again."""
        mine = (self.checkpoint.generation, self.checkpoint.partition)
        known = await self._store.checkpoints(self._name)
        found = [one for one in known if (one.generation, one.partition) == mine]
        # Missing: purged, long after it was retired.
        retired = replace(self.checkpoint, state=GenerationState.RETIRED)
        self.checkpoint = found[0] if found else retired
        self._is_elsewhere = True
        # Last of all: it may be the reading task that is here.
        self._reading.cancel()

    async def _replay(self, stream_key: str, limit: int) -> tuple[int, bool]:
        """Apply a page of what is parked of a stream: how many, and whether to go on."""
        collection = self.checkpoint.collection
        parked = await self._store.parked_events(collection, stream_key, limit=limit)
        if not parked:
            return 0, False
        tx, replayed = ProjectionTx(self._read_document), list[int]()
        failed: tuple[int, str] | None = None
        read: list[StoredEvent] = []
        for one in parked:
            event = await self._load(stream_key, one)
            if event is None and await self._is_gone(stream_key):
                replayed.append(one.letter_id)
                continue
            if event is None:
                failed = (one.letter_id, NOT_STORED)
                break
            read.append(event)
            error = await try_apply(self._projection, event, tx)
            if error is not None:
                failed = (one.letter_id, said_of(event, error))
                break
            replayed.append(one.letter_id)
        batch = ProjectionBatch(
            self.checkpoint,
            self.checkpoint.cursor,
            tx.documents,
            tx.statements,
            replayed=replayed,
            failed=failed,
            forgets=forgets_of(read),
            subjects=subjects_of(read),
        )
        try:
            is_written = await self._write(batch)
        except WritesRefused as refused:
            if limit > 1 or not replayed:
                raise
            failed, replayed = (replayed[0], said_of(read[0], refused.error)), []
            is_written = await self._write(
                replace(batch, documents={}, statements=(), replayed=(), failed=failed)
            )
        if not is_written:
            return 0, True  # read again
        self._applied += len(replayed)
        return len(replayed), failed is None

    def _whose(self, stream_key: str) -> tuple[EventStore, StreamId]:
        """The store that has a stream, and its name there."""
        tenant, name = split_name(stream_key)
        own = self._events if tenant is None else self._events.for_tenant(tenant)
        return own, StreamId(name)

    async def _load(self, stream_key: str, parked: ParkedEvent) -> StoredEvent | None:
        at = parked.version
        events, stream_id = self._whose(stream_key)
        found = events.load(stream_id, from_version=at, to_version=at)
        loaded = [event async for event in found]
        return loaded[0] if loaded else None

    async def _is_gone(self, stream_key: str) -> bool:
        """Whether a stream was tombstoned since: nothing of it is left to be applied."""
        events, one = self._whose(stream_key)
        is_known = await events.head(one) > 0
        return is_known and not (await events.count(stream_id=one, up_to=1)).events

    async def _maybe_swap(self, lag_max: int = SWAP_LAG_MAX) -> None:
        """Take over when all parts of this generation have nearly caught up."""
        if self.checkpoint.state is not GenerationState.BUILDING:
            return
        known = await self._store.checkpoints(self._name)
        await self._look_at_serving(known)
        mine = [one for one in known if one.generation == self.checkpoint.generation]
        if len(mine) < self._projection.partitions:
            return
        if any(one.is_halted or one.state is not GenerationState.BUILDING for one in mine):
            await self.refresh()  # another part swapped already, or cannot go on
            return
        lag = await self._events.lag(min(one.cursor for one in mine))
        if lag.events < lag_max:
            await self._store.swap(self.checkpoint.projection, self.checkpoint.generation)
            self.checkpoint = replace(self.checkpoint, state=GenerationState.LIVE)

    async def _look_at_serving(self, known: Sequence[Checkpoint]) -> None:
        """Find out whether somebody fills what serves while this is built, and tell it."""
        if trio.current_time() < self._looked_at + LEFT_S:
            return
        self._looked_at = trio.current_time()
        before, self._standing = self._standing, {}
        for one in known:
            if not serves(one) or one.is_halted or not one.is_filled:
                continue
            if (await self._events.lag(one.cursor)).events == 0:
                continue
            part = (one.generation, one.partition)
            self._standing[part] = one.revision
            if before.get(part) == one.revision:
                await self._store.leave(one)

    async def _read_document(self, key: str) -> Document | None:
        return await self._store.get(self.checkpoint.collection, key)
