"""Hints that something was committed: one `NOTIFY` for many commits, and polling behind it.

A hint is sent after the commit, on the connection that listens, at most every 10 ms; never
in the transaction, where it would make commits stand in line. A lost hint costs at most the
poll interval, never an event: readers always read on from their cursor.

A listening session ends without a word: the server died, somebody terminated the backend,
the network went away. What was committed from then until the next LISTEN rang for nobody
here, so each new session rings every channel once it listens, and readers look. One that fell
silent is found out by speaking on it, and is ended the same way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from actors.runtime import Log
from storage.errors import StoreError
from storage.postgres.connecting.pool import Pool
from storage.postgres.connecting.session import GONE, Connection

CHANNELS = (
    "greenroom_events",
    "greenroom_projections",
    "greenroom_sessions",
    "greenroom_rooms",
    "greenroom_bus",
)
EVENTS, PROJECTIONS, SESSIONS, ROOMS, BUS = CHANNELS

# Hints closer together than this travel as one.
COALESCE_S = 0.010

# What a reader waits for a hint before it looks by itself.
POLL_S = 1.0

RECONNECT_S = 0.5

# A connection that only listens must speak now and then: one whose other end went away without
# a word looks like one on which nobody has said anything.
SPEAK_EVERY_S = 10.0
# What one word may take on a line that is alive.
SPEAK_S_MAX = 4.0

log = Log(__name__)


class Bell:
    """Wakes the trio tasks that wait for one channel. Belongs to the trio thread.

    `is_heard` may be read by any thread: with nobody there a hint need not cross over.
    """

    def __init__(self) -> None:
        self._event = trio.Event()
        self._hearers = 0

    @property
    def is_heard(self) -> bool:
        """Call this to ask whether anybody is between `heard`'s beginning and end."""
        return self._hearers > 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Call this around reading and waiting, so that no ring is left out."""
        self._hearers += 1
        try:
            yield
        finally:
            self._hearers -= 1

    def ring(self) -> None:
        """Call this to wake all who wait."""
        self._event.set()
        self._event = trio.Event()

    def listen(self) -> Callable[[float], Awaitable[None]]:
        """Call this before looking; the result waits for a ring since then, or so long."""
        event = self._event

        async def wait(timeout_s: float) -> None:
            with trio.move_on_after(timeout_s):
                await event.wait()

        return wait


class Notices:
    """The listening connection of one loop, and the hints that go out on it.

    Runs on the asyncio thread; `ring` is called there and must hand over by itself.
    """

    def __init__(self, pool: Pool, ring: Callable[[str], None]) -> None:
        self._pool, self._ring = pool, ring
        self._pending: set[str] = set()
        self._due = asyncio.Event()

    def hint(self, channel: str) -> None:
        """Call this on the loop after a commit: wakes readers here now, others soon."""
        self._ring(channel)
        self._pending.add(channel)
        self._due.set()

    async def run_for_ever(self) -> None:
        """Call this as a task: listens and sends, connecting again whenever it must."""
        while True:
            try:
                await self._listen()
            except (StoreError, *GONE):
                # There is none to be had, or it is lost, or silent. A statement may meet the end
                # before the listener of it does; the driver then says so in an internal error,
                # among others.
                pass
            except Exception:
                # A hint is never worth the pool, whose loop ends with this task.
                log.exception("database.notices_failed")
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        # A notice is a transaction with a number; nobody misses one that a crash takes, and
        # appends need not stand behind its flush.
        connection = await self._pool.connect("listen", synchronous_commit="off")
        try:
            await self._serve(connection)
        finally:
            self._pool.disconnect(connection)

    async def _serve(self, connection: Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        for channel in CHANNELS:
            async with asyncio.timeout(SPEAK_S_MAX):
                await connection.add_listener(channel, self._heard)
            self._ring(channel)  # after LISTEN: before it, a commit could fall between the two
        # The driver calls the listener of the end in a turn of the loop of its own; a task is
        # what can be waited for together with `due`.
        gone = asyncio.ensure_future(lost.wait())
        try:
            while not lost.is_set():
                due = asyncio.ensure_future(self._due.wait())
                await asyncio.wait(
                    (gone, due), timeout=SPEAK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
                )
                due.cancel()
                if lost.is_set():
                    return
                # Without an await between: a hint that comes from here on is the next round's.
                self._due.clear()
                channels, self._pending = self._pending, set()
                for statement in [f"NOTIFY {channel}" for channel in channels] or ["SELECT 1"]:
                    async with asyncio.timeout(SPEAK_S_MAX):
                        await connection.execute(statement)
                await asyncio.sleep(COALESCE_S)
        finally:
            gone.cancel()

    def _heard(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._ring(channel)
