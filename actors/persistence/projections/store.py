"""The port of read models: where documents and checkpoints are kept, and which are read.

A projection's writes and its checkpoint are one transaction, so an event is applied once,
whoever is killed. What was applied is told by the cursor, never by time. What could not be
applied is in the same transaction: the dead letters of parked events, and those that a replay
resolves. Every commit counts the checkpoint's `revision` up and is refused when it stands
elsewhere, so of a batch, a replay and another runner's batch one comes first and the others
read again: whether a stream is parked cannot change between the question and the commit.

A *generation* is one filling of a projection from the first event on. A new version of the
code fills a new one beside the old, which serves until the new one has caught up; then they
are swapped, and the old one is kept for a while in case of regret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from actors.persistence.beside_log.dead_letters import NewDeadLetter, storable
from actors.persistence.errors import InvalidField, StoreError, StoreMisuse
from actors.persistence.event_store import check_cursor
from actors.persistence.projections.projection import Document, Projection, collection_of
from actors.persistence.words import (
    BIGINT_MAX,
    INT_MAX,
    KEY_BYTES_MAX,
    KEY_OF_STREAM_BYTES_MAX,
    READ_LIMIT_MAX,
    Cursor,
    Version,
    check_a,
    check_integer,
    check_list,
    check_row,
    check_text,
)

RETIRED_KEPT = timedelta(hours=24)

# Who settles the letters of parked events, in the audit.
REPLAY = "replay"


class GenerationState(StrEnum):
    """Whether a generation is filled, read from, stopped by an error, or kept for going back."""

    BUILDING = "building"
    LIVE = "live"
    HALTED = "halted"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a generation of a projection has come."""

    projection: str
    generation: int
    version: int
    cursor: Cursor
    lineage: str
    state: GenerationState
    error: str | None = None
    partition: int = 0
    # How many commits there were; a replay is one too, and leaves the cursor where it is.
    revision: int = 0
    # The event that halts it, and one that is left out when it comes to it.
    poison: UUID | None = None
    left_out: UUID | None = None
    # False when it stood still though there was something to read: no runner fills it.
    is_filled: bool = True
    # Whether a subject was forgotten whose private fields it was made of: it is built anew.
    is_outdated: bool = False

    def __post_init__(self) -> None:
        check_generation(self.projection, self.generation, self.version, self.state, self.partition)
        check_integer("revision", self.revision, 0, BIGINT_MAX)
        check_cursor(self.cursor)

    @property
    def is_halted(self) -> bool:
        """Call this to ask whether an error stops the filling; a halted rebuild serves nobody."""
        return self.error is not None or self.state is GenerationState.HALTED

    @property
    def collection(self) -> str:
        """Call this for the name under which the generation's documents are kept."""
        return collection_of(self.projection, self.generation)


