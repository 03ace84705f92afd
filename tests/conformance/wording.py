"""Our answers, errors and lists in the words of the comparison.

The twin of `erlang/conf_words.erl`.
"""

from collections.abc import Sequence

from actors.runtime import NoProc, Shutdown, StopActor
from supervision import (
    AlreadyPresent,
    AlreadyStarted,
    AnyChild,
    ChildSpec,
    Counts,
    FailedToStart,
    NotFound,
    StartFailed,
    StartResult,
    StillRestarting,
    StillRunning,
    Unsupported,
)
from tests.conformance.players import Stage

ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (AlreadyPresent, "already_present"),
    (StillRunning, "running"),
    (StillRestarting, "restarting"),
    (NotFound, "not_found"),
    (Unsupported, "simple_one_for_one"),
    (NoProc, "noproc"),
)


def answer_words(value: object, stage: Stage) -> str:
    """Call this for the word of what a call returned."""
    match value:
        case None:
            return "ok"
        case StartResult(ref=None):
            return "ignored"
        case StartResult(ref=ref) if ref is not None:
            return f"up {stage.label_of(ref)}"
        case ChildSpec():
            return f"spec {value.id}"
        case Counts():
            return counts_words(value)
        case list():
            return ",".join(list_words(value, stage)) or "empty"
        case _:
            return repr(value)


def error_words(error: BaseException, stage: Stage) -> str:
    """Call this for the word of what a call raised."""
    match error:
        case AlreadyStarted():
            return f"already_started {stage.label_of(error.ref)}"
        case StartFailed(cause=StopActor(exit=Shutdown(info=FailedToStart(id=child_id)))):
            return f"failed_to_start {child_id}"
        case StartFailed():
            return "start_failed"
    for kind, word in ERRORS:
        if isinstance(error, kind):
            return word
    return repr(error)


def counts_words(counts: Counts) -> str:
    """Call this for counts as `specs.active.supervisors.workers`."""
    return f"{counts.specs}.{counts.active}.{counts.supervisors}.{counts.workers}"


def list_words(children: Sequence[AnyChild], stage: Stage) -> list[str]:
    """Call this for one word a child: who runs as which incarnation, who waits, who does not."""
    return [f"{one.id or '-'}:{_state(one, stage)}" for one in children]


def _state(child: AnyChild, stage: Stage) -> str:
    if child.ref is not None:
        return stage.label_of(child.ref)
    return "restarting" if child.status in ("restarting", "backing_off") else "none"
