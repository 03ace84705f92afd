"""A payment gateway that is played, in the checkout of the examples: it fails as real ones do."""

from collections.abc import Callable

import pytest
from trio.testing import MockClock

from actors.sagas import Outcome, Refused, SagaCommand, SagaId, Sagas, Status, Succeeded
from actors.testing import ParticipantTwin
from actors.testing.cases import participants
from docs.examples.checkout import (
    Checkout,
    InitiateCheckout,
    PaymentCompleted,
    ProcessPayment,
    Shop,
    ended,
)
from tests.actors.sagas.shops import Plan, memory_world, stock


def charge(command: SagaCommand) -> Outcome:
    told = command.opened()
    if isinstance(told, ProcessPayment):
        return Succeeded(PaymentCompleted(f"p-{told.order_id}", told.order_total_cents))
    return Succeeded()


async def checked_out(gateway: ParticipantTwin, chairs: int = 1) -> Status:
    """Let one person buy with the gateway, of two chairs that are there."""
    world, found = memory_world(), []
    await stock(world, "1")

    async def body(shop: Shop, sagas: Sagas) -> None:
        order = InitiateCheckout("1", "ann", 500, {"chair 1": chairs})
        saga = await sagas.start(Checkout, order, name="1")
        found.append(await ended(sagas, saga))

    assert await world.live(Plan(), body, {"payments": gateway})
    return found[0]


PAID = ["checkout-1:pay"]


@pytest.mark.parametrize(
    ("plant", "chairs", "status", "standing"),
    [
        (lambda _: None, 1, Status.COMPLETED, PAID),
        (lambda gateway: gateway.fail_next(times=2), 1, Status.COMPLETED, PAID),
        (lambda gateway: gateway.lose_connection(), 1, Status.COMPLETED, PAID),
        (lambda gateway: gateway.lose_answer(), 1, Status.COMPLETED, PAID),
        (lambda gateway: gateway.lose_answer(), 9, Status.FAILED, []),
        (lambda gateway: gateway.refuse_next("no money"), 1, Status.FAILED, []),
        (lambda gateway: gateway.slow(5.0), 1, Status.COMPLETED, PAID),
        # Away for longer than the step is tried.
        (lambda gateway: gateway.fail_next(times=5), 1, Status.FAILED, []),
        (lambda gateway: gateway.lose_answer(times=5), 1, Status.FAILED, []),
    ],
)
async def test_whatever_a_gateway_does_an_order_is_paid_once_or_not_at_all(
    plant: Callable[[ParticipantTwin], None],
    chairs: int,
    status: Status,
    standing: list[str],
    autojump_clock: MockClock,
) -> None:
    # TEST-7: the gateway of the checkout example
    gateway = ParticipantTwin(charge)
    plant(gateway)
    assert await checked_out(gateway, chairs) is status
    assert gateway.standing == standing


@pytest.mark.parametrize("times", [-1, 1.5, True, "2"])
def test_a_gateways_fault_that_would_never_come_is_refused(times: int) -> None:  # TEST-7
    gateway = ParticipantTwin()
    with pytest.raises(ValueError, match="times is"):
        gateway.fail_next(times=times)
    with pytest.raises(ValueError, match="times is"):
        gateway.lose_answer(times)
    with pytest.raises(ValueError, match="seconds is"):
        gateway.slow(-1.0)
    with pytest.raises(ValueError, match="must be a text that says why"):
        gateway.refuse_next(" ")
    with pytest.raises(TypeError, match="no error that a participant could raise"):
        gateway.fail_next(ConnectionError)  # type: ignore[arg-type]


def _command(step: str = "pay", *, is_undo: bool = False, attempt: int = 1) -> SagaCommand:
    now = memory_world().env.clock.now()
    return SagaCommand(
        "Pay", "payments", {}, str(SagaId("checkout", "1")), step, attempt, "t", is_undo, now
    )


async def test_what_is_to_be_done_once_is_done_once(autojump_clock: MockClock) -> None:
    # TEST-7
    counted: list[str] = []

    def answer(command: SagaCommand) -> Outcome:
        counted.append(command.work)
        return Succeeded(len(counted))

    twin = ParticipantTwin(answer)
    first = await twin(_command())
    assert await twin(_command(attempt=2)) == first
    assert await twin(_command(is_undo=True)) == Succeeded(2)
    assert twin.standing == []
    assert await twin(_command("late", is_undo=True)) == Succeeded(3)
    assert isinstance(await twin(_command("late")), Refused)
    assert len(twin.asked) == 5
    twin.slow(5.0)
    twin.reset()
    assert (twin.asked, twin.standing, twin.answers) == ([], [], {})


async def test_an_answer_that_is_none_is_told_at_once(autojump_clock: MockClock) -> None:
    twin = ParticipantTwin(lambda _: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="checkout-1:pay is None"):
        await twin(_command())


async def test_a_story_without_an_end_is_ended(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participants, "COMMANDS_MAX", 2)
    twin = ParticipantTwin()
    await twin(_command())
    await twin(_command())
    with pytest.raises(RuntimeError, match="2 commands"):
        await twin(_command())
