"""The actor that fills one generation of a projection from the log, for as long as it lives.

Rule 1: a batch is applied in memory and committed with its checkpoint; a batch that finds
the checkpoint elsewhere wrote nothing and is read again from there.
Rule 2: what cannot be applied is parked with everything later of its stream, or stops the
projection, or is skipped; nothing is lost silently.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast
from zlib import crc32

import trio

from actors.persistence.beside_log.dead_letters import DeadLetters, DeadLetterStatus, NewDeadLetter
from actors.persistence.errors import CursorOutdated, StoreError
from actors.persistence.event_store import EventStore
from actors.persistence.projections.projection import Document, Projection, ProjectionTx
from actors.persistence.projections.store import (
    Checkpoint,
    GenerationState,
    ProjectionBatch,
    ProjectionStore,
    next_generation,
)
from actors.persistence.words import Cursor, Lag, Page, StoredEvent, StreamId
from actors.runtime import Actor, Ask, Log, Normal, message

# Larger batches hold locks longer, smaller ones commit more often than a disk likes.
COMMIT_EVENTS_MAX = 100

# A broken row is often a moment's: a lock, a restart. Then the policy decides.
POISON_RETRIES_S = (0.1, 0.2, 0.4)

# A new generation this close takes over.
SWAP_LAG_MAX = 100

# How long a runner rests when its store is away.
AWAY_S = 0.5
# A page of dead letters; a projection with more parked events needs a person anyway.
PARKED_MAX = 1000

# Where a parked event stands in its stream, among its letter's metadata.
STREAM_VERSION = "stream_version"

_log = Log("actors.persistence")


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """How a runner is: where, how far behind, how fast, and what it set aside."""

    checkpoint: Checkpoint
    lag: Lag
    applied: int
    parked_streams: int
    rate: float
    eta_s: float | None
    progress: float


@message
class AskStatus(Ask[ProjectionStatus]):
    """Asks a runner how it is."""


@message
class Resume:
    """Tells a halted runner to try again, after a fix."""


@message
class ReplayParked(Ask[int]):
    """Asks to apply what was parked of a stream, in order; answers how many were applied."""

    stream_id: str


class ProjectionRunner(Actor[AskStatus | Resume | ReplayParked]):
    """Fills a projection. `rebuild=True` begins a new generation beside the live one."""

    def __init__(
        self,
        projection: Projection,
        events: EventStore,
        store: ProjectionStore,
        *,
        dead_letters: DeadLetters,
        rebuild: bool = False,
        partition: int = 0,
    ) -> None:
        self._projection, self._events, self._store = projection, events, store
        self._dead_letters, self._rebuild, self._partition = dead_letters, rebuild, partition
        if projection.inline:
            raise TypeError(f"{projection.name} is inline: the store applies it in its appends")
        if not 0 <= partition < projection.partitions:
            raise ValueError(f"{projection.name} has {projection.partitions} parts, no {partition}")
        self._types = [
            projection.types.name_of(cls).rpartition(".v")[0] for cls in projection.handles
        ]
        self._parked: set[str] = set()
        # A batch of the run or the replay of a stream: never both on one checkpoint.
        self._turn = trio.Lock()
        self._resumed = trio.Event()
        self._applied = 0
        self._began = 0.0
        self.checkpoint: Checkpoint

    async def on_start(self) -> None:
        """Find the generation to fill, then begin."""
        known = await self._store.checkpoints(self._projection.name)
        generation, state = next_generation(known, self._projection.version)
        if self._rebuild and state is not GenerationState.BUILDING and known:
            generation = max(one.generation for one in known) + 1
            state = GenerationState.BUILDING
        self.checkpoint = await self._open(generation, state)
        lineage = await self._events.lineage()
        if self.checkpoint.lineage != lineage:
            raise CursorOutdated(self.checkpoint.lineage, lineage)
        parked = await self._dead_letters.list(
            status=DeadLetterStatus.PENDING, source=self.checkpoint.collection, limit=PARKED_MAX
        )
        self._parked = {one.letter.stream_id or "" for one in parked}
        self._began = trio.current_time()
        self.start_soon(self._run)

    async def on_ask_status(self, message: AskStatus) -> ProjectionStatus:
        """Tell how it is."""
        lag = await self._events.lag(self.checkpoint.cursor)
        elapsed = max(trio.current_time() - self._began, 0.001)
        rate = self._applied / elapsed
        whole = self._applied + lag.events
        return ProjectionStatus(
            checkpoint=self.checkpoint,
            lag=lag,
            applied=self._applied,
            parked_streams=len(self._parked),
            rate=rate,
            eta_s=lag.events / rate if rate else None,
            progress=1.0 if not whole else self._applied / whole,
        )

    def on_resume(self, message: Resume) -> None:
        """Let a halted run go on."""
        self._resumed.set()
        self._resumed = trio.Event()

    async def on_replay_parked(self, message: ReplayParked) -> int:
        """Apply what was parked of one stream; stops at the first that fails again."""
        async with self._turn:
            return await self._replay(message.stream_id)

    # The run, a task of its own.

    async def _open(self, generation: int, state: GenerationState) -> Checkpoint:
        """Make the checkpoints of all parts, so that nobody takes a part's for the whole."""
        projection = self._projection
        for partition in range(projection.partitions):
            await self._store.open(
                projection.name, generation, projection.version, state, partition
            )
        known = await self._store.checkpoints(projection.name)
        mine = [one for one in known if one.generation == generation]
        if len(mine) != projection.partitions:
            # A stream may have moved to another part, whose checkpoint knows nothing of it.
            raise TypeError(
                f"generation {generation} of {projection.name} has {len(mine)} parts, the class "
                f"declares {projection.partitions}; raise its version to have it rebuilt"
            )
        return mine[self._partition]

    async def _run(self) -> None:
        while self.checkpoint.state is not GenerationState.RETIRED:
            try:
                if self.checkpoint.state is GenerationState.HALTED:
                    await self._wait_for_resume()
                await self._read()
            except StoreError as error:
                _log.warning(
                    "persistence.projection_waits",
                    projection=self._projection.name,
                    code=error.code,
                )
                await trio.sleep(AWAY_S)
        self.stop(Normal())

    async def _wait_for_resume(self) -> None:
        await self._resumed.wait()
        await self._store.set_state(
            self.checkpoint.projection, self.checkpoint.generation, GenerationState.LIVE
        )
        self.checkpoint = replace(self.checkpoint, state=GenerationState.LIVE, error=None)

    async def _read(self) -> None:
        await self._maybe_swap(1)  # a log with nothing to read is caught up with already
        pages = self._events.follow(after=self.checkpoint.cursor, types=self._types)
        async with aclosing(cast("AsyncGenerator[Page, None]", pages)) as reading:
            async for page in reading:
                for begin in range(0, max(len(page.events), 1), COMMIT_EVENTS_MAX):
                    part = page.events[begin : begin + COMMIT_EVENTS_MAX]
                    is_last = begin + COMMIT_EVENTS_MAX >= len(page.events)
                    reached = page.next if is_last else part[-1].cursor
                    async with self._turn:
                        if not await self._apply(part, reached):
                            return
                await self._maybe_swap()

    async def _apply(self, events: Sequence[StoredEvent], reached: Cursor) -> bool:
        """Apply and commit a batch; False when the run must begin anew."""
        tx = ProjectionTx(self._read_document)
        done = self.checkpoint.cursor
        for event in events:
            poison = await self._apply_one(event, tx) if self._is_ours(event) else None
            if poison is not None:
                # What came before it is kept first: whoever waits reads a whole state.
                if await self._commit(tx, done):
                    await self._halt(poison)
                return False
            done = event.cursor
        self._applied += len(events)
        return await self._commit(tx, reached)

    async def _commit(self, tx: ProjectionTx, reached: Cursor) -> bool:
        batch = ProjectionBatch(self.checkpoint, reached, tx.documents, tx.statements)
        if await self._store.commit(batch):
            self.checkpoint = replace(self.checkpoint, cursor=reached)
            return True
        # Somebody else moved it: another runner of this part, or an operator who swapped. What
        # they say holds; the caller reads on from there.
        known = await self._store.checkpoints(self._projection.name)
        mine = (self.checkpoint.generation, self._partition)
        for one in known:
            if (one.generation, one.partition) == mine:
                self.checkpoint = one
        return False

    async def _apply_one(self, event: StoredEvent, tx: ProjectionTx) -> str | None:
        """Apply an event or set it aside; the reason when it must halt the projection."""
        if event.stream_id in self._parked:
            await self._park(event, "behind a parked event of its stream")
            return None
        error = await self._try(event, tx)
        for wait_s in POISON_RETRIES_S:
            if error is None:
                return None
            await trio.sleep(wait_s)
            error = await self._try(event, tx)
        if error is None:
            return None
        text = f"{type(error).__name__}: {error}"
        if self._projection.on_poison == "halt":
            return text
        if self._projection.on_poison == "park":
            self._parked.add(event.stream_id)
        await self._park(event, text)
        return None

    async def _try(self, event: StoredEvent, tx: ProjectionTx) -> Exception | None:
        try:
            await self._projection.apply(event, tx)
        except StoreError:
            tx.forget()
            raise  # the store is away: the event is not to blame
        except Exception as error:  # noqa: BLE001  (whatever an event breaks is its poison)
            tx.forget()
            return error
        tx.keep()
        return None

    async def _park(self, event: StoredEvent, text: str) -> None:
        await self._dead_letters.add(parked(event, self.checkpoint.collection, text))

    async def _halt(self, text: str) -> None:
        name, generation = self.checkpoint.projection, self.checkpoint.generation
        _log.error("persistence.projection_halted", projection=name, error=text)
        await self._store.set_state(name, generation, GenerationState.HALTED, text)
        self.checkpoint = replace(self.checkpoint, state=GenerationState.HALTED, error=text)

    async def _replay(self, stream_id: str) -> int:
        letters = await self._dead_letters.list(
            status=DeadLetterStatus.PENDING, source=self.checkpoint.collection, limit=PARKED_MAX
        )
        count = 0
        for letter in letters:
            if letter.letter.stream_id != stream_id:
                continue
            event = await self._load(stream_id, int(letter.letter.metadata[STREAM_VERSION]))
            tx = ProjectionTx(self._read_document)
            taken = await self._dead_letters.retry(letter.id, "replay")
            error = await self._try(event, tx)
            if error is not None:
                await self._dead_letters.failed_again(taken.id, str(error), "replay")
                return count
            if not await self._commit(tx, self.checkpoint.cursor):
                await self._dead_letters.failed_again(taken.id, "another runner", "replay")
                return count
            await self._dead_letters.resolve(taken.id, "replay")
            count += 1
        self._parked.discard(stream_id)
        return count

    async def _load(self, stream_id: str, version: int) -> StoredEvent:
        found = self._events.load(StreamId(stream_id), from_version=version, to_version=version)
        (loaded,) = [event async for event in found]
        return loaded

    async def _maybe_swap(self, lag_max: int = SWAP_LAG_MAX) -> None:
        """Take over when all parts of this generation have nearly caught up."""
        if self.checkpoint.state is not GenerationState.BUILDING:
            return
        known = await self._store.checkpoints(self._projection.name)
        mine = [one for one in known if one.generation == self.checkpoint.generation]
        if len(mine) < self._projection.partitions:
            return
        lag = await self._events.lag(min(one.cursor for one in mine))
        if lag.events < lag_max:
            await self._store.swap(self.checkpoint.projection, self.checkpoint.generation)
            self.checkpoint = replace(self.checkpoint, state=GenerationState.LIVE)

    async def _read_document(self, key: str) -> Document | None:
        return await self._store.get(self.checkpoint.collection, key)

    def _is_ours(self, event: StoredEvent) -> bool:
        parts = self._projection.partitions
        return parts == 1 or crc32(event.stream_id.encode()) % parts == self._partition


def parked(event: StoredEvent, collection: str, text: str) -> NewDeadLetter:
    """Call this for the letter of an event that a generation of a projection sets aside."""
    return NewDeadLetter(
        kind="projection",
        source=collection,
        message_id=str(event.cursor),
        error_message=text,
        payload=event.data,
        metadata={**event.metadata, STREAM_VERSION: str(event.version)},
        stream_id=event.stream_id,
        event_id=event.event_id,
        event_type=event.type,
        event_version=event.schema_version,
    )
