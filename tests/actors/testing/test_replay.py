"""A replay puts each fault in at its place, whoever put it in when it was recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from actors.runtime import Actor, AnyRef, Crashed, message
from actors.runtime.life.cell import cell_of
from actors.testing import (
    AsyncPuppet,
    Call,
    Do,
    Note,
    PlaceNeverCame,
    Puppet,
    Simulation,
    Trace,
    sleeping,
)
from actors.testing.faults import error_named, name_of
from supervision import Supervisor, child, open_system
from tests.actors.testing.test_schedules import schedule
from tests.logged import silenced


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Crashes on purpose need no lines."""
    with silenced():
        yield


class Silent(Simulation):
    """Runs a scenario as if it had been changed, and put in no faults itself."""

    def crash(self, ref: AnyRef, error: BaseException) -> None:
        """Nothing."""

    def pause(self, ref: AnyRef, seconds: float) -> None:
        """Nothing."""

    def delay(self, ref: AnyRef, seconds: float, *, sender: AnyRef | None = None) -> None:
        """Nothing."""

    def drop(self, ref: AnyRef, *, sender: AnyRef | None = None, times: int | None = None) -> None:
        """Nothing."""

    def partition(self, a: AnyRef, b: AnyRef) -> None:
        """Nothing."""

    def heal(self) -> None:
        """Nothing."""


