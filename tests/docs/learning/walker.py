"""Walks the learning paths as a newcomer would: in an empty folder, by what the pages say.

    python -m tests.docs.learning.walker [first-steps ...]
    make walk

Each line of a path is done in its order: the programs of a page that is to be read are written into
files and run, the commands of an exercise are given as they stand there, and what they print is
compared. Before the check of an exercise is asked for a second time its solution, which a reader
never sees, stands in for the work. `make walk` does so in an environment of its own, with nothing
but the wheel and pytest in it. The time of each path is printed.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, programs
from tests.patience import PATIENCE_S

DOCS = ROOT / "docs"
PATHS = ("first-steps", "event-sourcing", "sagas", "web-and-realtime", "production")
SOLUTIONS = Path(__file__).parent / "solutions"
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^\d+\. \[[^\]]+\]\(([^)]+)\): .+ (\d+) min$", re.MULTILINE)
_CHECK = re.compile(r"-m pytest -q (\w+)/check_\1\.py")
# What runs a command and gives its code and all that it printed.
Run = Callable[[Sequence[str], Path], tuple[int, str]]


class WentOtherwise(Exception):
    """Raised when a page and what was seen are two: names the page, the command and what came."""

    def __init__(self, page: str, command: str, printed: str) -> None:
        super().__init__(f"docs/learn/{page}.md: `{command}` went otherwise:\n{printed}")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page, and what it says that it prints."""

    words: str
    expected: str

    def fits(self, printed: str) -> bool:
        """Whether it printed that; three dots stand for anything."""
        pieces = [re.escape(piece.strip()) for piece in self.expected.split("...")]
        return re.fullmatch(r"\s*" + ".*".join(pieces) + r"\s*", printed, re.DOTALL) is not None


def lines_of(text: str) -> list[tuple[str, int]]:
    """Call this for the lines of a path: where each leads to, and its minutes."""
    return [(target, int(minutes)) for target, minutes in _LINE.findall(text)]


def commands_of(text: str) -> list[Command]:
    """Call this for the commands of a page, in their order."""
    found = []
    for block in _CONSOLE.findall(text):
        for one in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            words, _, expected = one.partition("\n")
            found.append(Command(words, expected.strip()))
    return found


def exercise_of(command: Command) -> str | None:
    """Call this for the exercise whose check a command runs."""
    found = _CHECK.search(command.words)
    return found[1] if found else None


def walk(path: str, folder: Path, run: Run) -> int:
    """Call this to walk one path in an empty folder; gives how many things were done.

    Raises `WentOtherwise`.
    """
    text = (DOCS / "learn" / f"{path}.md").read_text()
    done = 0
    for target, _ in lines_of(text):
        if not target.startswith("#"):
            page = (DOCS / "learn" / target).resolve()
            for number, program in enumerate(programs(page.read_text(), to_run=True)):
                file = folder / f"{page.stem.replace('-', '_')}_{number}.py"
                file.write_text(program)
                code, printed = run(["python", file.name], folder)
                if code:
                    raise WentOtherwise(path, f"python {file.name}", printed)
                done += 1
    asked = set[str]()
    for command in commands_of(text):
        name = exercise_of(command)
        if name in asked:
            (folder / name / f"{name}.py").write_text((SOLUTIONS / f"{name}.py").read_text())
        elif name:
            asked.add(name)
        _, printed = run(command.words.split(), folder)
        if not command.fits(printed):
            raise WentOtherwise(path, command.words, printed)
        done += 1
    return done


def running(python: Path, greenroom: Sequence[str], environment: dict[str, str]) -> Run:
    """Call this for what runs commands with an interpreter, and greenroom as it is there."""

    def run(words: Sequence[str], folder: Path) -> tuple[int, str]:
        first = {"python": [str(python)], "greenroom": list(greenroom)}[words[0]]
        done = subprocess.run(
            [*first, *words[1:]],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        return done.returncode, done.stdout

    return run


def make_clean(folder: Path) -> Run:
    """Call this for an environment with the wheel of this project, and pytest, and nothing else.

    Raises `CalledProcessError` where it cannot be made, as without an index of packages.
    """
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    for words in (
        [sys.executable, "-m", "venv", str(folder / "env")],
        [*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        [*pip, "install", "-q", "--require-hashes", "-r", str(ROOT / "requirements" / "run.lock")],
    ):
        subprocess.run(words, check=True)
    (wheel,) = folder.glob("greenroom-*.whl")
    subprocess.run([*pip, "install", "-q", "--no-deps", str(wheel)], check=True)
    subprocess.run([*pip, "install", "-q", "pytest"], check=True)
    bin_ = folder / "env" / "bin"
    return running(bin_ / "python", [str(bin_ / "greenroom")], {"PATH": f"{bin_}:/usr/bin:/bin"})


def walked(paths: Sequence[str], run: Run) -> Iterator[str]:
    """Call this to walk several paths, an empty folder each: what was done, and what it took."""
    for path in paths:
        with tempfile.TemporaryDirectory() as empty:
            began, used = time.monotonic(), _processor_s()
            done = walk(path, Path(empty), run)
            took, spent = time.monotonic() - began, _processor_s() - used
        yield f"{path}: {done} things done as the page says, {took:.0f} s, {spent:.0f} s of a core"


def _processor_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        began = time.monotonic()
        run = make_clean(Path(made))
        print(f"an environment: {time.monotonic() - began:.0f} s", flush=True)
        for line in walked(sys.argv[1:] or PATHS, run):
            print(line, flush=True)
