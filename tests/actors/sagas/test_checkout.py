"""The checkout of the examples: its ways, in memory, under virtual time; the program itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from trio.testing import MockClock

from actors.sagas import (
    Outcome,
    Refused,
    SagaAdministration,
    SagaCommand,
    SagaId,
    Sagas,
    Status,
    Succeeded,
)
from actors.testing import given
from docs.examples.checkout import (
    Checkout,
    InitiateCheckout,
    Inventory,
    ReservationRefused,
    ReserveInventory,
    Shop,
    StockCame,
    StockEvent,
    ended,
)
from tests.actors.sagas.shops import STORIES, Plan, Story, memory_world, stock

ROOT = Path(__file__).parents[3]
ONE = SagaId("checkout", "1")
ORDER = InitiateCheckout("1", "ann", 500, {"chair 1": 1})


@pytest.mark.parametrize("story", STORIES, ids=lambda one: one.name)
async def test_a_checkout_ends_as_it_should(autojump_clock: MockClock, story: Story) -> None:
    # EX-30, EX-31: happy, no money, sold out
    world = memory_world()
    await stock(world, "1")
    assert await story.play(world, "1", Plan())
    await story.check(world, "1")


@pytest.mark.parametrize("late", ["orders", "payments", "inventory"])
async def test_a_step_that_times_out_is_undone_with_all_before_it(
    autojump_clock: MockClock, late: str
) -> None:
    # EX-31
    world = memory_world()
    await stock(world, "1")
    undone: list[str] = []

    async def silent(command: SagaCommand) -> Outcome | None:
        if not command.is_undo:
            return None
        undone.append(command.step)
        return Succeeded()

    async def body(shop: Shop, sagas: Sagas) -> None:
        saga = await sagas.start(Checkout, ORDER, name="1")
        assert await ended(sagas, saga) is Status.FAILED
        steps = (await sagas.query(saga)).steps
        assert [name for name, one in steps.items() if one.undo == "done"] == list(steps)

    assert await world.live(Plan(), body, {late: silent})
    assert undone == [{"orders": "place", "payments": "pay", "inventory": "reserve"}[late]]
    if late != "orders":
        assert await world.types("order-1") == ["OrderPlaced", "OrderCancelled"]


async def test_an_undo_that_fails_for_good_is_stuck_until_somebody_helps(
    autojump_clock: MockClock,
) -> None:
    # DOC-4, EX-31
    world = memory_world()
    is_closed = [True]

    async def payments(command: SagaCommand) -> Outcome | None:
        if command.is_undo:
            return Refused("closed") if is_closed else Succeeded()
        return Succeeded({"payment_id": "p-1", "cents": 500})

    async def body(shop: Shop, sagas: Sagas) -> None:
        saga = await sagas.start(Checkout, ORDER, name="1")
        assert await ended(sagas, saga) is Status.STUCK
        is_closed.clear()
        admin = SagaAdministration(sagas, world.events, world.index, world.timers, world.outbox)
        await admin.retry_step(saga, "ann", "it is open again")
        assert await ended(sagas, saga) is Status.FAILED

    assert await world.live(Plan(), body, {"payments": payments})
    assert await world.types("order-1") == ["OrderPlaced", "OrderCancelled"]


def test_a_reservation_that_was_refused_stays_so() -> None:
    # EX-31
    """The command comes again behind a crash, when its checkout is over and stock has come."""
    reserve, refused = ReserveInventory("1", {"chair": 2}), "there is too little of chair"
    given(Inventory()).when(reserve).then(ReservationRefused("1", refused))
    later: list[StockEvent] = [ReservationRefused("1", refused), StockCame({"chair": 9})]
    given(Inventory(), *later).when(reserve).then_reply(ReservationRefused("1", refused))


@pytest.mark.slow
def test_the_program_runs() -> None:
    # EX-30
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "docs.examples.checkout"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, third, *picture = done.stdout.splitlines()
    paid = "Idle -> PlacingOrder -> ProcessingPayment"
    assert first == f"checkout-1: {paid} -> ReservingInventory -> Completed"
    why = "pay: the card's limit is reached"
    assert second == f"checkout-2: {paid} -> Compensating ({why}) -> Failed"
    why = "reserve: there is too little of chair"
    assert third == f"checkout-3: {paid} -> ReservingInventory -> Compensating ({why}) -> Failed"
    assert picture[0] == "stateDiagram-v2"
    assert any("undo pay: done at" in line for line in picture)
