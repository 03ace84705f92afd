"""The runtime beside Pykka: tell, ask, start and stop, memory, restart, broadcast, losses.

PERF-10, PERF-11, PERF-12, PERF-13, PERF-14, PERF-15, PERF-17.

Peers do the same work in the same process, one after another. Erlang is a process of its own and
measured only where `erl` is installed.
"""

from __future__ import annotations

import queue
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter
from typing import TypeVar

import pykka
import structlog
import trio

from actors.runtime import UNBOUNDED, Actor, Ask, Ref, System, message, open_actors
from supervision import Supervisor, child, dynamic, open_system
from tests.bench.erlang_peer import ErlangPeer, What, open_peer
from tests.bench.rows import RUNS_MIN, Benchmark, Row, row

T = TypeVar("T")

# Of what has peers in other processes: what the machine does beside may hit one and not another.
ROUNDS = 5
TELLS = 200_000
ASKS = 20_000
STARTS = 10_000
RESTARTS = 300
SUBSCRIBERS = 10_000
QUEUED = 50_000
BIG = b"\0" * 300_000
# The producer lets the actor work now and then, as any real one does.
BURST = 500

# 300 crashes a run, or 10,000 stops in one turn of the loop: writing them down is the terminal's
# speed, not ours.
LOG_NOTHING = structlog.make_filtering_bound_logger(50)


@message
class Add:
    count: int


@message
class Get(Ask[int]):
    pass


@message
class Fail:
    pass


@message
class Load:
    data: bytes


class Counter(Actor[Add | Get | Fail]):
    """Adds up; the same as the peers' actors."""

    capacity = UNBOUNDED

    def __init__(self) -> None:
        self.total = 0

    def on_add(self, message: Add) -> None:
        self.total += message.count

    def on_get(self, message: Get) -> int:
        return self.total

    def on_fail(self, message: Fail) -> None:
        raise RuntimeError("on purpose")


class FullCounter(Counter):
    """The same with every message timed, and its senders known."""

    level = "full"


class AsyncCounter(Actor[Add | Get | Fail]):
    """The same in a task of its own."""

    capacity = UNBOUNDED

    def __init__(self) -> None:
        self.total = 0

    async def on_add(self, message: Add) -> None:
        self.total += message.count

    async def on_get(self, message: Get) -> int:
        return self.total

    async def on_fail(self, message: Fail) -> None:
        raise RuntimeError("on purpose")


class PykkaCounter(pykka.ThreadingActor):
    """The peer."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def on_receive(self, message: object) -> int:
        if isinstance(message, Add):
            self.total += message.count
        return self.total


class KeyedCounter(Counter):
    """One of many, started with its first message."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class Root(Supervisor, intensity=10_000, period=1.0):
    """The tree of the restart and start figures."""

    counter = child(Counter)
    many = dynamic(KeyedCounter, key="key", restart="temporary")


def in_actors(work: Callable[[System], Awaitable[float]]) -> Callable[[], float]:
    """Give a function that runs `work` in a system of its own."""

    async def main() -> float:
        async with open_actors() as system:
            return await work(system)

    return lambda: trio.run(main)


