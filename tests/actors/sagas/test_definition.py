"""A saga's class is checked when it is made: each mistake names its file and line."""

import re
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, dataclass

import pytest

from actors.sagas import (
    Cancel,
    ChildStuck,
    Facts,
    Intervene,
    Refused,
    Saga,
    SagaDefinitionError,
    SagaKinds,
    SagaState,
    Unavailable,
    UnknownSagaKind,
    child,
    command,
    group,
    step,
    wait,
)
from actors.sagas.words.words import target_of
from tests.actors.sagas.checkouts import Basket, Charge, Paid, Place, Placed, Purchase, Unplace


@dataclass
class Loose:
    order_id: str


@dataclass(frozen=True)
class Unmarked:
    order_id: str


async def later(facts: Facts[Basket]) -> Unplace:
    return Unplace(facts.data.order_id)


def one_by_one(facts: Facts[Basket]) -> Iterator[Unplace]:
    yield Unplace(facts.data.order_id)


def takes_no_facts() -> Unplace:
    return Unplace("1")


def no_steps() -> None:
    class Nothing(Saga[Basket]):
        pass


def no_data() -> None:
    class Nothing(Saga):  # type: ignore[type-arg]
        place = step(Place)


def loose_data() -> None:
    class Nothing(Saga[Loose]):
        place = step(Unplace)


def bad_kind() -> None:
    class Nothing(Saga[Basket]):
        kind = "Check out"
        place = step(Place)


def bad_version() -> None:
    class Nothing(Saga[Basket]):
        version = 0
        place = step(Place)


def bad_deadline() -> None:
    class Nothing(Saga[Basket]):
        deadline_s = float("inf")
        place = step(Place)


def no_name() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place)
        both = group(step(Unplace), place)


def lost_step() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place)
        step(Unplace)


def step_within_others() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place)
        more = (step(Unplace),)


def step_over_another() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place)
        place = step(Unplace)  # noqa: PIE794 - that is the mistake


def capital_name() -> None:
    class Nothing(Saga[Basket]):
        Place = step(Place)


def nameless_function() -> None:
    class Nothing(Saga[Basket]):
        place = step(lambda facts: Unplace(facts.data.order_id))


def takes_nothing() -> None:
    class Nothing(Saga[Basket]):
        place = step(takes_no_facts)  # type: ignore[arg-type]


def two_names() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place)
        again = place


def long_name() -> None:
    class Nothing(Saga[Basket]):
        place_it_on_the_shelf_of_the_house = step(Place)


def two_groups() -> None:
    class Nothing(Saga[Basket]):
        a, b, c = step(Place), step(Place), step(Place)
        ab = group(a, b)
        bc = group(b, c)


def lonely_group() -> None:
    class Nothing(Saga[Basket]):
        a = step(Place)
        alone = group(a)


def no_step_in_group() -> None:
    class Nothing(Saga[Basket]):
        a = step(Place)
        both = group(a, 3)  # type: ignore[arg-type]


def coroutine() -> None:
    class Nothing(Saga[Basket]):
        place = step(later)


def generator() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place, undo=one_by_one)


def unmarked() -> None:
    class Nothing(Saga[Basket]):
        place = step(Unmarked)


def nothing_to_call() -> None:
    class Nothing(Saga[Basket]):
        place = step("place")  # type: ignore[call-overload]


def unknown_field() -> None:
    @command("payments")
    @dataclass(frozen=True)
    class Odd:
        iban: str

    class Nothing(Saga[Basket]):
        pay = step(Odd)


def ambiguous_field() -> None:
    @command("payments")
    @dataclass(frozen=True)
    class Numbered:
        number: int

    class Nothing(Saga[Basket]):
        a = step(Place, result=Placed)
        b = step(Place, result=Placed)
        c = step(Numbered)


def undo_of_own_result() -> None:
    @command("payments")
    @dataclass(frozen=True)
    class GiveBack:
        payment_id: str

    class Nothing(Saga[Basket]):
        pay = step(Charge, undo=GiveBack, result=Paid)


def loose_result() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place, result=Loose)


def loose_signal() -> None:
    class Nothing(Saga[Basket]):
        place = wait(Loose)


def bad_timeout() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place, timeout=0)


def no_number() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place, undo_timeout="soon")  # type: ignore[call-overload]


def bad_retries() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place, retries=(0.1, -1.0))


def no_retries() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place, retries=3)  # type: ignore[call-overload]


def too_many_retries() -> None:
    class Nothing(Saga[Basket]):
        place = step(Place, retries=[0.1] * 21)


def no_saga() -> None:
    class Nothing(Saga[Basket]):
        place = child(Basket, data=later)  # type: ignore[arg-type]


def too_deep() -> None:
    below: type[Saga[Basket]] = Purchase
    for depth in range(5):

        class Deeper(Saga[Basket]):
            kind = f"deeper_{depth}"
            inner = child(below, data=lambda facts: facts.data)

        below = Deeper


def no_result_class() -> None:
    class Wrong(Saga[Basket]):
        place = step(Place, result=5)  # type: ignore[call-overload]


def no_signal_class() -> None:
    class Wrong(Saga[Basket]):
        approve = wait(5)  # type: ignore[arg-type, var-annotated]


def no_flag() -> None:
    class Wrong(Saga[Basket]):
        place = step(Place, undo_when_unknown="no")  # type: ignore[call-overload]


def no_flag_of_a_group() -> None:
    class Wrong(Saga[Basket]):
        place = step(Place)
        again = step(Place)
        both = group(place, again, parallel=1)  # type: ignore[arg-type]


