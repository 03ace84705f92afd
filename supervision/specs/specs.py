"""What a person writes: a child, the flags of its supervisor, and both together as a plan.

Everything is checked where it is made, one small check a field with a code of its own; past the
constructor the values are true. The checks stand at the end: they return nothing, or raise
`SpecError(code, field, value)`. Which values are allowed: docs/explain/supervision.md.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Never, ParamSpec, Protocol, TypeAlias, cast, get_origin

from supervision.specs.errors import SpecError
from supervision.specs.words import (
    AutoShutdownMode,
    Budget,
    ChildType,
    ErrorClass,
    RestartType,
    ShutdownTime,
    Strategy,
)

P = ParamSpec("P")
# One class or several; an error of a subclass is meant too, also as a leaf of a group.
ErrorClasses: TypeAlias = ErrorClass | tuple[ErrorClass, ...]

# A worker that has not finished its message and its on_stop after this is not going to.
WORKER_SHUTDOWN: Final = 5.0
# As ACT-60: a name stands in paths, log lines and URLs.
ID_LENGTH_MAX: Final = 200
RESTART_TYPES: Final = frozenset({"permanent", "transient", "temporary"})
CHILD_TYPES: Final = frozenset({"worker", "supervisor"})
STRATEGIES: Final = frozenset({"one_for_one", "one_for_all", "rest_for_one"})
AUTO_SHUTDOWN_MODES: Final = frozenset({"never", "any", "all"})
BUDGETS: Final = frozenset({"child", "shared", "escalate"})
_NO_CLASSES: Final = ()
_NOTHING: Final[frozenset[str]] = frozenset()


class Missing:
    """The type of `MISSING`: the option was not given."""

    def __repr__(self) -> str:
        return "<missing>"


MISSING: Final = Missing()


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

    # Seconds before the first attempt, and at most.
    first: float = 0.1
    max: float = 30.0
    factor: float = 2.0
    # Up to which part of the wait it is made longer or shorter by chance.
    jitter: float = 0.2
    reset_after: float = 60.0
    give_up_after: int | None = None

    def __post_init__(self) -> None:
        _check_backoff(self.first, self.max, self.factor, self.jitter)
        _check_backoff_limits(self.reset_after, self.give_up_after)

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
    # Of `type` and `shutdown` those that nobody has said: known when a factory has made one.
    _guessed: frozenset[str] = field(repr=False, compare=False)

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
        restart_on: ErrorClasses = BaseException,
        stop_on: ErrorClasses = _NO_CLASSES,
        escalate_on: ErrorClasses = _NO_CLASSES,
        name: str | None = None,
        **unknown: Never,
    ) -> None:
        _no_unknown(unknown)
        _check_id(id)
        check_start(start)
        _check_choice("bad_restart", "restart", restart, RESTART_TYPES)
        kind = _type_of(start) if type is None else type
        _check_choice("bad_type", "type", kind, CHILD_TYPES)
        guessed = _NOTHING
        if type is None and class_of(start) is None:
            guessed = frozenset({"type"} if shutdown is not None else {"type", "shutdown"})
        if shutdown is None:
            shutdown = math.inf if kind == "supervisor" else WORKER_SHUTDOWN
        _check_shutdown(shutdown)
        _check_significance(significant, restart)
        _check_optional("bad_backoff", "backoff", backoff, Backoff)
        if name is not None:
            _check_name(name)
        put = object.__setattr__  # the class is frozen, for everybody but its own constructor
        put(self, "id", id)
        put(self, "start", start)
        put(self, "restart", restart)
        put(self, "shutdown", shutdown)
        put(self, "type", kind)
        put(self, "significant", significant)
        put(self, "backoff", backoff)
        put(self, "restart_on", _check_policy("restart_on", restart_on))
        put(self, "stop_on", _check_policy("stop_on", stop_on))
        put(self, "escalate_on", _check_policy("escalate_on", escalate_on))
        put(self, "name", name)
        put(self, "_guessed", guessed)

    @classmethod
    def parse(cls, value: object) -> ChildSpec:
        """Call this to read a spec from a `ChildSpec` or a mapping of its fields."""
        if isinstance(value, ChildSpec):
            return value
        if isinstance(value, Mapping):
            options = cast("dict[str, Never]", {str(key): one for key, one in value.items()})
            return cls(**options)
        raise SpecError("not_a_spec", "spec", value)

    def known_as(self, kind: ChildType) -> ChildSpec:
        """Call this when it has been made, with what it is: a factory does not show that before."""
        if kind == self.type or "type" not in self._guessed:
            return self
        other = self._with("type", kind)
        return other._with("shutdown", math.inf) if "shutdown" in self._guessed else other

    def with_start(self, start: Maker) -> ChildSpec:
        """Call this to get the same spec with another start; nothing else is checked anew."""
        return self._with("start", start)

    def as_one_of(self, child_id: str, restart: RestartType) -> ChildSpec:
        """Call this to get the spec of one of several like this; nothing is checked anew."""
        return self._with("id", child_id)._with("restart", restart)

    def with_backoff(self, backoff: Backoff) -> ChildSpec:
        """Call this to get the same spec with another backoff."""
        return self._with("backoff", backoff)

    def _with(self, field: str, value: object) -> ChildSpec:
        other = object.__new__(ChildSpec)
        for one in ChildSpec.__slots__:
            object.__setattr__(other, one, getattr(self, one))
        object.__setattr__(other, field, value)
        return other


def without_arguments(spec: ChildSpec) -> ChildSpec:
    """Call this to get the spec of a started temporary child: nothing to start it with."""
    return spec.with_start(FORGOTTEN)


def _type_of(start: object) -> ChildType:
    found = getattr(class_of(start), "child_type", "worker")
    return "supervisor" if found == "supervisor" else "worker"


@dataclass(frozen=True, slots=True)
class Flags:
    """How a static supervisor treats its children together."""

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: AutoShutdownMode = "never"

    def __post_init__(self) -> None:
        _check_choice("bad_strategy", "strategy", self.strategy, STRATEGIES)
        _check_budget(self.intensity, self.period)
        _check_choice("bad_auto_shutdown", "auto_shutdown", self.auto_shutdown, AUTO_SHUTDOWN_MODES)


@dataclass(frozen=True, slots=True)
class DynamicFlags:
    """How a dynamic supervisor treats its children, each made from one template.

    `key` names the constructor parameter that takes the key of `rooms[key]`; None means the
    children are started with `start_child(*args)` and have no keys. A key whose child gave up
    is refused for `cooldown` seconds; an idle child is stopped after `passivate_after`.
    """

    # One restart a second for five seconds is a hiccup; more is a child that will not recover.
    intensity: int = 5
    period: float = 5.0
    budget: Budget = "child"
    auto_shutdown: AutoShutdownMode = "never"
    key: str | None = None
    max_children: int | None = None
    cooldown: float = 30.0
    passivate_after: float | None = None

    def __post_init__(self) -> None:
        _check_budget(self.intensity, self.period)
        _check_choice("bad_budget", "budget", self.budget, BUDGETS)
        _check_choice("bad_auto_shutdown", "auto_shutdown", self.auto_shutdown, AUTO_SHUTDOWN_MODES)
        if self.auto_shutdown != "never":
            raise SpecError("bad_combination", "auto_shutdown", self.auto_shutdown)
        _check_key(self.key)
        _check_limit("max_children", self.max_children)
        _check_seconds("cooldown", self.cooldown)
        if self.passivate_after is not None:
            _check_seconds("passivate_after", self.passivate_after)


# Of a static supervisor, or of a dynamic one.
AnyFlags: TypeAlias = Flags | DynamicFlags


@dataclass(frozen=True, slots=True, init=False)
class Plan:
    """Everything a supervisor is told: its flags and its children in start order.

    With `DynamicFlags` the one spec is the template of all children. Raises `SpecError`.
    """

    flags: AnyFlags
    specs: tuple[ChildSpec, ...]

    def __init__(
        self, flags: AnyFlags | Mapping[str, object] | None = None, specs: Iterable[object] = ()
    ) -> None:
        given = read_flags(flags)
        _check_specs_field(specs)
        found = tuple(ChildSpec.parse(one) for one in specs)
        if isinstance(given, DynamicFlags):
            if len(found) != 1:
                raise SpecError("bad_template", "specs", len(found))
            # One of many that crash may have all of them behind one cause: without a wait they
            # would come back at once, together.
            if found[0].backoff is None:
                found = (found[0].with_backoff(Backoff()),)
        _check_ids(spec.id for spec in found)
        for spec in found:
            check_together(spec, given)
        object.__setattr__(self, "flags", given)
        object.__setattr__(self, "specs", found)


def read_flags(value: object) -> AnyFlags:
    """Call this to read flags from themselves, a mapping, or None for the defaults.

    A mapping with `dynamic=True` holds the flags of a dynamic supervisor.
    """
    if value is None:
        return Flags()
    if isinstance(value, (Flags, DynamicFlags)):
        return value
    if not isinstance(value, Mapping):
        raise SpecError("not_flags", "flags", value)
    options = {str(key): one for key, one in value.items()}
    kind: type[Flags | DynamicFlags] = Flags
    if options.pop("dynamic", False):
        kind = DynamicFlags
    known = {name: options.pop(name) for name in kind.__dataclass_fields__ if name in options}
    _no_unknown(options)
    return kind(**cast("dict[str, Never]", known))


def check_together(spec: ChildSpec, flags: AnyFlags) -> None:
    """Call this to refuse a spec that makes no sense under these flags."""
    if spec.significant and flags.auto_shutdown == "never":
        raise SpecError("bad_combination", "significant", spec.significant)


# -- the checks ---------------------------------------------------------------------------------


def is_number(value: object) -> bool:
    """Call this to know whether `value` is a real number; NaN and booleans are none.

    Neither is what no float can hold: 10**400 is less than `inf`, and can be added to no time.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:
        return False


