"""The actor behind every supervisor: its start, its end, and how a call reaches its machine.

`supervisor.py` (children with ids) and `dynamic_supervisor.py` (children of one template) add
the calls. An object of these classes is one of two things: the actor of one incarnation, made by
the runtime, or a handle, made by `handle_of`, which reaches whatever incarnation there is now.

Rule: a handle holds nothing but a ref; what `__init__` of the actor sets is not on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal, Never, TypeVar, cast, get_origin

import trio

from actors.runtime import (
    IGNORE,
    Actor,
    AnyRef,
    BadReturn,
    Crashed,
    Exit,
    Ignore,
    Killed,
    NoProc,
    StopActor,
    System,
)
from actors.runtime.life.cell import cell_of
from actors.runtime.life.hooks import reserve
from actors.runtime.system.system import system_of
from supervision.deciding.dynamic import DynamicMachine
from supervision.deciding.moves import Move
from supervision.deciding.static import StaticMachine
from supervision.doing.cells import AnyMachine
from supervision.doing.hands import Hands
from supervision.doing.tickets import Ticket
from supervision.specs.errors import source_of
from supervision.specs.specs import DynamicFlags, Plan
from supervision.tree.tree import Tree, tree_of

S = TypeVar("S", bound="Supervising")
T = TypeVar("T")
Ask = Callable[[Ticket, float], list[Move]]


class Supervising(Actor[Never]):
    """What all supervisors share. Subclass `Supervisor` or `Dynamic`, not this."""

    child_type: ClassVar[Literal["supervisor"]] = "supervisor"
    # The tasks of its children have a nursery of their own inside the supervisor's task: it
    # cannot end before they have, whatever goes wrong here.
    opens_nursery: ClassVar[bool] = True
    # It is ready when its children are; each of them has its own limit.
    start_timeout: ClassVar[float] = math.inf

    # A handle is no actor: these three go by its ref.
    __replaces__: ClassVar[frozenset[str]] = frozenset({"ref", "path", "system"})

    # Of a handle: the ref it goes by. Of the actor: its hands, and how its children left it.
    _handle_of: AnyRef | None = None
    _hands: Hands | None = None
    _gave_exit: Exit | None = None
    _is_up = False

    # -- what a subclass says ----------------------------------------------------------------

    def plan(self) -> Plan | Ignore:
        """Override this to say which children there are; called anew at each start.

        May answer IGNORE: then the supervisor chooses not to run, which is no failure.
        """
        raise TypeError("subclass Supervisor or Dynamic: they know how to plan")

    def jitter(self) -> float:
        """Override this to spread backoffs in another way: a number in [0, 1).

        Raising here, or giving anything else, crashes the supervisor; its parent decides.
        """
        return self.system.random.random()

    # -- the life of one incarnation ------------------------------------------------------

    async def on_start(self) -> object:
        """Start the children one by one; ready when the last of them is."""
        plan: object = self.plan()
        if plan is IGNORE:
            return IGNORE
        if not isinstance(plan, Plan):
            raise BadReturn(plan)
        self._hands = hands = Hands(self, self._machine_for(plan))
        hands.post(hands.machine.begin)
        # Not an await on a child: a stop, a kill or a call in between reaches the machine.
        await hands.settled.wait()
        if self._gave_exit is not None:
            _, error = source_of(self.path, self._gave_exit)
            raise StopActor(self._gave_exit) from error
        self._is_up = True
        return None

    def end_start(self, because: str) -> None:
        """Called when the system is left while it starts: the next child does not begin."""
        hands = self._hands
        if hands is not None and hands.machine.phase == "starting":
            hands.post(lambda now: hands.machine.stop(now, because))

    def _machine_for(self, plan: Plan) -> AnyMachine:
        kind = DynamicMachine if isinstance(plan.flags, DynamicFlags) else StaticMachine
        return kind(plan, self.path, self.jitter)

    async def wind_down(self, exit: Exit) -> None:  # noqa: A002  the runtime's word for it
        """Called by the runtime last, however the supervisor ends: its children end first."""
        hands = self._hands
        if hands is None:
            return
        if isinstance(exit, Killed):
            because = exit.because or "its supervisor was killed"
            hands.post(lambda now: hands.machine.abandon(now, because))
        else:
            because = exit.because or "its supervisor stopped"
            hands.post(lambda now: hands.machine.stop(now, because))
        await hands.over.wait()

    def children_gone(self, exit_: Exit) -> None:
        """Called by the hands when no child is left."""
        if self._gave_exit is None:
            self._gave_exit = exit_
        # Asked from outside, how it ends was said by whoever asked. Here it ends by itself: it
        # gave up, or a significant child ended. While it starts, `on_start` says so: a stop would
        # pass for one that somebody else has asked for, and no attempt to restart would follow.
        if self._is_up and not self.cell.is_stopping:
            self.stop(exit_)

    def crashed(self, error: BaseException) -> None:
        """Called by the hands when `jitter`, or whatever else a person wrote, has raised."""
        self._life.abort(Crashed(error))

    # -- reading declared children --------------------------------------------------------

    def ref_of(self, child_id: str) -> AnyRef:
        """Call this for the ref of a child by its id. Raises `NoProc` when it does not run."""
        # By path, anew each time: a child that was deleted and started again is another actor.
        path = f"{self.ref.path}/{child_id}"
        cell = self.system.at(path)
        if cell is None:
            raise NoProc(path)
        return cell.ref

    def handle_of_child(self, child_id: str) -> Supervising:
        """Call this for the handle of a child that is a supervisor. Raises `NoProc`."""
        return administer(self.ref_of(child_id))

    # -- how a call reaches the machine ------------------------------------------------------

    @property
    def ref(self) -> AnyRef:
        """The ref of the supervisor: to stop it, to monitor it."""
        return super().ref if self._handle_of is None else self._handle_of

    @property
    def path(self) -> str:
        """The names from the root, joined by `/`."""
        return self.ref.path

    @property
    def system(self) -> System:
        """The system it runs in."""
        return system_of(self.ref)

    @property
    def tree(self) -> Tree:
        """The tree of the whole system: a snapshot, and its changes."""
        return tree_of(self.system)

    def _reach(self) -> Hands:
        """The hands of the incarnation there is now. Raises `NoProc`."""
        if self._handle_of is None:
            current: object = self
        else:
            life = cell_of(self._handle_of).life
            current = None if life is None else life.instance
        hands = current._hands if isinstance(current, Supervising) else None
        if hands is None or hands.over.is_set():
            raise NoProc(self.ref.path)
        return hands

    async def _call(self, act: Ask) -> object:
        """Make a call and wait for its answer; always a checkpoint, withdrawn when cancelled."""
        await trio.lowlevel.checkpoint_if_cancelled()
        hands = self._reach()
        # No await between reaching the hands and posting: the call is served by this incarnation,
        # or refused by it. It is no message, for a supervisor's mailbox would keep it for the next.
        ticket = hands.tickets.open()
        hands.post(lambda now: act(ticket, now))
        return await hands.tickets.wait_answer(ticket)

    async def _question(self, read: Callable[[], T]) -> T:
        """Read something off the machine; a checkpoint like every call."""
        # Read after it, so that the answer is true when the caller gets it.
        await trio.lowlevel.checkpoint()
        return read()

    def __repr__(self) -> str:
        if self._handle_of is not None:
            return f"<{type(self).__name__} handle of {self._handle_of.path}>"
        return f"<{type(self).__name__} supervisor>"


reserve(Supervising, hooks=frozenset({"plan", "jitter", "on_start"}))


def handle_of(kind: type[S], ref: AnyRef) -> S:
    """Call this for the typed handle of a running supervisor of class `kind`."""
    plain = get_origin(kind) or kind  # `Dynamic[Word]` is an alias at run time
    # Without `__init__`, which may take anything and belongs to the actor.
    handle = object.__new__(cast("type[S]", plain))
    handle._handle_of = ref
    return handle


def administer(ref: AnyRef) -> Supervising:
    """Call this for the handle of the supervisor behind a ref, as listed by its parent.

    Raises TypeError when the actor is no supervisor.
    """
    kind = cell_of(ref).actor_class
    if kind is None or not issubclass(kind, Supervising):
        raise TypeError(f"{ref.path} is no supervisor; it has no children to look after")
    return handle_of(kind, ref)
