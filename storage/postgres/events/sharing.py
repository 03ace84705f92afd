"""One statement for the appends of many: single events, each for its own caller.

Runs on the asyncio thread; `gathering.py` says who shares a statement, and when.

Rule 1: an event is inserted when the statement's snapshot has the event before it, or when this
statement inserted that one itself. So the versions of a stream ascend along the global order,
as `appending.py` asks: what a snapshot has was committed under a lower number, and what goes
together is numbered in the order of versions.
Rule 2: each request stands for itself. Who finds the place taken, or the id known, is left out
of the answer and hinders nobody; nothing was written for it.
Rule 3: rows go in the order of their keys, so two statements wait for each other in one direction.

Rule 4: what is stored under shards holds each of their rows until the commit, as one such append
does: a takeover waits for that. Whose shard is another's by now is left out as in rule 2.

Events of one stream that follow each other make a chain. Its first is inserted as any other; the
rest only behind a first that this statement has inserted, because behind one of another's they
would stand in the order before it, should that other's number be the higher.
"""

from collections.abc import Sequence
from uuid import UUID

from actors.persistence import Appended, AppendRequest, Cursor
from storage.postgres.connecting.session import Connection
from storage.postgres.events.rows import CLOSED, to_columns

# What an append of several callers may wait for the lock of a row: it is some other's, and all
# wait for it. Then it fails as a whole, with nothing written, and each goes alone.
LOCK_WAIT_S_MAX = 0.1

COLUMNS = (
    "stream_id, version, event_id, event_type, event_version, codec, event_data, metadata, tenant"
)

# Evaluated before anything is inserted: the sort reads all rows first. It ends with the statement,
# which is a transaction of its own.
PATIENCE = "patience AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true))"

# The arrays' length is kept from the planner, who would else plan anew for each: twice the cost of
# a statement of few rows.
_GIVEN = """
unnest((SELECT $2::text[]), $3::bigint[], $4::uuid[], $5::text[], $6::int[], $7::text[],
    $8::bytea[], $9::text[], $10::text[]{more}) WITH ORDINALITY
    AS e (stream_id, expected, id, type, schema, codec, data, meta, tenant, {name}ord)
"""

_VALUES = (
    "e.stream_id, e.expected + 1, e.id, e.type, e.schema, e.codec, e.data, e.meta::jsonb, e.tenant"
)

# A value and no EXISTS, for which a planner may choose to read the whole table once.
IS_LONG_ENOUGH = f"""((e.expected = 0 OR (
    SELECT p.version FROM events p WHERE p.stream_id = e.stream_id AND p.version = e.expected
        AND p.event_type NOT IN {CLOSED}
) IS NOT NULL) AND (
    SELECT t.stream_id FROM tombstones t WHERE t.stream_id = e.stream_id
) IS NULL)"""  # noqa: S608  (our own words)

_SINGLES = f"""
WITH {PATIENCE}
INSERT INTO events ({COLUMNS})
SELECT {_VALUES}
FROM patience, {_GIVEN.format(more="", name="")}
WHERE {IS_LONG_ENOUGH}
ORDER BY e.ord
ON CONFLICT DO NOTHING
RETURNING txid, position, version, stream_id
"""  # noqa: S608  (our own columns)

# The same under shards ($11 to $13). Each is held once, in the order of their numbers, however many
# are stored under it.
_OWNED = f"""
WITH {PATIENCE},
held AS MATERIALIZED (
    SELECT s.id, s.owner, s.epoch FROM patience, shards s
    JOIN (SELECT DISTINCT id, owner, epoch
        FROM unnest((SELECT $11::int[]), $12::text[], $13::bigint[]) AS w (id, owner, epoch)) asked
        USING (id, owner, epoch)
    ORDER BY s.id
    FOR KEY SHARE OF s
)
INSERT INTO events ({COLUMNS})
SELECT {_VALUES}
FROM {_GIVEN.format(more=", $11::int[], $12::text[], $13::bigint[]", name="shard, owner, epoch, ")}
WHERE (e.shard, e.owner, e.epoch) IN (SELECT id, owner, epoch FROM held)
    AND {IS_LONG_ENOUGH}
ORDER BY e.ord
ON CONFLICT DO NOTHING
RETURNING txid, position, version, stream_id
"""  # noqa: S608  (our own columns)

