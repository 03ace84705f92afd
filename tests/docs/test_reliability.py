"""The page of reliability lists the rows of its part, each with its tests and last figure."""

from __future__ import annotations

from tests.docs.requirements import OPEN, PAGE, RELIABILITY, ROOT, reliability


def test_the_page_of_reliability_is_as_the_command_writes_it() -> None:  # REL-4
    table = (ROOT / RELIABILITY).read_text()
    assert reliability((ROOT / PAGE).read_text(), table) == table


def test_figures_are_kept_where_there_is_a_test() -> None:  # REL-4
    first, second, other = (f"{family}-{1 + n}" for n, family in enumerate(("REL", "REL", "SUP")))
    rows = [f"| {first} | a. | `tests/test_a.py` |", f"| {second} | b. | no test yet |"]
    page = "\n".join([*rows, f"| {other} | c. | |"])
    head = "words\n\n| id | last figure | tests |\n|---|---|---|\n"
    table = f"{head}| {first} | 3 | |\n| {second} | 4 | |\n"
    written = reliability(page, table)
    assert written.startswith("words\n\n| id |")
    assert f"| {first} | 3 | `tests/test_a.py` |" in written
    assert f"| {second} | {OPEN} | no test yet |" in written
    assert other not in written
