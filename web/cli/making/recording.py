"""What was made, as it was made: kept in the program beside it, and read by an upgrade.

Templates of before are gone once greenroom is newer. So the texts they gave are kept, in one file
that is committed with the rest: what newer templates would change is the difference to these, not
to what somebody has written since.

A line of a text has a blank before it; what begins a text is its path. So a difference of this file
can be read, and applied, as one of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from web.cli.making.words import KINDS, OPTIONS, Part, Recipe

RECORD = ".greenroom-new"
_HEAD = (
    "# What `greenroom new` has written, as it was written; `greenroom upgrade` compares with it.",
    "# Commit it, and leave it as it is.",
)
_PROGRAM, _NEEDS, _GONE, _FILE = "program ", "needs ", "removed ", "file "


class RecordBroken(Exception):
    """Raised for a record that nobody wrote so: a merge or an editor was at it.

    Nothing was done. Take the file from an earlier commit.
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"{RECORD} cannot be read at line {line}")
        self.line = line


def written(recipe: Recipe, texts: Mapping[str, str]) -> str:
    """Call this for the record of a program."""
    lines = [
        *_HEAD,
        " ".join((_PROGRAM.strip(), recipe.package, *sorted(recipe.options))),
        _NEEDS + recipe.requirement,
        *(f"{one.kind} {one.name} {one.of}".rstrip() for one in recipe.parts),
        *(_GONE + path for path in sorted(recipe.left_out)),
    ]
    for path in sorted(texts):
        lines += [_FILE + path, *(line and f" {line}" for line in texts[path].splitlines())]
    return "\n".join(lines) + "\n"


def read(text: str) -> tuple[Recipe, dict[str, str]]:
    """Call this for what a record says; raises `RecordBroken`."""
    recipe, texts, path = Recipe(""), dict[str, list[str]](), None
    for number, line in enumerate(text.splitlines(), 1):
        kind, _, rest = line.partition(" ")
        if path is not None and (line.startswith(" ") or not line):
            # An empty one has no blank: editors take it from the end of a line.
            texts[path].append(f"{line[1:]}\n")
        elif line.startswith(_FILE):
            path = rest
            texts[path] = []
        elif line.startswith(_PROGRAM) and set(rest.split()[1:]) <= set(OPTIONS):
            package, *options = rest.split()
            recipe = replace(recipe, package=package, options=frozenset(options))
        elif line.startswith(_NEEDS):
            recipe = replace(recipe, requirement=rest)
        elif line.startswith(_GONE):
            recipe = replace(recipe, left_out=recipe.left_out | {rest})
        elif kind in KINDS[1:] and len(rest.split()) in (1, 2):
            recipe = recipe.with_part(Part(kind, *rest.split()))
        elif not line.startswith("#"):
            raise RecordBroken(number)
    if not recipe.package:
        raise RecordBroken(1)
    return recipe, {path: "".join(lines) for path, lines in texts.items()}


def find_program(start: Path) -> Path | None:
    """Call this for the folder of the program around a folder; None where there is none."""
    for folder in (start, *start.parents):
        if (folder / RECORD).is_file():
            return folder
    return None
