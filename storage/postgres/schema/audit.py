"""Who changed the store by hand, and why: rows of `audit_log` around a command.

A row is written before the change and completed after it, so that no change goes without one: a
command that was killed half-way leaves a row that says that it began.
"""

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from actors.persistence.beside_log.dead_letters import storable, words_of
from storage.errors import StoreError
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

EVENT_TYPE = "command"
# What stands there while a command is at it, and for ever when it was killed.
UNFINISHED = "begun, and not finished"

_BEGIN = """
INSERT INTO audit_log (event_type, severity, actor, action, resource, success, error, metadata)
VALUES ($1, 'warning', $2, $3, $4, false, $5, $6) RETURNING id
"""


def system_user() -> str:
    """Call this for who runs this process: the name of the system's user, or its number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container may have no list of users


@asynccontextmanager
async def audited(
    database: Database, action: str, resource: str, reason: str
) -> AsyncIterator[bool]:
    """Call this around a change by hand; gives False where the schema is too old for the table.

    `action` is a command, `resource` what it changes. An error that leaves the block is kept in
    the row too.
    """
    row = await database.run(_begin, action, resource, reason)
    try:
        yield row is not None
    except Exception as error:
        try:
            await database.run(_end, row, words_of(error))
        except StoreError:
            pass  # the store went away: its row says that it is not finished
        raise
    await database.run(_end, row, None)


async def _begin(connection: Connection, action: str, resource: str, reason: str) -> int | None:
    if not await _has_table(connection):
        return None
    metadata = msgspec.json.encode({"reason": storable(reason)}).decode()
    return int(
        await connection.fetchval(
            _BEGIN, EVENT_TYPE, system_user(), action, storable(resource), UNFINISHED, metadata
        )
    )


async def _end(connection: Connection, row: int | None, error: str | None) -> None:
    # The command may have been the one that takes the table away.
    if row is not None and await _has_table(connection):
        await connection.execute(
            "UPDATE audit_log SET success = $2, error = $3 WHERE id = $1",
            row,
            error is None,
            error,
        )


async def _has_table(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass('audit_log') IS NOT NULL"))
