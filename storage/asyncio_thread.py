"""One asyncio loop on a thread of its own, for clients that need asyncio, called from trio.

Rule 1: a call ends on the trio side exactly once: with the outcome of its work, with
`Cancelled`, or with `StoreUnavailable` when the loop is lost. None hangs.
Rule 2: trio tasks are rescheduled on the trio thread only, asyncio tasks touched on the
loop's thread only; between them stand two queues and two wake-up calls.
Rule 3: a loop that stays silent is given up, never waited for: its thread cannot be killed,
so it is told to end by itself should it ever wake.

The road of a call, there and back:

    trio task    call: a `Job` into `_to_loop`, `_read_from_trio` woken if need be; then it
                 parks until somebody reschedules it
    loop         _begin: a task of the job's work; _finished: its outcome into `_to_trio`
    trio         _read_from_loop -> _answer: reschedules the parked task, once

Cancelling goes the same road (`_cancel` behind `_begin` in one queue, so never before it) and
comes back as an outcome like any other: trio is told "not yet" until the loop has ended the
work, because a query that goes on behind the caller's back would hold its connection.

Nothing here knows PostgreSQL or NATS. `postgres/connecting/database.py` puts a pool on it and
`link/nats.py` a connection; each is served by a `ServingActor`, whose next incarnation makes a new
one when it is lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, Never, Protocol, TypeVar, cast

import outcome
import trio
import uvloop

from actors.runtime import Actor
from storage.errors import StoreUnavailable

T = TypeVar("T")

# What the loop has in hand or in its queue. Enough for bursts of every session on a page,
# small enough that a stuck database is felt by the callers and not by memory.
HAND_OVER_MAX = 1000

# A cancelled piece of work gets this long to end; then its caller goes on without it.
CANCEL_GRACE_S = 1.0

# How often the loop is asked for a sign of life, and how long it may stay silent. Garbage
# collection and a busy machine cause tenths; two seconds mean that something blocks it.
PING_INTERVAL_S = 0.25
SILENCE_S_MAX = 2.0

# How long stopping waits for the thread before leaving it behind (it is a daemon thread).
JOIN_S_MAX = 5.0


class AsyncioThread:
    """A running asyncio loop that trio tasks hand coroutines to.

    `start`, `call`, `post_to_loop`, `watch` and `stop` are for the trio thread. Once lost or
    stopped it stays so; make a new one. `at_end` is called on the loop's thread, whatever ended
    the loop, before it is closed: to drop what the loop still holds open.
    """

    def __init__(
        self,
        name: str = "greenroom-asyncio",
        *,
        hand_over_max: int = HAND_OVER_MAX,
        silence_s_max: float = SILENCE_S_MAX,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        if hand_over_max < 1:
            raise ValueError(f"hand_over_max must be at least 1, got {hand_over_max}")
        if not silence_s_max > 0:
            raise ValueError(f"silence_s_max must be above 0, got {silence_s_max}")
        self.name = name
        self._hand_over_max = hand_over_max
        self._silence_s_max = silence_s_max
        self._at_end = at_end
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._jobs: set[Job[Any]] = set()
        self._room = trio.lowlevel.ParkingLot()
        self._lost = trio.Event()
        self._reason: str | None = None
        self._pongs = 0
        # Two queues, each with a flag that says whether its reader has been woken already:
        # many entries cost one wake-up. No lock: a deque's ends may be used by two threads,
        # and the order is what makes the flag safe. A writer appends and then looks at the
        # flag; a reader clears the flag and then empties the queue. So an entry is either
        # seen by the reader that was woken, or its writer finds the flag down and wakes
        # another. The worst of it is a wake-up for nothing.
        self._to_loop: deque[Callable[[], None]] = deque()
        self._is_loop_woken = False
        self._to_trio: deque[Callable[[], None]] = deque()
        self._is_trio_woken = False
        self._is_closing = False  # the loop's thread alone reads and writes it

    def __repr__(self) -> str:
        state = self._reason or ("running" if self._loop is not None else "not started")
        return f"<AsyncioThread {self.name}: {state}, {len(self._jobs)} calls>"

    @property
    def is_running(self) -> bool:
        """Call this to ask whether calls are taken now."""
        return self._loop is not None and self._reason is None

    @property
    def reason(self) -> str | None:
        """Call this to learn why it ended; None while it runs."""
        return self._reason

    async def start(self) -> None:
        """Call this once to start the thread; returns when its loop turns."""
        if self._thread is not None:
            raise RuntimeError(f"{self.name} was started before; make a new one")
        self._token = trio.lowlevel.current_trio_token()
        ready = trio.Event()
        self._thread = threading.Thread(
            target=self._run_loop, args=(ready,), name=self.name, daemon=True
        )
        self._thread.start()
        await ready.wait()

    async def call(self, work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Call this to run `work(*args)` on the loop and wait for its outcome.

        Raises what the work raises, and `StoreUnavailable` when the loop is lost before it
        answered. Cancelling cancels the work and waits at most a second for its end; work
        that was over by then gives its outcome instead.
        """
        while len(self._jobs) >= self._hand_over_max and self._reason is None:
            await self._room.park()
        if self._loop is None or self._reason is not None:
            reason = self._reason or "its thread is not started"
            raise StoreUnavailable(reason, nothing_written=True)
        job = Job(work, args, trio.lowlevel.current_task())
        self._jobs.add(job)
        self.post_to_loop(partial(self._begin, job))

        # Called by trio at most once, when the task's scope is cancelled while it is parked.
        # FAILED means that the task stays parked: `_answer` wakes it, by raising `Cancelled`
        # through `raise_cancel` or with the outcome of work that was over all the same.
        def withdraw(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            job.raise_cancel = raise_cancel
            self.post_to_loop(partial(self._cancel, job))
            return trio.lowlevel.Abort.FAILED

        return cast(T, await trio.lowlevel.wait_task_rescheduled(withdraw))

    async def watch(self) -> str:
        """Call this to wait until the loop is lost; returns the reason.

        It is the watch itself that notices a silent loop, so whoever starts the thread keeps
        one task in here.
        """
        seen = self._pongs
        while True:
            self.post_to_loop(self._pong)
            with trio.move_on_after(self._silence_s_max):
                while self._pongs == seen and not self._lost.is_set():
                    with trio.move_on_after(PING_INTERVAL_S):
                        await self._lost.wait()
            # A trio loop that stood still itself must not accuse the other: let it read first.
            await trio.lowlevel.checkpoint()
            if self._reason is None and self._pongs == seen:
                self._give_up(f"{self.name} did not turn for {self._silence_s_max:g} s")
            if self._reason is not None:
                return self._reason
            seen = self._pongs
            with trio.move_on_after(PING_INTERVAL_S):
                await self._lost.wait()

    async def stop(self, join_s: float = JOIN_S_MAX) -> None:
        """Call this to end the loop and its thread; calls in flight fail as unavailable.

        A thread that does not end in `join_s` is left behind; it ends when it wakes.
        """
        if self._thread is None:
            return
        self._give_up(f"{self.name} was stopped")
        with trio.move_on_after(join_s, shield=True):
            await trio.to_thread.run_sync(self._thread.join, abandon_on_cancel=True)

    # On the trio thread.

    def _give_up(self, reason: str) -> None:
        """Fail every call in flight and tell the loop to end should it still turn."""
        if self._reason is not None:
            return
        self._reason = reason
        self._lost.set()
        # From here no job is taken, so these are all there will ever be. Outcomes that the
        # loop sends later find their jobs answered.
        for job in tuple(self._jobs):
            self._answer(job, outcome.Error(StoreUnavailable(reason)))
        self._room.unpark_all()
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._stop_turning)
            except RuntimeError:
                pass  # it is closed already: that is how it was lost
        # A thread that blocks for ever is left behind as it is. It is a daemon, so the process
        # can end; its sessions are cut off by whoever owns them (`Pool.cut_off`).

    def _answer(self, job: Job[T], result: outcome.Outcome[T]) -> None:
        if job.is_answered:
            return
        job.is_answered = True
        self._jobs.discard(job)
        self._room.unpark()
        # A call that was told to end and ended so, or whose loop was lost meanwhile, ends as
        # trio's `Cancelled`. Any other outcome is news its caller must have, although
        # cancelled: a commit that happened, an error that says nothing happened.
        if job.raise_cancel is not None and isinstance(result, outcome.Error):
            if isinstance(result.error, asyncio.CancelledError | StoreUnavailable):
                result = outcome.capture(job.raise_cancel)
        # Ended without being asked to: by `_close`, or by the work itself. asyncio's word for
        # it means nothing on this side, where it would tear its nursery down.
        elif isinstance(result, outcome.Error) and isinstance(result.error, asyncio.CancelledError):
            result = outcome.Error(StoreUnavailable(f"{self.name} dropped the call"))
        trio.lowlevel.reschedule(job.waiter, result)

    def _read_from_loop(self) -> None:
        # Cleared before reading: an entry that comes while we read wakes us again.
        self._is_trio_woken = False
        while self._to_trio:
            self._to_trio.popleft()()

    def post_to_loop(self, call: Callable[[], None]) -> None:
        """Call this on the trio thread to run a plain function on the loop's; lost with the loop.

        What is posted has no bound here: whoever posts without waiting keeps one.
        """
        self._to_loop.append(call)
        if self._is_loop_woken or self._loop is None:
            return
        self._is_loop_woken = True
        try:
            self._loop.call_soon_threadsafe(self._read_from_trio)
        except RuntimeError:
            self._give_up(f"{self.name} is closed")

    # On the loop's thread.

    def _run_loop(self, ready: trio.Event) -> None:
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        reason = f"{self.name} stopped by itself"
        try:
            self._loop = loop
            self.post_to_trio(ready.set)
            loop.run_forever()
        except Exception as error:  # noqa: BLE001  (whatever ends the loop is the reason it is lost)
            reason = f"{self.name} died: {error!r}"
        finally:
            # `_close` turns the loop again to clean up: a stop that was on its way must not
            # end that half-way.
            self._is_closing = True
            self.post_to_trio(partial(self._give_up, reason))
            _close(loop, self._at_end)

    def post_to_trio(self, call: Callable[[], None]) -> None:
        """Call this on the loop's thread to run a plain function on the trio thread."""
        self._to_trio.append(call)
        if self._is_trio_woken:
            return
        self._is_trio_woken = True
        assert self._token is not None
        try:
            self._token.run_sync_soon(self._read_from_loop)
        except trio.RunFinishedError:
            pass  # trio is over: nobody is left to be told

    def _stop_turning(self) -> None:
        if not self._is_closing and self._loop is not None:
            self._loop.stop()

    def _read_from_trio(self) -> None:
        self._is_loop_woken = False
        while self._to_loop:
            self._to_loop.popleft()()

    def _begin(self, job: Job[Any]) -> None:
        assert self._loop is not None
        if self._reason is not None:
            return  # given up, and the job is answered with the reason
        job.running = self._loop.create_task(job.work(*job.args))
        job.running.add_done_callback(partial(self._finished, job))

    def _finished(self, job: Job[Any], task: asyncio.Task[Any]) -> None:
        result: outcome.Outcome[Any]
        if task.cancelled():
            result = outcome.Error(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            result = outcome.Error(error)
        else:
            result = outcome.Value(task.result())
        self.post_to_trio(partial(self._answer, job, result))

    def _cancel(self, job: Job[Any]) -> None:
        assert self._loop is not None
        if job.running is None:
            return  # as in `_begin`, which came before
        job.running.cancel()
        # Work that resists is left to itself: the caller goes on without it, and the answer it
        # may still give finds the job answered. Its connection is not lent before it ends.
        cancelled = partial(self._answer, job, outcome.Error(asyncio.CancelledError()))
        self._loop.call_later(CANCEL_GRACE_S, self.post_to_trio, cancelled)

    def _pong(self) -> None:
        self.post_to_trio(self._count_pong)

    def _count_pong(self) -> None:
        self._pongs += 1


class Job(Generic[T]):
    """One call on its way: the work, the trio task that waits, and how far it came."""

    __slots__ = ("args", "is_answered", "raise_cancel", "running", "waiter", "work")

    def __init__(
        self,
        work: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
        waiter: trio.lowlevel.Task,
    ) -> None:
        self.work, self.args, self.waiter = work, args, waiter
        self.running: asyncio.Task[T] | None = None
        self.raise_cancel: Callable[[], Any] | None = None
        self.is_answered = False


class Served(Protocol):
    """What is put on such a thread, anew each time it is served."""

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Call this to serve it until it is lost; started when its loop turns."""


class ServingActor(Actor[Never]):
    """Serves one handle for as long as it lives: what is lost is a crash, and is restarted.

    It takes no messages: others hold the handle itself, whose address they never lose.
    """

    def __init__(self, served: Served) -> None:
        self._served = served

    async def on_start(self) -> None:
        """Start the loop; it ends with this incarnation."""
        ready = _Started()
        self.start_soon(self._serve, ready)
        await ready.event.wait()

    async def _serve(self, ready: _Started) -> None:
        await self._served.serve(task_status=ready)


class _Started:
    """What `nursery.start` would pass, for a task of an actor."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def started(self, value: None = None) -> None:
        self.event.set()


def _close(loop: asyncio.AbstractEventLoop, at_end: Callable[[], None]) -> None:
    """End what is left on a stopped loop, let it clean up for a moment, close it."""
    _end_tasks(loop)
    at_end()
    _end_tasks(loop)  # those that the end of others set going
    loop.run_until_complete(loop.shutdown_asyncgens())
    # Transports that were aborted close at the next turn; a closed loop would leave them open.
    loop.run_until_complete(asyncio.sleep(0.001))
    asyncio.set_event_loop(None)
    loop.close()


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_GRACE_S))
