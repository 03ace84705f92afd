"""What is measured, and how the times of several rounds become one figure: data, pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal

from storage.postgres import Database

# Does it once; what it takes is timed by who calls it.
Turn = Callable[[], Awaitable[None]]
Open = Callable[[Database | None], AbstractAsyncContextManager[Turn]]

_UNITS = {"us": 1e6, "ms": 1e3}
# More digits than these are noise on any machine.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured: `is_timed` says what one time is the time of.

    `pieces` are done in one turn; the time is that of each of them, or of all `together`.
    """

    name: str
    is_timed: str
    unit: Literal["us", "ms"]
    open: Open
    pieces: int = 1
    together: bool = False
    needs_database: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """The turns of one round, in seconds, and by how many the loop was late meanwhile."""

    took: Sequence[float]
    late: Sequence[float]


def figure_of(measure: Measure, rounds: Sequence[Round]) -> Mapping[str, object]:
    """Call this for the figure of some rounds: medians of what each round had.

    `least` and `most` are the medians of single rounds: how far they lie apart tells how steady
    the machine was.
    """
    scale = _UNITS[measure.unit] / (1 if measure.together else measure.pieces)
    medians = [statistics.median(one.took) * scale for one in rounds]
    rates = [measure.pieces * len(one.took) / sum(one.took) for one in rounds]
    late = [seconds for one in rounds for seconds in one.late]
    return {
        "name": measure.name,
        "is_timed": measure.is_timed,
        "unit": measure.unit,
        "median": _rounded(statistics.median(medians)),
        "p99": _rounded(statistics.median(p99(one.took) * scale for one in rounds)),
        "per_second": _rounded(statistics.median(rates)),
        "least": _rounded(min(medians)),
        "most": _rounded(max(medians)),
        "rounds": len(rounds),
        "turns": sum(len(one.took) for one in rounds),
        "loop_late_p99_ms": _rounded(p99(late) * 1e3) if late else None,
    }


def p99(values: Sequence[float]) -> float:
    """Call this for the value that 99 of 100 do not exceed; of fewer the greatest."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def spelt(value: float) -> str:
    """Call this for a figure as people read it: three digits, and none behind a large number."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"
