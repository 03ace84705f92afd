"""A plugin for pytest, which an installed greenroom brings: a case that expects nothing fails.

`given(...).when(...)` without its `then`, a `ReducerTest` that was never run. In a clone it is
`pytest_plugins = ["actors.unfinished"]` in a conftest file; both together are one.

Rule 1: it imports nothing. Every run of pytest loads it, also one that has none of our cases: it
looks only where `actors.testing` was imported by somebody else.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Final

import pytest

# Where begun cases are kept.
_KEPT: Final = "actors.testing.cases.telling"


def pytest_collection_finish() -> None:
    """Called when all tests were found: modules have been imported by then."""
    if found := _taken():
        raise pytest.UsageError("cases that expect nothing:\n" + "\n".join(found))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Called around each test."""
    _taken()
    result = yield
    if found := _taken():
        pytest.fail("cases that expect nothing:\n" + "\n".join(found), pytrace=False)
    return result


def _taken() -> list[str]:
    telling = sys.modules.get(_KEPT)
    if telling is None:
        return []
    found: list[str] = telling.take_unfinished()
    return found
