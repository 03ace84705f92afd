"""The port of read models: where documents and checkpoints are kept, and which are read.

A projection's writes and its checkpoint are one transaction, so an event is applied once,
whoever is killed. What was applied is told by the cursor, never by time.

A *generation* is one filling of a projection from the first event on. A new version of the
code fills a new one beside the old, which serves until the new one has caught up; then they
are swapped, and the old one is kept for a while in case of regret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from actors.persistence.projections.projection import Document, collection_of
from actors.persistence.words import Cursor

RETIRED_KEPT = timedelta(hours=24)


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