def word_of_every_saga() -> None:
    class Wrong(Saga[Basket]):
        definition = step(Place)  # type: ignore[assignment]


def migrate_without_a_class() -> None:
    class Wrong(Saga[Basket]):
        place = step(Place)

        def migrate(self, state: SagaState) -> str:  # type: ignore[override]
            return "place"


MISTAKES: list[tuple[Callable[[], None], str]] = [
    (no_steps, "has 0 steps"),
    (no_data, "name the class of its data"),
    (loose_data, "no frozen class"),
    (bad_kind, "no kind"),
    (bad_version, "versions count from 1"),
    (bad_deadline, "deadline_s is inf"),
    (no_name, "without a name"),
    (lost_step, "without a name"),
    (step_within_others, "without a name"),
    (step_over_another, "without a name"),
    (capital_name, "Place is no name of a step"),
    (nameless_function, "is a lambda"),
    (takes_nothing, "must take one thing, the facts"),
    (two_names, "also named"),
    (long_name, "longer than 30 letters"),
    (two_groups, "two groups"),
    (lonely_group, "two steps or more"),
    (no_step_in_group, "3 is no step"),
    (coroutine, "no plain function"),
    (generator, "no plain function"),
    (unmarked, "mark Unmarked with @command"),
    (nothing_to_call, "give a command or a function"),
    (unknown_field, "nothing known by then has"),
    (ambiguous_field, "number is in several results"),
    (undo_of_own_result, "known only from its result"),
    (loose_result, "no frozen class"),
    (loose_signal, "not frozen"),
    (bad_timeout, "timeout is 0"),
    (no_number, "undo_timeout is 'soon'"),
    (bad_retries, "a wait of retries is -1.0"),
    (no_retries, "retries is 3"),
    (too_many_retries, "more than 20 retries"),
    (no_saga, "is no saga"),
    (no_result_class, "no frozen class"),
    (no_signal_class, "not frozen"),
    (no_flag, "undo_when_unknown is 'no'"),
    (no_flag_of_a_group, "parallel is 1"),
    (word_of_every_saga, "definition is a word of every saga"),
    (migrate_without_a_class, "its migrate is no classmethod"),
    (too_deep, "5 deep at most"),
]


@pytest.mark.parametrize(("make", "why"), MISTAKES, ids=lambda one: getattr(one, "__name__", ""))
def test_a_mistake_is_refused_when_the_class_is_made(make: Callable[[], None], why: str) -> None:
    # SAGA-1, SAGA-11
    with pytest.raises(SagaDefinitionError) as caught:
        make()
    assert why in str(caught.value)
    line = re.match(r".*test_definition\.py:(\d+)$", caught.value.where)
    assert line is not None, caught.value.where
    first = make.__code__.co_firstlineno
    assert first < int(line[1]) <= first + 14


@pytest.mark.parametrize("kind", [5, Saga, Basket, None])
def test_what_is_no_saga_is_no_kind(kind: object) -> None:
    with pytest.raises(TypeError, match="is no saga"):
        SagaKinds(kind)  # type: ignore[arg-type]


def test_a_command_needs_a_target_and_a_frozen_class() -> None:
    with pytest.raises(TypeError, match="no target"):
        command(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no target"):
        command("$saga")
    with pytest.raises(TypeError, match="no frozen"):
        command("orders")(Loose)

    @command("orders", name="PlainlyPlaced")
    class Plain:
        order_id: str

    assert target_of(Plain) == "orders"
    with pytest.raises(FrozenInstanceError):
        Plain("1").order_id = "2"  # type: ignore[call-arg]


def test_the_fingerprint_is_that_of_the_steps_not_of_their_times() -> None:
    # SAGA-16
    class Slower(Saga[Basket]):
        kind = "purchase"
        deadline_s = 60.0
        place = step(Place, undo=Unplace, result=Placed, timeout=5)

    class Other(Saga[Basket]):
        kind = "purchase"
        place = step(Place, result=Placed)

    class Same(Saga[Basket]):
        kind = "purchase"
        place = step(Place, undo=Unplace, retries=())

    prints = [one.definition().fingerprint for one in (Slower, Other, Same)]
    assert prints[0] == prints[2] != prints[1]


def test_a_kind_is_named_by_its_class_and_two_of_one_version_are_refused() -> None:
    # SAGA-16
    class BuyAgain(Saga[Basket]):
        place = step(Place)

    class Twin(Saga[Basket]):
        kind = "buy_again"
        place = step(Place)

    assert BuyAgain.kind == "buy_again"
    with pytest.raises(SagaDefinitionError, match="buy_again v1 is also at"):
        SagaKinds(BuyAgain, Twin)
    with pytest.raises(UnknownSagaKind):
        SagaKinds(BuyAgain).versions("other")


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("ann", ""), (" ", "why"), (None, "why")])
def test_who_wants_it_and_why_is_said(by: str, reason: str) -> None:  # SAGA-13, SAGA-17
    with pytest.raises(ValueError, match="say who wants it, and why"):
        Cancel(by, reason)
    with pytest.raises(ValueError, match="say who wants it, and why"):
        Intervene("retry", by, reason)
    with pytest.raises(ValueError, match="'dance' is none of retry, skip, compensate, fail"):
        Intervene("dance", "ann", "why")  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["", " \n", None, 7])
def test_why_a_command_was_not_done_is_said(reason: str) -> None:  # SAGA-3
    for outcome in (Refused, Unavailable, ChildStuck):
        with pytest.raises(ValueError, match=rf"{outcome.__name__}\..* must be a text.*test_def"):
            outcome(reason)
