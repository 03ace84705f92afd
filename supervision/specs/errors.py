"""Everything the administration of a supervisor can refuse, and the infos its exits carry.

Errors derive from `SupervisionError` and are divided by what their caller can do next. The
frozen infos at the end are no errors: they stand in `Shutdown(info)` and say why a
supervisor, or a child, was asked to end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.runtime import AlreadyStarted as RuntimeAlreadyStarted
from actors.runtime import AnyRef
from actors.runtime.words.showing import shown


class SupervisionError(Exception):
    """Base of all that a supervisor refuses; a dead supervisor is `NoProc` of the runtime."""


class SpecError(SupervisionError, ValueError):
    """Raised when a spec, a flag or a plan makes no sense; nothing was changed.

    `code` is the stable word for programs, `field` names what to correct, `value` is what
    stood there.
    """

    def __init__(self, code: str, field: str, value: object, why: str = "") -> None:
        super().__init__(
            f"{code}: {field}={_short(value)} is not allowed; nothing was changed. "
            + (why or "See the table of allowed values in docs/explain/supervision.md.")
        )
        self.code, self.field, self.value = code, field, value


class StartFailed(SupervisionError):
    """Raised when a child could not be started.

    `cause` is the error of its start; `spec` is what was discarded (`start_child`) or what
    stays listed without a ref (`restart_child`), and None under a dynamic supervisor.
    """

    def __init__(self, cause: BaseException, spec: object = None) -> None:
        super().__init__(
            f"the child did not start: {type(cause).__name__}: {cause}. "
            "Nothing of it is left running; correct the cause and start it again."
        )
        self.cause, self.spec = cause, spec


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
        return f"failed_to_start {self.id}: {type(self.cause).__name__}: {self.cause}"


@dataclass(frozen=True, slots=True)
class IntensityReached:
    """A supervisor gave up: child `id` used up the budget of `intensity` restarts in `period` s.

    Giving up at once (`escalate_on`, `give_up_after`) carries the same info: `reason` tells
    them apart and `cause` is the last error; neither takes part in comparisons.
    """

    id: str | None
    intensity: int
    period: float
    reason: str = field(default="reached_max_restart_intensity", compare=False)
    cause: BaseException | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.reason}: {self.id} ({self.intensity} restarts in {self.period:g} s allowed)"


@dataclass(frozen=True, slots=True)
class Passivated:
    """A dynamic child was idle for `passivate_after`; its next message starts it again."""

    def __str__(self) -> str:
        return "passivated"


def _short(value: object) -> str:
    """Return `repr(value)` cut to one line: an error text is no dump.

    Whoever made the value, making this error must not fail: it is made while a supervisor decides.
    """
    text = shown(value)
    return text if len(text) <= 80 else text[:77] + "..."
