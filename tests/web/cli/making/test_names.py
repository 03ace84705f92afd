"""Which names `greenroom new` refuses; and what a name becomes."""

from __future__ import annotations

import sys

import pytest

from supervision import Supervisor
from web.cli.making.naming import (
    NAME_CHARS_MAX,
    OURS,
    module_name,
    problem_of,
    taken_by,
)
from web.cli.making.words import class_name

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


TREE = """
from supervision import (
    Supervisor,
    child_method,
)
from demo.note.doing import NoteActor, carry_out

class Tree(Supervisor):
    def relay(self) -> None: ...
"""


@pytest.mark.parametrize(
    "name", ["stop", "system", "supervisor", "child_method", "note_actor", "carry_out", "relay"]
)
def test_a_part_that_would_hide_what_the_tree_has_is_refused(name: str) -> None:
    # CLI-1
    assert taken_by(name, frozenset(dir(Supervisor)), TREE)
    assert taken_by(f"{name}_more", frozenset(dir(Supervisor)), TREE) == ""
