"""The kit for cases: what it accepts, what it refuses, and what it says then."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_never
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import Beside, OutboxMessage, SetTimer
from actors.reducers import (
    Delay,
    Effect,
    Environment,
    Future,
    Next,
    Parallel,
    Publish,
    Sequential,
    Stream,
    command,
    reducer,
)
from actors.testing import (
    ActionNotFound,
    FixedClock,
    FixedIds,
    FixedRandom,
    ReceiveTimeout,
    ReducerTest,
    StepStore,
    WrongOrder,
    effects_count,
    fixed_environment,
    given,
    has_append,
    has_effect,
    has_publish,
    no_effects,
    test_clock,
)
from actors.testing.cases.differing import difference
from actors.testing.cases.fixed import TEST_EPOCH
from actors.testing.cases.telling import Check, take_unfinished
from tests.actors.persistence.accounts import (
    Account,
    Balance,
    Deposit,
    Deposited,
    HowMuch,
    Withdraw,
    Withdrawn,
)
from tests.actors.persistence.test_store_effects import append
from tests.actors.reducers.kit import (
    Break,
    Do,
    Each,
    Note,
    Noted,
    Till,
    Total,
    Wrong,
    note,
    till,
    wrong,
)

ROOT = Path(__file__).parents[3]

# Aggregates


def test_a_case_of_an_aggregate_is_told_in_one_line() -> None:  # TEST-1
    given(Account(), Deposited(5)).when(Withdraw(3)).then(Withdrawn(3))
    given(Account()).when(Deposit(3)).then(Deposited(3)).then_state(Balance(3, 1))
    given(Account(), Deposited(5)).when(Withdraw(9)).then_refused("too_little")
    given(Account(), Deposited(5)).when(HowMuch()).then_reply(5).then()
    given(Account(), Deposited(5)).when(Deposit(1)).then_state(lambda state: state.amount == 6)
    assert take_unfinished() == []


def test_what_is_not_as_expected_is_told_field_by_field() -> None:  # TEST-1
    case = given(Account(), Deposited(5)).when(Withdraw(3))
    with pytest.raises(AssertionError, match=r"^events\[0\]\.amount: expected 4, got 3$"):
        case.then(Withdrawn(4))
    with pytest.raises(AssertionError, match=r"^events\[1\]: expected Deposited.*, got nothing$"):
        case.then(Withdrawn(3), Deposited(1))
    with pytest.raises(AssertionError, match=r"^events\[0\]: expected nothing, got Withdrawn"):
        case.then()
    with pytest.raises(AssertionError, match=r"^events\[0\]: expected Deposited"):
        case.then(Deposited(3))
    with pytest.raises(AssertionError, match="expected a refusal 'too_little', got"):
        case.then_refused("too_little")
    with pytest.raises(AssertionError, match="expected a reply 5, got"):
        case.then_reply(5)
    with pytest.raises(AssertionError, match=r"^state\.amount: expected 9, got 2$"):
        case.then_state(Balance(9, 2))
    with pytest.raises(AssertionError, match="state is not as expected"):
        case.then_state(lambda state: False)
    refused = given(Account()).when(Withdraw(9))
    with pytest.raises(AssertionError, match="it was refused: Refusal"):
        refused.then()
    with pytest.raises(AssertionError, match=r"^code: expected 'other', got 'too_little'$"):
        refused.then_refused("other")


def test_a_difference_names_the_parts() -> None:  # TEST-1
    assert difference(Balance(1, 2), Balance(1, 2), "state") == ""
    assert difference(Balance(1, 2), Balance(3, 4), "state").splitlines() == [
        "state.amount: expected 1, got 3",
        "state.changes: expected 2, got 4",
    ]
    assert difference(1, "1", "x") == "x: expected 1, got '1'"


class Telling(Account):
    """Tells others of what was withdrawn, and has it looked at later."""

    def beside(
        self,
        before: Balance,
        events: Sequence[Deposited | Withdrawn],
        metadata: Mapping[str, str],
    ) -> Beside:
        if not isinstance(events[0], Withdrawn):
            return Beside()
        return Beside((TOLD,), (LOOK,))


TOLD = OutboxMessage(UUID(int=7), "hook", "bank", "k", b"withdrawn", {})
LOOK = SetTimer(UUID(int=8), "account-1", "review", "t", TEST_EPOCH)


def test_what_goes_beside_the_events_is_looked_at_too() -> None:  # TEST-1
    case = given(Telling(), Deposited(5)).when(Withdraw(2))
    case.then_effects((TOLD, LOOK)).then_effects(effects_count(2)).then(Withdrawn(2))
    with pytest.raises(AssertionError, match=r"effects\[1\]: expected nothing, got SetTimer"):
        case.then_effects((TOLD,))
    for told in (Deposit(1), Withdraw(9), HowMuch()):
        given(Telling()).when(told).then_effects(no_effects)
    assert take_unfinished() == []


def test_a_function_without_its_mark_is_no_reducer() -> None:  # TEST-2, TEST-3
    with pytest.raises(TypeError, match=r"ReducerTest.*@reducer \(.*test_cases\.py:\d+\)"):
        ReducerTest(till.__wrapped__)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"StepStore.*@reducer \(.*test_cases\.py:\d+\)"):
        StepStore(till.__wrapped__, fixed_environment(), Till())  # type: ignore[arg-type]
    for kind in ("Delay", Till, Delay(1, "x")):
        with pytest.raises(TypeError, match="has_effect takes a class of effects"):
            has_effect(kind)  # type: ignore[arg-type]


def test_a_case_that_expects_nothing_is_found_with_its_place() -> None:  # TEST-1
    given(Account()).when(Deposit(3))
    [found] = take_unfinished()
    assert "test_cases.py" in found
    assert found.endswith("given(...).when(Deposit(amount=3)) has no then")
    assert take_unfinished() == []


CONFTEST = 'pytest_plugins = ["actors.unfinished"]\n'
HEAD = """\
from actors.testing import ReducerTest, given
from tests.actors.persistence.accounts import Account, Deposit, Deposited
from tests.actors.reducers.kit import Till, till
"""


@pytest.mark.slow
def test_the_plugin_fails_what_expects_nothing(tmp_path: Path) -> None:  # TEST-1
    status, text = _run(
        tmp_path,
        """\
