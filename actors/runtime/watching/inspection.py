"""Looking into a running actor, and holding it still.

Requests travel on the system lane: they act between two messages, ahead of the queue, also while
the actor is suspended.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import trio

from actors.runtime.delivery.envelope import current_activity
from actors.runtime.delivery.ref import AnyRef, check_thread
from actors.runtime.life.cell import Cell, Life, cell_of
from actors.runtime.words.errors import ActorError, CallbackFailed, DeadlockError
from actors.runtime.words.exits import without_cancelled


class Request:
    """Somebody parked until `work` has been done between two messages of an actor."""

    __slots__ = ("_cell", "_task", "_work", "error", "result")

    def __init__(self, cell: Cell, work: Callable[[Life], object]) -> None:
        self._cell, self._work = cell, work
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.result: object = None
        self.error: ActorError | None = None

    def act(self) -> None:
        """Called by the loop. What the work raises goes to the caller, not into the actor."""
        # Asked for while the actor waited for its restart, it is served by the next incarnation.
        life = self._cell.life
        if self._task is not None and life is not None:
            try:
                self.result = self._work(life)
            except BaseException as error:  # noqa: BLE001 - the caller's function, its error
                cause = without_cancelled(error)
                self.error = CallbackFailed(self._cell.path, cause)
                self.error.__cause__ = cause
            self._answer()

    def drop(self) -> None:
        """Called when the incarnation ended first."""
        if self._task is not None:
            self.error = self._cell.no_proc(None)
            self._answer()

    def _answer(self) -> None:
        task, self._task = self._task, None
        assert task is not None
        trio.lowlevel.reschedule(task)

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """Called by trio when the caller was cancelled."""
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


async def inspect(ref: AnyRef, work: Callable[[Life], object]) -> object:
    """Call this to have `work` done between two messages of the actor.

    Raises NoProc when the actor is gone or its incarnation ends first, CallbackFailed when the
    work raises, DeadlockError in a handler of the actor itself (it has `self` at hand).
    """
    cell = cell_of(ref)
    check_thread(cell, "inspect")
    # Nobody would come to serve it; a dormant actor must not be started by being looked at.
    if cell.gone or cell.dormant:
        await trio.lowlevel.checkpoint()
        raise cell.no_proc(None)
    activity = current_activity.get()
    if activity.cell is cell and activity.task is trio.lowlevel.current_task():
        raise DeadlockError([cell.path, cell.path])
    request = Request(cell, work)
    cell.mailbox.post(request)
    await trio.lowlevel.wait_task_rescheduled(request.abort)
    if request.error is not None:
        raise request.error
    return request.result


def copy_state(life: Life) -> dict[str, object]:
    """A copy of an actor's attributes; what cannot be copied stays the same."""
    return {name: _copy(value) for name, value in vars(life.instance).items() if name != "_life"}


def _copy(value: object) -> object:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - sockets, locks: no copy, and the caller wants the rest
        return value


def store_state(life: Life, state: Mapping[str, object]) -> None:
    """Replace an actor's attributes; what is no mapping of names changes nothing."""
    made = dict(state)  # Raises here or nowhere: the old attributes are still there.
    attributes = vars(life.instance)
    attributes.clear()
    attributes.update(made)
    attributes["_life"] = life


def suspend(life: Life) -> None:
    """Done between two messages: the user lane waits from now on."""
    if not life.suspended:
        life.suspended = True
        # While it stands still the loop shall look up before every message.
        life.cell.mailbox.attention = True
        life.cell.set_status("suspended")
        if life.idle_timer is not None:
            life.idle_timer.pause()


def resume(life: Life) -> None:
    """Done between two messages: the user lane goes on."""
    if life.suspended:
        life.suspended = False
        life.cell.set_status("running")
        if life.idle_timer is not None:
            life.idle_timer.resume()
