"""The saga case says what was there when it is not as expected, and cannot be fooled."""

from collections.abc import Callable
from math import nan
from pathlib import Path

import pytest

from actors.sagas import Succeeded
from actors.testing.cases.sagas import SagaTest
from actors.testing.cases.telling import take_unfinished
from tests.actors.sagas.checkouts import Basket, Charge, Place, Placed, Purchase, Reserve

BASKET = Basket("o-1", "c-1", 500)


def _begun() -> SagaTest[Basket]:
    return SagaTest(Purchase).start(BASKET)


def _placed() -> SagaTest[Basket]:
    return _begun().expect_command(Place).reply(Placed(1))


MISTAKES: list[tuple[Callable[[], object], str]] = [
    (lambda: _begun().expect_command(Charge), r"expected a command Charge.*there is command Place"),
    (lambda: _begun().expect_undo("place"), "expected a undo of place; there is command Place"),
    (lambda: _begun().expect_child("pay"), "expected a child of pay"),
    (lambda: _begun().expect_nothing(), "there is command Place.v1 of place"),
    (lambda: _begun().reply(), "expect a command first"),
    (lambda: _begun().expect_status("completed"), "is running, not completed.*command Place"),
    (lambda: _begun().expect_status("done"), "'done' is not a valid Status"),
    (lambda: _begun().expect_events("SagaStarted"), "its log is SagaStarted, StepStarted"),
    (lambda: _placed().expect_command(Reserve), "there is command Charge.v1 of pay"),
    (lambda: _placed().expect_command(Place), "there is command Charge.v1 of pay"),
    (
        lambda: (
            _begun().expect_command(Place).refuse("no").expect_status("failed", "something else")
        ),
        "the reason is 'place: no', without 'something else'",
    ),
]


@pytest.mark.parametrize(("story", "why"), MISTAKES)
def test_a_story_that_is_not_so_fails_and_says_what_is(
    story: Callable[[], object], why: str
) -> None:
    # TEST-5
    with pytest.raises((AssertionError, ValueError), match=why):
        story()


def test_a_saga_that_is_over_with_commands_nobody_expected_fails() -> None:
    # TEST-5
    case = _placed().expect_command(Charge).refuse("no")
    undo = case.sent[-1]
    case.reply_to(undo, Succeeded())
    with pytest.raises(AssertionError, match=r"there is undo Unplace\.v1 of place"):
        case.expect_status("failed")


def test_time_fires_each_timer_at_its_own_time() -> None:
    # TEST-5: the clock stands where the timer was due, so what follows is counted from there
    case = _begun().expect_command(Place).advance(31)
    undo = case.expect_undo("place").last
    assert case.state.steps["place"].undo_attempt == 1
    assert undo.attempt == 1
    case.advance(28.9).expect_nothing().advance(0.1)  # thirty seconds of its own, and a wait
    assert case.fired == ["step:place", "undo:place"]
    case.advance(0.1).expect_undo("place")


def test_a_crash_makes_it_again_from_bytes() -> None:
    # TEST-5
    case = _begun().expect_command(Place).crash_after(1)
    before = case.state
    case.reply(Placed(1))
    assert case.state is not before
    assert [one.type for one in case.log].count("StepSucceeded") == 1
    assert all(isinstance(one.data, bytes) for one in case.log)


def test_a_crash_that_never_comes_fails_the_case() -> None:
    # TEST-5: it would look as if the saga had stood it
    case = _begun().expect_command(Place).crash_after(9).refuse()
    with pytest.raises(AssertionError, match="over after 2 appends; its crash behind append 10"):
        case.expect_status("failed")
    (left,) = take_unfinished()
    assert "purchase-1 was left before append 10, its crash" in left
    assert Path(__file__).name in left
    case = _begun().crash_after(1).expect_command(Place).refuse().expect_status("failed")
    case.crash_after(1).no_crash().expect_status("failed")
    assert take_unfinished() == []


def test_nonsense_is_refused_before_it_proves_anything() -> None:  # TEST-5
    case = _begun()
    for seconds in (-1, nan):
        with pytest.raises(ValueError, match="seconds cannot pass"):
            case.advance(seconds)
    for appends in (0, -1):
        with pytest.raises(ValueError, match="they count from 1"):
            case.crash_after(appends)
    with pytest.raises(TypeError, match=r"Basket'> is no command of a saga"):
        case.expect_command(Basket)
    with pytest.raises(TypeError, match="purchase begins with a Basket, not Placed"):
        SagaTest(Purchase).start(Placed(1))  # type: ignore[arg-type]
