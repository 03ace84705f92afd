"""Looking whether a store is whole: what every reader of it relies on, asked of all that is stored.

Nothing is changed, and others may work meanwhile: each question has one snapshot of its own.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from actors.persistence import (
    EVENTS,
    READ_LIMIT_MAX,
    START,
    Cursor,
    EventTypes,
    Page,
    StoredDataError,
    StoredEvent,
)
from storage.errors import StoreMoved, StoreRewound
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection
from storage.postgres.events import reading
from storage.postgres.schema.migrate import check_cluster

# All keys of the log are sorted by the server, without a limit on the statement.
CHECK_S_MAX = 3600.0
# What is told of one kind; a store with more has one fault, not so many.
PROBLEMS_MAX = 20
# Of 64 KiB each at most.
PAGE_EVENTS = min(1000, READ_LIMIT_MAX)

# Of a stream that was tombstoned only the last event is to stay.
_HOLES = """
SELECT stream_id AS place, 'it has ' || count(*) || ' events, from version ' || min(version)
    || ' to ' || max(version) AS words
FROM events WHERE stream_id NOT IN (SELECT stream_id FROM tombstones)
GROUP BY stream_id HAVING min(version) <> 1 OR max(version) <> count(*)
ORDER BY 1 LIMIT $1
"""

_OUT_OF_ORDER = """
SELECT stream_id AS place, 'version ' || version || ' comes after version ' || before
    || ' in the order' AS words
FROM (
    SELECT stream_id, version,
        lag(version) OVER (PARTITION BY stream_id ORDER BY txid, position) AS before
    FROM events
) placed
WHERE version < before ORDER BY 1 LIMIT $1
"""

_AHEAD = """
SELECT projection || '__g' || generation || ' part ' || partition AS place,
    'it stands at ' || txid || '.' || position || ', behind the last event' AS words
FROM checkpoints, LATERAL (
    SELECT coalesce(max(h.txid::text::numeric), 0) AS head_txid,
        coalesce(max(h.position), 0) AS head_position
    FROM (SELECT txid, position FROM events ORDER BY txid DESC, position DESC LIMIT 1) h
) head
WHERE (txid::text::numeric, position) > (head_txid, head_position)
ORDER BY 1 LIMIT $1
"""

_OF_ANOTHER_LINEAGE = """
SELECT c.projection || '__g' || c.generation || ' part ' || c.partition AS place,
    'it is of lineage ' || c.lineage AS words
FROM checkpoints c, store_meta m WHERE c.lineage <> m.lineage ORDER BY 1 LIMIT $1
"""

# A condition of an append looks at the rows, a reader at the events; they must say the same.
_TAGS = """
SELECT tag AS place, 'it is looked for at ' || txid || '.' || position || ', in vain' AS words
FROM event_tags t WHERE NOT EXISTS (
    SELECT FROM events e
    WHERE e.txid = t.txid AND e.position = t.position AND t.tag = ANY(e.tags))
UNION ALL
SELECT tag, 'it is not found at ' || txid || '.' || position || ', where it is'
FROM events e, unnest(e.tags) tag WHERE NOT EXISTS (
    SELECT FROM event_tags t
    WHERE t.tag = tag AND t.txid = e.txid AND t.position = e.position)
ORDER BY 1 LIMIT $1
"""

_MISCOUNTED = """
SELECT 'dead_letters' AS place, 'there are ' || found || ', counted were ' || taken AS words
FROM (SELECT count(*) AS found FROM dead_letters) f, dead_letter_room
WHERE found <> taken LIMIT $1
"""

_QUESTIONS = {
    "holes": _HOLES,
    "order": _OUT_OF_ORDER,
    "ahead": _AHEAD,
    "lineage": _OF_ANOTHER_LINEAGE,
    "tags": _TAGS,
    "counted": _MISCOUNTED,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be: its kind, where, and in words."""

    kind: str
    place: str
    words: str


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What was looked at and what is wrong with it; of each kind of problem the first twenty.

    `unknown` counts the events whose class this program does not know: their bytes are whole, what
    they mean was not asked.
    """

    events: int
    streams: int
    problems: Sequence[Problem]
    unknown: Mapping[str, int]


@dataclass(slots=True)
class _Looked:
    events: int = 0
    problems: list[Problem] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)


async def check_store(
    database: Database,
    *,
    types: EventTypes = EVENTS,
    seen: Callable[[int], None] = lambda _: None,
) -> StoreCheck:
    """Call this to look at all that is stored; the schema must be this program's.

    Versions without holes and ascending along the order, events that can be decoded, checkpoints
    that are not ahead and of this lineage, numbers that are this server's. `seen` is told how
    many events were read. Nothing is changed; cancelled, there is no answer.
    """
    problems = list(await _cluster(database))
    for kind, question in _QUESTIONS.items():
        rows = await database.transact(_ask, question, timeout_s=CHECK_S_MAX)
        problems += [Problem(kind, place, words) for place, words in rows]
    streams = int(await database.transact(_count_streams, timeout_s=CHECK_S_MAX))
    looked = await _look_at_events(database, types, seen)
    return StoreCheck(looked.events, streams, (*problems, *looked.problems), dict(looked.unknown))


async def _cluster(database: Database) -> Sequence[Problem]:
    try:
        await check_cluster(database)
    except (StoreMoved, StoreRewound) as error:
        return [Problem(error.code, "store", str(error))]
    return []


async def _ask(connection: Connection, question: str) -> list[tuple[str, str]]:
    await connection.execute("SET LOCAL statement_timeout = 0")
    rows = await connection.fetch(question, PROBLEMS_MAX)
    return [(row["place"], row["words"]) for row in rows]


async def _count_streams(connection: Connection) -> int:
    await connection.execute("SET LOCAL statement_timeout = 0")
    return int(await connection.fetchval("SELECT count(DISTINCT stream_id) FROM events"))


async def _look_at_events(
    database: Database, types: EventTypes, seen: Callable[[int], None]
) -> _Looked:
    looked, at = _Looked(), START
    while True:
        page = await database.run(_page, at, timeout_s=CHECK_S_MAX)
        for event in page.events:
            _look_at(event, types, looked)
        at = page.next
        seen(looked.events)
        if page.is_last:
            return looked


async def _page(connection: Connection, after: Cursor) -> Page:
    return await reading.page(connection, after, PAGE_EVENTS, None, None, reading.SCANNED_MAX)


def _look_at(event: StoredEvent, types: EventTypes, looked: _Looked) -> None:
    looked.events += 1
    if event.is_system:
        return
    if event.codec != "json" or not types.knows(event):
        sort = "" if event.codec == "json" else f" ({event.codec})"
        looked.unknown[f"{event.type}.v{event.schema_version}{sort}"] += 1
    try:
        if event.codec == "json" and types.knows(event):
            types.decode(event)
        elif event.codec == "json":
            msgspec.json.decode(event.data)
    except (StoredDataError, msgspec.DecodeError, RecursionError) as error:
        told = sum(one.kind == "decoding" for one in looked.problems)
        if told < PROBLEMS_MAX:
            place = f"{event.stream_key} version {event.version}"
            words = str(error) if isinstance(error, StoredDataError) else "its bytes are no JSON"
            looked.problems.append(Problem("decoding", place, words))
