"""The keys of subjects in PostgreSQL; the twin of `storage/memory/subject_keys.py`."""

from collections.abc import Mapping, Sequence

import asyncpg

from actors.persistence import SubjectKey
from actors.persistence.beside_log.subject_keys import check_subjects
from actors.persistence.words import check_text
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection, change_rows

_COLUMNS = "subject, number, master, wrapped"

_FIND = f"SELECT {_COLUMNS} FROM subject_keys WHERE subject = ANY($1)"  # noqa: S608  (our own columns)

# In the order of names: two that add the same keys wait for each other in one direction.
_ADD = """
INSERT INTO subject_keys (subject, number, master, wrapped)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::bytea[]) AS k (subject)
ORDER BY subject COLLATE "C" ON CONFLICT DO NOTHING
"""

_FORGET = """
INSERT INTO subject_keys AS k (subject, number, forgotten) VALUES ($1, 0, $2)
ON CONFLICT (subject) DO UPDATE SET master = NULL, wrapped = NULL, forgotten = $2
WHERE k.wrapped IS NOT NULL
"""

_READMIT = """
UPDATE subject_keys SET number = $2, master = $3, wrapped = $4, created_at = clock_timestamp()
WHERE subject = $1 AND wrapped IS NULL AND number = $2 - 1
"""

# What serves goes on to serve until its successor is built; what was being built begins anew.
_OUTDATE = """
UPDATE checkpoints c SET is_outdated = true, revision = revision + 1,
    state = CASE state WHEN 'building' THEN 'retired' ELSE state END,
    updated_at = clock_timestamp()
WHERE NOT is_outdated AND EXISTS (SELECT FROM projection_subjects s WHERE s.subject = $1
    AND (s.projection, s.generation) = (c.projection, c.generation))
"""
# Those that nobody reads any more, and were made of the subject. Others that wait to be removed are
# none of its business, and may be large.
_RETIRED_OF = """
SELECT DISTINCT c.projection, c.generation FROM checkpoints c
JOIN projection_subjects s USING (projection, generation)
WHERE s.subject = $1 AND c.state = 'retired' AND c.is_outdated
"""
# What was removed needs no mark any more.
_REMOVE_MARKS = """
DELETE FROM projection_subjects WHERE (projection, generation) IN (
    SELECT * FROM unnest($1::text[], $2::int[]))
"""
_REMOVE_DOCUMENTS = """
DELETE FROM documents WHERE collection IN (
    SELECT p || '__g' || g FROM unnest($1::text[], $2::int[]) AS u (p, g))
"""

_AUDIT = """
INSERT INTO audit_log (event_type, severity, actor, action, resource, success)
VALUES ('privacy', 'info', $1, $2, $3, true)
"""

_OTHERS = f"""
SELECT {_COLUMNS} FROM subject_keys WHERE master IS NOT NULL AND master <> $1
ORDER BY subject LIMIT $2
"""  # noqa: S608  (our own columns)


