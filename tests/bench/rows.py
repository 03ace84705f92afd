"""One measured figure, and how several runs become one.

Every `bench_*.py` of this folder has a list `benchmarks` of functions that give rows;
`python -m tests.bench` runs them all.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

# PERF-3: fewer runs than this say nothing about their spread.
RUNS_MIN = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A figure: the median of its runs, the least and the most, and the peers' medians.

    A peer that is not installed has the value None. `target` is what the figure is held
    against, in words. `is_lower_better` tells how the ratio to the best peer reads.
    """

    name: str
    value: float
    unit: str
    minimum: float
    maximum: float
    peers: Mapping[str, float | None] = field(default_factory=dict)
    target: str = ""
    is_lower_better: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times better than the best peer; None without one."""
        known = [value for value in self.peers.values() if value]
        if not known or not self.value:
            return None
        return min(known) / self.value if self.is_lower_better else self.value / max(known)

    def to_json(self) -> dict[str, object]:
        """The row as it is written to build/bench.json."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "peers": dict(self.peers),
            "ratio": self.ratio,
            "target": self.target,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {platform.system()}",
        }


Benchmark = Callable[[], Sequence[Row]]


def row(
    name: str,
    unit: str,
    runs: Sequence[float],
    *,
    peers: Mapping[str, float | None] | None = None,
    target: str = "",
    is_lower_better: bool = False,
) -> Row:
    """Make a row of the runs that followed a warm-up; fewer than three are a ValueError."""
    if len(runs) < RUNS_MIN:
        raise ValueError(f"{name}: a figure is the median of {RUNS_MIN} runs, got {len(runs)}")
    return Row(
        name=name,
        value=statistics.median(runs),
        unit=unit,
        minimum=min(runs),
        maximum=max(runs),
        peers=peers or {},
        target=target,
        is_lower_better=is_lower_better,
    )
