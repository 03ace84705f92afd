"""Groups, sagas in sagas, signals, and other steps than a saga began with."""

import types
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from actors.persistence import EVENTS, Cursor, Refusal, StoredEvent, StreamId
from actors.sagas import (
    ChildStuck,
    Compensate,
    Facts,
    Intervene,
    Refused,
    Saga,
    SagaIndex,
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
from actors.sagas.words.log import SagaCompleted, SagasPurged, SagaStarted
from actors.sagas.words.words import Parent, named_id, plain
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


class Approved(Saga[Basket]):
    place = step(Place, undo=Unplace)
    approve = wait(Approval, timeout=3600)
    reserve = step(Reserve, undo=Release)


def test_a_signal_ends_the_step_that_waits_for_it() -> None:
    # SAGA-17
    case = SagaTest(Approved).start(BASKET).expect_command(Place).reply().expect_nothing()
    case.signal(Approval("ann"))
    case.expect_command(Reserve).reply().expect_status("completed")
    assert case.state.step("approve").result == {"by": "ann"}


def test_a_signal_that_no_step_will_take_is_refused_and_not_kept() -> None:
    # SAGA-17: it would lie in the log for ever, and its sender believe that it counts
    case = SagaTest(Approved).start(BASKET).expect_command(Place).reply()
    for name, by, why in (
        ("Other", "ann", "no step waits for Other; they wait for Approval"),
        ("Approval", 7, "approve cannot read the Approval: Expected `str`"),
    ):
        case.tell(TakeSignal(name, {"by": by}))
        assert isinstance(case.answer, Refusal)
        assert case.answer.code == "signal_refused"
        assert case.answer.message.startswith(why)
    assert case.appends == 2
    case.signal(Approval("ann")).expect_command(Reserve).signal(Approval("too late"))
    assert getattr(case.answer, "code", None) == "invalid_transition"
    case = SagaTest(Approved).start(BASKET).cancel().signal(Approval("ann"))
    assert getattr(case.answer, "code", None) == "invalid_transition"
    assert case.state.signals == ()
    case = SagaTest(Purchase).start(BASKET).signal(Approval("ann"))
    assert "they wait for no signal" in getattr(case.answer, "message", "")


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
        case.signal(Approval("x"))
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


def _migrate(cls: type[object], state: SagaState) -> str:
    """Go on at what is in flight, else at the first step that is not done."""
    steps: list[str] = [one for one in cls.order if one in vars(cls)]  # type: ignore[attr-defined]
    left = [one for one in steps if state.step(one).phase in ("new", "started", "waiting")]
    return (*state.in_phase("started", "waiting"), *left, steps[-1])[0]


def _changed(*steps: str, **others: object) -> type[Saga[Basket]]:
    """The purchase of a later deploy, with these steps in this order."""
    known: dict[str, object] = {
        "place": step(Place, undo=Unplace, result=Placed),
        "pay": step(Charge, undo=refund, result=Paid),
        "reserve": step(Reserve, undo=Release),
        "check": step(Place, undo=Unplace, result=Placed),
        "hold": step(Reserve, undo=Release),
        **others,
    }
    body = {"kind": "purchase", "version": 2, "order": steps, "migrate": classmethod(_migrate)}
    bases = (Saga[Basket],)
    return types.new_class(
        "Changed", bases, exec_body=lambda own: own.update(body, **{n: known[n] for n in steps})
    )


_CHANGES = {
    "a step added in front": ("check", "place", "pay", "reserve"),
    "a step added in between": ("place", "check", "pay", "reserve"),
    "a step added behind": ("place", "pay", "reserve", "check"),
    "the first removed": ("pay", "reserve"),
    "the last removed": ("place", "pay"),
    "one renamed": ("place", "pay", "hold"),
    "another order": ("place", "reserve", "pay"),
    "another deadline": ("place", "pay", "reserve"),
}
_RESULTS: dict[str, object] = {"place": Placed(1), "check": Placed(1), "pay": Paid("p-1")}


def _at(state: str) -> SagaTest[Basket]:
    """A purchase that has come so far."""
    case = SagaTest(Purchase).start(BASKET).expect_command(Place)
    if state == "placing":
        return case
    case.reply(Placed(1)).expect_command(Charge)
    match state:
        case "retrying":
            return case.unavailable()
        case "reserving":
            return case.reply(Paid("p-1")).expect_command(Reserve)
        case "compensating":
            return case.refuse("no money").expect_undo("place")
        case "stuck":
            case.refuse("no money").expect_undo("place").refuse("will not")
            while not case.state.stuck:
                case.advance(1).expect_undo("place").refuse("will not")
    return case


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize(
    "state", ["placing", "paying", "retrying", "reserving", "compensating", "stuck"]
)
def test_any_change_in_any_state_is_refused_whole_or_does_no_step_twice(
    state: str, change: str
) -> None:
    # SAGA-16: steps added, removed, renamed, put in another order, given other times
    slow = step(Charge, undo=refund, result=Paid, timeout=90, retries=())
    others = {"pay": slow} if change == "another deadline" else {}
    case, kind = _at(state), _changed(*_CHANGES[change], **others)
    before, appends = case.state, case.appends
    case.deploy(kind)
    needed = {one for one, found in before.steps.items() if found.phase in _HELD}
    if not needed <= set(_CHANGES[change]):
        assert getattr(case.answer, "code", None) == "cannot_migrate"
        assert (case.state, case.appends) == (before, appends)
        return
    assert (case.state.version, case.state.phase) == (2, before.phase)
    if before.stuck:
        case.intervene(Intervene("retry", "ann", "try again"))
    done = [name for name, found in before.steps.items() if found.phase == "done"]
    undone = list[str]()
    for _ in range(20):
        case.advance(1)
        for one in case.sent:
            found = case.state.step(one.step)
            if one.is_undo and one.token == found.undo_token and found.undo == "started":
                undone.append(one.step)
            elif not one.is_undo and one.token == found.token and found.phase == "started":
                done.append(one.step)
            else:
                continue
            case.reply_to(one, Succeeded(_RESULTS.get(one.step) if not one.is_undo else None))
    assert len(set(done)) == len(done)
    assert sorted(undone) == (["place"] if before.phase is Status.COMPENSATING else [])
    assert case.state.phase is (Status.FAILED if undone else Status.COMPLETED)


_HELD = ("started", "waiting", "done", "unknown")


class Twofold(Saga[Basket]):
    kind = "purchase"
    place = step(Place, undo=Unplace, result=Placed)
    pay = step(Charge, undo=refund, result=Paid)
    both = group(place, pay)


def _threefold(at: str) -> type[Saga[Basket]]:
    class Threefold(Saga[Basket]):
        kind = "purchase"
        version = 2
        place = step(Place, undo=Unplace, result=Placed)
        pay = step(Charge, undo=refund, result=Paid)
        reserve = step(Reserve, undo=Release)
        all_of_it = group(place, pay, reserve)

        @classmethod
        def migrate(cls, state: SagaState) -> str:
            return at

    return Threefold


@pytest.mark.parametrize("changed", ["place", "pay", "reserve", "one by one"])
def test_a_group_may_grow_or_be_taken_apart_under_its_steps(changed: str) -> None:
    # SAGA-16, SAGA-10: one step of the group is done and one in flight; neither is done again
    case = SagaTest(Twofold).start(BASKET).expect_command(Place).reply(Placed(1))
    case.expect_command(Charge)
    paying = case.last
    serial = changed == "one by one"
    case.deploy(_changed("place", "pay", "reserve") if serial else _threefold(changed))
    assert case.state.version == 2
    if not serial:
        case.expect_command(Reserve).reply()  # begun at once, with those of its group
    case.reply_to(paying, Succeeded(Paid("p-1")))
    if serial:
        case.expect_command(Reserve).reply()
    case.expect_status("completed")
    assert [one.step for one in case.sent] == ["place", "pay", "reserve"]


class Paying(Saga[Basket]):
    pay = step(Charge, undo=refund, result=Paid)


def _data(facts: Facts[Basket]) -> Basket:
    return facts.data


class Nesting(Saga[Basket]):
    kind = "purchase"
    pay = child(Paying, data=_data)
    reserve = step(Reserve, undo=Release)


class Flat(Saga[Basket]):
    kind = "purchase"
    version = 2
    pay = step(Charge, undo=refund, result=Paid)
    reserve = step(Reserve, undo=Release)

    @classmethod
    def migrate(cls, state: SagaState) -> str:
        return "pay" if state.step("pay").phase == "started" else "reserve"


class NestingLater(Saga[Basket]):
    kind = "purchase"
    version = 3
    pay = child(Paying, data=_data)
    reserve = step(Reserve, undo=Release)

    @classmethod
    def migrate(cls, state: SagaState) -> str:
        return Flat.migrate(state)


class Awaiting(Saga[Basket]):
    kind = "purchase"
    pay = wait(Paid)
    reserve = step(Reserve, undo=Release)


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize(
    ("before", "after"), [(Nesting, Flat), (Flat, NestingLater), (Awaiting, Flat)]
)
def test_what_began_as_a_saga_is_never_undone_as_a_command(
    before: type[Saga[Basket]], after: type[Saga[Basket]], is_done: bool
) -> None:
    # SAGA-16, SAGA-11: nor a command as a saga; a step that waits is neither
    case = SagaTest(before).start(BASKET)
    if is_done and before is Awaiting:
        case.signal(Paid("p-1"))
    elif is_done:
        case.reply_to(case.sent[0], Succeeded(Paid("p-1")))
    assert case.state.step("pay").phase == ("done" if is_done else "started")
    state, appends = case.state, case.appends
    case.deploy(after)
    assert getattr(case.answer, "code", None) == "cannot_migrate"
    assert "began as something else" in getattr(case.answer, "message", "")
    assert (case.state, case.appends) == (state, appends)


def test_data_and_results_that_are_no_longer_read_are_told_before_anything_is_done() -> None:
    # SAGA-16: the steps are the same, or migrated, and their classes are not
    @dataclass(frozen=True)
    class Other(Basket):
        coupon: str

    @dataclass(frozen=True)
    class Receipt:
        receipt: str

    class OfOther(Saga[Other]):
        kind = "purchase"
        place = step(Place, undo=Unplace, result=Placed)
        pay = step(Charge, undo=refund, result=Paid)
        reserve = step(Reserve, undo=Release)

    class OfReceipt(Saga[Basket]):
        kind = "purchase"
        place = step(Place, undo=Unplace, result=Receipt)
        pay = step(Charge, undo=refund, result=Paid)
        reserve = step(Reserve, undo=Release)

    receipt = step(Place, undo=Unplace, result=Receipt)
    for kind, code, word in (
        (OfOther, "cannot_read", "its data"),
        (OfReceipt, "cannot_read", "the result of place"),
        (_changed("place", "pay", "reserve", place=receipt), "cannot_migrate", "of place"),
    ):
        case = _at("paying")
        before, appends = case.state, case.appends
        case.deploy(kind)  # type: ignore[arg-type]
        assert getattr(case.answer, "code", None) == code
        assert word in getattr(case.answer, "message", "")
        assert (case.state, case.appends) == (before, appends)


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


def _stored(fact: object) -> StoredEvent:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    new = EVENTS.encode(fact, event_id=uuid4(), metadata={}, tenant=None)
    return StoredEvent(
        StreamId("purchase-7"), 1, Cursor(1, 1), new.event_id, new.type, new.schema_version,
        new.codec, new.data, {}, None, at,
    )  # fmt: skip


def test_the_index_reads_no_line_that_cannot_be_there() -> None:
    # PERF-56: reading one locks it, in the transaction of each saga that begins
    at = datetime(2026, 3, 1, tzinfo=UTC)
    started = SagaStarted("purchase", 1, "f", {}, at, at)
    assert [SagaIndex().reads(_stored(one)) for one in (started, SagasPurged(("purchase-7",)))] == [
        (),
        (),
    ]
    assert SagaIndex().reads(_stored(SagaCompleted())) == ("open/purchase/7",)


@given(st.text(), st.integers())
def test_a_named_id_is_the_one_that_uuid5_makes(name: str, number: int) -> None:
    # SAGA-2, PERF-56: what older versions have stored is known again
    of = UUID("7c1f8f0a-4f0d-5c3b-9a6e-2f3f5d1c8e11")
    assert named_id(name, number) == uuid5(of, f"{name}:{number}")
