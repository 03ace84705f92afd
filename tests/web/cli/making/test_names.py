"""Which names `greenroom new` refuses; and what a name becomes."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from actors.persistence import EVENTS
from supervision import Supervisor
from web.app import SitePlan
from web.cli.making import filling
from web.cli.making.naming import (
    EVENTS_TAKEN,
    NAME_CHARS_MAX,
    OURS,
    module_name,
    problem_of,
    taken_by,
)
from web.cli.making.words import Part, Recipe, class_name

PARTS = ("actor", "aggregate", "projection", "saga")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no Python identifier"),
        ("two words", "no Python identifier"),
        ("a-b", "no Python identifier"),
        ("1st", "no Python identifier"),
        ("../up", "no Python identifier"),
        ("a\nb", "no Python identifier"),
        ("class", "keyword"),
        ("None", "keyword"),
        ("none", "'None', which its class would be called, is a keyword"),
        ("größe", "more than letters"),
        ("_own", "more than letters"),
        ("own_", "more than letters"),
        ("two__words", "more than letters"),
        ("x" * (NAME_CHARS_MAX + 1), "longer than"),
    ],
)
def test_what_is_no_name_is_refused_for_everything(name: str, words: str) -> None:
    # CLI-1
    for kind in ("app", *PARTS):
        assert words in problem_of(kind, name)


@pytest.mark.parametrize("name", [*sorted(OURS - {"greenroom"}), "Web", "json", "trio", "Quart"])
def test_what_would_shadow_a_module_is_refused_for_a_program_only(name: str) -> None:
    # CLI-4
    assert "shadow" in problem_of("app", name)
    assert all(problem_of(kind, name) == "" for kind in PARTS)


def test_no_module_of_the_standard_library_is_left_out() -> None:
    # CLI-4
    fitting = [one for one in sys.stdlib_module_names if problem_of("saga", one) == ""]
    assert len(fitting) > 150
    assert all(problem_of("app", one) for one in fitting)


@pytest.mark.parametrize(
    ("typed", "module", "cls"),
    [
        ("ticket", "ticket", "Ticket"),
        ("ticket_list", "ticket_list", "TicketList"),
        ("TicketList", "ticket_list", "TicketList"),
        ("URL", "url", "Url"),
        ("x2", "x2", "X2"),
    ],
)
def test_a_part_has_a_module_and_a_class(typed: str, module: str, cls: str) -> None:
    # CLI-1
    assert (module_name(typed), class_name(module)) == (module, cls)


def _needed(name: str, found: set[str]) -> Iterator[str]:
    """What pip and Python call a distribution, and all that it needs."""
    name = re.sub(r"[-_.]+", "_", name).lower()
    if name in found:
        return
    found.add(name)
    yield name
    try:
        told = distribution(name)
    except PackageNotFoundError:
        return  # for another Python or system
    for file in told.files or ():
        top = file.parts[0].removesuffix(".py").partition(".")[0]
        if (len(file.parts) > 1 or file.suffix == ".py") and top.isidentifier():
            yield top
    for line in told.requires or ():
        if "extra ==" not in line:
            yield from _needed(re.split(r"[^\w.-]", line)[0], found)


def test_nothing_that_a_program_needs_can_be_shadowed() -> None:
    # CLI-4: what is imported at the desk of a program, from us down to its test runner
    recipe = Recipe("demo", frozenset({"kafka"}), requirement="greenroom")
    made = tomllib.loads(filling.fill(recipe)["pyproject.toml"])["project"]
    ours = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    lines = [*ours["dependencies"], *ours["optional-dependencies"]["kafka"]]
    lines += [*made["optional-dependencies"]["dev"], "pip", "setuptools"]
    found: set[str] = set()
    names = {one for line in lines for one in _needed(re.split(r"[^\w.-]", line)[0], found)}
    assert {"trio", "jinja2", "mypy", "pluggy", "markdown_it", "confluent_kafka"} <= names
    free = {one for one in names if not one.startswith("_") and problem_of("app", one) == ""}
    assert free == set()


OURS = frozenset({"actors", "storage", "supervision", "web"})


def test_no_part_has_an_event_that_is_called_as_one_of_ours() -> None:
    # CLI-1: a program has loaded what its plan needs
    assert SitePlan.__module__ in sys.modules
    ends = {
        "aggregate": ("Opened", "Renamed", "Closed"),
        "saga": ("Reserved", "Refused", "Confirmed", "TakenBack"),
    }
    ours = {
        (kind, module_name(name.removesuffix(end)))
        for name, found in EVENTS.__dict__["_classes"].items()
        # Not those of tests and examples that this process has loaded as well.
        if found.__module__.partition(".")[0] in OURS
        for kind, some in ends.items()
        for end in some
        if name.endswith(end)
    }
    assert ours == EVENTS_TAKEN
    for kind, name in EVENTS_TAKEN:
        assert "event" in problem_of(kind, name)


RECIPE = Recipe("demo", parts=(Part("aggregate", "note"), Part("saga", "errand")))
FILLED = filling.fill(RECIPE)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("actor", "stop", "every supervisor has 'stop'"),
        ("actor", "relay", "'relay' would be two things in demo/tree.py"),
        ("actor", "supervisor", "'Supervisor' would be two things in demo/tree.py"),
        ("actor", "str", "'str' would be two things in demo/tree.py"),
        ("actor", "note_actor", "'NoteActor' would be two things in demo/tree.py"),
        ("aggregate", "errand_work", "'ErrandWorkActor' would be two things in demo/tree.py"),
        ("aggregate", "state", "'State' would be two things in demo/state/deciding.py"),
        ("projection", "note_closed", "'NoteClosed' would be two things in demo/note_closed.py"),
        ("saga", "status", "'Status' would be two things in tests/status/test_status_doing.py"),
    ],
)
def test_a_part_that_would_hide_what_a_file_has_is_refused(kind: str, name: str, said: str) -> None:
    # CLI-1
    def told(name: str) -> str:
        after = filling.with_part(RECIPE, Part(kind, name, "note"), FILLED)
        return taken_by(name, frozenset(dir(Supervisor)), FILLED, after)

    assert said in told(name)
    assert told(f"{name}_more") == ""
