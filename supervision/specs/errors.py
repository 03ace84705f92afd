"""Everything the administration of a supervisor can refuse, and the infos its exits carry.

Errors derive from `SupervisionError` and are divided by what their caller can do next. The
frozen infos at the end are no errors: they stand in `Shutdown(info)` and say why a
supervisor, or a child, was asked to end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from actors.runtime import AlreadyStarted as RuntimeAlreadyStarted
from actors.runtime import AnyRef, Crashed, Exit, Shutdown, StopActor
from actors.runtime.words.errors import exit_from
from actors.runtime.words.exits import exit_text
from actors.runtime.words.places import in_place, place_of, told, told_in_place
from actors.runtime.words.showing import shown

# Under this heading every field stands with its code, kept equal to the code by a test.
TABLE: Final = "docs/explain/supervision.md#what-may-be-written"


class SupervisionError(Exception):
    """Base of all that a supervisor refuses; a dead supervisor is `NoProc` of the runtime."""


class NotCalled(SupervisionError):
    """Base of what a guard raises in the place of a call: nothing was called, ask again later."""


class SpecError(SupervisionError, ValueError):
    """Raised when a spec, a flag or a plan makes no sense; nothing was changed.

    `code` is the stable word for programs, `field` names what to correct, `value` is what
    stood there.
    """

    def __init__(self, code: str, field: str, value: object, why: str = "") -> None:
        super().__init__(
            in_place(f"{code}: {field}={_short(value)} is not allowed")
            + "; nothing was changed. "
            + (why or f"See the table of allowed values: {TABLE}.")
        )
        self.code, self.field, self.value = code, field, value


class StartFailed(SupervisionError):
    """Raised when a child, or the root of a system, could not be started.

    `path` is the actor that failed, which may stand any number of supervisors below the child;
    the text names it with class, text and line of its error, and `__cause__` is that error with
    its own traceback. `cause` is the error of the child's start as its supervisor saw it. `spec`
    is what was discarded (`start_child`) or what stays listed without a ref (`restart_child`),
    and None under a dynamic supervisor.
    """

    def __init__(self, cause: BaseException, spec: object = None, path: str = "the child") -> None:
        self.path, error = source_of(path, cause)
        super().__init__(
            f"{self.path} did not start: {told_in_place(error or cause)}. "
            "Nothing of it is left running; correct the cause and start it again."
        )
        self.cause, self.spec = cause, spec
        self.__cause__ = error or cause


class AlreadyStarted(SupervisionError, RuntimeAlreadyStarted):
    """Raised by `start_child` when a child of that id or key lives: `ref` is it.

    The living one is untouched.
    """

    def __init__(self, ref: AnyRef) -> None:
        Exception.__init__(
            self, f"{ref.path} already runs and was left alone; use it, or terminate it first."
        )
        self.ref = ref


class AlreadyPresent(SupervisionError):
    """Raised by `start_child` when the id is listed without running: use `restart_child`."""

    def __init__(self, child_id: str) -> None:
        super().__init__(
            f"{child_id!r} is listed but not running; nothing was started. "
            "Call restart_child, or delete_child first."
        )
        self.id = child_id


class StillRunning(SupervisionError):
    """Raised by `restart_child` and `delete_child` while the child runs: terminate it first."""

    def __init__(self, child_id: object) -> None:
        super().__init__(f"{child_id!r} still runs; nothing was done. Call terminate_child first.")
        self.id = child_id


class StillRestarting(SupervisionError):
    """Raised by `restart_child` and `delete_child` while restarts are being attempted."""

    def __init__(self, child_id: object) -> None:
        super().__init__(
            f"{child_id!r} is being restarted; nothing was done. "
            "Wait for it, or end the attempts with terminate_child."
        )
        self.id = child_id


class NotBackingOff(SupervisionError):
    """Raised by `restart_now` when there is no wait to cut short."""

    def __init__(self, child_id: object, status: str) -> None:
        super().__init__(f"{child_id!r} is {status}: there is no wait to end; nothing was done.")
        self.id, self.status = child_id, status


class NotFound(SupervisionError):
    """Raised when the supervisor has no such child; nobody was touched."""

    def __init__(self, target: object) -> None:
        super().__init__(f"{_short(target)} is no child of this supervisor; nobody was touched.")
        self.target = target


class Unsupported(SupervisionError):
    """Raised by the calls that make no sense on a dynamic supervisor: it works by ref."""

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call} by id is not for a dynamic supervisor; nothing was done. "
            "Its children are addressed by ref."
        )
        self.call = call


class TooManyChildren(SupervisionError):
    """Raised by `start_child` at `max_children`; nothing was started."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(
            f"{path} already holds {limit} children (max_children={limit}); nothing was started."
        )
        self.path, self.limit = path, limit


