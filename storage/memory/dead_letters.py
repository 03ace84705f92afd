"""Dead letters in memory; the twin of `storage/postgres/dead_letters.py`."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from heapq import nsmallest
from typing import Self

from actors.persistence import (
    DeadLetterCounts,
    DeadLettersFull,
    DeadLetterStatus,
    InvalidTransition,
    LetterChange,
    NewDeadLetter,
    NotHandedBack,
    StoredDeadLetter,
    UnknownDeadLetter,
)
from actors.persistence.beside_log.dead_letters import (
    AUDIT_KEPT,
    CLAIM,
    EDITED,
    GONE,
    HANDED_BACK,
    NOT_PARKED,
    OF_A_PROGRAM,
    OUTBOX,
    PROJECTION,
    REMOVED,
    REPLAY_WISHED,
    RETENTION,
    ROWS_MAX,
    TRANSITIONS,
    check_change,
    check_edit,
    check_editable,
    check_query,
    outbox_id,
    owned_letter,
    storable,
    timer_of,
)
from actors.persistence.beside_log.outbox import check_rows
from actors.persistence.event_store import check_limit, check_view
from actors.persistence.words import check_row
from storage.memory.database import (
    DeadLetterRow,
    DeadLetterTable,
    MemoryDatabase,
)
from storage.memory.twin import Twin

_FINAL = (DeadLetterStatus.RESOLVED, DeadLetterStatus.DISCARDED)


class MemoryDeadLetters(Twin):
    """The port `DeadLetters` on a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase | None = None, *, rows_max: int = ROWS_MAX) -> None:
        super().__init__(database)
        self._rows_max = rows_max
        self._tenant: str | None = None

    @property
    def _table(self) -> DeadLetterTable:
        return self.database.dead_letters

    def for_tenant(self, tenant: str) -> Self:
        """See `DeadLetters.for_tenant`."""
        check_view(self._tenant, tenant)
        view = copy(self)
        view._tenant = tenant
        return view

    @property
    def audit(self) -> Sequence[LetterChange]:
        """Call this for every change of status, in order."""
        return self._table.audit

    async def add(self, letter: NewDeadLetter) -> int:
        """See `DeadLetters.add`."""
        letter = owned_letter(letter, self._tenant)
        await self.pass_faults()
        return add_letter(self.database, letter, self._rows_max)

    async def get(self, id_: int) -> StoredDeadLetter:
        """See `DeadLetters.get`."""
        check_row(id_)
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
        check_query(status, kind, source, limit, after)
        await self.pass_faults()
        return [
            row.stored
            for row in self._rows()
            if (status is None or row.stored.status is status)
            and (kind is None or row.stored.letter.kind == kind)
            and (source is None or row.stored.letter.source == source)
            and (after is None or row.stored.id > after)
        ][:limit]

    async def retry(self, id_: int, by: str = "worker") -> StoredDeadLetter:
        """See `DeadLetters.retry`."""
        check_change(id_, by)
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
        check_query(None, kind, None, limit, None)
        check_change(0, by)
        ids = [
            row.stored.id
            for row in self._rows()
            if (row.stored.status is DeadLetterStatus.PENDING or self._is_abandoned(row))
            and (kind is None or row.stored.letter.kind == kind)
        ]
        return [await self.retry(id_, by) for id_ in ids[:limit]]

    async def hand_back(self, id_: int, by: str) -> StoredDeadLetter:
        """See `DeadLetters.hand_back`."""
        check_change(id_, by)
        await self.pass_faults()
        row, database = self._row(id_), self.database
        letter = row.stored.letter
        if letter.kind == PROJECTION:
            _wish_replay(database, row, by)
            return row.stored
        # A tenant's letter speaks of none: messages and timers are of the whole program.
        message = outbox_id(letter.message_key) if letter.kind == OUTBOX else None
        timer = timer_of(letter.kind, letter.source, letter.message_key)
        if message is None and timer is None:
            raise NotHandedBack(id_, OF_A_PROGRAM)
        is_abandoned = self._is_abandoned(row)
        if row.stored.status is not DeadLetterStatus.PENDING and not is_abandoned:
            raise InvalidTransition(id_, row.stored.status, DeadLetterStatus.PROCESSING)
        is_back = (
            database.revive_message(message)
            if message is not None
            else timer is not None and database.revive_timer(timer)
        )
        if not is_back:
            raise NotHandedBack(id_, GONE)
        if is_abandoned:
            self._move(row, DeadLetterStatus.PENDING, by, "the claim ran out")
        self._move(row, DeadLetterStatus.PROCESSING, by, "")
        self._end(id_, DeadLetterStatus.RESOLVED, by, HANDED_BACK)
        return row.stored

    async def outcomes(self, ids: Sequence[int]) -> Mapping[int, str]:
        """See `DeadLetters.outcomes`."""
        check_rows("ids", ids)
        await self.pass_faults()
        wanted, found = set(ids), dict[int, str]()
        for row in self._rows():
            if row.stored.id in wanted and (error := self._outcome(row.stored)) is not None:
                found[row.stored.id] = error
        return found

    def _outcome(self, stored: StoredDeadLetter) -> str | None:
        letter, database = stored.letter, self.database
        if letter.kind == PROJECTION:
            return "" if stored.status is DeadLetterStatus.RESOLVED else None
        if letter.kind == OUTBOX:
            sent = database.outbox.get(outbox_id(letter.message_key) or 0)
            if sent is None or (sent.sent_at is None and not sent.attempts):
                return None
            return "" if sent.sent_at is not None else sent.last_error or "it failed"
        timer = timer_of(letter.kind, letter.source, letter.message_key)
        row = None if timer is None else database.timers.get(timer)
        if row is None or row.cancelled_at is not None:
            return None
        if row.fired_at is not None:
            return ""
        return (row.last_error or "it failed") if row.failures else None

    async def edit(self, id_: int, *, seen: bytes, payload: bytes, by: str, notes: str) -> None:
        """See `DeadLetters.edit`."""
        check_edit(id_, seen, payload, by, notes)
        notes = storable(notes)
        await self.pass_faults()
        row, database = self._row(id_), self.database
        check_editable(row.stored, seen)
        letter = row.stored.letter
        message = outbox_id(letter.message_key) if letter.kind == OUTBOX else None
        timer = timer_of(letter.kind, letter.source, letter.message_key)
        is_there = (
            database.edit_message(message, payload)
            if message is not None
            else timer is None or database.edit_timer(timer, payload)
        )
        if not is_there:
            raise NotHandedBack(id_, GONE)
        row.stored = replace(row.stored, letter=replace(letter, payload=payload))
        _note(database, row.stored, row.stored.status, by, EDITED + notes)

    async def changes(self, id_: int, limit: int = 50) -> Sequence[LetterChange]:
        """See `DeadLetters.changes`."""
        check_row(id_)
        check_limit(limit)
        await self.pass_faults()
        self._row(id_)
        return [one for one in reversed(self._table.audit) if one.id == id_][:limit]

    async def failed_again(self, id_: int, error_message: str, by: str = "worker") -> None:
        """See `DeadLetters.failed_again`."""
        check_change(id_, by, error_message)
        error_message = storable(error_message)
        await self.pass_faults()
        _failed_again(self.database, self._row(id_), error_message, by)

    async def resolve(self, id_: int, by: str, notes: str = "") -> None:
        """See `DeadLetters.resolve`."""
        check_change(id_, by, notes)
        notes = storable(notes)
        await self.pass_faults()
        self._end(id_, DeadLetterStatus.RESOLVED, by, notes)

    async def discard(self, id_: int, by: str, reason: str) -> None:
        """See `DeadLetters.discard`."""
        check_change(id_, by, reason)
        reason = storable(reason)
        await self.pass_faults()
        self._end(id_, DeadLetterStatus.DISCARDED, by, reason)

    async def purge(self, limit: int = 1000) -> int:
        """See `DeadLetters.purge`."""
        check_limit(limit)
        await self.pass_faults()
        if self._tenant is not None:
            return 0
        oldest = self.database.now() - AUDIT_KEPT
        audit = self._table.audit
        gone = [at for at, change in enumerate(audit) if change.at <= oldest][:limit]
        # All lines between are gone too, unless the clock went back: one pass at most.
        left = set(gone)
        audit[:] = [change for at, change in enumerate(audit) if at not in left]
        return len(gone)

    async def counts(self) -> DeadLetterCounts:
        """See `DeadLetters.counts`."""
        await self.pass_faults()
        rows = list(self._rows())
        found = {
            status: sum(row.stored.status is status for row in rows) for status in DeadLetterStatus
        }
        return DeadLetterCounts(found, len(rows) / self._rows_max, self._rows_max)

    def _end(self, id_: int, to: DeadLetterStatus, by: str, notes: str) -> None:
        _end(self.database, self._row(id_), to, by, notes)

    def _move(self, row: DeadLetterRow, to: DeadLetterStatus, by: str, notes: str) -> None:
        _move(self.database, row, to, by, notes)

    def _is_abandoned(self, row: DeadLetterRow) -> bool:
        return (
            row.stored.status is DeadLetterStatus.PROCESSING
            and row.claimed_at is not None
            and row.claimed_at + CLAIM <= self.database.now()
        )

    def _rows(self) -> Iterator[DeadLetterRow]:
        for row in self._table.rows.values():
            if self._tenant in (None, row.stored.letter.tenant):
                yield row

    def _row(self, id_: int) -> DeadLetterRow:
        row = self._table.rows.get(id_)
        if row is None or self._tenant not in (None, row.stored.letter.tenant):
            raise UnknownDeadLetter(id_)
        return row


