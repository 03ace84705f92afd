"""Whose `apply` folds a stream: by the category that its aggregate has.

An event-sourced reducer is found as an aggregate is, by the class of its actor. Looked for in this
order: the modules that were named (`--import`), the aggregates that installed programs registered
(entry points of the group `greenroom.aggregates`), and the site's own. A class that is named
itself, `--import shop.orders:Orders`, is taken for whatever stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TypeAlias, TypeGuard

from actors.persistence import Aggregate, EventSourcedReducerActor, StreamId
from actors.reducers import Environment
from web.cli.opening import import_modules
from web.cli.reading.folding import AggregateFold, Fold, ReducerFold
from web.observability import Code, CommandFailed
from web.wiring.environment import SystemClock, SystemIds

GROUP = "greenroom.aggregates"
OWN = {"lab_step": "web.lab.demos.checkout.counterparts:LabStep"}

_Class: TypeAlias = (
    type[Aggregate[object, object, object]] | type[EventSourcedReducerActor[object, object]]
)
_BASES = (Aggregate, EventSourcedReducerActor)


def find_aggregate(stream: StreamId, wanted: Sequence[str]) -> Fold:
    """Call this for the aggregate of a stream, made; `CommandFailed` where there is not one."""
    named = [_class(one) for one in wanted if ":" in one]
    if named:
        return _made(named[-1])
    given = _of_modules([one for one in wanted if ":" not in one])
    if fitting := [one for one in given if _category(one) == stream.category]:
        return _made(_only(fitting, stream))
    registered = [one.value for one in entry_points(group=GROUP) if one.name == stream.category]
    for spelt in (*registered, *(text for name, text in OWN.items() if name == stream.category)):
        return _made(_class(spelt))
    known = f"; what was imported has {_list(map(_category, given))}" if given else ""
    raise CommandFailed(
        Code.UNKNOWN,
        f"no aggregate of category {stream.category!r} is known{known}",
        "Name its module, such as --import shop.orders; an installed program registers it as "
        f"{stream.category} in the entry points {GROUP}. greenroom events shows it without one",
    )


def _class(spelt: str) -> _Class:
    module, _, name = spelt.partition(":")
    (found,) = import_modules([module])
    cls: object = getattr(found, name, None)
    if not _is_aggregate(cls):
        near = get_close_matches(name, [one.__name__ for one in _of_modules([module])], 3, 0.3)
        hint = f"There is {', '.join(near)}" if near else ""
        raise CommandFailed(Code.UNKNOWN, f"{module} has no aggregate {name!r:.80}", hint)
    return cls


def _is_aggregate(value: object) -> TypeGuard[_Class]:
    return isinstance(value, type) and issubclass(value, _BASES) and value not in _BASES


def _of_modules(names: Sequence[str]) -> list[_Class]:
    found = [
        one
        for module in import_modules(names)
        for one in vars(module).values()
        if _is_aggregate(one) and _category(one)
    ]
    return list(dict.fromkeys(found))


def _category(cls: object) -> str:
    return str(getattr(cls, "category", ""))


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))


def _only(found: Sequence[_Class], stream: StreamId) -> _Class:
    if len(found) == 1:
        return found[0]
    spelt = _list(f"{one.__module__}:{one.__name__}" for one in found)
    raise CommandFailed(
        Code.USAGE,
        f"several aggregates have the category {stream.category!r}: {spelt}",
        "Name one, with --import MODULE:CLASS",
    )


def _made(cls: _Class) -> Fold:
    try:
        if issubclass(cls, EventSourcedReducerActor):
            return ReducerFold(cls, Environment(SystemClock(), SystemIds()))
        return AggregateFold(cls())
    except (TypeError, AttributeError) as error:
        raise CommandFailed(
            Code.FAILED, f"{cls.__name__} cannot be made without more ({error})"
        ) from error
