"""Inline projections in memory; the twin of `storage/postgres/inline.py`."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import TypeVar

from actors.persistence import (
    Document,
    InlineProjectionFailed,
    InlineProjections,
    Projection,
    ProjectionTx,
    StoredEvent,
    inline_collection,
)
from storage.memory.database import MemoryDatabase

T = TypeVar("T")
Changes = Mapping[str, Mapping[str, Document | None]]


def apply_inline(
    inline: InlineProjections, database: MemoryDatabase, txid: int, placed: Sequence[StoredEvent]
) -> Changes:
    """Call this in an append for what is to be written; a refusal rolls it back and is raised."""
    try:
        return {
            inline_collection(one): _apply(inline, database, one, placed).documents
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
    kept = database.documents.get(inline_collection(projection), {})

    async def read(key: str) -> Document | None:
        return kept.get(key)

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
