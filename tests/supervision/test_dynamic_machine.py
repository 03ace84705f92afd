"""The machine of a dynamic supervisor as tables: keys, budgets, parking, its end. No actor runs."""

import pytest

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    IntensityReached,
    KeyRefused,
    NotBackingOff,
    Passivated,
    StartFailed,
    StillRunning,
    TooManyChildren,
)
from supervision.specs.specs import Backoff, DynamicFlags
from supervision.specs.words import Budget, RestartType
from tests.supervision.paper import DynamicBench, spec

CRASH = Crashed(ValueError("boom"))
WAIT = Backoff(1.0, 1.0, jitter=0.0)


def pool(
    restart: RestartType = "permanent",
    *,
    intensity: int = 10,
    budget: Budget = "child",
    max_children: int | None = None,
) -> DynamicBench:
    flags = DynamicFlags(intensity, 5.0, budget, key="key", max_children=max_children)
    return DynamicBench(flags, spec("one", restart, backoff=WAIT))


# SUP-30, SUP-128
@pytest.mark.parametrize(
    ("restart", "exit_", "then"),
    [
        ("permanent", Normal(), "backing_off"),
        ("permanent", CRASH, "backing_off"),
        ("transient", Normal(), "gone"),
        ("transient", Killed(), "backing_off"),
        ("temporary", CRASH, "gone"),
    ],
)
def test_each_ending_is_answered_for_itself(restart: RestartType, exit_: Exit, then: str) -> None:
    bench = pool(restart)
    assert [bench.wanted("a"), bench.wanted("b")] == ["wanted", "wanted"]
    bench.log.clear()
    bench.end("a", exit_)
    assert bench.statuses().get("a", "gone") == then
    assert bench.statuses()["b"] == "running"
    bench.advance(1.0)
    assert bench.log == (["start a"] if then == "backing_off" else [])


def test_a_key_has_one_child_at_most() -> None:
    # SUP-50
    bench = pool()
    bench.wanted("a")
    assert isinstance(bench.start_child("a"), AlreadyStarted)
    assert isinstance(bench.restart_now("a"), StillRunning)
    bench.crash("a")
    assert isinstance(bench.start_child("a"), AlreadyPresent)
    assert bench.restart_now("a") == "ok"
    assert bench.statuses() == {"a": "running"}
    assert isinstance(bench.restart_now("nobody"), NotBackingOff)


def test_a_call_for_a_stopping_key_waits_for_its_end() -> None:
    # SUP-50
    bench = pool()
    bench.wanted("a")
    bench.script("a").on_stop = None
    assert bench.terminate_child("a") is None
    assert bench.start_child("a") is None
    bench.end("a", Shutdown())
    assert bench.statuses() == {"a": "running"}
    assert bench.log == ["start a", "stop a", "start a"]


def test_a_first_start_that_fails_leaves_nothing_and_a_later_one_counts() -> None:
    # SUP-13, SUP-46
    bench = pool()
    bench.script("a").starts.extend(["fail", "fail", "ok", "fail"])
    assert isinstance(bench.start_child("a"), StartFailed)
    assert bench.contexts() == []
    bench.wanted("a")  # nobody asked for it: a report tells what the caller would have been told
    assert bench.contexts() == ["start_error"]
    assert bench.counts == [1, 0, 0, 0]
    bench.wanted("a")
    bench.crash("a")
    bench.advance(1.0)
    assert bench.statuses() == {"a": "backing_off"}
    assert bench.contexts() == ["start_error", "child_terminated", "start_error"]


def test_a_child_that_uses_up_its_budget_goes_and_its_key_cools_down() -> None:
    # SUP-46, SUP-51
    bench = pool(intensity=1)
    bench.wanted("a")
    bench.wanted("b")
    for _ in range(2):
        bench.crash("a")
        bench.advance(1.0)
    assert bench.statuses() == {"b": "running"}
    assert bench.contexts()[-1] == "child_gave_up"
    assert bench.wanted("a") == "KeyRefused"
    assert isinstance(bench.start_child("a"), KeyRefused)
    bench.advance(30.0)
    assert bench.wanted("a") == "wanted"


@pytest.mark.parametrize("budget", ["shared", "escalate"])
def test_other_budgets_end_the_supervisor(budget: Budget) -> None:
    # SUP-46
    bench = pool(intensity=1, budget=budget)
    bench.wanted("a")
    bench.wanted("b")
    bench.crash("a")
    bench.advance(1.0)
    bench.log.clear()
    bench.crash("b" if budget == "shared" else "a")
    assert bench.log == ["stop a" if budget == "shared" else "stop b", "finish"]
    assert isinstance(bench.final, Shutdown)
    assert isinstance(bench.final.info, IntensityReached)


def test_the_limit_of_children_counts_those_that_wait_too() -> None:
    # SUP-51
    bench = pool(max_children=1)
    bench.wanted("a")
    bench.crash("a")
    assert bench.wanted("b") == "TooManyChildren"
    assert isinstance(bench.start_child("b"), TooManyChildren)
    bench.terminate_child("a")
    assert bench.wanted("b") == "wanted"


def test_an_idle_child_is_parked_unless_something_else_wants_its_end() -> None:
    # SUP-52
    bench = pool()
    for key in "abc":
        bench.wanted(key)
        bench.script(key).on_stop = None
    bench.log.clear()
    for key in "abc":
        bench.passivate(key)
    bench.terminate_child("b")
    bench.end("a", Shutdown(Passivated()))
    bench.end("b", Shutdown(Passivated()))
    bench.stop()
    bench.end("c", Shutdown(Passivated()))
    assert bench.log == ["stop a", "stop b", "stop c", "park a", "finish"]


def test_all_stop_at_once_and_one_wake_kills_who_is_late() -> None:
    # SUP-20
    bench = pool()
    for key in "abc":
        bench.wanted(key)
    bench.script("a").on_stop = None
    bench.script("c").on_stop = None
    bench.log.clear()
    bench.stop()
    assert bench.log == ["stop a", "stop b", "stop c"]
    assert len(bench.wakes) == 1
    bench.end("c", Shutdown())
    bench.advance(5.0)
    assert bench.log[3:] == ["kill a", "finish"]
