"""Ways to actors beside a plain ref: by name, many at once, and from other threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from functools import partial
from typing import Generic, Never, Protocol, TypeVar, TypeVarTuple, cast, overload
from weakref import ReferenceType
from weakref import ref as weakly

import trio

from actors.runtime.delivery.envelope import (
    DEADLINE,
    NO_DEADLINE,
    Asked,
    Party,
    Reply,
    Several,
    activity_in_thread,
    current_activity,
)
from actors.runtime.delivery.ref import (
    ASK_TIMEOUT_S,
    Ref,
    Target,
    check_thread,
    checked_timeout,
    make_envelope,
    way_back,
)
from actors.runtime.life.hooks import AnyHooks, Hooks
from actors.runtime.words.messages import Ask

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


# By name


class Directory(Protocol):
    """A system, as far as names are looked up in it."""

    def cell_named(self, name: str, kind: type[AnyHooks] | None = None) -> Target:
        """Who holds a name; somebody who is gone when nobody (of that class) does."""


class _Open:
    """The systems of one trio run that are open, in the order in which they were opened."""

    __slots__ = ("last", "systems")

    def __init__(self) -> None:
        self.systems: list[Directory] = []
        # Who was closed last. Weakly: a run may open any number of systems, and keeps none.
        self.last: ReferenceType[Directory] | None = None


_open: trio.lowlevel.RunVar[_Open] = trio.lowlevel.RunVar("actors_systems")


class ByName(Ref[M_contra], Generic[M_contra]):
    """A ref to whoever holds `name` at the time of the call; nobody there is as a dead actor.

    `ByName("stock", Stock)` is a ref to a Stock: it takes the messages of that class, and a holder
    of another class is nobody. Without a class nothing is known of the holder; it can be monitored
    and stopped, but told nothing.

    Without `system` it means, at each call, the one opened last in this trio run that is still
    open; when none is, everybody is dead. RuntimeError where there is no system to look into.
    """

    __slots__ = ("_kind", "_name", "_system")

    @overload
    def __init__(
        self, name: str, kind: type[Hooks[M_contra]], *, system: Directory | None = None
    ) -> None: ...
    @overload
    def __init__(
        self: ByName[Never], name: str, kind: None = None, *, system: Directory | None = None
    ) -> None: ...
    def __init__(
        self, name: str, kind: type[AnyHooks] | None = None, *, system: Directory | None = None
    ) -> None:
        self._name, self._kind, self._system = name, kind, system

    @property
    def _cell(self) -> Target:  # type: ignore[override]  # found at each call, never stored
        system = _current(self._name) if self._system is None else self._system
        return system.cell_named(self._name, self._kind)

    # By the holder's own ref, which may be of a kind that chooses by the message.

    def tell(self, message: M_contra, *, deadline: float = NO_DEADLINE) -> None:
        """See `Ref.tell`."""
        self._cell.ref.tell(cast(Never, message), deadline=deadline)

    async def send(
        self, message: M_contra, timeout: float | None = None, *, deadline: float = NO_DEADLINE
    ) -> None:
        """See `Ref.send`."""
        await self._cell.ref.send(cast(Never, message), timeout, deadline=deadline)

    async def ask(self, message: Ask[R], timeout: float | None = ASK_TIMEOUT_S) -> R:
        """See `Ref.ask`."""
        return await self._cell.ref.ask(message, timeout)

    def _target(self, message: M_contra) -> Target:
        return self._cell.ref._target(cast(Never, message))

    def __repr__(self) -> str:
        kind = "" if self._kind is None else f", {self._kind.__name__}"
        return f"ByName({self._name!r}{kind})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ByName):
            mine = (self._name, self._kind, self._system)
            return mine == (other._name, other._kind, other._system)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._name, self._kind, self._system))


def opened(system: Directory) -> None:
    """Called when a system is opened: names mean its actors from now on."""
    _open_now().systems.append(system)


def closed(system: Directory) -> None:
    """Called when it has been closed: names mean those of the system that was opened before it.

    Systems need not be closed in the reverse order of their opening.
    """
    open_ = _open_now()
    open_.systems = [one for one in open_.systems if one is not system]
    open_.last = weakly(system)


def _open_now() -> _Open:
    try:
        return _open.get()
    except LookupError:
        _open.set(_Open())
        return _open.get()


def _current(name: str) -> Directory:
    open_ = _open_now()
    if open_.systems:
        return open_.systems[-1]
    last = None if open_.last is None else open_.last()
    if last is None:
        raise RuntimeError(
            f"ByName({name!r}) has no system to look into: none is open in this trio run. "
            "Open one before, or name it: ByName(name, kind, system=system)."
        )
    return last


# Many at once


class _Part(Reply):
    """One of several asks of one task; the last to be settled wakes it."""

    __slots__ = ("_open",)

    def __init__(
        self,
        task: trio.lowlevel.Task,
        cell: Asked,
        message: object,
        asked_at: float,
        deadline: float,
        open_: dict[Reply, Party | None],
        by: Party | None,
    ) -> None:
        super().__init__(task, cell, message, asked_at, deadline)
        self._open = open_
        open_[self] = by

    def wake(self, task: trio.lowlevel.Task) -> None:
        """Called when this one is settled."""
        by = self._open.pop(self, None)
        if not self._open:
            if by is not None:
                by.waiting_on = None
            trio.lowlevel.reschedule(task)


async def ask_all(
    refs: Iterable[Ref[M]], message: Ask[R], timeout: float | None
) -> tuple[dict[Ref[M], R], list[Ref[M]]]:
    """Call this to ask several actors the same; see `System.ask_all`."""
    limit = checked_timeout(timeout)
    now = trio.current_time()
    activity = current_activity.get()
    deadline = min(now + limit, trio.current_effective_deadline())
    in_hand = activity.in_hand()
    if in_hand is not None:
        deadline = min(deadline, in_hand[DEADLINE])
    task = trio.lowlevel.current_task()
    # Only a handler or hook itself is held up, not a task it has opened; see `Ref.ask`.
    by = activity.cell if activity.task is task else None
    # Those that are not settled, each with whose handler waits.
    open_: dict[Reply, Party | None] = {}
    asked: dict[Ref[M], tuple[Target, _Part]] = {}
    # Read once: a generator has nothing left to give for the list of those without a reply.
    all_refs = list(dict.fromkeys(refs))
    for ref in all_refs:
        cell = ref._target(cast(M, message))
        check_thread(cell, "ask_all")
        is_ring = by is not None and way_back(by, cell) is not None
        if not cell.mailbox.closed and deadline > now and not is_ring:
            asked[ref] = cell, _Part(task, cell, message, now, deadline, open_, by)
    if by is not None and open_:
        by.waiting_on = Several(open_)
    # Only now, when `open_` holds all of them: the last one settled wakes the task.
    for cell, part in asked.values():
        cell.mailbox.offer(make_envelope(cell, message, part, deadline, activity), None)
        cell.system.wheel.add(part)

    def abort(_: object) -> trio.lowlevel.Abort:
        for part in list(open_):
            part.withdraw()
        if by is not None:
            by.waiting_on = None
        return trio.lowlevel.Abort.SUCCEEDED

    if asked:
        await trio.lowlevel.wait_task_rescheduled(abort)
    else:
        await trio.lowlevel.checkpoint()
    replies = {
        ref: cast(R, part.value) for ref, (_, part) in asked.items() if part.outcome == "answered"
    }
    return replies, [ref for ref in all_refs if ref not in replies]


def tell_all(refs: Iterable[Ref[M]], message: M) -> None:
    """Call this to tell several actors the same message object."""
    for ref in refs:
        ref.tell(message)


# From other threads


class Portal:
    """`system.portal.tell(ref, m)`, `.send` and `.ask`: made within trio, used anywhere else.

    From asyncio, whose loop none of them but `tell` may hold up:
    `await asyncio.to_thread(system.portal.send, ref, message, 2.0)`.

    In a thread that a handler waits for, `send` and `ask` carry the cause of its message, and an
    ask ends at its deadline. In one that it has left behind (`abandon_on_cancel`), and in all
    others, they have neither.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def tell(self, ref: Ref[M], message: M) -> None:
        """Call this from any thread to tell; returns at once, never fails while trio runs.

        Messages of one thread arrive in order. Raises trio.RunFinishedError when trio has ended.
        """
        self._token.run_sync_soon(ref.tell, message)

    def send(self, ref: Ref[M], message: M, timeout: float | None = None) -> None:
        """Call this from a thread other than trio's to deliver a message, blocking it until then.

        So a thread goes no faster than the actor it feeds. Raises what `Ref.send` raises:
        MailboxFull when no room came within `timeout` seconds (None: waits for ever), NoProc when
        the actor is gone or its system was cancelled meanwhile; nothing was delivered then.
        trio.RunFinishedError when trio has ended; RuntimeError in the trio thread.
        """
        self._run(ref.send, message, timeout)

    def ask(self, ref: Ref[M], message: Ask[R], timeout: float | None = ASK_TIMEOUT_S) -> R:
        """Call this from a thread other than trio's to ask, blocking it until the reply.

        Raises what `Ref.ask` raises; RuntimeError in the trio thread, which it would block.
        """
        return self._run(ref.ask, message, timeout)

    def _run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        # A copy: the thread's own variables stay as they are.
        context = copy_context()
        context.run(current_activity.set, activity_in_thread())
        return context.run(partial(trio.from_thread.run, function, *args, trio_token=self._token))
