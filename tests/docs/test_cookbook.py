"""The cookbook has every pattern that a reader looks for; `test_pages.py` runs its programs."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, blocks

# The pattern, and how its heading begins.
PATTERNS = {
    "messages": (
        "Request and response", "Fire and forget", "Fan-out and gather", "Passivation",
        "Scheduled job",
    ),
    "effects": (
        "Debounce", "Streaming effect", "First milestone", "Several at once", "A reminder",
        "Test with virtual time",
    ),
    "failure": (
        "Domain errors", "Retry", "Breaker with a fallback", "Rate limit", "Saga compensation",
    ),
    "events": (
        "Idempotency by version", "Idempotency by key", "Idempotency by inbox", "Event workflow",
        "Batch import", "Upcasting", "Snapshot tuning", "Private data, and erasure",
        "Several tenants",
    ),
    "reading": ("Projection update", "Read your own writes", "Unique name", "Live notification"),
    "edges": ("File upload", "Webhooks in", "Webhooks out"),
}  # fmt: skip
FOLDER = ROOT / "docs" / "cookbook"
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def test_each_pattern_has_its_page_and_no_page_is_forgotten() -> None:  # DOC-3
    assert sum(len(names) for names in PATTERNS.values()) >= 30
    assert {page.stem for page in FOLDER.glob("*.md")} == set(PATTERNS)


@pytest.mark.parametrize("page", PATTERNS)
def test_a_pattern_says_when_it_fits_and_shows_a_program(page: str) -> None:  # DOC-3
    heading, *chapters = re.split(r"^(?=## )", (FOLDER / f"{page}.md").read_text(), flags=re.M)
    assert "For who" in heading
    found = {_HEADING.findall(one)[0]: one for one in chapters}
    for pattern in PATTERNS[page]:
        (chapter,) = [text for title, text in found.items() if title.startswith(pattern)]
        assert "\n\nWhen " in chapter, f"{page}: {pattern} does not say when it fits"
        assert any(block.runs for block in blocks(chapter)), f"{page}: {pattern} shows nothing"