class KeyRefused(SupervisionError):
    """Raised by `start_child` for a key whose child gave up less than `cooldown` ago."""

    def __init__(self, path: str, key: str, retry_in: float) -> None:
        super().__init__(
            f"{path}[{key!r}] gave up and is refused for another {retry_in:.1f} s; "
            "nothing was started."
        )
        self.path, self.key, self.retry_in = path, key, retry_in


@dataclass(frozen=True, slots=True)
class FailedToStart:
    """A supervisor could not start: its child `id` failed with `cause`."""

    id: str
    cause: BaseException

    def __str__(self) -> str:
        path, error = source_of(self.id, self.cause)
        return f"failed_to_start {path}: {told(error or self.cause)}"


@dataclass(frozen=True, slots=True)
class IntensityReached:
    """A supervisor gave up: child `id` used up the budget of `intensity` restarts in `period` s.

    Giving up at once (`escalate_on`, `give_up_after`) carries the same info: `reason` tells
    them apart. `failures` is how many restarts were needed in the period, or how often the child
    failed in a row. `cause` is the last error at the bottom
    of it and `path` the actor it came from: when a supervisor is given up because the one below
    it gave up, that is the leaf, and `below` says how the one below came to it. Only the first
    three take part in comparisons.
    """

    id: str | None
    intensity: int
    period: float
    reason: str = field(default="reached_max_restart_intensity", compare=False)
    cause: BaseException | None = field(default=None, compare=False)
    path: str = field(default="", compare=False)
    failures: int = field(default=0, compare=False)
    below: IntensityReached | None = field(default=None, compare=False)

    def __str__(self) -> str:
        lines = [self._line()]
        lower = self.below
        while lower is not None:
            lines.append(lower._line())
            lower = lower.below
        if self.cause is not None:
            lines.append(f"the last error of {self.path or self.id}: {told(self.cause)}")
        return f"{self.reason}: {'; '.join(lines)}"

    def _line(self) -> str:
        who = self.id or self.path.rpartition("/")[2] or "a child"
        match self.reason:
            case "give_up_after":
                return f"{who} failed {self.failures} times in a row"
            case "escalate_on":
                return f"{who} failed with what is escalated"
            case _:
                needed = f"{self.failures or 'too many'} restarts in {self.period:g} s"
                return f"{who} needed {needed}, {self.intensity} allowed"


@dataclass(frozen=True, slots=True)
class Passivated:
    """A dynamic child was idle for `passivate_after`; its next message starts it again."""

    def __str__(self) -> str:
        return "passivated"


def source_of(path: str, ending: Exit | BaseException | None) -> tuple[str, BaseException | None]:
    """Call this to walk from how a child ended, or failed to start, down to where it began.

    Gives the path of the actor that failed first, and its own error; None when there was none: it
    was killed, or ended by itself.
    """
    while True:
        match ending:
            case StopActor():
                ending = exit_from(ending)
            case Crashed(error=error):
                return path, error
            case Shutdown(info=FailedToStart() as info):
                path, ending = f"{path}/{info.id}", info.cause
            case Shutdown(info=IntensityReached() as info):
                return info.path or path, info.cause
            case BaseException():
                return path, ending
            case _:
                return path, None


def giving_up(path: str, exit_: Exit) -> str:
    """Call this for the text of a supervisor's end that nobody had asked for."""
    text = f"{path} ended as {exit_text(exit_)}"
    if isinstance(exit_, Shutdown) and isinstance(exit_.info, IntensityReached):
        text = f"{path} gave up: {exit_.info}"
    _, error = source_of(path, exit_)
    place = None if error is None else place_of(error)
    return text if place is None else f"{text} ({place})"


def _short(value: object) -> str:
    """Return `repr(value)` cut to one line: an error text is no dump.

    Whoever made the value, making this error must not fail: it is made while a supervisor decides.
    """
    text = shown(value)
    return text if len(text) <= 80 else text[:77] + "..."
