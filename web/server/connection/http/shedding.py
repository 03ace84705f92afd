"""Who reads for connections at rest while the loop has more to do than it can (REL-74).

To turn a request away takes a few microseconds where it is done for hundreds in one step. In a task
of its own it takes as much again to wake that task and once more to have the kernel watch its
socket anew. So while `Overload.is_on` connections that wait for a request do it here: one task is
woken for all of them, reads, and shows each what came.

Rule 1: nothing is judged here. A connection reads its head by the one grammar, and has it answered
        at once or goes on with it in its own task.
Rule 2: no more are let through to their tasks in a turn than the loop served in such a turn before
        (`Overload.begin_shedding`); there they are asked again, by what was really worked.
Rule 3: whoever rests here is woken for anything else as ever: its deadline, a drain, its end.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

import outcome
import trio

from web.server.connection.overload import Overload

# Shown what was read; whether all of it was answered, so that the connection rests on. Where not,
# its own task goes on with it.
Shed = Callable[[bytes], bool]

_NOTHING = outcome.Value(False)


class Shedder:
    """Reads for connections at rest; one for all connections of a server."""

    def __init__(self, overload: Overload, *, receive_bytes: int) -> None:
        self._overload = overload
        self._receive_bytes = receive_bytes
        # Linux only; elsewhere every connection waits by itself, always.
        self._poll: select.epoll | None = None
        self._resting: dict[int, tuple[trio.lowlevel.Task, Shed]] = {}

    def __repr__(self) -> str:
        return f"<Shedder of {len(self._resting)} connections>"

    def __len__(self) -> int:
        return len(self._resting)

    @property
    def is_on(self) -> bool:
        """Tell whether connections are to rest here."""
        return self._overload.is_on and self._poll is not None

    async def receive(self, number: int, shed: Shed) -> bytes:
        """Call this while `is_on`, to wait for bytes of a descriptor that were not all answered.

        They were shown to `shed` before, if `Overload.is_on` was still true; empty ones are of a
        client that left. Cancelled, nothing was read.
        """
        poll = self._poll
        assert poll is not None, "nobody reads here now"
        poll.register(number, select.EPOLLIN)
        self._resting[number] = trio.lowlevel.current_task(), shed

        def leave(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._leave(number)
            return trio.lowlevel.Abort.SUCCEEDED

        found: bytes = await trio.lowlevel.wait_task_rescheduled(leave)
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
                    await trio.lowlevel.wait_readable(poll.fileno())
                    # All of them: whose request lies in the kernel meanwhile runs out of time.
                    self._read_all(poll.poll(0, max(1, len(self))))
            finally:
                self._poll = None

    def _read_all(self, events: list[tuple[int, int]]) -> None:
        self._overload.begin_shedding()
        for number, _ in events:
            # One that was cancelled since the kernel was asked is here no more.
            if number in self._resting:
                self._read(number)
        self._overload.end_shedding()

    def _read(self, number: int) -> None:
        task, shed = self._resting[number]
        try:
            data = os.read(number, self._receive_bytes)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        answered = outcome.capture(shed, data) if data else _NOTHING
        if isinstance(answered, outcome.Value) and answered.value:
            return
        # Its pipe may have broken, and its task be cancelled.
        if number in self._resting:
            self._leave(number)
            # A bug in one connection ends that one, as in its task.
            is_bug = isinstance(answered, outcome.Error)
            trio.lowlevel.reschedule(task, answered if is_bug else outcome.Value(data))

    def _leave(self, number: int) -> None:
        del self._resting[number]
        if self._poll is not None:
            try:
                self._poll.unregister(number)
            except OSError:
                pass  # closed, and so watched no more
