"""What a scenario sees of the real world: the seed's, the virtual clock's, or a SimulationLeak."""

# ruff: noqa: F401 - the expressions that are looked at in a simulation name the imports
from __future__ import annotations

import datetime as datetime_module
import email.utils
import importlib
import os
import queue
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from os import urandom
from pathlib import Path
from random import Random, SystemRandom, randrange
from random import random as chance
from secrets import token_bytes, token_hex
from threading import Thread
from time import monotonic, perf_counter_ns, sleep
from time import time as wall
from types import ModuleType
from uuid import uuid1, uuid4

import pytest
import trio
from trio.to_thread import run_sync

from actors.runtime import ActorCrashed, StartError
from actors.testing import (
    EPOCH,
    AsyncPuppet,
    Call,
    Do,
    Puppet,
    Simulation,
    SimulationLeak,
    simulation,
    sleeping,
)
from actors.testing.scheduling import seeded_scheduler
from actors.testing.world import dates
from supervision import Supervisor, child, open_system


@dataclass
class Stamped:
    at: datetime = field(default_factory=datetime.now)
    id: uuid.UUID = field(default_factory=uuid4)


@dataclass
class Timed:
    at: float = field(default_factory=time.time)


def since(start: float, clock: Callable[[], float] = monotonic) -> float:
    return clock() - start


def later(*, clock: Callable[[], float] = time.perf_counter) -> float:
    return clock()


class Clocked:
    clock = time.time
    other = staticmethod(time.monotonic)


class Service:
    """It is handed its clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock


SERVICE = Service(time.time)
GENERATOR = Random()
WITH_SEED = Random(5)
CLOCKS = {"wall": wall}
TIMERS = [perf_counter_ns]


class Moment(datetime):
    """Somebody's own kind of datetime."""


def looked(what: str) -> object:
    """The value of an expression, as if it stood in this module."""
    return eval(what, globals())


def seen(what: str, seed: int) -> list[object]:
    """What an expression is in a simulation, twice, after a second and a half of it."""
    found: list[object] = []

    async def scenario(_: Simulation) -> None:
        await trio.sleep(1.5)
        found.extend([looked(what), looked(what)])

    Simulation(seed).run(scenario)
    return found


@pytest.mark.parametrize(
    "what",
    [
        "chance()",
        "random.random()",
        "randrange(1 << 30)",
        "random.sample(range(1000), 5)",
        "Random().random()",
        "random.Random(None).getrandbits(40)",
        "SystemRandom().random()",
        "random.SystemRandom().choices('abcdefghijkl', k=9)",
        "random.seed() or random.random()",
        "uuid4()",
        "uuid1()",
        "uuid.uuid4()",
        "token_hex()",
        "token_bytes(8)",
        "secrets.token_urlsafe()",
        "secrets.randbelow(1 << 40)",
        "urandom(8)",
        "os.urandom(8)",
        "os.getrandom(8)",
        "Stamped().id",
        "GENERATOR.random()",
        "WITH_SEED.random()",
    ],
)
def test_chance_and_ids_follow_the_seed(what: str) -> None:
    # ACT-120
    once = seen(what, 1)
    assert once[0] != once[1]
    assert seen(what, 1) == once
    assert seen(what, 2) != once


def test_a_generator_with_a_seed_of_its_own_stays_what_it_is() -> None:
    # ACT-120
    assert seen("Random(5).random()", 1) == [Random(5).random()] * 2


NOW = EPOCH.replace(tzinfo=None) + timedelta(seconds=1.5)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("datetime.now()", NOW),
        ("datetime.utcnow()", NOW),
        ("datetime.today()", NOW),
        ("datetime_module.datetime.now()", NOW),
        ("datetime.now(UTC)", EPOCH + timedelta(seconds=1.5)),
        (
            "datetime.now(tz=timezone(timedelta(hours=2))).isoformat()",
            "2000-01-01T02:00:01.500000+02:00",
        ),
        ("date.today()", EPOCH.date()),
        ("datetime_module.date.today()", EPOCH.date()),
        ("Stamped().at", NOW),
        ("type(datetime.now()) is datetime", True),
        ("type(Moment.now(UTC))", Moment),
        ("time.gmtime(3).tm_sec", 3),
    ],
)
def test_dates_follow_the_virtual_clock(what: str, expected: object) -> None:
    # ACT-120, ACT-123
    assert seen(what, 1) == [expected, expected]


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("wall()", "time.time"),
        ("monotonic()", "time.monotonic"),
        ("perf_counter_ns()", "time.perf_counter_ns"),
        ("sleep(0)", "time.sleep"),
        ("time.process_time()", "time.process_time"),
        ("time.localtime()", "time.localtime"),
        ("time.strftime('%H')", "time.strftime"),
        ("since(0.0)", "time.monotonic"),
        ("later()", "time.perf_counter"),
        ("Timed()", "time.time"),
        ("Clocked.clock()", "time.time"),
        ("Clocked().clock()", "time.time"),
        ("Clocked.other()", "time.monotonic"),
        ("CLOCKS['wall']()", "time.time"),
        ("TIMERS[0]()", "time.perf_counter_ns"),
        ("SERVICE.clock()", "time.time"),
        ("Thread(target=print).start()", "threading.Thread.start"),
        ("socket.socket()", "socket.socket"),
        ("socket.socketpair()", "socket.socketpair"),
        ("socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo"),
        ("subprocess.run(['true'], check=False)", "subprocess.Popen"),
        ("os.system('true')", "os.system"),
        ("ThreadPoolExecutor().submit(print)", "threading.Thread.start"),
        ("queue.Queue().get(timeout=1)", "time.monotonic"),
        ("email.utils.formatdate()", "time.time"),
        ("signal.alarm(1)", "signal.alarm"),
        ("signal.setitimer(signal.ITIMER_REAL, 1.0)", "signal.setitimer"),
        ("os.posix_spawn('/bin/true', ['true'], {})", "os.posix_spawn"),
    ],
)
def test_the_real_world_is_refused_by_whatever_name(what: str, name: str) -> None:
    # ACT-123
    async def scenario(_: Simulation) -> None:
        with pytest.raises(SimulationLeak, match=re.escape(name)) as caught:
            looked(what)
        assert caught.value.call == name
        # The line of whoever wrote it, not of a library in between.
        assert f"{Path(__file__).name}:" in caught.value.where

    Simulation(1).run(scenario)


