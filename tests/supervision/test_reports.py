"""What a report says, and what it hides."""

from dataclasses import dataclass

import pytest
import structlog
import trio
from trio.testing import MockClock

from actors.runtime import Crashed, Shutdown
from actors.runtime.telling.log import lost
from actors.runtime.words.showing import CUT
from supervision import ChildSpec, Flags, Offender, Report, open_system
from supervision.tree.reports import LEAVES_MAX, LINE_MAX, VALUE_TEXT_MAX, show
from tests.supervision.puppets import Crash, Kit, Troupe, settle

OFFENDER = Offender("a", "sup/a", 3, "permanent", 5.0, "worker")


@dataclass
class Deep:
    below: object
    password: str = "hunter2"


def deep(levels: int) -> object:
    value: object = "the very bottom"
    for _ in range(levels):
        value = Deep(value)
    return value


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_a_report_in_full_and_in_one_line() -> None:
    # SUP-75, SUP-76, SUP-152
    error = ValueError(deep(9), "x" * 10_000, {"token": "abc", "n": 1})
    report = Report("sup", "child_terminated", Crashed(error), OFFENDER, 12.5, "c-1")
    text = str(report)
    assert "child_terminated under sup at 12.500" in text
    assert "sup/a" in text
    assert "incarnation 3" in text
    assert "the very bottom" not in text
    assert CUT in text
    assert "hunter2" not in text
    assert "abc" not in text
    assert "c-1" in text
    assert len(show(error)) <= VALUE_TEXT_MAX
    line = report.one_line()
    assert len(line) <= LINE_MAX
    assert "\n" not in line
    assert line.startswith("child_terminated sup/a#3 under sup: ")


# SUP-76
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Shutdown("x"), "Shutdown(info='x')"),
        (OSError(2, "gone"), "FileNotFoundError(2, 'gone')"),
        ([1, (2,)], "[1, (2,)]"),
        ({"a": 1, "password": "x"}, "{'a': 1, 'password': ***}"),
        (Broken(), "<Broken: its text failed with RuntimeError>"),
    ],
)
def test_values_are_shown(value: object, shown: str) -> None:
    assert show(value) == shown


class Counting:
    shown = 0

    def __repr__(self) -> str:
        Counting.shown += 1
        return "item"


def test_a_report_looks_at_no_more_than_it_shows() -> None:
    # SUP-152
    error = ValueError([Counting() for _ in range(100_000)], b"x" * 300_000)
    Counting.shown = 0
    report = Report("sup", "child_terminated", Crashed(error), OFFENDER, 0.0)
    assert len(report.one_line()) <= LINE_MAX
    assert CUT in str(report)
    assert 0 < Counting.shown <= 3 * VALUE_TEXT_MAX
    group = ExceptionGroup("g", [ValueError(number) for number in range(1000)])
    lines = str(Report("sup", "child_terminated", Crashed(group), OFFENDER, 0.0)).splitlines()
    assert sum("leaf" in line for line in lines) == LEAVES_MAX + 1


def test_each_leaf_of_a_group_is_listed() -> None:
    # SUP-75
    group = ExceptionGroup("g", [OSError("one"), ValueError("two")])
    text = str(Report("sup", "child_terminated", Crashed(group), OFFENDER, 0.0))
    assert "OSError('one')" in text
    assert "ValueError('two')" in text


async def test_each_context_names_its_offender(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-75
    async with open_system(Troupe, Flags(intensity=9), [kit.spec("a"), kit.spec("b")]) as sup:
        kit.stage.follow(sup.system)
        kit.stage.will_start("a", OSError("no"))
        (await sup.refs())["a"].tell(Crash(ValueError("boom")))
        await settle()
        await trio.sleep(1.0)
    assert kit.stage.contexts() == ["child_terminated", "start_error"]
    assert kit.stage.reports[0].correlation_id is not None
    for report in kit.stage.reports:
        assert report.supervisor == "troupe"
        assert report.offender == Offender("a", "troupe/a", 1, "permanent", 5.0, "worker")
        assert report.at == 0.0


async def test_a_log_that_raises_hurts_no_supervisor(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-75: neither the report of a crash nor that of giving up
    def breaks(_logger: object, _method: str, _record: object) -> str:
        raise BrokenPipeError

    before = structlog.get_config() if structlog.is_configured() else None
    lost_before = lost.total
    structlog.configure(processors=[breaks])
    inner = ChildSpec(
        "inner",
        lambda: Troupe(Flags(intensity=1), [kit.spec("x")]),
        type="supervisor",
    )
    try:
        async with open_system(Troupe, Flags(intensity=9), [kit.spec("a"), inner]) as sup:
            kit.stage.follow(sup.system)
            (await sup.refs())["a"].tell(Crash(ValueError("boom")))
            for _ in range(2):
                cell = sup.system.at("troupe/inner/x")
                assert cell is not None
                cell.ref.tell(Crash(ValueError("boom")))  # type: ignore[arg-type]
                await trio.sleep(5.0)
            assert await sup.numbers() == {"a": 2, "inner": 2}
            x = sup.system.at("troupe/inner/x")
            assert x is not None
            assert x.status == "running"
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)
    assert "shutdown" in kit.stage.contexts()
    assert lost.total > lost_before
