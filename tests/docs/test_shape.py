"""Each page says at its end what to read next, and is no longer than a sitting."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

LINES_MAX = 400
# What is looked up and never read as a whole: written from the source, or one table.
LOOKED_UP = {
    "reference/command_line.md",
    "reference/metrics.md",
    "reference/performance.md",
    "reference/reliability.md",
    "reference/requirements.md",
}
PAGES = sorted(
    path.relative_to(ROOT / "docs").as_posix()
    for folder in ("start", "learn", "how_to", "cookbook", "explain", "runbooks", "reference")
    for path in (ROOT / "docs" / folder).glob("*.md")
)


def test_there_are_pages() -> None:
    assert len(PAGES) > 70
    assert set(PAGES) > LOOKED_UP


@pytest.mark.parametrize("page", sorted(set(PAGES) - LOOKED_UP))
def test_a_page_ends_with_what_is_next(page: str) -> None:  # DOC-2
    lines = (ROOT / "docs" / page).read_text().rstrip().splitlines()
    is_told = lines[-1].startswith("Next: [") or "## Where to go next" in lines[-12:]
    assert is_told, f"{page} ends with {lines[-1]!r}"
    assert len(lines) <= LINES_MAX, f"{page} has {len(lines)} lines; part of it is a page by itself"


@pytest.mark.parametrize("page", PAGES)
def test_a_row_of_a_table_has_a_cell_for_each_column(page: str) -> None:  # DOC-1
    # One too few, and what stands in it is read under the head of its neighbour.
    cells, is_code = 0, False
    text = (ROOT / "docs" / page).read_text()
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        is_code ^= line.startswith("```")
        if is_code or not line.startswith("|"):
            cells = 0
            continue
        there = len(re.findall(r"(?<!\\)\|", line))
        assert there == (cells or there), f"line {number}: {line}"
        cells = there
