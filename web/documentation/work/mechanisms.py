"""What the mechanism pages say: files in `content/`, read and checked when the site starts.

Rule: a file that breaks a rule stops the start, and its name and field are told (SITE-14).
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from web.routing import paths

T = TypeVar("T")

CONTENT = Path(__file__).with_name("content")
# In the order of the list. Each has one file, and the panel that its page embeds is known by it.
CHAT, COMMANDS, OPERATIONS = "chat-realtime", "command-sse", "operational-visibility"
SLUGS = (CHAT, COMMANDS, OPERATIONS)
# SITE-10: fewer explain nothing, more are a manual.
STEPS_MIN, STEPS_MAX = 4, 8
# What a drawing of this width can hold, with words that can be read.
LANES_MIN, LANES_MAX, ARROWS_MAX = 3, 5, 10

_REQUIREMENT = re.compile(r"[A-Z]{2,5}-[0-9]{1,3}")
_TEXTS = ("eyebrow", "title", "summary", "diagram")
_FIELDS = {*_TEXTS, "lanes", "arrows", "steps", "guarantees", "links"}


class BadContent(Exception):
    """Raised at start when a file about a mechanism breaks a rule; nothing was started."""

    def __init__(self, file: str, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field} {problem}; nothing was started")
        self.file, self.field, self.problem = file, field, problem


@dataclass(frozen=True, slots=True)
class Arrow:
    """One message of the drawing, from lane to lane."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the mechanism."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What holds, and the requirements that say so."""

    text: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A way on."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One mechanism. `diagram` says in words what the drawing of lanes and arrows shows."""

    slug: str
    eyebrow: str
    title: str
    summary: str
    diagram: str
    lanes: tuple[str, ...]
    arrows: tuple[Arrow, ...]
    steps: tuple[Step, ...]
    guarantees: tuple[Guarantee, ...]
    links: tuple[Link, ...]


def load_mechanisms(folder: Path = CONTENT) -> tuple[Mechanism, ...]:
    """Call this at start to read all mechanisms, in the order of the list; blocking.

    Raises `BadContent`, and `OSError` for a file that cannot be read.
    """
    found = {file.stem: file for file in sorted(folder.glob("*.toml"))}
    for slug, file in found.items():
        if slug not in SLUGS:
            raise BadContent(file.name, "slug", "is not one that there is a page for")
    for slug in SLUGS:
        if slug not in found:
            raise BadContent(f"{slug}.toml", "file", "is missing")
    return tuple(_read(slug, found[slug]) for slug in SLUGS)


def _read(slug: str, file: Path) -> Mechanism:
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadContent(file.name, "file", f"cannot be read ({error})") from error
    reader = _Reader(file.name, given)
    for name in given:
        if name not in _FIELDS:
            raise BadContent(file.name, name, "is no field of a mechanism")
    lanes = reader.texts("lanes", LANES_MIN, LANES_MAX)
    eyebrow, title, summary, diagram = (reader.text(name) for name in _TEXTS)
    return Mechanism(
        slug,
        eyebrow,
        title,
        summary,
        diagram,
        lanes,
        reader.many("arrows", 1, ARROWS_MAX, lambda one: _arrow(one, len(lanes))),
        reader.many(
            "steps", STEPS_MIN, STEPS_MAX, lambda one: Step(one.text("title"), one.text("text"))
        ),
        reader.many("guarantees", 1, STEPS_MAX, _guarantee),
        reader.many("links", 1, STEPS_MAX, _link),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes fields out of a table, and tells which one is wrong."""

    file: str
    given: Mapping[str, object]
    where: str = ""

    def bad(self, field: str, problem: str) -> BadContent:
        return BadContent(self.file, self.where + field, problem)

    def text(self, field: str) -> str:
        value = self.given.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.bad(field, "must be a text that is not blank")
        return value.strip()

    def number(self, field: str, below: int) -> int:
        value = self.given.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < below:
            raise self.bad(field, f"must be a number from 0 to {below - 1}")
        return value

    def _list(self, field: str, least: int, most: int) -> list[object]:
        value = self.given.get(field)
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self.bad(field, f"must be a list of {least} to {most}")
        return value

    def texts(self, field: str, least: int, most: int) -> tuple[str, ...]:
        found = self._list(field, least, most)
        texts = [one.strip() for one in found if isinstance(one, str) and one.strip()]
        if len(texts) != len(found):
            raise self.bad(field, "must be texts that are not blank")
        return tuple(texts)

    def many(
        self, field: str, least: int, most: int, make: "Callable[[_Reader], T]"
    ) -> tuple[T, ...]:
        made = []
        for number, one in enumerate(self._list(field, least, most), 1):
            if not isinstance(one, dict):
                raise self.bad(f"{field}[{number}]", "must be a table")
            made.append(make(_Reader(self.file, one, f"{self.where}{field}[{number}].")))
        return tuple(made)


def _arrow(one: _Reader, lanes: int) -> Arrow:
    arrow = Arrow(one.number("from", lanes), one.number("to", lanes), one.text("label"))
    if arrow.start == arrow.end:
        raise one.bad("to", "must be another lane than from")
    return arrow


def _step(one: _Reader) -> Step:
    return Step(one.text("title"), one.text("text"))


def _guarantee(one: _Reader) -> Guarantee:
    ids = one.texts("ids", 1, STEPS_MAX)
    if not all(_REQUIREMENT.fullmatch(name) for name in ids):
        raise one.bad("ids", "must be ids of requirements")
    return Guarantee(one.text("text"), ids)


def _link(one: _Reader) -> Link:
    path = one.text("path")
    place = path.partition("#")[0].partition("?")[0]
    if place not in _routes() and not place.startswith(f"{paths.DOCS}/"):
        raise one.bad("path", "must be a path of this site")
    return Link(path, one.text("text"))


def _routes() -> frozenset[str]:
    named = (value for name, value in vars(paths).items() if name.isupper())
    return frozenset(value for value in named if isinstance(value, str) and "<" not in value)
