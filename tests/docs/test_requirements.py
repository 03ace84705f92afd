"""Each id that code, tests or documents name has its row in the page, with its tests."""

from __future__ import annotations

import pytest

from tests.docs import requirements
from tests.docs.requirements import COMMAND, PAGE, ROOT, parse, problems, rewritten

FILES = {
    "web/doing.py": '"""Restarts (SUP-30)."""',
    "tests/test_x.py": "def test_x():\n    # SUP-30, WEB-1\n",
    "storage/testing/suite.py": "    # SUP-30\n",
    "tests/table.py": "# SUP-30: not a test\n",
    "web/api.py": "# WEB-2, SHA-256\n",
}
ROWS = """\
## SUP: who restarts whom

| id | what must hold | tests |
|---|---|---|
| SUP-30 | A permanent child is restarted. | `storage/testing/suite.py`, `tests/test_x.py` |

## WEB: clients

| id | what must hold | tests |
|---|---|---|
| WEB-1 | Errors are JSON, see SUP-30. | `tests/test_x.py` |
| WEB-2 | Bodies are short. | no test yet |
"""


def test_the_page_and_the_project_name_the_same() -> None:
    found = problems((ROOT / PAGE).read_text(), requirements.read_files(ROOT))
    assert found == [], f"mend it by hand where a row is missing, else run `{COMMAND}`"


def test_the_page_is_as_the_command_writes_it() -> None:
    page = (ROOT / PAGE).read_text()
    assert rewritten(page, requirements.read_files(ROOT)) == page, f"run `{COMMAND}`"


def test_equal_ones_have_no_problems() -> None:
    assert len(parse(ROWS)) == 3
    assert problems(ROWS, FILES) == []
    assert rewritten(ROWS, FILES) == ROWS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# WEB-3", "WEB-3 has no row"),
        ("# ABC-1", "ABC-1 has no row"),
        ("# SUP-30 to SUP-34", "write each id of 'SUP-30 to SUP-34' in full"),
        ("# WEB-1 to 2", "write each id of 'WEB-1 to 2' in full"),
        ("# WEB-1-2", "write each id of 'WEB-1-2' in full"),
        ("# (WEB-1, 2)", "write each id of 'WEB-1, 2' in full"),
        ("# WEB-1, 2", "write each id of 'WEB-1, 2' in full"),
        ("# WEB-1 and 2.", "write each id of 'WEB-1 and 2' in full"),
        ("# WEB-1/2: both", "write each id of 'WEB-1/2' in full"),
        ("# WEB-1 ff.", "write each id of 'WEB-1 ff' in full"),
    ],
)
def test_a_planted_name_is_found(text: str, told: str) -> None:
    found = problems(ROWS, {**FILES, "web/planted.py": text})
    assert any(told in line and ("web/planted.py" in line) for line in found), found


@pytest.mark.parametrize(
    "text",
    ["# WEB-1, 20 times a second", "# SUP-30, step 2", "# WEB-2: 414", "SHA-256, 2", "UTF-8"],
)
def test_prose_beside_an_id_is_none(text: str) -> None:
    assert problems(ROWS, {**FILES, "web/planted.py": text}) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("| WEB-2 |", "| WEB-3 |", "WEB-3 is named nowhere"),
        ("no test yet", "`tests/web/test_gone.py`", "the tests of WEB-2 have changed"),
        ("`storage/testing/suite.py`, ", "", "the tests of SUP-30 have changed"),
        ("see SUP-30", "see SUP-31", "WEB-1 points to SUP-31, which has no row"),
        ("Bodies are short.", "", "WEB-2 has no sentence"),
        ("Bodies are short.", "Short | long.", "not a row of three cells"),
        ("## WEB: clients", "## LAB: clients", "WEB-1 stands in the part LAB"),
        ("| WEB-2 |", "| WEB-1 | Errors. | no test yet |\n| WEB-2 |", "WEB-1 has 2 rows"),
    ],
)
def test_a_planted_row_is_found(old: str, new: str, told: str) -> None:
    assert old in ROWS
    found = problems(ROWS.replace(old, new, 1), FILES)
    assert any(told in line for line in found), found


def test_nothing_to_look_at_is_a_problem() -> None:
    assert problems("", FILES) == problems(ROWS, {}) != []


def test_the_command_mends_what_a_merge_leaves() -> None:
    """Rows out of order, twice, and with the tests of before."""
    *head, one, two = ROWS.splitlines()
    doubled = "\n".join([*head, two.replace("no test yet", "`tests/gone.py`"), one, two, one])
    assert problems(doubled, FILES) != []
    assert rewritten(doubled, FILES) == ROWS
