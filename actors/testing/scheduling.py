"""trio's private names, all of them, and how its scheduler is made to follow a seed.

trio runs the tasks of a round in random order, so that nobody relies on one. For a repeatable run
that order has to come from the seed; trio has no public way to say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import trio
from trio._core import _run


class SimulationUnavailable(RuntimeError):
    """This trio lacks the names a simulation needs; nothing else of the package is affected."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"trio {trio.__version__} has no {', '.join(missing)} in trio._core._run; simulations "
            "cannot be repeated with it. Use the version in requirements/dev.lock."
        )
        self.missing, self.version = missing, trio.__version__


def check_names(module: object = _run) -> None:
    """Call this to see whether the names are there; raises SimulationUnavailable."""
    names = ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING")
    missing = [name for name in names if not hasattr(module, name)]
    if missing:
        raise SimulationUnavailable(missing)


check_names()


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Call this around `trio.run`: within a round, tasks run in an order that the seed decides."""
    names = vars(_run)
    before = names["_r"], names["_ALLOW_DETERMINISTIC_SCHEDULING"]
    names["_r"], names["_ALLOW_DETERMINISTIC_SCHEDULING"] = Random(seed), True
    try:
        yield
    finally:
        names["_r"], names["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