def test_open() -> None:
    given(Account()).when(Deposit(3))

def test_never_run() -> None:
    ReducerTest(till).given_state(Till())

def test_told() -> None:
    given(Account()).when(Deposit(3)).then(Deposited(3))
""",
        CONFTEST,
    )
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "2 failed, 1 passed" in text
    assert "has no then" in text
    assert "ReducerTest(till) was never run" in text


@pytest.mark.slow
def test_a_case_without_then_in_a_module_fails_at_collection(tmp_path: Path) -> None:  # TEST-1
    status, text = _run(tmp_path, "CASE = given(Account()).when(Deposit(3))\ndef test_a(): pass\n")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "test_cases_within.py:4: given(...).when(Deposit(amount=3)) has no then" in text


def _run(folder: Path, tests: str, conftest: str = "") -> tuple[int, str]:
    """Run pytest in a process of its own, which finds the plugin as that of what is installed."""
    (folder / "conftest.py").write_text(conftest)
    installed = folder / "greenroom-0.dist-info"
    installed.mkdir()
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {module}" for name, module in points["pytest11"].items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: greenroom\nVersion: 0\n")
    (folder / "test_cases_within.py").write_text(HEAD + tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


# Reducers


def test_a_case_of_a_reducer_is_run() -> None:  # TEST-2
    after = (
        ReducerTest(till)
        .with_env(fixed_environment())
        .given_state(Till(("a",)))
        .when(Noted("b", (Delay(1, Noted("c")),)))
        .then_state(Till(("a", "b")))
        .then_state(lambda state: len(state.done) == 2)
        .then_effects((Delay(1, Noted("c")),))
        .then_effects(effects_count(1))
        .run()
    )
    assert after == Next(Till(("a", "b")), Delay(1, Noted("c")))
    ReducerTest(till).given_state(Till()).when(Total(), Noted("a")).then_state(Till(("a",))).run()


def _case(*effects: Effect) -> ReducerTest[Till, object]:
    return ReducerTest(till).given_state(Till()).when(Do(effects))  # type: ignore[return-value]


def test_effects_are_looked_for_in_others_too() -> None:  # TEST-2
    _case().then_effects(no_effects).run()
    inside = Sequential(note("a"), Parallel(append(0), Publish("prices", "x", 3)))
    found = _case(inside, Delay(1, Noted("b")))
    for look in (
        effects_count(2),
        has_effect(Sequential),
        has_effect(Future),
        has_effect(Delay),
        has_append("account-1"),
        has_publish("prices"),
    ):
        found.then_effects(look)
    found.run()
    wrong_looks: list[tuple[Check[Sequence[Effect]] | tuple[Effect, ...], str]] = [
        (no_effects, r"effects\[0\]: expected nothing, got Sequential"),
        (effects_count(3), "expected 3 effects, got 2"),
        (has_effect(Stream), "expected Stream, got"),
        (has_append("account-2"), "expected Append to 'account-2'"),
        (has_publish("orders"), "expected Publish on 'orders'"),
        ((Delay(2, Noted("b")),), r"effects\[1\]: expected nothing"),
    ]
    for wrong_look, why in wrong_looks:
        with pytest.raises(AssertionError, match=why):
            _case(inside, Delay(1, Noted("b"))).then_effects(wrong_look).run()


def test_a_case_that_is_not_whole_is_refused() -> None:  # TEST-2
    for case in (
        ReducerTest(till),
        ReducerTest(till).given_state(Till()),
        ReducerTest(till).given_state(Till()).when(Total()),
        ReducerTest(till).when(Total()).then_effects(no_effects),
    ):
        with pytest.raises(ValueError, match="a case needs"):
            case.run()
    assert take_unfinished() == []
    ReducerTest(till).given_state(Till()).when(Total()).then_state(Till())
    [found] = take_unfinished()
    assert "ReducerTest(till) was never run" in found
    assert "test_cases.py" in found


def test_a_thousand_cases_take_less_than_five_seconds() -> None:  # TEST-11
    began = time.process_time()
    for number in range(1000):
        (
            ReducerTest(till)
            .given_state(Till())
            .when(Noted(str(number), (note("b"),)))
            .then_state(Till((str(number),)))
            .then_effects(has_effect(Future))
            .run()
        )
    assert time.process_time() - began < 5


# Step by step


def store_of(state: Till | None = None) -> StepStore[Till, object]:
    return StepStore(till, fixed_environment(), state or Till())  # type: ignore[arg-type]


async def test_what_effects_produce_waits_until_it_is_received(
    autojump_clock: MockClock,
) -> None:  # TEST-3
    async with store_of() as store:
        handle = await store.send(Do((note("a"),)))
        assert store.state() == Till()
        assert store.peek() == Noted("a")
        assert handle.pending == 1
        await store.receive(Noted("a"))
        assert store.state() == Till(("a",))
        assert (store.peek(), handle.completed) == (None, 1)
        store.assert_empty()
        # What comes of what was received is queued too.
        await store.send(Noted("b", (Future(Break(), failed=wrong),)))
        await store.receive(Wrong)
        await store.send(Do((Sequential(note("c"), note("d")),)))
        await store.receive(lambda one: one == Noted("c"), Noted("d"))
        assert store.state().done == ("a", "b", "wrong: OSError", "c", "d")


@command
class Bid:
    by: str


@reducer
def first_wins(state: str, action: Do | Bid, env: Environment) -> Next[str]:
    match action:
        case Do(effects):
            return Next(state, *effects)
        case Bid(by):
            return Next(state or by)
    assert_never(action)


@dataclass(frozen=True)
class Fetch:
    by: str

    async def run(self, env: Environment) -> Bid:
        await trio.lowlevel.checkpoint()
        return Bid(self.by)


@pytest.mark.parametrize("order", [("ada", "bo"), ("bo", "ada")])
async def test_the_test_chooses_the_order(
    autojump_clock: MockClock, order: tuple[str, str]
) -> None:  # TEST-3
    async with StepStore(first_wins, fixed_environment(), "") as store:
        await store.send(Do((Future(Fetch("ada")), Future(Fetch("bo")))))
        await store.receive_any_order(*(Bid(one) for one in order))
        assert store.state() == order[0]


async def test_what_is_not_there_or_not_in_front_is_told(
    autojump_clock: MockClock,
) -> None:  # TEST-3
    async with store_of() as store:
        with pytest.raises(ActionNotFound, match="no Noted in the queue, which holds"):
            await store.receive(Noted)
        await store.send(Do((Sequential(note("a"), note("b")),)))
        with pytest.raises(ActionNotFound) as missing:
            await store.receive(Noted("x"))
        assert (missing.value.expected, missing.value.queue) == (Noted("x"), (Noted("a"),))
        handle = await store.send(Do((Future(Break(), failed=wrong),)))
        with pytest.raises(WrongOrder, match=r"number 0 was to be Wrong.*came first") as other:
            await store.receive(Wrong)
        assert (other.value.index, other.value.got) == (0, Noted("a"))
        await store.receive_after(Noted("a"), handle)
        handle = await store.send(Do((note("c"), Delay(3, Total()))))
        with pytest.raises(WrongOrder) as other:
            await store.receive(Wrong("OSError"), Noted("c"), Noted("b"))
        assert other.value.index == 1
        await store.receive(Noted("b"), Noted("c"))
        await store.receive_after(Total, handle)


async def test_what_takes_time_is_waited_for_at_most_so_long(
    autojump_clock: MockClock,
) -> None:  # TEST-3
    async with store_of() as store:
        began = trio.current_time()
        handle = await store.send(Do((Delay(29, Noted("a")),)))
        assert trio.current_time() == began
        await store.receive_after(Noted("a"), handle)
        assert trio.current_time() - began == 29
        handle = await store.send(Do((Delay(31, Noted("b"), key="slow"),)))
        with pytest.raises(ReceiveTimeout, match=r"no Noted.* came in 30 s; .*Delay 'slow'"):
            await store.receive_after(Noted("b"), handle)
        await store.receive_after(Noted("b"), handle)
        with pytest.raises(ReceiveTimeout, match="came in 0 s; still running: no effect"):
            await store.receive_after(Noted("c"), handle)
        # Of whatever runs, when nobody says of which.
        await store.send(Do((Delay(9, Noted("d")),)))
        await store.receive_after(Noted("d"))
        with pytest.raises(ReceiveTimeout, match="came in 0 s; still running: no effect"):
            await store.receive_after(Noted("e"))


async def test_what_is_left_over_fails_by_name(autojump_clock: MockClock) -> None:  # TEST-3
    for effects, why in (
        ((note("a"),), r"nobody received Noted\(text='a'"),
        ((Delay(5, Noted("b"), key="k"),), "still running: Delay 'k'"),
        ((Stream(Each(("c",), is_endless=True)),), "nobody received"),
        ((Future(Break()),), "has failed: OSError"),
    ):
        with pytest.raises(AssertionError, match=why):
            await _left(effects, why)


async def _left(effects: tuple[Effect, ...], why: str) -> None:
    async with store_of() as store:
        await store.send(Do(effects))
        with pytest.raises(AssertionError, match=why):
            store.assert_empty()


async def test_an_error_of_the_test_itself_is_the_one_that_is_seen(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(ZeroDivisionError):
        await _wrong()


async def _wrong() -> None:
    async with store_of() as store:
        await store.send(Do((note("a"), note("b", 100))))
        raise ZeroDivisionError


async def test_a_stream_gives_its_next_when_the_last_was_received(
    autojump_clock: MockClock,
) -> None:  # TEST-3
    async with store_of() as store:
        await store.send(Do((Stream(Each(("a", "b"))),)))
        with pytest.raises(ActionNotFound):
            await store.receive_any_order(Noted("b"))
        await store.receive(Noted("a"), Noted("b"))


# Clock, ids and chance


def test_a_fixed_clock_stands_until_it_is_moved() -> None:  # TEST-4
    clock = test_clock()
    assert clock.now() == datetime(2025, 1, 1, tzinfo=UTC)
    clock.advance(90)
    assert clock.now() == datetime(2025, 1, 1, 0, 1, 30, tzinfo=UTC)
    clock.advance(timedelta(days=-2))
    assert clock.now() == datetime(2024, 12, 30, 0, 1, 30, tzinfo=UTC)
    clock.set(datetime(2030, 5, 1, tzinfo=UTC))
    assert clock.now() == datetime(2030, 5, 1, tzinfo=UTC)
    assert repr(clock) == "<FixedClock 2030-05-01T00:00:00+00:00>"
    for at in (datetime(2025, 1, 1),):  # noqa: DTZ001 - that is the point
        with pytest.raises(ValueError, match="has no zone"):
            FixedClock(at)
        with pytest.raises(ValueError, match="has no zone"):
            clock.set(at)


async def test_to_advance_it_drives_delays_and_time_outs(mock_clock: MockClock) -> None:  # TEST-4
    clock = FixedClock()
    env = Environment(clock, FixedIds())
    async with StepStore(till, env, Till()) as store:
        slow = Future(Note("never", 60), timeout=40, failed=wrong)
        await store.send(Do((Delay(30, Noted("a")), slow)))
        clock.advance(29)
        await trio.testing.wait_all_tasks_blocked()
        assert store.peek() is None
        clock.advance(1)
        await trio.testing.wait_all_tasks_blocked()
        await store.receive(Noted("a"))
        clock.advance(timedelta(seconds=10))
        await trio.testing.wait_all_tasks_blocked()
        await store.receive(Wrong("EffectTimeout"))
    assert trio.current_time() == 40
    assert clock.now() == datetime(2025, 1, 1, 0, 0, 40, tzinfo=UTC)
    # Set back, the time of day is another one; what has passed has passed.
    clock.advance(-3600)
    assert clock.now() == datetime(2024, 12, 31, 23, 0, 40, tzinfo=UTC)
    assert trio.current_time() == 40


def test_ids_and_chance_are_fixed() -> None:  # TEST-4
    first, second = FixedIds(), FixedIds()
    ids = [first.new_id() for _ in range(100)]
    assert ids == [second.new_id() for _ in range(100)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 100
    assert {one.version for one in ids} == {7}
    chance = FixedRandom(0.25, 0.75)
    assert [chance.random() for _ in range(3)] == [0.25, 0.75, 0.25]
    for numbers in ((), (1.0,), (-0.1,)):
        with pytest.raises(ValueError, match="at least one"):
            FixedRandom(*numbers)
    # Without one of its own an environment draws from its ids.
    drawn = [Environment(test_clock(), FixedIds()).random.random() for _ in range(2)]
    assert drawn[0] == drawn[1]
    draws = Environment(test_clock(), FixedIds()).random
    some = [draws.random() for _ in range(200)]
    assert all(0 <= one < 1 for one in some)
    assert len(set(some)) == 200
    assert 0.4 < sum(some) / 200 < 0.6
