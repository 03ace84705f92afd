"""One database as trio tasks see it: run work on it, wait for it, ask how it is.

A `Database` is a handle that stays valid: the asyncio loop and the pool behind it may be
lost and made anew by whoever runs `serve`: `DatabaseActor` under a supervisor, or
`open_database` where there is none. Between two loops calls wait a moment, then fail as
unavailable.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import trio

from actors.runtime import Log, Secret, sampled_trace
from actors.runtime.words.tallies import Tallies
from storage.asyncio_thread import SILENCE_S_MAX, AsyncioThread, ServingActor
from storage.errors import StoreError, StoreTimeout, StoreUnavailable
from storage.postgres.connecting.notices import CHANNELS, Bell, Notices
from storage.postgres.connecting.pool import Pool, PoolSettings, PoolStats, Trace, Work
from storage.postgres.connecting.session import DRIVER, Connection, told
from storage.postgres.connecting.statements import (
    Statement,
    StatementSums,
    TellStatements,
    causes,
    hear,
    sum_up,
)

T = TypeVar("T")

# A database that is just being started: an embedded one after a crash replays its log.
STARTUP_S_MAX = 30.0
STARTUP_PAUSE_S = 0.25
# Who looks at a start that stands still sees within this that it is still alive.
AWAITED_TOLD_S = 5.0

# A lost loop is made anew within a second; waiting longer would only fill the mailbox.
LOOP_WAIT_S_MAX = 2.0

LOST_JOIN_S = 0.1


_log = Log("storage.postgres")


def _place(url: Secret[str]) -> str:
    """Where a database is, for a log: never the user or the password."""
    try:
        parts = urlsplit(url.reveal())
        asked = dict(parse_qsl(parts.query))
        host = parts.hostname or asked.get("host", "")
        port = parts.port or asked.get("port", "")
    except ValueError:
        return ""
    return f"{host}:{port}{parts.path}" if port else f"{host}{parts.path}"


async def _answer(connection: Connection) -> None:
    await connection.execute("SELECT 1")


class LoopLost(Exception):
    """Raised by `Database.serve` when the loop died or fell silent; its calls have failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; calls in flight failed, a new loop is needed")
        self.reason = reason


