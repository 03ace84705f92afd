"""One seed, one run: order, faults, probes, and what must not leak in."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
import time
import types
from functools import partial

import pytest
import trio
import trio.testing

from actors.runtime import Crashed, Normal
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    Simulation,
    SimulationLeak,
    SimulationUnavailable,
    Step,
    Trace,
)
from actors.testing.scheduling import check_names
from tests.patience import PATIENCE_S


async def busy(sim: Simulation) -> None:
    """Ten actors of both kinds that tell each other things."""
    refs = [await sim.start((Puppet, AsyncPuppet)[n % 2], name=f"a{n}") for n in range(10)]

    def passes(left: int) -> Do:
        def work(me: AnyPuppet) -> None:
            if left:
                sim.random.choice(refs).tell(passes(left - 1))

        return Do(work)

    for ref in refs:
        ref.tell(passes(5))
    await sim.settle()
    sim.crash(refs[3], OSError("disk"))
    await sim.settle()
    await trio.sleep(sim.random.random())
    await refs[4].stop()


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    # ACT-120
    traces = {Simulation(seed).run(busy) for seed in range(8)}
    assert len(traces) >= 2
    assert Simulation(3).run(busy) == Simulation(3).run(busy)


@pytest.mark.slow
def test_a_hundred_seeds_differ_and_another_process_agrees() -> None:
    # ACT-120
    traces = {Simulation(seed).run(busy) for seed in range(100)}
    assert len(traces) >= 2
    program = (
        "import hashlib, importlib.util as u;"
        f"s=u.spec_from_file_location('t', {__file__!r});m=u.module_from_spec(s);"
        "s.loader.exec_module(m);"
        "print(hashlib.sha256(m.Simulation(5).run(m.busy)).hexdigest())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    ).stdout.splitlines()
    assert printed[-1] == hashlib.sha256(Simulation(5).run(busy)).hexdigest()


def test_the_locked_trio_has_the_private_names() -> None:
    # ACT-121
    check_names()
    with pytest.raises(SimulationUnavailable, match=trio.__version__) as caught:
        check_names(types.SimpleNamespace(_r=random))
    assert caught.value.missing == ["_ALLOW_DETERMINISTIC_SCHEDULING"]


def test_faults_are_recorded_and_history_tells_them() -> None:
    # ACT-122
    async def scenario(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        await trio.sleep(2)
        sim.crash(ref, OSError("disk"))
        await sim.settle()
        steps = sim.history("x")
        assert [step.kind for step in steps] == [
            "starting",
            "running",
            "stopping",
            "ended",
            "stopped",
        ]
        assert (steps[-2].at, steps[-2].exit) == (2.0, "crashed")

    trace = Simulation(1).run(scenario)
    assert b'"name": "crash"' in trace


def test_a_replay_puts_the_faults_in_again() -> None:
    # ACT-122
    ends: list[list[object]] = []

    async def scenario(sim: Simulation) -> None:
        ref = await sim.start(Puppet, name="x")
        other = await sim.start(partial(Puppet, start=None), name="y")
        assert await sim.start(Puppet, log=[], stop=None) != other
        await trio.sleep(sim.random.random())
        sim.drop(other, times=1)
        sim.crash(ref, OSError("disk"))
        other.tell(Note("lost"))
        other.tell(Note("kept"))
        await trio.sleep(1)
        handled = sim.system.stats(other).handled
        ends.append([handled, sim.history("x")[-1]])

    async def without_faults(sim: Simulation) -> None:
        await sim.start(Puppet, name="x")
        await sim.start(Puppet, name="y")
        await trio.sleep(3)
        ends.append([1, sim.history("x")[-1]])

    trace = Simulation(11).run(scenario)
    replayed = Simulation.replay(trace)
    replayed.run(scenario)
    assert replayed.trace.faults() == Trace.from_bytes(trace).faults()
    assert ends[0] == ends[1]
    assert ends[0][0] == 1
    Simulation.replay(trace).run(without_faults)
    last = ends[2][1]
    assert isinstance(last, Step)
    assert last.exit == "crashed"
    with pytest.raises(ValueError, match="no trace"):
        Simulation.replay(b"{}")


def test_delay_drop_pause_and_partition() -> None:
    # ACT-122
    async def scenario(sim: Simulation) -> None:
        log: list[object] = []
        a, b = await sim.start(Puppet, log, name="a"), await sim.start(Puppet, log, name="b")
        sim.delay(a, 2.0)
        a.tell(Note("late"))
        await trio.sleep(1)
        assert log == []
        await trio.sleep(1.1)
        assert log == ["late"]
        sim.heal()
        sim.partition(a, b)
        a.tell(Do(lambda me: b.tell(Note("lost"))))
        b.tell(Note("from outside"))
        await sim.settle()
        sim.heal()
        a.tell(Do(lambda me: b.tell(Note("healed"))))
        await sim.settle()
        sim.pause(b, 5)
        b.tell(Note("after the pause"))
        await trio.sleep(4)
        assert log[1:] == ["from outside", "healed"]
        await trio.sleep(2)
        assert log[3:] == ["after the pause"]

    Simulation(1).run(scenario)


def test_a_failing_run_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    # ACT-122
    async def scenario(sim: Simulation) -> None:
        raise AssertionError("no")

    with pytest.raises(AssertionError) as caught:
        Simulation(42).run(scenario)
    assert "SIM_SEED=42" in str(caught.value.__notes__)
    monkeypatch.setenv("SIM_SEED", "7")
    assert Simulation(42).seed == 7


def time_now() -> float:
    return time.time()


def time_passing() -> float:
    return time.monotonic()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("threading.Thread.start", lambda: threading.Thread(target=print).start()),
        ("time.time", time_now),
        ("time.sleep", lambda: time.sleep(1)),
        ("time.monotonic", time_passing),
    ],
)
def test_real_things_are_refused(name: str, call: object) -> None:
    # ACT-123
    async def scenario(sim: Simulation) -> None:
        with pytest.raises(SimulationLeak) as caught:
            call()  # type: ignore[operator]
        assert caught.value.call == name

    Simulation(1).run(scenario)


def test_threads_and_sockets_of_trio_are_refused_too() -> None:
    # ACT-123
    async def scenario(sim: Simulation) -> None:
        with pytest.raises(SimulationLeak, match="run_sync"):
            await trio.to_thread.run_sync(time.time)
        import socket

        with pytest.raises(SimulationLeak, match="socket"):
            socket.socket()

    Simulation(1).run(scenario)
    assert time.time() > 0


def test_a_probe_expects_replies_and_watches() -> None:
    # ACT-124
    async def scenario(sim: Simulation) -> None:
        probe = sim.probe()
        ref = await sim.start(Puppet)
        ref.tell(Do(lambda me: probe.ref.tell(Note("hello"))))
        note = await probe.expect(Note)
        assert note.text == "hello"
        await probe.expect_none(0.5)
        with pytest.raises(AssertionError, match="no Note"):
            await probe.expect(Note, within=1)
        probe.ref.tell(Do(print))
        with pytest.raises(AssertionError, match="expected a Note"):
            await probe.expect(Note)
        async with trio.open_nursery() as nursery:

            async def asks() -> None:
                assert await probe.ref.ask(Call(print)) == 5

            nursery.start_soon(asks)
            await probe.expect(Call)
            probe.reply(5)
        error = OSError("disk")
        sim.crash(ref, error)
        assert await probe.expect_down(ref) == Crashed(error)
        other = await sim.start(Puppet)
        await other.stop()
        assert await probe.expect_down(other) == Normal()
        third = await sim.start(Puppet)
        with pytest.raises(AssertionError, match="had not ended"):
            await probe.expect_down(third)

    Simulation(1).run(scenario)


def test_a_message_nobody_expected_fails_the_run() -> None:
    # ACT-124
    async def scenario(sim: Simulation) -> None:
        probe = sim.probe()
        probe.ref.tell(Note("surprise"))
        await sim.settle()

    with pytest.raises(AssertionError, match="surprise"):
        Simulation(1).run(scenario)


def test_sockets_and_threads_of_trio_are_real_too() -> None:  # ACT-123
    async def scenario(sim: Simulation) -> None:
        with pytest.raises(SimulationLeak, match="socket"):
            await trio.open_tcp_listeners(0, host="127.0.0.1")
        with pytest.raises(SimulationLeak, match="thread"):
            await trio.to_thread.run_sync(len, "x")

    Simulation(1).run(scenario)


def test_what_memory_looks_like_changes_no_trace() -> None:
    # ACT-120: whether a large state is freed in slices is guessed from who else holds it
    held: list[object] = []

    def fill(me: AnyPuppet) -> None:
        me.state = {str(number): [number] for number in range(5000)}
        held.extend([me.state] * copies)

    def fails(_: object) -> None:
        raise OSError("full")

    async def crashing(sim: Simulation) -> None:
        refs = [await sim.start(Puppet, name=f"a{number}") for number in range(4)]
        for ref in refs:
            await ref.ask(Call(fill))
        for number, ref in enumerate(refs):
            for other in refs:
                other.tell(Note(number))
            ref.tell(Do(fails))
        await sim.settle()

    copies = 0
    first = Simulation(7).run(crashing)
    copies = 20
    assert Simulation(7).run(crashing) == first
