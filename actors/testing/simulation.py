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
from random import Random
from typing import ParamSpec, Protocol, TypeAlias, TypeVar, TypeVarTuple, cast, overload

import trio
import trio.testing

from actors.runtime import Actor, AnyRef, Cell, DeadLetter, Ref, System, open_actors
from actors.runtime.delivery.dispatcher import Turning
from actors.runtime.delivery.envelope import Envelope
from actors.runtime.system.system import Conditions, set_conditions
from actors.runtime.watching.dead_letters import TOPIC as DEAD_LETTERS
from actors.runtime.words.showing import text_of
from actors.testing import faults
from actors.testing.probe import Probe
from actors.testing.replaying import PlaceNeverCame, Replay, Turns
from actors.testing.scheduling import seeded_scheduler
from actors.testing.trace import Fault, Step, Trace
from actors.testing.world.sealed import alone, sealed

M = TypeVar("M")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
# What a simulation runs: an `async def` that takes it.
Scenario: TypeAlias = Callable[["Simulation"], Awaitable[object]]


class Start(Protocol):
    """`System.start`, whatever its arguments."""

    async def __call__(self, actor: object, /, *args: object, **given: object) -> AnyRef: ...


class Simulation:
    """One repeatable run. Faults are part of its trace; `Simulation.replay` puts them in again.

    After `run`, also one that failed, `trace` holds what happened. `run` may be called again.
    """

    def __init__(self, seed: int) -> None:
        self.seed = int(os.environ.get("SIM_SEED", seed))
        self._recorded: list[Fault] | None = None
        self._turns: Turns | None = None
        self._replay: Replay | None = None
        self._begin_anew()

    @classmethod
    def replay(cls, trace: bytes) -> Simulation:
        """Call this to run with the seed and the faults of a trace.

        Each is put in at its recorded place, also when the scenario does not put it in any more: a
        fault of an actor between the same two steps of it. What the scenario calls at other
        places is left out. With an unchanged scenario the run gives the same bytes. `run` raises
        PlaceNeverCame when it ended before the place of a fault came.

        Errors are made again by their class and text. Raises ValueError when it is no trace.
        """
        recorded = Trace.from_bytes(trace)
        simulation = cls(recorded.seed)
        # Of the trace, whatever SIM_SEED says.
        simulation.seed, simulation._recorded = recorded.seed, recorded.faults()
        simulation._begin_anew()
        return simulation

    def run(self, scenario: Scenario) -> bytes:
        """Call this (not within trio) to run `scenario`; gives the trace as bytes.

        Raises what the scenario raises, with a note that names the seed; SimulationLeak when an
        actor crashed by one and nobody was told; RuntimeError when another simulation runs.
        """
        with alone(), seeded_scheduler(self.seed):
            self._begin_anew()
            clock = trio.testing.MockClock(autojump_threshold=0)
            turns = self._turns_of(clock)
            try:
                trio.run(self._main, scenario, clock, clock=clock, instruments=[turns])
            except (Exception, BaseExceptionGroup) as error:
                error.add_note(f"seed {self.seed}: run it again with SIM_SEED={self.seed}")
                raise
        return self.trace.to_bytes()

    def _turns_of(self, clock: trio.testing.MockClock) -> Turns:
        if self._recorded is None:
            self._turns = Turns(clock, self.trace)
            return self._turns
        self._replay = Replay(clock, self.trace, self._recorded, self._put_in)
        self._turns = self._replay
        return self._replay

    async def _main(self, scenario: Scenario, clock: trio.testing.MockClock) -> None:
        order = Random(self.seed)

        def shuffle(queue: deque[Turning]) -> None:
            cells = list(queue)
            order.shuffle(cells)
            queue.clear()
            queue.extend(cells)

        set_conditions(
            Conditions(
                new_id=lambda: f"{order.getrandbits(32):08x}",
                clock=lambda: 0.0,
                random=self.random,
                shuffle=shuffle,
                check_replies=True,
                opened=self._opened,
                gate=self._new_gate,
            )
        )
        with sealed(self.seed, clock) as watch:
            async with open_actors():
                await scenario(self)
                self._look_for_missed(closing=False)
                self._closing = True
                for probe in self._probes:
                    probe.check_nothing_is_left()
            self._look_for_missed(closing=True)
        if self.trace.failure is not None:
            raise self.trace.failure
        if watch.unheard:
            raise watch.unheard[0]

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
        self._fault("crash", ref.path, faults.name_of(error), text_of(error), error=error)

    def pause(self, ref: AnyRef, seconds: float) -> None:
        """Call this to hold an actor still for a while."""
        self._fault("pause", ref.path, seconds)

    def delay(self, ref: AnyRef, seconds: float, *, sender: AnyRef | None = None) -> None:
        """Call this to let messages to `ref` (from `sender` only) arrive later, until `heal`."""
        self._fault("delay", ref.path, seconds, None if sender is None else sender.path)

    def drop(self, ref: AnyRef, *, sender: AnyRef | None = None, times: int | None = None) -> None:
        """Call this to lose messages to `ref`, the next `times` or until `heal`."""
        self._fault("drop", ref.path, None if sender is None else sender.path, times)

    def partition(self, a: AnyRef, b: AnyRef) -> None:
        """Call this to lose what two actors send each other, until `heal`."""
        self._fault("partition", a.path, b.path)

    def heal(self) -> None:
        """Call this to end all delays, drops and partitions."""
        self._fault("heal")

    # Inside

    def _begin_anew(self) -> None:
        self.random = Random(self.seed)
        self.trace = Trace(self.seed)
        self._systems: list[System] = []
        self._gates: dict[Cell, faults.Gate] = {}
        self._probes: list[Probe] = []
        self._turns = self._replay = None
        self._closing = False

    def _opened(self, system: System) -> None:
        self._systems.append(system)
        system.changes_log.add(self.trace)
        system.changes_log.before = self.trace.begins
        system.topics.subscribe(DEAD_LETTERS, _Lost(self.trace))

    def _new_gate(self, cell: Cell) -> Callable[[Envelope], bool]:
        gate = self._gates[cell] = faults.Gate(cell, self.trace.sent)
        return gate.take

    def _look_for_missed(self, *, closing: bool) -> None:
        if self._replay is None:
            return
        if self._replay.failure is not None:
            raise self._replay.failure
        if missed := self._replay.missed(closing=closing):
            raise PlaceNeverCame(missed, self.trace)

    def _fault(self, name: str, *arguments: object, error: BaseException | None = None) -> None:
        if self._turns is None:
            raise RuntimeError(f"{name}: a fault is put in while the simulation runs")
        path = str(arguments[0]) if arguments else ""
        if self._replay is None or self._replay.claims(name, arguments):
            self._do(Fault(name, arguments, self._turns.place(path), self._closing), error)

    def _put_in(self, recorded: Fault) -> None:
        assert self._turns is not None
        place = self._turns.place(recorded.path)
        self._do(Fault(recorded.name, recorded.arguments, place, self._closing))

    def _do(self, fault: Fault, error: BaseException | None = None) -> None:
        self.trace.fault(fault)
        match fault.name, fault.arguments:
            case "crash", (str(path), str(kind), str(text)):
                for cell in self._at(path):
                    faults.crash(cell.ref, error or faults.error_named(kind, text))
            case "pause", (str(path), int() | float() as seconds):
                for cell in self._at(path):
                    faults.pause(cell.ref, seconds)
            case "delay", (str(path), int() | float() as seconds, sender):
                self._rule(path, faults.Rule(_text(sender), seconds, None))
            case "drop", (str(path), sender, times):
                left = times if isinstance(times, int) else None
                self._rule(path, faults.Rule(_text(sender), None, left))
            case "partition", (str(a), str(b)):
                self._rule(a, faults.Rule(b, None, None))
                self._rule(b, faults.Rule(a, None, None))
            case "heal", ():
                for gate in self._gates.values():
                    gate.rules.clear()
            case _:
                raise ValueError(f"the trace names a fault that nobody knows: {fault}")

    def _at(self, path: str) -> list[Cell]:
        found = (system.at(path) for system in self._systems)
        return [cell for cell in found if cell is not None]

    def _rule(self, path: str, rule: faults.Rule) -> None:
        for cell in self._at(path):
            self._gates[cell].rules.append(rule)


class _Lost:
    """Writes dead letters into a trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def deliver(self, letter: object) -> None:
        """Called by the topic."""
        assert isinstance(letter, DeadLetter)
        self._trace.lost(letter.at, letter.path, letter.message_id, letter.reason)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
