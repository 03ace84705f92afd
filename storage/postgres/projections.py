"""Read models in PostgreSQL; the twin of `storage/memory/projections.py`.

First the port, then the inline projections: those that an append applies in its own
transaction. Both write documents by the same function.
"""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
import msgspec

from actors.persistence import (
    Checkpoint,
    Cursor,
    Document,
    GenerationState,
    InlineProjectionFailed,
    InlineProjections,
    ParkedEvent,
    Projection,
    ProjectionBatch,
    StoredEvent,
    UnknownProjection,
    WritesRefused,
    inline_collection,
)
from actors.persistence.beside_log.dead_letters import ROWS_MAX, storable
from actors.persistence.event_store import check_limit
from actors.persistence.projections.projection import encoded, is_key
from actors.persistence.projections.store import (
    REPLAY,
    RETIRED_KEPT,
    check_documents,
    check_generation,
    check_parked,
    check_seconds,
)
from actors.persistence.words import (
    check_a,
    check_delay,
    check_list,
    check_text,
    owned_name,
    split_name,
)
from storage.errors import StatementRefused
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.notices import PROJECTIONS
from storage.postgres.connecting.session import GONE, Connection, change_rows, told
from storage.postgres.dead_letters import add_letter, give_up_parked, replay_failed, replayed
from storage.postgres.events.subject_keys import remove_texts

_CHECKPOINT = (
    "projection, generation, partition, version, txid, position, lineage, state, error, revision,"
    " is_filled, is_outdated, poison, left_out"
)

_OPEN = """
INSERT INTO checkpoints (projection, generation, partition, version, lineage, state)
SELECT $1, $2, $3, $4, lineage, $5 FROM store_meta
ON CONFLICT (projection, generation, partition) DO UPDATE SET is_filled = true
"""

_FIND = f"""
SELECT {_CHECKPOINT} FROM checkpoints
WHERE projection = $1 AND ($2::int IS NULL OR generation = $2 AND partition = $3)
ORDER BY generation, partition
"""  # noqa: S608  (our own columns)

# The guard of exactly once: the batch was applied to what stood at this cursor, and nothing
# was replayed since. It comes first and locks the row: parking and replaying take turns.
#
# A generation that is being built does not wait for the disk: what a crash takes of it, checkpoint
# and documents together, is built again. The swap waits, and with it the disk has all before it.
_ADVANCE = """
UPDATE checkpoints SET txid = $4::xid8, position = $5, revision = revision + 1,
    is_filled = true, updated_at = clock_timestamp()
WHERE projection = $1 AND generation = $2 AND partition = $3
    AND txid = $6::xid8 AND position = $7 AND revision = $8
    AND state IN ('building', 'live') AND error IS NULL
    AND CASE state WHEN 'live' THEN true
        ELSE set_config('synchronous_commit', 'off', true) = 'off' END
"""

# All parts at once; a rebuild that is halted keeps its state, since it serves nobody.
_HALT = """
UPDATE checkpoints SET error = $3, updated_at = clock_timestamp(),
    state = CASE state WHEN 'live' THEN 'halted' ELSE state END
WHERE projection = $1 AND generation = $2 AND state <> 'retired'
"""

# The event that halts it stands where the part stands that met it.
_POISON = """
UPDATE checkpoints SET poison = $4 WHERE projection = $1 AND generation = $2 AND partition = $3
"""

_RESUME = """
UPDATE checkpoints SET error = NULL, poison = NULL, updated_at = clock_timestamp(),
    state = CASE state WHEN 'halted' THEN 'live' ELSE state END
WHERE projection = $1 AND generation = $2 AND state <> 'retired'
    AND (error IS NOT NULL OR state = 'halted')
"""

_LEAVE_OUT = """
UPDATE checkpoints SET left_out = poison
WHERE projection = $1 AND generation = $2 AND poison IS NOT NULL AND state <> 'retired'
RETURNING left_out
"""

_WISHED = """
SELECT DISTINCT stream_id FROM dead_letters
WHERE source = $1 AND stream_version IS NOT NULL AND status IN ('pending', 'processing')
    AND kind = 'projection' AND next_retry_at IS NOT NULL
"""

_PARKED = """
SELECT DISTINCT stream_id FROM dead_letters
WHERE source = $1 AND stream_version IS NOT NULL AND status IN ('pending', 'processing')
    AND kind = 'projection' AND ($2::text[] IS NULL OR stream_id = ANY($2))
"""

