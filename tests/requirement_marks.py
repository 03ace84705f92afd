"""Marks each test with the requirements it names, so that those of one requirement can be run.

    .venv/bin/python -m pytest --requirement SITE-143

runs the tests that hold it, wherever they are. What stands in a test, or in the comment right above
it, is that test's; what stands elsewhere in a file (in its docstring, in a helper, in the head of a
shared suite) is every test's of the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.docs.requirements import ids_in

MARK = "requirement"
OPTION = "--requirement"


def marks_of(text: str) -> tuple[frozenset[str], Mapping[str, frozenset[str]]]:
    """Call this with a file for what it names outside of its tests, and what each test names."""
    lines = text.splitlines()
    outside, named = set(range(len(lines))), dict[str, frozenset[str]]()
    for node in _functions(ast.parse(text).body):
        if node.name.startswith("test_"):
            first = min(one.lineno for one in (node, *node.decorator_list)) - 1
            while first and lines[first - 1].lstrip().startswith("#"):
                first -= 1
            own = range(first, node.end_lineno or first)
            outside.difference_update(own)
            ids = ids_in("\n".join(lines[first : own.stop]))
            named[node.name] = named.get(node.name, frozenset()) | ids
    return frozenset(ids_in("\n".join(lines[line] for line in sorted(outside)))), named


def _functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those that pytest may collect: of a module and of its classes, none inside another."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
        elif isinstance(statement, ast.ClassDef | ast.If):
            yield from _functions(statement.body)


@cache
def _marks_of_file(path: Path) -> tuple[frozenset[str], Mapping[str, frozenset[str]]]:
    return marks_of(path.read_text(encoding="utf-8"))


def ids_of(item: pytest.Function) -> frozenset[str]:
    """Call this for the requirements that a test holds."""
    # A shared suite's tests stand in its file, and are run by whoever derives from it.
    outside, named = _marks_of_file(Path(item.function.__code__.co_filename))
    ids = outside | named.get(item.originalname, frozenset())
    return (
        ids
        if item.path == Path(item.function.__code__.co_filename)
        else (ids | _marks_of_file(item.path)[0])
    )


def carry(item: pytest.Item) -> frozenset[str]:
    """Call this before a test runs, for its ids: from now on it carries them as a marker."""
    ids = ids_of(item) if isinstance(item, pytest.Function) else frozenset[str]()
    if ids and item.get_closest_marker(MARK) is None:
        item.add_marker(pytest.mark.requirement(*sorted(ids)))
    return ids


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Call this when tests are collected: leaves those that were not asked for."""
    asked = set(config.getoption(OPTION))
    if not asked and MARK not in config.getoption("markexpr"):
        return  # Reading every file takes a second in each process of a run.
    chosen = [item for item in items if carry(item) & asked or not asked]
    if asked and not chosen:
        raise pytest.UsageError(f"no test names {', '.join(sorted(asked))}")
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[one for one in items if one not in set(chosen)])
        items[:] = chosen