# Who follows an event that is stored is a first of his own, whatever stands before him here: of a
# chain in which some come too late the rest is stored. `base` is what the first of a chain
# expects. Of the rest none is left out: a known id would leave a hole, so there it fails the whole
# statement.
_CHAINS = f"""
WITH {PATIENCE},
e AS MATERIALIZED (
    SELECT e.*, {IS_LONG_ENOUGH} AS is_first
    FROM {_GIVEN.format(more=", $11::bigint[]", name="base, ")}
),
firsts AS (
    INSERT INTO events ({COLUMNS})
    SELECT {_VALUES} FROM patience, e WHERE e.is_first ORDER BY e.ord
    ON CONFLICT DO NOTHING
    RETURNING txid, position, version, stream_id
),
rest AS (
    INSERT INTO events ({COLUMNS})
    SELECT {_VALUES} FROM e
    JOIN firsts f ON f.stream_id = e.stream_id AND f.version BETWEEN e.base + 1 AND e.expected
    WHERE NOT e.is_first
    ORDER BY e.ord
    RETURNING txid, position, version, stream_id
)
SELECT * FROM firsts UNION ALL SELECT * FROM rest
"""  # noqa: S608  (our own columns)


async def insert_shared(
    connection: Connection, requests: Sequence[AppendRequest], lock_wait_s: float = LOCK_WAIT_S_MAX
) -> list[Appended | None]:
    """Call this to store the one event of each request; None for each that was left out.

    Every request has one event and an exact version. Why one was left out is not known here.
    Raises what the driver raises, with nothing written: one row that cannot be stored is enough.
    """
    chosen, bases = choose(requests)
    rows = [requests[number] for number in chosen]
    given: list[object] = [
        f"{lock_wait_s * 1000:.0f}ms",
        [row.key for row in rows],
        [row.expected for row in rows],
        *to_columns([row.events[0] for row in rows]),
    ]
    if bases is None:
        found = await connection.fetch(_SINGLES, *given)
    else:
        found = await connection.fetch(_CHAINS, *given, bases)
    answers: list[Appended | None] = [None] * len(requests)
    if bases is None and len(found) == len(chosen):
        # In the order they were given, which is that of their insertion.
        for number, (txid, position, version, _) in zip(chosen, found, strict=True):
            answers[number] = Appended(version, version, Cursor(txid, position))
        return answers
    places = {(stream_id, version): Cursor(txid, at) for txid, at, version, stream_id in found}
    for number, row in zip(chosen, rows, strict=True):
        assert isinstance(row.expected, int)
        version = row.expected + 1
        cursor = places.get((row.key, version))
        if cursor is not None:
            answers[number] = Appended(version, version, cursor)
    return answers


async def insert_owned(
    connection: Connection, requests: Sequence[AppendRequest], lock_wait_s: float = LOCK_WAIT_S_MAX
) -> list[Appended | None]:
    """Call this as `insert_shared` with requests that each have a shard.

    One that builds on another of this statement is left out: an owner waits for the one before.
    """
    chosen, bases = choose(requests)
    if bases is not None:
        firsts = zip(chosen, bases, strict=True)
        chosen = [number for number, base in firsts if requests[number].expected == base]
    rows = [requests[number] for number in chosen]
    shards = [row.shard for row in rows if row.shard is not None]
    found = await connection.fetch(
        _OWNED,
        f"{lock_wait_s * 1000:.0f}ms",
        [row.key for row in rows],
        [row.expected for row in rows],
        *to_columns([row.events[0] for row in rows]),
        [one.id for one in shards],
        [one.owner for one in shards],
        [one.epoch for one in shards],
    )
    places = {stream_id: (version, Cursor(txid, at)) for txid, at, version, stream_id in found}
    answers: list[Appended | None] = [None] * len(requests)
    for number, row in zip(chosen, rows, strict=True):
        if row.key in places:
            version, cursor = places[row.key]
            answers[number] = Appended(version, version, cursor)
    return answers


def choose(requests: Sequence[AppendRequest]) -> tuple[list[int], list[int] | None]:
    """Call this for the requests that a statement can hold, by number, in the order of keys.

    Of those that want one place, or bring one id, the first: the others cannot win, and an
    answer found by place or id would be given to all of them. Then the `base` of each, when
    some follow each other.
    """
    ids: set[UUID] = set()
    places: dict[tuple[str, int], int] = {}
    for number, request in enumerate(requests):
        expected = request.expected
        assert isinstance(expected, int)
        place = (request.key, expected)
        id_ = request.events[0].event_id
        if place not in places and id_ not in ids:
            places[place] = number
            ids.add(id_)
    # By code points, which is the order of bytes in UTF-8: that of the table's key.
    keys = sorted(places)
    bases, has_chains = [], False
    stream_id, before, base = "", -1, -1
    for key in keys:
        if key[0] == stream_id and key[1] == before + 1:
            has_chains = True
        else:
            base = key[1]
        stream_id, before = key
        bases.append(base)
    return [places[key] for key in keys], bases if has_chains else None