_PARKED_EVENTS = """
SELECT id, stream_version FROM dead_letters
WHERE source = $1 AND stream_version IS NOT NULL AND status IN ('pending', 'processing')
    AND kind = 'projection' AND stream_id = $2
ORDER BY stream_version LIMIT $3
"""

_PUT = """
INSERT INTO documents (collection, key, document, txid, position)
SELECT $1, d.key, d.document::jsonb, $4::xid8, $5
FROM unnest($2::text[], $3::text[]) AS d (key, document)
ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document,
    txid = excluded.txid, position = excluded.position, updated_at = clock_timestamp()
"""

_QUERY = """
SELECT key, document FROM documents
WHERE collection = $1 AND starts_with(key, $2) AND ($3::text IS NULL OR key COLLATE "C" > $3)
ORDER BY key COLLATE "C" LIMIT $4
"""


# Whose private fields a generation was made of.
_READ_OF = """
INSERT INTO projection_subjects (subject, projection, generation)
SELECT subject, $1, $2 FROM unnest($3::text[]) AS s (subject) ON CONFLICT DO NOTHING
"""

_IS_OUTDATED = """
SELECT EXISTS (SELECT FROM checkpoints
    WHERE projection = $1 AND generation = $2 AND is_outdated)
"""


class _Elsewhere(Exception):
    """Rolls back a batch whose checkpoint is not where it began."""


# No way back from here on: a mark that a swap respects.
_MARK_OVER = """
UPDATE checkpoints SET is_outdated = true
WHERE state = 'retired' AND NOT is_outdated AND (projection, generation) IN (
    SELECT projection, generation FROM checkpoints
    GROUP BY projection, generation HAVING max(updated_at) <= clock_timestamp() - $1::interval)
"""
_OVER = """
SELECT projection, generation, projection || '__g' || generation AS collection
FROM checkpoints WHERE state = 'retired' AND is_outdated
GROUP BY projection, generation
HAVING max(updated_at) <= clock_timestamp() - $1::interval
ORDER BY projection, generation LIMIT 1
"""
_REMOVE_DOCUMENTS = """
DELETE FROM documents WHERE collection = $1 AND key = ANY(ARRAY(
    SELECT key FROM documents WHERE collection = $1 LIMIT $2))
"""

# From one collection to the next by the key of the table: so it reads a row of each, not all.
_OWNED = """
WITH RECURSIVE found AS (
    (SELECT collection FROM documents WHERE collection > $2 ORDER BY collection LIMIT 1)
    UNION ALL
    SELECT (SELECT d.collection FROM documents d WHERE d.collection > f.collection
            ORDER BY d.collection LIMIT 1)
    FROM found f WHERE f.collection IS NOT NULL
)
SELECT collection FROM found
WHERE left(collection, 1) = '@' AND right(collection, length($1)) = $1 LIMIT $3
"""


