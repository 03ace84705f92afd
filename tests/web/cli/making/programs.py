"""Programs that `greenroom new` makes, for the tests of it: made in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from web.cli.commands import main
from web.cli.making.naming import NAME_CHARS_MAX

EVERYTHING = ("--saga", "--web", "--bus", "kafka")
# Of each kind one, the projection last: it is of the aggregate.
PARTS = ("aggregate", "saga", "actor", "projection")
# The longest names there may be, all with a capital that shows in a class; and short ones, of
# which pytest takes the class of one for its own.
LONG = {kind: f"{kind}_".ljust(NAME_CHARS_MAX, "w") for kind in PARTS}
SHORT = {"aggregate": "z", "saga": "a", "actor": "test1", "projection": "c"}


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """Be in a folder, as whoever types there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def typed(folder: Path, *words: str) -> int:
    """Type a command in a folder; gives its exit code."""
    with within(folder):
        return main(words)


def make(folder: Path, name: str, *options: str, parts: dict[str, str] | None = None) -> Path:
    """Make a program, and parts of it."""
    assert typed(folder, "new", "app", name, *options) == 0
    for kind, part in (parts or {}).items():
        of = ("--of", parts["aggregate"]) if parts and kind == "projection" else ()
        assert typed(folder / name, "new", kind, part, *of) == 0
    return folder / name


def files_of(folder: Path) -> dict[str, bytes]:
    """All that is in a folder, but what tests leave there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and ".pytest_cache" not in path.parts
    }
