"""Dead letters in PostgreSQL; the twin of `storage/memory/dead_letters.py`."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self, TypeVar
from uuid import UUID

import asyncpg

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
from actors.persistence.words import check_row, owned_name, split_name
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import EVENTS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.events.rows import metadata_json, read_texts
from storage.postgres.outbox import edit_message, revive_message
from storage.postgres.timers import edit_timer, revive_timer

T = TypeVar("T")

_COLUMNS = (
    "id, kind, source, message_id, stream_id, stream_version, event_id, event_type,"
    " event_version, payload,"
    " metadata, error_message, error_details, retry_count, first_failed_at, last_failed_at,"
    " status, resolved_at, resolved_by, resolution_notes, next_retry_at"
)

# By a view: those whose names begin as its tenant's do.
_IS_SEEN = "(${0}::text IS NULL OR starts_with(stream_id, ${0}))"

_GET = f"""
SELECT {_COLUMNS} FROM dead_letters WHERE id = $1 AND {_IS_SEEN.format(2)}
"""  # noqa: S608  (our own words)

# The open letter of a failure; a settled one stays as it is.
_OPEN = """
SELECT id, status FROM dead_letters
WHERE kind = $1 AND source = $2 AND message_id = $3 AND status IN ('pending', 'processing')
FOR UPDATE
"""

_AGAIN = """
UPDATE dead_letters SET retry_count = retry_count + 1, last_failed_at = clock_timestamp(),
    error_message = $2, error_details = $3
WHERE id = $1
"""

# A conflict here is with somebody who added the same letter in this moment.
_ADD = """
INSERT INTO dead_letters AS d (kind, source, message_id, stream_id, event_id, event_type,
    event_version, payload, metadata, error_message, error_details, stream_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (kind, source, message_id) WHERE status IN ('pending', 'processing') DO UPDATE
SET retry_count = d.retry_count + 1, last_failed_at = clock_timestamp(),
    error_message = $10, error_details = $11
RETURNING id
"""

# What waits behind a message in the outbox waits until its letter is settled.
_FREE_KEY = """
UPDATE outbox SET is_dead = false, sent_at = clock_timestamp()
WHERE id = $1 AND is_dead AND sent_at IS NULL
"""

_PURGE = """
DELETE FROM dead_letter_audit WHERE id = ANY(ARRAY(
    SELECT id FROM dead_letter_audit WHERE at <= clock_timestamp() - $1::interval
    LIMIT $2 FOR UPDATE SKIP LOCKED))
"""

# Until the first one is applied, or fails again.
_WISH = """
UPDATE dead_letters SET next_retry_at = clock_timestamp() WHERE id = (
    SELECT id FROM dead_letters
    WHERE source = $1 AND stream_id = $2 AND stream_version IS NOT NULL
        AND status IN ('pending', 'processing') AND kind = 'projection'
    ORDER BY stream_version LIMIT 1)
"""

# In one order, as everybody locks them who locks several.
_OPEN_OF = """
SELECT id FROM dead_letters
WHERE kind = 'projection' AND source = $1 AND status IN ('pending', 'processing')
ORDER BY id LIMIT $2 FOR UPDATE
"""

_AUDIT = """
INSERT INTO dead_letter_audit (dead_letter_id, by, from_status, to_status, notes)
VALUES ($1, $2, $3, $4, $5)
"""

_CHANGES = """
SELECT dead_letter_id, by, from_status, to_status, notes, at FROM dead_letter_audit
WHERE dead_letter_id = $1 ORDER BY id DESC LIMIT $2
"""

_ROOM = "SELECT taken FROM dead_letter_room FOR UPDATE"

# Room for one more: the oldest rows that are final.
_MAKE_ROOM = """
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters WHERE status IN ('resolved', 'discarded') ORDER BY id LIMIT $1)
"""

_LIST = f"""
SELECT {_COLUMNS} FROM dead_letters
WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR kind = $2)
    AND ($3::text IS NULL OR source = $3) AND id > $4 AND {_IS_SEEN.format(6)}
