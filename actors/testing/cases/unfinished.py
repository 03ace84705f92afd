"""A plugin for pytest: cases that were begun and expect nothing fail.

`pytest_plugins = ["actors.testing.cases.unfinished"]` in a conftest file.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from actors.testing.cases.telling import take_unfinished


def pytest_collection_finish() -> None:
    """Called when all tests were found: modules have been imported by then."""
    if found := take_unfinished():
        raise pytest.UsageError("cases that expect nothing:\n" + "\n".join(found))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Called around each test."""
    take_unfinished()
    result = yield
    if found := take_unfinished():
        pytest.fail("cases that expect nothing:\n" + "\n".join(found), pytrace=False)
    return result
