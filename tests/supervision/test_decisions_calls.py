"""Calls, backoff and error policies of the decisions as tables."""

import pytest

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    IntensityReached,
    NotFound,
    StartFailed,
    StillRestarting,
    StillRunning,
)
from supervision.specs.specs import Backoff, ChildSpec, Flags
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
