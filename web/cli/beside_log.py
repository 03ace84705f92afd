"""`greenroom dlq`, `outbox` and `timers`: what stands beside the log, seen and settled.

All of it may run beside a site: each change is one transaction that locks its rows, and whoever
works on them sees it at the next look.
"""

import argparse
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from actors.persistence import (
    DeadLetterStatus,
    GenerationState,
    NotHandedBack,
    StoredDeadLetter,
    StoreMisuse,
)
from actors.persistence.beside_log.dead_letters import TRANSITIONS
from actors.persistence.bus import check_whole, put_back
from storage.bus import PostgresBus
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    system_user,
)
from web.cli.answering import Code, CommandFailed, Teller
from web.cli.opening import changing, open_store
from web.cli.parser import ROWS_MAX

# What of a payload is shown: it may be anything, of anybody.
PAYLOAD_CHARS_MAX = 500

_COLLECTION = re.compile(r"(.+)__g(\d+)")

Do = Callable[[argparse.Namespace, Teller, Database], Awaitable[int]]


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this with what was parsed; returns the exit code."""
    async with open_store(environment) as database:
        return await _COMMANDS[parsed.command, parsed.action](parsed, teller, database)


# Dead letters.


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
            "error": one.letter.error_message,
        }
        for one in found
    ]
    teller.rows(rows, "no such dead letter")
    return Code.DONE


async def _show(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    teller.one(_whole(await PostgresDeadLetters(database).get(parsed.id)))
    return Code.DONE


def _whole(stored: StoredDeadLetter) -> dict[str, object]:
    letter = stored.letter
    payload = None if letter.payload is None else letter.payload.decode(errors="replace")
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
        "error": letter.error_message,
        "details": letter.error_details or None,
        "metadata": dict(letter.metadata),
        "payload": None if payload is None else payload[:PAYLOAD_CHARS_MAX],
        "resolved_at": stored.resolved_at,
        "resolved_by": stored.resolved_by,
        "notes": stored.resolution_notes,
    }


async def _retry(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    letters = PostgresDeadLetters(database)
    stored = await letters.get(parsed.id)
    await _check_served(database, stored)
    what = f"hand dead letter {parsed.id} ({stored.letter.kind}) back to be tried again"
    async with changing(parsed, teller, database, what, f"dead letter {parsed.id}"):
        back = await _hand_back(database, stored)
    teller.one({"id": back.id, "kind": back.letter.kind, "status": back.status.value})
    return Code.DONE


async def _hand_back(database: Database, stored: StoredDeadLetter) -> StoredDeadLetter:
    """A record goes back on its topic, all else to where it failed."""
    if stored.letter.kind == "bus":
        return await put_back(PostgresBus(database), stored.id, system_user())
    return await PostgresDeadLetters(database).hand_back(stored.id, system_user())


async def _check_served(database: Database, stored: StoredDeadLetter) -> None:
    """Refuse what nobody would try again: a generation that does not serve, half a record."""
    if stored.letter.kind == "bus" and TRANSITIONS[stored.status]:
        check_whole(stored)
    named = _COLLECTION.fullmatch(stored.letter.source)
    if stored.letter.kind != "projection" or named is None or not TRANSITIONS[stored.status]:
        return  # what is settled is told by who hands it back
    known = await PostgresProjections(database).checkpoints(named[1])
    states = {one.state for one in known if one.generation == int(named[2])}
    if GenerationState.BUILDING in states:
        why = "is being built; ask again when it serves"
    elif GenerationState.RETIRED in states:
        why = "was retired; swap back to it first. It is given up when the generation is removed"
    elif not states:
        why = "is kept no more; discard it"
    else:
        return
    raise NotHandedBack(stored.id, f"{stored.letter.source} {why}")


async def _retry_all(parsed: argparse.Namespace, teller: Teller, database: Database) -> int:
    letters = PostgresDeadLetters(database)
    found = await letters.list(
        status=DeadLetterStatus.PENDING,
        kind=parsed.kind,
        source=parsed.source,
        limit=parsed.limit,
    )
    what = f"hand {len(found)} dead letters back to be tried again"
    resource = f"{len(found)} dead letters ({parsed.kind or 'all kinds'})"
    back, refused = 0, 0
    async with changing(parsed, teller, database, what, resource):
        for stored in found:
            try:
                await _check_served(database, stored)
                await _hand_back(database, stored)
                back += 1
            except StoreMisuse as error:
                # Somebody else's by now, or for its own program to repeat: the others go on.
                refused += 1
                teller.note(str(error))
    teller.one({"handed_back": back, "refused": refused})
    return Code.REFUSED if refused and not back else Code.DONE


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


_COMMANDS: Mapping[tuple[str, str], Do] = {
    ("dlq", "list"): _letters,
    ("dlq", "show"): _show,
    ("dlq", "retry"): _retry,
    ("dlq", "retry-all"): _retry_all,
    ("dlq", "discard"): _discard,
    ("dlq", "stats"): _letter_stats,
    ("outbox", "stats"): _outbox_stats,
    ("outbox", "list"): _waiting,
    ("outbox", "held"): _held,
    ("timers", "list"): _timers,
    ("timers", "due"): _timers,
    ("timers", "cancel"): _cancel,
}
