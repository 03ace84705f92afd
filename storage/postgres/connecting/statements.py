"""Which statements a call ran, for whoever watches the store work: in one place for all stores.

A `Database` that has a `tell` gives it, after each call, the statements of that call with their
times and rows, and on whose behalf they ran. A statement is its text with parameters, as it stands
in the code: values are in none of them. With nobody told nothing is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from actors.runtime import current_context

if TYPE_CHECKING:
    _Base: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection

# A call that runs more (a migration, a rebuild) is no request's.
STATEMENTS_TOLD_MAX = 20


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that was run: its text, how long it took, how many rows it gave or changed."""

    text: str
    took_s: float
    rows: int | None


# The requests a call was made for, by their correlation ids, and what it ran. On the trio thread.
TellStatements: TypeAlias = Callable[[Sequence[str], Sequence[Statement]], None]

_heard: ContextVar[list[Statement] | None] = ContextVar("heard_statements", default=None)
_behalf: ContextVar[tuple[str, ...]] = ContextVar("statements_on_behalf", default=())


@contextmanager
def on_behalf_of(correlation_ids: Sequence[str]) -> Iterator[None]:
    """Call this around calls that are made for several requests at once, in place of their own."""
    token = _behalf.set(tuple(correlation_ids))
    try:
        yield
    finally:
        _behalf.reset(token)


def causes() -> tuple[str, ...]:
    """Call this in trio for the requests on whose behalf a call is made."""
    named = _behalf.get()
    if named:
        return named
    context = current_context()
    return () if context is None else (context.correlation_id,)


def hear(into: list[Statement]) -> None:
    """Call this in the task of a call, on the loop: its statements are put `into` the list."""
    _heard.set(into)


class HeardConnection(_Base):
    """A connection whose statements can be heard; unheard it does what its base does."""

    __slots__ = ()

    async def fetch(self, query: str, *args: Any, **named: Any) -> Any:
        """See asyncpg."""
        if _heard.get() is None:
            return await super().fetch(query, *args, **named)
        began = time.perf_counter()
        rows = await super().fetch(query, *args, **named)
        _note(query, began, len(rows))
        return rows

    async def fetchrow(self, query: str, *args: Any, **named: Any) -> Any:
        """See asyncpg."""
        if _heard.get() is None:
            return await super().fetchrow(query, *args, **named)
        began = time.perf_counter()
        row = await super().fetchrow(query, *args, **named)
        _note(query, began, int(row is not None))
        return row

    async def fetchval(self, query: str, *args: Any, **named: Any) -> Any:
        """See asyncpg."""
        if _heard.get() is None:
            return await super().fetchval(query, *args, **named)
        began = time.perf_counter()
        value = await super().fetchval(query, *args, **named)
        _note(query, began, int(value is not None))
        return value

    async def execute(self, query: str, *args: Any, **named: Any) -> str:
        """See asyncpg."""
        if _heard.get() is None or query in _FRAME:
            return await super().execute(query, *args, **named)
        began = time.perf_counter()
        told = await super().execute(query, *args, **named)
        _note(query, began, _count_in(told))
        return told


# What stands around the statements of a transaction.
_FRAME = frozenset({"BEGIN", "BEGIN READ ONLY", "COMMIT", "ROLLBACK"})


def _note(query: str, began: float, rows: int | None) -> None:
    heard = _heard.get()
    if heard is not None and len(heard) < STATEMENTS_TOLD_MAX:
        heard.append(Statement(query, time.perf_counter() - began, rows))


def _count_in(told: str) -> int | None:
    """The number in the server's `INSERT 0 3`; None where it says none."""
    last = told.rpartition(" ")[2]
    return int(last) if last.isdigit() else None