class PostgresSubjectKeys:
    """The port `SubjectKeys` on a `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, subjects: Sequence[str]) -> Mapping[str, SubjectKey]:
        """See `SubjectKeys.find`."""
        check_subjects(subjects)
        return await self._database.run(_find, list(subjects))

    async def add(self, keys: Sequence[SubjectKey]) -> Mapping[str, SubjectKey]:
        """See `SubjectKeys.add`."""
        return await self._database.run(_add, keys)

    async def forget(self, subject: str, *, by: str) -> bool:
        """See `SubjectKeys.forget`."""
        check_subjects([subject])
        check_text("by", by)
        return await self._database.transact(forget_subject, subject, by)

    async def readmit(self, key: SubjectKey, *, by: str) -> bool:
        """See `SubjectKeys.readmit`."""
        check_text("by", by)
        return await self._database.transact(_readmit, key, by)

    async def forgets(
        self, since: int | None = None, *, limit: int = 1000
    ) -> tuple[int, Sequence[str]]:
        """See `SubjectKeys.forgets`."""
        return await self._database.run(_forgets, since, limit)

    async def masters(self) -> Mapping[str, int]:
        """See `SubjectKeys.masters`."""
        return await self._database.run(_masters)

    async def wrapped_by_others(self, master: str, *, limit: int = 1000) -> Sequence[SubjectKey]:
        """See `SubjectKeys.wrapped_by_others`."""

        async def work(connection: Connection) -> list[SubjectKey]:
            return [_key(row) for row in await connection.fetch(_OTHERS, master, limit)]

        return await self._database.run(work)

    async def rewrap(self, old: SubjectKey, new: SubjectKey) -> bool:
        """See `SubjectKeys.rewrap`."""
        changed = await self._database.run(
            change_rows,
            "UPDATE subject_keys SET master = $3, wrapped = $4"
            " WHERE subject = $1 AND wrapped = $2 AND number = $5",
            old.subject,
            old.wrapped,
            new.master,
            new.wrapped,
            new.number,
        )
        return changed == 1


async def _find(connection: Connection, subjects: list[str]) -> dict[str, SubjectKey]:
    return {row["subject"]: _key(row) for row in await connection.fetch(_FIND, subjects)}


async def _add(connection: Connection, keys: Sequence[SubjectKey]) -> dict[str, SubjectKey]:
    names = [key.subject for key in keys]
    await connection.execute(
        _ADD,
        names,
        [key.number for key in keys],
        [key.master for key in keys],
        [key.wrapped for key in keys],
    )
    # A statement of its own: the one before does not see what made it do nothing.
    return await _find(connection, names)


async def forget_subject(connection: Connection, subject: str, by: str) -> bool:
    """Call this in a transaction for what `SubjectKeys.forget` does."""
    # First of all: whoever commits what he made of private fields holds this row, and is waited
    # for; who comes later finds the new number.
    count = await connection.fetchval("SELECT count + 1 FROM subject_forgets FOR UPDATE")
    if await change_rows(connection, _FORGET, subject, count) == 0:
        return False
    await connection.execute("UPDATE subject_forgets SET count = $1", count)
    await connection.execute(_OUTDATE, subject)
    rows = await connection.fetch(_RETIRED_OF, subject)
    await remove_texts(connection, [(row["projection"], row["generation"]) for row in rows])
    await connection.execute(_AUDIT, by, "subject.forget", subject)
    return True


async def remove_texts(connection: Connection, generations: Sequence[tuple[str, int]]) -> None:
    """Call this in a transaction to remove what outdated, retired generations of projections say.

    At once, however much it is: it may quote whom somebody has just forgotten.
    """
    names, numbers = [name for name, _ in generations], [number for _, number in generations]
    await connection.execute(_REMOVE_DOCUMENTS, names, numbers)
    await connection.execute(_REMOVE_MARKS, names, numbers)


async def _readmit(connection: Connection, key: SubjectKey, by: str) -> bool:
    changed = await change_rows(
        connection, _READMIT, key.subject, key.number, key.master, key.wrapped
    )
    if changed == 0:
        return False
    await connection.execute(_AUDIT, by, "subject.readmit", key.subject)
    return True


async def _forgets(
    connection: Connection, since: int | None, limit: int
) -> tuple[int, Sequence[str]]:
    # The number first: who is forgotten between the two is named twice rather than never.
    count = int(await connection.fetchval("SELECT count FROM subject_forgets"))
    if since is None or since >= count:
        return count, ()
    rows = await connection.fetch(
        "SELECT subject FROM subject_keys WHERE forgotten > $1 ORDER BY forgotten LIMIT $2",
        since,
        limit,
    )
    return count, [row["subject"] for row in rows]


async def _masters(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT master, count(*) AS n FROM subject_keys WHERE master IS NOT NULL GROUP BY master"
    )
    return {row["master"]: row["n"] for row in rows}


def _key(row: asyncpg.Record) -> SubjectKey:
    return SubjectKey(row["subject"], row["number"], row["master"], row["wrapped"])
