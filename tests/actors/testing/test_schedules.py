"""A thousand random crash schedules over a tree of ten actors, each checked for the rules of life.

- ACT-43: a handler never begins while another of the same actor waits.
- ACT-52: `__init__` and `on_start` of an incarnation come after the end of the one before.
- ACT-53: what was queued is handled in order, each once, or it is a dead letter.
- ACT-54: afterwards no name, ask, timer or task is left.
- SUP-91: the crash of one never cancels another; each end is a crash or an orderly stop.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import pytest
import trio

from actors.runtime import Actor, AnyRef, Ask, AskError, Exit, Ref, System, message
from actors.runtime.life.cell import cell_of
from actors.testing import Simulation
from supervision import Supervisor, child, open_system
from tests.logged import silenced

# The long form is in `make soak`.
SCHEDULES = int(os.environ.get("SCHEDULES", "1000"))
STEPS = 12


@message
class Work:
    number: int
    pause: float


@message
class Echo(Ask[int]):
    number: int


class Book:
    """What the workers of one run note, per path."""

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.alive: set[str] = set()
        self.handled: dict[str, list[int]] = defaultdict(list)
        self.broken: list[str] = []

    def check(self, good: bool, what: str) -> None:
        if not good:
            self.broken.append(what)


BOOK = [Book()]


class Worker(Actor[Work | Echo]):
    """A task worker; its handlers wait."""

    def __init__(self) -> None:
        self.book = BOOK[0]

    async def on_start(self) -> None:
        self.book.check(self.path not in self.book.alive, f"{self.path} overlaps itself")
        await trio.sleep(0.01)
        # Last: a start that is cut short has no `on_stop`.
        self.book.alive.add(self.path)

    async def on_work(self, message: Work) -> None:
        self.book.check(self.path not in self.book.busy, f"{self.path} does two at once")
        self.book.busy.add(self.path)
        self.book.handled[self.path].append(message.number)
        try:
            await trio.sleep(message.pause)
        finally:
            self.book.busy.discard(self.path)

    async def on_echo(self, message: Echo) -> int:
        return message.number

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002
        await trio.sleep(0.02)
        self.book.alive.discard(self.path)


class Quick(Actor[Work | Echo]):
    """A dispatched worker."""

    def __init__(self) -> None:
        self.book = BOOK[0]

    def on_start(self) -> None:
        self.book.check(self.path not in self.book.alive, f"{self.path} overlaps itself")
        self.book.alive.add(self.path)

    def on_work(self, message: Work) -> None:
        self.book.handled[self.path].append(message.number)

    def on_echo(self, message: Echo) -> int:
        return message.number

    def on_stop(self, exit: Exit) -> None:  # noqa: A002
        self.book.alive.discard(self.path)


class Rest(Supervisor, strategy="rest_for_one", intensity=1000, period=1.0):
    a = child(Worker)
    b = child(Quick)
    c = child(Worker)


class All(Supervisor, strategy="one_for_all", intensity=1000, period=1.0):
    d = child(Quick)
    e = child(Worker)
    f = child(Quick)


class Top(Supervisor, intensity=1000, period=1.0):
    rest = child(Rest)
    group = child(All)
    g = child(Worker)


async def schedule(sim: Simulation, count: int = STEPS) -> None:
    """Tell, ask, crash and wait at random; then stop and look at what is left."""
    BOOK[0] = book = Book()
    asks: list[str] = []
    sent: dict[str, list[int]] = defaultdict(list)
    async with open_system(Top) as top, trio.open_nursery() as nursery:
        refs: list[Ref[Work | Echo]] = [
            top.rest.a, top.rest.b, top.rest.c, top.group.d, top.group.e, top.group.f, top.g,
        ]  # fmt: skip
        system = top.system
        nursery.start_soon(steps, sim, count, refs, sent, asks)
    assert not book.broken, book.broken
    assert not book.busy
    assert not book.alive
    dead: dict[str, int] = defaultdict(int)
    for letter in system.dead_letters:
        dead[letter.path] += not letter.was_ask
    for ref in refs:
        handled = book.handled[ref.path]
        assert handled == sorted(set(handled)), f"{ref.path} handled {handled}"
        assert set(handled) <= set(sent[ref.path])
        assert len(handled) + dead[ref.path] >= len(sent[ref.path])
    assert asks
    # Nobody was cut short: each end was a fault, or its supervisor wanted it.
    exits = {step.exit for ref in refs for step in sim.history(ref.path)}
    assert exits <= {None, "crashed", "shutdown"}, exits
    nothing_is_left(system, refs)


async def steps(
    sim: Simulation,
    count: int,
    refs: list[Ref[Work | Echo]],
    sent: dict[str, list[int]],
    asks: list[str],
) -> None:
    chance = sim.random

    async def ask(ref: Ref[Work | Echo], number: int) -> None:
        try:
            assert await ref.ask(Echo(number), timeout=1.0) == number
            asks.append("replied")
        except AskError as error:
            asks.append(type(error).__name__)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            ref = chance.choice(refs)
            for _ in range(chance.randrange(3)):
                sent[ref.path].append(len(sent[ref.path]))
                ref.tell(Work(sent[ref.path][-1], chance.choice((0.0, 0.05, 0.3))))
            nursery.start_soon(ask, ref, number)
            if chance.random() < 0.6:
                sim.crash(chance.choice(refs), OSError(number))
            await trio.sleep(chance.choice((0.0, 0.0, 0.01, 0.1)))


def nothing_is_left(system: System, refs: list[Ref[Work | Echo]]) -> None:
    gone: list[AnyRef] = list(refs)
    assert all(cell_of(ref).gone and cell_of(ref).life is None for ref in gone)
    assert not any(cell_of(ref).mailbox.queued or cell_of(ref).watchers for ref in gone)
    totals = system.totals()
    assert (totals.actors, totals.asks_open, totals.timers) == (0, 0, 0)


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Thousands of crashes on purpose need no lines."""
    with silenced():
        yield


@pytest.mark.slow
@pytest.mark.long
def test_a_thousand_schedules_keep_the_rules_of_life() -> None:
    # ACT-125, ACT-43, ACT-52, ACT-53, ACT-54, SUP-91
    for seed in range(SCHEDULES):
        # Of every length: the shortest is stopped right after its first step.
        Simulation(seed).run(partial(schedule, count=1 + seed % STEPS))


def test_a_schedule_repeats() -> None:
    # ACT-125, ACT-120
    assert Simulation(17).run(schedule) == Simulation(17).run(schedule)