class Database:
    """A handle on one database, which stays valid when its connections are lost.

    Whoever runs `serve` makes them, and makes them anew. Between two of them calls wait a moment,
    then fail as unavailable. `open_database` gives one that is served.
    """

    def __init__(
        self,
        url: str | Secret[str],
        *,
        part: str = "store",
        settings: PoolSettings | None = None,
        silence_s_max: float = SILENCE_S_MAX,
        patience_s: float = LOOP_WAIT_S_MAX,
        is_notified: bool = True,
    ) -> None:
        self.url = url if isinstance(url, Secret) else Secret(url)
        self.part = part
        self.settings = settings if settings is not None else PoolSettings()
        self._silence_s_max, self._patience_s = silence_s_max, patience_s
        self._thread: AsyncioThread | None = None
        self._pool: Pool | None = None
        self._tasks: trio.Nursery | None = None
        self._context = copy_context()
        self._changed = trio.Event()
        self._is_notified = is_notified
        self._notices: Notices | None = None
        self._bells = {channel: Bell() for channel in CHANNELS}
        self._rung = dict.fromkeys(CHANNELS, 0)
        self.loops_started = 0
        # What is counted of it for operators; it outlives each loop.
        self.tallies = Tallies()
        self.sums = StatementSums()
        # Told on the trio thread of what each call ran; set once, by whoever watches.
        self.tell_statements: TellStatements | None = None

    def __repr__(self) -> str:
        return f"<Database {self.part}: {self._pool or 'not served'}>"

    async def run(
        self,
        work: Work[T],
        *args: Any,
        channel: str | None = None,
        timeout_s: float | None = None,
    ) -> T:
        """Call this to run `work(connection, *args)` on the loop, each statement by itself.

        It may take `timeout_s` seconds, by default the settings' `operation_s_max`. When it is
        done, readers that wait for `channel` are told.
        Raises `StoreUnavailable`, `StoreTimeout`, `PoolExhausted`, `StatementRefused` for whatever
        else the driver raises in the work, or what the work itself raises.
        Cancelling cancels the query; the work may have happened or not, never half of a
        statement.
        """
        return await self._call(work, args, None, channel, timeout_s)

    async def transact(
        self,
        work: Work[T],
        *args: Any,
        begin: str = "BEGIN",
        channel: str | None = None,
        timeout_s: float | None = None,
    ) -> T:
        """Call this to run `work(connection, *args)` in one transaction.

        An error or a cancellation rolls back; cancelled during COMMIT it is wholly there or
        wholly absent. Errors as `run`.
        """
        return await self._call(work, args, begin, channel, timeout_s)

    async def _call(
        self,
        work: Work[T],
        args: tuple[Any, ...],
        begin: str | None,
        channel: str | None,
        timeout_s: float | None,
    ) -> T:
        thread, pool = await self._ready()
        limit = self.settings.operation_s_max if timeout_s is None else timeout_s
        kept, tell = sampled_trace(), self.tell_statements
        trace = None if kept is None else (kept, trio.current_time())
        if tell is None or not (behalf := causes()):
            return await thread.call(self._run, pool, work, args, begin, channel, limit, trace)
        ran: list[Statement] = []
        try:
            return await thread.call(
                self._run_heard, ran, pool, work, args, begin, channel, limit, trace
            )
        finally:
            # Also of a call that failed: what it ran before is what a reader looks for.
            tell(behalf, tuple(ran))

    def start_soon(self, task: Callable[..., Awaitable[object]], *args: Any) -> bool:
        """Call this for a trio task that lives as long as the loop that serves now.

        False when none does; nothing was started then. It is cancelled when the loop ends. What
        it raises ends the loop. It has the context variables of whoever serves, not the caller's.
        """
        if self._tasks is None:
            return False
        self._context.run(self._tasks.start_soon, task, *args)
        return True

    def pool_stats(self) -> PoolStats:
        """Call this to see the pool's load; all zero while no loop runs."""
        if self._pool is None:
            most = self.settings.connections_max
            return PoolStats(0, 0, 0, 0, most, 0.0, is_saturated=False)
        return self._pool.statistics()

    def bell(self, channel: str) -> Bell:
        """Call this for what rings when something was committed on a channel."""
        return self._bells[channel]

    def rung(self, channel: str) -> int:
        """Call this for how often it has rung; whoever committed here was not told before that.

        A loop that is lost may not have counted what it committed: the next one counts for it.
        """
        return self._rung[channel]

    async def wait_up(self, timeout_s: float = STARTUP_S_MAX) -> None:
        """Call this to wait until the database answers; raises what kept it away at the end.

        `StoreRejected` comes at once: no waiting mends a wrong password. One that takes what it
        is sent and says nothing is given up when the time is over, in the middle of an attempt.
        Who looks on is told: at once what is waited for and how long, then every 5 s, and that it
        came.
        """
        began = trio.current_time()
        told_at: float | None = None
        while True:
            try:
                await self._try_within(began + timeout_s - trio.current_time(), timeout_s)
            except StoreUnavailable as error:
                now = trio.current_time()
                if timeout_s and (told_at is None or now - told_at >= AWAITED_TOLD_S):
                    told_at = now
                    self._tell_awaited(error, now - began, timeout_s)
                if now + STARTUP_PAUSE_S >= began + timeout_s:
                    raise
                await trio.sleep(STARTUP_PAUSE_S)
                if trio.current_time() >= began + timeout_s:
                    # On a busy machine a pause is longer than it was asked to be.
                    raise
            else:
                if told_at is not None:
                    _log.info("store.database_came", part=self.part, database=_place(self.url))
                return

    async def _try_within(self, left_s: float, timeout_s: float) -> None:
        # With no time at all it is tried once, for as long as one attempt takes.
        with trio.move_on_after(left_s if timeout_s else math.inf):
            thread, pool = await self._ready()
            await thread.call(pool.fill)
            # A pool that is full of sessions may not know yet that all of them are gone.
            await self.run(_answer)
            return
        raise StoreTimeout(timeout_s, nothing_written=True)

    def _tell_awaited(self, error: StoreUnavailable, waited_s: float, wait_s: float) -> None:
        _log.warning(
            "store.database_awaited",
            part=self.part,
            database=_place(self.url),
            reason=error.reason,
            waited_s=round(waited_s, 1),
            wait_s=wait_s,
        )

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call this in a nursery or an actor to give the handle its loop; ends by `LoopLost`.

        Cancelling it is the orderly end: connections say goodbye, the thread is joined.
        """
        waits = self.tallies.histogram("pool_acquire_seconds")
        pool = Pool(self.url, self.part, self.settings, waits)
        thread = AsyncioThread(
            f"greenroom-{self.part}", silence_s_max=self._silence_s_max, at_end=pool.drop
        )
        await thread.start()
        self.loops_started += 1
        try:
            async with trio.open_nursery() as nursery:
                try:
                    self._context = copy_context()
                    self._attach(thread, pool, nursery)
                    nursery.start_soon(self._keep, thread, pool.sweep_for_ever)
                    nursery.start_soon(self._keep, thread, self._notify, thread, pool)
                    task_status.started()
                    # Returns only when the loop is lost; an orderly end is a cancellation.
                    reason = await thread.watch()
                    nursery.cancel_scope.cancel()
                finally:
                    # First of all, while the nursery is still open: who asks from here on waits
                    # for the next loop.
                    self._attach(None, None, None)
        finally:
            await self._shut(thread, pool)
        raise LoopLost(reason)

    async def _shut(self, thread: AsyncioThread, pool: Pool) -> None:
        is_lost = not thread.is_running
        if not is_lost:
            with trio.move_on_after(STARTUP_PAUSE_S * 4, shield=True):
                try:
                    await thread.call(pool.close)
                except StoreError:
                    pass  # lost in this very moment: cut off below
        pool.cut_off()
        # A lost loop is not waited for: the next one must serve.
        await (thread.stop(LOST_JOIN_S) if is_lost else thread.stop())

    async def _notify(self, thread: AsyncioThread, pool: Pool) -> None:
        """On the loop: make the hints of this loop, and send and hear them while it turns."""

        def ring(channel: str) -> None:
            self._rung[channel] += 1  # on the loop only, and read by the trio side
            bell = self._bells[channel]
            if bell.is_heard:
                thread.post_to_trio(bell.ring)

        notices = self._notices = Notices(pool, ring)
        # A single connection is needed for work; then readers elsewhere poll.
        if self._is_notified and self.settings.connections_max > 1:
            await notices.run_for_ever()

    @staticmethod
    async def _keep(thread: AsyncioThread, work: Work[None], *args: Any) -> None:
        try:
            await thread.call(work, *args)
        except StoreUnavailable:
            pass  # the loop is lost: the watch tells it

    async def _run(
        self,
        pool: Pool,
        work: Work[T],
        args: tuple[Any, ...],
        begin: str | None,
        channel: str | None,
        timeout_s: float,
        trace: Trace | None,
    ) -> T:
        sum_up(self.sums)
        try:
            result = await pool.run(work, *args, begin=begin, timeout_s=timeout_s, trace=trace)
        except DRIVER as error:
            # The one way out of here: no driver's error ever leaves the package.
            raise told(error) from None
        # After the commit, and on the loop: a hint from the trio side would be lost with a
        # caller that was cancelled in this very moment.
        if channel is not None and self._notices is not None:
            self._notices.hint(channel)
        return result

    async def _run_heard(
        self,
        ran: list[Statement],
        pool: Pool,
        work: Work[T],
        args: tuple[Any, ...],
        begin: str | None,
        channel: str | None,
        timeout_s: float,
        trace: Trace | None,
    ) -> T:
        hear(ran)
        return await self._run(pool, work, args, begin, channel, timeout_s, trace)

    def _attach(
        self, thread: AsyncioThread | None, pool: Pool | None, tasks: trio.Nursery | None
    ) -> None:
        self._thread, self._pool, self._tasks = thread, pool, tasks
        self._changed.set()
        self._changed = trio.Event()

    async def _ready(self) -> tuple[AsyncioThread, Pool]:
        thread, pool = self._thread, self._pool
        if thread is not None and pool is not None and thread.is_running:
            return thread, pool
        with trio.move_on_after(self._patience_s):
            while True:
                thread, pool = self._thread, self._pool
                if thread is not None and pool is not None and thread.is_running:
                    return thread, pool
                await self._changed.wait()
        raise StoreUnavailable("its loop is not running", nothing_written=True)


class DatabaseActor(ServingActor):
    """Serves one database handle for as long as it lives: a lost loop is a crash, and is restarted.

    It takes no messages: others hold the `Database` itself, whose address they never lose.
    Started when the loop turns; whether the database answers is asked with
    `Database.wait_up`. Its crash carries `LoopLost`.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)


@asynccontextmanager
async def open_database(
    url: str | Secret[str],
    *,
    part: str = "store",
    settings: PoolSettings | None = None,
    wait_s: float = STARTUP_S_MAX,
    is_notified: bool = True,
) -> AsyncIterator[Database]:
    """Call this to use a database outside a supervision tree: in tests, tools, scripts.

    Waits for the database to be up; a lost loop is made anew. Leaving closes everything.
    """
    database = Database(url, part=part, settings=settings, is_notified=is_notified)

    async def keep_serving(*, task_status: trio.TaskStatus[None]) -> None:
        status = task_status
        while True:
            try:
                await database.serve(task_status=status)
            except LoopLost:
                status = trio.TASK_STATUS_IGNORED

    async with trio.open_nursery() as nursery:
        await nursery.start(keep_serving)
        await database.wait_up(wait_s)
        yield database
        nursery.cancel_scope.cancel()
