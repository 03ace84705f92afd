"""The page of requirements: read, compared with what code, tests and documents name, and mended.

`docs/reference/requirements.md` has one row for each id (`SUP-12`): what must hold, and the tests
that name it. The sentences are written by hand; the last column is written by

    python -m tests.docs.requirements

which also sorts the rows and drops those that a merge left twice, and writes the table of
`docs/reference/reliability.md`: the rows of REL again, each with its last figure, which is written
there by hand (REL-4). Ids are named in full, one by
one: a row can then be looked up by searching for the id, and nobody has to expand "7 to 12".
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NewType

ROOT = Path(__file__).parents[2]
PAGE = Path("docs/reference/requirements.md")
RELIABILITY = Path("docs/reference/reliability.md")
COMMAND = "python -m tests.docs.requirements"

Id = NewType("Id", str)

# Where ids may be named: these folders, and the front pages beside them.
FOLDERS = ("actors", "supervision", "storage", "web", "tests", "docs")
_SUFFIXES = frozenset({".py", ".md", ".sql", ".html", ".css", ".js", ".sh", ".erl"})
# These files speak about ids in general; what they name is an example or planted.
_ABOUT_IDS = (
    PAGE,
    RELIABILITY,
    Path("tests/docs/requirements.py"),
    Path("tests/docs/test_requirements.py"),
)

# Words of the trade that are written as ids are.
FOREIGN = frozenset({"AES", "CRC", "SHA", "UTF"})

_ID = re.compile(r"\b([A-Z]{2,8})-(\d{1,3})\b")
# "SUP-1 to SUP-5", "SUP-1 to 5", "SUP-1-5", "SUP-1, 2" and "SUP-1 ff": what is named so cannot be
# found by searching. A number that goes on as a sentence ("SUP-1, 20 times") is none of these.
_SHORTENED = re.compile(
    r"\b[A-Z]{2,8}-\d{1,3}\b"
    r"(?: ?(?:to|until|through|-|–|—|\.\.) ?(?:[A-Z]{2,8}-)?\d{1,3}\b"
    r"|(?:,? (?:and|or)|,|/|&) ?\d{1,3}(?=[,;.:)\]]|\s*$)"
    r"|,? ff\b)",
    re.MULTILINE,
)

NO_TEST = "no test yet"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page: an id, what must hold, and the files whose tests name the id."""

    id: Id
    sentence: str
    tests: tuple[str, ...] = ()

    def __str__(self) -> str:
        tests = ", ".join(f"`{path}`" for path in self.tests) or NO_TEST
        return f"| {self.id} | {self.sentence} | {tests} |"


def ids_in(text: str) -> set[Id]:
    """Call this to find the ids that a text names."""
    return {Id(found[0]) for found in _ID.finditer(text) if found[1] not in FOREIGN}


def place(one: Id) -> tuple[str, int]:
    """Call this for the order of ids: by family, then by number."""
    family, _, number = one.partition("-")
    return family, int(number)


def read_files(root: Path) -> dict[str, str]:
    """Call this to read all that may name ids, by path below `root`."""
    files = {}
    for path in (*root.glob("*.md"), *(each for name in FOLDERS for each in _below(root / name))):
        name = path.relative_to(root)
        if name not in _ABOUT_IDS:
            files[name.as_posix()] = path.read_text()
    return files


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            yield path


def is_proof(path: str) -> bool:
    """Call this to tell tests, shipped suites and benchmarks from all that only names an id."""
    name = path.rpartition("/")[2]
    if path.startswith("storage/testing/"):
        return True
    return path.startswith("tests/") and name.startswith(("test_", "bench_"))


def naming(files: Mapping[str, str]) -> dict[Id, list[str]]:
    """Call this to learn which files name which id."""
    found: defaultdict[Id, list[str]] = defaultdict(list)
    for path, text in sorted(files.items()):
        for one in ids_in(text):
            found[one].append(path)
    return dict(found)


def parse(page: str) -> list[Row]:
    """Call this to read the rows of the page, in the order they stand there."""
    rows = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and _ID.fullmatch(cells[1]):
            rows.append(Row(Id(cells[1]), cells[2], tuple(re.findall(r"`([^`]+)`", cells[3]))))
    return rows


