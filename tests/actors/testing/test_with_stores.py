"""Actors that keep events run in a simulation, on the store in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import trio

from actors.persistence import AggregateActor, AggregateRef, Done, ask_state, execute
from actors.reducers import Environment
from actors.testing import EPOCH, Simulation, check_repeatable
from storage.memory import MemoryEventStore
from tests.actors.persistence.accounts import Account, Deposit


class Now:
    """The time of day, as a composition root tells it."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class Fresh:
    """New ids, as a composition root makes them."""

    def new_id(self) -> UUID:
        return uuid4()


async def keeps_events(sim: Simulation) -> None:
    """Two commands a crash apart; the second incarnation knows of the first."""
    store = MemoryEventStore()
    env = Environment(clock=Now(), ids=Fresh())

    async def started(name: str) -> AggregateRef:
        return await sim.start(lambda: AggregateActor(Account(), "1", store, env), name=name)

    first = await started("first")
    done = await execute(first, Deposit(5))
    assert isinstance(done, Done)
    await trio.sleep(3600)
    sim.crash(first, OSError("disk"))
    await sim.settle()
    second = await started("second")
    done = await execute(second, Deposit(sim.random.randrange(1, 9)))
    assert isinstance(done, Done)
    assert done.version == 2
    version, _ = await ask_state(second)
    assert version == 2
    events = store.database.events
    assert [event.recorded_at for event in events] == [EPOCH, EPOCH.replace(hour=1)]


def test_an_aggregate_in_a_simulation_keeps_its_events_and_repeats() -> None:
    # ACT-120
    check_repeatable(keeps_events, seed=5)
