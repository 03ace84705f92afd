"""Runs that can be repeated: one seed decides on order, chance and ids; time is virtual.

    async def scenario(sim: Simulation) -> None:
        ref = await sim.start(Stock, "front")
        sim.crash(ref, OSError("disk"))
        await sim.settle()

    trace = Simulation(seed=7).run(scenario)        # the same bytes every time

A failing run says its seed; `SIM_SEED=n` in the environment runs that one again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Final, ParamSpec, Protocol, TypeVar, TypeVarTuple, cast, overload

import trio
import trio.testing

from actors.runtime import Actor, AnyRef, Cell, Ref, System, open_actors
from actors.runtime.delivery.dispatcher import Turning
from actors.runtime.system.system import Conditions, set_conditions
from actors.testing import faults
from actors.testing.probe import Probe
from actors.testing.scheduling import seeded_scheduler
from actors.testing.trace import Step, Trace
from actors.testing.world.sealed import sealed

# In a replay a fault waits this long for the scenario to put it in at its exact place.
SCRIPT_DELAY_S: Final = 1e-6

M = TypeVar("M")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class Start(Protocol):
    """`System.start`, whatever its arguments."""

    async def __call__(self, actor: object, /, *args: object, **given: object) -> AnyRef: ...


class Simulation:
    """One repeatable run. Faults are part of its trace; `Simulation.replay` puts them in again."""

    def __init__(self, seed: int) -> None:
        self.seed = int(os.environ.get("SIM_SEED", seed))
        self.random = Random(self.seed)
        self.trace = Trace(self.seed)
        self._systems: list[System] = []
        self._gates: dict[Cell, faults.Gate] = {}
        self._probes: list[Probe] = []
        self._script: list[tuple[float, str, list[object]]] | None = None

    @classmethod
    def replay(cls, trace: bytes) -> Simulation:
        """Call this to run with the seed and the faults of a trace.

        Each comes at its recorded time, also when the scenario does not put it in any more; a
        fault the trace does not have is left out.

        Errors are made again by their name and text. Raises ValueError when it is no trace.
        """
        recorded = Trace.from_bytes(trace)
        simulation = cls(recorded.seed)
        simulation._script = recorded.faults()
        return simulation

    def run(self, scenario: Callable[[Simulation], Awaitable[object]]) -> bytes:
        """Call this (not within trio) to run `scenario`; gives the trace as bytes.

        Raises what the scenario raises, with a note that names the seed.
        """
        order = Random(self.seed)

        def shuffle(queue: deque[Turning]) -> None:
            cells = list(queue)
            order.shuffle(cells)
            queue.clear()
            queue.extend(cells)

        clock = trio.testing.MockClock(autojump_threshold=0)

        async def main() -> None:
            set_conditions(
                Conditions(
                    new_id=lambda: f"{order.getrandbits(32):08x}",
                    clock=lambda: 0.0,
                    random=self.random,
                    shuffle=shuffle,
                    check_replies=True,
                    opened=self._opened,
                )
            )
            with sealed(self.seed, clock) as watch:
                async with open_actors():
                    self._begin_script()
                    await scenario(self)
                    for probe in self._probes:
                        probe.check_nothing_is_left()
            if watch.unheard:
                raise watch.unheard[0]

        with seeded_scheduler(self.seed):
            try:
                trio.run(main, clock=clock)
            except (Exception, BaseExceptionGroup) as error:
                error.add_note(f"seed {self.seed}: run it again with SIM_SEED={self.seed}")
                raise
        return self.trace.to_bytes()

    @property
    def system(self) -> System:
        """The system of `start`; a scenario may open others, which are recorded too."""
        return self._systems[0]

    @overload
    async def start(
        self, actor: Callable[[*Ts], Actor[M]], /, *args: *Ts, name: str | None = None
    ) -> Ref[M]: ...
    @overload
    async def start(
        self, actor: Callable[P, Actor[M]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Ref[M]: ...
    async def start(self, actor: object, /, *args: object, **given: object) -> AnyRef:
        """Call this to start an actor; see `System.start`."""
        start = cast("Start", self.system.start)
        return await start(actor, *args, **given)

    def probe(self) -> Probe:
        """Call this for an actor that a test holds in its hand."""
        probe = Probe(self.system)
        self._probes.append(probe)
        return probe

    async def settle(self) -> None:
        """Call this to wait until only timers are left; no time passes."""
        await trio.testing.wait_all_tasks_blocked()

    def history(self, path: str) -> list[Step]:
        """Call this to get what became of the actor at `path`."""
        return self.trace.history(path)

    # Faults. In a replay only those of the trace happen.

    def crash(self, ref: AnyRef, error: BaseException) -> None:
        """Call this to crash an actor with `error`, now."""
        self._fault("crash", [ref.path, type(error).__name__, str(error)], error)

    def pause(self, ref: AnyRef, seconds: float) -> None:
        """Call this to hold an actor still for a while."""
        self._fault("pause", [ref.path, seconds])

    def delay(self, ref: AnyRef, seconds: float, *, sender: AnyRef | None = None) -> None:
        """Call this to let messages to `ref` (from `sender` only) arrive later, until `heal`."""
        self._fault("delay", [ref.path, seconds, None if sender is None else sender.path])

    def drop(self, ref: AnyRef, *, sender: AnyRef | None = None, times: int | None = None) -> None:
        """Call this to lose messages to `ref`, the next `times` or until `heal`."""
        self._fault("drop", [ref.path, None if sender is None else sender.path, times])

    def partition(self, a: AnyRef, b: AnyRef) -> None:
        """Call this to lose what two actors send each other, until `heal`."""
        self._fault("partition", [a.path, b.path])

    def heal(self) -> None:
        """Call this to end all delays, drops and partitions."""
        self._fault("heal", [])

    # Inside

    def _opened(self, system: System) -> None:
        self._systems.append(system)
        system.changes_log.add(self.trace)

    def _begin_script(self) -> None:
        for entry in self._script or ():
            self.system.wheel.call_at(entry[0] + SCRIPT_DELAY_S, partial(self._play, entry))

    def _play(self, entry: tuple[float, str, list[object]]) -> None:
        if self._script is not None and entry in self._script:
            self._script.remove(entry)
            self._put_in(entry[1], entry[2], None)

    def _fault(
        self, name: str, arguments: list[object], error: BaseException | None = None
    ) -> None:
        if self._script is not None:
            entry = next((e for e in self._script if e[1:] == (name, arguments)), None)
            if entry is None:
                return
            self._script.remove(entry)
        self._put_in(name, arguments, error)

    def _put_in(self, name: str, arguments: list[object], error: BaseException | None) -> None:
        self.trace.fault(trio.current_time(), name, arguments)
        match name, arguments:
            case "crash", [str(path), str(kind), str(text)]:
                for cell in self._at(path):
                    faults.crash(cell.ref, error or faults.error_named(kind, text))
            case "pause", [str(path), int() | float() as seconds]:
                for cell in self._at(path):
                    faults.pause(cell.ref, seconds)
            case "delay", [str(path), int() | float() as seconds, sender]:
                self._rule(path, faults.Rule(_text(sender), seconds, None))
            case "drop", [str(path), sender, times]:
                left = times if isinstance(times, int) else None
                self._rule(path, faults.Rule(_text(sender), None, left))
            case "partition", [str(a), str(b)]:
                self._rule(a, faults.Rule(b, None, None))
                self._rule(b, faults.Rule(a, None, None))
            case "heal", []:
                for gate in self._gates.values():
                    gate.open()
                self._gates.clear()
            case _:
                raise ValueError(f"the trace names a fault {name!r} with {arguments!r}")

    def _at(self, path: str) -> list[Cell]:
        found = (system.at(path) for system in self._systems)
        return [cell for cell in found if cell is not None]

    def _rule(self, path: str, rule: faults.Rule) -> None:
        for cell in self._at(path):
            gate = self._gates.get(cell)
            if gate is None:
                gate = self._gates[cell] = faults.Gate(cell)
            gate.rules.append(rule)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