# In the transaction of whoever calls: no checkpoint stands between check and change.


def add_letter(database: MemoryDatabase, letter: NewDeadLetter, rows_max: int) -> int:
    """Call this to keep a failure with what else is written in a transaction."""
    table, now = database.dead_letters, database.now()
    key = _failure(letter)
    known = table.open_ids.get(key)
    if known is not None:
        row = table.rows[known]
        if row.stored.status is DeadLetterStatus.PROCESSING:
            _move(database, row, DeadLetterStatus.PENDING, "failure", letter.error_message)
        again = replace(
            row.stored.letter,
            error_message=letter.error_message,
            error_details=letter.error_details,
        )
        row.stored = replace(
            row.stored,
            letter=again,
            retry_count=row.stored.retry_count + 1,
            last_failed_at=now,
        )
        return known
    make_room(database, 1, rows_max)
    table.last_id += 1
    stored = StoredDeadLetter(table.last_id, letter, 0, DeadLetterStatus.PENDING, now, now)
    table.rows[table.last_id] = DeadLetterRow(stored)
    table.open_ids[key] = table.last_id
    return table.last_id


def _failure(letter: NewDeadLetter) -> tuple[str, str, str]:
    return (letter.kind, letter.source, letter.message_key)


def make_room(database: MemoryDatabase, count: int, rows_max: int) -> None:
    """Call this before adding letters; `DeadLettersFull` leaves everything as it is."""
    table = database.dead_letters
    too_many = len(table.rows) + count - rows_max
    if too_many > len(table.final_ids):
        raise DeadLettersFull(rows_max)
    if too_many > 0:
        for id_ in nsmallest(too_many, table.final_ids):
            table.final_ids.remove(id_)
            del table.rows[id_]


