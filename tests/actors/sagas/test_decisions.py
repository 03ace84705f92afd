"""What a saga does next: each way through it, and what comes late, twice or never."""

from datetime import UTC, datetime

import pytest

from actors.sagas import Break, Intervene, Refused, Saga, Succeeded, TakeTimer, step
from actors.sagas.words.log import StepStarted
from actors.sagas.words.state import Applied, SagaState, apply
from actors.testing.cases.sagas import SagaTest
from tests.actors.sagas.checkouts import (
    Basket,
    Charge,
    Paid,
    Place,
    Placed,
    Purchase,
    Refund,
    Reserve,
    Unplace,
)

BASKET = Basket("o-1", "c-1", 500)


def _begun() -> SagaTest[Basket]:
    return SagaTest(Purchase).start(BASKET)


def _placed() -> SagaTest[Basket]:
    return _begun().expect_command(Place).reply(Placed(1))


def _paid() -> SagaTest[Basket]:
    return _placed().expect_command(Charge).reply(Paid("p-1"))


def test_the_happy_way_sends_each_command_when_the_one_before_is_done() -> None:
    # SAGA-1, TEST-5
    case = _paid()
    assert case.sent[1].read(Charge) == Charge("o-1", 500)
    case.expect_command(Reserve).reply().expect_status("Completed")
    case.expect_events(
        "SagaStarted",
        "StepStarted",
        "StepSucceeded",
        "StepStarted",
        "StepSucceeded",
        "StepStarted",
        "StepSucceeded",
        "SagaCompleted",
    )


def test_starting_a_step_is_one_append_with_its_command_and_timer() -> None:
    # SAGA-2
    case = _placed()
    assert case.appends == 2
    assert [one.type for one in case.log][2:] == ["StepSucceeded", "StepStarted"]
    charge = case.expect_command(Charge).last
    assert charge.key == "purchase-1:pay:1"
    assert charge.headers["idempotency-key"] == charge.key
    assert charge.work == "purchase-1:pay"
    case.advance(30).expect_undo("pay")


def test_a_late_or_repeated_reply_changes_nothing() -> None:
    # SAGA-2
    case = _placed()
    place = case.sent[0]
    appends = case.appends
    case.reply_to(place, Succeeded(Placed(2)))
    case.reply_to(place, Refused("after all"))
    assert case.appends == appends
    case.expect_command(Charge).advance(30)
    case.reply_to(case.sent[1], Succeeded(Paid("p-late")))
    assert case.state.step("pay").phase == "unknown"
    case.expect_undo("pay").reply().expect_undo("place").reply().expect_status("failed")


def test_a_reply_of_an_earlier_attempt_is_not_that_of_the_one_in_flight() -> None:
    # SAGA-2: of a do, and of an undo
    case = _begun().expect_command(Place).unavailable().advance(0.1).expect_command(Place)
    appends = case.appends
    case.reply_to(case.sent[0], Refused("late")).reply_to(case.sent[0], Succeeded(Placed(9)))
    assert case.appends == appends
    case.reply(Placed(1)).expect_command(Charge).refuse("no money").expect_undo("place")
    case.refuse("busy").advance(0.1).expect_undo("place")
    late = next(one for one in case.sent if one.is_undo)
    case.reply_to(late, Succeeded())
    assert case.state.step("place").undo == "started"
    case.reply().expect_status("failed", "no money")


def test_a_refusal_undoes_what_is_done_in_reverse() -> None:
    # SAGA-3, SAGA-4
    case = _paid().expect_command(Reserve).refuse("sold out")
    case.expect_undo("pay")
    assert case.last.read(Refund) == Refund("p-1", "reserve: sold out")
    assert case.last.key == "purchase-1:pay:undo"
    case.expect_nothing()  # one at a time
    case.reply().expect_undo("place")
    assert case.last.read(Unplace) == Unplace("o-1")
    case.reply().expect_status("failed", "sold out")


