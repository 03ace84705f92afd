"""The cells of a supervisor's children: making them, and finding them by key.

A cell is a child's identity in the runtime. `hands.py` starts and stops what is made here.

Rule: a key has at most one cell: its child's, or a dormant one that waits for a message. A start
takes the dormant one over, so that refs which were handed out by key stay true.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Final, TypeAlias

from actors.runtime import Actor, AnyActor, BadReturn, Cell, Owner, Shutdown, System
from supervision.deciding.dynamic import DynamicMachine
from supervision.deciding.slots import Slot
from supervision.deciding.static import StaticMachine
from supervision.specs.specs import ChildSpec, class_of

AnyMachine: TypeAlias = StaticMachine | DynamicMachine
# What cells are made with: actor class, shutdown, start timeout (None: the class decides).
_Facts: TypeAlias = tuple[type[AnyActor] | None, float, float | None]

# Keys that were looked up or went idle and have no child now. Past this many the oldest lose
# their ref: whoever still holds one takes a new one by its key.
DORMANT_MAX: Final = 10_000


class Cells:
    """The cells of one incarnation of a supervisor."""

    def __init__(self, owner: Owner, system: System, path: str, machine: AnyMachine) -> None:
        self._owner, self._system, self._path = owner, system, path
        self._machine = machine
        self._slots: dict[Cell, Slot] = {}
        # Cells without a slot, by key, the one asleep for longest first.
        self._dormant: dict[str, Cell] = {}
        self._serial = 0
        # Bound once more, to its slot, this is one object a child; a partial was three, which
        # the garbage collector walks again and again while thousands start.
        self._make_for = self._make
        # What was read off the template of dynamic children, once for all of them.
        self._template: tuple[ChildSpec | None, _Facts] = (None, (None, 0.0, None))

    def __repr__(self) -> str:
        return f"<Cells of {self._path}: {len(self._slots)} and {len(self._dormant)} dormant>"

    def __len__(self) -> int:
        return len(self._slots)

    def all(self) -> list[Cell]:
        """Those of children; not those that are dormant."""
        return list(self._slots)

    def slot_of(self, cell: Cell) -> Slot | None:
        """The place of a child, by its cell."""
        return self._slots.get(cell)

    def of(self, slot: Slot) -> Cell:
        """The cell of a slot that has one."""
        assert isinstance(slot.cell, Cell), f"{slot!r} has no cell"
        return slot.cell

    def for_start(self, slot: Slot) -> Cell:
        """The cell to start, made if there is none; raises AlreadyStarted if its name is taken."""
        if slot.cell is None:
            slot.cell = cell = self._cell_to_start(slot)
            self._slots[cell] = slot
        slot.exit = None
        return self.of(slot)

    def release(self, slot: Slot) -> Cell:
        """Take the cell away from a slot."""
        cell = self.of(slot)
        slot.cell = slot.exit = None
        del self._slots[cell]
        return cell

    def for_key(self, key: str) -> Cell:
        """The cell behind `rooms[key]`: the child's, or one that waits for mail."""
        machine = self._machine
        assert isinstance(machine, DynamicMachine), "only dynamic children have keys"
        slot = machine.by_key.get(key)
        if slot is not None and isinstance(slot.cell, Cell):
            return slot.cell
        cell = self._dormant.get(key)
        if cell is None:
            cell = self._new_cell(machine.template, key, machine.template.name, _asleep)
            self.sleep(key, cell)
        return cell

    def sleep(self, key: str, cell: Cell) -> None:
        """Leave a cell without incarnation until a message comes."""
        self._dormant[key] = cell
        if len(self._dormant) > DORMANT_MAX:
            oldest = next(iter(self._dormant))
            self._dormant.pop(oldest).retire(Shutdown(because="not used for long"))
        # Last: with mail queued it asks for a child at once, and has to be found here by then.
        cell.await_first_message()

    def key_of_dormant(self, cell: Cell) -> str | None:
        """The key whose dormant cell this is, or None."""
        key = cell.path.rpartition("/")[2]
        return key if self._dormant.get(key) is cell else None

    def refuse(self, key: str, because: str) -> None:
        """Return the mail that came for a key which may not have a child now."""
        self._dormant.pop(key).refuse(because)

    def retire_dormant(self) -> None:
        """The supervisor ends: the refs of idle keys are dead."""
        dormant, self._dormant = self._dormant, {}
        for cell in dormant.values():
            cell.retire(Shutdown(because=f"{self._path} ended"))

    def _cell_to_start(self, slot: Slot) -> Cell:
        if slot.key is not None:
            dormant = self._dormant.pop(slot.key, None)
            if dormant is not None:
                dormant.start = MethodType(self._make_for, slot)
                return dormant
            key = slot.key
        elif slot.id is not None:
            key = slot.id
        else:
            self._serial += 1
            key = str(self._serial)
        return self._new_cell(slot.spec, key, slot.name, MethodType(self._make_for, slot))

    def _new_cell(
        self, spec: ChildSpec, key: str, name: str | None, start: Callable[[], AnyActor]
    ) -> Cell:
        actor_class, shutdown, start_timeout = self._facts(spec)
        return self._system.new_cell(
            self._owner,
            start,
            key=key,
            parent_path=self._path,
            name=name,
            actor_class=actor_class,
            shutdown=shutdown,
            start_timeout=start_timeout,
        )

    def _facts(self, spec: ChildSpec) -> _Facts:
        known, facts = self._template
        if spec is known:
            return facts
        facts = _facts_of(spec)
        if isinstance(self._machine, DynamicMachine):
            # Only a template: the spec of a static child goes with the child.
            self._template = (spec, facts)
        return facts

    def _make(self, slot: Slot) -> AnyActor:
        machine = self._machine
        if slot.key is not None and isinstance(machine, DynamicMachine):
            keyword = {machine.flags.key or "key": slot.key}
            made = slot.spec.start(*slot.args, **keyword, **(slot.named or {}))
        elif slot.named is not None:
            made = slot.spec.start(*slot.args, **slot.named)
        else:
            made = slot.spec.start(*slot.args)
        if not isinstance(made, Actor):
            raise BadReturn(made)
        if made.opens_nursery and slot.spec.type == "worker":
            self._note_type(slot, made)
        return made

    def _note_type(self, slot: Slot, made: AnyActor) -> None:
        if getattr(made, "child_type", None) == "supervisor":
            self._machine.made(slot, "supervisor")
            self.of(slot).shutdown = _shutdown_of(slot.spec)


def _asleep() -> AnyActor:
    raise AssertionError("a dormant cell gets its start with its slot")


def _facts_of(spec: ChildSpec) -> _Facts:
    made = class_of(spec.start)
    return (
        made if made is not None and issubclass(made, Actor) else None,
        _shutdown_of(spec),
        # A supervisor is ready when its children are; each of them has its own limit.
        float("inf") if spec.type == "supervisor" else None,
    )


def _shutdown_of(spec: ChildSpec) -> float:
    return spec.shutdown if isinstance(spec.shutdown, float | int) else 0.0
