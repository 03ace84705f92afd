"""One measured figure, as the table and build/bench.json show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """Holds one figure, what others reached in the same run, and what it may not fall below."""

    name: str
    value: float
    unit: str
    peers: Mapping[str, float] = field(default_factory=dict)
    minimum: float | None = None
    maximum: float | None = None

    @property
    def holds(self) -> bool:
        """Tell whether the figure is inside its limits."""
        if self.minimum is not None and self.value < self.minimum:
            return False
        return self.maximum is None or self.value <= self.maximum
