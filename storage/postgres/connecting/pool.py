"""The connections to one database: lent one at a time to pieces of work.

Everything here runs on the asyncio thread, except `statistics` and `cut_off`, which other
threads may call. `database.py` is the side that trio tasks see.

Rule 1: never more than `connections_max` sessions, the ones that listen included.
Rule 2: a connection goes back only when it is known to be idle and outside a transaction;
one that does not become so within a second is ended.
Rule 3: a session is trusted while nothing speaks against it. An error that says that the server
is no place for work ends all that are as old, also those that answer; one that does not answer
has the others that were quiet asked, all at once.

How a query is cancelled: the task that waits for it is cancelled, and asyncpg then asks the
server, over a connection of its own, to cancel what runs on ours. Until the server has said
so the connection is busy, and whether the statement happened is not known. Its caller does
not wait for that: `run` ends, and `_settle` brings the connection back to idle behind its
back with a ROLLBACK, which also undoes a transaction left open. A COMMIT that was on its way
is done or is not; of a half nobody ever hears.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from actors.runtime import Secret
from actors.runtime.words.tallies import Histogram
from storage.errors import (
    PoolExhausted,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from storage.postgres.connecting.session import (
    CONNECT_S_MAX,
    Connection,
    Member,
    connect,
    ends_trust,
    translate,
)

T = TypeVar("T")
Work: TypeAlias = Callable[..., Coroutine[Any, Any, T]]
"""What runs on a connection, in the thread of the loop: the connection comes first."""

# A work's time, unless it or the settings name another. With the second that settling may take
# it stays under the five in which a caller of a frozen database must have its answer.
OPERATION_S_MAX = 4.0
SETTLE_S_MAX = 1.0

# After a failed connect callers fail at once for so long, and then one of them tries again while
# the others wait in line: no crowd meets a starting database.
RECONNECT_PAUSE_S = 0.5

# How often idle and old connections are looked for.
SWEEP_S = 5.0

# How late a deadline may be noticed; limits are seconds.
DEADLINE_GRAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The limits of a pool (STORE-33) and the settings of its sessions (STORE-23)."""

    connections_min: int = 2
    connections_max: int = 10
    acquire_s_max: float = 5.0
    operation_s_max: float = OPERATION_S_MAX
    idle_s_max: float = 600.0
    lifetime_s_max: float = 1800.0
    test_after_idle_s: float = 30.0
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 5.0
    idle_in_transaction_s_max: float = 60.0
    # Ten seconds above nine tenths is load, not a burst.
    saturated_above: float = 0.9
    saturated_after_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.connections_max <= 200:
            raise ValueError(f"connections_max must be 1 to 200, got {self.connections_max}")
        for name in (
            "acquire_s_max",
            "operation_s_max",
            "idle_s_max",
            "lifetime_s_max",
            "statement_timeout_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in (
            "connections_min",
            "test_after_idle_s",
            "lock_timeout_s",
            "idle_in_transaction_s_max",
            "saturated_above",
            "saturated_after_s",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def session(self, part: str) -> dict[str, str]:
        """Call this to get what a new session is set to; times go as milliseconds."""
        return {
            "application_name": f"greenroom:{part}",
            "statement_timeout": f"{self.statement_timeout_s * 1000:.0f}",
            "lock_timeout": f"{self.lock_timeout_s * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction_s_max * 1000:.0f}",
            # Our statements are small: compiling them costs more than running them.
            "jit": "off",
        }


@dataclass(frozen=True, slots=True)
class PoolStats:
    """How the pool is; `is_saturated` degrades health."""

    size: int
    idle: int
    in_use: int
    waiting: int
    connections_max: int
    utilization: float
    is_saturated: bool


# Of a caller: the trace that it is in, and when, by its own clock.
Trace: TypeAlias = tuple[str, float]


class Pool:
    """Connections of one database; opens them as needed, keeps a few, renews the old."""

    def __init__(
        self,
        url: Secret[str],
        part: str,
        settings: PoolSettings,
        waits: Histogram | None = None,
    ) -> None:
        # How long callers wait, a connect included; noted on the loop alone.
        self._waits = Histogram() if waits is None else waits
        self._url, self._part, self._settings = url, part, settings
        self._all: set[Member] = set()
        self._idle: list[Member] = []  # used as a stack: the warmest is lent first
        self._opening = 0
        self._apart = 0  # lent out by `connect`, for as long as the loop turns
        self._waiters: deque[asyncio.Future[Member | None]] = deque()
        self._trusted_from = 0.0  # sessions born before are ended when they are next seen
        # Since a connect failed: until when nobody tries, why, and whether somebody does now.
        self._is_down = self._is_probing = False
        self._down_until = 0.0
        self._down_reason = ""
        self._load = Load(settings)
        self._deadlines = Deadlines()
        self._background: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return "<Pool {0.in_use}/{0.connections_max} in use>".format(self.statistics())

    def statistics(self) -> PoolStats:
        """Call this from any thread to see the pool's load."""
        most, idle = self._most(), len(self._idle)
        in_use = self._size() - idle - self._apart
        return PoolStats(
            size=self._size(),
            idle=idle,
            in_use=in_use,
            waiting=len(self._waiters),
            connections_max=self._settings.connections_max,
            utilization=in_use / most,
            is_saturated=self._load.is_saturated(time.monotonic()),
        )

    def cut_off(self) -> None:
        """Call this from any thread to end all sessions of a loop that turns no more."""
        for member in tuple(self._all):
            member.cut_off()

    async def run(
        self,
        work: Work[T],
        *args: Any,
        begin: str | None = None,
        timeout_s: float = OPERATION_S_MAX,
        trace: Trace | None = None,
    ) -> T:
        """Call this to run `work(connection, *args)`, in this trace, where it is kept.

        With `begin` (such as `BEGIN READ ONLY`) the work stands in a transaction that an
        error or cancellation rolls back; without it each statement commits by itself.
        """
        began = time.monotonic()
        try:
            member = await self._acquire()
        finally:
            waited = time.monotonic() - began
            self._waits.note(waited)
            if trace is not None:
                self._waits.note_example(waited, *trace)
        task = asyncio.current_task()
        assert task is not None, "work runs in tasks"
        is_done = False
        self._deadlines.begin(task, timeout_s)
        try:
            if begin is not None:
                await member.connection.execute(begin)
            result = await work(member.connection, *args)
            if begin is not None:
                await member.connection.execute("COMMIT")
            is_done = True
        except asyncio.CancelledError:
            if not self._deadlines.is_overdue(task):
                raise
            # Ours, for being late, and an error from here on. Whoever swallows a cancellation has
            # to tell the task, which otherwise counts it as still to come.
            task.uncancel()
            raise StoreTimeout(timeout_s) from None
        except Exception as error:
            if ends_trust(self._url, error):
                self._distrust_all()
            word = translate(error, timeout_s)
            # None: a bug of ours, or what the work itself raised.
            if word is None or word is error:
                raise
            raise word from error
        finally:
            self._deadlines.end(task)
            if is_done:
                self._put_back(member)
            else:
                self._spawn(self._settle(member))
        return result

    async def connect(self, part: str, **settings: str) -> Connection:
        """Call this for a connection apart, counted too; `PoolExhausted` when there is no room."""
        if self._size() >= self._settings.connections_max:
            raise PoolExhausted(len(self._waiters), self._settings.connections_max)
        if self._is_probing:
            raise self._away()
        session = {**self._settings.session(f"{self._part}-{part}"), **settings}
        is_open = False
        self._apart += 1
        try:
            connection = await self._connect(session, CONNECT_S_MAX, is_apart=True)
            is_open = True
        finally:
            if not is_open:
                self._apart -= 1
                self._hand_on(None)
        self._let_in()
        return connection

    def disconnect(self, connection: Connection) -> None:
        """Call this once to end a connection of `connect`."""
        connection.terminate()
        self._apart -= 1
        self._hand_on(None)

    async def fill(self) -> None:
        """Call this to have the least number of connections ready; raises when it cannot."""
        least = min(self._settings.connections_min, self._settings.connections_max)
        while self._size() < least:
            self._put_back(await self._open(CONNECT_S_MAX))

    async def sweep_for_ever(self) -> None:
        """Call this as a task: ends connections that are idle or old, keeps the least number."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for member in tuple(self._idle):
                is_spare = len(self._all) > self._settings.connections_min
                is_unused = now - member.used_at > self._settings.idle_s_max
                if member.is_older_than(self._settings.lifetime_s_max, now) or (
                    is_spare and is_unused
                ):
                    self._end(member)
            try:
                await self.fill()
            except StoreError:
                pass  # the next caller is told the reason, the next sweep tries again

    async def close(self) -> None:
        """Call this to end all connections, giving idle ones a moment to say goodbye."""
        idle = [member.connection.close(timeout=SETTLE_S_MAX) for member in self._idle]
        await asyncio.gather(*idle, return_exceptions=True)
        self.drop()

    def drop(self) -> None:
        """Call this when the loop has ended, before it is closed: ends all without goodbye."""
        for member in tuple(self._all):
            member.connection.terminate()

    async def _acquire(self) -> Member:
        deadline = time.monotonic() + self._settings.acquire_s_max
        is_called = False  # there is room, and it is our turn: those in line come behind us
        while True:
            now = time.monotonic()
            if self._idle:
                member = self._idle.pop()
                self._note_load(now)
            elif self._has_room() and (is_called or not self._waiters):
                return await self._open(min(CONNECT_S_MAX, deadline - now))
            else:
                handed = await self._wait_for_one(deadline - now)
                is_called = handed is None
                if handed is None:
                    continue
                member = handed
            if await self._is_usable(member, now):
                return member

    def _has_room(self) -> bool:
        return self._size() < self._settings.connections_max and not self._is_probing

    def _away(self) -> StoreUnavailable:
        return StoreUnavailable(self._down_reason, nothing_written=True)

    async def _wait_for_one(self, patience_s: float) -> Member | None:
        """Wait in line for a connection; None means that there is room for a new one."""
        waiter: asyncio.Future[Member | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        is_taken = False
        try:
            async with asyncio.timeout(patience_s):
                member = await waiter
            is_taken = True
        except TimeoutError:
            if self._is_down:
                raise self._away() from None
            most = self._settings.connections_max
            raise PoolExhausted(len(self._waiters), most) from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not is_taken and waiter.done() and not waiter.cancelled():
                # A connection was put into our future, and we were cancelled or too late in the
                # same turn of the loop: the next in line gets it, or it would be lost.
                self._pass_on(waiter.result())
        return member

    async def _open(self, timeout_s: float) -> Member:
        # Counted before the await: others that open meanwhile must see the room taken.
        self._opening += 1
        is_open = False
        try:
            connection = await self._connect(self._settings.session(self._part), timeout_s)
            is_open = True
        finally:
            self._opening -= 1
            if not is_open:
                # Refused, or its caller gone: the room is the next one's, who else sits in line
                # for a connection that nobody opens.
                self._hand_on(None)
        # No await between `_opening` going down and this, so that nobody sees it missing.
        member = Member(connection)
        self._all.add(member)
        connection.add_termination_listener(lambda _connection: self._forget(member))
        self._let_in()
        return member

    def _let_in(self) -> None:
        """Whoever waited for an attempt that came about may open one too, and lets in the next."""
        if self._has_room():
            self._hand_on(None)

    async def _connect(
        self, session: dict[str, str], timeout_s: float, *, is_apart: bool = False
    ) -> Connection:
        """Connect, if it may be tried; the first after a failure is tried alone."""
        now = time.monotonic()
        if now < self._down_until:
            raise self._away()  # who waits in line is told in turn
        self._note_load(now)
        self._is_probing = is_probing = self._is_down
        try:
            connection = await connect(self._url, session, timeout_s)
        except StoreError as error:
            if is_apart and not isinstance(error, StoreUnavailable):
                raise  # for what it asks of its session, which the others do not
            self._is_down, self._down_until = True, time.monotonic() + RECONNECT_PAUSE_S
            self._down_reason = error.reason if isinstance(error, StoreUnavailable) else str(error)
            raise
        finally:
            if is_probing:
                self._is_probing = False
        self._is_down, self._down_until = False, 0.0
        return connection

    async def _is_usable(self, member: Member, now: float) -> bool:
        if (
            member.connection.is_closed()
            or member.is_older_than(self._settings.lifetime_s_max, now)
            or member.born_at < self._trusted_from
        ):
            self._end(member)
            return False
        if now - member.used_at <= self._settings.test_after_idle_s:
            return True
        return await self._answers(member, "SELECT 1")

    async def _settle(self, member: Member) -> None:
        """Bring a connection whose work did not end well back to idle, or end it."""
        # Waits for a query being cancelled; outside a transaction it only warns the log.
        is_lost = member.connection.is_closed()
        if await self._answers(member, "ROLLBACK"):
            self._put_back(member)
        elif not is_lost:
            self._ask_the_quiet()

    async def _answers(self, member: Member, statement: str) -> bool:
        is_answered = False
        try:
            is_answered = await member.answers(statement, SETTLE_S_MAX)
        finally:
            if not is_answered:
                self._end(member)
        return is_answered

    def _distrust_all(self) -> None:
        """End what is idle now, and what is in use when it comes back."""
        self._trusted_from = time.monotonic()
        for member in tuple(self._idle):
            self._end(member)

    def _ask_the_quiet(self) -> None:
        """One line fell silent: have all that were quiet meanwhile asked, side by side.

        Each would cost a caller his whole patience else, one after the other.
        """
        quiet_since = time.monotonic() - SETTLE_S_MAX
        for member in tuple(self._idle):
            if member.used_at < quiet_since:
                self._idle.remove(member)
                self._spawn(self._settle(member))

    def _put_back(self, member: Member) -> None:
        member.used_at = time.monotonic()
        if (
            member.connection.is_closed()
            or member.connection.is_in_transaction()
            or member.born_at < self._trusted_from
        ):
            self._end(member)
            return
        self._pass_on(member)

    def _pass_on(self, member: Member | None) -> None:
        if not self._hand_on(member) and member is not None:
            self._idle.append(member)
            self._note_load(member.used_at)

    def _hand_on(self, member: Member | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(member)
                return True
        return False

    def _end(self, member: Member) -> None:
        member.connection.terminate()
        self._forget(member)

    def _forget(self, member: Member) -> None:
        if member in self._all:
            self._all.discard(member)
            if member in self._idle:
                self._idle.remove(member)
            # None: there is room, and the first in line may open one itself.
            self._hand_on(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        # The loop itself holds tasks weakly: unkept, one may vanish half-way.
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _size(self) -> int:
        return len(self._all) + self._opening + self._apart

    def _most(self) -> int:
        """How many may be lent at once."""
        return self._settings.connections_max - self._apart

    def _note_load(self, now: float) -> None:
        self._load.note((self._size() - len(self._idle) - self._apart) / self._most(), now)


class Load:
    """Since when a pool is nearly all in use."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._busy_since: float | None = None

    def note(self, used: float, now: float) -> None:
        """Call this with the part in use whenever it changes."""
        if used <= self._settings.saturated_above:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now

    def is_saturated(self, now: float) -> bool:
        """Call this from any thread to ask whether that has lasted too long."""
        since = self._busy_since
        return since is not None and now - since >= self._settings.saturated_after_s


class Deadlines:
    """Which tasks work until when, with one timer: a timer each would cost more than it gives.

    Work that is overdue is cancelled; `Pool.run` tells that cancellation from others by
    asking `is_overdue`.
    """

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any], timeout_s: float) -> None:
        """Call this when a task begins its work."""
        loop = asyncio.get_running_loop()
        self._until[task] = loop.time() + timeout_s
        if self._timer is None:
            self._timer = loop.call_later(DEADLINE_GRAIN_S, self._look, loop)

    def is_overdue(self, task: asyncio.Task[Any]) -> bool:
        """Call this in a cancelled task to learn whether it was cancelled for being late."""
        return task in self._overdue

    def end(self, task: asyncio.Task[Any]) -> None:
        """Call this when the work ended, however it did."""
        del self._until[task]
        self._overdue.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, until in tuple(self._until.items()):
            if until <= now and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        # With nothing in hand the timer rests.
        self._timer = loop.call_later(DEADLINE_GRAIN_S, self._look, loop) if self._until else None
