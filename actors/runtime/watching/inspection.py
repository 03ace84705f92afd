"""Looking into a running actor, and holding it still.

Requests travel on the system lane: they act between two messages, ahead of the queue, also while
the actor is suspended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from copyreg import dispatch_table
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from sys import maxsize
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, TypeVar
from uuid import UUID

import trio

from actors.runtime.delivery.envelope import current_activity
from actors.runtime.delivery.ref import AnyRef, check_thread
from actors.runtime.life.cell import Cell, Life, cell_of
from actors.runtime.words.errors import ActorError, CallbackFailed, DeadlockError
from actors.runtime.words.exits import without_cancelled
from actors.runtime.words.showing import attributes_of, shown, slots_of

T = TypeVar("T")


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
    """A copy of an actor's attributes; what cannot be copied is given as its text."""
    return _copied(life, shown)


def state_to_replace(life: Life) -> dict[str, object]:
    """The same for whoever puts it back: what cannot be copied is the thing itself."""
    return _copied(life, _itself)


def _copied(life: Life, instead: Callable[[object], object]) -> dict[str, object]:
    copier = _Copier(instead)
    attributes = attributes_of(life.instance, maxsize) or {}
    return {name: copier.copy(value) for name, value in attributes.items()}


def _itself(value: object) -> object:
    return value


def store_state(life: Life, state: Mapping[str, object]) -> None:
    """Replace an actor's attributes; what is no mapping of names changes nothing."""
    made = dict(state)  # Raises here or nowhere: the old attributes are still there.
    instance = life.instance
    for name in slots_of(type(instance)):
        if name in made:
            object.__setattr__(instance, name, made.pop(name))
        elif hasattr(instance, name):
            object.__delattr__(instance, name)
    attributes = vars(instance)
    attributes.clear()
    attributes.update(made)
    attributes["_life"] = life


# Copies


class _LiveError(Exception):
    """It runs, or is part of what does: a copy would be half of it."""


# What can be shared, for it never changes.
_CONSTANT: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(...), FunctionType,
     BuiltinFunctionType, Decimal, Fraction, UUID, date, datetime, time, timedelta}
)  # fmt: skip
# Nurseries, scopes and events; systems, cells and mailboxes. Their data (exits, messages) are not.
_LIVE_PACKAGES: Final = ("trio.", f"{__package__.rpartition('.')[0]}.")


class _Copier:
    """`copy.deepcopy` for a state that may hold anything.

    A list, or a dictionary, of things that cannot be copied is copied without them; any other
    object is copied as a whole or not at all. What runs is never begun: a copy given up half-way
    would be collected, and its `__del__` would find half an object.
    """

    def __init__(self, instead: Callable[[object], object]) -> None:
        self._instead = instead
        self._made: dict[int, object] = {}
        # What was copied, so that no other thing gets its id; in order, to take some back.
        self._originals: list[object] = []

    def copy(self, value: object) -> object:
        """A copy, or what stands for a thing that cannot be copied."""
        before = len(self._originals)
        try:
            return self._deep(value, self.copy)
        except Exception:  # noqa: BLE001 - sockets, locks, hooks of user code: no copy
            while len(self._originals) > before:
                self._made.pop(id(self._originals.pop()), None)
            return self._instead(value)

    def _whole(self, value: object) -> object:
        """A copy of something inside an object; raises when it cannot be copied."""
        return self._deep(value, self._whole)

    def _deep(self, value: object, inner: Callable[[object], object]) -> object:
        cls = type(value)
        if cls in _CONSTANT or issubclass(cls, type):
            return value
        if id(value) in self._made:
            return self._made[id(value)]
        if cls is list or cls is deque:
            assert isinstance(value, list | deque)
            items: list[object] | deque[object] = []
            if isinstance(value, deque):
                items = deque(maxlen=value.maxlen)
            self._note(value, items)
            items.extend(map(inner, value))
            return items
        if cls is dict:
            assert isinstance(value, dict)
            table: dict[object, object] = self._note(value, {})
            table.update((inner(name), inner(one)) for name, one in value.items())
            return table
        if cls in (tuple, set, frozenset):
            assert isinstance(value, tuple | set | frozenset)
            return self._note(value, cls(map(inner, value)))
        if (own := getattr(cls, "__deepcopy__", None)) is not None:
            return self._note(value, own(value, self._made))
        return self._rebuilt(value)

    def _rebuilt(self, value: object) -> object:
        """A copy of any object, by what pickling would write of it."""
        cls = type(value)
        is_live = f"{cls.__module__}.".startswith(_LIVE_PACKAGES) and not is_dataclass(cls)
        if is_live or hasattr(cls, "__del__"):
            raise _LiveError
        reduce = dispatch_table.get(cls)
        reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(reduced, str):
            return value
        make, args, state, items, pairs = (*reduced, None, None, None)[:5]
        made = self._note(value, make(*map(self._whole, args)))
        if state is not None:
            self._originals.append(state)
            _set_state(made, self._whole(state))
        for one in items or ():
            made.append(self._whole(one))
        for name, one in pairs or ():
            made[self._whole(name)] = self._whole(one)
        return made

    def _note(self, value: object, made: T) -> T:
        self._originals.append(value)
        self._made[id(value)] = made
        return made


def _set_state(made: object, state: Any) -> None:  # type: ignore[explicit-any]  # of any class
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        vars(made).update(attributes)
    for name, one in (slots or {}).items():
        object.__setattr__(made, name, one)


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