def _is_name(value: object) -> bool:
    """Whether `value` can stand in a path: 1-200 characters, no `/`."""
    if not isinstance(value, str) or not 1 <= len(value) <= ID_LENGTH_MAX:
        return False
    return "/" not in value and value.isprintable()


def _no_unknown(options: Mapping[str, object]) -> None:
    """Refuse what is left over: a misspelt option must not be ignored."""
    for name, value in options.items():
        raise SpecError("unknown_option", name, value)


def _check_id(value: object) -> None:
    """Refuse a child id that is missing or cannot stand in a path."""
    if value is MISSING:
        raise SpecError("missing_id", "id", value)
    if not _is_name(value):
        raise SpecError("bad_id", "id", value)


def check_start(value: object) -> None:
    """Call this to refuse a start that is missing or cannot be called."""
    if value is MISSING:
        raise SpecError("missing_start", "start", value)
    if not callable(value):
        raise SpecError("bad_start", "start", value)


def _check_choice(code: str, field: str, value: object, allowed: frozenset[str]) -> None:
    """Refuse a word that is not among the allowed ones."""
    if not isinstance(value, str) or value not in allowed:
        raise SpecError(code, field, value)


def _check_shutdown(value: object) -> None:
    """Refuse a shutdown time: seconds >= 0, `inf` or "kill" are allowed."""
    if value == "kill":
        return
    if not is_number(value) or not isinstance(value, (int, float)) or value < 0:
        raise SpecError("bad_shutdown", "shutdown", value)


