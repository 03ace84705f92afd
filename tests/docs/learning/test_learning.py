"""The learning paths: their lines, their times, and exercises that are red until they are done.

Each path is walked whole, in an environment of its own, by `make walk` (`walker.py`).
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.docs.learning.walker import (
    DOCS,
    PATHS,
    SOLUTIONS,
    Command,
    WentOtherwise,
    commands_of,
    exercise_of,
    lines_of,
    walk,
)
from tests.docs.pages import ROOT
from tests.processes.forked import run
from web.cli.running.exercises import EXERCISES

EXERCISE_FILES = DOCS / "learn" / "exercises"
TEXTS = {path: (DOCS / "learn" / f"{path}.md").read_text() for path in PATHS}
# How many checks each exercise has, as its page says it: red first, then green.
SAID = re.compile(r"check_(\w+)\.py\n\.\.\.\n(\d+) (failed|errors|passed) in \.\.\.")
_RESULT = re.compile(r"^(FAILED|ERROR|PASSED) (\w+)/check_\2\.py", re.MULTILINE)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_says_what_each_line_takes_and_all_of_it(path: str) -> None:  # DOC-5
    text = TEXTS[path]
    lines = lines_of(text)
    assert len(lines) >= 7
    assert f"\n{sum(minutes for _, minutes in lines)} min of reading and typing" in text
    assert len(re.findall(r"^\d+\. ", text, re.MULTILINE)) == len(lines)
    headings = re.findall(r"^## Exercise: (.+)$", text, re.MULTILINE)
    asked = [target for target, _ in lines if target.startswith("#exercise")]
    assert asked == [f"#exercise-{heading.replace(' ', '-')}" for heading in headings]


def test_an_aggregate_is_had_within_an_hour_and_a_saga_within_two() -> None:  # DOC-5, DOC-7
    for path, target, limit in (
        ("event-sourcing", "#exercise-the-purse", 60),
        ("sagas", "#exercise-the-holiday", 120),
    ):
        lines = lines_of(TEXTS[path])
        place = [one for one, _ in lines].index(target)
        assert sum(minutes for _, minutes in lines[: place + 1]) <= limit


def test_each_exercise_stands_in_one_path_and_has_all_its_parts() -> None:  # DOC-5
    asked = Counter(name for text in TEXTS.values() for name, _, _ in SAID.findall(text))
    assert asked == Counter(dict.fromkeys(EXERCISES, 2))  # red, then green
    assert list(asked) == list(EXERCISES)
    assert {folder.name for folder in EXERCISE_FILES.iterdir()} == set(EXERCISES)
    assert {file.stem for file in SOLUTIONS.glob("*.py")} == set(EXERCISES)
    for name in EXERCISES:
        assert {file.name for file in (EXERCISE_FILES / name).glob("*.py")} == {
            f"{name}.py", f"check_{name}.py",
        }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("is_done", [False, True], ids=["red", "green"])
def test_exercises_are_red_until_they_are_done(is_done: bool, tmp_path: Path) -> None:
    # DOC-5, DOC-7: as many as each page says
    for name in EXERCISES:
        folder = tmp_path / name
        folder.mkdir()
        for file in (EXERCISE_FILES / name).glob("*.py"):
            shutil.copyfile(file, folder / file.name)
        if is_done:
            shutil.copyfile(SOLUTIONS / f"{name}.py", folder / f"{name}.py")
    checks = [f"{name}/check_{name}.py" for name in EXERCISES]
    words = ["-q", "-rfEp", "--tb=no", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *checks]
    # As a reader has it, whose folder says nothing to pytest.
    ran = run("pytest", [*words, "-c", "/dev/null"], cwd=tmp_path)
    seen = Counter((name, kind) for kind, name in _RESULT.findall(ran.stdout))
    kinds = {"failed": "FAILED", "errors": "ERROR", "passed": "PASSED"}
    said = [found for text in TEXTS.values() for found in SAID.findall(text)]
    assert seen == {
        (name, kinds[kind]): int(count)
        for name, count, kind in said
        if (kind == "passed") == is_done
    }, ran.stdout[-3000:]


def test_what_a_page_says_and_what_is_printed_are_compared() -> None:  # DOC-7
    command = Command("python x.py", "one\n...\n3 failed in ...")
    assert command.fits("one\ntwo\n3 failed in 0.2s\n")
    assert not command.fits("one\ntwo\n4 failed in 0.2s\n")
    assert not command.fits("two\n3 failed in 0.2s\n")
    assert not Command("python x.py", "one").fits("one\ntwo\n")


def test_a_walk_does_what_stands_there_and_stops_at_the_first_that_differs(
    tmp_path: Path,
) -> None:  # DOC-7
    given: list[str] = []
    expected = {one.words: one for one in commands_of(TEXTS["first-steps"])}

    def pretend(words: Sequence[str], folder: Path) -> tuple[int, str]:
        line = " ".join(words)
        given.append(line)
        if words[0] == "greenroom":
            shutil.copytree(EXERCISE_FILES / words[-1], folder / words[-1])
        name = exercise_of(Command(line, ""))
        if name is None:
            return 0, ""
        is_solved = (folder / name / f"{name}.py").read_text() == (
            SOLUTIONS / f"{name}.py"
        ).read_text()
        return 1, f"3 {'passed' if is_solved else 'failed'} in 0.1s"

    done = walk("first-steps", tmp_path, pretend)
    assert done == len(given)
    assert [line for line in given if line in expected] == [
        one.words for one in commands_of(TEXTS["first-steps"])
    ]
    assert any(line.startswith("python first_actor_0") for line in given)
    with pytest.raises(WentOtherwise, match=r"first-steps\.md: `python first_actor_0\.py` went"):
        walk("first-steps", tmp_path, lambda words, folder: (1, "no such module"))
    with pytest.raises(WentOtherwise, match="check_shelf"):
        walk("first-steps", tmp_path, lambda words, folder: (0, ""))


def test_make_walks() -> None:  # DOC-7
    assert "-m tests.docs.learning.walker" in (ROOT / "Makefile").read_text()
