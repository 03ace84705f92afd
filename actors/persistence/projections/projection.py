"""What a projection is: a read model's name, the events it wants, and what each of them writes.

A definition has no state: `apply` gets the event and a `ProjectionTx`, which gathers the
writes of a batch in memory. Who commits them is no business of this file: a runner with the
checkpoint (`runner.py`), or an append in its own transaction (`inline.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

from actors.persistence.event_types import EVENTS, EventTypes
from actors.persistence.words import StoredEvent

Document: TypeAlias = Mapping[str, object]


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
    inline: ClassVar[bool] = False  # applied in the append, see `inline.py`

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


def collection_of(projection: str, generation: int) -> str:
    """Call this for the name of a generation, such as `orders__g2`."""
    return f"{projection}__g{generation}"