ORDER BY id LIMIT $5
"""  # noqa: S608  (our own columns)

_COUNTS = f"""
SELECT status, count(*) AS n FROM dead_letters WHERE {_IS_SEEN.format(1)} GROUP BY status
"""  # noqa: S608  (our own words)

_RETRYABLE = f"""
SELECT id FROM dead_letters
WHERE ($1::text IS NULL OR kind = $1) AND {_IS_SEEN.format(4)} AND (status = 'pending'
    OR status = 'processing' AND claimed_at <= clock_timestamp() - $2::interval)
ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
"""  # noqa: S608  (our own words)


# Those of many that stand so, with their lines of the audit.
_MOVE_ALL = """
WITH moved AS (
    UPDATE dead_letters SET status = $3 WHERE id = ANY($1) AND status = $2 RETURNING id)
INSERT INTO dead_letter_audit (dead_letter_id, by, from_status, to_status, notes)
SELECT id, $4, $2, $3, '' FROM moved ORDER BY id
"""


# What became of what was handed back: its count of failures began anew then.
_HANDED_BACK = f"""
SELECT id, kind, source, message_id, status FROM dead_letters
WHERE id = ANY($1::bigint[]) AND {_IS_SEEN.format(2)}
"""  # noqa: S608  (our own words)
_MESSAGES_SINCE = """
SELECT id, CASE WHEN sent_at IS NULL THEN coalesce(last_error, 'it failed') ELSE '' END AS error
FROM outbox WHERE id = ANY($1::bigint[]) AND (sent_at IS NOT NULL OR attempts > 0)
"""
_TIMERS_SINCE = """
SELECT timer_id, CASE WHEN fired_at IS NULL THEN coalesce(last_error, 'it failed') ELSE '' END
    AS error
FROM timers WHERE timer_id = ANY($1::uuid[])
    AND (fired_at IS NOT NULL OR cancelled_at IS NULL AND failures > 0)
