"""An actor that a test holds in its hand: what it is sent is looked at one by one."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

import trio
import trio.testing

from actors.runtime import (
    Actor,
    AnyRef,
    BadReply,
    Exit,
    Later,
    NoProc,
    Ref,
    System,
)
from actors.runtime.life.cell import cell_of

T = TypeVar("T")


class _ProbeActor(Actor[object]):
    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def receive(self, message: object) -> object:
        later: Later[object] | None = None
        if self.asker_waits:
            later = self.reply_later()
        self._probe.received(message, later)
        return None


class Probe:
    """Call `expect` for each message that has to come; whatever is left at the end is an error."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._got: deque[tuple[object, Later[object] | None]] = deque()
        self._later: Later[object] | None = None
        self._waiting: trio.lowlevel.Task | None = None
        self.ref: Ref[object] = system.begin(_ProbeActor, self)

    def received(self, message: object, later: Later[object] | None) -> None:
        """Called by the actor behind the probe."""
        self._got.append((message, later))
        if self._waiting is not None:
            task, self._waiting = self._waiting, None
            trio.lowlevel.reschedule(task)

    async def expect(self, kind: type[T], within: float = 1.0) -> T:
        """Call this to get the next message; AssertionError if none comes or it is no `kind`."""
        if not self._got:
            with trio.move_on_after(within):
                self._waiting = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
        if not self._got:
            raise AssertionError(f"no {kind.__name__} came within {within} s")
        message, self._later = self._got.popleft()
        if not isinstance(message, kind):
            raise AssertionError(f"expected a {kind.__name__}, but {message!r} came")
        return message

    async def expect_none(self, within: float = 1.0) -> None:
        """Call this to make sure that nothing comes; AssertionError if something does."""
        await trio.testing.wait_all_tasks_blocked()
        if not self._got:
            await trio.sleep(within)
        self.check_nothing_is_left()

    async def expect_down(self, ref: AnyRef, within: float = 1.0) -> Exit | NoProc:
        """Call this to wait for the end of an actor's incarnation; how it ended if it has."""
        if cell_of(ref).gone and cell_of(ref).last_exits:
            return cell_of(ref).last_exits[-1]
        with trio.move_on_after(within):
            return await self._system.wait_down(ref)
        raise AssertionError(f"{ref.path} had not ended within {within} s")

    def reply(self, value: object) -> None:
        """Call this to answer the message that `expect` gave last."""
        if self._later is None:
            raise BadReply(self.ref.path, None, value)
        self._later.reply(value)
        self._later = None

    def check_nothing_is_left(self) -> None:
        """Call this at the end: AssertionError if a message came that nobody expected."""
        if self._got:
            left = [message for message, _ in self._got]
            raise AssertionError(f"nobody expected {left!r}")

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED
