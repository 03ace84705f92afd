"""Having a store for oneself: what rewrites the order, or takes tables away, has no company.

Rule: whoever serves a store takes the lock of migrations when it starts, and speaks to the database
under a name of its own. Under that lock nobody can begin to serve, so who is not connected now
will not be, until it is given back.
"""

import asyncio

from storage.errors import StoreInUse
from storage.postgres.connecting.session import Connection

# Any fixed number will do, as long as no other advisory lock of ours has it.
LOCK_KEY = 7_203_114_000_1

# A program that has just ended is in the server's list for a moment more.
LEAVING_S_MAX = 2.0
LOOK_S = 0.05

# A pool's sessions have one name, but for the one that listens. That of a tool has its process in.
_OTHERS = """
SELECT DISTINCT application_name || ' (pid ' || pid || ')' FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND application_name LIKE 'greenroom:%'
    AND regexp_replace(application_name, '-listen$', '')
        <> regexp_replace(current_setting('application_name'), '-listen$', '')
ORDER BY 1
"""


async def hold_alone(connection: Connection) -> None:
    """Call this first in a transaction: until its end no program of ours can begin to serve.

    Raises `StoreInUse` when one does already, or another tool works on it; nothing was done.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEAVING_S_MAX
    while True:
        others = await _company(connection)
        if not others:
            return
        if loop.time() >= deadline:
            raise StoreInUse(others)
        await asyncio.sleep(LOOK_S)


async def _company(connection: Connection) -> tuple[str, ...]:
    if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({LOCK_KEY})"):
        return ("whoever migrates it",)
    # The list is read once a transaction, unless it is told to forget it.
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return tuple(row[0] for row in await connection.fetch(_OTHERS))