def _check_policy(field: str, value: object) -> tuple[type[BaseException], ...]:
    """Turn an exception class, or some, into a tuple of them."""
    if value is BaseException or value is _NO_CLASSES:  # the defaults, in nearly every spec
        return _NO_CLASSES if value is _NO_CLASSES else (BaseException,)
    classes = value if isinstance(value, (tuple, list, frozenset, set)) else (value,)
    found: list[type[BaseException]] = []
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise SpecError("bad_policy", field, value)
        found.append(one)
    return tuple(found)


def _check_significance(value: object, restart: str) -> None:
    """Refuse a significant child that can never end for good."""
    if not isinstance(value, bool):
        raise SpecError("bad_significant", "significant", value)
    if value and restart == "permanent":
        raise SpecError("bad_combination", "significant", value)


def _check_backoff(first: object, longest: object, factor: object, jitter: object) -> None:
    """Refuse waits that are negative, endless or shrinking."""
    if not _in_range(first, 0.0) or first == 0:
        raise SpecError("bad_backoff", "first", first)
    if not _in_range(longest, 0.0) or not isinstance(first, (int, float)):
        raise SpecError("bad_backoff", "max", longest)
    if isinstance(longest, (int, float)) and longest < first:
        raise SpecError("bad_backoff", "max", longest)
    if not _in_range(factor, 1.0):
        raise SpecError("bad_backoff", "factor", factor)
    if not _in_range(jitter, 0.0) or (isinstance(jitter, (int, float)) and jitter > 1):
        raise SpecError("bad_backoff", "jitter", jitter)


