"""Everything a supervisor is told at once: its flags and its children in start order.

Checked where it is made, as in `specs.py`; what one spec may hold is told there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Never, TypeAlias, cast

from supervision.specs import checks
from supervision.specs.errors import SpecError
from supervision.specs.specs import Backoff, ChildSpec
from supervision.specs.words import AutoShutdownMode, Budget, Strategy


@dataclass(frozen=True, slots=True)
class Flags:
    """How a static supervisor treats its children together."""

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: AutoShutdownMode = "never"

    def __post_init__(self) -> None:
        checks.check_choice("bad_strategy", "strategy", self.strategy, checks.STRATEGIES)
        checks.check_budget(self.intensity, self.period)
        checks.check_choice(
            "bad_auto_shutdown", "auto_shutdown", self.auto_shutdown, checks.AUTO_SHUTDOWN_MODES
        )


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
        checks.check_budget(self.intensity, self.period)
        checks.check_choice("bad_budget", "budget", self.budget, checks.BUDGETS)
        checks.check_choice(
            "bad_auto_shutdown", "auto_shutdown", self.auto_shutdown, checks.AUTO_SHUTDOWN_MODES
        )
        if self.auto_shutdown != "never":
            raise SpecError("bad_combination", "auto_shutdown", self.auto_shutdown)
        if self.key is not None and not self.key.isidentifier():
            raise SpecError("bad_key", "key", self.key)
        checks.check_limit("max_children", self.max_children)
        checks.check_seconds("cooldown", self.cooldown)
        if self.passivate_after is not None:
            checks.check_seconds("passivate_after", self.passivate_after)


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
        checks.check_specs_field(specs)
        found = tuple(ChildSpec.parse(one) for one in specs)
        if isinstance(given, DynamicFlags):
            if len(found) != 1:
                raise SpecError("bad_template", "specs", len(found))
            if found[0].backoff is None:
                found = (found[0].with_backoff(Backoff()),)
        checks.check_ids(spec.id for spec in found)
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
    checks.no_unknown(options)
    return kind(**cast("dict[str, Never]", known))


def check_together(spec: ChildSpec, flags: AnyFlags) -> None:
    """Call this to refuse a spec that makes no sense under these flags."""
    if spec.significant and flags.auto_shutdown == "never":
        raise SpecError("bad_combination", "significant", spec.significant)
