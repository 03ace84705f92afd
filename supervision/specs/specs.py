"""One child as a person writes it: how it is made, and what happens when it ends.

Checked where it is made: past the constructor the values are true. Several specs with their
flags make a plan: `plans.py`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Never, ParamSpec, Protocol, TypeAlias, cast

from supervision.specs import checks
from supervision.specs.checks import MISSING, Missing
from supervision.specs.errors import SpecError
from supervision.specs.words import ChildType, ErrorClass, RestartType, ShutdownTime

P = ParamSpec("P")
ErrorClasses: TypeAlias = ErrorClass | tuple[ErrorClass, ...]

# A worker that has not finished its message and its on_stop after this is not going to.
WORKER_SHUTDOWN: Final = 5.0


class Maker(Protocol):
    """What makes an actor: any callable; what it is called with is checked when it is."""

    def __call__(self, *args: object, **options: object) -> object:
        """Make one."""


class Forgotten:
    """Stands in a temporary child's spec once it has started: its arguments are let go."""

    def __call__(self, *args: object, **options: object) -> Never:
        """Never called by supervision: a temporary child is started once."""
        raise SpecError("bad_start", "start", self)

    def __repr__(self) -> str:
        return "<forgotten>"


FORGOTTEN: Final = Forgotten()


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before restart attempt n: `min(max, first * factor**(n-1))`, jittered.

    After `reset_after` seconds without a crash n starts at 1 again. `give_up_after` failures
    in a row make the supervisor give up whatever the intensity says: once the waits exceed
    period / intensity, the intensity alone never would.
    """

    first: float = 0.1
    max: float = 30.0
    factor: float = 2.0
    jitter: float = 0.2
    reset_after: float = 60.0
    give_up_after: int | None = None

    def __post_init__(self) -> None:
        checks.check_backoff(self.first, self.max, self.factor, self.jitter)
        checks.check_backoff_limits(self.reset_after, self.give_up_after)

    def wait(self, attempt: int, u: float) -> float:
        """Call this to get the seconds before `attempt` (from 1); `u` is in [-1, 1]."""
        try:
            grown = self.first * self.factor ** (attempt - 1)
        except OverflowError:
            grown = self.max
        return min(self.max, grown) * (1.0 + u * self.jitter)


@dataclass(frozen=True, slots=True, init=False)
class ChildSpec:
    """One child: how it is made, and what happens when it ends.

    `ChildSpec("front", partial(Stock, "front"), restart="transient")`. `start` is any callable
    that makes an actor. `name` registers the child system-wide.
    Raises `SpecError` for anything outside the table in docs/explain/supervision.md.
    """

    id: str
    start: Maker
    restart: RestartType
    shutdown: ShutdownTime
    type: ChildType
    significant: bool
    backoff: Backoff | None
    restart_on: tuple[ErrorClass, ...]
    stop_on: tuple[ErrorClass, ...]
    escalate_on: tuple[ErrorClass, ...]
    name: str | None

    def __init__(
        self,
        id: str | Missing = MISSING,  # noqa: A002  the field is called id in every listing
        start: Callable[P, object] | Missing = MISSING,
        *,
        restart: RestartType = "permanent",
        shutdown: ShutdownTime | None = None,
        type: ChildType | None = None,  # noqa: A002  as above
        significant: bool = False,
        backoff: Backoff | None = None,
        restart_on: ErrorClasses = Exception,
        stop_on: ErrorClasses = (),
        escalate_on: ErrorClasses = (),
        name: str | None = None,
        **unknown: Never,
    ) -> None:
        checks.no_unknown(unknown)
        checks.check_id(id)
        checks.check_start(start)
        checks.check_choice("bad_restart", "restart", restart, checks.RESTART_TYPES)
        kind = _type_of(start) if type is None else type
        checks.check_choice("bad_type", "type", kind, checks.CHILD_TYPES)
        if shutdown is None:
            shutdown = math.inf if kind == "supervisor" else WORKER_SHUTDOWN
        checks.check_shutdown(shutdown)
        checks.check_significance(significant, restart)
        checks.check_optional("bad_backoff", "backoff", backoff, Backoff)
        if name is not None:
            checks.check_name(name)
        put = object.__setattr__
        put(self, "id", id)
        put(self, "start", start)
        put(self, "restart", restart)
        put(self, "shutdown", shutdown)
        put(self, "type", kind)
        put(self, "significant", significant)
        put(self, "backoff", backoff)
        put(self, "restart_on", checks.check_policy("restart_on", restart_on))
        put(self, "stop_on", checks.check_policy("stop_on", stop_on))
        put(self, "escalate_on", checks.check_policy("escalate_on", escalate_on))
        put(self, "name", name)

    @classmethod
    def parse(cls, value: object) -> "ChildSpec":
        """Call this to read a spec from a `ChildSpec`, a declared child or a mapping."""
        value = getattr(value, "spec", value)
        if isinstance(value, ChildSpec):
            return value
        if isinstance(value, Mapping):
            options = cast("dict[str, Never]", {str(key): one for key, one in value.items()})
            return cls(**options)
        raise SpecError("not_a_spec", "spec", value)

    def with_start(self, start: Maker) -> "ChildSpec":
        """Call this to get the same spec with another start; nothing else is checked anew."""
        return self._with("start", start)

    def with_backoff(self, backoff: Backoff) -> "ChildSpec":
        """Call this to get the same spec with another backoff."""
        return self._with("backoff", backoff)

    def _with(self, field: str, value: object) -> "ChildSpec":
        other = object.__new__(ChildSpec)
        for one in ChildSpec.__slots__:
            object.__setattr__(other, one, getattr(self, one))
        object.__setattr__(other, field, value)
        return other


def without_arguments(spec: ChildSpec) -> ChildSpec:
    """Call this to get the spec of a started temporary child: nothing to start it with."""
    return spec.with_start(FORGOTTEN)


def _type_of(start: object) -> ChildType:
    found = getattr(checks.class_of(start), "child_type", "worker")
    return "supervisor" if found == "supervisor" else "worker"