"""


class PostgresDeadLetters:
    """The port `DeadLetters` on a `Database`."""

    def __init__(self, database: Database, *, rows_max: int = ROWS_MAX) -> None:
        self._database, self._rows_max = database, rows_max
        self._tenant: str | None = None

    def for_tenant(self, tenant: str) -> Self:
        """See `DeadLetters.for_tenant`."""
        check_view(self._tenant, tenant)
        view = copy(self)
        view._tenant = tenant
        return view

    @property
    def _mark(self) -> str | None:
        """How the names of its letters begin; None where all are seen."""
        return None if self._tenant is None else owned_name(self._tenant, "")

    async def add(self, letter: NewDeadLetter) -> int:
        """See `DeadLetters.add`."""
        letter = owned_letter(letter, self._tenant)
        id_ = await self._database.transact(add_letter, letter, self._rows_max)
        self._database.tallies.add("dead_letters_added_total", letter.kind)
        return id_

    async def get(self, id_: int) -> StoredDeadLetter:
        """See `DeadLetters.get`."""
        check_row(id_)
        return await self._database.run(_get, id_, "", self._mark)

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

        async def work(connection: Connection) -> Sequence[StoredDeadLetter]:
            rows = await connection.fetch(
                _LIST, status, kind, source, after or 0, limit, self._mark
            )
            return [_stored(row) for row in rows]

        return await self._database.run(work)

    async def retry(self, id_: int, by: str = "worker") -> StoredDeadLetter:
        """See `DeadLetters.retry`."""
        check_change(id_, by)
        return await self._change(_retry, id_, by)

    async def retry_all(
        self, *, kind: str | None = None, limit: int = 50, by: str = "worker"
    ) -> Sequence[StoredDeadLetter]:
        """See `DeadLetters.retry_all`."""
        check_query(None, kind, None, limit, None)
        check_change(0, by)

        async def work(connection: Connection) -> Sequence[StoredDeadLetter]:
            rows = await connection.fetch(_RETRYABLE, kind, CLAIM, limit, self._mark)
            return [await _retry(connection, row["id"], by) for row in rows]

        return await self._database.transact(work)

    async def hand_back(self, id_: int, by: str) -> StoredDeadLetter:
        """See `DeadLetters.hand_back`."""
        check_change(id_, by)
        # As an append: there may be something to send.
        back = await self._change(_hand_back, id_, by, channel=EVENTS)
        if back.status is DeadLetterStatus.RESOLVED:
            self._database.tallies.add("dead_letters_resolved_total", back.letter.kind)
        return back

    async def outcomes(self, ids: Sequence[int]) -> Mapping[int, str]:
        """See `DeadLetters.outcomes`."""
        check_rows("ids", ids)
        return await self._database.run(_outcomes, list(ids), self._mark)

    async def edit(self, id_: int, *, seen: bytes, payload: bytes, by: str, notes: str) -> None:
        """See `DeadLetters.edit`."""
        check_edit(id_, seen, payload, by, notes)
        await self._change(_edit, id_, seen, payload, by, storable(notes))

    async def changes(self, id_: int, limit: int = 50) -> Sequence[LetterChange]:
        """See `DeadLetters.changes`."""
        check_row(id_)
        check_limit(limit)
        mark = self._mark

        async def work(connection: Connection) -> Sequence[LetterChange]:
            await _get(connection, id_, "", mark)
            return [_change_of(row) for row in await connection.fetch(_CHANGES, id_, limit)]

        return await self._database.run(work)

    async def failed_again(self, id_: int, error_message: str, by: str = "worker") -> None:
        """See `DeadLetters.failed_again`."""
        check_change(id_, by, error_message)
        error_message = storable(error_message)

        await self._change(_failed_again, id_, error_message, by)

    async def resolve(self, id_: int, by: str, notes: str = "") -> None:
        """See `DeadLetters.resolve`."""
        check_change(id_, by, notes)
        notes = storable(notes)
        kind = await self._change(_end, id_, DeadLetterStatus.RESOLVED, by, notes)
        self._database.tallies.add("dead_letters_resolved_total", kind)

    async def discard(self, id_: int, by: str, reason: str) -> None:
        """See `DeadLetters.discard`."""
        check_change(id_, by, reason)
        reason = storable(reason)
        kind = await self._change(_end, id_, DeadLetterStatus.DISCARDED, by, reason)
        self._database.tallies.add("dead_letters_discarded_total", kind)

    async def purge(self, limit: int = 1000) -> int:
        """See `DeadLetters.purge`."""
        check_limit(limit)
        if self._tenant is not None:
            return 0
        return await self._database.run(change_rows, _PURGE, AUDIT_KEPT, limit)

    async def counts(self) -> DeadLetterCounts:
        """See `DeadLetters.counts`."""

        async def work(connection: Connection) -> dict[DeadLetterStatus, int]:
            rows = await connection.fetch(_COUNTS, self._mark)
            return {DeadLetterStatus(row["status"]): row["n"] for row in rows}

        found = await self._database.run(work)
        whole = {status: found.get(status, 0) for status in DeadLetterStatus}
        return DeadLetterCounts(whole, sum(whole.values()) / self._rows_max, self._rows_max)

    async def _change(
        self,
        work: Callable[..., Coroutine[Any, Any, T]],
        id_: int,
        *args: object,
        channel: str | None = None,
    ) -> T:
        """Do what changes a letter, in a transaction; another tenant's is unknown."""
        mark = self._mark

        async def checked(connection: Connection) -> T:
            if mark is not None:
                await _get(connection, id_, "", mark)
            return await work(connection, id_, *args)

        return await self._database.transact(checked, channel=channel)