def test_a_moments_trouble_is_tried_again_three_times() -> None:
    # SAGA-3
    case = _begun()
    for attempt, wait_s in ((1, 0.1), (2, 0.2), (3, 0.4)):
        case.expect_command(Place).unavailable()
        assert case.last.attempt == attempt
        case.advance(wait_s - 0.01).expect_nothing().advance(0.01)
    case.expect_command(Place).unavailable("still")
    assert len({one.token for one in case.sent if not one.is_undo}) == 4
    # Whether it was done nobody knows, so it is undone.
    case.expect_undo("place").reply().expect_status("failed", "still")


def test_a_step_that_nobody_answers_is_undone_too() -> None:
    # SAGA-3
    case = _placed().expect_command(Charge).advance(29.9).expect_nothing().advance(0.1)
    case.expect_undo("pay").reply().expect_undo("place").reply().expect_status("failed", "pay")
    assert case.fired == ["step:pay"]


def test_an_undo_that_fails_three_times_more_is_stuck_and_can_be_tried_again() -> None:
    # SAGA-4, SAGA-13
    case = _placed().expect_command(Charge).refuse("no money")
    for wait_s in (0.1, 0.2, 0.4):
        case.expect_undo("place").refuse("cannot").advance(wait_s)
    case.expect_undo("place").unavailable("away").expect_status("stuck", "away")
    assert case.letters == [{"saga": "purchase-1", "step": "place", "reason": "away"}]
    case.intervene(Intervene("retry", "ann", "it is back"))
    case.expect_undo("place").reply().expect_status("failed", "no money")


def test_a_stuck_undo_can_be_skipped_and_a_stuck_saga_given_up() -> None:
    # SAGA-13
    for action, events in (("skip", ["SagaResumed", "UndoSkipped"]), ("fail", [])):
        case = _placed().expect_command(Charge).refuse("no money")
        for _ in range(4):
            case.expect_undo("place").refuse("cannot").advance(1)
        case.expect_status("stuck")
        case.intervene(Intervene(action, "ann", "by hand"))  # type: ignore[arg-type]
        case.expect_status("failed")
        assert [one.type for one in case.log][-1 - len(events) :] == [*events, "SagaFailed"]
        assert b"ann" in b"".join(one.data for one in case.log[-2:])


@pytest.mark.parametrize("action", ["retry", "skip", "fail"])
def test_what_only_a_stuck_saga_takes_is_refused_by_others(action: str) -> None:
    # SAGA-13
    case = _placed()
    appends = case.appends
    case.intervene(Intervene(action, "ann", "now"))  # type: ignore[arg-type]
    assert getattr(case.answer, "code", None) == "invalid_transition"
    assert case.appends == appends


def test_a_person_can_have_a_running_saga_undone() -> None:
    # SAGA-13
    case = _placed().expect_command(Charge).intervene(Intervene("compensate", "ann", "fraud"))
    case.expect_nothing()  # the payment is awaited
    case.reply(Paid("p-1")).expect_undo("pay").reply().expect_undo("place").reply()
    case.expect_status("failed", "fraud")


def test_the_deadline_comes_once_and_undoes_all() -> None:
    # SAGA-5
    class Slow(Saga[Basket]):
        deadline_s = 20.0
        place = step(Place, undo=Unplace, result=Placed)

    case = SagaTest(Slow).start(BASKET).expect_command(Place).advance(20)
    case.expect_undo("place").reply().expect_status("failed", "deadline").advance(1000)
    assert case.fired == ["deadline"]


def test_the_deadline_of_a_saga_that_is_over_or_on_its_way_back_changes_nothing() -> None:
    # SAGA-5
    case = _paid().expect_command(Reserve).reply().expect_status("completed").advance(10_000)
    assert case.fired == []
    case = _placed().expect_command(Charge).refuse("no money").expect_undo("place")
    appends = case.appends
    case.tell(TakeTimer("deadline", ""))
    assert case.appends == appends


