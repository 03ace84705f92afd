"""Groups, sagas in sagas, signals, and other steps than a saga began with."""

from dataclasses import dataclass

import pytest
from hypothesis.stateful import run_state_machine_as_test

from actors.sagas import (
    ChildStuck,
    Compensate,
    Facts,
    Intervene,
    Refused,
    Saga,
    SagaState,
    Start,
    Status,
    Succeeded,
    TakeSignal,
    Unavailable,
    child,
    group,
    step,
    wait,
)
from actors.sagas.words.words import Parent, plain
from actors.testing.cases.any_order import SagaMachine
from actors.testing.cases.sagas import SagaTest
from tests.actors.sagas.checkouts import (
    Basket,
    Charge,
    Paid,
    Place,
    Placed,
    Purchase,
    Release,
    Reserve,
    Unplace,
    refund,
)
from tests.machines import machine_settings

BASKET = Basket("o-1", "c-1", 500)


class Together(Saga[Basket]):
    place = step(Place, undo=Unplace, result=Placed)
    pay = step(Charge, undo=refund, result=Paid)
    reserve = step(Reserve, undo=Release)
    both = group(pay, reserve)


class Apart(Saga[Basket]):
    place = step(Place, undo=Unplace)
    pay = step(Charge, undo=refund, result=Paid)
    reserve = step(Reserve, undo=Release)
    both = group(pay, reserve, parallel=True)


# Groups


def test_a_group_begins_together_and_goes_on_when_all_are_done() -> None:
    # SAGA-10
    case = SagaTest(Together).start(BASKET).expect_command(Place).reply(Placed(1))
    case.expect_command(Charge).expect_command(Reserve).reply()
    assert case.state.phase is Status.RUNNING
    case.reply_to(case.sent[1], Succeeded(Paid("p-1"))).expect_status("completed")


def test_a_failed_group_awaits_the_others_then_undoes_what_is_done() -> None:
    # SAGA-10
    case = SagaTest(Together).start(BASKET).expect_command(Place).reply(Placed(1))
    case.expect_command(Charge).expect_command(Reserve).refuse("sold out").expect_nothing()
    case.reply_to(case.sent[1], Succeeded(Paid("p-1")))
    case.expect_undo("pay").reply().expect_undo("place").reply().expect_status("failed", "sold out")


def test_what_is_in_flight_beside_a_failure_is_not_tried_again() -> None:
    # SAGA-10
    case = SagaTest(Together).start(BASKET).expect_command(Place).reply(Placed(1))
    case.expect_command(Charge).expect_command(Reserve).refuse("sold out")
    case.reply_to(case.sent[1], Unavailable("busy"))
    case.expect_undo("pay").reply().expect_undo("place").reply().expect_status("failed")


@pytest.mark.parametrize(("kind", "at_once"), [(Together, 1), (Apart, 2)])
def test_an_independent_group_is_undone_together(kind: type[Saga[Basket]], at_once: int) -> None:
    # SAGA-4, SAGA-10
    case = SagaTest(kind).start(BASKET).expect_command(Place).reply(Placed(1))
    case.expect_command(Charge).reply(Paid("p-1")).cancel()
    case.expect_command(Reserve).reply()
    undone = [one for one in case.sent if one.is_undo]
    assert len(undone) == at_once
    case.expect_undo("reserve").reply().expect_undo("pay").reply().expect_undo("place").reply()
    case.expect_status("failed")


# Sagas in sagas


def inner(facts: Facts[Basket]) -> Basket:
    """What the nested saga buys."""
    return facts.data


class Outer(Saga[Basket]):
    place = step(Place, undo=Unplace)
    buy = child(Purchase, data=inner)
    reserve = step(Reserve, undo=Release)


def test_a_child_is_a_step_with_an_id_of_its_own() -> None:
    # SAGA-11
    case = SagaTest(Outer).start(BASKET).expect_command(Place).reply().expect_child("buy")
    assert case.last.body == {"child": "purchase-1/buy", "data": plain(BASKET)}
    case.reply({"place": {"number": 1}}).expect_command(Reserve).refuse("sold out")
    case.expect_undo("buy")
    assert case.last.body == {"child": "purchase-1/buy", "reason": "reserve: sold out"}
    case.reply().expect_undo("place").reply().expect_status("failed")


def test_what_a_child_fails_at_is_what_its_parent_fails_at() -> None:
    # SAGA-11
    case = SagaTest(Outer).start(BASKET).expect_command(Place).reply()
    case.expect_child("buy").refuse("purchase-1/buy: pay: no money")
    case.expect_undo("place").reply().expect_status("failed", "purchase-1/buy: pay: no money")


