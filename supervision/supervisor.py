"""Supervisors of children with ids, in a fixed order: the class form and the calls.

    class Shop(Supervisor, strategy="rest_for_one", intensity=3, period=5.0):
        front = child(Stock, "front")                       # body order is start order
        shelves = dynamic(Stock, key="shelf", passivate_after=300.0)

The class compiles to a `Plan`; override `plan()` to give one as data. What is decided stands in
`deciding/static.py`. Many children of one template: `dynamic_supervisor.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Never, cast

from actors.runtime import Ignore
from actors.runtime.life.hooks import reserve
from supervision.deciding.static import StaticMachine
from supervision.declared import Declared, declared_in
from supervision.doing.supervising import Supervising
from supervision.specs.specs import ChildSpec, Flags, Plan, read_flags
from supervision.specs.words import AnyChild, AnyStartResult, AutoShutdownMode, Counts, Strategy


class Supervisor(Supervising):
    """A supervisor of named children. Class arguments are the fields of `Flags`."""

    flags: ClassVar[Flags] = Flags()
    declared: ClassVar[Mapping[str, Declared]] = {}

    def __init_subclass__(
        cls,
        *,
        strategy: Strategy | None = None,
        intensity: int | None = None,
        period: float | None = None,
        auto_shutdown: AutoShutdownMode | None = None,
        **unknown: Never,
    ) -> None:
        super().__init_subclass__()
        given = {
            "strategy": strategy,
            "intensity": intensity,
            "period": period,
            "auto_shutdown": auto_shutdown,
        }
        base = {name: getattr(cls.flags, name) for name in given}
        changed = {name: value for name, value in given.items() if value is not None}
        flags = read_flags({**base, **changed, **unknown})
        assert isinstance(flags, Flags)
        cls.flags = flags
        cls.declared = {**cls.declared, **declared_in(cls)}
        # Made here once, so that nonsense is refused when the class is made.
        Plan(flags, [one.spec(name, None) for name, one in cls.declared.items()])

    def plan(self) -> Plan | Ignore:
        """Override this to say which children there are; the default is the class body."""
        specs = [one.spec(name, self) for name, one in self.declared.items()]
        return Plan(self.flags, specs)

    # -- administration: see "Calls" in docs/explain/supervision.md ---------------------------

    async def start_child(self, spec: ChildSpec | Mapping[str, object]) -> AnyStartResult:
        """Call this to add a child at the end and start it; waits until it is ready.

        Raises `SpecError`, `AlreadyStarted`, `AlreadyPresent`, `StartFailed` (nothing is kept
        then) or `NoProc`. Cancelled while waiting, the start goes on.
        """
        machine = self._machine()
        # Read here: a mapping is a person's, and its errors are the caller's.
        read = ChildSpec.parse(spec)
        answer = await self._call(lambda call, now: machine.start_child(call, read, now))
        return cast("AnyStartResult", answer)

    async def terminate_child(self, child_id: str) -> None:
        """Call this to stop a child and wait for its end; its spec stays unless temporary.

        Raises `NotFound` or `NoProc`. Already stopped is fine.
        """
        machine = self._machine()
        await self._call(lambda call, now: machine.terminate_child(call, child_id, now))

    async def restart_child(self, child_id: str) -> AnyStartResult:
        """Call this to start a child that is listed without running.

        Raises `StillRunning`, `StillRestarting`, `NotFound`, `StartFailed` (the spec stays) or
        `NoProc`.
        """
        machine = self._machine()
        answer = await self._call(lambda call, now: machine.restart_child(call, child_id, now))
        return cast("AnyStartResult", answer)

    async def delete_child(self, child_id: str) -> None:
        """Call this to remove the spec of a child that does not run.

        Raises `StillRunning`, `StillRestarting`, `NotFound` or `NoProc`.
        """
        machine = self._machine()
        await self._call(lambda call, now: machine.delete_child(call, child_id, now))

    async def restart_now(self, child_id: str) -> None:
        """Call this to end a backoff: the next attempt begins at once.

        Raises `NotBackingOff`, `StillRunning`, `NotFound` or `NoProc`.
        """
        machine = self._machine()
        await self._call(lambda call, now: machine.restart_now(call, child_id, now))

    async def reconfigure(self, plan: Plan | Ignore) -> None:
        """Call this to change flags and specs while everything runs on; IGNORE changes nothing.

        Changed specs rule from now on, their `start` from the next start. Added ones are listed,
        not started; removed ones keep running and stand last.
        """
        machine = self._machine()
        if isinstance(plan, Plan):
            await self._call(lambda call, now: machine.reconfigure(call, plan, now))

    async def which_children(self) -> list[AnyChild]:
        """Call this to list the children in start order."""
        return await self._question(lambda: self._machine().which_children())

    async def which_child(self, child_id: str) -> AnyChild:
        """Call this for one line of the list. Raises `NotFound` or `NoProc`."""
        return await self._question(lambda: self._machine().which_child(child_id))

    async def count_children(self) -> Counts:
        """Call this to count specs, active children, supervisors and workers."""
        return await self._question(lambda: self._machine().count_children())

    async def get_spec(self, child_id: str) -> ChildSpec:
        """Call this for the spec of one child. Raises `NotFound` or `NoProc`."""
        return await self._question(lambda: self._machine().get_spec(child_id))

    def _machine(self) -> StaticMachine:
        machine = self._reach().machine
        assert isinstance(machine, StaticMachine), "this class plans with Flags"
        return machine


reserve(Supervisor, hooks=frozenset({"plan"}))