@dataclass(frozen=True, slots=True)
class ProjectionBatch:
    """What is committed at once: from one cursor to another, with what was written between.

    `letters` are of events set aside; `replayed` the ids of letters whose events the batch
    applies, `failed` one whose event failed again, and why; `halted` stops the generation, for the
    event `poison`. `forgets` is there when private fields were read: how many subjects had been
    forgotten then; `subjects` are those whose fields they were, and are kept with the generation.
    """

    checkpoint: Checkpoint
    reached: Cursor
    documents: Mapping[str, Document | None] = field(default_factory=dict)
    statements: Sequence[tuple[str, tuple[object, ...]]] = ()
    letters: Sequence[NewDeadLetter] = ()
    replayed: Sequence[int] = ()
    failed: tuple[int, str] | None = None
    halted: str | None = None
    forgets: int | None = None
    poison: UUID | None = None
    subjects: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_a("checkpoint", self.checkpoint, Checkpoint)
        check_cursor(self.reached)
        # The projection's own words: no reason to lose what they are about.
        if self.failed is not None:
            id_, text = self.failed
            check_row(id_)
            check_a("failed", text, str)
            object.__setattr__(self, "failed", (id_, storable(text)))
        if self.halted is not None:
            check_a("halted", self.halted, str)
            object.__setattr__(self, "halted", storable(self.halted))
        for id_ in self.replayed:
            check_row(id_)
        for letter in self.letters:
            check_a("a letter", letter, NewDeadLetter)


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that waits to be replayed: its letter, and its place in its stream."""

    letter_id: int
    version: Version


# What is asked of a caller before any I/O, by every engine. Each raises `InvalidField`.


def check_generation(
    projection: str,
    generation: int = 1,
    version: int = 1,
    state: GenerationState = GenerationState.LIVE,
    partition: int = 0,
) -> None:
    """Call this with which part of which generation is meant."""
    check_text("projection", projection)
    check_integer("generation", generation, 1, INT_MAX)
    check_integer("version", version, -INT_MAX, INT_MAX)
    check_a("state", state, GenerationState)
    check_integer("partition", partition, 0, INT_MAX)


def check_parked(collection: str, streams: Sequence[str] | None, limit: int = 1) -> None:
    """Call this with whose parked events are asked for."""
    check_documents(collection, limit=limit)
    for stream_id in check_list("streams", () if streams is None else streams):
        check_text("a stream", stream_id, KEY_OF_STREAM_BYTES_MAX)


def check_documents(
    collection: str, prefix: str = "", after: str | None = None, limit: int = 1
) -> None:
    """Call this with which documents are asked for."""
    check_text("collection", collection, KEY_BYTES_MAX)
    check_text("prefix", prefix, KEY_BYTES_MAX)
    if after is not None:
        check_text("after", after, KEY_BYTES_MAX)
    check_integer("limit", limit, 1, READ_LIMIT_MAX)


def check_seconds(field_: str, value: object) -> None:
    """Call this with how long somebody waits."""
    if not isinstance(value, (int, float)) or not value >= 0:
        raise InvalidField(field_, "is no number of seconds from 0 on")


class WritesRefused(StoreError):
    """Raised when the database refused what a batch writes; nothing of it was written.

    No moment's trouble: a constraint, a value it cannot keep, SQL it does not know. `error`
    is what it said.
    """

    code = "projection_writes_refused"

    def __init__(self, collection: str, error: Exception) -> None:
        super().__init__(f"the writes of {collection} were refused: {type(error).__name__}")
        self.collection, self.error = collection, error


class UnknownProjection(StoreMisuse, LookupError):
    """Raised for a projection, or a generation of it, that has no checkpoint; nothing was done."""

    code = "unknown_projection"

    def __init__(self, projection: str, generation: int | None = None) -> None:
        which = "" if generation is None else f"no generation {generation} of "
        super().__init__(f"there is {which or 'no '}projection {projection}; nothing was done")
        self.projection, self.generation = projection, generation


class NotRetired(StoreMisuse):
    """Raised when a projection is to go back and no generation before is kept; nothing was done."""

    code = "not_retired"

    def __init__(self, projection: str) -> None:
        super().__init__(
            f"no former generation of {projection} is kept; nothing was done. Rebuild it instead."
        )
        self.projection = projection


class ProjectionStore(Protocol):
    """Where read models and their checkpoints are kept."""

    async def open(
        self,
        projection: str,
        generation: int,
        version: int,
        state: GenerationState,
        partition: int = 0,
    ) -> Checkpoint:
        """Call this to make a generation's checkpoint, or find the one there is, and fill it."""
        ...

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """Call this for all generations, by number and partition."""
        ...

    async def names(self) -> Sequence[str]:
        """Call this for the names of all projections that have a checkpoint."""
        ...

    async def commit(self, batch: ProjectionBatch) -> bool:
        """Call this to write a batch, letters included, and move its checkpoint, at once.

        False when the checkpoint is not where the batch began, or no longer filled, or a
        replayed letter was settled by others, or a subject was forgotten since the batch's
        private fields were read: nothing was written; read again. Raises
        `WritesRefused` when the database will not have it, at the statement or at the
        commit, and `DeadLettersFull`; nothing was written either.
        """
        ...

    async def parked_streams(
        self, collection: str, among: Sequence[str] | None = None
    ) -> frozenset[str]:
        """Call this for the streams with parked events of a generation, among some or all.

        As everywhere here, a stream is named by `StoredEvent.stream_key`.
        """
        ...

    async def parked_events(
        self, collection: str, stream_id: str, *, limit: int = 100
    ) -> Sequence[ParkedEvent]:
        """Call this for a stream's parked events, in the stream's order."""
        ...

    async def wished_replays(self, collection: str) -> frozenset[str]:
        """Call this for the streams whose parked events somebody asked to have applied.

        That is `DeadLetters.hand_back` of one of their letters; it counts until the first of them
        is applied or fails again.
        """
        ...

    async def resume(self, projection: str, generation: int) -> bool:
        """Call this to let all parts of a halted generation go on; False when none is halted."""
        ...

    async def leave_out(self, projection: str, generation: int) -> UUID | None:
        """Call this to let a halted generation go on without the event that halts it.

        Gives that event's id: it will be a dead letter. None when the generation is not halted by
        an event; nothing was done then.
        """
        ...

    async def set_state(
        self, projection: str, generation: int, state: GenerationState, error: str | None = None
    ) -> None:
        """Call this to halt all parts of a generation with an error, or to let them go on.

        A retired generation stays retired.
        """
        ...

    async def leave(self, checkpoint: Checkpoint) -> None:
        """Call this when nobody fills a part of a generation: who waits for it is told so.

        Nothing is done when it has moved; a commit, `open` and `swap` make it filled again.
        """
        ...

    async def swap(self, projection: str, generation: int) -> None:
        """Call this to make a generation the live one and retire the former, at once.

        One that was outdated by a forgotten subject loses its documents in that moment, and
        cannot be made live: nothing is done then. Raises `UnknownProjection` for one that is not
        kept; the live one stays then.
        """
        ...

    async def purge(self, limit: int = 1000, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """Call this to remove what generations that were retired long ago left; a `Purge`.

        At most `limit` rows: of documents, then of dead letters, of which those still open are
        given up, since nobody can apply them any more, then of checkpoints. Returns how many. From
        the first of them on there is no way back to such a generation.
        """
        ...

    async def get(self, collection: str, key: str) -> Document | None:
        """Call this for one document of a generation."""
        ...

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        """Call this for several documents; missing ones are left out."""
        ...

    async def exists(self, collection: str, key: str) -> bool:
        """Call this to ask for a document without reading it."""
        ...

    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """Call this for documents in the order of their keys."""
        ...

    async def tenants(
        self, collection: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """Call this for the tenants that have documents in their collections of this name.

        In an order of the store's own, behind a given one. It costs a look for each collection
        that anybody has.
        """
        ...

    async def changed(self, timeout_s: float) -> None:
        """Call this to wait for a commit of any projection, or so long."""
        ...


def serves(checkpoint: Checkpoint) -> bool:
    """Call this to decide whether readers read a generation."""
    return checkpoint.state in (GenerationState.LIVE, GenerationState.HALTED)


async def live_collection(store: ProjectionStore, name: str) -> str | None:
    """Call this for the collection readers read; None before the first generation is live."""
    if isinstance(store, InFrontOfProjections):
        return await store.live(name)
    return live_among(await store.checkpoints(name))


def live_among(known: Sequence[Checkpoint]) -> str | None:
    """Call this for the collection that readers read, of what is known of a projection."""
    live = [one for one in known if serves(one)]
    return live[-1].collection if live else None


def next_generation(
    known: Sequence[Checkpoint], version: int, *, rebuild: bool = False
) -> tuple[int, GenerationState]:
    """Call this to decide which generation a runner fills, and as what.

    The serving one of this version, else the one of it that is being built (with `rebuild`
    the other way round), else a new one: live when it is the first, building beside others.
    One that was outdated by a forgotten subject is no choice.
    """
    mine = [one for one in known if one.version == version and not one.is_outdated]
    serving = [one for one in mine if serves(one)]
    building = [one for one in mine if one.state is GenerationState.BUILDING]
    for found in (building, serving) if rebuild else (serving, building):
        if found:
            return found[-1].generation, found[-1].state
    last = max((one.generation for one in known), default=0)
    is_first = not any(serves(one) for one in known)
    return last + 1, GenerationState.LIVE if is_first else GenerationState.BUILDING


async def rebuild_by_name(store: ProjectionStore, name: str) -> int:
    """Call this as `begin_rebuild` where the class is not at hand: version and parts are the rows'.

    Whoever runs the projection fills the new generation, in whatever process. One that is built
    already, of a newer version too, is that one. Raises `UnknownProjection`.
    """
    known = await store.checkpoints(name)
    serving = [one for one in known if serves(one)]
    if not serving:
        raise UnknownProjection(name)
    for one in known:
        if one.state is GenerationState.BUILDING and not one.is_outdated:
            return one.generation
    current = [one for one in serving if one.generation == serving[-1].generation]
    return await _begin(store, name, serving[-1].version, len(current))


async def swap_back(store: ProjectionStore, name: str, generation: int | None = None) -> int:
    """Call this to read from a former generation again; returns its number.

    The last that was retired, unless told which. It goes on from where it was left, so readers
    see an older state until its runner has caught up. Raises `UnknownProjection`, `NotRetired`.
    """
    known = await store.checkpoints(name)
    if not known:
        raise UnknownProjection(name)
    # One that was outdated by a forgotten subject has no documents any more.
    kept = {
        one.generation
        for one in known
        if one.state is GenerationState.RETIRED and not one.is_outdated
    }
    if generation is None and not kept:
        raise NotRetired(name)
    to = max(kept) if generation is None else generation
    if to not in kept:
        raise UnknownProjection(name, to)
    await store.swap(name, to)
    return to


async def begin_rebuild(store: ProjectionStore, projection: Projection) -> int:
    """Call this once to have a projection built anew beside the generation that serves.

    Returns the new generation's number, or that of the one that is being built already. The
    runners of this version fill it beside the one that serves, through any restart.
    """
    return await _begin(store, projection.name, projection.version, projection.partitions)


async def _begin(store: ProjectionStore, name: str, version: int, partitions: int) -> int:
    known = await store.checkpoints(name)
    begun = [
        one.generation
        for one in known
        if one.version == version and one.state is GenerationState.BUILDING
    ]
    # Whoever began one may have been killed between two parts: they are completed.
    generation = begun[0] if begun else max((one.generation for one in known), default=0) + 1
    is_first = not any(serves(one) for one in known)
    state = GenerationState.LIVE if is_first else GenerationState.BUILDING
    for partition in range(partitions):
        await store.open(name, generation, version, state, partition)
    return generation


class InFrontOfProjections:
    """What a store that stands in front of another one, `behind`, hands on to it as it is.

    Who derives from it answers the rest of `ProjectionStore`: what documents are, and what moves
    them.
    """

    def __init__(self, behind: ProjectionStore) -> None:
        self.behind = behind

    async def names(self) -> Sequence[str]:
        """See `ProjectionStore.names`."""
        return await self.behind.names()

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        return await self.behind.checkpoints(projection)

    async def live(self, projection: str) -> str | None:
        """See `live_collection`, which asks this."""
        return live_among(await self.checkpoints(projection))

    async def parked_streams(
        self, collection: str, among: Sequence[str] | None = None
    ) -> frozenset[str]:
        """See `ProjectionStore.parked_streams`."""
        return await self.behind.parked_streams(collection, among)

    async def parked_events(
        self, collection: str, stream_id: str, *, limit: int = 100
    ) -> Sequence[ParkedEvent]:
        """See `ProjectionStore.parked_events`."""
        return await self.behind.parked_events(collection, stream_id, limit=limit)

    async def wished_replays(self, collection: str) -> frozenset[str]:
        """See `ProjectionStore.wished_replays`."""
        return await self.behind.wished_replays(collection)

    async def resume(self, projection: str, generation: int) -> bool:
        """See `ProjectionStore.resume`."""
        return await self.behind.resume(projection, generation)

    async def leave_out(self, projection: str, generation: int) -> UUID | None:
        """See `ProjectionStore.leave_out`."""
        return await self.behind.leave_out(projection, generation)

    async def set_state(
        self, projection: str, generation: int, state: GenerationState, error: str | None = None
    ) -> None:
        """See `ProjectionStore.set_state`."""
        await self.behind.set_state(projection, generation, state, error)

    async def leave(self, checkpoint: Checkpoint) -> None:
        """See `ProjectionStore.leave`."""
        await self.behind.leave(checkpoint)

    async def changed(self, timeout_s: float) -> None:
        """See `ProjectionStore.changed`."""
        await self.behind.changed(timeout_s)
