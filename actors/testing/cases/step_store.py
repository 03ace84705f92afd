"""A reducer under test, step by step: what its effects produce waits until the test takes it.

    async with StepStore(till, env, Till()) as store:
        handle = await store.send(Pay(5))
        await store.receive(Paid(5))
        assert store.state() == Till(5)

Effects are carried out as by the actor, on trio's clock: a virtual one is what one wants. Only
their feedback is different: it is queued, and the test decides in which order it is reduced.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Generic, Never, Self, TypeVar, cast

import trio
import trio.testing

from actors.reducers import (
    Effect,
    EffectHandle,
    Environment,
    Interpreter,
    Next,
    Reducer,
    Reply,
)
from actors.reducers.performing import Counts, Job, Performing, Work
from actors.reducers.reducer import check_reducer

S = TypeVar("S")
A = TypeVar("A")

# In virtual time: more than any time-out of an effect that has a default.
RECEIVE_S: Final = 30.0


class ActionNotFound(AssertionError):
    """No action in the queue is the expected one."""

    def __init__(self, expected: object, queue: tuple[object, ...]) -> None:
        super().__init__(f"no {_named(expected)} in the queue, which holds {queue!r}")
        self.expected, self.queue = expected, queue


class WrongOrder(AssertionError):
    """The expected action is in the queue, and another one before it."""

    def __init__(self, index: int, expected: object, got: object) -> None:
        super().__init__(f"number {index} was to be {_named(expected)}, but {got!r} came first")
        self.index, self.expected, self.got = index, expected, got


class ReceiveTimeout(AssertionError):
    """No action came for as long as `receive_after` waits."""

    def __init__(self, expected: object, waited_s: float, running: list[str]) -> None:
        names = ", ".join(running) or "no effect"
        super().__init__(f"no {_named(expected)} came in {waited_s:g} s; still running: {names}")
        self.expected, self.running = expected, running


class StepStore(Generic[S, A]):
    """Reduces what it is sent; queues what comes of it. Use it by `async with`.

    Leaving the block with actions that nobody received, or effects that run, is an AssertionError
    with all of them; effects are cancelled.
    """

    def __init__(
        self,
        reducer: Reducer[S, A, Never],
        env: Environment,
        state: S,
        *,
        interpreters: Mapping[type[Effect], Interpreter] | None = None,
    ) -> None:
        check_reducer(reducer, "StepStore(...)")
        self._reducer, self._env = reducer, env
        self._state = copy.deepcopy(state) if reducer.in_place else state
        self._performing = Performing(self, env, dict(interpreters or {}), Counts())
        self._queue: list[tuple[object, Job]] = []
        self._came = trio.Event()
        self._failures: list[tuple[Effect, Exception]] = []
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Self:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        left = None
        if error is None:
            await trio.testing.wait_all_tasks_blocked()
            left = self._left_over()
        self._nursery.cancel_scope.cancel()
        # Not told of the error: it would put a group around it, and a test wants the error itself.
        await self._manager.__aexit__(None, None, None)
        if left is not None:
            raise left

    async def send(self, action: A) -> EffectHandle:
        """Call this to reduce an action and to run its effects; returns when those have settled.

        Settled is what has ended, or waits: for time, or for the test.
        """
        handle = EffectHandle(is_cascade=False)
        self._reduce(action, handle)
        await trio.testing.wait_all_tasks_blocked()
        return handle

    async def receive(self, *expected: object) -> None:
        """Call this with what must come, in order: each is taken off the front, and reduced.

        A value is equal to the action, a class is its class, a function says whether it is.
        """
        for index, one in enumerate(expected):
            at = self._found(one)
            if at != 0:
                raise WrongOrder(index, one, self._queue[0][0])
            await self._take(0)

    async def receive_any_order(self, *expected: object) -> None:
        """Call this with what must be there: each is taken wherever it is, in this order."""
        for one in expected:
            await self._take(self._found(one))

    async def receive_after(self, expected: object, handle: EffectHandle | None = None) -> None:
        """Call this for what is still to come of the effects of a `send`; at most 30 s.

        Without its handle it may come of whatever runs.
        """
        began = trio.current_time()
        with trio.move_on_after(RECEIVE_S):
            while not self._queue and self._is_to_come(handle):
                await self._came.wait()
        if not self._queue:
            waited_s = trio.current_time() - began
            raise ReceiveTimeout(expected, waited_s, self._performing.names())
        await self.receive(expected)

    def peek(self) -> object:
        """Call this for the action at the front, None without any; it stays there."""
        return self._queue[0][0] if self._queue else None

    def state(self) -> S:
        """Call this for the state after all that was sent and received; a copy where it changes."""
        return copy.deepcopy(self._state) if self._reducer.in_place else self._state

    def assert_empty(self) -> None:
        """Call this to be sure that nothing waits and nothing runs."""
        left = self._left_over()
        if left is not None:
            raise left

    # As an actor is to its effects

    @property
    def cell(self) -> None:
        """It is no actor."""
        return None

    async def feed(self, job: Job, action: object) -> None:
        """Called by an effect: queue an action; returns when the test has received it."""
        job.action, job.reduced = action, trio.Event()
        self._queue.append((action, job))
        came, self._came = self._came, trio.Event()
        came.set()
        try:
            await job.reduced.wait()
        finally:
            self._queue = [one for one in self._queue if one[1] is not job]

    def lost(self, effect: Effect, error: Exception) -> None:
        """Called when an effect has failed and nobody makes an action of that."""
        self._failures.append((effect, error))

    def start_soon(self, task: Callable[[Work], Awaitable[object]], work: Work, /) -> None:
        """Start an effect."""
        if self._nursery is None:
            raise RuntimeError("a StepStore is used by `async with`")
        self._nursery.start_soon(task, work)

    # Inside

    def _is_to_come(self, handle: EffectHandle | None) -> bool:
        return bool(self._performing.jobs if handle is None else handle.pending)

    def _found(self, expected: object) -> int:
        for at, (action, _) in enumerate(self._queue):
            if _matches(expected, action):
                return at
        raise ActionNotFound(expected, tuple(action for action, _ in self._queue))

    async def _take(self, at: int) -> None:
        action, job = self._queue.pop(at)
        self._reduce(cast("A", action), None)
        job.was_reduced()
        await trio.testing.wait_all_tasks_blocked()

    def _reduce(self, action: A, handle: EffectHandle | None) -> None:
        after: Next[S] = self._reducer.reduce(self._state, action, cast("Never", self._env))
        self._state = after.state
        counting = () if handle is None else (handle,)
        for one in after.effects:
            if not isinstance(one, Reply):
                self._performing.start(one, (), counting)

    def _left_over(self) -> AssertionError | None:
        lines = [f"nobody received {action!r}" for action, _ in self._queue]
        queued = {id(job) for _, job in self._queue}
        lines += [
            f"still running: {job.name}" for job in self._performing.jobs if id(job) not in queued
        ]
        lines += [f"{effect!r} has failed: {error!r}" for effect, error in self._failures]
        return AssertionError("\n".join(lines)) if lines else None


def _matches(expected: object, action: object) -> bool:
    if isinstance(expected, type):
        return isinstance(action, expected)
    if callable(expected):
        return bool(expected(action))
    return bool(expected == action)


def _named(expected: object) -> str:
    return expected.__name__ if isinstance(expected, type) else repr(expected)
