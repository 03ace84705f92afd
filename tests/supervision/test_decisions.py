"""The static supervisor's decisions as tables: no actor runs here."""

import pytest

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.specs.errors import (
    AlreadyPresent,
    FailedToStart,
    IntensityReached,
    StillRestarting,
)
from supervision.specs.specs import Flags
from supervision.specs.words import RestartType, Strategy
from tests.supervision.table import Bench, spec

CRASH = Crashed(ValueError("boom"))
EXITS: dict[str, Exit] = {
    "normal": Normal(),
    "shutdown": Shutdown(),
    "shutdown info": Shutdown("x"),
    "killed": Killed(),
    "crashed": CRASH,
}


def flags(strategy: Strategy = "one_for_one", intensity: int = 10, period: float = 5.0) -> Flags:
    return Flags(strategy, intensity, period)


def abc(strategy: Strategy = "one_for_one", intensity: int = 10) -> Bench:
    return Bench(flags(strategy, intensity), [spec("a"), spec("b"), spec("c")])


# SUP-30, SUP-125, SUP-126, SUP-127, SUP-128: the whole table
@pytest.mark.parametrize(
    ("restart", "how", "then"),
    [
        *(("permanent", how, "running") for how in EXITS),
        ("transient", "normal", "stopped"),
        ("transient", "shutdown", "stopped"),
        ("transient", "shutdown info", "stopped"),
        ("transient", "killed", "running"),
        ("transient", "crashed", "running"),
        *(("temporary", how, "gone") for how in EXITS),
    ],
)
def test_each_ending_is_answered_as_the_restart_table_says(
    restart: RestartType, how: str, then: str
) -> None:
    bench = Bench(flags(), [spec("a", restart)])
    bench.end("a", EXITS[how])
    assert bench.statuses().get("a", "gone") == then
    if then == "running":
        assert bench.incarnations() == {"a": 2}
    if then == "gone":
        assert bench.counts == [0, 0, 0, 0]
        assert bench.call("start_child", spec("a")) == "up"


def test_children_start_in_order_and_stop_in_reverse() -> None:
    # SUP-10, SUP-20, SUP-101
    bench = Bench(flags(), [spec("a"), spec("b"), spec("c")], begin=False)
    bench._run(bench.machine.begin(0.0))
    assert bench.log == ["start a", "start b", "start c", "ready"]
    bench.log.clear()
    bench.stop()
    assert bench.log == ["stop c", "stop b", "stop a", "finish"]
    assert bench.final == Shutdown()


def test_a_child_failing_at_the_first_start_undoes_the_others() -> None:
    # SUP-12, SUP-107
    bench = Bench(flags(), [spec("a"), spec("b"), spec("c")], begin=False)
    bench.script("b").starts.append("fail")
    bench._run(bench.machine.begin(0.0))
    assert bench.log == ["start a", "start b", "stop a", "finish"]
    assert isinstance(bench.final, Shutdown)
    assert isinstance(bench.final.info, FailedToStart)
    assert bench.final.info.id == "b"
    assert isinstance(bench.final.info.cause, OSError)
    assert bench.contexts() == ["start_error"]


# SUP-31, SUP-133, SUP-134, SUP-136
@pytest.mark.parametrize(
    ("strategy", "log"),
    [
        ("one_for_one", ["start b"]),
        ("one_for_all", ["stop c", "stop a", "start a", "start b", "start c"]),
        ("rest_for_one", ["stop c", "start b", "start c"]),
    ],
)
def test_a_crash_restarts_what_the_strategy_says(strategy: Strategy, log: list[str]) -> None:
    bench = abc(strategy)
    bench.crash("b")
    assert bench.log == log
    assert bench.incarnations()["b"] == 2


def test_one_for_all_gives_up_at_the_third_crash() -> None:
    # SUP-134, SUP-42
    bench = abc("one_for_all", intensity=2)
    bench.crash("b")
    bench.crash("a")
    assert bench.incarnations() == {"a": 3, "b": 3, "c": 3}
    bench.log.clear()
    bench.crash("b")
    assert bench.log == ["stop c", "stop a", "finish"]
    assert bench.final == Shutdown(IntensityReached("b", 2, 5.0))
    assert bench.contexts()[-1] == "shutdown"
    assert bench.reports[-1].reason == "reached_max_restart_intensity"


def test_one_for_all_begins_again_with_the_first_when_a_start_fails() -> None:
    # SUP-32, SUP-135
    bench = Bench(flags("one_for_all"), [spec("a"), spec("b")])
    bench.script("b").starts.append("fail")
    bench.crash("a")
    assert bench.log == ["stop b", "start a", "start b"]
    bench.advance(0.0)
    assert bench.log[3:] == ["stop a", "start a", "start b"]
    # The attempt that failed was no incarnation.
    assert bench.incarnations() == {"a": 3, "b": 2}