class PostgresProjections:
    """The port `ProjectionStore` on a `Database` with room for so many dead letters."""

    def __init__(self, database: Database, *, letters_max: int = ROWS_MAX) -> None:
        self._database, self._letters_max = database, letters_max

    async def open(
        self,
        projection: str,
        generation: int,
        version: int,
        state: GenerationState,
        partition: int = 0,
    ) -> Checkpoint:
        """See `ProjectionStore.open`."""
        check_generation(projection, generation, version, state, partition)

        async def work(connection: Connection) -> Checkpoint:
            await connection.execute(_OPEN, projection, generation, partition, version, state.value)
            row = await connection.fetchrow(_FIND, projection, generation, partition)
            assert row is not None, "it was just made"
            return _checkpoint(row)

        return await self._database.run(work)

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        check_text("projection", projection)

        async def work(connection: Connection) -> list[Checkpoint]:
            rows = await connection.fetch(_FIND, projection, None, None)
            return [_checkpoint(row) for row in rows]

        return await self._database.run(work)

    async def names(self) -> Sequence[str]:
        """See `ProjectionStore.names`."""

        async def work(connection: Connection) -> list[str]:
            rows = await connection.fetch("SELECT DISTINCT projection FROM checkpoints ORDER BY 1")
            return [row["projection"] for row in rows]

        return await self._database.run(work)

    async def commit(self, batch: ProjectionBatch) -> bool:
        """See `ProjectionStore.commit`."""
        check_a("batch", batch, ProjectionBatch)
        try:
            await self._database.transact(_commit, batch, self._letters_max, channel=PROJECTIONS)
        except _Elsewhere:
            return False
        except (StatementRefused, TypeError, ValueError) as error:
            raise WritesRefused(batch.checkpoint.collection, error) from error
        tallies = self._database.tallies
        tallies.count("dead_letters_added_total", "projection").number += len(batch.letters)
        tallies.count("dead_letters_resolved_total", "projection").number += len(batch.replayed)
        return True

    async def parked_streams(
        self, collection: str, among: Sequence[str] | None = None
    ) -> frozenset[str]:
        """See `ProjectionStore.parked_streams`."""
        check_parked(collection, among)
        asked = None if among is None else list(among)

        async def work(connection: Connection) -> frozenset[str]:
            rows = await connection.fetch(_PARKED, collection, asked)
            return frozenset(row["stream_id"] for row in rows)

        return await self._database.run(work)

    async def parked_events(
        self, collection: str, stream_id: str, *, limit: int = 100
    ) -> Sequence[ParkedEvent]:
        """See `ProjectionStore.parked_events`."""
        check_parked(collection, [stream_id], limit)

        async def work(connection: Connection) -> list[ParkedEvent]:
            rows = await connection.fetch(_PARKED_EVENTS, collection, stream_id, limit)
            return [ParkedEvent(row["id"], row["stream_version"]) for row in rows]

        return await self._database.run(work)

    async def wished_replays(self, collection: str) -> frozenset[str]:
        """See `ProjectionStore.wished_replays`."""
        check_documents(collection)

        async def work(connection: Connection) -> frozenset[str]:
            rows = await connection.fetch(_WISHED, collection)
            return frozenset(row["stream_id"] for row in rows)

        return await self._database.run(work)

    async def resume(self, projection: str, generation: int) -> bool:
        """See `ProjectionStore.resume`."""
        check_generation(projection, generation)
        changed = await self._database.run(
            change_rows, _RESUME, projection, generation, channel=PROJECTIONS
        )
        return changed > 0

    async def leave_out(self, projection: str, generation: int) -> UUID | None:
        """See `ProjectionStore.leave_out`."""
        check_generation(projection, generation)

        async def work(connection: Connection) -> UUID | None:
            poison: UUID | None = await connection.fetchval(_LEAVE_OUT, projection, generation)
            if poison is not None:
                await connection.execute(_RESUME, projection, generation)
            return poison

        return await self._database.transact(work, channel=PROJECTIONS)

    async def set_state(
        self, projection: str, generation: int, state: GenerationState, error: str | None = None
    ) -> None:
        """See `ProjectionStore.set_state`."""
        check_generation(projection, generation, 1, state)
        if error is not None:
            check_a("error", error, str)
            error = storable(error)
        await self._database.run(
            _set_state, projection, generation, state, error, channel=PROJECTIONS
        )

    async def leave(self, checkpoint: Checkpoint) -> None:
        """See `ProjectionStore.leave`."""
        check_a("checkpoint", checkpoint, Checkpoint)

        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE checkpoints SET is_filled = false WHERE projection = $1"
                " AND generation = $2 AND partition = $3 AND revision = $4",
                checkpoint.projection,
                checkpoint.generation,
                checkpoint.partition,
                checkpoint.revision,
            )

        await self._database.run(work, channel=PROJECTIONS)

    async def swap(self, projection: str, generation: int) -> None:
        """See `ProjectionStore.swap`."""
        check_generation(projection, generation)

        async def work(connection: Connection) -> None:
            # Before the checkpoints, as who forgets takes them.
            await connection.execute("SELECT FROM subject_forgets FOR SHARE")
            # In one direction, whichever is to serve: of two at once the second waits.
            rows = await connection.fetch(
                "SELECT generation FROM checkpoints WHERE projection = $1"
                " ORDER BY generation, partition FOR UPDATE",
                projection,
            )
            if generation not in {row["generation"] for row in rows}:
                raise UnknownProjection(projection, generation)
            if await connection.fetchval(_IS_OUTDATED, projection, generation):
                return
            rows = await connection.fetch(
                "UPDATE checkpoints SET state = 'retired', error = NULL, poison = NULL,"
                " updated_at = clock_timestamp()"
                " WHERE projection = $1 AND generation <> $2 AND state IN ('live', 'halted')"
                " RETURNING generation, is_outdated",
                projection,
                generation,
            )
            outdated = {row["generation"] for row in rows if row["is_outdated"]}
            await remove_texts(connection, [(projection, one) for one in outdated])
            await connection.execute(
                "UPDATE checkpoints SET state = 'live', error = NULL, is_filled = true,"
                " updated_at = clock_timestamp() WHERE projection = $1 AND generation = $2",
                projection,
                generation,
            )

        await self._database.transact(work, channel=PROJECTIONS)

    async def purge(self, limit: int = 1000, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """See `ProjectionStore.purge`."""
        check_limit(limit)
        check_delay("older_than", older_than)
        return await self._database.transact(_purge, limit, older_than)

    async def get(self, collection: str, key: str) -> Document | None:
        """See `ProjectionStore.get`."""
        check_documents(collection)
        return (await self.get_many(collection, [key])).get(key) if is_key(key) else None

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        """See `ProjectionStore.get_many`."""
        check_documents(collection)
        check_list("keys", keys)

        async def work(connection: Connection) -> dict[str, Document]:
            rows = await connection.fetch(
                "SELECT key, document FROM documents WHERE collection = $1 AND key = ANY($2)",
                collection,
                [key for key in keys if is_key(key)],
            )
            return {row["key"]: msgspec.json.decode(row["document"]) for row in rows}

        return await self._database.run(work)

    async def exists(self, collection: str, key: str) -> bool:
        """See `ProjectionStore.exists`."""
        check_documents(collection)
        if not is_key(key):
            return False

        async def work(connection: Connection) -> bool:
            return bool(
                await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM documents WHERE collection = $1 AND key = $2)",
                    collection,
                    key,
                )
            )

        return await self._database.run(work)

    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """See `ProjectionStore.query`."""
        check_documents(collection, prefix, after, limit)

        async def work(connection: Connection) -> list[tuple[str, Document]]:
            rows = await connection.fetch(_QUERY, collection, prefix, after, limit)
            return [(row["key"], msgspec.json.decode(row["document"])) for row in rows]

        return await self._database.run(work)

    async def tenants(
        self, collection: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """See `ProjectionStore.tenants`."""
        check_documents(collection, after=after, limit=limit)
        begin = "" if after is None else owned_name(after, collection)

        async def work(connection: Connection) -> list[str]:
            rows = await connection.fetch(_OWNED, f"/{collection}", begin, limit)
            named = (split_name(row["collection"]) for row in rows)
            return [tenant for tenant, own in named if tenant is not None and own == collection]

        return await self._database.run(work)

    async def changed(self, timeout_s: float) -> None:
        """See `ProjectionStore.changed`."""
        check_seconds("timeout_s", timeout_s)
        bell = self._database.bell(PROJECTIONS)
        with bell.heard():
            await bell.listen()(timeout_s)


async def _commit(connection: Connection, batch: ProjectionBatch, letters_max: int) -> None:
    begun, reached = batch.checkpoint, batch.reached
    if batch.forgets is not None:
        # Before the checkpoint, as who forgets takes them: of the two, one comes first.
        count = await connection.fetchval("SELECT count FROM subject_forgets FOR SHARE")
        if count != batch.forgets:
            raise _Elsewhere
    done = await connection.execute(
        _ADVANCE,
        begun.projection,
        begun.generation,
        begun.partition,
        reached.txid,
        reached.position,
        begun.cursor.txid,
        begun.cursor.position,
        begun.revision,
    )
    if done != "UPDATE 1":
        raise _Elsewhere
    if batch.subjects:
        await connection.execute(
            _READ_OF, begun.projection, begun.generation, sorted(batch.subjects)
        )
    await _write(connection, begun.collection, reached, batch.documents, batch.statements)
    for letter in batch.letters:
        await add_letter(connection, letter, letters_max)
    if batch.replayed and not await replayed(connection, batch.replayed, REPLAY):
        raise _Elsewhere
    if batch.failed is not None and not await replay_failed(connection, *batch.failed, REPLAY):
        raise _Elsewhere
    if batch.halted is not None:
        await connection.execute(_HALT, begun.projection, begun.generation, batch.halted)
        part = (begun.projection, begun.generation, begun.partition)
        await connection.execute(_POISON, *part, batch.poison)


async def _write(
    connection: Connection,
    collection: str,
    reached: Cursor,
    documents: Mapping[str, Document | None],
    statements: Sequence[tuple[str, tuple[object, ...]]],
) -> None:
    """Call this in a transaction: put and remove documents, then run the statements."""
    puts = [(key, one) for key, one in documents.items() if one is not None]
    if puts:
        texts = [encoded(one).decode() for _, one in puts]
        keys = [key for key, _ in puts]
        await connection.execute(_PUT, collection, keys, texts, reached.txid, reached.position)
    gone = [key for key, one in documents.items() if one is None]
    if gone:
        await connection.execute(
            "DELETE FROM documents WHERE collection = $1 AND key = ANY($2)", collection, gone
        )
    for statement, args in statements:
        await connection.execute(statement, *args)


async def _set_state(
    connection: Connection,
    projection: str,
    generation: int,
    state: GenerationState,
    error: str | None,
) -> None:
    await connection.execute(
        "UPDATE checkpoints SET state = $3, error = $4, poison = NULL,"
        " updated_at = clock_timestamp()"
        " WHERE projection = $1 AND generation = $2 AND state <> 'retired'",
        projection,
        generation,
        state.value,
        error,
    )


def _checkpoint(row: asyncpg.Record) -> Checkpoint:
    return Checkpoint(
        projection=row["projection"],
        generation=row["generation"],
        version=row["version"],
        cursor=Cursor(row["txid"], row["position"]),
        lineage=str(row["lineage"]),
        state=GenerationState(row["state"]),
        error=row["error"],
        partition=row["partition"],
        revision=row["revision"],
        is_filled=row["is_filled"],
        is_outdated=row["is_outdated"],
        poison=row["poison"],
        left_out=row["left_out"],
    )


# Inline projections: in the transaction of an append, or of several that share it.

# Reading a document locks its key until the append ends, also when there is no row yet that
# could be locked: of two appends that ask for a free name, the second waits, then sees it taken.
# Two keys with one hash wait for each other needlessly, and nothing worse. In one direction, for
# whoever takes several at once.
_LOCK = """
SELECT pg_advisory_xact_lock(line.place) FROM (
    SELECT DISTINCT hashtextextended(d.collection || ' ' || d.key, 0) AS place
    FROM unnest($1::text[], $2::text[]) AS d (collection, key)
    ORDER BY place
) line
"""
_READ = """
SELECT d.collection, d.key, o.document
FROM unnest((SELECT $1::text[]), $2::text[]) AS d (collection, key)
LEFT JOIN documents o ON o.collection = d.collection AND o.key = d.key
"""

_PUT_EACH = """
INSERT INTO documents (collection, key, document, txid, position)
SELECT d.collection, d.key, d.document::jsonb, $5::xid8, d.position
FROM unnest((SELECT $1::text[]), $2::text[], $3::text[], $4::bigint[])
    AS d (collection, key, document, position)
ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document,
    txid = excluded.txid, position = excluded.position, updated_at = clock_timestamp()
"""
_DELETE_EACH = """
DELETE FROM documents o USING unnest((SELECT $1::text[]), $2::text[]) AS d (collection, key)
WHERE o.collection = d.collection AND o.key = d.key
"""

# Both at once, of other keys, as where a document goes to another place: each statement waits for
# the thread that decides about others.
_CHANGE_EACH = f"""
WITH put AS ({_PUT_EACH})
DELETE FROM documents o USING unnest((SELECT $6::text[]), $7::text[]) AS d (collection, key)
WHERE o.collection = d.collection AND o.key = d.key
"""  # noqa: S608  (our own words)

# What a statement of the projection's own is refused with: its rule, or its bug.
_REFUSALS = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.RaiseError,
    asyncpg.SyntaxOrAccessError,
)