def problems(page: str, files: Mapping[str, str]) -> list[str]:
    """Call this to list what keeps page and project from being equal; each line says what to do."""
    rows, named = parse(page), naming(files)
    if not rows or not files:
        return ["nothing to look at: no rows, or no files"]
    ids = {row.id for row in rows}
    return [
        *_shortened({**files, PAGE.as_posix(): page}),
        *(
            f"{one} has no row in {PAGE}; {paths[0]} names it"
            for one, paths in named.items()
            if one not in ids
        ),
        *_wrong_rows(rows, named),
        *_left_over(page, rows),
        *(
            f"{each} does not stand where `{COMMAND}` puts it"
            for each, other in zip(rows, sorted(rows, key=lambda row: place(row.id)), strict=True)
            if each.id != other.id
        ),
    ]


def _shortened(files: Mapping[str, str]) -> Iterator[str]:
    for path, text in files.items():
        for found in _SHORTENED.finditer(text):
            family = found[0].partition("-")[0]
            if family not in FOREIGN:
                yield f"{path}: write each id of {found[0]!r} in full"


def _wrong_rows(rows: Sequence[Row], named: Mapping[Id, Sequence[str]]) -> Iterator[str]:
    ids = {row.id for row in rows}
    for one, count in Counter(row.id for row in rows).items():
        if count > 1:
            yield f"{one} has {count} rows; run `{COMMAND}`, which drops equal ones"
    for row in rows:
        if row.id not in named:
            yield f"{row.id} is named nowhere: remove its row, or name it where it is held"
        if row.tests != tuple(filter(is_proof, named.get(row.id, ()))):
            yield f"the tests of {row.id} have changed; run `{COMMAND}`"
        if not row.sentence.endswith("."):
            yield f"{row.id} has no sentence"
        for other in sorted(ids_in(row.sentence) - ids):
            yield f"{row.id} points to {other}, which has no row"


def _left_over(page: str, rows: Sequence[Row]) -> Iterator[str]:
    """A line that looks like a row and was not read as one, or that stands in another's part."""
    family = ""
    read = {(row.id, row.sentence) for row in rows}
    for line in page.splitlines():
        if line.startswith("## "):
            family = line.split()[1].rstrip(":")
        elif found := _ID.match(line.removeprefix("| ")):
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) != 5 or (Id(found[0]), cells[2]) not in read:
                yield f"not a row of three cells: {line[:60]}"
            elif found[1] != family:
                yield f"{found[0]} stands in the part {family}"


def rewritten(page: str, files: Mapping[str, str]) -> str:
    """Call this for the page with its tests column written anew, sorted, and without doubles."""
    named = naming(files)
    lines: list[str] = []
    part: dict[tuple[Id, str], Row] = {}
    for line in [*page.splitlines(), ""]:
        if rows := parse(line):
            tests = tuple(filter(is_proof, named.get(rows[0].id, ())))
            part[rows[0].id, rows[0].sentence] = replace(rows[0], tests=tests)
            continue
        lines.extend(str(row) for row in sorted(part.values(), key=lambda row: place(row.id)))
        part = {}
        lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"


# What stands in the column of figures of a row that nothing proves, or that nobody has measured.
OPEN, HELD = "open", "held"


def reliability(page: str, table: str) -> str:
    """Call this with both pages for that of reliability, its figures kept, its rest written anew.

    A figure without a test is none: it is dropped.
    """
    head, _, _ = table.partition("| id |")
    figures = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and _ID.fullmatch(cells[1]):
            figures[Id(cells[1])] = cells[2]
    lines = ["| id | last figure | tests |", "|---|---|---|"]
    for row in parse(page):
        if row.id.startswith("REL-"):
            kept = figures.get(row.id, HELD)
            figure = (HELD if kept == OPEN else kept) if row.tests else OPEN
            tests = ", ".join(f"`{path}`" for path in row.tests) or NO_TEST
            lines.append(f"| {row.id} | {figure} | {tests} |")
    return head + "\n".join(lines) + "\n"


def main() -> int:
    """Call this to write the tests column; tells what only a person can mend."""
    page, files = ROOT / PAGE, read_files(ROOT)
    page.write_text(rewritten(page.read_text(), files))
    table = ROOT / RELIABILITY
    table.write_text(reliability(page.read_text(), table.read_text()))
    left = problems(page.read_text(), files)
    print(*left, sep="\n", end="\n" if left else "")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
