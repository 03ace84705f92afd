"""Random faults of all kinds, called by everybody: repeated, replayed, and replayed uncalled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from actors.runtime import AskError, Ref
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    PuppetMessage,
    Simulation,
    Trace,
    check_repeatable,
)
from supervision import Supervisor, child, open_system
from tests.actors.testing.test_schedules import schedule
from tests.logged import silenced


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Crashes on purpose need no lines."""
    with silenced():
        yield


class Stage(Supervisor, strategy="rest_for_one", intensity=1000, period=1.0):
    a = child(Puppet)
    b = child(AsyncPuppet)
    c = child(Puppet)
    d = child(AsyncPuppet)


class Play:
    """Messages that cause others, and faults at any moment: in handlers, after waiting, between."""

    def __init__(self, sim: Simulation, refs: list[Ref[PuppetMessage]]) -> None:
        self.sim, self.chance, self.refs = sim, sim.random, refs

    def fault(self) -> None:
        """Put in one of any kind."""
        sim, one, other = self.sim, self.chance.choice(self.refs), self.chance.choice(self.refs)
        seconds = self.chance.choice((0.0, 0.1, 0.3))
        match self.chance.randrange(8):
            case 0:
                sim.pause(one, seconds)
            case 1:
                sim.drop(one, times=self.chance.choice((1, 2)), sender=other)
            case 2:
                sim.delay(one, seconds)
            case 3:
                sim.partition(one, other)
            case 4:
                sim.heal()
            case _:
                sim.crash(one, ValueError(seconds))

    def passes(self, left: int) -> Do:
        """A message whose handler sends others, as long as some are left."""

        def work(me: AnyPuppet) -> object:
            self.maybe_fault()
            for _ in range(self.chance.randrange(3) if left else 0):
                self.chance.choice(self.refs).tell(self.passes(left - 1))
            self.maybe_fault()
            return self.goes_on() if isinstance(me, AsyncPuppet) else None

        return Do(work)

    async def goes_on(self) -> None:
        """The rest of a handler that waits."""
        await trio.sleep(self.chance.choice((0.0, 0.05, 0.2)))
        self.maybe_fault()
        self.chance.choice(self.refs).tell(Note("waited"))

    def maybe_fault(self) -> None:
        """Put one in, or not."""
        if self.chance.random() < 0.3:
            self.fault()

    async def ask(self, ref: Ref[PuppetMessage]) -> None:
        """Somebody who waits for an answer that may not come."""
        try:
            await ref.ask(Call(lambda _: None), timeout=0.5)
        except AskError:
            self.maybe_fault()


async def play(sim: Simulation) -> None:
    """Ten acts."""
    async with open_system(Stage) as stage, trio.open_nursery() as nursery:
        act = Play(sim, [stage.a, stage.b, stage.c, stage.d])
        for _ in range(10):
            sim.random.choice(act.refs).tell(act.passes(2))
            if sim.random.random() < 0.5:
                nursery.start_soon(act.ask, sim.random.choice(act.refs))
            act.maybe_fault()
            if sim.random.random() < 0.3:
                await sim.settle()
            await trio.sleep(sim.random.choice((0.0, 0.0, 0.05, 0.1)))


class Silent(Simulation):
    """Runs a scenario as if it put in no faults any more."""

    def _fault(self, name: str, *arguments: object, error: BaseException | None = None) -> None:
        """Nothing."""


def check(seeds: range) -> None:
    faults = 0
    for seed in seeds:
        trace = check_repeatable(play, seed)
        faults += len(Trace.from_bytes(trace).faults())
        assert Simulation.replay(trace).run(play) == trace
        assert Silent.replay(trace).run(play) == trace
    assert faults > 5 * len(seeds)


def test_replays_give_the_same_bytes_called_or_not() -> None:
    # ACT-120, ACT-122
    check(range(2))


@pytest.mark.slow
def test_they_do_so_for_many_seeds() -> None:
    # ACT-120, ACT-122
    check(range(100, 130))


@pytest.mark.slow
def test_processes_with_other_hashes_agree() -> None:
    # ACT-120, ACT-125
    check_repeatable(play, seed=5, processes=True)
    check_repeatable(schedule, seed=5, processes=True)
