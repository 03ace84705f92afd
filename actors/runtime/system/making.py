"""From `start(Stock, shelf="front")` to something that makes the actor, again at each restart.

Which words of a start are its own, and which are for the class, is decided here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import partial
from types import CodeType
from typing import Final, Never, Protocol, cast, get_origin

from actors.runtime.life.hooks import AnyHooks

BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


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
        if value is None or not _may_take(class_behind(actor), name):
            continue
        if takes_too(actor, args, name):
            what = getattr(class_behind(actor), "__qualname__", "the actor")
            raise TypeError(
                f"{what} takes an argument `{name}`, and it is an option of the start; nothing was "
                f"started. {way_to_give_both(what, name)}"
            )
    # The callee checks what it is given: here anything may stand.
    return partial(made, **named) if named else made, cast("dict[str, Never]", chosen)


def class_behind(actor: object) -> object:
    """Call this for the class or function that a `partial` calls in the end."""
    while isinstance(actor, partial):
        actor = actor.func
    return actor


def way_to_give_both(what: str, name: str) -> str:
    """Call this for what to do about an argument that has the name of an option."""
    return (
        f"Give the argument with functools.partial({what}, {name}=...), or by its position; then "
        "the option is the option."
    )


def signature_of(start: object) -> inspect.Signature | None:
    """Call this for what a class or function takes; None when Python cannot tell."""
    # `Partitioned[Words]` hides what `Partitioned` takes.
    made = get_origin(start) or start
    try:
        return inspect.signature(made) if callable(made) else None
    except (TypeError, ValueError):
        return None


def takes_too(actor: object, args: tuple[object, ...], option: str) -> bool:
    """Call this for whether an argument could be meant: it is there, and has no value yet."""
    signature = signature_of(actor)
    parameter = None if signature is None else signature.parameters.get(option)
    if signature is None or parameter is None or parameter.kind not in BY_NAME:
        return False
    while isinstance(actor, partial):
        if option in actor.keywords:
            return False
        actor = actor.func
    try:
        return option not in signature.bind_partial(*args).arguments
    except TypeError:
        return True


def _may_take(made: object, argument: str) -> bool:
    """Whether it is worth to read the signature, which takes as long as the start of an actor."""
    made = get_origin(made) or made
    function: object = made
    if isinstance(made, type):
        function = getattr(made, "__init__", None)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or hasattr(function, "__wrapped__"):
        # Written in C, or hidden behind a decorator. A class without any is the most frequent.
        return function is not object.__init__
    return argument in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
