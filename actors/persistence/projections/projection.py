"""What a projection is: a read model's name, the events it wants, and what each of them writes.

A definition has no state: `apply` gets the event and a `ProjectionTx`, which gathers the
writes of a batch in memory. Who commits them is no business of this file: a runner with the
checkpoint (`runner.py`), or an append in its own transaction (`inline.py`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

import msgspec

from actors.persistence.event_types import EVENTS, EventTypes
from actors.persistence.words import StoredEvent
from actors.reducers.messages import here

Document: TypeAlias = Mapping[str, object]
"""What a read model keeps under a key: JSON."""

# A key stands in an index, whose entries have an end (2,700 bytes in PostgreSQL).
KEY_BYTES_MAX = 1024

# A NUL as JSON writes it, and no backslash that happens to stand before "u0000".
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# As `collection_of` writes it.
_COLLECTION = re.compile(r"(.+)__g([1-9][0-9]{0,9})", re.DOTALL)


class Projection:
    """Base of a projection's definition.

    `handles` lists the event classes it wants; `apply` writes through `tx` only. Raise
    `version` when it would write something else than before: it is then rebuilt beside the
    old one, which serves until the new one has caught up. Events stored under former names come
    too, and of one that is split those parts that it handles, each in an `apply` of its own.

    With `strict` an event of whatever type that `types` does not know is one that cannot be
    applied (`UnknownEventType`), and `on_poison` decides: for a read model that must not be built
    by a program that is older than its log. It reads the whole log for it. Without, such events
    are passed over unread.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    handles: ClassVar[tuple[type, ...]]
    types: ClassVar[EventTypes] = EVENTS
    on_poison: ClassVar[Literal["park", "halt", "skip"]] = "park"
    partitions: ClassVar[int] = 1
    inline: ClassVar[bool] = False  # applied in the append, see `inline.py`
    strict: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not getattr(cls, "handles", ()):
            raise TypeError(
                f"{cls.__qualname__} handles no event; list the classes it wants ({here()})"
            )
        if not getattr(cls, "name", ""):
            raise TypeError(f"{cls.__qualname__} has no name ({here()})")
        if cls.strict and cls.inline:
            raise TypeError(
                f"{cls.__qualname__} is inline and strict; it is given only what it handles "
                f"({here()})"
            )

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Override this: write what an event means; `self.types.decode(event)` reads it."""
        raise TypeError(f"{type(self).__name__} has no apply()")

    def reads(self, event: StoredEvent) -> Sequence[str]:
        """Override this: the documents that `apply` asks for by all odds.

        They are read at once: by a runner for a batch of events, and of one that is inline by the
        store, which may lock them, for all appends of a commit. It is a hint, and changes
        nothing: what is not named is read when it is asked for.
        """
        return ()


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
    """What one batch of events changes; nothing is written before the batch commits.

    Documents are taken as they are when they are put, and given as they would come back from
    the store: changing one afterwards changes nothing.
    """

    def __init__(self, read: Callable[[str], Awaitable[Document | None]]) -> None:
        self._read = read
        self._kept: dict[str, bytes | None] = {}
        self._current: dict[str, bytes | None] = {}
        self.statements: list[tuple[str, tuple[object, ...]]] = []
        self._statements_kept = 0

    async def get(self, key: str) -> Document | None:
        """Call this for a document as this batch has left it."""
        check_key(key)
        for layer in (self._current, self._kept):
            if key in layer:
                return _decoded(layer[key])
        return await self._read(key)

    def put(self, key: str, document: Document) -> None:
        """Call this to write a whole document.

        What no store could keep is a `ValueError` or `TypeError` here, where the event that
        is to blame is known: no JSON, a NUL in a text, a key over `KEY_BYTES_MAX`.
        """
        check_key(key)
        self._current[key] = encoded(document)

    def delete(self, key: str) -> None:
        """Call this to remove a document; a missing one is no error."""
        check_key(key)
        self._current[key] = None

    def execute(self, statement: str, *args: object) -> None:
        """Call this to run SQL on tables of the projection's own, with the commit.

        For stores that know SQL; another refuses the batch. What the database refuses at the
        commit is the poison of the event whose statement it was.
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
        return {key: _decoded(text) for key, text in self._kept.items()}


def encoded(document: Document) -> bytes:
    """Call this for a document's JSON; `ValueError` or `TypeError` when no store could keep it."""
    if not isinstance(document, Mapping):
        raise TypeError(f"a document is a mapping, got {type(document).__name__}")
    text = msgspec.json.encode(document, enc_hook=_plain)
    if _NUL.search(text) is not None:
        raise ValueError("a document has a NUL in a text, which no store can keep")
    return text


def _plain(value: object) -> object:
    if isinstance(value, str):
        return str(value)  # a text with a class of its own, such as `StreamId`
    raise TypeError(f"a document cannot hold a {type(value).__name__}")


def check_key(key: str) -> None:
    """Call this before a key is written; `ValueError` for one that no document can have."""
    if not isinstance(key, str):
        raise TypeError(f"a document's key is a text, got {type(key).__name__}")
    if not is_key(key):
        raise ValueError(
            f"a document's key has no NUL, no half of a surrogate pair, and at most "
            f"{KEY_BYTES_MAX} bytes; this one has {len(key)} characters"
        )


def is_key(key: object) -> bool:
    """Call this to decide whether a document can have this key."""
    return (
        isinstance(key, str)
        and "\x00" not in key
        and len(key.encode(errors="replace")) <= KEY_BYTES_MAX
        and (key.isascii() or not any("\ud800" <= one <= "\udfff" for one in key))
    )


def _decoded(text: bytes | None) -> Document | None:
    found: Document | None = None if text is None else msgspec.json.decode(text)
    return found


def collection_of(projection: str, generation: int) -> str:
    """Call this for the name of a generation, such as `orders__g2`."""
    return f"{projection}__g{generation}"


def projection_of(collection: str) -> tuple[str, int]:
    """Call this for whose collection it is, and of which generation; ("", 0) for any other's."""
    match = _COLLECTION.fullmatch(collection)
    return ("", 0) if match is None else (match[1], int(match[2]))