def _wish_replay(database: MemoryDatabase, row: DeadLetterRow, by: str) -> None:
    """Note it at the first that is parked of its stream: where a replay begins."""
    stored, table = row.stored, database.dead_letters
    letter = stored.letter
    if stored.status in _FINAL:
        raise InvalidTransition(stored.id, stored.status, DeadLetterStatus.PROCESSING)
    if letter.stream_version is None:
        raise NotHandedBack(stored.id, NOT_PARKED)
    rows = [table.rows[id_] for id_ in table.open_ids.values()]
    first = min(
        (one for one in rows if _is_parked_with(one.stored.letter, letter)),
        key=lambda one: one.stored.letter.stream_version or 0,
    )
    first.stored = replace(first.stored, next_retry_at=database.now())
    _note(database, stored, stored.status, by, REPLAY_WISHED)


def _is_parked_with(one: NewDeadLetter, other: NewDeadLetter) -> bool:
    same = (other.kind, other.source, other.stream_key)
    return (one.kind, one.source, one.stream_key) == same and one.stream_version is not None


def are_open(database: MemoryDatabase, ids: Sequence[int]) -> bool:
    """Call this before `replayed` and `replay_failed`; False when one is settled already."""
    rows = database.dead_letters.rows
    return all(id_ in rows and rows[id_].stored.status not in _FINAL for id_ in ids)