def test_a_stuck_child_makes_its_parent_stuck_until_it_goes_on() -> None:
    # SAGA-11
    case = SagaTest(Outer).start(BASKET).expect_command(Place).reply()
    case.expect_child("buy").reply(ChildStuck("at purchase-1/buy/pay"))
    case.expect_status("stuck", "at purchase-1/buy/pay").expect_nothing()
    case.reply_to(case.sent[1], Refused("no money"))
    case.expect_undo("place").reply().expect_status("failed", "no money")


def test_a_child_that_is_stuck_for_long_is_still_awaited_and_can_be_given_up() -> None:
    # SAGA-11
    case = SagaTest(Outer).start(BASKET).expect_command(Place).reply()
    case.expect_child("buy").reply(ChildStuck("at purchase-1/buy/pay")).advance(100_000)
    begun = case.last
    case.expect_status("stuck").reply_to(begun, Succeeded({"place": {"number": 1}}))
    case.expect_command(Reserve).reply().expect_status("completed")
    for action in ("compensate", "retry"):
        case = SagaTest(Outer).start(BASKET).expect_command(Place).reply()
        case.expect_child("buy").reply(ChildStuck("at purchase-1/buy/pay")).advance(100_000)
        case.intervene(Intervene(action, "ann", "too long"))
        case.expect_undo("buy").reply().expect_undo("place").reply().expect_status("failed")


def _nested() -> SagaTest[Basket]:
    case = SagaTest(Purchase, name="1/buy")
    return case.tell(Start(plain(BASKET), Parent("outer-1", "buy", "t-do")))


def test_a_child_answers_its_parent_when_it_is_done_and_when_it_is_undone() -> None:
    # SAGA-11
    case = _nested().expect_command(Place).reply(Placed(1)).expect_command(Charge)
    case.reply(Paid("p-1")).expect_command(Reserve).reply().expect_status("completed")
    assert case.answers == [
        {
            "step": "buy",
            "token": "t-do",
            "outcome": "done",
            "results": {"place": {"number": 1}, "pay": {"payment_id": "p-1"}},
        }
    ]
    case.tell(Compensate("t-undo", "reserve: sold out"))
    case.expect_undo("reserve").reply().expect_undo("pay").reply().expect_undo("place").reply()
    case.expect_status("failed")
    assert case.answers[1]["token"] == "t-undo"
    assert case.answers[1]["outcome"] == "done"
    case.tell(Compensate("t-undo", "again")).tell(Compensate("t-more", "again"))
    assert len(case.answers) == 2


def test_a_child_in_the_middle_is_cancelled_by_its_parents_undo() -> None:
    # SAGA-11
    case = _nested().expect_command(Place).tell(Compensate("t-undo", "late")).reply(Placed(1))
    case.expect_undo("place").reply().expect_status("failed", "late")
    assert [(one["token"], one["outcome"]) for one in case.answers] == [("t-undo", "done")]


def test_a_child_that_fails_or_is_stuck_tells_its_parent_where() -> None:
    # SAGA-11
    case = _nested().expect_command(Place).reply(Placed(1)).expect_command(Charge).refuse("broke")
    for _ in range(4):
        case.expect_undo("place").refuse("cannot").advance(1)
    assert case.answers[-1]["outcome"] == "stuck"
    assert case.answers[-1]["path"] == "at purchase-1/buy/place"
    case.tell(Compensate("t-undo", "late"))
    assert (case.answers[-1]["token"], case.answers[-1]["outcome"]) == ("t-undo", "stuck")
    case.intervene(Intervene("skip", "ann", "by hand")).expect_status("failed")
    assert (case.answers[-1]["token"], case.answers[-1]["outcome"]) == ("t-undo", "done")


def test_a_child_alone_failing_is_not_done() -> None:
    # SAGA-11
    case = _nested().expect_command(Place).refuse("closed").expect_status("failed", "closed")
    assert case.answers == [
        {
            "step": "buy",
            "token": "t-do",
            "outcome": "not_done",
            "reason": "purchase-1/buy: place: closed",
        }
    ]


# Signals


@dataclass(frozen=True)
class Approval:
    by: str


@dataclass(frozen=True)
class Other:
    by: str


class Approved(Saga[Basket]):
    place = step(Place, undo=Unplace)
    approve = wait(Approval, timeout=3600)
    reserve = step(Reserve, undo=Release)