async def tells(ref: Ref[Add | Get | Fail]) -> float:
    one = Add(1)
    began = perf_counter()
    for _ in range(TELLS // BURST):
        for _ in range(BURST):
            ref.tell(one)
        await trio.lowlevel.checkpoint()
    assert await ref.ask(Get(), timeout=60) >= TELLS
    return TELLS / (perf_counter() - began)


async def asks(ref: Ref[Add | Get | Fail]) -> float:
    began = perf_counter()
    for _ in range(ASKS):
        await ref.ask(Get(), timeout=5)
    return ASKS / (perf_counter() - began)


def pykka_tells() -> float:
    ref = PykkaCounter.start()
    one, count = Add(1), TELLS // 4
    began = perf_counter()
    for _ in range(count):
        ref.tell(one)
    ref.ask(Get())
    spent = perf_counter() - began
    ref.stop()
    return count / spent


def pykka_asks() -> float:
    ref = PykkaCounter.start()
    count = ASKS // 4
    began = perf_counter()
    for _ in range(count):
        ref.ask(Get(), timeout=5)
    spent = perf_counter() - began
    ref.stop()
    return count / spent


def by_turns(runs: Mapping[str, Callable[[], T]], rounds: int = ROUNDS) -> dict[str, list[T]]:
    """Run each once to warm up, then all of them by turns, as often as a median needs."""
    for run in runs.values():
        run()
    found: dict[str, list[T]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found


def measure(
    name: str,
    unit: str,
    run: Callable[[], float],
    *,
    peers: Mapping[str, Callable[[], float]] | None = None,
    target: str = "",
) -> Row:
    """Measure something of which less is better, by turns with its peers."""
    found = by_turns({name: run, **(peers or {})}, RUNS_MIN)
    medians = {peer: statistics.median(found[peer]) for peer in peers or {}}
    return row(name, unit, found[name], peers=medians, target=target, is_lower_better=True)


def rates(
    unit: str,
    ours: Mapping[str, tuple[Callable[[], float], str]],
    peers: Mapping[str, Callable[[], float] | None],
) -> list[Row]:
    """Measure several things of ours, each with its target, and the same peers for all of them."""
    there = {name: peer for name, peer in peers.items() if peer is not None}
    found = by_turns({**{name: run for name, (run, _) in ours.items()}, **there})
    medians = {name: statistics.median(found[name]) if name in there else None for name in peers}
    return [
        row(name, unit, found[name], peers=medians, target=target)
        for name, (_, target) in ours.items()
    ]


def rate_of(erlang: ErlangPeer | None, what: What, count: int) -> Callable[[], float] | None:
    """Give a function for how many a second Erlang does; None where it is not run."""
    return None if erlang is None else lambda: count / erlang.times(what, count)[0]


def tell() -> list[Row]:
    """PERF-10, PERF-16."""
    ours = {}
    for name, cls, target in (
        ("tell, full statistics", FullCounter, ">= 700k/s, 1.3x pykka, 1/3 of erlang"),
        ("tell, counters (the default)", Counter, ""),
        ("tell, async handler", AsyncCounter, ""),
    ):

        async def work(system: System, cls: Callable[[], Actor[Add | Get | Fail]] = cls) -> float:
            return await tells(await system.start(cls))

        ours[name] = (in_actors(work), target)
    with open_peer() as erlang:
        peers = {"pykka": pykka_tells, "erlang cast": rate_of(erlang, "cast", TELLS)}
        return rates("msg/s", ours, peers)


def ask() -> list[Row]:
    """PERF-11, PERF-16."""
    ours = {}
    for name, cls, target in (
        ("ask round trip", Counter, ">= 120k/s, 4x pykka, 1/3 of erlang"),
        ("ask round trip, async handler", AsyncCounter, ""),
    ):

        async def work(system: System, cls: Callable[[], Actor[Add | Get | Fail]] = cls) -> float:
            return await asks(await system.start(cls))

        ours[name] = (in_actors(work), target)
    with open_peer() as erlang:
        peers = {"pykka": pykka_asks, "erlang call": rate_of(erlang, "call", ASKS)}
        return rates("asks/s", ours, peers)


async def starts_and_stops() -> list[float]:
    """Seconds to start children of a dynamic supervisor by their first message; to stop them."""
    async with open_system(Root) as root:
        one = Add(1)
        began = perf_counter()
        for n in range(STARTS):
            root.many[str(n)].tell(one)
            if n % BURST == 0:
                await trio.lowlevel.checkpoint()
        assert await root.many[str(STARTS - 1)].ask(Get()) == 1
        started = perf_counter()
        await root.terminate_child("many")
        return [started - began, perf_counter() - started]


def start_and_stop() -> list[Row]:
    """PERF-12, PERF-16: Erlang's are children of a supervisor too, and also each for itself."""
    structlog.configure(wrapper_class=LOG_NOTHING)
    with open_peer() as erlang:
        runs: dict[str, Callable[[], list[float]]] = {"": partial(trio.run, starts_and_stops)}
        if erlang is not None:
            runs["erlang supervised"] = partial(erlang.times, "supervised", STARTS)
            runs["erlang start_link, stop"] = partial(erlang.times, "alone", STARTS)
        found = by_turns(runs)
    rows = []
    for phase, (what, target) in enumerate(
        (("start", "<= 40 us, 8x of erlang"), ("stop", "<= 30 us"))
    ):
        each = {name: [1e6 * one[phase] / STARTS for one in times] for name, times in found.items()}
        rows.append(
            row(
                f"{what} one of {STARTS} supervised actors",
                "us",
                each.pop(""),
                peers={name: statistics.median(times) for name, times in each.items()}
                or {"erlang": None},
                target=target,
                is_lower_better=True,
            )
        )
    return rows


MEMORY = """
import gc, psutil, trio
from actors.runtime import open_actors
from tests.bench.bench_runtime import Counter, AsyncCounter
async def main():
    async with open_actors() as system:
        gc.collect()
        before = psutil.Process().memory_info().rss
        for _ in range({count}):
            system.begin({kind})
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        print((psutil.Process().memory_info().rss - before) / {count}, flush=True)
        import os; os._exit(0)
import trio.testing
trio.run(main)
"""


def memory() -> list[Row]:
    """PERF-13, in a process of its own: what was freed before would hide what is taken now."""

    def taken(kind: str) -> float:
        program = MEMORY.format(kind=kind, count=100_000 if kind == "Counter" else 20_000)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        return float(done.stdout.splitlines()[-1])

    return [
        measure(name, "bytes", partial(taken, kind), target="<= 4 KiB")
        for name, kind in (
            ("memory of an idle dispatched actor", "Counter"),
            ("memory of an idle task actor", "AsyncCounter"),
        )
    ]


def restart() -> list[Row]:
    """PERF-14: from the crash to the first message handled by the next incarnation.

    The report of each crash is made and kept, but not written to the log.
    """
    structlog.configure(wrapper_class=LOG_NOTHING)

    async def main() -> float:
        times = []
        async with open_system(Root) as root:
            counter = root.counter
            for _ in range(RESTARTS):
                began = perf_counter()
                counter.tell(Fail())
                await counter.ask(Get())
                times.append((perf_counter() - began) * 1e6)
        return statistics.median(times)

    return [
        measure(
            "restart of a crashed actor",
            "us",
            lambda: trio.run(main),
            target="< 200 us",
        )
    ]


def broadcast() -> list[Row]:
    """PERF-15, until all have handled it; the peer's figure is until all have been told."""

    async def subscribed(system: System) -> Ref[Add | Get | Fail]:
        refs = [system.begin(Counter) for _ in range(SUBSCRIBERS)]
        await refs[-1].ask(Get())
        for ref in refs:
            system.topics.subscribe("news", ref)
        return refs[-1]

    async def work(system: System) -> float:
        last = await subscribed(system)
        began = perf_counter()
        system.topics.publish("news", Add(1))
        assert await last.ask(Get()) == 1
        return (perf_counter() - began) * 1e3

    async def publish(system: System) -> float:
        await subscribed(system)
        began = perf_counter()
        system.topics.publish("news", Add(1))
        return (perf_counter() - began) * 1e3

    def queues() -> float:
        inboxes: list[queue.SimpleQueue[Add]] = [queue.SimpleQueue() for _ in range(SUBSCRIBERS)]
        news = Add(1)
        began = perf_counter()
        for inbox in inboxes:
            inbox.put(news)
        for inbox in inboxes:
            inbox.get()
        return (perf_counter() - began) * 1e3

    return [
        measure(
            f"broadcast to {SUBSCRIBERS} subscribers",
            "ms",
            in_actors(work),
            peers={"bare queues": queues},
            target="< 10 ms",
        ),
        measure(
            f"publish to {SUBSCRIBERS} subscribers, alone",
            "ms",
            in_actors(publish),
            target="<= 2 ms",
        ),
    ]


async def tells_of(ref: Ref[Add | Get | Fail]) -> float:
    """Microseconds of a tell, and of what comes of it."""
    one = Add(1)
    began = perf_counter()
    for _ in range(QUEUED // BURST):
        for _ in range(BURST):
            ref.tell(one)
        await trio.lowlevel.checkpoint()
    return (perf_counter() - began) * 1e6 / QUEUED


async def losing(system: System) -> float:
    """Microseconds of a message to a dead actor."""
    ref = await system.start(Counter)
    await ref.stop()
    return await tells_of(ref)


async def delivering(system: System) -> float:
    """Microseconds of the same to a living one, handled."""
    return await tells_of(await system.start(Counter))


async def losing_much(system: System) -> float:
    """Microseconds of one tell of 300 KB to a dead actor."""
    ref = await system.start(Counter)
    await ref.stop()
    one = Load(BIG)
    began = perf_counter()
    for _ in range(BURST):
        ref.tell(one)  # type: ignore[arg-type]  # nobody looks at it
    return (perf_counter() - began) * 1e6 / BURST


def losses() -> list[Row]:
    """PERF-17: what goes wrong is cheap; `bench_turns.py` shows that it holds nobody up.

    Dead letters are made and kept, but not written to the log.
    """
    structlog.configure(wrapper_class=LOG_NOTHING)
    return [
        measure(
            "a lost message",
            "us",
            in_actors(losing),
            peers={"delivered": in_actors(delivering)},
            target="<= 2x delivered",
        ),
        measure("a lost message of 300 KB", "us", in_actors(losing_much)),
    ]


benchmarks: list[Benchmark] = [tell, ask, start_and_stop, memory, restart, broadcast, losses]