def test_threads_of_trio_are_refused_by_whatever_name() -> None:
    # ACT-123
    async def scenario(_: Simulation) -> None:
        with pytest.raises(SimulationLeak, match="run_sync"):
            await run_sync(print)
        with pytest.raises(SimulationLeak):
            await trio.run_process(["true"])
        with pytest.raises(SimulationLeak):
            await trio.Path(__file__).read_text()

    Simulation(1).run(scenario)


def held() -> list[object]:
    """What the names of this module and of others hold."""
    return [
        wall, monotonic, perf_counter_ns, sleep, time.time, urandom, os.urandom, run_sync,
        trio.to_thread.run_sync, socket.socket.__init__, subprocess.Popen.__init__, Thread.start,
        Random.seed, random.seed, since.__defaults__, dict(later.__kwdefaults__ or {}),
        vars(Clocked)["clock"],
        vars(Clocked)["other"], vars(datetime)["now"], vars(date)["today"], CLOCKS["wall"],
        TIMERS[0], random.getstate()[1][:9],
        GENERATOR.getstate()[1][:9], SERVICE.clock,
        [cell.cell_contents for cell in Timed.__init__.__closure__ or ()],
    ]  # fmt: skip


def test_everything_is_as_before_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # ACT-123
    before = held()
    inside: list[object] = []

    async def fails(_: Simulation) -> None:
        inside.extend(held())
        late = type(sys)("late_import")
        monkeypatch.setitem(sys.modules, "late_import", late)
        exec("from time import time as wall", vars(late))  # noqa: S102
        assert vars(late)["wall"] is wall
        raise LookupError

    with pytest.raises(LookupError):
        Simulation(1).run(fails)
    assert held() == before
    assert [a for a, b in zip(inside, before, strict=True) if a == b] == []
    assert vars(sys.modules["late_import"])["wall"] is time.time
    assert abs((datetime.now(UTC) - datetime.fromtimestamp(wall(), UTC)).total_seconds()) < 3600


def test_what_was_bound_to_a_new_value_between_two_runs_stays() -> None:
    # ACT-123: what is known of a module is not put back over what its owner has done meanwhile
    own = type(sys)("changing")
    sys.modules["changing"] = own
    try:
        vars(own)["clock"] = time.time

        async def scenario(_: Simulation) -> None:
            seen_inside.append(vars(own)["clock"])

        seen_inside: list[object] = []
        Simulation(1).run(scenario)
        vars(own)["clock"] = len
        Simulation(1).run(scenario)
        assert seen_inside[0] is not time.time
        assert seen_inside[1] is len
        assert vars(own)["clock"] is len
    finally:
        del sys.modules["changing"]


def test_other_threads_keep_the_real_world() -> None:
    # ACT-123
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    told: queue.SimpleQueue[object] = queue.SimpleQueue()

    def serve() -> None:
        while asked.get() != "stop":
            told.put([wall() > EPOCH.timestamp(), datetime.now(UTC) > EPOCH + timedelta(days=1)])

    thread = threading.Thread(target=serve)
    thread.start()

    async def scenario(_: Simulation) -> None:
        asked.put("look")
        assert told.get() == [True, True]
        assert datetime.now(UTC) == EPOCH

    try:
        Simulation(1).run(scenario)
    finally:
        asked.put("stop")
        thread.join()


