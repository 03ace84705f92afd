"""Sagas in sagas, in a process that dies behind any append or send: as if it had not."""

import re
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from actors.sagas import (
    Facts,
    Outcome,
    Refused,
    Saga,
    SagaCommand,
    SagaId,
    Status,
    Succeeded,
    child,
    group,
    step,
)
from docs.examples.checkout import ended
from storage.postgres import Database
from tests.actors.sagas.checkouts import (
    Basket,
    Place,
    Placed,
    Purchase,
    Release,
    Reserve,
    Unplace,
)
from tests.actors.sagas.desks import Player, open_desk
from tests.actors.sagas.shops import Plan, World, memory_world, postgres_world
from tests.patience import PATIENCE_S

BASKET = Basket("o-1", "c-1", 500)
# More places than any of the stories passes.
PLACES_MAX = 80


def same(facts: Facts[Basket]) -> Basket:
    """A nested saga has the data of its parent."""
    return facts.data


class Parcel(Saga[Basket]):
    pack = step(Reserve, undo=Release)


class Letter(Saga[Basket]):
    write = step(Place, undo=Unplace)


class Delivery(Saga[Basket]):
    buy = child(Purchase, data=same)
    parcel = child(Parcel, data=same)
    letter = child(Letter, data=same)
    both = group(parcel, letter, parallel=True)
    thank = step(Place, undo=Unplace)


@dataclass
class Once(Player):
    """A participant that keeps what it did under `work`, and answers as before."""

    answers: dict[str, Outcome | None] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)

    async def __call__(self, command: SagaCommand) -> Outcome | None:
        if command.work not in self.answers:
            outcome = await super().__call__(command)
            self.answers[command.work] = outcome
            if isinstance(outcome, Succeeded):
                self.effects.append(command.work)
        return self.answers[command.work]


def _participant(fails: str) -> Once:
    once = Once({"place": lambda _: Succeeded(Placed(1))})
    once.rules["pay"] = lambda _: Succeeded({"payment_id": "p-1"})
    if fails:
        once.rules[fails] = lambda _: Refused("no")
    return once


async def _live(world: World, once: Once, plan: Plan, wanted: Status, name: str = "1") -> bool:
    """Run until the saga ends, True, or crash by the plan, False."""
    with plan.scope:
        async with open_desk(world, once, Delivery, plan=plan) as desk:
            await desk.sagas.resume(world.index)
            saga = await desk.sagas.start(Delivery, BASKET, name=name)
            assert await ended(desk.sagas, saga) is wanted
    return not plan.scope.cancelled_caught


@pytest.mark.slow
@pytest.mark.parametrize("place", ["append", "taken", "sent"])
@pytest.mark.parametrize("fails", ["", "pay", "pack", "thank"])
async def test_a_crash_anywhere_ends_nested_sagas_the_same(
    autojump_clock: MockClock, place: str, fails: str
) -> None:
    # SAGA-6, SAGA-10, SAGA-11
    wanted = Status.FAILED if fails else Status.COMPLETED
    expected: list[str] | None = None
    for at in range(PLACES_MAX):  # at 0 there is none
        world, once = memory_world(), _participant(fails)
        if not await _live(world, once, Plan(place, at), wanted):
            assert await _live(world, once, Plan(), wanted)
        elif at:
            assert at > 5
            break
        expected = sorted(once.effects) if expected is None else expected
        assert sorted(once.effects) == expected
        done = {work for work in once.effects if not work.endswith(":undo")}
        undone = {work.removesuffix(":undo") for work in once.effects if work.endswith(":undo")}
        assert undone == (done if fails else set())
    else:
        raise AssertionError(f"{place} was passed {PLACES_MAX} times")
    names = {"": 4, "pay": 2, "pack": 4, "thank": 4}[fails]
    world, once = memory_world(), _participant(fails)
    await _live(world, once, Plan(), wanted)
    assert len(await _sagas(world)) == names


async def _sagas(world: World) -> list[SagaId]:
    kinds = ("delivery-1", "purchase-1/buy", "parcel-1/parcel", "letter-1/letter")
    return [SagaId.parse(one) for one in kinds if await world.types(one)]


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["", "thank"])
async def test_a_crash_behind_any_append_ends_nested_sagas_the_same_on_postgresql(
    database: Database, fails: str
) -> None:
    # SAGA-6, SAGA-11: of the parent or of a child; one database, a saga for each place
    wanted = Status.FAILED if fails else Status.COMPLETED
    world = postgres_world(database)
    expected: set[str] | None = None
    crashes = 0
    with trio.fail_after(10 * PATIENCE_S):
        for at in range(PLACES_MAX):  # at 0 there is none
            once, name = _participant(fails), str(at)
            is_whole = await _live(world, once, Plan("append", at), wanted, name)
            if not is_whole:
                crashes += 1
                assert await _live(world, once, Plan(), wanted, name)
            # What a life before this one had sent and not marked yet may come to this one, too.
            ours = [work for work in once.effects if re.search(rf"-{name}[/:]", work)]
            effects = {re.sub(rf"-{name}(?=[/:])", "-N", work) for work in ours}
            assert len(effects) == len(ours), "each once"
            expected = effects if expected is None else expected
            assert effects == expected
            if at and is_whole:
                break
    # Every append of four sagas, and of all that is undone.
    assert crashes > 10
