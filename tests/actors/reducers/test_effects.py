"""Effects as values: equality, what is refused when they are made, and what mapping keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors.persistence import EventTypes
from actors.reducers import (
    Cancel,
    Delay,
    Dispatch,
    Effect,
    Environment,
    Future,
    Nothing,
    Parallel,
    Publish,
    Reply,
    Sequential,
    Stream,
    effect,
    par,
    seq,
    start_reducer,
)
from actors.runtime import open_actors
from actors.testing.cases.fixed import fixed_environment
from tests.actors.reducers.kit import (
    Break,
    Do,
    Each,
    Note,
    Noted,
    Till,
    TillActor,
    note,
    same,
    shouted,
    till,
    twice,
    wrong,
)


def _closure() -> Callable[[object], object]:
    found: list[object] = []

    def keep(action: object) -> object:
        found.append(action)
        return action

    return keep


@dataclass
class Loose:
    async def run(self, env: Environment) -> None:
        """Can be changed."""


@dataclass(frozen=True)
class Plain:
    def run(self, env: Environment) -> None:
        """Is no coroutine function."""


def test_effects_that_do_the_same_are_equal() -> None:
    assert note("a") == note("a")
    assert note("a") != note("b")
    assert hash(note("a")) == hash(note("a"))
    assert Parallel(note("a"), Delay(1, "b")) == Parallel(note("a"), Delay(1, "b"))
    assert Parallel(note("a")) != Sequential(note("a"))  # type: ignore[comparison-overlap]
    assert Future(Break(), failed=wrong) == Future(Break(), failed=wrong)
    assert note("a").map(shouted) == note("a").map(shouted)
    assert note("a").map(shouted) != note("a")
    assert repr(par(note("a"), Nothing(), Delay(1, "b"))).startswith("Parallel(Future(op=Note(")


def test_a_lambda_and_a_closure_are_refused_with_their_place() -> None:
    here = r"test_effects\.py:\d+"
    with pytest.raises(TypeError, match=rf"Future\.failed is .*<lambda>.*{here}"):
        Future(Break(), failed=lambda error: None)
    with pytest.raises(TypeError, match=rf"map is .*keep.*{here}"):
        note("a").map(_closure())
    with pytest.raises(TypeError, match=rf"Stream\.failed is .*{here}"):
        Stream(Each(()), failed=_closure())
    with pytest.raises(TypeError, match=rf"map is .*bound method.*{here}"):
        Delay(1, "a").map(Loose().run)
    # A class makes an action as well.
    assert Delay(1, "a").map(Noted) == Delay(1, Noted("a"))


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, 1e300, "1", None, True])
def test_a_delay_of_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"Delay\.seconds is .*must be seconds >= 0.*test_effects"):
        Delay(seconds, "a")
    with pytest.raises(ValueError, match=r"Future\.timeout is "):
        Future(Note("a"), timeout=seconds)


def test_an_operation_that_cannot_be_run_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Loose, which is no frozen dataclass .*test_effects"):
        Future(Loose())
    with pytest.raises(TypeError, match=r"Plain\.run must be `async def run"):
        Future(Plain())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Each\.run must be `async def run"):
        Future(Each(()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Note\.run must be `async def` with `yield`"):
        Stream(Note("a"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no frozen dataclass"):
        Future(Note)  # type: ignore[arg-type]


def test_keys_must_be_hashable_and_cancel_needs_one() -> None:
    with pytest.raises(TypeError, match=r"Delay\.key is \[\], which has no hash"):
        Delay(1, "a", key=[])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Cancel needs a key"):
        Cancel(None)
    makes: tuple[Callable[[], Effect], ...] = (
        lambda: Cancel(""),
        lambda: Delay(1, "a", key=""),
        lambda: Future(Break(), key=""),
        lambda: Stream(Each(()), key=""),
    )
    for make in makes:
        with pytest.raises(ValueError, match=r"\.key is empty \(.*test_effects\.py:\d+\)"):
            make()


def test_a_delay_has_an_action() -> None:
    wrongs: tuple[object, ...] = (Noted, Nothing())
    for wrong_one in wrongs:
        with pytest.raises(TypeError, match=r"which is no action \(.*test_effects\.py:\d+\)"):
            Delay(1, wrong_one)
    with pytest.raises(TypeError, match=r"Delay\.durable is 'yes'.*test_effects"):
        Delay(1, "a", durable="yes")  # type: ignore[arg-type]


async def late(action: object) -> object:
    return action


def one_by_one(action: object) -> Iterator[object]:
    yield action


def test_a_callback_makes_its_action_at_once() -> None:
    for f in (late, one_by_one):
        with pytest.raises(TypeError, match=rf"{f.__name__} \(.*test_effects\.py:\d+\), a corout"):
            Delay(1, "a").map(f)
        with pytest.raises(TypeError, match=r"Future\.failed is "):
            Future(Break(), failed=f)


def test_what_is_no_effect_is_refused() -> None:
    for make in (Parallel, Sequential, par, seq):
        with pytest.raises(TypeError, match=r"takes effects, not 'send'.*test_effects"):
            make("send")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes no Reply"):
        Parallel(Reply(1))
    with pytest.raises(ValueError, match="Parallel takes 256 effects, not 257"):
        Parallel(*[Nothing()] * 257)
    assert len(Parallel(*[Nothing()] * 256).effects) == 256


def test_a_dispatch_that_nobody_can_answer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Dispatch\.to is no ref but 'stock'"):
        Dispatch("stock", Noted("a"))  # type: ignore[arg-type]


async def test_a_dispatch_with_ok_takes_an_ask_only(autojump_clock: MockClock) -> None:
    async with open_actors() as system:
        ref = await start_reducer(system, TillActor, fixed_environment())
        with pytest.raises(TypeError, match="has ok, but Noted is no Ask"):
            Dispatch(ref, Noted("a"), ok=Noted)


def test_a_stored_event_is_not_published_beside_the_outbox() -> None:  # CORE-11
    types = EventTypes()

    @types.event()
    @dataclass(frozen=True)
    class Paid:
        order: str

    with pytest.raises(TypeError, match=r"Paid is a stored event; it leaves through the outbox"):
        Publish("orders", "1", Paid("1"))
    with pytest.raises(TypeError, match=r"Paid is a stored event; it leaves through the outbox"):
        Publish("orders", "1", Paid)
    with pytest.raises(ValueError, match="needs a topic and a key"):
        Publish("orders", "", "a")
    with pytest.raises(ValueError, match=r"needs a topic and a key, texts \(.*test_effects"):
        Publish(5, "1", "a")  # type: ignore[arg-type]
    assert Publish("orders", "1", "a").key == "1"


def test_an_effect_of_ones_own_is_checked_when_its_class_is_made() -> None:
    class Bare:
        pass

    with pytest.raises(TypeError, match="Bare must derive from Effect"):
        effect(Bare)

    class Wrong(Effect):
        def run(self, env: Environment) -> None:
            """Is not async."""

    with pytest.raises(TypeError, match=r"Wrong\.run must be `async def`"):
        effect(Wrong)


# The laws of mapping

_leaves = st.one_of(
    st.builds(note, st.sampled_from("abc"), st.sampled_from([0.0, 1.0])),
    st.builds(lambda text: Delay(1, Noted(text)), st.sampled_from("def")),
    st.builds(lambda texts: Stream(Each(tuple(texts))), st.lists(st.sampled_from("ghi"))),
    st.builds(lambda text: Future(Break(text), failed=wrong), st.sampled_from("jk")),
    st.just(Nothing()),
)
_effects = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: Parallel(*some)),
        st.lists(inner, max_size=3).map(lambda some: Sequential(*some)),
    ),
    max_leaves=6,
)


def shouted_twice(action: object) -> object:
    return twice(shouted(action))


def _behaves(what: Effect) -> list[str]:
    """What a till has done in the end, and when: ties within one moment in any order."""

    async def main() -> list[str]:
        async with open_actors() as system:
            ref = await start_reducer(system, TillActor, fixed_environment())
            async with ref.subscribe(capacity=100) as applied:
                handle = await ref.run(Do((what,)), track="cascade")
                assert await handle.wait()
                await ref.stop()
                seen = [repr(getattr(one, "action", one)) async for one in applied]
        return sorted(one for one in seen if not one.startswith("Do("))

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=60)
@given(_effects)
def test_to_map_with_the_identity_changes_nothing(what: Effect) -> None:  # CORE-12
    assert _behaves(what.map(same)) == _behaves(what)


@settings(max_examples=60)
@given(_effects)
def test_to_map_twice_is_to_map_with_both(what: Effect) -> None:  # CORE-12
    both = _behaves(what.map(shouted_twice))
    assert _behaves(what.map(shouted).map(twice)) == both


def test_nothing_is_the_unit() -> None:  # CORE-12
    assert par() == seq() == Nothing()
    assert par(Nothing(), note("a")) == note("a") == seq(note("a"), Nothing())
    assert seq(note("a"), seq(note("b"), Nothing())) == Sequential(note("a"), note("b"))
    assert par(par(note("a"), note("b")), seq()) == Parallel(note("a"), note("b"))
    assert seq(par(note("a"), note("b")), note("c")) == Sequential(
        Parallel(note("a"), note("b")), note("c")
    )
    assert par().map(shouted) == Nothing()


@given(_effects, _effects)
def test_units_leave_no_trace_in_what_is_built(a: Effect, b: Effect) -> None:  # CORE-12
    assert par(a, Nothing(), b) == par(a, b)
    assert seq(Nothing(), a, b) == seq(a, b)


def test_what_the_reducer_returns_can_be_compared() -> None:
    after = till(before := Till(), Do((Delay(1, Noted("a")),)), fixed_environment())
    assert after.state is before
    assert after.effects == (Delay(1, Noted("a")),)