async def apply_inline(
    connection: Connection, inline: InlineProjections, appends: Sequence[Sequence[StoredEvent]]
) -> None:
    """Call this after the events were inserted, with those of each append in the transaction.

    Appends come one after the other: each sees what those before it wrote. Raises
    `InlineProjectionFailed`, and what the driver raises where several share the writing.
    """
    held = _Held(connection)
    wanting = [(one, events) for events in appends for one in inline.wanting(events)]
    try:
        await held.hold(
            (inline_collection(one, tenant=events[0].tenant), key)
            for one, events in wanting
            for key in inline.reads(one, events)
        )
        for one, events in wanting:
            await _apply(held, inline, one, events)
            if len(appends) == 1:
                # By itself, so that what the database refuses is told of whoever wrote it.
                await _refusing(one, events[-1], held.write())
        await held.write()
    except InlineProjectionFailed as failed:
        # The database went away below the projection, which is not to blame.
        if isinstance(failed.error, GONE) and not isinstance(failed.error, _REFUSALS):
            raise failed.error from None
        if isinstance(failed.error, _REFUSALS):
            refused = told(failed.error)
            raise InlineProjectionFailed(failed.name, failed.stream_id, refused) from None
        raise


async def _apply(
    held: "_Held", inline: InlineProjections, projection: Projection, events: Sequence[StoredEvent]
) -> None:
    collection = inline_collection(projection, tenant=events[0].tenant)

    async def read(key: str) -> Document | None:
        return await held.read(collection, key)

    tx = await inline.apply(projection, events, read)
    last = events[-1]
    for key, document in tx.documents.items():
        held.put(collection, key, document, last.cursor)
    if tx.statements:
        # They may read documents: as those before them have left them.
        await held.write()
        for statement, args in tx.statements:
            await _refusing(projection, last, held.connection.execute(statement, *args))


