"""`greenroom exercise NAME`: the files of an exercise, in a folder of its own.

The exercises lie in `docs/learn/exercises`, a folder each: the module to complete, and its check,
which is red until that is done. Their solutions do not come along. One that is added has a line in
`EXERCISES` and nothing else here.
"""

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from web.cli.answering import Teller
from web.observability import Code, CommandFailed, complain, tell

FOLDER = "docs.learn.exercises"

# In the order of the learning paths that ask for them.
EXERCISES: Mapping[str, str] = {
    "shelf": "an actor with two messages",
    "tower": "a supervisor: who is restarted when",
    "purse": "an aggregate: decide and apply",
    "roster": "a projection that minds no repeats",
    "moved": "an event of years ago, read as the class of today",
    "holiday": "a saga: all of it, or nothing",
    "kitchen": "a participant that does once what comes twice",
    "wall": "a page with a form",
    "score": "a panel that everybody sees change",
    "gateway": "calls outside, each with its own limits",
    "farewell": "an actor that loses nothing when it is stopped",
}


def command(parsed: argparse.Namespace) -> int:
    """Call this to write an exercise, or list them; returns the exit code."""
    try:
        if parsed.list or parsed.name is None:
            teller = Teller(is_json=parsed.json)
            rows = [{"name": name, "is": words} for name, words in EXERCISES.items()]
            teller.rows(rows, "there is none")
            teller.write()
            return Code.DONE
        return _write(parsed.name, Path(parsed.dir) if parsed.dir else Path(parsed.name))
    except CommandFailed as failed:
        complain(f"greenroom: {failed}")
        return failed.code


def _write(name: str, target: Path) -> int:
    if name not in EXERCISES:
        near = get_close_matches(name, EXERCISES) or list(EXERCISES)
        raise CommandFailed(
            Code.UNKNOWN, f"there is no exercise {name!r}", f"There is {', '.join(near)}"
        )
    try:
        spec = find_spec(f"{FOLDER}.{name}.{name}")
    except ModuleNotFoundError:  # a folder above it
        spec = None
    if spec is None or spec.origin is None:
        raise CommandFailed(Code.UNKNOWN, "the exercises did not come with this program")
    if target.exists():
        raise CommandFailed(Code.REFUSED, f"{target} exists; nothing was written", "Name another")
    files = sorted(Path(spec.origin).parent.glob("*.py"))
    try:
        _copy(files, target)
    except OSError as error:
        raise CommandFailed(
            Code.FAILED, f"{target} could not be written: {error.strerror}; nothing is there"
        ) from error
    for file in files:
        tell(str(target / file.name))
    tell(f"red until it is done: python -m pytest {target / f'check_{name}.py'}")
    return Code.DONE


def _copy(files: list[Path], target: Path) -> None:
    """Copy beside it, and give it its name at once: who dies between leaves no half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as beside:
        half = Path(beside) / "made"
        half.mkdir()
        for file in files:
            shutil.copyfile(file, half / file.name)
        # Into an empty folder that came meanwhile it would move; into one with files never.
        half.rename(target)
