"""What changed: many small files become one page, by version and by what one has to do."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT
from web.documentation.news import NewsMisnamed, what_changed
from web.site.pages import program_version


def test_versions_come_newest_first_and_what_is_to_be_done_before_what_is_new() -> None:  # DOC-8
    page = what_changed(
        {
            "0.9.0-a.added.md": "One.\n",
            "0.10.0-b.added.md": "Two,\nin two lines.\n",
            "0.10.0-c.removed.md": "Three.",
        }
    )
    marks = (
        "## 0.10.0",
        "### Removed",
        "- Three.",
        "### New",
        "- Two,\n  in two lines.",
        "## 0.9.0",
    )
    assert [page.index(mark) for mark in marks] == sorted(page.index(mark) for mark in marks)


@pytest.mark.parametrize(
    "name", ["x.md", "0.1-x.added.md", "0.1.0-x.invented.md", "0.1.0-X.added.md"]
)
def test_a_name_that_says_no_version_or_kind_is_refused(name: str) -> None:
    with pytest.raises(NewsMisnamed, match=re.escape(name)):
        what_changed({name: "x"})


def test_our_news_are_paragraphs_of_versions_that_are_there() -> None:  # DOC-8
    files = {path.name: path.read_text() for path in (ROOT / "docs" / "news").iterdir()}
    page = what_changed(files)
    versions = re.findall(r"^## (\S+)$", page, re.MULTILINE)
    assert program_version().split(",")[0] == versions[0]
    for name, text in files.items():
        assert "\n\n" not in text.strip(), name
        assert not text.startswith(("#", "-")), name
