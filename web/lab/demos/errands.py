"""Errands of one open page: what runs, what waits, what was cancelled (SITE-104, SITE-105). Pure.

Rule: one runs at a time. A guarded one waits for its turn; another kind takes the place of whatever
runs. `desk.py` carries them out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# SITE-104, SITE-105: long enough to click again meanwhile.
RUN_S: Final = 1.0
# Of a page without scripts, which learns nothing until it is loaded again: long enough to read
# what runs, and to cancel it.
PLAIN_RUN_S: Final = 10.0
# SITE-104. What an eager visitor can click within a few seconds.
WAITING_MAX: Final = 10
# What stands there while nothing runs, and what every run ends in.
ORIGINAL: Final = "Nothing is running."


# What a page is told where nothing was done yet.
IDLE: Final[Mapping[str, str]] = {"demoMessage": ORIGINAL, "demoStatus": "", "_demoCounts": ""}


@dataclass(frozen=True, slots=True)
class Told:
    """What a page says of its errands."""

    message: str
    status: str
    counts: str


# Of a page where nothing was done yet.
NOTHING: Final = Told(ORIGINAL, "", "")


@dataclass(frozen=True, slots=True)
class Errand:
    """One click: the how manieth of its page, and the request it came with."""

    number: int
    request_id: str


class Errands:
    """What runs and what waits, and how many came to which end."""

    def __init__(self) -> None:
        self._numbers = 0
        self._waiting: deque[Errand] = deque()
        self.running: Errand | None = None
        self.started = self.cancelled = self.finished = 0
        self._last = ""

    def __repr__(self) -> str:
        return f"<Errands running={self.running} waiting={len(self._waiting)}>"

    @property
    def is_full(self) -> bool:
        """Whether one more would have to wait behind too many."""
        return self.running is not None and len(self._waiting) >= WAITING_MAX

    def guard(self, request_id: str) -> Errand | None:
        """Call this for a click that waits for its turn; returns what is to be started, if any.

        Not to be called while `is_full`.
        """
        assert not self.is_full, "the caller looks first"
        errand = self._new(request_id)
        self._waiting.append(errand)
        return self._next() if self.running is None else None

    def replace(self, request_id: str) -> Errand:
        """Call this for a click that ends whatever runs; returns what is to be started."""
        if self.running is not None:
            self.cancelled += 1
            self._last = f"cancelled #{self.running.number}"
        return self._start(self._new(request_id))

    def finish(self, number: int) -> Errand | None:
        """Call this when a run is over; returns what is to be started next, if any.

        Nothing happens for one that was cancelled in the very moment.
        """
        if self.running is None or self.running.number != number:
            return None
        self.finished += 1
        self._last = f"finished #{number}"
        self.running = None
        return self._next()

    @property
    def message(self) -> str:
        """What is being done, or the text of before."""
        return ORIGINAL if self.running is None else f"Working on #{self.running.number} …"

    @property
    def status(self) -> str:
        """What ended last, what runs, and what waits in which order."""
        words = [self._last] if self._last else []
        if self.running is not None:
            words.append(f"running #{self.running.number}")
        words.extend(f"queued #{errand.number}" for errand in self._waiting)
        return " · ".join(words)

    @property
    def counts(self) -> str:
        """How many came to which end."""
        return f"started {self.started}, cancelled {self.cancelled}, finished {self.finished}"

    @property
    def told(self) -> Told:
        """All three of them, for a page that is rendered whole."""
        return Told(self.message, self.status, self.counts) if self._numbers else NOTHING

    def _new(self, request_id: str) -> Errand:
        self._numbers += 1
        return Errand(self._numbers, request_id)

    def _next(self) -> Errand | None:
        return self._start(self._waiting.popleft()) if self._waiting else None

    def _start(self, errand: Errand) -> Errand:
        self.started += 1
        self.running = errand
        return errand
