"""`greenroom dlq`, `outbox` and `timers`: what stands beside the log, seen and settled.

All of it may run beside a site: each change is one transaction that locks its rows, and whoever
works on them sees it at the next look.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import trio

from actors.persistence import DeadLetterStatus, StoredDeadLetter
from actors.persistence.beside_log.editing import (
    SHOWN_BYTES_MAX,
    shown_payload,
    shown_text,
    shown_texts,
)
from actors.persistence.bus import Engine
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    system_user,
)
from web.cli.answering import Teller
from web.cli.bus import opened_bus
from web.cli.opening import changing, open_store
from web.cli.parser import ROWS_MAX
from web.observability import Code, CommandFailed
from web.observability.operating.letters.handing import LetterDesk, mark_of_payload
from web.observability.operating.letters.retrying import (
    FAILED_IN_A_ROW_MAX,
    PER_SECOND,
    Ended,
    Progress,
    RetryRun,
)

Do = Callable[[argparse.Namespace, Teller, Database], Awaitable[int]]
DoAtDesk = Callable[[argparse.Namespace, Teller, Database, LetterDesk], Awaitable[int]]


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    async with open_store(environment) as database:
        if (at_desk := _AT_DESK.get((parsed.command, parsed.action))) is None:
            return await _COMMANDS[parsed.command, parsed.action](parsed, teller, database)
        # What was on the bus goes back to the bus that the site reads.
        async with opened_bus(environment, database) as opened:
            return await at_desk(parsed, teller, database, _desk(database, opened.bus))


# Dead letters.


def _desk(database: Database, bus: Engine) -> LetterDesk:
    return LetterDesk(PostgresDeadLetters(database), PostgresProjections(database), bus)


async def _letters(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    found = await PostgresDeadLetters(database).list(
        status=None if parsed.status is None else DeadLetterStatus(parsed.status),
        kind=parsed.kind,
        source=parsed.source,
        limit=parsed.limit,
        after=parsed.after,
    )
    rows = [
        {
            "id": one.id,
            "status": one.status.value,
            "kind": one.letter.kind,
            "source": one.letter.source,
            "stream": one.letter.stream_key,
            "failures": one.retry_count + 1,
            "last": one.last_failed_at,
            "error": shown_text(one.letter.error_message),
        }
        for one in found
    ]
    teller.rows(rows, "no such dead letter")
    return Code.DONE


async def _show(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    letters = PostgresDeadLetters(database)
    whole = _whole(await letters.get(parsed.id))
    changes = [
        f"{one.at.isoformat(timespec='seconds')} {one.by}: {one.from_status.value} -> "
        f"{one.to_status.value} {shown_text(one.notes)}".rstrip()
        for one in await letters.changes(parsed.id)
    ]
    teller.one({**whole, "changes": changes or None})
    return Code.DONE


def _whole(stored: StoredDeadLetter) -> dict[str, object]:
    letter = stored.letter
    payload = None if letter.payload is None else shown_payload(letter.payload).text
    return {
        "id": stored.id,
        "status": stored.status.value,
        "kind": letter.kind,
        "source": letter.source,
        "message_id": letter.message_id,
        "stream": letter.stream_key,
        "stream_version": letter.stream_version,
        "event_id": None if letter.event_id is None else str(letter.event_id),
        "event_type": letter.event_type,
        "failures": stored.retry_count + 1,
        "first": stored.first_failed_at,
        "last": stored.last_failed_at,
        "next": stored.next_retry_at,
        "error": shown_text(letter.error_message),
        "details": shown_text(letter.error_details) or None,
        "metadata": dict(shown_texts(letter.metadata)),
        "payload": None if payload is None else payload,
        "resolved_at": stored.resolved_at,
        "resolved_by": stored.resolved_by,
        "notes": stored.resolution_notes,
    }


async def _retry(
    parsed: argparse.Namespace, teller: Teller, database: Database, desk: LetterDesk
) -> int:
    stored = await desk.letters.get(parsed.id)
    await desk.check_served(stored)
    what = f"hand dead letter {parsed.id} ({stored.letter.kind}) back to be tried again"
    async with changing(parsed, teller, database, what, f"dead letter {parsed.id}"):
        back = await desk.hand_back(parsed.id, system_user())
    teller.one({"id": back.id, "kind": back.letter.kind, "status": back.status.value})
    return Code.DONE


async def _edit(
    parsed: argparse.Namespace, teller: Teller, database: Database, desk: LetterDesk
) -> int:
    text = await _read(parsed.payload)
    stored = await desk.letters.get(parsed.id)
    await desk.check_served(stored)
    what = f"edit dead letter {parsed.id} ({stored.letter.kind}) and hand it back"
    async with changing(parsed, teller, database, what, f"dead letter {parsed.id}"):
        mark = mark_of_payload(stored.letter.payload)
        edit, back = await desk.edit_and_hand_back(parsed.id, text, mark, system_user())
    status = {"id": back.id, "kind": back.letter.kind, "status": back.status.value}
    teller.one({**status, "changed": list(edit.changes)})
    return Code.DONE


async def _read(path: Path) -> str:
    """Read an edited payload; `-` is what the command is given."""
    try:
        if str(path) == "-":
            return await trio.to_thread.run_sync(sys.stdin.read, SHOWN_BYTES_MAX + 1)
        async with await trio.open_file(path, encoding="utf-8", newline="") as file:
            text: str = await file.read(SHOWN_BYTES_MAX + 1)
            return text
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandFailed(Code.UNKNOWN, f"{path} cannot be read ({why})") from error


async def _retry_all(
    parsed: argparse.Namespace, teller: Teller, database: Database, desk: LetterDesk
) -> int:
    found = await desk.letters.list(
        status=DeadLetterStatus.PENDING,
        kind=parsed.kind,
        source=parsed.source,
        limit=parsed.limit,
    )
    # What only its own program can try again stays, and does not count.
    count = sum(map(desk.is_served, found))
    what = f"hand {count} dead letters back to be tried again, {PER_SECOND} a second"
    resource = f"{count} dead letters ({parsed.kind or 'all kinds'})"
    progress = Progress(system_user(), parsed.kind, parsed.source)

    def told(now: Progress) -> None:
        teller.progress(f"{now.done} of {now.total}, {now.refused} refused")

    async with changing(parsed, teller, database, what, resource):
        await RetryRun(desk, progress, count, told, teller.note).run()
    if progress.ended is Ended.FAILING:
        teller.note(f"stopped: {FAILED_IN_A_ROW_MAX} in a row failed. Mend the cause first")
    teller.one(
        {
            "handed_back": progress.handed_back,
            "refused": progress.refused,
            "came_back": progress.came_back,
            "left": progress.left,
        }
    )
    if progress.left:
        teller.note(f"{progress.left} stay: only the programs that keep them can try them again")
    if (progress.refused or progress.left) and not progress.handed_back:
        return Code.REFUSED
    return Code.FAILED if progress.ended is Ended.FAILING else Code.DONE


async def _discard(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    letters = PostgresDeadLetters(database)
    stored = await letters.get(parsed.id)
    what = f"give up dead letter {parsed.id} ({stored.letter.kind} of {stored.letter.source})"
    async with changing(parsed, teller, database, what, f"dead letter {parsed.id}"):
        await letters.discard(parsed.id, system_user(), parsed.reason)
    teller.one({"id": parsed.id, "status": DeadLetterStatus.DISCARDED.value})
    return Code.DONE


async def _letter_stats(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    counts = await PostgresDeadLetters(database).counts()
    by_status = {status.value: count for status, count in counts.by_status.items()}
    teller.one({**by_status, "fullness": round(counts.fullness, 4), "health": counts.health})
    return Code.DONE


# The outbox.


async def _outbox_stats(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    stats = await PostgresOutbox(database).stats()
    teller.one({"pending": stats.pending, "dead": stats.dead, "oldest_s": round(stats.oldest_s, 1)})
    return Code.DONE


async def _waiting(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    found = await PostgresOutbox(database).waiting(limit=parsed.limit, after=parsed.after or 0)
    rows = [
        {
            "id": one.id,
            "kind": one.kind,
            "target": one.target,
            "key": one.key,
            "state": "given up" if one.is_dead else "waiting",
            "attempts": one.attempts,
            "created": one.created_at,
            "next": one.next_attempt_at,
            "error": one.last_error,
        }
        for one in found
    ]
    teller.rows(rows, "nothing waits to be sent")
    return Code.DONE


async def _held(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    found = await PostgresOutbox(database).held_keys(limit=parsed.limit)
    rows = [
        {"key": one.key, "target": one.target, "message": one.dead_id, "waiting": one.waiting}
        for one in found
    ]
    teller.rows(rows, "no key is held up")
    if rows:
        teller.note("settle their dead letters (kind outbox): dlq retry, or dlq discard")
    return Code.DONE


# Timers.


async def _timers(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    due_by = datetime.now(UTC) if parsed.action == "due" else None
    address = None if parsed.action == "due" else parsed.address
    found = await PostgresTimers(database).open_timers(
        address=address, due_by=due_by, limit=parsed.limit
    )
    rows = [
        {
            "address": one.address,
            "name": one.name,
            "token": one.token,
            "due": one.due_at,
            "in_hand": one.claimed_by,
            "failures": one.failures,
            "error": one.last_error,
        }
        for one in found
    ]
    teller.rows(rows, "no such timer is open")
    return Code.DONE


async def _cancel(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    timers = PostgresTimers(database)
    whose = f"timers {parsed.name} of {parsed.address}"
    known = await timers.open_timers(address=parsed.address, limit=ROWS_MAX)
    is_known = len(known) == ROWS_MAX or any(one.name == parsed.name for one in known)
    if not is_known:
        raise CommandFailed(Code.UNKNOWN, f"{parsed.address} has no open timer {parsed.name}")
    async with changing(parsed, teller, database, f"cancel the {whose}", whose):
        count = await timers.cancel(parsed.address, parsed.name)
    teller.one({"cancelled": count})
    return Code.DONE


_AT_DESK: Mapping[tuple[str, str], DoAtDesk] = {
    ("dlq", "retry"): _retry,
    ("dlq", "edit"): _edit,
    ("dlq", "retry-all"): _retry_all,
}
_COMMANDS: Mapping[tuple[str, str], Do] = {
    ("dlq", "list"): _letters,
    ("dlq", "show"): _show,
    ("dlq", "discard"): _discard,
    ("dlq", "stats"): _letter_stats,
    ("outbox", "stats"): _outbox_stats,
    ("outbox", "list"): _waiting,
    ("outbox", "held"): _held,
    ("timers", "list"): _timers,
    ("timers", "due"): _timers,
    ("timers", "cancel"): _cancel,
}
