"""The pages beside others are honest: each line names what shows it, or says that nothing does."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT
from tests.docs.requirements import parse

PAGE = (ROOT / "docs" / "explain" / "compared.md").read_text()
SAGAS = (ROOT / "docs" / "explain" / "sagas.md").read_text().split("\n## Beside ")[1]
PEERS = ("Phoenix", "Centrifugo", "Marten", "Wolverine", "Akka", "Orleans", "Keycloak", "Ory")
_ROW = re.compile(r"^\| (?!what \||---)([^|]+) \| ([^|]+) \| ([^|]+) \|(.*) \|$", re.MULTILINE)
ROWS = [*_ROW.findall(PAGE), *_ROW.findall(SAGAS)]
# Where the link leads to on that page is looked at with all links.
_ID = re.compile(r"\[([A-Z]+-\d+)\]\(\.\./reference/requirements\.md#[a-z0-9-]+\)")
KNOWN = {row.id for row in parse((ROOT / "docs" / "reference" / "requirements.md").read_text())}


def test_everybody_is_there() -> None:
    headings = "\n".join(re.findall(r"^## .+$", PAGE + SAGAS, re.MULTILINE))
    assert all(peer in headings for peer in PEERS)
    assert SAGAS.startswith("Temporal and DBOS")
    assert len(ROWS) >= 50


@pytest.mark.parametrize(("what", "here", "shown", "others"), ROWS, ids=[row[0] for row in ROWS])
def test_a_line_names_what_shows_it(what: str, here: str, shown: str, others: str) -> None:
    ids = _ID.findall(shown)
    benches = re.findall(r"`make bench ONLY=(\w+)`", shown)
    tests = re.findall(r"`(test_\w+)`", shown)
    assert ids or benches or tests or shown in ("no", "the same"), shown
    assert KNOWN.issuperset(ids)
    for bench in benches:
        assert (ROOT / "tests" / "bench" / f"bench_{bench}.py").is_file(), bench
    # What is had is shown: nothing shows it only where it is not, or is no matter of a program.
    is_had = here.startswith("yes") and here != "yes"
    assert shown != "no" or not is_had, what
    assert others.strip()


def test_where_another_is_better_the_page_says_so() -> None:
    for chapter in PAGE.split("\n## ")[1:]:
        name = chapter.partition("\n")[0]
        assert len(re.findall(r"\*\*(?:better|simpler)\*\*", chapter)) >= 3, name