class DiskError(Exception):
    """An error of a user, that wants more than a text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)


class OddError(Exception):
    """One that cannot be made from its text."""

    def __init__(self, code: int, *, name: str) -> None:
        super().__init__(f"{name} {code}")


@message
class Number:
    value: int


class Counting(Actor[Number]):
    """Keeps what it has seen in this incarnation, and in all."""

    def __init__(self, ever: list[int], act: Callable[[Counting], None] | None = None) -> None:
        self.ever, self.act = ever, act

    def on_number(self, message: Number) -> None:
        self.ever.append(message.value)
        if message.value == 3 and self.act is not None:
            self.act(self)
            self.act = None


class Waiting(Counting):
    """The same in a task."""

    async def on_number(self, message: Number) -> None:  # type: ignore[override]  # it waits
        await trio.lowlevel.checkpoint()
        super().on_number(message)


def lines(trace: bytes, path: str) -> list[str]:
    """What an actor did and what was done to it, without numbers of messages and exact places."""
    told = ("at", "kind", "status", "message", "name")
    return [
        " ".join(str(line[key]) for key in told if key in line)
        for line in map(json.loads, trace.decode().splitlines())
        if line.get("path") == path and line["kind"] != "sent"
    ]


def test_an_unchanged_scenario_gives_the_same_bytes() -> None:
    # ACT-122
    for seed in range(4):
        trace = Simulation(seed).run(schedule)
        assert len(Trace.from_bytes(trace).faults()) > 1
        assert Simulation.replay(trace).run(schedule) == trace


def test_the_same_bytes_come_when_the_scenario_does_not_call_any_more() -> None:
    # ACT-122: the whole trace, for nothing else was changed
    for seed in range(4):
        trace = Simulation(seed).run(schedule)
        assert Silent.replay(trace).run(schedule) == trace


@pytest.mark.slow
def test_it_does_so_for_many_schedules() -> None:
    # ACT-122, ACT-125
    for seed in range(100, 130):
        trace = Simulation(seed).run(schedule)
        assert Simulation.replay(trace).run(schedule) == trace
        assert Silent.replay(trace).run(schedule) == trace


async def all_faults(sim: Simulation) -> None:
    """Each kind of fault, at its own time or beside others."""
    log: list[object] = []
    a, b = await sim.start(Puppet, log, name="a"), await sim.start(AsyncPuppet, log, name="b")
    sim.delay(a, 0.5)
    a.tell(Note("late"))
    await trio.sleep(0.25)
    sim.heal()
    a.tell(Note("at once"))
    sim.drop(b, times=1)
    b.tell(Note("lost"))
    b.tell(Note("kept"))
    await sim.settle()
    sim.pause(b, 2.0)
    b.tell(Note("later"))
    sim.partition(a, b)
    a.tell(Do(lambda _: b.tell(Note("cut off"))))
    await trio.sleep(3)
    sim.heal()
    b.tell(Do(sleeping(1.0)))
    await trio.sleep(0.5)
    sim.crash(b, DiskError("in the middle of a handler"))
    await sim.settle()
    a.tell(Note(log))
    await trio.sleep(0.25)


def test_every_kind_of_fault_is_put_in_again() -> None:
    # ACT-122
    trace = Simulation(5).run(all_faults)
    names = [fault.name for fault in Trace.from_bytes(trace).faults()]
    assert names == ["delay", "heal", "drop", "pause", "partition", "heal", "crash"]
    assert Simulation.replay(trace).run(all_faults) == trace
    assert Silent.replay(trace).run(all_faults) == trace


@pytest.mark.parametrize("kind", [Counting, Waiting])
def test_a_fault_in_the_middle_of_a_batch_comes_behind_the_same_message(
    kind: type[Counting],
) -> None:
    # ACT-122: the handler of the third of six messages called it
    def scenario_with(act: bool, wait: int) -> Callable[[Simulation], object]:
        async def scenario(sim: Simulation) -> None:
            def crash(me: Counting) -> None:
                if act:
                    sim.crash(me.ref, OSError("disk"))

            class Root(Supervisor, intensity=9):
                worker = child(kind, seen, crash)

            async with open_system(Root) as root:
                # What was changed besides: more steps of tasks than when it was recorded.
                for _ in range(wait):
                    await trio.lowlevel.checkpoint()
                for value in range(1, 7):
                    root.worker.tell(Number(value))
                await trio.sleep(1)

        return scenario

    seen: list[int] = []
    trace = Simulation(1).run(scenario_with(act=True, wait=0))  # type: ignore[arg-type]
    assert seen == [1, 2, 3, 4, 5, 6]
    expected = lines(trace, "root/worker")
    assert expected.index("0.0 fault crash") < expected.index("0.0 status starting", 2)
    seen.clear()
    for wait in (0, 1, 5):
        again = Simulation.replay(trace).run(scenario_with(act=False, wait=wait))  # type: ignore[arg-type]
        assert lines(again, "root/worker") == expected


def test_it_is_put_in_between_the_same_two_steps_when_steps_of_tasks_were_added() -> None:
    # ACT-122
    def scenario_with(calls: bool, wait: int) -> Callable[[Simulation], object]:
        async def scenario(sim: Simulation) -> None:
            ref = await sim.start(Puppet, name="x")
            for number in range(6):
                for _ in range(wait):
                    await trio.lowlevel.checkpoint()
                ref.tell(Note(number))
                await ref.ask(Call(lambda _: None))
                if calls and number == 3:
                    sim.pause(ref, 0.5)
            await trio.sleep(1)

        return scenario

    trace = Simulation(1).run(scenario_with(calls=True, wait=0))  # type: ignore[arg-type]
    for wait in (0, 1, 7):
        again = Simulation.replay(trace).run(scenario_with(calls=False, wait=wait))  # type: ignore[arg-type]
        assert lines(again, "x") == lines(trace, "x")


def test_a_time_at_which_nothing_else_happens_any_more() -> None:
    # ACT-122
    async def recorded(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        await trio.sleep(0.7)
        sim.crash(ref, OSError("disk"))
        await trio.sleep(5)

    async def changed(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        await trio.sleep(5)
        exits.append(sim.history("x")[-1])
        assert cell_of(ref).gone

    exits: list[object] = []
    trace = Simulation(1).run(recorded)
    replay = Simulation.replay(trace)
    replay.run(changed)
    (fault,) = replay.trace.faults()
    assert fault.place.at == 0.7
    assert "at=0.7" in str(exits[0])
    assert "crashed" in str(exits[0])


def test_a_call_that_was_moved_or_added_is_left_out() -> None:
    # ACT-122
    async def recorded(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        await trio.sleep(1)
        sim.pause(ref, 0.5)
        await trio.sleep(3)

    async def changed(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        sim.pause(ref, 0.25)
        await trio.sleep(2)
        sim.pause(ref, 0.5)
        await trio.sleep(2)

    trace = Simulation(1).run(recorded)
    replay = Simulation.replay(trace)
    replay.run(changed)
    assert [fault.place.at for fault in replay.trace.faults()] == [1.0]


def test_a_place_that_never_comes_is_an_error() -> None:
    # ACT-122
    async def recorded(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        for number in range(3):
            ref.tell(Note(number))
        await sim.settle()
        sim.crash(ref, OSError("disk"))

    async def fewer(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        ref.tell(Note(0))
        await sim.settle()

    async def nobody(sim: Simulation) -> None:
        await sim.settle()

    async def too_short(sim: Simulation) -> None:
        await sim.start(Puppet, name="x")
        await trio.sleep(1)

    async def late(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        await trio.sleep(2)
        sim.pause(ref, 1)

    trace = Simulation(1).run(recorded)
    for scenario in (fewer, nobody):
        with pytest.raises(PlaceNeverCame, match=r"crash.*behind step 8") as caught:
            Simulation.replay(trace).run(scenario)
        assert [fault.name for fault in caught.value.faults] == ["crash"]
    with pytest.raises(PlaceNeverCame, match="pause"):
        Simulation.replay(Simulation(1).run(late)).run(too_short)


def test_an_error_of_the_scenario_is_not_hidden_by_a_place_that_never_came() -> None:
    # ACT-122
    async def recorded(sim: Simulation) -> None:
        sim.crash(await sim.start(Puppet, name="x"), OSError("disk"))

    async def fails(_: Simulation) -> None:
        raise LookupError("first")

    with pytest.raises(LookupError, match="first"):
        Simulation.replay(Simulation(1).run(recorded)).run(fails)


def test_a_fault_put_in_while_everything_ends_belongs_there() -> None:
    # ACT-122
    async def scenario(sim: Simulation) -> None:
        y = await sim.start(Puppet, name="y")
        await sim.start(Puppet, None, None, lambda *_: sim.crash(y, OSError("disk")), name="x")

    trace = Simulation(1).run(scenario)
    assert [fault.closing for fault in Trace.from_bytes(trace).faults()] == [True]
    assert Simulation.replay(trace).run(scenario) == trace
    assert Silent.replay(trace).run(scenario) == trace


def test_errors_are_made_again_as_well_as_can_be() -> None:
    # ACT-122
    async def recorded(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        sim.crash(ref, DiskError("full"))
        await sim.settle()

    async def changed(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        exit_ = await sim.system.wait_down(ref)
        assert isinstance(exit_, Crashed)
        errors.append(exit_.error)

    errors: list[BaseException] = []
    Simulation.replay(Simulation(1).run(recorded)).run(changed)
    assert (type(errors[0]), str(errors[0])) == (DiskError, "full")
    made = error_named(name_of(OddError(1, name="x")), "x 1")
    assert (type(made), str(made)) == (RuntimeError, "OddError: x 1")


def test_a_replay_keeps_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    # ACT-122
    trace = Simulation(3).run(all_faults)
    monkeypatch.setenv("SIM_SEED", "7")
    assert Simulation.replay(trace).run(all_faults) == trace


def test_a_simulation_can_be_run_again() -> None:
    # ACT-120, ACT-122
    simulation = Simulation(3)
    trace = simulation.run(all_faults)
    assert simulation.run(all_faults) == trace
    replay = Simulation.replay(trace)
    assert replay.run(all_faults) == trace
    assert replay.run(all_faults) == trace


def test_a_trace_from_before_places_is_refused(tmp_path: Path) -> None:
    # ACT-122
    with pytest.raises(ValueError, match="where it belongs"):
        Simulation.replay(b'{"kind":"seed","seed":1}\n{"kind":"fault","name":"heal"}')
