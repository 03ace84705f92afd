"""Which requests are turned away while the loop has more to do than it can (REL-74, RES-8).

The loop goes in turns: it runs every task that can run, then asks the kernel what came meanwhile. A
request lies in the kernel for a turn before it is read, and each step of its handler takes another
one; so the length of turns is what everybody waits, and nothing else sees it where handlers never
wait. `Overload` measures it, as an instrument of trio's: two looks at the clock a turn.

Rule 1: one long step is a handler that blocks, and no load: turns must have been too long for a
        while, and of many steps, before anybody is turned away. A single turn may be that: it takes
        as long as all who came meanwhile.
Rule 2: from then on so much work of each turn is for requests that are served, and those read
        behind it are turned away. That holds turns to a length: who is turned away hears it soon,
        and who is not is soon served. What a turn is long by otherwise, a message for a thousand
        pages, is not theirs: a few requests may begin in any turn.
Rule 3: readers go first, then commands, then what opens a stream or signs in; each only when turns
        are too long without those before it. Nothing else is turned away here.
Rule 4: how late it is, is told by the clock, for that is what people wait; how much begins in a
        turn by the time of the processor, for on a machine with other work the clock goes on
        while nothing is done here, and nobody would be served any more.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio.abc

from actors.runtime import Log

log = Log(__name__)

# Where an application finds the `Overload` of its server, in the `state` of a scope.
OVERLOAD_KEY = "greenroom.overload"


class Urgency(enum.IntEnum):
    """Says who goes first when not all can be served, the least urgent first."""

    READ = 0  # a page, a part of one: its reader may try again
    COMMAND = 1  # somebody wrote it
    KEPT = 2  # streams of pages that are open, and signing in


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadSettings:
    """Holds when there is too much to do, and what is done then; all are seconds."""

    # RES-8: a turn that is longer is late. A person notices a tenth of a second.
    late_s: float = 0.1
    # RES-8: so long must most of the time be spent in late turns.
    for_s: float = 1.0
    # So much work of those who are served may be done in a turn when another begins, by its
    # urgency. At twice the load that is possible a turn is then of some 30 to 50 ms: who is turned
    # away waited for one in the kernel and for part of another, and is to hear it in a tenth of a
    # second; a page is made in the turn it is read in. Others may begin when those before them can
    # no more, and what is kept in any turn that is not late.
    begins_s: tuple[float, float, float] = (0.025, 0.05, 0.1)
    # So many begin in any turn: what one browser asks for at once is no load.
    least: int = 8
    # Not trio's clock: what is measured is how long this processor takes, and a clock of a test
    # that stands, or jumps, says nothing of that.
    now: Callable[[], float] = field(default=time.perf_counter)
    # How long the processor has worked for this thread, which is the loop's.
    worked: Callable[[], float] = field(default=time.thread_time)

    def __post_init__(self) -> None:
        if not 0 < self.begins_s[0] <= self.begins_s[1] <= self.begins_s[2]:
            raise ValueError("the more urgent begin as late as those before them, or later")
        if not self.begins_s[2] <= self.late_s <= self.for_s < math.inf:
            raise ValueError("what is late is so after the last may begin, and is seen after that")
        # Of what is no number every comparison is false, and nobody would be let in.
        least: object = self.least
        if isinstance(least, bool) or not isinstance(least, int) or least < 1:
            raise ValueError(f"least is {self.least!r}; one at least begins in a turn")


# Of `for_s`: what happens between two looks counts for no more, however long it takes. So a handler
# that blocks for seconds is a quarter of what it takes.
_ONE_STEP = 1 / 4
# How much of a turn that is not late counts against late ones; waiting counts in full.
_OF_SHORT = 1 / 2
# How much a turn counts beside the next one for what a request takes: they differ by what is asked
# for, and most by whatever else was done in a turn that served only a few.
_OF_BEFORE = 3 / 4
# How often the log says that requests are turned away: not for each, there are thousands.
_TOLD_EVERY_S = 1.0
_LONGEST_OF_S = 10.0


@dataclass(frozen=True, slots=True)
class Load:
    """Tells how busy a loop is: what operators are shown.

    `refused` counts the requests that were turned away since the start, `turn_s` is the length of
    the last turn in seconds, `longest_s` that of the longest in the last ten or twenty seconds.
    """

    is_overloaded: bool
    refused: int
    turn_s: float
    longest_s: float


class Overload(trio.abc.Instrument):
    """Measures the turns of a loop, and says who may not begin in this one.

    Made by `serve`; an application finds it in the `state` of a scope under `OVERLOAD_KEY`.
    """

    def __init__(self, settings: OverloadSettings) -> None:
        self._settings = settings
        self._now = settings.now
        self._began = math.inf
        self._is_waiting = False
        self._looked = math.inf
        # When the first request of this turn was read, and how many have begun in it.
        self._first = math.inf
        self._begun = 0
        # What the processor has worked in this turn for who is served, since the first of them; and
        # until when that is known, and whether what comes behind that is for who is turned away.
        self._for_served = 0.0
        self._is_refusing = False
        # How many of them that is of; and both of the last turns, of the later ones the more.
        self._counted = 0
        self._lately_s = self._lately = 0.0
        # Whether many are judged in one step; how many of them are let in, and may be by their
        # urgency; and how many had been turned away before them.
        self.is_shedding = False
        self._let_in = 0
        self._may_be_let_in: tuple[float, ...] = ()
        self._refused_before = 0
        self._late_for = 0.0
        self._refused_at = -math.inf
        self._told_at = -math.inf
        self._told = 0
        # The longest turn of these ten seconds and of the ten before them.
        self._longest = (0.0, 0.0)
        self._longest_since = -math.inf
        # Whether turns have been too long, and requests may be turned away.
        self.is_on = False
        # The number of this turn.
        self.turn = 0
        # How many were turned away.
        self.refused = 0
        self._turn_s = 0.0

    def __repr__(self) -> str:
        return f"<Overload {'on' if self.is_on else 'off'} refused={self.refused}>"

    def load(self) -> Load:
        """Call this for what operators are shown."""
        return Load(self.is_on, self.refused, self._turn_s, max(self._longest))

    def refuses(self, urgency: Urgency) -> bool:
        """Call this once a request, when it was read; whether it is to be turned away."""
        if self.is_shedding:
            return self._sheds(urgency)
        now, settings = self._now(), self._settings
        self._note_first(now)
        self._look(now)
        if self.is_on:
            self._share()
            limit = settings.begins_s[urgency]
            self._is_refusing = self._begun >= settings.least and self._for_served > limit
            if self._is_refusing:
                self.note_refused()
                return True
            self._counted += 1
        self._begun += 1
        return False

    def begin_shedding(self) -> None:
        """Call this before `refuses` is asked for many in one step, to the end of which none is
        served: then as many are let in as can be, going by those of the last turns.

        Each of them is asked for again in the step that serves it.
        """
        self._note_first(self._now())
        if self.is_on:
            self._share()
            self._is_refusing = self.is_shedding = True
            self._let_in, self._refused_before = 0, self.refused
            least = self._settings.least
            per_s = self._lately / self._lately_s if self._lately_s else 0.0
            self._may_be_let_in = tuple(
                max(least, limit * per_s) for limit in self._settings.begins_s
            )

    def end_shedding(self) -> None:
        """Call this behind them, in the same step."""
        if self.is_shedding:
            self._share()
            self.is_shedding = False
            if self.refused > self._refused_before:
                self._note_refusing(self._now())

    def _sheds(self, urgency: Urgency) -> bool:
        if self._let_in >= self._may_be_let_in[urgency]:
            self.refused += 1  # of thousands the rest is noted once
            return True
        self._let_in += 1
        return False

    def _note_first(self, now: float) -> None:
        if self._first > now:
            self._first = self._looked = now
            self._worked = self._settings.worked()

    def note_refused(self) -> None:
        """Call this for one that is turned away for another reason while `is_on`."""
        self.refused += 1
        self._note_refusing(self._now())

    def _note_refusing(self, now: float) -> None:
        self._refused_at = now
        if now - self._told_at >= _TOLD_EVERY_S:
            self._tell(now)

    def _share(self) -> None:
        """Count the work since the last request was read, where that one is served."""
        worked = self._settings.worked()
        if not self._is_refusing:
            self._for_served += worked - self._worked
        self._worked = worked

    def _tell(self, now: float) -> None:
        """Say in the log how many were turned away since it was said last."""
        refused, self._told, self._told_at = self.refused - self._told, self.refused, now
        if refused:
            log.warning("request.overload", refused=refused, turn_ms=round(self._turn_s * 1000))

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio at the end of a turn."""
        now = self._now()
        if self._began <= now:
            self._end_turn(now)
        self.turn += 1
        if self._counted > 1:
            # Of the last one it is not known.
            self._lately_s = self._lately_s * _OF_BEFORE + self._for_served
            self._lately = self._lately * _OF_BEFORE + self._counted - 1
        # Where there is more to do the kernel is only asked, and the next turn has begun.
        self._began, self._first, self._begun = now, math.inf, 0
        self._for_served = 0.0
        self._worked = 0.0
        self._counted = 0
        self._is_refusing = False
        self._is_waiting = timeout > 0

    def after_io_wait(self, timeout: float) -> None:
        """Called by trio at the beginning of the next one."""
        if self._is_waiting:
            now = self._now()
            self._late_for = max(0.0, self._late_for - (now - self._began))
            self._began = now

    def _look(self, now: float) -> None:
        """Count what passed since the last look, if the requests of this turn are late by now."""
        looked, self._looked = self._looked, now
        settings = self._settings
        if self.is_on or now - self._first <= settings.late_s:
            return
        # A turn that is late was so from its beginning on.
        since = looked if looked - self._first > settings.late_s else self._first
        self._late_for += min(now - since, settings.for_s * _ONE_STEP)
        if self._late_for >= settings.for_s:
            self.is_on, self._refused_at, self._late_for = True, now, 0.0

    def _end_turn(self, now: float) -> None:
        length = self._turn_s = now - self._began
        if now - self._longest_since >= _LONGEST_OF_S:
            self._longest, self._longest_since = (0.0, self._longest[0]), now
        if length > self._longest[0]:
            self._longest = length, self._longest[1]
        if self.is_on:
            # Nobody had to be turned away for so long, or nobody came.
            self.is_on = now - self._refused_at < self._settings.for_s
            if not self.is_on:
                self._tell(now)
            return
        self._look(now)
        if now - self._first <= self._settings.late_s:
            # Behind a late turn come short ones, for what was read then goes on in steps.
            self._late_for = max(0.0, self._late_for - length * _OF_SHORT)
