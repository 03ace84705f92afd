"""Stops, kills and drains by ref at random moments of starts, crashes and groups: none is lost."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor, Cell, NoProc, message
from supervision import (
    Backoff,
    ChildSpec,
    Flags,
    Plan,
    StartFailed,
    StillRestarting,
    StillRunning,
    Supervisor,
    open_system,
)
from supervision.specs.words import RestartType, Strategy

SEEDS = 24
DEEDS = 120
STRATEGIES: list[Strategy] = ["one_for_one", "one_for_all", "rest_for_one"]
RESTARTS: list[RestartType] = ["permanent", "transient"]


@message
class Crash:
    """Crash."""


@message
class Work:
    """Take a while."""


class Flaky(Actor[Crash | Work]):
    """A child whose later starts fail one time in three."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def on_start(self) -> object:
        if self.incarnation > 1 and self.random.random() < 0.3:
            raise OSError("not yet")
        return None

    def on_crash(self, message: Crash) -> None:
        raise ValueError("as asked")

    def on_work(self, message: Work) -> None: ...


class SlowFlaky(Flaky):
    """The same with a task, that takes its time."""

    async def on_start(self) -> object:
        await trio.sleep(self.random.random())
        return super().on_start()

    async def on_work(self, message: Work) -> None:  # type: ignore[override]  # on purpose
        await trio.sleep(self.random.random())


class Company(Supervisor):
    """Four such children under a strategy, all of it from a seed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.flags_now = Flags(random.choice(STRATEGIES), 10**6, 1.0)

    def plan(self) -> Plan:
        return Plan(self.flags_now, [self.spec(str(number)) for number in range(4)])

    def spec(self, name: str) -> ChildSpec:
        random = self.random
        kind = random.choice([Flaky, SlowFlaky])
        return ChildSpec(
            name,
            lambda: kind(random),
            restart=random.choice(RESTARTS),
            shutdown=random.choice([0.5, 3.0]),
            backoff=random.choice([None, Backoff(0.5, 2.0)]),
        )


async def play(random: Random, company: Company) -> None:
    """Do many things; every stop must come back, however late the restarts."""
    async with trio.open_nursery() as nursery:
        for _ in range(DEEDS):
            children = [cell for cell in company.system.cells() if "/" in cell.path]
            if children:
                do(random, random.choice(children), nursery)
            for child in await company.which_children():
                if child.status == "stopped" and random.random() < 0.2:
                    nursery.start_soon(restart, company, child.id)
            await trio.sleep(random.choice([0.0, 0.0, 0.05, 0.5, 2.0]))


def do(random: Random, cell: Cell, nursery: trio.Nursery) -> None:
    match random.randrange(5):
        case 0:
            cell.ref.tell(Crash())  # type: ignore[arg-type]  # a child takes it
        case 1:
            for _ in range(5):
                cell.ref.tell(Work())  # type: ignore[arg-type]  # as above
        case 2:
            cell.ref.kill()
        case drains:
            nursery.start_soon(stop, cell, drains == 3)


async def stop(cell: Cell, drain: bool) -> None:
    try:
        await cell.ref.stop(drain=drain, timeout=3600.0)
    except NoProc:
        pass


async def restart(company: Company, child_id: str | None) -> None:
    try:
        await company.restart_child(child_id or "")
    except (StillRunning, StillRestarting, StartFailed):
        pass  # Somebody else, or its group, was first; or it did not start.


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_stop_is_lost(seed: int, autojump_clock: MockClock) -> None:
    # ACT-54, ACT-57, SUP-43
    random = Random(seed)
    async with open_system(Company, random) as company:
        await play(random, company)
        await trio.sleep(600.0)
        for child in await company.which_children():
            allowed = ["running"] if child.restart == "permanent" else ["running", "stopped"]
            assert child.status in allowed, child
        for cell in company.system.cells():
            assert (cell.pending_stop, cell.draining) == (None, False)
            assert cell.status != "running" or not cell.mailbox.closed
        system = company.system
    assert (system.wheel.open_asks, system.wheel.open_alarms) == (0, 0)
