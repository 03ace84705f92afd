"""The settings page lists what the program reads, no more and no less."""

import re
from pathlib import Path

from web.settings import VARIABLES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_the_page_and_the_program_agree() -> None:  # SITE-189
    rows = re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(VARIABLES)
