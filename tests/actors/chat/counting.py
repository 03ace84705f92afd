"""Time and ids that are the same in every run: a clock that steps, ids that count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID


@dataclass
class SteppingClock:
    """Moves `step_s` seconds at each look; three and more reach no limit of posts."""

    step_s: float
    at: datetime = datetime(2025, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(seconds=self.step_s)
        return self.at


@dataclass
class CountingIds:
    """Ids that say in which order they were made."""

    made: int = 0

    def new_id(self) -> UUID:
        self.made += 1
        return UUID(int=self.made)
