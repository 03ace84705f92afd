"""What one ending means for one child, how often it may be restarted, and how soon.

Pure: an exit and a spec in, a verdict out (the table "What one ending means" of
docs/explain/supervision.md); time and randomness are handed in. What a restart does to the
siblings stands in `static.py`.

Rule: a need for a restart is noted before anything is tried, so a child that dies while
starting cannot restart for ever.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Sequence

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.specs.specs import Backoff, ChildSpec, is_number


class Verdict(enum.Enum):
    """What to do about a child that ended by itself."""

    RESTART = "restart"
    LEAVE = "leave"
    ESCALATE = "escalate"


def judge(spec: ChildSpec, exit_: Exit) -> Verdict:
    """What an ending calls for: first its errors, then the restart type."""
    if isinstance(exit_, Crashed):
        by_error = _judge_leaves(spec, exit_.leaves())
        if by_error is not Verdict.RESTART:
            return by_error
    match spec.restart:
        case "permanent":
            return Verdict.RESTART
        case "transient":
            return Verdict.LEAVE if exit_.clean else Verdict.RESTART
        case "temporary":
            return Verdict.LEAVE


def is_restarted_after(spec: ChildSpec, exit_: Exit) -> bool:
    """Whether the restart type brings a child back after an end that is no crash."""
    return judge(spec, exit_) is Verdict.RESTART


def judge_start(spec: ChildSpec, error: BaseException) -> Verdict:
    """What a failed attempt to restart calls for.

    A failed attempt is an error like any other, so the same classes rule; the restart type
    does not: the decision to restart was taken when the child ended.
    """
    return _judge_leaves(spec, Crashed(error).leaves())


def is_expected_stop(spec: ChildSpec, exit_: Exit) -> bool:
    """Whether this is a proper answer to a stop; others are reported."""
    match exit_:
        case Shutdown():
            return True
        case Normal():
            return spec.restart != "permanent"
        case Killed():
            return spec.shutdown == "kill"
        case Crashed():
            return False


def is_reported(spec: ChildSpec, exit_: Exit) -> bool:
    """Whether an ending of its own makes a report: all but quiet clean ones."""
    return spec.restart == "permanent" or not exit_.clean


def ended_as(exit_: Exit) -> str:
    """In one word how a child ended, for the cause of its siblings' stop."""
    match exit_:
        case Normal():
            return "ended"
        case Shutdown():
            return "shut down"
        case Killed():
            return "was killed"
        case Crashed():
            return "crashed"


def triggers(spec: ChildSpec, exit_: Exit) -> bool:
    """Whether this ending of a child that is not restarted is significant."""
    if not spec.significant:
        return False
    return spec.restart == "temporary" or (spec.restart == "transient" and exit_.clean)


def _judge_leaves(spec: ChildSpec, leaves: Sequence[BaseException]) -> Verdict:
    if any(isinstance(leaf, spec.escalate_on) for leaf in leaves):
        return Verdict.ESCALATE
    if any(
        isinstance(leaf, spec.stop_on) or not isinstance(leaf, spec.restart_on) for leaf in leaves
    ):
        return Verdict.LEAVE
    return Verdict.RESTART


class RestartWindow:
    """The restarts of the last `period` seconds, both ends included."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<RestartWindow {len(self._times)} noted>"

    def note(self, now: float, intensity: int, period: float) -> bool:
        """Note a need for a restart; True means there is still budget for it."""
        self._times.append(now)
        self._forget(now, period)
        within = len(self._times) <= intensity
        while len(self._times) > intensity + 1:  # a larger number decides nothing more
            self._times.popleft()
        return within

    def used(self, now: float, period: float) -> int:
        """How many restarts stand in the window now."""
        self._forget(now, period)
        return len(self._times)

    def _forget(self, now: float, period: float) -> None:
        while self._times and now - self._times[0] > period:
            self._times.popleft()


class Attempts:
    """The failures in a row of one child, and so the length of its next wait."""

    __slots__ = ("_failed_at", "_waited", "count")

    def __init__(self) -> None:
        self.count = 0
        self._failed_at: float | None = None
        self._waited = 0.0

    def __repr__(self) -> str:
        return f"<Attempts {self.count} in a row>"

    def note(self, now: float, backoff: Backoff) -> None:
        """Note a crash or a failed attempt, before `wait` is asked."""
        if self._failed_at is not None:
            # A wait longer than reset_after must not pass for quiet time by itself.
            waited = self._waited if self._waited >= backoff.reset_after else 0.0
            if now - self._failed_at >= backoff.reset_after + waited:
                self.count = 0
        self.count += 1
        self._failed_at = now

    def exhausted(self, backoff: Backoff) -> bool:
        """Whether `give_up_after` failures in a row have happened."""
        return backoff.give_up_after is not None and self.count >= backoff.give_up_after

    def wait(self, backoff: Backoff, random: Callable[[], float]) -> float:
        """The seconds until the next attempt; `random` gives [0, 1).

        Both may be a person's: what is no number of seconds >= 0 is a ValueError.
        """
        chance = random()
        wait = backoff.wait(self.count, 2.0 * chance - 1.0)
        if not (is_number(wait) and 0.0 <= wait < math.inf):
            raise ValueError(
                f"the wait before a restart is {wait!r}, with {chance!r} from jitter(); it must be "
                "a number of seconds >= 0, and jitter() gives one in [0, 1)"
            )
        self._waited = wait
        return wait