def _check_backoff_limits(reset_after: object, give_up_after: object) -> None:
    """Refuse a backoff that never resets sensibly or gives up before it began."""
    if not is_number(reset_after) or not isinstance(reset_after, (int, float)) or reset_after <= 0:
        raise SpecError("bad_backoff", "reset_after", reset_after)
    if give_up_after is not None and not _is_count(give_up_after, 1):
        raise SpecError("bad_backoff", "give_up_after", give_up_after)


def _check_budget(intensity: object, period: object) -> None:
    """Refuse a restart budget: int >= 0 restarts in 0 < seconds < inf."""
    if not _is_count(intensity, 0):
        raise SpecError("bad_intensity", "intensity", intensity)
    if not _in_range(period, 0.0) or period == 0:
        raise SpecError("bad_period", "period", period)


def _check_limit(field: str, value: object) -> None:
    """Refuse a number of children: None (no limit) or an int >= 1."""
    if value is not None and not _is_count(value, 1):
        raise SpecError("bad_limit", field, value)


def _check_seconds(field: str, value: object) -> None:
    """Refuse a time that is not 0 <= seconds < inf."""
    if not _in_range(value, 0.0):
        raise SpecError("bad_limit", field, value)


def _check_name(value: object) -> None:
    """Refuse a name that cannot be registered."""
    if not _is_name(value):
        raise SpecError("bad_name", "name", value)


def _check_key(value: object) -> None:
    """Refuse a key that is no parameter's name."""
    if value is not None and not (isinstance(value, str) and value.isidentifier()):
        raise SpecError("bad_key", "key", value)


def _check_optional(code: str, field: str, value: object, kind: type) -> None:
    """Refuse anything but None and one kind of value."""
    if value is not None and not isinstance(value, kind):
        raise SpecError(code, field, value)


def _check_specs_field(value: object) -> None:
    """Refuse what is no list of specs."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise SpecError("not_a_spec", "specs", value)


def _check_ids(ids: Iterable[str]) -> None:
    """Refuse two children of one id."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise SpecError("duplicate_id", "id", one)
        seen.add(one)


def class_of(start: object) -> type | None:
    """Call this to find the actor class behind a start, if one can be seen without calling it."""
    if isinstance(start, functools.partial) and not hasattr(start, "actor_class"):
        return class_of(start.func)
    made = getattr(start, "actor_class", get_origin(start) or start)
    return made if inspect.isclass(made) else None


def _in_range(value: object, least: float) -> bool:
    if not is_number(value) or not isinstance(value, (int, float)):
        return False
    return least <= value < math.inf


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
