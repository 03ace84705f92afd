"""Read models: what a projection is, and what its store does.

A projection's writes and its checkpoint are one transaction, so an event is applied once,
whoever is killed. It is told apart by cursor, never by time. `projection_runner.py` is the
actor that reads the log and applies; `projection_waiting.py` waits for it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, Literal, Protocol, TypeAlias

from actors.persistence.events import EVENTS, EventTypes
from actors.persistence.words import Cursor, StoredEvent

# Larger batches hold locks longer, smaller ones commit more often than a disk likes.
BATCH_EVENTS_MAX = 100

# A broken row is often a moment's: a lock, a restart. Then the policy decides.
POISON_RETRIES_S = (0.1, 0.2, 0.4)

# A new generation this close takes over.
SWAP_LAG_MAX = 100
RETIRED_KEPT = timedelta(hours=24)

Document: TypeAlias = Mapping[str, object]


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

    @property
    def collection(self) -> str:
        """Call this for the name under which the generation's documents are kept."""
        return collection_of(self.projection, self.generation)


def collection_of(projection: str, generation: int) -> str:
    """Call this for the name of a generation, such as `orders__g2`."""
    return f"{projection}__g{generation}"


class ProjectionTx:
    """What one batch of events changes; nothing is written before the batch commits."""

    def __init__(self, read: Callable[[str], Awaitable[Document | None]]) -> None:
        self._read = read
        self._kept: dict[str, Document | None] = {}
        self._current: dict[str, Document | None] = {}
        self.statements: list[tuple[str, tuple[object, ...]]] = []
        self._statements_kept = 0

    async def get(self, key: str) -> Document | None:
        """Call this for a document as this batch has left it."""
        for layer in (self._current, self._kept):
            if key in layer:
                return layer[key]
        return await self._read(key)

    def put(self, key: str, document: Document) -> None:
        """Call this to write a whole document."""
        self._current[key] = document

    def delete(self, key: str) -> None:
        """Call this to remove a document; a missing one is no error."""
        self._current[key] = None

    def execute(self, statement: str, *args: object) -> None:
        """Call this to run SQL on tables of the projection's own, with the commit.

        For stores that know SQL; another refuses the batch.
        """
        self.statements.append((statement, args))

    def keep(self) -> None:
        """Call this when an event is applied whole."""
        self._kept.update(self._current)
        self._current.clear()
        self._statements_kept = len(self.statements)

    def forget(self) -> None:
        """Call this when an event failed half-way: its changes are gone."""
        self._current.clear()
        del self.statements[self._statements_kept :]

    @property
    def documents(self) -> Mapping[str, Document | None]:
        """Call this for what is to be written; None removes."""
        return self._kept


class Projection:
    """Base of a projection's definition.

    `handles` lists the event classes it wants; `apply` writes through `tx` only. Raise
    `version` when it would write something else than before: it is then rebuilt beside the
    old one, which serves until the new one has caught up.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    handles: ClassVar[tuple[type, ...]]
    types: ClassVar[EventTypes] = EVENTS
    on_poison: ClassVar[Literal["park", "halt", "skip"]] = "park"
    partitions: ClassVar[int] = 1
    inline: ClassVar[bool] = False  # applied in the append, see `inline_projections.py`

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not getattr(cls, "handles", ()):
            raise TypeError(f"{cls.__qualname__} handles no event; list the classes it wants")
        if not getattr(cls, "name", ""):
            raise TypeError(f"{cls.__qualname__} has no name")

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Override this: write what an event means; `self.types.decode(event)` reads it."""
        raise TypeError(f"{type(self).__name__} has no apply()")


def check_projections(projections: Sequence[Projection]) -> None:
    """Call this at start; two projections of one name are a `TypeError`."""
    seen: dict[str, type] = {}
    for one in projections:
        other = seen.setdefault(one.name, type(one))
        if other is not type(one):
            raise TypeError(
                f"{one.name} is the name of {other.__qualname__} and of {type(one).__qualname__}"
            )


@dataclass(frozen=True, slots=True)
class ProjectionBatch:
    """What is committed at once: from one cursor to another, with what was written between."""

    checkpoint: Checkpoint
    reached: Cursor
    documents: Mapping[str, Document | None] = field(default_factory=dict)
    statements: Sequence[tuple[str, tuple[object, ...]]] = ()


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
        """Call this to make a generation's checkpoint, or find the one there is."""
        ...

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """Call this for all generations, by number and partition."""
        ...

    async def commit(self, batch: ProjectionBatch) -> bool:
        """Call this to write a batch and move its checkpoint, in one transaction.

        False when the checkpoint is not where the batch began, or no longer filled: another
        runner was faster, and nothing was written.
        """
        ...

    async def set_state(
        self, projection: str, generation: int, state: GenerationState, error: str | None = None
    ) -> None:
        """Call this to halt a generation with an error, or to let it go on."""
        ...

    async def swap(self, projection: str, generation: int) -> None:
        """Call this to make a generation the live one and retire the former, at once."""
        ...

    async def purge(self, projection: str, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """Call this to remove generations that were retired long ago; returns how many."""
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

    async def changed(self, timeout_s: float) -> None:
        """Call this to wait for a commit of any projection, or so long."""
        ...


def serves(checkpoint: Checkpoint) -> bool:
    """Call this to decide whether readers read a generation."""
    return checkpoint.state in (GenerationState.LIVE, GenerationState.HALTED)


async def live_collection(store: ProjectionStore, name: str) -> str | None:
    """Call this for the collection readers read; None before the first generation is live."""
    live = [one for one in await store.checkpoints(name) if serves(one)]
    return live[-1].collection if live else None


def next_generation(known: Sequence[Checkpoint], version: int) -> tuple[int, GenerationState]:
    """Call this to decide which generation a runner fills, and as what.

    The unfinished one of this version, else the live one of this version, else a new one:
    live when it is the first, building beside an older version.
    """
    for one in reversed(known):
        if one.version == version and one.state is not GenerationState.RETIRED:
            return one.generation, one.state
    last = max((one.generation for one in known), default=0)
    is_first = not any(serves(one) for one in known)
    return last + 1, GenerationState.LIVE if is_first else GenerationState.BUILDING
