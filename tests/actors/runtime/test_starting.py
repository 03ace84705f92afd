"""Starts: names, what `on_start` may return, limits, and what is left of a failed one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
import structlog
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    IGNORE,
    Actor,
    AlreadyStarted,
    BadReturn,
    Started,
    StartError,
    StartIgnored,
    StartTimeout,
    System,
    open_actors,
)
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Note,
    Puppet,
    raising,
    sleeping,
)
from supervision import (
    REPORTS,
    ChildSpec,
    Report,
    StartFailed,
    Supervisor,
    child_method,
    open_system,
)
from tests.actors.runtime.kit import Go, noting


async def test_a_start_can_ignore_and_hand_out_info(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-47, ACT-54
    assert await system.maybe_start(puppet, None, lambda me: IGNORE, name="x") is None
    with pytest.raises(StartIgnored):
        await system.start(puppet, None, lambda me: IGNORE, name="x")
    ref = await system.start(puppet, None, lambda me: Started(5), name="x")
    assert system.whereis("x") is ref


@pytest.mark.parametrize("value", [7, "IGNORE"])
async def test_a_start_that_returns_nonsense_fails(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], value: object
) -> None:
    # ACT-47, SUP-13
    with pytest.raises(StartError) as caught:
        await system.start(puppet, None, lambda me: value)
    assert isinstance(caught.value.cause, BadReturn)
    assert caught.value.cause.value == value


async def test_a_start_that_raises_leaves_nothing(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-54, SUP-183
    log: list[object] = []
    error = OSError()
    with pytest.raises(StartError) as caught:
        await system.start(puppet, log, raising(error), noting(log), name="x")
    assert caught.value.cause is error
    assert system.whereis("x") is None
    assert list(system.cells()) == []
    assert log == []

    class Broken(Puppet):
        def __init__(self) -> None:
            raise error

    with pytest.raises(StartError):
        await system.start(Broken, name="x")
    assert list(system.cells()) == []
    assert not system.reports.kept


async def test_a_start_that_takes_too_long_is_cancelled(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-47, SUP-155
    seen: list[object] = []

    async def slow() -> None:
        try:
            await trio.sleep(60)
        finally:
            seen.append(trio.current_time())

    with pytest.raises(StartTimeout):
        await system.start(AsyncPuppet, None, lambda me: slow())
    assert seen == [10]


class Hasty(Actor[Go]):
    start_timeout = 0.1

    async def on_start(self) -> None:
        await trio.sleep(1)

    def on_go(self, message: Go) -> None:
        """Never comes this far."""


async def test_a_class_may_set_its_own_start_timeout(autojump_clock: MockClock) -> None:
    # ACT-47, SUP-155
    async with open_actors() as system:
        with pytest.raises(StartTimeout):
            await system.start(Hasty)
        assert trio.current_time() == pytest.approx(0.1, abs=0.02)
        assert not list(system.cells())


async def test_messages_sent_during_the_start_are_queued(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-47
    log: list[object] = []

    async def slow(me: AnyPuppet) -> None:
        me.ref.tell(Note("early"))
        await trio.sleep(1)
        me.log.append("ready")

    await system.start(AsyncPuppet, log, slow)
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["ready", "early"]


async def test_a_cancelled_start_does_not_go_on(autojump_clock: MockClock, system: System) -> None:
    # ACT-54
    with trio.move_on_after(1):
        await system.start(AsyncPuppet, None, sleeping(9), name="x")
    await trio.testing.wait_all_tasks_blocked()
    assert system.whereis("x") is None


async def test_a_taken_name_is_refused(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-60, SUP-156
    first = await system.start(puppet, name="x")
    with pytest.raises(AlreadyStarted) as caught:
        await system.start(puppet, name="x")
    assert caught.value.ref is first
    assert system.whereis("x") is first


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 201])
async def test_a_bad_name_is_refused(autojump_clock: MockClock, system: System, name: str) -> None:
    # ACT-60
    with pytest.raises(ValueError, match="name"):
        await system.start(Puppet, name=name)


@pytest.mark.parametrize("name", ["👨‍👩‍👧", "a\u00a0b", "日本　語"])
async def test_what_is_no_control_character_may_be_in_a_name(
    autojump_clock: MockClock, system: System, name: str
) -> None:
    # ACT-60
    assert system.whereis(name) is None
    assert (await system.start(Puppet, name=name)).path == name
    for refused in ("\x7f", "\x85", "a\u2028b", "\ud800"):
        with pytest.raises(ValueError, match="control"):
            await system.start(Puppet, name=refused)


A = TypeVar("A")


def made_by(kind: Callable[[], A]) -> Callable[[], A]:
    """A factory that does not show what it makes."""

    def make() -> A:
        return kind()

    return make


class Patient(Actor[Go]):
    start_timeout = 60.0

    async def on_start(self) -> None:
        await trio.sleep(20)

    def on_go(self, message: Go) -> None: ...


class Crew(Supervisor):
    @child_method()
    def patient(self):  # type: ignore[no-untyped-def]
        return Patient()


async def test_a_class_rules_its_start_timeout_whoever_makes_the_actor(
    autojump_clock: MockClock,
) -> None:
    # ACT-47: a lambda, a factory, a method without annotation; the instance knows
    async with open_actors() as system:
        await system.start(made_by(Patient))
        with pytest.raises(StartTimeout) as caught:
            await system.start(made_by(Hasty))
        assert "0.1" in str(caught.value)
    async with open_system(Crew) as crew:
        await crew.start_child(ChildSpec("made", made_by(Patient)))
        # Of a supervisor there is none: its children have theirs.
        await crew.start_child(ChildSpec("sub", made_by(Crew)))
        assert trio.current_time() == pytest.approx(80.1, abs=0.02)


class Shielded(Actor[Go]):
    start_timeout = 1.0

    def __init__(self, *_: object) -> None:
        """Whoever makes it."""

    async def on_start(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(30)

    def on_go(self, message: Go) -> None: ...


async def test_an_overdue_start_that_cannot_be_cut_short_is_seen(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-47, SUP-90: a second behind its limit, while it lasts
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing_start, system)
            await trio.sleep(1.5)
            (cell,) = system.cells()
            assert (cell.status, logs) == ("starting", [])
            await trio.sleep(1.0)
            assert cell.status == "unkillable"
            (line,) = (log for log in logs if log["event"] == "actor_unkillable")
            assert line["path"] == cell.path
            assert "on_start" in line["stack"]
        assert trio.current_time() == 30
    assert not list(system.cells())


async def failing_start(system: System) -> None:
    with pytest.raises(StartTimeout):
        await system.start(Shielded)


async def test_a_supervisor_reports_an_overdue_start_and_goes_on_serving(
    autojump_clock: MockClock,
) -> None:
    # SUP-90
    reports: list[Report] = []

    class Sink:
        def deliver(self, report: object, /) -> None:
            assert isinstance(report, Report)
            reports.append(report)

    async def starts(root: Supervisor) -> None:
        with pytest.raises(StartFailed) as caught:
            await root.start_child(ChildSpec("late", Shielded))
        assert isinstance(caught.value.cause, StartTimeout)

    with structlog.testing.capture_logs() as logs:
        async with open_system(Supervisor) as root, trio.open_nursery() as nursery:
            root.system.topics.subscribe(REPORTS, Sink())
            nursery.start_soon(starts, root)
            await trio.sleep(2.5)
            (late,) = await root.which_children()
            assert late.status == "unkillable"
            (report,) = reports
            assert report.context == "unkillable"
            assert "start" in str(report.reason)
            assert "on_start" in (report.stack or "")
    (line,) = (log for log in logs if log["event"] == "actor_unkillable")
    assert (line["path"], "on_start" in line["stack"]) == ("supervisor/late", True)


class Shelf(Actor[Go]):
    """What it was made with is told by its report."""

    def __init__(self, log: list[object], size: int = 1, *, label: str = "") -> None:
        log.append((size, label))

    def on_go(self, message: Go) -> None: ...


class AsyncShelf(Shelf):
    async def on_start(self) -> None: ...


class Named(Actor[Go]):
    def __init__(self, log: list[object], name: str = "none") -> None:
        log.append(name)

    def on_go(self, message: Go) -> None: ...


@pytest.mark.parametrize("kind", [Shelf, AsyncShelf])
async def test_arguments_are_given_by_name_too(
    autojump_clock: MockClock, system: System, kind: type[Shelf]
) -> None:
    # ACT-55
    log: list[object] = []
    ref = await system.start(kind, log, size=2, label="oak")
    assert ref.path.startswith(kind.__name__.lower())
    system.begin(kind, log, label="elm")
    assert await system.maybe_start(kind, log=log) is not None
    assert (await system.start(partial(kind, log, size=3), name="both")).path == "both"
    await trio.testing.wait_all_tasks_blocked()
    assert log == [(2, "oak"), (1, "elm"), (1, ""), (3, "")]
    # What checkers have no type for works all the same.
    mixed = await system.start(kind, log, size=4, name="mixed")
    assert (mixed.path, log[-1]) == ("mixed", (4, ""))
    with pytest.raises(StartError, match="nmae"):
        await system.start(kind, log, nmae="x")


async def test_an_argument_called_as_an_option_is_refused_with_the_way_out(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-55
    log: list[object] = []
    for start in (system.start, system.maybe_start):
        with pytest.raises(TypeError, match=r"partial\(Named, name=\.\.\.\)"):
            await start(Named, log, name="lobby")
    with pytest.raises(TypeError, match="Named takes an argument `name`"):
        system.begin(Named, log, name="lobby")

    def make(log: list[object], name: str = "none") -> Named:
        return Named(log, name)

    for maker in (make, partial(Named, log), partial(make, log)):
        args = (log,) if maker is make else ()
        with pytest.raises(TypeError, match="takes an argument `name`"):
            system.begin(maker, *args, name="lobby")
    assert list(system.cells()) == []
    ref = await system.start(partial(Named, log, name="lobby"), name="one")
    other = await system.start(Named, log, "hall", name="two")
    assert (ref.path, other.path, log) == ("one", "two", ["lobby", "hall"])