async def _outcomes(connection: Connection, ids: Sequence[int], mark: str | None) -> dict[int, str]:
    messages: dict[int, int] = {}
    timers: dict[UUID, int] = {}
    found: dict[int, str] = {}
    for row in await connection.fetch(_HANDED_BACK, ids, mark):
        id_, kind, key = row["id"], row["kind"], row["message_id"]
        if kind == PROJECTION:
            # It stays, and is counted, until its event is applied.
            if row["status"] == DeadLetterStatus.RESOLVED:
                found[id_] = ""
        elif kind == OUTBOX and (message := outbox_id(key)) is not None:
            messages[message] = id_
        elif (timer := timer_of(kind, row["source"], key)) is not None:
            timers[timer] = id_
    if messages:
        for row in await connection.fetch(_MESSAGES_SINCE, list(messages)):
            found[messages[row["id"]]] = row["error"]
    if timers:
        for row in await connection.fetch(_TIMERS_SINCE, list(timers)):
            found[timers[row["timer_id"]]] = row["error"]
    return found


# In the transaction of whoever calls.


async def add_letter(connection: Connection, letter: NewDeadLetter, rows_max: int) -> int:
    """Call this in a transaction to keep a failure with what else is written there."""
    known = await connection.fetchrow(_OPEN, letter.kind, letter.source, letter.message_key)
    if known is not None:
        # Whoever had it in hand has failed; it needs no room.
        if known["status"] == DeadLetterStatus.PROCESSING:
            text = letter.error_message
            await _move(connection, known["id"], DeadLetterStatus.PENDING, "failure", text)
        await connection.execute(_AGAIN, known["id"], letter.error_message, letter.error_details)
        return int(known["id"])
    too_many = int(await connection.fetchval(_ROOM)) + 1 - rows_max
    if too_many > 0 and await change_rows(connection, _MAKE_ROOM, too_many) < too_many:
        raise DeadLettersFull(rows_max)
    return int(
        await connection.fetchval(
            _ADD,
            letter.kind,
            letter.source,
            letter.message_key,
            letter.stream_key,
            letter.event_id,
            letter.event_type,
            letter.event_version,
            letter.payload,
            metadata_json(letter.metadata),
            letter.error_message,
            letter.error_details,
            letter.stream_version,
        )
    )


async def _get(
    connection: Connection, id_: int, lock: str = "", mark: str | None = None
) -> StoredDeadLetter:
    row = await connection.fetchrow(f"{_GET} {lock}", id_, mark)
    if row is None:
        raise UnknownDeadLetter(id_)
    return _stored(row)


async def _retry(connection: Connection, id_: int, by: str) -> StoredDeadLetter:
    is_abandoned = await connection.fetchval(
        "SELECT status = 'processing' AND claimed_at <= clock_timestamp() - $2::interval"
        " FROM dead_letters WHERE id = $1 FOR UPDATE",
        id_,
        CLAIM,
    )
    if is_abandoned:
        await _move(connection, id_, DeadLetterStatus.PENDING, by, "the claim ran out")
    await _move(connection, id_, DeadLetterStatus.PROCESSING, by, "")
    await connection.execute(
        "UPDATE dead_letters SET claimed_at = clock_timestamp() WHERE id = $1", id_
    )
    stored = await _get(connection, id_)
    metadata = {**stored.letter.metadata, "retry_of": stored.letter.message_id}
    return replace(stored, letter=replace(stored.letter, metadata=metadata))


