"""What one ending means for one child: restart it, leave it, or give up.

Pure: an exit and a spec in, a verdict out (the table "What one ending means" in
docs/explain/supervision.md). What a restart does to the siblings stands in `decisions.py`; how
often it may happen in `budget.py`.
"""

import enum
from collections.abc import Sequence

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.specs.specs import ChildSpec


class Verdict(enum.Enum):
    """What to do about a child that ended by itself."""

    RESTART = "restart"
    LEAVE = "leave"
    ESCALATE = "escalate"


def judge(spec: ChildSpec, exit_: Exit) -> Verdict:
    """Call this to learn what an ending calls for: first its errors, then the restart type."""
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


def judge_start(spec: ChildSpec, error: BaseException, leaves: Sequence[BaseException]) -> Verdict:
    """Call this to learn what a failed attempt to restart calls for.

    A failed attempt is an error like any other, so the same classes rule; the restart type
    does not: the decision to restart was taken when the child ended.
    """
    return _judge_leaves(spec, leaves or (error,))


def is_expected_stop(spec: ChildSpec, exit_: Exit) -> bool:
    """Call this to know whether this is a proper answer to a stop; others are reported."""
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
    """Call this to know whether an ending of its own makes a report: all but quiet clean ones."""
    return spec.restart == "permanent" or not exit_.clean


def triggers(spec: ChildSpec, exit_: Exit) -> bool:
    """Call this to know whether this ending of a child that is not restarted is significant."""
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
