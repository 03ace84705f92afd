"""Dead letters in memory; the twin of `storage/postgres/dead_letters.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from actors.persistence import (
    DeadLetterCounts,
    DeadLettersFull,
    DeadLetterStatus,
    InvalidTransition,
    NewDeadLetter,
    StoredDeadLetter,
    UnknownDeadLetter,
)
from actors.persistence.beside_log.dead_letters import CLAIM, ROWS_MAX, TRANSITIONS
from storage.memory.database import MemoryDatabase
from storage.memory.faults import Faults

_FINAL = (DeadLetterStatus.RESOLVED, DeadLetterStatus.DISCARDED)


@dataclass(frozen=True, slots=True)
class DeadLetterChange:
    """One line of the audit: who moved a dead letter from where to where."""

    id: int
    by: str
    from_status: DeadLetterStatus
    to_status: DeadLetterStatus
    notes: str


@dataclass(slots=True)
class _Row:
    stored: StoredDeadLetter
    claimed_at: datetime | None = None


@dataclass(slots=True)
class _Table:
    rows: dict[int, _Row] = field(default_factory=dict)
    last_id: int = 0


class MemoryDeadLetters(Faults):
    """The port `DeadLetters` on a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase | None = None, *, rows_max: int = ROWS_MAX) -> None:
        super().__init__()
        self.database = database if database is not None else MemoryDatabase()
        self.audit: list[DeadLetterChange] = []
        self._rows_max = rows_max
        self._table = _Table()

    async def add(self, letter: NewDeadLetter) -> int:
        """See `DeadLetters.add`."""
        await self.pass_faults()
        now = self.database.now()
        key = (letter.kind, letter.source, letter.message_id)
        for row in self._table.rows.values():
            kept = row.stored.letter
            if (kept.kind, kept.source, kept.message_id) == key:
                row.stored = replace(
                    row.stored,
                    letter=replace(kept, error_message=letter.error_message),
                    retry_count=row.stored.retry_count + 1,
                    last_failed_at=now,
                    status=DeadLetterStatus.PENDING,
                )
                return row.stored.id
        self._make_room()
        self._table.last_id += 1
        id_ = self._table.last_id
        stored = StoredDeadLetter(id_, letter, 0, DeadLetterStatus.PENDING, now, now)
        self._table.rows[id_] = _Row(stored)
        return id_

    async def get(self, id_: int) -> StoredDeadLetter:
        """See `DeadLetters.get`."""
        await self.pass_faults()
        return self._row(id_).stored

    async def list(
        self,
        *,
        status: DeadLetterStatus | None = None,
        kind: str | None = None,
        source: str | None = None,
        limit: int = 50,
        after: int | None = None,
    ) -> Sequence[StoredDeadLetter]:
        """See `DeadLetters.list`."""
        await self.pass_faults()
        return [
            row.stored
            for row in self._table.rows.values()
            if (status is None or row.stored.status is status)
            and (kind is None or row.stored.letter.kind == kind)
            and (source is None or row.stored.letter.source == source)
            and (after is None or row.stored.id > after)
        ][:limit]

    async def retry(self, id_: int, by: str = "worker") -> StoredDeadLetter:
        """See `DeadLetters.retry`."""
        await self.pass_faults()
        row = self._row(id_)
        if self._is_abandoned(row):
            self._move(row, DeadLetterStatus.PENDING, by, "the claim ran out")
        self._move(row, DeadLetterStatus.PROCESSING, by, "")
        row.claimed_at = self.database.now()
        letter = row.stored.letter
        metadata = {**letter.metadata, "retry_of": letter.message_id}
        return replace(row.stored, letter=replace(letter, metadata=metadata))

    async def retry_all(
        self, *, kind: str | None = None, limit: int = 50, by: str = "worker"
    ) -> Sequence[StoredDeadLetter]:
        """See `DeadLetters.retry_all`."""
        ids = [
            row.stored.id
            for row in self._table.rows.values()
            if (row.stored.status is DeadLetterStatus.PENDING or self._is_abandoned(row))
            and (kind is None or row.stored.letter.kind == kind)
        ]
        return [await self.retry(id_, by) for id_ in ids[:limit]]

    async def failed_again(self, id_: int, error_message: str, by: str = "worker") -> None:
        """See `DeadLetters.failed_again`."""
        await self.pass_faults()
        row = self._row(id_)
        self._move(row, DeadLetterStatus.PENDING, by, error_message)
        row.stored = replace(
            row.stored,
            letter=replace(row.stored.letter, error_message=error_message),
            retry_count=row.stored.retry_count + 1,
            last_failed_at=self.database.now(),
        )

    async def resolve(self, id_: int, by: str, notes: str = "") -> None:
        """See `DeadLetters.resolve`."""
        await self.pass_faults()
        self._end(id_, DeadLetterStatus.RESOLVED, by, notes)

    async def discard(self, id_: int, by: str, reason: str) -> None:
        """See `DeadLetters.discard`."""
        await self.pass_faults()
        self._end(id_, DeadLetterStatus.DISCARDED, by, reason)

    async def counts(self) -> DeadLetterCounts:
        """See `DeadLetters.counts`."""
        await self.pass_faults()
        rows = self._table.rows.values()
        found = {
            status: sum(row.stored.status is status for row in rows) for status in DeadLetterStatus
        }
        return DeadLetterCounts(found, len(self._table.rows) / self._rows_max)

    def _end(self, id_: int, to: DeadLetterStatus, by: str, notes: str) -> None:
        row = self._row(id_)
        self._move(row, to, by, notes)
        row.stored = replace(
            row.stored,
            resolved_at=self.database.now(),
            resolved_by=by,
            resolution_notes=notes,
        )

    def _move(self, row: _Row, to: DeadLetterStatus, by: str, notes: str) -> None:
        now_at = row.stored.status
        if to not in TRANSITIONS[now_at]:
            raise InvalidTransition(row.stored.id, now_at, to)
        row.stored = replace(row.stored, status=to)
        self.audit.append(DeadLetterChange(row.stored.id, by, now_at, to, notes))

    def _is_abandoned(self, row: _Row) -> bool:
        return (
            row.stored.status is DeadLetterStatus.PROCESSING
            and row.claimed_at is not None
            and row.claimed_at + CLAIM <= self.database.now()
        )

    def _make_room(self) -> None:
        rows = self._table.rows
        while len(rows) >= self._rows_max:
            final = next((i for i, row in rows.items() if row.stored.status in _FINAL), None)
            if final is None:
                raise DeadLettersFull(self._rows_max)
            del rows[final]

    def _row(self, id_: int) -> _Row:
        try:
            return self._table.rows[id_]
        except KeyError:
            raise UnknownDeadLetter(id_) from None