async def _hand_back(connection: Connection, id_: int, by: str) -> StoredDeadLetter:
    # Not locked: a replay locks the letters of a stream, and would wait for us as we for it.
    stored = await _get(connection, id_)
    letter = stored.letter
    if letter.kind == PROJECTION:
        await _wish_replay(connection, stored, by)
        return await _get(connection, id_)
    # A tenant's letter speaks of none: messages and timers are of the whole program.
    message = outbox_id(letter.message_key) if letter.kind == OUTBOX else None
    timer = timer_of(letter.kind, letter.source, letter.message_key)
    if message is None and timer is None:
        raise NotHandedBack(id_, OF_A_PROGRAM)
    await _retry(connection, id_, by)
    # Revived before the letter is settled, which would free what waits behind it.
    is_back = (
        await revive_message(connection, message)
        if message is not None
        else timer is not None and await revive_timer(connection, timer)
    )
    if not is_back:
        raise NotHandedBack(id_, GONE)
    await _end(connection, id_, DeadLetterStatus.RESOLVED, by, HANDED_BACK)
    return await _get(connection, id_)


async def _edit(
    connection: Connection, id_: int, seen: bytes, payload: bytes, by: str, notes: str
) -> None:
    stored = await _get(connection, id_, "FOR UPDATE")
    check_editable(stored, seen)
    letter = stored.letter
    message = outbox_id(letter.message_key) if letter.kind == OUTBOX else None
    timer = timer_of(letter.kind, letter.source, letter.message_key)
    is_there = (
        await edit_message(connection, message, payload)
        if message is not None
        else timer is None or await edit_timer(connection, timer, payload)
    )
    if not is_there:
        raise NotHandedBack(id_, GONE)
    await connection.execute("UPDATE dead_letters SET payload = $2 WHERE id = $1", id_, payload)
    status = stored.status.value
    await connection.execute(_AUDIT, id_, by, status, status, EDITED + notes)


async def settle_handed_back(connection: Connection, id_: int, by: str) -> StoredDeadLetter:
    """Call this in the transaction that does what a letter asks for; as `retry` and `resolve`."""
    await _retry(connection, id_, by)
    await _end(connection, id_, DeadLetterStatus.RESOLVED, by, HANDED_BACK)
    return await _get(connection, id_)


async def _wish_replay(connection: Connection, stored: StoredDeadLetter, by: str) -> None:
    """Note it at the first that is parked of its stream: where a replay begins."""
    letter = stored.letter
    if not TRANSITIONS[stored.status]:
        raise InvalidTransition(stored.id, stored.status, DeadLetterStatus.PROCESSING)
    if letter.stream_version is None:
        raise NotHandedBack(stored.id, NOT_PARKED)
    await connection.execute(_WISH, letter.source, letter.stream_key)
    status = stored.status.value
    await connection.execute(_AUDIT, stored.id, by, status, status, REPLAY_WISHED)


async def replayed(connection: Connection, ids: Sequence[int], by: str) -> bool:
    """Call this in the transaction that applies parked events: their letters are resolved.

    False when one of them is settled already, by others; then roll back.
    """
    await _move_all(connection, ids, DeadLetterStatus.PENDING, DeadLetterStatus.PROCESSING, by)
    resolved = await _move_all(
        connection, ids, DeadLetterStatus.PROCESSING, DeadLetterStatus.RESOLVED, by
    )
    await connection.execute(
        "UPDATE dead_letters SET resolved_at = clock_timestamp(), resolved_by = $2,"
        " resolution_notes = '', next_retry_at = NULL WHERE id = ANY($1)",
        ids,
        by,
    )
    return resolved == len(ids)


async def replay_failed(connection: Connection, id_: int, text: str, by: str) -> bool:
    """Call this in a replay's transaction for the event that failed again; answers as above."""
    await _move_all(connection, [id_], DeadLetterStatus.PENDING, DeadLetterStatus.PROCESSING, by)
    try:
        await _failed_again(connection, id_, text, by)
    except (InvalidTransition, UnknownDeadLetter):
        return False
    return True


