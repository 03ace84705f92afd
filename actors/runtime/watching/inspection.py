"""Looking into a running actor, and holding it still.

Requests travel on the system lane: they act between two messages, ahead of the queue, also while
the actor is suspended. One that takes its time (a copy of a large state) is done in slices; until
then the actor handles nothing, and no other request. A stop or kill ends the wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from sys import maxsize
from types import GeneratorType
from typing import Final, TypeAlias

import trio

from actors.runtime.delivery.envelope import current_activity
from actors.runtime.delivery.ref import AnyRef, check_thread
from actors.runtime.life.cell import Cell, Life, cell_of
from actors.runtime.life.hooks import taken_among
from actors.runtime.life.letting_go import free
from actors.runtime.watching.copying import Copier, Copying
from actors.runtime.words.errors import ActorError, CallbackFailed, DeadlockError
from actors.runtime.words.exits import without_cancelled
from actors.runtime.words.showing import attributes_of, shown, slots_of

# What is done for a request: at once, or by steps, the last of which gives what it is for.
Work: TypeAlias = Callable[[Life], object]
# Steps that are done at once; a state that takes more holds the actor still for more than a turn.
STEPS_AT_ONCE: Final = 8


class Request:
    """Somebody parked until `work` has been done between two messages of an actor."""

    __slots__ = ("_cell", "_life", "_task", "_work", "error", "result")

    def __init__(self, cell: Cell, work: Work) -> None:
        self._cell, self._work = cell, work
        # Which stands still for it, once it has begun and is not done yet.
        self._life: Life | None = None
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.result: object = None
        self.error: ActorError | None = None

    def act(self) -> None:
        """Called by the loop. What the work raises goes to the caller, not into the actor."""
        # Asked for while the actor waited for its restart, it is served by the next incarnation.
        life = self._cell.life
        if self._task is None or life is None:
            return
        steps = self._steps(life)
        for _ in islice(steps, STEPS_AT_ONCE):
            pass
        if self._task is not None:
            self._life, life.held_by = life, self
            if life.idle_timer is not None and not life.suspended:
                life.idle_timer.pause()
            self._cell.system.dispatcher.do_in_slices(self._rest(life, steps))

    def _rest(self, life: Life, steps: Iterator[None]) -> Iterator[None]:
        activity, cell = life.activity, life.cell
        while self._task is not None:
            # As in a turn of the actor, whose code may be run for it: `__deepcopy__`, or the `fn`.
            activity.cell = cell
            step = life.context.run(next, steps, self)
            if activity is cell.system.dispatcher.activity:
                activity.cell = activity.out = None
            if step is self:
                return
            yield

    def _steps(self, life: Life) -> Iterator[None]:
        try:
            result = self._work(life)
            # Of a generator the value it ends with.
            self.result = (yield from result) if type(result) is GeneratorType else result
        except BaseException as error:
            if self._task is None:
                raise  # Nobody waits for it any more, and this generator is closed.
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
        self._go_on()
        trio.lowlevel.reschedule(task)

    def _go_on(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            life.held_by = None
            if life.idle_timer is not None and not life.suspended:
                life.idle_timer.resume()
            life.cell.mailbox.call_attention()

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """Called by trio when the caller was cancelled."""
        self._task = None
        self._go_on()
        return trio.lowlevel.Abort.SUCCEEDED


async def inspect(ref: AnyRef, work: Work) -> object:
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


def copy_state(life: Life) -> Copying:
    """A copy of an actor's attributes; what cannot be copied is given as its text."""
    return _copied(life, shown)


def replace_state(
    life: Life, fn: Callable[[dict[str, object]], Mapping[str, object]]
) -> Generator[None, None, None]:
    """Replace an actor's attributes by what `fn` makes of them.

    It gets a copy, in which what cannot be copied is the thing itself.
    """
    _store(life, fn((yield from _copied(life, _itself))))


def _copied(
    life: Life, instead: Callable[[object], object]
) -> Generator[None, None, dict[str, object]]:
    copier, made = Copier(instead), {}
    for name, value in (attributes_of(life.instance, maxsize) or {}).items():
        made[name] = yield from copier.copy(value)
    yield from copier.forget()
    return made


def _itself(value: object) -> object:
    return value


def _store(life: Life, state: Mapping[str, object]) -> None:
    made = dict(state)  # Raises here or nowhere: the old attributes are still there.
    instance = life.instance
    assert instance is not None
    if not all(isinstance(name, str) for name in made):
        raise TypeError("the names of attributes are texts")
    if (taken := taken_among(type(instance), made)) is not None:
        raise taken
    free(attributes_of(instance, maxsize), life.cell.system.dispatcher)
    for name in slots_of(type(instance)):
        if name in made:
            object.__setattr__(instance, name, made.pop(name))
        elif hasattr(instance, name):
            object.__delattr__(instance, name)
    attributes = vars(instance)
    attributes.clear()
    attributes.update(made)
    attributes["_life"] = life


# Standing still


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
