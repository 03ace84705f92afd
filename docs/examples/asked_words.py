"""What clients look for in a read model, read from a query; for the routes of several examples."""

from __future__ import annotations

from collections.abc import Mapping

from werkzeug.datastructures import MultiDict

from actors.persistence.projections.searching import FILTER_BYTES_MAX, TEXT_CHARS_MAX
from web.api import validation
from web.server import FieldProblem


def question_of(asked: MultiDict[str, str], names: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Call this with a query: the words in `q`, and filters, which clients call by `names`.

    Raises the answer 422 for more than anybody would look for.
    """
    text = asked.get("q", "")
    filters = {path: asked[name] for name, path in names.items() if name in asked}
    problems = {}
    if len(text) > TEXT_CHARS_MAX or not is_storable(text):
        problems["q"] = f"is a text of at most {TEXT_CHARS_MAX} characters"
    for name, path in names.items():
        value = filters.get(path, "")
        if len(value.encode(errors="replace")) > FILTER_BYTES_MAX or not is_storable(value):
            problems[name] = f"is a text of at most {FILTER_BYTES_MAX} bytes"
    if problems:
        told = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise validation(told, [FieldProblem(*one) for one in problems.items()])
    return text, filters


def is_storable(text: str) -> bool:
    """Call this for whether any store has such a text: no NUL, and whole characters only."""
    return "\x00" not in text and not any("\ud800" <= one <= "\udfff" for one in text)