def test_rest_for_one_goes_on_from_the_failing_child() -> None:
    # SUP-32, SUP-137
    bench = Bench(flags("rest_for_one"), [spec("a"), spec("b"), spec("c")])
    bench.script("b").starts.extend(["fail", "fail"])
    bench.crash("a")
    bench.advance(0.0)
    assert bench.log == ["stop c", "stop b", "start a", "start b", "start b", "start b", "start c"]
    assert bench.incarnations()["a"] == 2


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_between_two_attempts_a_group_looks_as_under_erlang(strategy: Strategy) -> None:
    # SUP-32, SUP-43, SUP-140: the one that came up again lives on, the ones after it wait
    bench = abc(strategy, intensity=100)
    bench.script("b").starts.append("fail")
    bench.crash("b" if strategy == "rest_for_one" else "a")
    assert bench.statuses()["b"] == "restarting"
    assert bench.counts == [3, 1, 0, 3]
    assert bench.child("a").ref is not None
    assert bench.child("c").ref is None
    assert isinstance(bench.call("start_child", spec("b")), AlreadyPresent)
    assert isinstance(bench.call("restart_child", "b"), StillRestarting)
    assert isinstance(bench.call("delete_child", "b"), StillRestarting)
    assert bench.call("terminate_child", "b") == "ok"
    bench.advance(10.0)
    assert bench.statuses() == {"a": "running", "b": "stopped", "c": "stopped"}


# SUP-129
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_sibling_goes_with_its_group(strategy: Strategy) -> None:
    bench = Bench(flags(strategy), [spec("a"), spec("b", "temporary")])
    bench.end("a", Normal())
    assert bench.log == ["stop b", "start a"]
    assert bench.counts == [1, 1, 0, 1]


def test_a_group_start_also_starts_those_stopped_by_hand_or_ended_clean() -> None:
    # SUP-31
    bench = Bench(flags("one_for_all"), [spec("a"), spec("b"), spec("c", "transient")])
    bench.call("terminate_child", "b")
    bench.end("c", Normal())
    assert bench.statuses() == {"a": "running", "b": "stopped", "c": "stopped"}
    bench.crash("a")
    assert bench.statuses() == {"a": "running", "b": "running", "c": "running"}


# SUP-40, SUP-130, SUP-131
@pytest.mark.parametrize(
    ("intensity", "period", "times", "alive"),
    [
        (1, 5.0, [0.0, 5.0], False),
        (1, 5.0, [0.0, 5.001], True),
        (1, 1.0, [0.0, 2.1, 4.2, 6.3], True),
        (0, 1.0, [0.0], False),
        (3, 10.0, [0.0, 1.0, 2.0], True),
        (3, 10.0, [0.0, 1.0, 2.0, 10.0], False),
        (3, 10.0, [0.0, 1.0, 2.0, 10.5], True),
    ],
)
def test_the_window_of_restarts_includes_its_edge(
    intensity: int, period: float, times: list[float], alive: bool
) -> None:
    bench = Bench(flags(intensity=intensity, period=period), [spec("a")])
    for at in times:
        bench.advance(at - bench.now)
        bench.crash("a")
    assert (bench.final is None) == alive


def test_siblings_stopped_with_the_group_and_hand_work_are_not_counted() -> None:
    # SUP-41
    bench = abc("one_for_all", intensity=1)
    bench.script("c").on_stop = lambda: CRASH
    bench.crash("a")
    bench.call("terminate_child", "b")
    bench.call("restart_child", "b")
    assert bench.final is None
    assert bench.contexts() == ["child_terminated", "shutdown_error"]
    assert bench.machine.window.used(bench.now, 5.0) == 1


def test_a_start_that_fails_for_ever_uses_up_the_budget() -> None:
    # SUP-132
    bench = Bench(flags(intensity=4), [spec("a"), spec("b")])
    bench.script("a").starts.extend(["fail"] * 50)
    bench.crash("a")
    for _ in range(3):
        assert bench.statuses() == {"a": "restarting", "b": "running"}
        token = bench._wakes.pop(0)[1]
        bench._run(bench.machine.due(token, bench.now))
    assert bench.final == Shutdown(IntensityReached("a", 4, 5.0))
    assert bench.log[-2:] == ["stop b", "finish"]
    assert bench.contexts() == ["child_terminated", *["start_error"] * 4, "shutdown"]