def replayed(database: MemoryDatabase, ids: Sequence[int], by: str) -> None:
    """Call this in the transaction that applies parked events: their letters are resolved."""
    for id_ in ids:
        row = _in_hand(database, id_, by)
        _end(database, row, DeadLetterStatus.RESOLVED, by, "")


def replay_failed(database: MemoryDatabase, id_: int, text: str, by: str) -> None:
    """Call this in a replay's transaction for the event that failed again."""
    _failed_again(database, _in_hand(database, id_, by), text, by)


def give_up_parked(database: MemoryDatabase, source: str, limit: int) -> int:
    """Call this to discard open letters of a generation that is removed; returns how many."""
    table = database.dead_letters
    ids = [id_ for key, id_ in table.open_ids.items() if key[:2] == (PROJECTION, source)]
    for id_ in sorted(ids)[:limit]:
        row = table.rows[id_]
        if row.stored.status is DeadLetterStatus.PROCESSING:
            _move(database, row, DeadLetterStatus.PENDING, RETENTION, "")
        _end(database, row, DeadLetterStatus.DISCARDED, RETENTION, REMOVED)
    return min(len(ids), limit)


def _in_hand(database: MemoryDatabase, id_: int, by: str) -> DeadLetterRow:
    row = database.dead_letters.rows[id_]
    if row.stored.status is DeadLetterStatus.PENDING:
        _move(database, row, DeadLetterStatus.PROCESSING, by, "")
    return row


def _failed_again(database: MemoryDatabase, row: DeadLetterRow, text: str, by: str) -> None:
    _move(database, row, DeadLetterStatus.PENDING, by, text)
    row.stored = replace(
        row.stored,
        next_retry_at=None,
        letter=replace(row.stored.letter, error_message=text),
        retry_count=row.stored.retry_count + 1,
        last_failed_at=database.now(),
    )


def _end(
    database: MemoryDatabase, row: DeadLetterRow, to: DeadLetterStatus, by: str, notes: str
) -> None:
    _move(database, row, to, by, notes)
    row.stored = replace(
        row.stored,
        resolved_at=database.now(),
        resolved_by=by,
        resolution_notes=notes,
        next_retry_at=None,
    )
    letter = row.stored.letter
    if letter.kind != OUTBOX or (message := outbox_id(letter.message_key)) is None:
        return
    # What waits behind a message in the outbox waits until its letter is settled.
    sent = database.outbox.get(message)
    if sent is not None and sent.is_dead:
        database.mark_sent(sent)


# Every change of status goes through here, so that none is left out of the audit.
def _move(
    database: MemoryDatabase, row: DeadLetterRow, to: DeadLetterStatus, by: str, notes: str
) -> None:
    now_at = row.stored.status
    if to not in TRANSITIONS[now_at]:
        raise InvalidTransition(row.stored.id, now_at, to)
    row.stored = replace(row.stored, status=to)
    if to in _FINAL:
        table = database.dead_letters
        table.final_ids.add(row.stored.id)
        del table.open_ids[_failure(row.stored.letter)]
    _note(database, row.stored, now_at, by, notes)


def _note(
    database: MemoryDatabase, stored: StoredDeadLetter, was: DeadLetterStatus, by: str, notes: str
) -> None:
    """Add the row of the audit about a letter as it is now."""
    change = LetterChange(stored.id, by, was, stored.status, notes, database.now())
    database.dead_letters.audit.append(change)
