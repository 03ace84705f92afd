"""The smallest example: what a counter does, and how long its program is."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest
from trio.testing import MockClock

from actors.reducers import Case, Environment, Next, ReducerRef, check_pure, start_reducer
from actors.runtime import System
from actors.testing import ReducerTest, no_effects
from docs.examples.counter import Count, Counter, Decrement, Increment, Reset, count
from tests.journeys.site_process import ExampleProcess
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]
Action = Increment | Decrement | Reset


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        (0, Increment(), 1),
        (1, Increment(5), 6),
        (5, Decrement(), 4),
        (5, Decrement(5), 0),
        (0, Decrement(), 0),
        (3, Decrement(9), 0),
        (7, Reset(), 0),
        (0, Reset(), 0),
        (4, Increment(0), 4),
    ],
)
def test_what_a_counter_does(before: int, action: Action, after: int) -> None:  # EX-1
    (
        ReducerTest(count)
        .given_state(Count(before))
        .when(action)
        .then_state(Count(after))
        .then_effects(no_effects)
        .run()
    )


def test_it_is_pure(env: Environment) -> None:  # EX-1
    cases = [Case(Count(3), action, env) for action in (Increment(), Decrement(), Reset())]
    assert check_pure(count, cases) == 3
    assert count(Count(1), Increment(), env) == Next(Count(2))


async def test_it_counts_in_an_actor(
    autojump_clock: MockClock, system: System, env: Environment
) -> None:  # EX-1
    counter: ReducerRef[Count, Action] = await start_reducer(system, Counter, env)
    for _ in range(1000):
        counter.tell(Increment())
    counter.tell(Decrement(1))
    assert await counter.state() == Count(999)


def test_the_whole_program_has_at_most_sixty_lines() -> None:  # CORE-1
    lines = (ROOT / "docs" / "examples" / "counter.py").read_text().splitlines()
    assert 0 < len(lines) <= 60


@pytest.mark.slow
def test_it_runs() -> None:  # CORE-1
    ran = subprocess.run(
        [sys.executable, "-m", "docs.examples.counter"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert ran.stdout.splitlines() == [
        "Increment(by=5) -> Count(value=5)",
        "Decrement(by=2) -> Count(value=3)",
        "Decrement(by=9) -> Count(value=0)",
        "Reset() -> Count(value=0)",
        "Increment(by=3) -> Count(value=3)",
    ]


def test_the_walk_through_says_what_python_answers() -> None:  # EX-1
    failed, tried = doctest.testfile(str(ROOT / "docs" / "start" / "counter.md"), False)
    assert (failed, tried > 15) == (0, True)


@pytest.mark.slow
def test_its_page_counts_in_every_window(tmp_path: Path) -> None:  # EX-1
    running = ExampleProcess("counter-page", "memory", tmp_path / "state")
    try:
        visitor, other = Visitor(running.url), Visitor(running.url)
        found = re.search(r"@get\('([^']+)'", other.get("/").text)
        assert found
        with other.open_stream_at(found[1].replace("&amp;", "&")) as stream:
            for action, shown in (
                ("Increment", 1),
                ("Increment", 2),
                ("Decrement", 1),
                ("Reset", 0),
                ("Decrement", 0),
            ):
                assert visitor.form("/", {"action": action}).status == 303
                assert f"<output>{shown}</output>" in visitor.get("/").text
            visitor.form("/", {"action": "Increment"})
            stream.read_until(b"<output>1</output>")
        assert visitor.form("/", {"action": "Explode"}).status == 200
        assert running.stop() == 0
    finally:
        running.end()
