"""Which statements a call ran, for whoever watches the store work: in one place for all stores.

A `Database` that has a `tell` gives it, after each call, the statements of that call with their
times and rows, and on whose behalf they ran. A statement is its text with parameters, as it stands
in the code: values are in none of them.

How often each ran and how long that took is summed for operators at all times (`StatementSums`),
for no database but one with an extension knows it. It costs 0.4 us a statement, of some 100.
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


# Ours have fixed texts, a few hundred; a program's own may be made up as it goes.
TEXTS_MAX = 500
OTHERS = "select of all other statements"


@dataclass(slots=True)
class StatementSum:
    """How often a statement ran, those that failed too, and how long that took: in all, at most."""

    calls: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0


class StatementSums:
    """All statements that calls of one `Database` ran, by their texts; noted on its loop alone."""

    def __init__(self) -> None:
        self._sums: dict[str, StatementSum] = {}

    def __repr__(self) -> str:
        return f"<StatementSums of {len(self._sums)} texts>"

    def note(self, text: str, took_s: float) -> None:
        """Call this with each statement that ended, well or not."""
        found = self._sums.get(text)
        if found is None:
            text = text if len(self._sums) < TEXTS_MAX else OTHERS
            found = self._sums.setdefault(text, StatementSum())
        found.calls += 1
        found.total_s += took_s
        if took_s > found.longest_s:
            found.longest_s = took_s

    def newest(self) -> dict[str, StatementSum]:
        """Call this from any thread for what is known now."""
        return self._sums.copy()


# The requests a call was made for, by their correlation ids, and what it ran. On the trio thread.
TellStatements: TypeAlias = Callable[[Sequence[str], Sequence[Statement]], None]

_heard: ContextVar[list[Statement] | None] = ContextVar("heard_statements", default=None)
_summed: ContextVar[StatementSums | None] = ContextVar("summed_statements", default=None)
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


def sum_up(into: StatementSums) -> None:
    """Call this in the task of a call, on the loop: its statements are counted there."""
    _summed.set(into)


class HeardConnection(_Base):
    """A connection whose statements are summed and can be heard; else it does what its base does.

    One that fails is summed: those that took longest are the ones that were cut off.
    """

    __slots__ = ()

    async def fetch(self, query: str, *args: Any, **named: Any) -> Any:
        """See asyncpg."""
        began, rows = time.perf_counter(), None
        try:
            rows = await super().fetch(query, *args, **named)
        finally:
            _note(query, began, None if rows is None else len(rows), is_done=rows is not None)
        return rows

    async def fetchrow(self, query: str, *args: Any, **named: Any) -> Any:
        """See asyncpg."""
        began, row, is_done = time.perf_counter(), None, False
        try:
            row = await super().fetchrow(query, *args, **named)
            is_done = True
        finally:
            _note(query, began, int(row is not None), is_done=is_done)
        return row

    async def fetchval(self, query: str, *args: Any, **named: Any) -> Any:
        """See asyncpg."""
        began, value, is_done = time.perf_counter(), None, False
        try:
            value = await super().fetchval(query, *args, **named)
            is_done = True
        finally:
            _note(query, began, int(value is not None), is_done=is_done)
        return value

    async def execute(self, query: str, *args: Any, **named: Any) -> str:
        """See asyncpg."""
        if query in _FRAME:
            return await super().execute(query, *args, **named)
        began, told = time.perf_counter(), ""
        try:
            told = await super().execute(query, *args, **named)
        finally:
            _note(query, began, _count_in(told), is_done=bool(told))
        return told


# What stands around the statements of a transaction.
_FRAME = frozenset({"BEGIN", "BEGIN READ ONLY", "COMMIT", "ROLLBACK"})


def _note(query: str, began: float, rows: int | None, *, is_done: bool) -> None:
    took_s = time.perf_counter() - began
    sums = _summed.get()
    if sums is not None:
        sums.note(query, took_s)
    heard = _heard.get()
    if is_done and heard is not None and len(heard) < STATEMENTS_TOLD_MAX:
        heard.append(Statement(query, took_s, rows))


def _count_in(told: str) -> int | None:
    """The number in the server's `INSERT 0 3`; None where it says none."""
    last = told.rpartition(" ")[2]
    return int(last) if last.isdigit() else None
