"""Supervisors of any number of children made from one template, found by key or by ref.

    rooms = dynamic(Room, key="name", max_children=1000)    # in the body of a Supervisor
    oak = shop.rooms["oak"]                                  # a ref; its first message starts it

What is decided stands in `deciding/dynamic.py`. Children with ids: `supervisor.py`.
"""

from __future__ import annotations

from typing import Generic, TypeVar, cast

from actors.runtime import AnyRef, Ignore, Ref, checked_name
from actors.runtime.life.cell import cell_of
from actors.runtime.life.hooks import reserve
from supervision.deciding.dynamic import DynamicMachine
from supervision.deciding.slots import Slot, child_of
from supervision.doing.supervising import Supervising
from supervision.specs.arguments import check_child
from supervision.specs.errors import NotFound, Unsupported
from supervision.specs.specs import ChildSpec, DynamicFlags, Plan
from supervision.specs.words import Child, Counts, StartResult

M = TypeVar("M")


class Dynamic(Supervising, Generic[M]):
    """A supervisor of children that take messages of type M, all made from one template."""

    def __init__(self, flags: DynamicFlags, template: object) -> None:
        self._planned = Plan(flags, [template])

    def plan(self) -> Plan | Ignore:
        """Override this to compute flags and template; the default is what `__init__` got."""
        return self._planned

    # -- children by key ---------------------------------------------------------------------

    def __getitem__(self, key: str) -> Ref[M]:
        """Call this for the child of that key: a ref at once, its first message starts it.

        Raises `Unsupported` without keys, `ValueError` for a key that cannot stand in a path,
        `NoProc` when the supervisor does not run.
        """
        hands, machine = self._reach(), self._machine()
        if machine.flags.key is None:
            raise Unsupported("a lookup")
        return cast("Ref[M]", hands.cells.for_key(checked_name(key)).ref)

    def running(self, key: str) -> Ref[M] | None:
        """Call this for the child of that key if there is one now; nothing is made."""
        slot = self._machine().by_key.get(key)
        if slot is None or slot.cell is None or not slot.is_live:
            return None
        return cast("Ref[M]", slot.cell.ref)

    def keys(self) -> list[str]:
        """Call this for the keys of all children there are now, in start order."""
        return list(self._machine().by_key)

    # -- administration ------------------------------------------------------------------------

    async def start_child(
        self, *args: object, key: str | None = None, name: str | None = None, **named: object
    ) -> StartResult[M]:
        """Call this to start one more child and wait until it is ready.

        `args` follow the template's, `named` are arguments by name; a keyed one is found by `key`,
        `name` registers it system-wide. Raises `SpecError` for an argument that its class does not
        take, `TooManyChildren`, `KeyRefused`, `AlreadyStarted`, `AlreadyPresent`, `StartFailed`
        (nothing is kept then) or `NoProc`. Cancelled while waiting, the start goes on.
        """
        machine = self._machine()
        if named:
            check_child(machine.template.start, named)
        if (key is None) != (machine.flags.key is None):
            raise Unsupported("start_child without its key" if key is None else "a key")
        if key is not None:
            key = checked_name(key)
        more = named or None
        answer = await self._call(
            lambda call, now: machine.start_child(call, args, key, name, now, more)
        )
        return cast("StartResult[M]", answer)

    async def terminate_child(self, ref: AnyRef) -> None:
        """Call this to stop a child for good and wait for its end; one that has ended is fine.

        Raises `Unsupported` for anything but a ref, `NotFound` for a living stranger (which is
        not touched), `NoProc`.
        """
        machine, slot = self._machine(), self._slot(ref, "terminate_child")
        await self._call(lambda call, now: machine.terminate_child(call, slot, now))

    async def restart_now(self, ref: AnyRef) -> None:
        """Call this to end the backoff of a child. Raises `NotBackingOff`, `NotFound`, `NoProc`."""
        machine, slot = self._machine(), self._slot(ref, "restart_now")
        await self._call(lambda call, now: machine.restart_now(call, slot, now))

    async def restart_child(self, child_id: object) -> StartResult[M]:
        """Raises `Unsupported`: a child that ended is gone; start another one."""
        self._reach()
        raise Unsupported("restart_child")

    async def delete_child(self, child_id: object) -> None:
        """Raises `Unsupported`: there is no spec of a single child."""
        self._reach()
        raise Unsupported("delete_child")

    async def reconfigure(self, plan: Plan | Ignore) -> None:
        """Call this to replace flags and template; children that run keep what they have."""
        machine = self._machine()
        if isinstance(plan, Plan):
            await self._call(lambda call, now: machine.reconfigure(call, plan, now))

    async def which_children(self, offset: int = 0, limit: int | None = None) -> list[Child[M]]:
        """Call this to list the children in start order, `limit` of them from `offset` on."""
        found = await self._question(lambda: self._machine().which_children(offset, limit))
        return cast("list[Child[M]]", found)

    async def which_child(self, ref: AnyRef) -> Child[M]:
        """Call this for one line of the list. Raises `Unsupported`, `NotFound` or `NoProc`."""
        slot = self._slot(ref, "which_child")
        if slot is None:
            raise NotFound(ref)
        return cast("Child[M]", await self._question(lambda: child_of(slot, None)))

    async def count_children(self) -> Counts:
        """Call this to count the children; there is one spec."""
        return await self._question(lambda: self._machine().count_children())

    async def get_spec(self, ref: AnyRef | None = None) -> ChildSpec:
        """Call this for the template with its defaults.

        Raises `Unsupported` for anything but a ref, `NotFound` for a living stranger; a child
        that has ended was made from it too.
        """
        if ref is not None:
            self._slot(ref, "get_spec")
        return await self._question(lambda: self._machine().get_spec())

    def _slot(self, ref: object, call: str) -> Slot | None:
        """The place of a child; None for an actor that is gone for good."""
        hands = self._reach()
        if not isinstance(ref, Ref):
            raise Unsupported(call)
        cell = cell_of(ref)
        slot = hands.cells.slot_of(cell)
        if slot is None and not (cell.gone or cell.dormant):
            raise NotFound(ref)
        return slot

    def _machine(self) -> DynamicMachine:
        machine = self._reach().machine
        assert isinstance(machine, DynamicMachine), "this class plans with DynamicFlags"
        return machine


reserve(Dynamic, hooks=frozenset({"plan"}))
