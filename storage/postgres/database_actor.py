"""The actor that gives a `Database` its loop: a lost loop is a crash, and is restarted.

It takes no messages: others hold the `Database` itself, whose address they never lose.
"""

from typing import Never

import trio

from actors.runtime import Actor
from storage.postgres.database import Database


class DatabaseActor(Actor[Never]):
    """Serves one database handle for as long as it lives.

    Started when the loop turns; whether the database answers is asked with
    `Database.wait_up`. Its crash carries `LoopLost`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def on_start(self) -> None:
        """Start the loop; it ends with this incarnation."""
        ready = _Started()
        self.start_soon(self._serve, ready)
        await ready.event.wait()

    async def _serve(self, ready: "_Started") -> None:
        await self._database.serve(task_status=ready)


class _Started:
    """What `nursery.start` would pass, for a task of an actor."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def started(self, value: None = None) -> None:
        self.event.set()
