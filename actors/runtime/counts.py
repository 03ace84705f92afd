"""The running sums of one actor; they outlive its incarnations.

Plain integers, so that counting costs nothing worth measuring. `stats.py` reads them.
"""

from __future__ import annotations


class Counts:
    """What one actor has done and lost since it was created."""

    __slots__ = (
        "coalesced", "crashes", "dead_letters", "expired", "handled", "late_replies", "overflowed",
        "reductions", "restarts", "unhandled", "withdrawn",
    )  # fmt: skip

    def __init__(self) -> None:
        self.handled = self.reductions = 0
        self.overflowed = self.coalesced = self.expired = self.unhandled = 0
        self.withdrawn = self.late_replies = self.dead_letters = 0
        self.crashes = self.restarts = 0
