"""The pages about actors hold: their blocks run, and the page of guarantees is one page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]
FIRST = ROOT / "docs" / "start" / "first-actor.md"
GUARANTEES = ROOT / "docs" / "explain" / "guarantees.md"


def blocks(page: Path) -> list[str]:
    """Give the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(FIRST), ids=["actor", "supervisor", "time"])
def test_every_block_of_the_first_steps_is_a_program_that_runs(block: str) -> None:
    # ACT-55, DOC-1
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr


def test_the_guarantees_fit_on_one_page() -> None:
    # ACT-126
    text = GUARANTEES.read_text()
    # A hundred lines, headings and blank ones too, are what is still read in one go.
    assert len(text.splitlines()) <= 100
    for word in ("At most once", "order", "kept", "Three things nobody"):
        assert word in text


def test_links_lead_somewhere() -> None:
    # DOC-1
    for page in (FIRST, GUARANTEES):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), target
