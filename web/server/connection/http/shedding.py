"""Who reads for connections at rest while the loop has more to do than it can (REL-74).

To turn a request away takes a few microseconds where it is done for hundreds in one step. In a task
of its own it takes as much again to wake that task and once more to have the kernel watch its
socket anew. So while `Overload.is_on` connections that wait for a request do it here: one task is
woken for all of them, reads, and shows each what came.

Rule 1: nothing is judged here. A connection reads its head by the one grammar, and has it answered
        at once or goes on with it in its own task.
Rule 2: no more are let through to their tasks in a turn than the loop served in such a turn before
        (`Overload.begin_shedding`); there they are asked again, by what was really worked.
Rule 3: whoever rests here is woken for anything else as ever: a drain, its end. Only its deadline
        is kept here too, and looked at once in the time that it gives: trio's list of them is moved
        by every answer, which costs more than all else that the rest of thousands does.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable

import outcome
import trio

from web.server.connection.overload import Overload

# Shown what was read; until when the connection rests on, where all of it was answered. Where not
# (None), its own task goes on with it.
Shed = Callable[[bytes], float | None]

# How often it is looked whose time is over, who then rests so much longer at most. Five seconds,
# the shortest time anybody has, are a lot more.
LOOKED_EVERY_S = 0.25


class _Rest:
    """One connection that is read for, and until when."""

    __slots__ = ("shed", "task", "until")

    def __init__(self, task: trio.lowlevel.Task, shed: Shed, until: float) -> None:
        self.task, self.shed, self.until = task, shed, until


class Shedder:
    """Reads for connections at rest; one for all connections of a server."""

    def __init__(self, overload: Overload, *, receive_bytes: int) -> None:
        self._overload = overload
        self._receive_bytes = receive_bytes
        # Linux only; elsewhere every connection waits by itself, always.
        self._poll: select.epoll | None = None
        self._resting: dict[int, _Rest] = {}
        # Ends a wait when somebody's time may be over: then.
        self._scope = trio.CancelScope()
        self._looks_at = math.inf
        # Who is to be looked at in which of these moments, and in which one somebody is: once each.
        # An answer moves the time of who rests, and not this: it is moved when it has come.
        self._due: dict[int, list[int]] = {}
        self._due_of: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Shedder of {len(self._resting)} connections>"

    def __len__(self) -> int:
        return len(self._resting)

    @property
    def is_on(self) -> bool:
        """Tell whether connections are to rest here."""
        return self._overload.is_on and self._poll is not None

    async def receive(self, number: int, shed: Shed, deadline: float) -> bytes | None:
        """Call this while `is_on`, to wait for bytes of a descriptor that were not all answered.

        They were shown to `shed` before, if `Overload.is_on` was still true; empty ones are of a
        client that left. None when the deadline is over, which every answer by `shed` moves; it is
        kept to `LOOKED_EVERY_S`. Cancelled, nothing was read.
        """
        poll = self._poll
        assert poll is not None, "nobody reads here now"
        poll.register(number, select.EPOLLIN)
        self._resting[number] = _Rest(trio.lowlevel.current_task(), shed, deadline)
        self._look_at(number, deadline)

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._leave(number)
            return trio.lowlevel.Abort.SUCCEEDED

        found: bytes | None = await trio.lowlevel.wait_task_rescheduled(leave)
        return found

    async def run(self) -> None:
        """Call this in a task beside the connections; ends by cancellation, behind all of them."""
        try:
            poll = select.epoll()
        except AttributeError:
            return
        with poll:
            self._poll = poll
            try:
                while True:
                    with trio.CancelScope(deadline=self._looks_at) as self._scope:
                        await trio.lowlevel.wait_readable(poll.fileno())
                        # All of them: whose request lies in the kernel meanwhile runs out of time.
                        self._read_all(poll.poll(0, max(1, len(self))))
                    if trio.current_time() >= self._looks_at:
                        self._end_late()
            finally:
                self._poll = None

    def _look_at(self, number: int, until: float) -> None:
        """Have this one looked at when its time is over, if not before."""
        if until == math.inf:
            return
        moment = math.ceil(until / LOOKED_EVERY_S)
        known = self._due_of.get(number)
        if known is not None and known <= moment:
            return
        self._due_of[number] = moment
        self._due.setdefault(moment, []).append(number)
        if moment * LOOKED_EVERY_S < self._looks_at:
            self._looks_at = self._scope.deadline = moment * LOOKED_EVERY_S

    def _end_late(self) -> None:
        """Wake those whose time is over, and say when somebody is to be looked at again."""
        now = trio.current_time()
        for moment in [one for one in self._due if one * LOOKED_EVERY_S <= now]:
            for number in self._due.pop(moment):
                if self._due_of.get(number) != moment:
                    continue  # it was looked at before: its time became shorter
                del self._due_of[number]
                rest = self._resting.get(number)
                if rest is None:
                    continue
                if rest.until > now:
                    self._look_at(number, rest.until)
                    continue
                self._leave(number)
                trio.lowlevel.reschedule(rest.task, outcome.Value(None))
        self._looks_at = min(self._due, default=math.inf) * LOOKED_EVERY_S

    def _read_all(self, events: list[tuple[int, int]]) -> None:
        self._overload.begin_shedding()
        for number, _ in events:
            # One that was cancelled since the kernel was asked is here no more.
            rest = self._resting.get(number)
            if rest is not None:
                self._read(number, rest)
        self._overload.end_shedding()

    def _read(self, number: int, rest: _Rest) -> None:
        try:
            data = os.read(number, self._receive_bytes)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        error: Exception | None = None
        if data:
            try:
                until = rest.shed(data)
            except Exception as raised:  # noqa: BLE001 - raised again in the connection's task
                # A bug in one connection ends that one.
                until, error = None, raised
            if until is not None:
                is_sooner, rest.until = until < rest.until, until
                if is_sooner:
                    self._look_at(number, until)
                return
        # Its pipe may have broken, and its task be cancelled.
        if number in self._resting:
            self._leave(number)
            found = outcome.Value(data) if error is None else outcome.Error(error)
            trio.lowlevel.reschedule(rest.task, found)

    def _leave(self, number: int) -> None:
        del self._resting[number]
        if self._poll is not None:
            try:
                self._poll.unregister(number)
            except OSError:
                pass  # closed, and so watched no more