def test_a_cancelled_saga_awaits_what_is_in_flight() -> None:
    # SAGA-17
    case = _placed().expect_command(Charge).cancel("too slow").expect_status("compensating")
    case.expect_nothing().reply(Paid("p-1"))
    case.expect_undo("pay").reply().expect_undo("place").reply()
    case.expect_status("failed", "too slow").cancel()
    assert getattr(case.answer, "code", None) == "invalid_transition"


def test_a_cancelled_saga_does_not_wait_longer_than_the_step() -> None:
    # SAGA-17
    case = _placed().expect_command(Charge).cancel().advance(30)
    case.expect_undo("pay").reply().expect_undo("place").reply().expect_status("failed")


def test_a_result_that_is_not_as_declared_counts_as_unknown() -> None:
    case = _begun().expect_command(Place).reply({"other": 1})
    case.expect_undo("place")


def test_the_same_start_again_is_known_and_another_one_refused() -> None:
    # SAGA-9
    case = _begun()
    case.start(BASKET)
    assert case.appends == 1
    case.start(Basket("o-1", "c-2", 1))
    assert getattr(case.answer, "code", None) == "saga_exists"
    assert case.appends == 1


def test_facts_are_taken_while_it_is_stuck_and_acted_on_later() -> None:
    # SAGA-3: its own code failed; the reply that came meanwhile is not lost
    case = _placed().expect_command(Charge).tell(Break("a bug")).expect_status("stuck", "a bug")
    case.reply(Paid("p-1")).expect_nothing()
    case.intervene(Intervene("retry", "ann", "mended")).expect_command(Reserve)
    case.reply().expect_status("completed")


def test_a_step_that_times_out_while_it_is_stuck_is_undone_when_it_goes_on() -> None:
    case = _placed().expect_command(Charge).tell(Break("a bug")).advance(60).expect_nothing()
    case.intervene(Intervene("retry", "ann", "mended"))
    case.expect_undo("pay").reply().expect_undo("place").reply().expect_status("failed")


def test_a_timer_of_another_attempt_changes_nothing() -> None:
    case = _begun()
    for name in ("step:place", "retry:place", "undo:place", "undo_retry:place", "step:no", "x"):
        case.tell(TakeTimer(name, "another"))
    assert case.appends == 1


@pytest.mark.parametrize(
    ("fails", "crash"),
    [(fails, crash) for fails, last in (("", 4), ("pay", 4), ("reserve", 6))
     for crash in range(1, last + 1)],
)  # fmt: skip
def test_a_crash_behind_any_append_changes_nothing(crash: int, fails: str) -> None:
    # SAGA-6, TEST-5: made again from its log, and what came comes again
    case = SagaTest(Purchase).crash_after(crash).start(BASKET)
    case.expect_command(Place).reply(Placed(1)).expect_command(Charge)
    if fails == "pay":
        case.refuse()
    else:
        case.reply(Paid("p-1")).expect_command(Reserve)
        if fails:
            case.refuse().expect_undo("pay").reply()
        else:
            case.reply()
    if fails:
        case.expect_undo("place").reply()
    case.expect_status("failed" if fails else "completed")
    assert len({(one.key, one.is_undo) for one in case.sent}) == len(case.sent)


def test_a_state_that_is_known_is_that_of_the_same_event_behind_the_same_state() -> None:
    # SAGA-1: whoever decides, sends and keeps asks in turn; a conflict asks behind another state
    applied, new = Applied(), SagaState()
    first, second = (StepStarted("place", one, "t", datetime.now(UTC)) for one in (1, 2))
    after = applied(new, first)
    assert applied(new, first) is after
    assert after == apply(new, first)
    assert applied(after, second) == apply(after, second)
    assert applied(after, first) == apply(after, first)
    assert applied.take(after, first) == apply(after, first)
    again = applied(new, first)
    assert again is not after
    assert applied.take(new, first) is again
    assert applied.take(new, first) is not again
    applied(new, second)
    applied.forget()
    assert applied.take(new, second) == apply(new, second)