def test_one_in_another_thread_is_refused_before_it_touches_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ACT-120: not even the order of trio's tasks, which is that of all threads
    runs: list[int] = []

    def seeded(seed: int) -> AbstractContextManager[None]:
        runs.append(seed)
        return seeded_scheduler(seed)

    monkeypatch.setattr(simulation, "seeded_scheduler", seeded)
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    told: queue.SimpleQueue[object] = queue.SimpleQueue()

    async def other(_: Simulation) -> None:
        raise AssertionError("it must not run")

    def serve() -> None:
        while asked.get() != "stop":
            try:
                told.put(Simulation(2).run(other))
            except RuntimeError as error:
                told.put(str(error))

    async def scenario(sim: Simulation) -> None:
        ref = await sim.start(AsyncPuppet)
        if thread.is_alive():
            asked.put("run")
            assert "one after another" in str(told.get())
        ref.tell(Do(sleeping(random.random())))
        await trio.sleep(1)

    thread = threading.Thread(target=serve)
    alone = Simulation(1).run(scenario)
    thread.start()
    try:
        assert Simulation(1).run(scenario) == alone
        assert runs == [1, 1]
    finally:
        asked.put("stop")
        thread.join()


def test_one_in_another_is_refused_and_leaves_the_outer_one_whole() -> None:
    # ACT-120
    async def inner(_: Simulation) -> None:
        raise AssertionError("it must not run")

    async def outer(_: Simulation) -> None:
        numbers.append(random.random())
        with pytest.raises(RuntimeError, match="one after another"):
            Simulation(2).run(inner)
        assert datetime.now(UTC) == EPOCH
        with pytest.raises(SimulationLeak):
            wall()
        numbers.append(random.random())
        await trio.sleep(1)

    numbers: list[float] = []
    assert Simulation(1).run(outer) == Simulation(1).run(outer)
    assert numbers[:2] == numbers[2:]


def test_a_leak_that_only_crashed_an_actor_fails_the_run() -> None:
    # ACT-123: it was restarted, and nobody would ever know
    class Root(Supervisor, intensity=9):
        worker = child(Puppet)
        task = child(AsyncPuppet)

    for name in ("worker", "task"):

        async def told(_: Simulation, name: str = name) -> None:
            async with open_system(Root) as root:
                (root.worker if name == "worker" else root.task).tell(Do(lambda _: wall()))
                await trio.sleep(1)

        with pytest.raises(SimulationLeak, match=r"time\.time") as caught:
            Simulation(1).run(told)
        assert "SIM_SEED=1" in str(caught.value.__notes__)


def test_a_leak_that_somebody_was_told_of_is_theirs() -> None:
    # ACT-123
    async def asked(sim: Simulation) -> None:
        ref = await sim.start(Puppet)
        with pytest.raises(ActorCrashed) as caught:
            await ref.ask(Call(lambda _: wall()))
        assert isinstance(caught.value.error, SimulationLeak)
        with pytest.raises(StartError):
            await sim.start(AsyncPuppet, None, lambda _: wall())

    Simulation(1).run(asked)


def test_a_python_that_keeps_its_own_dates_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # ACT-120: the dict of a type is reached by a way that nobody promises
    real = dates._members

    async def scenario(_: Simulation) -> None:
        raise AssertionError("it must not run")

    monkeypatch.setattr(dates, "_members", lambda cls: dict(real(cls)))
    with pytest.raises(RuntimeError, match=r"keeps its own datetime\.now"):
        Simulation(1).run(scenario)
    monkeypatch.undo()
    assert seen("datetime.now(UTC)", 1) == [EPOCH + timedelta(seconds=1.5)] * 2


def test_figures_of_the_runtime_are_virtual_too() -> None:
    # ACT-120: an actor that looks at them decides the same way twice
    async def scenario(sim: Simulation) -> None:
        ref = await sim.start(AsyncPuppet)
        ref.tell(Do(sleeping(0.25)))
        await trio.sleep(1)
        figures.append(str(sim.system.stats(ref)))

    figures: list[str] = []
    Simulation(1).run(scenario)
    Simulation(1).run(scenario)
    assert figures[0] == figures[1]


def test_modules_are_looked_through_once() -> None:
    # What a run costs must not grow with what the process has imported.
    names = importlib.import_module("actors.testing.world.leaks")._names
    through: list[str] = []
    real = names._look_through

    def look(name: str, module: object) -> object:
        through.append(name)
        return real(name, module)

    names._look_through = look
    try:
        seen("1", 1)
        through.clear()
        seen("1", 1)
    finally:
        del names._look_through
    assert through == []


class Nobody:
    """A proxy outside of what it stands for: whatever it is asked, it raises."""

    @property  # type: ignore[misc]  # as werkzeug's
    def __class__(self) -> type:
        raise RuntimeError("working outside of the application context")

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError("working outside of the application context")


class Mute(type):
    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError("no class says anything of itself")


def test_a_module_may_hold_what_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # ACT-120, ACT-123: and what stands behind it there is found all the same
    module = ModuleType("odd_ones")
    names: dict[str, object] = {
        "request": Nobody(),
        "Silent": Mute("Silent", (), {}),
        "Holder": type("Holder", (), {"__module__": "odd_ones", "request": Nobody()}),
        "now": time.time,
    }
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "odd_ones", module)

    async def scenario(_: Simulation) -> None:
        with pytest.raises(SimulationLeak, match=re.escape("time.time")):
            module.now()

    Simulation(1).run(scenario)
    assert module.now is time.time
