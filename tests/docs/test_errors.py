"""The page of errors says what the source says, about every error that a front page gives out."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.docs import errors
from tests.docs.errors import COMMAND, PAGE, PARTS, ROOT


@cache
def whole() -> str:
    return errors.written()


def test_the_page_is_what_the_source_says() -> None:  # DOC-1
    assert (ROOT / PAGE).read_text() == whole(), f"write it anew: {COMMAND}"
    assert all(f"From `{package}`." in whole() for package in PARTS)


def test_every_error_is_there_and_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors.problems() == []
    # A front page that no part has is told, error by error.
    monkeypatch.delitem(PARTS, "actors.sagas")
    told = errors.problems()
    assert any(one.startswith("actors.sagas gives out UnknownSaga,") for one in told)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('super().__init__(f"{a}{b} is {c!r}; nothing was done")', "... is ...; nothing was done"),
        ('super().__init__(path, kind, "gone." + f" See {x}")', "gone. See ..."),
        ("super().__init__(text)", ""),
        ("self.x = 1", ""),
    ],
)
def test_a_message_is_shown_as_one_sees_it(source: str, said: str) -> None:
    node = ast.parse(f"class E(Exception):\n    def __init__(self):\n        {source}\n").body[0]
    assert isinstance(node, ast.ClassDef)
    assert errors._message(node) == said


def test_a_code_and_whether_it_passes_stand_beside_the_name() -> None:
    rows = {line.partition("`")[2].partition("`")[0]: line for line in whole().splitlines()}
    assert rows["StoreUnavailable"].startswith(
        "| `StoreUnavailable`, code `store_unavailable`, *again* | "
    )
    assert "*again*" not in rows["ConcurrencyConflict"].partition(" | ")[0]
    # By what it derives from.
    assert "*again*" in rows["BusUnavailable"].partition(" | ")[0]
