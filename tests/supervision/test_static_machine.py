"""The machine of a static supervisor as tables: events, groups, calls, backoff. No actor runs."""

import pytest

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    FailedToStart,
    IntensityReached,
    NotFound,
    StartFailed,
    StillRestarting,
    StillRunning,
)
from supervision.specs.specs import Backoff, ChildSpec, Flags
from supervision.specs.words import RestartType, Strategy
from tests.supervision.paper import Bench, spec

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


def test_who_waits_for_a_group_is_started_in_whatever_order_a_new_plan_lists() -> None:
    # SUP-43, SUP-70: c failed while a waited, and stood behind it then
    strategy = flags("rest_for_one")
    bench = Bench(strategy, [spec("a", backoff=Backoff(1.0, jitter=0.0)), spec("b")])
    bench.crash("a")
    assert bench.call("start_child", spec("c")) == "up"
    bench.crash("c")
    bench.reconfigure(strategy, [spec("c"), spec("a"), spec("b")])
    bench.advance(1.0)
    assert bench.statuses() == {"c": "running", "a": "running", "b": "running"}


def test_what_a_group_had_left_is_started_by_the_next_in_whatever_order() -> None:
    # SUP-43, SUP-70: b failed while d, which waits for it, stood behind; now it stands before
    strategy = flags("rest_for_one")
    bench = Bench(strategy, [spec(one) for one in "abcd"])
    bench.script("b").starts.append("hang")
    bench.crash("a")
    assert bench.statuses()["d"] == "restarting"
    bench.reconfigure(strategy, [spec("d"), spec("a"), spec("b"), spec("c")])
    bench.crash("a")
    bench.started("b")
    bench.advance(1.0)
    assert set(bench.statuses().values()) == {"running"}


def test_who_was_ended_and_started_by_hand_while_a_group_stops_is_of_the_group_again() -> None:
    # SUP-43
    backoff = Backoff(1.0, jitter=0.0)
    bench = Bench(flags("one_for_all"), [spec("a", backoff=backoff), spec("b")])
    bench.script("b").on_stop = None
    bench.crash("a")
    assert bench.statuses() == {"a": "backing_off", "b": "stopping"}
    assert bench.call("terminate_child", "a") == "ok"
    assert bench.call("restart_child", "a") == "up"
    bench.release("b")
    bench.advance(1.0)
    assert bench.statuses() == {"a": "running", "b": "running"}


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


def test_administration_in_a_restart_loop() -> None:
    # SUP-43, SUP-140
    bench = Bench(flags(intensity=100), [spec("a")])
    bench.script("a").starts.append("fail")
    bench.crash("a")
    assert isinstance(bench.call("start_child", spec("a")), AlreadyPresent)
    assert isinstance(bench.call("restart_child", "a"), StillRestarting)
    assert isinstance(bench.call("delete_child", "a"), StillRestarting)
    assert bench.statuses() == {"a": "restarting"}
    assert bench.counts == [1, 0, 0, 1]
    assert bench.call("terminate_child", "a") == "ok"
    bench.advance(10.0)
    assert bench.statuses() == {"a": "stopped"}
    assert bench.call("restart_child", "a") == "up"


def test_stopping_the_supervisor_ends_a_restart_loop() -> None:
    # SUP-43, SUP-140
    bench = Bench(flags(intensity=100), [spec("a", backoff=Backoff())])
    bench.crash("a")
    bench.stop()
    assert bench.final == Shutdown()
    bench.advance(100.0)
    assert bench.log == ["finish"]


def test_a_backoff_that_runs_out_while_the_supervisor_ends_starts_nothing() -> None:
    # SUP-20, SUP-43: as under Erlang, which serves nobody while it stops its children
    bench = Bench(flags(), [spec("a", backoff=Backoff(1.0, jitter=0.0)), spec("b")])
    bench.script("b").on_stop = None
    bench.crash("a")
    bench.stop()
    bench.advance(2.0)
    assert bench.log == ["stop b"]
    bench.release("b")
    assert bench.log == ["stop b", "finish"]
    assert bench.final == Shutdown()


def test_administration_of_a_running_and_a_stopped_child() -> None:
    # SUP-117, SUP-118, SUP-119
    bench = Bench(flags(), [spec("a")])
    assert isinstance(bench.call("start_child", spec("a")), AlreadyStarted)
    assert isinstance(bench.call("restart_child", "a"), StillRunning)
    assert isinstance(bench.call("delete_child", "a"), StillRunning)
    assert bench.call("terminate_child", "a") == "ok"
    assert bench.counts == [1, 0, 0, 1]
    assert bench.child("a").ref is None
    assert bench.call("terminate_child", "a") == "ok"
    assert isinstance(bench.call("start_child", spec("a")), AlreadyPresent)
    assert bench.call("restart_child", "a") == "up"
    bench.call("terminate_child", "a")
    assert bench.call("delete_child", "a") == "ok"
    for call in ("terminate_child", "restart_child", "delete_child"):
        assert isinstance(bench.call(call, "a"), NotFound)
    assert bench.call("start_child", spec("a")) == "up"


