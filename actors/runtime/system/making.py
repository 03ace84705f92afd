"""From `start(Stock, shelf="front")` to something that makes the actor, again at each restart.

Which words of a start are its own, and which are for the class, is decided here.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Never, Protocol, cast

from actors.runtime.life.hooks import AnyHooks


class Maker(Protocol):
    """What makes an actor: a class or any other callable."""

    def __call__(self, *args: object, **named: object) -> AnyHooks:
        """Make one."""


def maker_of(
    actor: object,
    args: tuple[object, ...],
    given: Mapping[str, object],
    options: Iterable[str] = ("name",),
) -> tuple[Maker, dict[str, Never]]:
    """Call this to get what is called with `args`, and the options; `given` holds by name both.

    What is no option is an argument of the actor. Raises TypeError for what is both.
    """
    made = cast(Maker, actor)
    if not given:
        return made, {}
    named = dict(given)
    chosen = {name: named.pop(name) for name in options if name in named}
    for name, value in chosen.items():
        if value is not None and isinstance(actor, type):
            _refuse_if_taken(actor, args, name)
    # The callee checks what it is given: here anything may stand.
    return partial(made, **named) if named else made, cast("dict[str, Never]", chosen)


def class_behind(actor: object) -> object:
    """Call this for the class or function that a `partial` calls in the end."""
    while isinstance(actor, partial):
        actor = actor.func
    return actor


def _refuse_if_taken(kind: type, args: tuple[object, ...], option: str) -> None:
    """Given by its position the argument is there already; then the option is the option."""
    place = _place_of(kind, option)
    if place is not None and len(args) <= place:
        name = kind.__qualname__
        raise TypeError(
            f"{name} takes an argument `{option}`, and it is an option of the start; nothing was "
            f"started. Give the argument with functools.partial({name}, {option}=...), or by its "
            "position; then the option is the option."
        )


def _place_of(kind: type, argument: str) -> float | None:
    """Where among the arguments of a class it stands; `inf` when it has no position."""
    try:
        parameters = inspect.signature(kind).parameters
    except (TypeError, ValueError):
        return None
    found = parameters.get(argument)
    if found is None or found.kind is inspect.Parameter.KEYWORD_ONLY:
        return None if found is None else math.inf
    return list(parameters).index(argument) if found.kind is found.POSITIONAL_OR_KEYWORD else None
