"""Which spans there are: those of OBS-3, in the code and on the page that tells of them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "how_to" / "observe.md"
# As the requirement lists them.
WANTED = {
    "http.request", "actor.handle", "reducer.reduce", "effect.<kind>", "store.append", "store.load",
    "store.batch", "outbox.send", "bus.publish", "bus.handle", "saga.step", "saga.undo",
    "projection.apply", "ws.command", "ws.event", "mail.send", "auth.<flow>",
}  # fmt: skip
OWN = {"dead.letter"}
# Where one is told, by its name or by one of two; and the names that have a word of their own.
TOLD = re.compile(r'\b(?:span|span_of|spanned|tell_past)\(\s*f?"([a-z]+\.[a-z]*)')
CHOSEN = re.compile(r'"(saga\.(?:step|undo))"')
NAMED = re.compile(r'^(?:HANDLED|DEAD|REQUEST): Final = "([a-z]+\.[a-z]+)"', re.MULTILINE)


def in_code() -> set[str]:
    """The names that something is recorded under; those of a family as their kind."""
    found = set[str]()
    for folder in ("actors", "web", "storage", "supervision"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            told = TOLD.findall(text)
            found.update(told, NAMED.findall(text))
            if "with span(name" in text:
                found.update(CHOSEN.findall(text))
    assert {"effect.", "auth.password"} <= found
    families = {"effect": "effect.<kind>", "auth": "auth.<flow>"}
    return {families.get(one.partition(".")[0], one) for one in found}


def on_page() -> set[str]:
    """The names in the first column of the page's table."""
    table = PAGE.read_text().partition("| span | of what |")[2].partition("\n\n")[0]
    first = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    return set(re.findall(r"`([^`]+)`", first))


def test_every_way_in_is_a_span_and_told_of() -> None:  # OBS-3
    found = set[str]()
    for path in (ROOT / "web" / "accounts").rglob("*.py"):
        found.update(re.findall(r'@spanned\("auth\.([a-z]+)"\)', path.read_text()))
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith("| `auth.<flow>`"))
    assert found == set(re.findall(r"[a-z]+", row.split("|")[2].partition(":")[2]))
    assert found == {"register", "password", "link", "passkey", "provider", "second"}


def test_the_spans_are_those_that_are_wanted_and_told_of() -> None:  # OBS-3
    assert in_code() == WANTED | OWN
    assert on_page() == WANTED | OWN