async def _refusing(projection: Projection, last: StoredEvent, writing: Awaitable[object]) -> None:
    try:
        await writing
    except _REFUSALS as error:
        raise InlineProjectionFailed(projection.name, last.stream_id, told(error)) from None


class _Held:
    """The documents of a transaction: locked and read once, written together."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._locked: set[tuple[str, str]] = set()
        # As text, so that each reader gets one of its own.
        self._texts: dict[tuple[str, str], str | None] = {}
        self._puts: dict[tuple[str, str], tuple[str, Cursor]] = {}
        self._gone: set[tuple[str, str]] = set()

    async def hold(self, names: Iterable[tuple[str, str]]) -> None:
        """Lock, then read, what is not held yet: a statement sees nothing that it waited for."""
        missing = sorted(set(names) - self._locked)
        if not missing:
            return
        self._locked.update(missing)
        columns = [name[0] for name in missing], [name[1] for name in missing]
        await self.connection.execute(_LOCK, *columns)
        for collection, key, text in await self.connection.fetch(_READ, *columns):
            # What an append before put without reading it stands; only the lock was wanting.
            self._texts.setdefault((collection, key), text)

    async def read(self, collection: str, key: str) -> Document | None:
        name = (collection, key)
        await self.hold([name])
        text = self._texts[name]
        found: Document | None = None if text is None else msgspec.json.decode(text)
        return found

    def put(self, collection: str, key: str, document: Document | None, at: Cursor) -> None:
        name = (collection, key)
        if document is None:
            self._texts[name] = None
            self._gone.add(name)
            self._puts.pop(name, None)
        else:
            self._texts[name] = text = encoded(document).decode()
            self._puts[name] = (text, at)
            self._gone.discard(name)

    async def write(self) -> None:
        # In the order of their keys: two transactions wait for each other in one direction only.
        puts, gone = sorted(self._puts.items()), sorted(self._gone)
        self._puts, self._gone = {}, set()
        given: list[object] = []
        if puts:
            given += (
                [name[0] for name, _ in puts],
                [name[1] for name, _ in puts],
                [text for _, (text, _) in puts],
                [at.position for _, (_, at) in puts],
                puts[0][1][1].txid,
            )
        if gone:
            given += [name[0] for name in gone], [name[1] for name in gone]
        if given:
            both = _CHANGE_EACH if puts and gone else _PUT_EACH if puts else _DELETE_EACH
            await self.connection.execute(both, *given)


async def _purge(connection: Connection, limit: int, older_than: timedelta) -> int:
    """Remove up to `limit` rows of what is over, one generation after the other."""
    await connection.execute(_MARK_OVER, older_than)
    gone = 0
    while gone < limit:
        over = await connection.fetchrow(_OVER, older_than)
        if over is None:
            break
        name = over["collection"]
        gone += await change_rows(connection, _REMOVE_DOCUMENTS, name, limit - gone)
        if gone < limit:
            gone += await give_up_parked(connection, name, limit - gone)
        if gone < limit:
            of = (over["projection"], over["generation"])
            await connection.execute(
                "DELETE FROM projection_subjects WHERE projection = $1 AND generation = $2", *of
            )
            gone += await change_rows(
                connection, "DELETE FROM checkpoints WHERE projection = $1 AND generation = $2", *of
            )
    return gone
