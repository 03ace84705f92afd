"""The error a person gets names the leaf that failed, however many supervisors stand above it."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, cast

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    AnyActor,
    Ref,
    Shutdown,
    StartError,
    StopActor,
    message,
    open_actors,
)
from supervision import (
    Backoff,
    ChildSpec,
    FailedToStart,
    Flags,
    GaveUp,
    IntensityReached,
    Plan,
    StartFailed,
    Supervising,
    Supervisor,
    child,
    open_system,
)
from tests.supervision.puppets import failure_of, settle


@message
class Go:
    error: Exception


class Task(Actor[Go]):
    """With a task of its own."""

    fails: ClassVar[Exception | None] = None

    async def on_start(self) -> None:
        if self.fails is not None:
            raise self.fails

    async def on_go(self, message: Go) -> None:
        raise message.error


class Dispatched(Actor[Go]):
    """Without one."""

    fails: ClassVar[Exception | None] = None

    def on_start(self) -> None:
        if self.fails is not None:
            raise self.fails

    def on_go(self, message: Go) -> None:
        raise message.error


class Leafless(Supervisor):
    """A supervisor whose one child, `leaf` or `mid`, is handed in."""

    def __init__(self, child_id: str, start: Callable[[], AnyActor], flags: Flags) -> None:
        self._spec, self._flags = ChildSpec(child_id, start), flags

    def plan(self) -> Plan:
        return Plan(self._flags, [self._spec])


ONE = Flags(intensity=1, period=5.0)
NO_DISK = OSError("cannot open /etc/thing")


@pytest.fixture(params=[Task, Dispatched], ids=["async", "def"])
def leaf(request: pytest.FixtureRequest) -> type[Task | Dispatched]:
    kind: type[Task | Dispatched] = request.param
    return kind


@pytest.fixture
def bad_leaf(leaf: type[Task | Dispatched]) -> type[Task | Dispatched]:
    class Bad(leaf):  # type: ignore[misc, valid-type]  # both kinds in turn
        fails = NO_DISK.with_traceback(None)

    return Bad


def mid_of(leaf: type[Task | Dispatched]) -> Callable[[], Leafless]:
    return partial(Leafless, "leaf", leaf, ONE)


async def run_top(leaf: type[Task | Dispatched]) -> None:
    async with open_system(Leafless, "mid", mid_of(leaf), ONE, name="top"):
        raise AssertionError("never reached")


def at(top: Supervising, path: str) -> Ref[Go]:
    cell = top.system.at(path)
    assert cell is not None
    return cast("Ref[Go]", cell.ref)


async def failure(call: Callable[[], Awaitable[object]]) -> StartFailed:
    with pytest.raises(StartFailed) as caught:
        await call()
    return caught.value


def is_told(error: StartFailed | StartError, path: str) -> None:
    """Path, class, text and line of the leaf; its own exception with its traceback."""
    text = str(error)
    assert text.startswith(f"{path} did not start: OSError: cannot open /etc/thing (")
    assert "test_causes.py:" in text
    assert " in on_start)" in text
    assert error.path == path
    assert error.__cause__ is NO_DISK
    last = traceback.extract_tb(error.__cause__.__traceback__)[-1]
    assert (last.name, last.line) == ("on_start", "raise self.fails")


async def test_a_leaf_that_fails_under_two_supervisors(
    bad_leaf: type[Task | Dispatched], autojump_clock: MockClock
) -> None:
    # SUP-12
    error = await failure(lambda: run_top(bad_leaf))
    is_told(error, "top/mid/leaf")
    # `cause` is the failure as the root's own start had it, the infos nested as they happened.
    assert isinstance(error.cause, StopActor)
    assert isinstance(error.cause.exit, Shutdown)
    info = error.cause.exit.info
    assert isinstance(info, FailedToStart)
    assert info.id == "mid"
    assert str(info) == "failed_to_start mid/leaf: OSError: cannot open /etc/thing"
    assert "failed_to_start mid/leaf: OSError: cannot open" in str(error.cause)


async def test_the_same_by_start_child_and_restart_child(
    bad_leaf: type[Task | Dispatched], autojump_clock: MockClock
) -> None:
    # SUP-13
    async with open_system(Leafless, "good", Task, ONE, name="top") as top:
        spec = ChildSpec("mid", mid_of(bad_leaf))
        error = await failure(lambda: top.start_child(spec))
        is_told(error, "top/mid/leaf")
        assert error.spec is spec
        bad_leaf.fails = None
        await top.start_child(spec)
        await top.terminate_child("mid")
        bad_leaf.fails = NO_DISK
        is_told(await failure(lambda: top.restart_child("mid")), "top/mid/leaf")


async def test_the_same_of_actors_without_supervisor(
    bad_leaf: type[Task | Dispatched], autojump_clock: MockClock
) -> None:
    # ACT-55, SUP-12
    async with open_actors() as system:
        with pytest.raises(StartError) as caught:
            await system.start(bad_leaf, name="leaf")
        is_told(caught.value, "leaf")
        with pytest.raises(StartError, match="leaf: OSError: cannot open /etc/thing") as under:
            await system.start(mid_of(bad_leaf))
        assert isinstance(under.value.__cause__, StopActor)
        assert under.value.__cause__.__cause__ is NO_DISK


async def test_what_gives_up_names_the_leaf(
    leaf: type[Task | Dispatched], autojump_clock: MockClock
) -> None:
    # SUP-42
    bug = ValueError("bad go")

    async def scenario() -> None:
        async with open_system(Leafless, "mid", mid_of(leaf), ONE, name="top") as top:
            for _ in range(4):
                at(top, "top/mid/leaf").tell(Go(bug))
                await settle()
            await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert caught.exceptions == (bug,)
    text = str(caught)
    assert text.startswith(
        "top gave up: reached_max_restart_intensity: mid needed 2 restarts in 5 s, 1 allowed; "
        "leaf needed 2 restarts in 5 s, 1 allowed; "
        "the last error of top/mid/leaf: ValueError: bad go ("
    )
    assert "test_causes.py:" in text
    assert " in on_go)" in text


async def test_attempts_that_fail_give_up_with_the_leaf(
    bad_leaf: type[Task | Dispatched], autojump_clock: MockClock
) -> None:
    # SUP-42, SUP-45
    bad_leaf.fails = None
    backoff = Backoff(0.1, 0.1, jitter=0.0, give_up_after=3)

    class Top(Supervisor, intensity=100):
        mid = child(Leafless, "leaf", bad_leaf, Flags(intensity=0), backoff=backoff)

    async def scenario() -> None:
        async with open_system(Top) as top:
            bad_leaf.fails = NO_DISK
            at(top, "top/mid/leaf").tell(Go(ValueError("first")))
            await trio.sleep_forever()

    caught = await failure_of(scenario)
    assert caught.exceptions == (NO_DISK,)
    assert str(caught).startswith(
        "top gave up: give_up_after: mid failed 3 times in a row; "
        "the last error of top/mid/leaf: OSError: cannot open /etc/thing ("
    )


async def test_a_root_that_gives_up_without_an_error_says_who(autojump_clock: MockClock) -> None:
    # SUP-42
    async def scenario() -> None:
        async with open_system(Leafless, "leaf", Task, Flags(intensity=0), name="top") as top:
            at(top, "top/leaf").kill()
            await trio.sleep_forever()

    (gave_up,) = (await failure_of(scenario)).exceptions
    assert isinstance(gave_up, GaveUp)
    assert "leaf needed 1 restarts in 5 s, 0 allowed" in str(gave_up)


async def test_a_start_that_is_late_says_where_it_waited(autojump_clock: MockClock) -> None:
    # SUP-12, SUP-155
    class Slow(Task):
        start_timeout = 1.0

        async def on_start(self) -> None:
            await trio.sleep(60)

    error = await failure(lambda: run_top(Slow))
    text = str(error)
    assert text.startswith("top/mid/leaf did not start: StartTimeout: on_start of top/mid/leaf")
    assert "after 1.000 s (" in text
    assert "test_causes.py:" in text


async def test_of_several_errors_each_is_told(autojump_clock: MockClock) -> None:
    # SUP-12
    class Both(Task):
        async def on_start(self) -> None:
            raise ExceptionGroup("both", [OSError("one"), ExceptionGroup("x", [KeyError("two")])])

    error = await failure(lambda: run_top(Both))
    assert "did not start: 2 errors together: OSError: one; KeyError: 'two'" in str(error)


def test_infos_compare_by_what_they_always_were() -> None:
    # SUP-42
    plain = IntensityReached("a", 1, 5.0)
    full = IntensityReached("a", 1, 5.0, "x", ValueError(), "top/a", 2, plain)
    assert plain == full
