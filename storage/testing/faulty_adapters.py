"""Runs a conformance suite by hand, against an adapter that is known to be wrong."""

from collections.abc import Callable
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
        try:
            await case(make())
        except Exception:  # noqa: BLE001  (any way to fail counts: that is the question asked)
            failing.add(name)
        except (pytest.fail.Exception, BaseExceptionGroup):
            failing.add(name)  # what pytest.raises and nurseries raise is no Exception
    return failing
