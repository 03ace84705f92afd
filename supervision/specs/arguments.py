"""What of the words in `child(Stock, "front", n=5, restart="transient")` is an option.

Options have fixed names; everything else is for the class. Both is checked against the signature,
where Python can read one, so that a slip is an error of the line it stands in and not of the first
start. The checks raise `SpecError`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import Final, cast, get_origin
from weakref import WeakKeyDictionary

from supervision.specs.errors import SpecError
from supervision.specs.specs import ChildSpec, DynamicFlags, Maker, check_start

CHILD_OPTIONS: Final = frozenset(ChildSpec.__dataclass_fields__) - {"id", "start", "_guessed"}
DYNAMIC_OPTIONS: Final = CHILD_OPTIONS | frozenset(DynamicFlags.__dataclass_fields__)

# What each template has been found to take. To read a signature takes as long as to start a child.
_known: WeakKeyDictionary[object, frozenset[str]] = WeakKeyDictionary()

_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def split(
    start: object,
    args: tuple[object, ...],
    given: Mapping[str, object],
    options: frozenset[str],
) -> tuple[functools.partial[object], dict[str, object]]:
    """Call this to get a start with its arguments, and the options; `given` holds both by name.

    Raises `SpecError`: `unknown_option` for what is neither, `ambiguous_option` for what is both.
    """
    check_start(start)
    chosen = {name: value for name, value in given.items() if name in options}
    named = {name: value for name, value in given.items() if name not in options}
    check_names(start, named, options)
    _check_not_both(start, args, chosen)
    return functools.partial(cast(Maker, start), *args, **named), chosen


def check_names(
    start: object, named: Mapping[str, object], options: frozenset[str] = frozenset()
) -> None:
    """Call this to refuse arguments by name that a start does not take; `options` are meant else.

    Raises `SpecError`, `unknown_option`.
    """
    if not named:
        return
    signature = _signature_of(start)
    for name, value in named.items():
        if signature is None or not _takes(signature, name):
            why = f"It is neither an option here nor an argument of {_name_of(start)}."
            known = sorted(options) + ([] if signature is None else list(signature.parameters))
            for meant in get_close_matches(name, known, n=1):
                why += f" Did you mean {meant!r}?"
            raise SpecError("unknown_option", name, value, why)


def check_child(start: object, named: Mapping[str, object]) -> None:
    """Call this as `check_names`, for one child of a template: it is done at each start."""
    try:
        known = _known.get(start)
    except TypeError:  # neither hashable nor weakly referable
        known = None
    if known is None or not known.issuperset(named):
        check_names(start, named)
        try:
            _known[start] = frozenset(named).union(known or ())
        except TypeError:
            pass


def check_arguments(made: functools.partial[object]) -> None:
    """Call this to refuse a start that cannot be called as it stands."""
    signature = _signature_of(made.func)
    if signature is not None:
        try:
            signature.bind(*made.args, **made.keywords)
        except TypeError as error:
            raise _bad_arguments(made, error) from None


def check_template(made: functools.partial[object], key: str | None) -> None:
    """Call this to refuse a template that no child can be made from, whatever else it is given."""
    check_key(made.func, key)
    signature = _signature_of(made.func)
    if signature is None:
        return
    keyed = {} if key is None else {key: ""}
    try:
        signature.bind_partial(*made.args, **{**made.keywords, **keyed})
    except TypeError as error:
        raise _bad_arguments(made, error) from None


def check_key(start: object, key: str | None) -> None:
    """Call this to refuse a key that the class or method does not take."""
    signature = None if key is None or not key.isidentifier() else _signature_of(start)
    if key is not None and signature is not None and not _takes(signature, key):
        why = f"{_name_of(start)} takes no argument of that name."
        raise SpecError("bad_key", "key", key, why)


def _bad_arguments(made: functools.partial[object], error: TypeError) -> SpecError:
    return SpecError(
        "bad_arguments", "start", made.func, f"{_name_of(made.func)} cannot be called so: {error}."
    )


def _check_not_both(start: object, args: tuple[object, ...], chosen: Mapping[str, object]) -> None:
    signature = _signature_of(start) if chosen else None
    if signature is None:
        return
    taken = _given_before(start, signature, args)
    for name, value in chosen.items():
        # `key` says which argument is the key; that one may be called `key` itself.
        if name != "key" and name not in taken and _takes(signature, name, any_name=False):
            what = _name_of(start)
            why = (
                f"{what} takes an argument of that name, and it is an option here. Give the "
                f"argument with functools.partial({what}, {name}=...), or by its position; then "
                "the option is the option."
            )
            raise SpecError("ambiguous_option", name, value, why)


def _given_before(start: object, signature: Signature, args: tuple[object, ...]) -> set[str]:
    """The arguments that have their value already: by position, or within a `partial`."""
    try:
        taken = set(signature.bind_partial(*args).arguments)
    except TypeError:
        taken = set()
    while isinstance(start, functools.partial):
        taken.update(start.keywords)
        start = start.func
    return taken


def _takes(signature: Signature, name: str, *, any_name: bool = True) -> bool:
    parameter = signature.parameters.get(name)
    if parameter is not None and parameter.kind in _BY_NAME:
        return True
    kinds = [one.kind for one in signature.parameters.values()]
    return any_name and Parameter.VAR_KEYWORD in kinds


def _signature_of(start: object) -> Signature | None:
    # `Partitioned[Words]` hides what `Partitioned` takes.
    made = get_origin(start) or start
    try:
        return inspect.signature(made) if callable(made) else None
    except (TypeError, ValueError):
        return None


def _name_of(start: object) -> str:
    while isinstance(start, functools.partial):
        start = start.func
    return getattr(start, "__qualname__", None) or repr(start)