async def give_up_parked(connection: Connection, source: str, limit: int) -> int:
    """Call this to discard open letters of a generation that is removed; returns how many."""
    rows = await connection.fetch(_OPEN_OF, source, limit)
    ids = [row["id"] for row in rows]
    pending, given_up = DeadLetterStatus.PENDING, DeadLetterStatus.DISCARDED
    await _move_all(connection, ids, DeadLetterStatus.PROCESSING, pending, RETENTION)
    await _move_all(connection, ids, pending, given_up, RETENTION)
    await connection.execute(
        "UPDATE dead_letters SET resolved_at = clock_timestamp(), resolved_by = $2,"
        " resolution_notes = $3, next_retry_at = NULL WHERE id = ANY($1)",
        ids,
        RETENTION,
        REMOVED,
    )
    return len(ids)


async def _failed_again(connection: Connection, id_: int, text: str, by: str) -> None:
    await _move(connection, id_, DeadLetterStatus.PENDING, by, text)
    await connection.execute(
        "UPDATE dead_letters SET retry_count = retry_count + 1, error_message = $2,"
        " next_retry_at = NULL, last_failed_at = clock_timestamp() WHERE id = $1",
        id_,
        text,
    )


async def _move_all(
    connection: Connection,
    ids: Sequence[int],
    from_: DeadLetterStatus,
    to: DeadLetterStatus,
    by: str,
) -> int:
    return await change_rows(connection, _MOVE_ALL, ids, from_.value, to.value, by)


# Every change of one's status goes through here, so that none is left out of the audit. The row is
# locked before it is judged: of two who take it in hand, the second finds it taken.
async def _move(
    connection: Connection, id_: int, to: DeadLetterStatus, by: str, notes: str
) -> None:
    stored = await _get(connection, id_, "FOR UPDATE")
    if to not in TRANSITIONS[stored.status]:
        raise InvalidTransition(id_, stored.status, to)
    await connection.execute("UPDATE dead_letters SET status = $2 WHERE id = $1", id_, to.value)
    await connection.execute(_AUDIT, id_, by, stored.status.value, to.value, notes)


async def _end(connection: Connection, id_: int, to: DeadLetterStatus, by: str, notes: str) -> str:
    """Settle it; gives its kind."""
    await _move(connection, id_, to, by, notes)
    row = await connection.fetchrow(
        "UPDATE dead_letters SET resolved_at = clock_timestamp(), resolved_by = $2,"
        " resolution_notes = $3, next_retry_at = NULL WHERE id = $1 RETURNING kind, message_id",
        id_,
        by,
        notes,
    )
    assert row is not None, "it was moved just now"
    if row["kind"] == OUTBOX and (message := outbox_id(row["message_id"])) is not None:
        await connection.execute(_FREE_KEY, message)
    return str(row["kind"])


def _change_of(row: asyncpg.Record) -> LetterChange:
    return LetterChange(
        row["dead_letter_id"],
        row["by"],
        DeadLetterStatus(row["from_status"]),
        DeadLetterStatus(row["to_status"]),
        row["notes"] or "",
        row["at"],
    )


def _stored(row: asyncpg.Record) -> StoredDeadLetter:
    tenant, stream_id = split_name(row["stream_id"] or "")
    letter = NewDeadLetter(
        kind=row["kind"],
        source=row["source"],
        message_id=row["message_id"].removeprefix(owned_name(tenant, "")),
        error_message=row["error_message"],
        error_details=row["error_details"],
        payload=row["payload"],
        metadata=read_texts(row["metadata"]),
        stream_id=stream_id or None,
        event_id=row["event_id"],
        event_type=row["event_type"],
        event_version=row["event_version"],
        stream_version=row["stream_version"],
        tenant=tenant,
    )
    return StoredDeadLetter(
        id=row["id"],
        letter=letter,
        retry_count=row["retry_count"],
        status=DeadLetterStatus(row["status"]),
        first_failed_at=row["first_failed_at"],
        last_failed_at=row["last_failed_at"],
        resolved_at=row["resolved_at"],
        resolved_by=row["resolved_by"],
        resolution_notes=row["resolution_notes"],
        next_retry_at=row["next_retry_at"],
    )
