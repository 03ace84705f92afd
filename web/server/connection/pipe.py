"""The only writer of one connection's socket: first come, first written, nothing torn.

Rule 1: every byte of a connection goes through its `WritePipe`, hypercorn's own included.
Rule 2: a byte string taken by the pipe is written whole or the connection dies; a cancelled
        caller changes nothing, so no shield is needed.
Rule 3: whoever waits for the kernel waits with a deadline (REL-11).

`offer` is the fast lane: one plain call, one system call, no task. When the kernel is full the
rest is kept, a writer task is born, and the pipe takes nothing more from the fast lane until it
is idle again: queues with a policy live in `web.realtime`, not here. What a frame looks like is
the business of `framing.py`; who owns the pipe is in `transport.py`.

No lock is needed, and none would help: `offer` may not wait. Instead there is one fact, whether
anything is pending, and it only changes between two checkpoints:

- nothing pending: whoever comes writes straight to the descriptor, in the same turn
- something pending: exactly one task, `_run`, writes; everybody else appends or is refused

So two writers never stand in the descriptor at once, and bytes leave in the order they were taken.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from web.server.connection.settings import TransportSettings

# One TLS record; the deadline of a TLS write counts a record, as the kernel's share is hidden.
TLS_PIECE_BYTES = 16 * 1024

# The reason given to `on_broken` when a write deadline passed.
STALLED = "the client took no byte in time"

Spawn = Callable[[Callable[[], Awaitable[None]]], None]
Send = Callable[[bytes | memoryview], int]
SendTls = Callable[[memoryview], Awaitable[None]]


class WritePipe:
    """Writes byte strings to one socket in the order they were given.

    `fd` is a non-blocking descriptor and `send` its socket's, a tenth quicker than a write to the
    descriptor; `send_tls` replaces direct writes when the connection is encrypted. `spawn` starts
    the writer task in the connection's nursery, `on_broken(reason)` is called once, synchronously,
    when no further byte will be written.
    """

    __slots__ = (
        "_deadline_scope",
        "_fd",
        "_frame_began",
        "_last_taken",
        "_on_broken",
        "_pending",
        "_send",
        "_send_tls",
        "_settings",
        "_spawn",
        "_stall_s",
        "broken",
        "bytes_written",
        "on_idle",
    )

    def __init__(
        self,
        fd: int,
        settings: TransportSettings,
        *,
        spawn: Spawn,
        on_broken: Callable[[str], None],
        send: Send | None = None,
        send_tls: SendTls | None = None,
    ) -> None:
        self._fd = fd
        # Only the TLS library may write, and only from a task: it may have to read first.
        self._send = _nothing if send_tls is not None else send or partial(os.write, fd)
        self._settings = settings
        self._stall_s = settings.write_stall_s
        self._spawn = spawn
        self._on_broken = on_broken
        self._send_tls = send_tls
        # What the kernel has not taken yet, in order, and who waits for its end. The first entry
        # may be the rest of a frame whose beginning is out: it must go on, or the stream is torn.
        # A list: it is short, and an empty deque holds 600 bytes for each idle connection.
        self._pending: list[tuple[memoryview, trio.Event | None]] = []
        self._deadline_scope: trio.CancelScope | None = None
        self._last_taken = 0.0
        self._frame_began = 0.0
        self.on_idle: Callable[[], None] | None = None
        self.broken = False
        self.bytes_written = 0

    def __repr__(self) -> str:
        state = "broken" if self.broken else "busy" if self._pending else "idle"
        return f"<WritePipe {state} pending={self.pending_bytes} written={self.bytes_written}>"

    @property
    def is_idle(self) -> bool:
        """Tell whether the next `offer` would be taken."""
        return not self._pending and not self.broken

    @property
    def pending_bytes(self) -> int:
        """Count the bytes taken but not yet given to the kernel."""
        return sum(len(data) for data, _ in self._pending)

    def offer(self, data: bytes) -> bool:
        """Call this to write now or not at all; no checkpoint.

        True: the pipe took all of `data` and will write it whole. False: nothing was taken;
        `on_idle` will be called when it is worth trying again (never, once `broken`).
        """
        if self._pending or self.broken:
            return False
        # `_write_or_keep` written out: a fan-out comes here once a reader.
        try:
            taken = self._send(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self.fail(f"write failed: {error.strerror}")
            return False
        self.bytes_written += taken
        # What the kernel does not take is kept, and still counts as taken: a caller that is told
        # False would put the frame into its queue, and half of it would be sent twice.
        if taken < len(data):
            self._keep(memoryview(data)[taken:], None)
        return not self.broken

    async def write(self, data: bytes) -> None:
        """Call this to write `data` after everything taken before it; returns when it is out.

        Always a checkpoint.
        Raises `trio.BrokenResourceError` if the connection is or becomes unusable. Cancelled
        while waiting, `data` is still written whole.
        """
        if self.broken or not data:
            # A handler that goes on sending to nobody must still let others run.
            await trio.lowlevel.checkpoint()
        if self.broken:
            raise trio.BrokenResourceError("the connection is gone; nothing was written")
        if not data:
            return
        done = trio.Event()
        if self._pending:
            self._keep(memoryview(data), done)
        else:
            self._write_or_keep(data, done)
        if self._pending:
            await done.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self.broken:
            raise trio.BrokenResourceError("the connection broke while writing")

    def hurry(self) -> None:
        """Call this when the server drains: a stalled reader now has a second, not ten."""
        self._stall_s = min(self._stall_s, self._settings.write_stall_draining_s)
        if self._deadline_scope is not None:
            self._deadline_scope.deadline = min(
                self._deadline_scope.deadline, trio.current_time() + self._stall_s
            )

    def fail(self, reason: str) -> None:
        """Call this to give the connection up; what was pending is lost. Safe to repeat."""
        if not self.broken:
            told = self._on_broken
            self.close()
            told(reason)

    def close(self) -> None:
        """Call this before the descriptor is closed: nothing touches it afterwards."""
        # Said first: a descriptor's number is given to the next socket as soon as it is closed,
        # and a late write would go to a stranger.
        self.broken = True
        # Nobody is told anything any more. They hold the pipe, and would be freed by a collection
        # only, in thousands when a crowd has left.
        self._spawn, self._on_broken, self.on_idle = _nobody, _nobody, None
        self._send, self._send_tls = _nothing, None
        pending, self._pending = self._pending, []
        # Waiters wake in a later turn, look at `broken` and raise.
        for _, done in pending:
            if done is not None:
                done.set()

    async def wait_idle(self) -> None:
        """Call this to wait until everything taken is written or the pipe broke."""
        if not self._pending:
            return
        # The last entry's end is the end of all; it may have no waiter yet, so it is given one.
        data, done = self._pending.pop()
        if done is None:
            done = trio.Event()
        self._pending.append((data, done))
        await done.wait()

    def _write_or_keep(self, data: bytes, done: trio.Event | None) -> None:
        """Give the kernel what it takes of `data` and keep the rest; nothing is pending before."""
        try:
            # Not `trio`'s send: it is a checkpoint, and its caller could be cancelled after half.
            taken = self._send(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self.fail(f"write failed: {error.strerror}")
            return
        self.bytes_written += taken
        if taken < len(data):
            self._keep(memoryview(data)[taken:], done)

    def _keep(self, data: memoryview, done: trio.Event | None) -> None:
        self._pending.append((data, done))
        if len(self._pending) == 1:
            self._frame_began = self._last_taken = trio.current_time()
            self._spawn(self._run)

    async def _run(self) -> None:
        """Write what is pending, then end; the pipe is idle when it does."""
        while self._pending:
            data, _ = self._pending[0]
            taken = 0
            try:
                taken = await self._write_some(data)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.fail(f"write failed: {error}")
            # Others ran while this waited: the connection may have been reset, and then
            # `_pending` is another list.
            if self.broken:
                return
            if taken:
                self._advance(taken)
        # In the same turn in which nothing is pending any more: whoever is told may `offer`, which
        # then writes to the descriptor or keeps something and starts the next `_run`.
        if self.on_idle is not None:
            self.on_idle()

    def _advance(self, taken: int) -> None:
        data, done = self._pending[0]
        self.bytes_written += taken
        self._last_taken = trio.current_time()
        if taken < len(data):
            self._pending[0] = (data[taken:], done)
            return
        del self._pending[0]
        self._frame_began = self._last_taken
        if done is not None:
            done.set()

    async def _write_some(self, data: memoryview) -> int:
        """Write a part of `data`; 0 means try again, and a missed deadline fails the pipe."""
        # Two deadlines (REL-11): the kernel takes some byte within `_stall_s`, and the frame is out
        # within `frame_s`. The second is for a reader of a byte now and then, who makes progress
        # for ever. Of a TLS write we see no byte taken, only records, so each record has the time.
        now = trio.current_time()
        deadline = min(now + self._stall_s, self._frame_began + self._settings.frame_s)
        if self._send_tls is None:
            deadline = min(deadline, self._last_taken + self._stall_s)
            try:
                return self._send(data)
            except BlockingIOError:
                pass
        taken = 0
        with trio.CancelScope(deadline=deadline) as scope:
            # Where `hurry` finds it: a drain must not wait for a deadline of before.
            self._deadline_scope = scope
            if self._send_tls is None:
                await trio.lowlevel.wait_writable(self._fd)
            else:
                await self._send_tls(data[:TLS_PIECE_BYTES])
                taken = min(len(data), TLS_PIECE_BYTES)
        self._deadline_scope = None
        if scope.cancelled_caught:
            self.fail(STALLED)
        return taken


def _nothing(_: bytes | memoryview) -> int:
    return 0


def _nobody(_: object) -> None:
    return
