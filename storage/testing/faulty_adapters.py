"""Runs a conformance suite by hand, against an adapter that is known to be wrong."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pytest

A = TypeVar("A")


async def failing_cases(suite: type, make: Callable[[], A]) -> set[str]:
    """Call this to get the names of the suite's tests that fail on a fresh `make()` each.

    An empty set for a faulty adapter means that the suite proves nothing about the fault.
    """
    failing = set()
    for name in dir(suite):
        if not name.startswith("test_"):
            continue
        case = getattr(suite(), name)
        for given in _parametrized(case):
            try:
                await case(make(), **given)
            except Exception:  # noqa: BLE001  (any way to fail counts: that is the question asked)
                failing.add(name)
            except (pytest.fail.Exception, BaseExceptionGroup):
                failing.add(name)  # what pytest.raises and nurseries raise is no Exception
    return failing


def _parametrized(case: object) -> Iterator[dict[str, object]]:
    """What pytest would give a case beside the adapter: each combination of its parameters."""
    marks = [mark for mark in getattr(case, "pytestmark", ()) if mark.name == "parametrize"]
    choices = []
    for mark in marks:
        names, rows = mark.args
        named = [one.strip() for one in names.split(",")] if isinstance(names, str) else [*names]
        choices.append([dict(zip(named, _values(row, len(named)), strict=True)) for row in rows])
    for combination in itertools.product(*choices):
        yield {name: value for one in combination for name, value in one.items()}


_PARAM = type(pytest.param())


def _values(row: object, count: int) -> Sequence[object]:
    if isinstance(row, _PARAM):
        return row.values
    return row if count > 1 and isinstance(row, Sequence) else (row,)
