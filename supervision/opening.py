"""`open_system`: a system with one root supervisor, and what happens when that ends.

The root is owned by a `Root` in place of a supervisor: it is never restarted. Everything below
it is the business of the supervisors themselves.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

import trio

from actors.runtime import (
    Cell,
    Crashed,
    Exit,
    Failed,
    Ignored,
    Killed,
    Log,
    Shutdown,
    StartOutcome,
    System,
    running,
)
from actors.runtime.system.making import Maker, class_behind, maker_of
from actors.runtime.system.opening import BareInterrupts, Keeper, wait_and_tell
from supervision.doing.supervising import Supervising, handle_of
from supervision.specs.errors import (
    IntensityReached,
    StartFailed,
    SupervisionError,
    giving_up,
    source_of,
)

S = TypeVar("S", bound=Supervising)
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

_log = Log("supervision")


@overload
def open_system(
    root: Callable[[Unpack[Ts]], S],
    /,
    *args: *Ts,
    name: str | None = None,
    check_replies: bool = False,
    development: bool = False,
) -> AbstractAsyncContextManager[S]: ...
@overload
def open_system(
    root: Callable[P, S], /, *args: P.args, **kwargs: P.kwargs
) -> AbstractAsyncContextManager[S]: ...
def open_system(
    root: object, /, *args: object, **given: object
) -> AbstractAsyncContextManager[Supervising]:
    """Call this to run a tree: `async with open_system(Shop) as shop`.

    Yields the root's handle: `shop.front` is a ref. `name` is the root's part of every path,
    by default its class in lower case; `check_replies` is that of `open_actors`; with
    `development` the log line of a crash has the whole traceback. All else are arguments of the
    root; for the checkers give arguments by name and options at once as
    `open_system(partial(Shop, size=5), name="shop")`. Leaving it stops everything, last started
    first.

    Raises `StartFailed` when the root does not start; its text and `__cause__` are those of the
    actor that failed, however far below. When the root ends by failure (it gave up, crashed or
    was killed) the body is cancelled and an ExceptionGroup of the causes is raised, whose text
    names who failed, how often and with what. Cancellation from outside, KeyboardInterrupt and
    SystemExit end all at once, without `on_stop`; the last two leave as they are, in no group. A
    program that shall end in order is run with `serve`.
    """
    made, options = maker_of(root, args, given, ("name", "check_replies", "development"))
    return _opened(made, args, **options)


@asynccontextmanager
async def _opened(
    root: Maker,
    args: tuple[object, ...],
    name: str | None = None,
    *,
    check_replies: bool = False,
    development: bool = False,
) -> AsyncIterator[Supervising]:
    owner = Root(System(check_replies=check_replies, development=development))
    async with opened(owner, root, args, name) as handle:
        yield handle


@asynccontextmanager
async def opened(
    owner: Root, root: Maker, args: tuple[object, ...], name: str | None
) -> AsyncIterator[Supervising]:
    """Call this for `open_system` with an owner at hand, which can have it left (`Root.leave`)."""
    failure: Exception | None = None
    system = owner.system
    with BareInterrupts():
        async with running(system), trio.open_nursery() as owner.nursery:
            system.keeper = keeper = Keeper(system, owner.nursery)
            cell = _begin(owner, root, args, name)
            try:
                await owner.settled.wait()
                failure = _start_failure(cell.path, owner.outcome)
                if failure is None and cell.actor_class is not None:
                    with owner.body:
                        owner.is_up = True
                        yield handle_of(cell.actor_class, cell.ref)  # type: ignore[type-var,misc]
            except Exception as error:  # noqa: BLE001  raised again when the tree has stopped
                failure = error
            # Before the tree: what was started beside it with `system.start` may still use it.
            await keeper.close()
            if not owner.over.is_set():
                cell.request_stop(Shutdown(because="open_system was left"))
                await wait_and_tell(owner.over.wait, partial(_unkillable_in, system))
    if gave_up := owner.failures:
        assert owner.exit is not None
        # What the body raised meanwhile may be a consequence; it is not hidden, it stands last.
        # The cancellation of the body is no part of the story: hence no context.
        raise ExceptionGroup(
            giving_up(cell.path, owner.exit), [*gave_up, *([failure] if failure else ())]
        ) from None
    if failure is not None:
        raise failure


def _begin(owner: Root, root: Maker, args: tuple[object, ...], name: str | None) -> Cell:
    made = class_behind(root)
    kind = made if isinstance(made, type) else None
    label = name or getattr(made, "__name__", "root").lower()
    start = partial(root, *args)
    # No limits of its own: its children have theirs.
    cell = owner.system.new_cell(
        owner, start, key=label, actor_class=kind, shutdown=math.inf, start_timeout=math.inf
    )
    cell.begin_incarnation()
    return cell


class GaveUp(SupervisionError):
    """The root of a system ended although nobody had asked it to; `exit` says how.

    `__cause__` is the error at the bottom of it, if there was one.
    """

    def __init__(self, path: str, exit_: Exit) -> None:
        super().__init__(f"{giving_up(path, exit_)}; the system was closed.")
        self.path, self.exit = path, exit_
        _, self.__cause__ = source_of(path, exit_)


class Root:
    """The owner (`actors.runtime.Owner`) of the root supervisor."""

    # Where the root's task runs; open as long as the system.
    nursery: trio.Nursery

    def __init__(self, system: System) -> None:
        self.system = system
        # Set when the start is over, and how it went; when the root is over, and how it ended.
        self.settled = trio.Event()
        self.outcome: StartOutcome | None = None
        self.over = trio.Event()
        self.exit: Exit | None = None
        # Around the body of `open_system`: who uses a tree that has gone has nothing to do.
        self.body = trio.CancelScope()
        # Whether the body was ever entered: what is raised before that is the tree's own failure.
        self.is_up = False
        # Whether the body ends with the root also when that ended well.
        self.ends_with_root = False
        # The errors behind an end of the root that nobody had asked for.
        self.failures: list[Exception] = []

    def leave(self, because: str) -> None:
        """Call this to have the system left from outside: the body is cancelled, the tree stops.

        While the tree is still starting no further child begins; those that have begun are
        stopped as ever, last started first.
        """
        self.body.cancel(reason=because)
        if self.settled.is_set():
            return
        for cell in self.system.cells():
            instance = None if cell.life is None else cell.life.instance
            if isinstance(instance, Supervising):
                instance.end_start(because)

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        """Called when the root's start is over."""
        self.outcome = outcome
        match outcome:
            case Failed(error=error):
                cell.retire(Crashed(error))
                self.over.set()
            case Ignored():
                cell.retire(Shutdown(because="it ignored"))
                self.over.set()
        self.settled.set()

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        """Called when the root has ended; a failure ends the body of `open_system` too."""
        self.exit = exit_
        cell.retire(exit_)
        self.failures = failures_in(exit_, cell.path)
        self.over.set()
        # Nobody is left to serve, also when it ended as it should.
        if self.failures or self.ends_with_root:
            self.body.cancel(reason=f"{cell.path} ended")

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        """Called when a kill of the root does not work."""
        _log.error("root_unkillable", path=cell.path, stack=stack)

    def child_wanted(self, cell: Cell) -> None:
        """Never called: the root is never left dormant."""

    def child_unwanted(self, cell: Cell, exit_: Exit) -> None:
        """Never called: the root does not wait for a restart."""


def failures_in(exit_: Exit, path: str) -> list[Exception]:
    """Call this for the errors behind the end of a root; none when it ended as it should."""
    match exit_:
        case Crashed(error=error) | Shutdown(info=IntensityReached(cause=error)):
            return [error if isinstance(error, Exception) else GaveUp(path, exit_)]
        case Killed():
            return [GaveUp(path, exit_)]
        case _:
            return []


def _unkillable_in(system: System) -> list[Cell]:
    # Everybody else ends within the deadlines; only these can hold up the end of a tree.
    return [cell for cell in system.cells() if cell.status == "unkillable"]


def _start_failure(path: str, outcome: StartOutcome | None) -> Exception | None:
    match outcome:
        case Failed(error=error):
            return StartFailed(error, path=path)
        case Ignored():
            return SupervisionError("the root answered IGNORE; there is no system to run.")
        case _:
            return None