def test_a_signal_ends_the_step_that_waits_for_it() -> None:
    # SAGA-17
    case = SagaTest(Approved).start(BASKET).expect_command(Place).reply().expect_nothing()
    case.signal(Other("ann")).expect_nothing().signal(Approval("ann"))
    case.expect_command(Reserve).reply().expect_status("completed")
    assert case.state.step("approve").result == {"by": "ann"}


def test_a_signal_that_its_step_cannot_read_is_passed_over() -> None:
    # SAGA-17
    case = SagaTest(Approved).start(BASKET)
    for message in ({"by": 7}, {"by": "ann"}):
        case.tell(TakeSignal("Approval", message))
    case.expect_command(Place).reply().expect_command(Reserve)
    assert case.state.step("approve").result == {"by": "ann"}
    assert [one.message for one in case.state.signals] == [{"by": 7}]


def test_an_early_signal_waits_in_the_log() -> None:
    # SAGA-17
    case = SagaTest(Approved).start(BASKET).signal(Approval("ann"), "k").crash_after(1)
    case.signal(Approval("bob"), "k")
    assert len(case.state.signals) == 1
    case.expect_command(Place).reply().expect_command(Reserve).reply().expect_status("completed")
    case.signal(Approval("late"))
    assert getattr(case.answer, "code", None) == "invalid_transition"


def test_nobody_waits_for_a_signal_for_ever_nor_behind_a_cancel() -> None:
    # SAGA-17
    case = SagaTest(Approved).start(BASKET).expect_command(Place).reply().advance(900)
    case.expect_undo("place").reply().expect_status("failed", "deadline")
    case = SagaTest(Approved).start(BASKET).expect_command(Place).reply().cancel()
    case.expect_undo("place").reply().expect_status("failed")


def test_signals_that_nobody_takes_have_a_limit() -> None:
    case = SagaTest(Approved).start(BASKET)
    for _ in range(101):
        case.signal(Other("x"))
    assert getattr(case.answer, "code", None) == "too_many_signals"
    assert len(case.state.signals) == 100


# Other steps than it began with


class Longer(Saga[Basket]):
    """Purchase with a step before the payment, and one behind."""

    kind = "purchase"
    version = 2
    place = step(Place, undo=Unplace, result=Placed)
    check = step(Place, undo=Unplace)
    pay = step(Charge, undo=refund, result=Paid)
    reserve = step(Reserve, undo=Release)
    tell = step(Place)

    @classmethod
    def migrate(cls, state: SagaState) -> str:
        """Go on where it is: what was added before is skipped."""
        busy = state.in_phase("started", "waiting")
        return busy[0] if busy else "place"


def test_a_saga_goes_on_with_other_steps_and_does_none_twice() -> None:
    # SAGA-16
    case = SagaTest(Purchase).start(BASKET).expect_command(Place).reply(Placed(1))
    case.expect_command(Charge).deploy(Longer)
    assert case.state.version == 2
    case.reply(Paid("p-1")).expect_command(Reserve).reply().expect_command(Place).reply()
    case.expect_status("completed")
    assert case.state.step("check").phase == "skipped"


def test_what_cannot_be_migrated_is_refused_and_stays_as_it_is() -> None:
    # SAGA-16
    class Shorter(Saga[Basket]):
        kind = "purchase"
        version = 2
        place = step(Place, undo=Unplace, result=Placed)

        @classmethod
        def migrate(cls, state: SagaState) -> str:
            return "place"

    class Strange(Saga[Basket]):
        kind = "purchase"
        version = 2
        place = step(Place, undo=Unplace, result=Placed)

    case = SagaTest(Purchase).start(BASKET).expect_command(Place).reply(Placed(1))
    appends = case.appends
    case.deploy(Shorter)
    assert getattr(case.answer, "code", None) == "cannot_migrate"
    assert "pay would be lost" in getattr(case.answer, "message", "")
    case.deploy(Strange)
    assert getattr(case.answer, "code", None) == "cannot_migrate"
    case.reply(Paid("p-1"))
    assert getattr(case.answer, "code", None) == "unknown_version"
    assert case.appends == appends


# Any order


@pytest.mark.parametrize("kind", [Purchase, Together, Apart])
def test_whatever_comes_in_whatever_order_it_ends_or_waits_for_a_person(
    kind: type[Saga[Basket]],
) -> None:
    # TEST-9, SAGA-6
    results = {"place": Placed(1), "pay": Paid("p-1")}
    given = {"kind": kind, "data": BASKET, "results": results}
    machine = type("Machine", (SagaMachine,), given)
    run_state_machine_as_test(machine, settings=machine_settings(40, steps=25))
