"""What a supervisor writes to the log: one line a failure, with text and place of the error."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import trio
from structlog.typing import EventDict
from trio.testing import MockClock

from supervision import ChildSpec, Flags, Plan, StartFailed, Supervisor, open_system
from tests.logged import captured
from tests.supervision.puppets import MANY, Crash, Kit, Troupe, crash, failure_of, settle


class Tall(Supervisor):
    """A supervisor of a supervisor of what is handed in."""

    def __init__(self, specs: list[ChildSpec]) -> None:
        self._specs = specs

    def plan(self) -> Plan:
        inner = partial(Troupe, Flags(intensity=0), self._specs)
        return Plan(Flags(intensity=1), [ChildSpec("inner", inner, type="supervisor")])


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    """What is logged, as a program sees it that has configured structlog for warnings."""
    with captured() as lines:
        yield lines


async def test_a_crash_is_told_by_the_runtime_alone(
    kit: Kit, autojump_clock: MockClock, lines: list[EventDict]
) -> None:
    # SUP-12, SUP-75
    async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
        await crash(sup, "a")
    (line,) = lines
    assert (line["event"], line["path"]) == ("actor_crashed", "troupe/a")
    assert line["error"] == "ValueError: boom"
    assert line["where"].startswith("tests/supervision/puppets.py:")


async def test_a_failed_first_start_is_told_by_its_error_alone(
    kit: Kit, autojump_clock: MockClock, lines: list[EventDict]
) -> None:
    # SUP-12
    kit.stage.will_start("a", OSError("no disk"))
    with pytest.raises(StartFailed, match="tall/inner/a did not start: OSError: no disk"):
        async with open_system(Tall, [kit.spec("a")]):
            raise AssertionError("never reached")
    assert lines == []


@pytest.mark.parametrize("development", [False, True])
async def test_a_failed_attempt_names_the_leaf(
    development: bool, kit: Kit, autojump_clock: MockClock, lines: list[EventDict]
) -> None:
    # SUP-12, SUP-75
    async def scenario() -> None:
        async with open_system(Tall, [kit.spec("a")], development=development) as tall:
            kit.stage.will_start("a", OSError("password=hunter2"))
            cell = tall.system.at("tall/inner/a")
            assert cell is not None
            cell.ref.tell(Crash(ValueError("boom")))  # type: ignore[arg-type]  # it takes any Word
            await trio.sleep_forever()

    await failure_of(scenario)
    crashed, inner_gave_up, attempt, gave_up = lines
    assert crashed["event"] == "actor_crashed"
    assert inner_gave_up["context"] == "shutdown"
    assert inner_gave_up["reason"] == "reached_max_restart_intensity"
    assert inner_gave_up["error"] == "ValueError: boom"
    assert attempt["context"] == "start_error"
    assert (attempt["offender"], attempt["source"]) == ("tall/inner", "tall/inner/a")
    assert attempt["error"] == "OSError: password=***"
    assert attempt["where"].endswith(" in on_start")
    assert ("exception" in attempt) is development
    assert (gave_up["supervisor"], gave_up["error"]) == ("tall", "OSError: password=***")
    assert "hunter2" not in str(lines)


async def test_an_end_without_an_error_says_how(
    kit: Kit, autojump_clock: MockClock, lines: list[EventDict]
) -> None:
    # SUP-75
    async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
        (await sup.refs())["a"].kill()
        await settle()
    (line,) = lines
    assert line["context"] == "child_terminated"
    assert line["reason"].startswith("Killed (")
