"""Many refs at once: `ask_all` and `tell_all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, cast

import trio

from actors.runtime.context import Activity, current_activity
from actors.runtime.envelope import Reply
from actors.runtime.ref import Ref, check_thread, checked_timeout, make_envelope
from actors.runtime.words.messages import Ask

if TYPE_CHECKING:
    from actors.runtime.cell import Cell

M = TypeVar("M")
R = TypeVar("R")


class _Part(Reply):
    """One of several asks of one task; the last to be settled wakes it."""

    __slots__ = ("_open",)

    def __init__(
        self,
        task: trio.lowlevel.Task,
        cell: Cell,
        message: object,
        asked_at: float,
        deadline: float,
        open_: set[_Part],
    ) -> None:
        super().__init__(task, cell, message, asked_at, deadline)
        self._open = open_
        open_.add(self)

    def wake(self, task: trio.lowlevel.Task) -> None:
        """Called when this one is settled."""
        self._open.discard(self)
        if not self._open:
            trio.lowlevel.reschedule(task)


async def ask_all(
    refs: Iterable[Ref[M]], message: Ask[R], timeout: float | None
) -> tuple[dict[Ref[M], R], list[Ref[M]]]:
    """Call this to ask several actors the same; see `System.ask_all`."""
    limit = checked_timeout(timeout)
    now = trio.current_time()
    activity = current_activity.get()
    deadline = min(now + limit, trio.current_effective_deadline())
    if activity.envelope is not None:
        deadline = min(deadline, activity.envelope[3])
    task = trio.lowlevel.current_task()
    open_: set[_Part] = set()
    parts: dict[Ref[M], _Part] = {}
    for ref in dict.fromkeys(refs):
        cell = ref._cell
        check_thread(cell, "ask_all")
        if not cell.mailbox.closed and deadline > now and not _is_ring(activity, cell):
            parts[ref] = _Part(task, cell, message, now, deadline, open_)
    for part in parts.values():
        part.cell.mailbox.offer(make_envelope(part.cell, message, part, deadline, activity), None)
        part.cell.system.wheel.add(part)

    def abort(_: object) -> trio.lowlevel.Abort:
        for part in list(open_):
            part.withdraw()
        return trio.lowlevel.Abort.SUCCEEDED

    if parts:
        await trio.lowlevel.wait_task_rescheduled(abort)
    else:
        await trio.lowlevel.checkpoint()
    replies = {
        ref: cast(R, part.value) for ref, part in parts.items() if part.outcome == "answered"
    }
    return replies, [ref for ref in dict.fromkeys(refs) if ref not in replies]


def _is_ring(activity: Activity, asked: Cell) -> bool:
    asker = activity.cell
    if asker is None or activity.task is not trio.lowlevel.current_task():
        return False
    waiting: Cell | None = asked
    while waiting is not None and waiting is not asker:
        waiting = waiting.waiting_on
    return waiting is asker


def tell_all(refs: Iterable[Ref[M]], message: M) -> None:
    """Call this to tell several actors the same message object."""
    for ref in refs:
        ref.tell(message)