def test_a_failing_start_child_leaves_nothing_and_a_failing_restart_the_spec() -> None:
    # SUP-13, SUP-108
    bench = Bench(flags(), [])
    bench.script("a").starts.append("fail")
    failed = bench.call("start_child", spec("a"))
    assert isinstance(failed, StartFailed)
    assert isinstance(failed.spec, ChildSpec)
    assert bench.counts == [0, 0, 0, 0]
    bench.call("start_child", spec("a"))
    bench.call("terminate_child", "a")
    bench.script("a").starts.append("fail")
    assert isinstance(bench.call("restart_child", "a"), StartFailed)
    assert bench.statuses() == {"a": "stopped"}


@pytest.mark.parametrize(
    ("restart", "counts"),
    [("permanent", [1, 0, 0, 1]), ("transient", [1, 0, 0, 1]), ("temporary", [0, 0, 0, 0])],
)
def test_ignoring_is_no_failure(restart: RestartType, counts: list[int]) -> None:
    # SUP-11, SUP-103, SUP-104
    bench = Bench(flags(), [])
    bench.script("a").starts.append("ignore")
    assert bench.call("start_child", spec("a", restart)) == "ignored"
    assert bench.counts == counts


def test_ignoring_in_a_group_start_lets_the_others_start() -> None:
    # SUP-11
    bench = abc("one_for_all")
    bench.script("b").starts.append("ignore")
    bench.crash("a")
    assert bench.statuses() == {"a": "running", "b": "stopped", "c": "running"}


def test_a_call_for_a_stopping_child_waits_for_its_end() -> None:
    # docs/explain/supervision.md, "Calls"
    bench = Bench(flags(), [spec("a")])
    bench.script("a").on_stop = None
    assert bench.call("terminate_child", "a") is None
    assert bench.call("restart_child", "a") is None
    assert bench.statuses() == {"a": "stopping"}
    bench.end("a", Shutdown())
    assert bench.statuses() == {"a": "running"}


def test_backoff_doubles_up_to_its_limit_and_starts_anew_after_quiet() -> None:
    # SUP-44, SUP-192
    backoff = Backoff(0.1, 30.0, jitter=0.0)
    bench = Bench(flags(intensity=100), [spec("a", backoff=backoff)])
    waits = []
    for _ in range(12):
        bench.crash("a")
        assert bench.statuses() == {"a": "backing_off"}
        waits.append((bench.slot("a").next_at or 0.0) - bench.now)
        bench.advance(waits[-1])
        assert bench.statuses() == {"a": "running"}
    expected = [min(30.0, 0.1 * 2.0**n) for n in range(12)]
    assert waits == pytest.approx(expected)
    bench.advance(60.0)
    bench.crash("a")
    assert (bench.slot("a").next_at or 0.0) - bench.now == pytest.approx(0.1)


def test_backoff_of_a_group_is_the_failing_childs() -> None:
    # SUP-44: the others are down while it waits
    bench = Bench(
        flags("one_for_all"), [spec("a"), spec("b", backoff=Backoff(1.0, jitter=0.0)), spec("c")]
    )
    bench.crash("b")
    assert bench.log == ["stop c", "stop a"]
    assert bench.statuses() == {"a": "restarting", "b": "backing_off", "c": "restarting"}
    bench.advance(1.0)
    assert bench.log[2:] == ["start a", "start b", "start c"]


def test_restart_now_ends_the_wait() -> None:
    # SUP-44
    bench = Bench(flags(), [spec("a", backoff=Backoff(9.0))])
    assert isinstance(bench.call("restart_now", "a"), StillRunning)
    bench.crash("a")
    assert bench.call("restart_now", "a") == "ok"
    assert bench.incarnations() == {"a": 2}
    bench.advance(20.0)
    assert bench.incarnations() == {"a": 2}


def test_give_up_after_ends_what_the_intensity_never_would() -> None:
    # SUP-45
    backoff = Backoff(10.0, jitter=0.0, give_up_after=3)
    bench = Bench(flags(intensity=1), [spec("a", backoff=backoff)])
    for _ in range(3):
        assert bench.final is None
        bench.crash("a")
        bench.advance(30.0)
    assert isinstance(bench.final, Shutdown)
    assert isinstance(bench.final.info, IntensityReached)


# SUP-47, SUP-194, SUP-181
@pytest.mark.parametrize(
    ("error", "then"),
    [
        (MemoryError(), "gave up"),
        (ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [MemoryError()])]), "gave up"),
        (ValueError(), "stopped"),
        (ExceptionGroup("g", [OSError(), ValueError()]), "stopped"),
        (KeyError(), "stopped"),
        (OSError(), "running"),
        (ExceptionGroup("g", [OSError(), FileNotFoundError()]), "running"),
    ],
)
@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_errors_are_judged_by_leaf(error: Exception, then: str, restart: RestartType) -> None:
    child = ChildSpec(
        "a",
        dict,
        restart=restart,
        restart_on=OSError,
        stop_on=ValueError,
        escalate_on=MemoryError,
    )
    bench = Bench(flags(), [child])
    bench.crash("a", error)
    if then == "gave up":
        assert isinstance(bench.final, Shutdown)
        assert isinstance(bench.final.info, IntensityReached)
    else:
        assert bench.final is None
        assert bench.statuses() == {"a": then}
