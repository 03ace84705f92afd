"""What a spec, a flag or a plan may hold: one small check a field, each with its own code.

Pure functions that return nothing or raise `SpecError(code, field, value)`. The nouns they
guard are in `words.py`, which calls them from its constructors.
"""

import functools
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Final

from supervision.specs.errors import SpecError

# As ACT-60: a name stands in paths, log lines and URLs.
ID_LENGTH_MAX: Final = 200

RESTART_TYPES: Final = frozenset({"permanent", "transient", "temporary"})
CHILD_TYPES: Final = frozenset({"worker", "supervisor"})
STRATEGIES: Final = frozenset({"one_for_one", "one_for_all", "rest_for_one"})
AUTO_SHUTDOWN_MODES: Final = frozenset({"never", "any", "all"})
BUDGETS: Final = frozenset({"child", "shared", "escalate"})


class Missing:
    """The type of `MISSING`: the option was not given."""

    def __repr__(self) -> str:
        return "<missing>"


MISSING: Final = Missing()


def is_number(value: object) -> bool:
    """Call this to know whether `value` is a real number; NaN and booleans are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return not math.isnan(value)


def is_name(value: object) -> bool:
    """Call this to know whether `value` can stand in a path: 1-200 characters, no `/`."""
    if not isinstance(value, str) or not 1 <= len(value) <= ID_LENGTH_MAX:
        return False
    return "/" not in value and value.isprintable()


def no_unknown(options: Mapping[str, object]) -> None:
    """Call this to refuse what is left over: a misspelt option must not be ignored."""
    for name, value in options.items():
        raise SpecError("unknown_option", name, value)


def check_id(value: object) -> None:
    """Call this to refuse a child id that is missing or cannot stand in a path."""
    if value is MISSING:
        raise SpecError("missing_id", "id", value)
    if not is_name(value):
        raise SpecError("bad_id", "id", value)


def check_start(value: object) -> None:
    """Call this to refuse a start that is missing or cannot be called."""
    if value is MISSING:
        raise SpecError("missing_start", "start", value)
    if not callable(value):
        raise SpecError("bad_start", "start", value)


def check_choice(code: str, field: str, value: object, allowed: frozenset[str]) -> None:
    """Call this to refuse a word that is not among the allowed ones."""
    if not isinstance(value, str) or value not in allowed:
        raise SpecError(code, field, value)


def check_shutdown(value: object) -> None:
    """Call this to refuse a shutdown time: seconds >= 0, `inf` or "kill" are allowed."""
    if value == "kill":
        return
    if not is_number(value) or not isinstance(value, (int, float)) or value < 0:
        raise SpecError("bad_shutdown", "shutdown", value)


def check_policy(field: str, value: object) -> tuple[type[BaseException], ...]:
    """Call this to turn an exception class, or some, into a tuple of them."""
    if value is Exception or value == ():  # the defaults, in nearly every spec
        return (Exception,) if value else ()
    classes = value if isinstance(value, (tuple, list, frozenset, set)) else (value,)
    found: list[type[BaseException]] = []
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise SpecError("bad_policy", field, value)
        found.append(one)
    return tuple(found)


def check_significance(value: object, restart: str) -> None:
    """Call this to refuse a significant child that can never end for good."""
    if not isinstance(value, bool):
        raise SpecError("bad_significant", "significant", value)
    if value and restart == "permanent":
        raise SpecError("bad_combination", "significant", value)


def check_backoff(first: object, longest: object, factor: object, jitter: object) -> None:
    """Call this to refuse waits that are negative, endless or shrinking."""
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


def check_backoff_limits(reset_after: object, give_up_after: object) -> None:
    """Call this to refuse a backoff that never resets sensibly or gives up before it began."""
    if not is_number(reset_after) or not isinstance(reset_after, (int, float)) or reset_after <= 0:
        raise SpecError("bad_backoff", "reset_after", reset_after)
    if give_up_after is not None and not _is_count(give_up_after, 1):
        raise SpecError("bad_backoff", "give_up_after", give_up_after)


def check_budget(intensity: object, period: object) -> None:
    """Call this to refuse a restart budget: int >= 0 restarts in 0 < seconds < inf."""
    if not _is_count(intensity, 0):
        raise SpecError("bad_intensity", "intensity", intensity)
    if not _in_range(period, 0.0) or period == 0:
        raise SpecError("bad_period", "period", period)


def check_limit(field: str, value: object) -> None:
    """Call this to refuse a number of children: None (no limit) or an int >= 1."""
    if value is not None and not _is_count(value, 1):
        raise SpecError("bad_limit", field, value)


def check_seconds(field: str, value: object) -> None:
    """Call this to refuse a time that is not 0 <= seconds < inf."""
    if not _in_range(value, 0.0):
        raise SpecError("bad_limit", field, value)


def check_name(value: object) -> None:
    """Call this to refuse a name that cannot be registered."""
    if not is_name(value):
        raise SpecError("bad_name", "name", value)


def check_optional(code: str, field: str, value: object, kind: type) -> None:
    """Call this to refuse anything but None and one kind of value."""
    if value is not None and not isinstance(value, kind):
        raise SpecError(code, field, value)


def check_specs_field(value: object) -> None:
    """Call this to refuse what is no list of specs."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise SpecError("not_a_spec", "specs", value)


def check_ids(ids: Iterable[str]) -> None:
    """Call this to refuse two children of one id."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise SpecError("duplicate_id", "id", one)
        seen.add(one)


def class_of(start: object) -> type | None:
    """Call this to find the actor class behind a start, if one can be seen without calling it."""
    if isinstance(start, functools.partial):
        return class_of(start.func)
    made = getattr(start, "actor_class", start)
    return made if inspect.isclass(made) else None


def _in_range(value: object, least: float) -> bool:
    if not is_number(value) or not isinstance(value, (int, float)):
        return False
    return least <= value < math.inf


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
