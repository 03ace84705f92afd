"""What of the words in `child(Stock, "front", n=5, restart="transient")` is an option.

Options have fixed names; everything else is for the class. Both is checked against the signature,
where Python can read one, so that a slip is an error of the line it stands in and not of the first
start. The checks raise `SpecError`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import Final, cast
from weakref import WeakKeyDictionary

from actors.runtime.system.making import (
    BY_NAME,
    class_behind,
    signature_of,
    takes_too,
    way_to_give_both,
)
from supervision.specs.errors import SpecError
from supervision.specs.specs import ChildSpec, DynamicFlags, Maker, check_start

CHILD_OPTIONS: Final = frozenset(ChildSpec.__dataclass_fields__) - {"id", "start", "_guessed"}
DYNAMIC_OPTIONS: Final = CHILD_OPTIONS | frozenset(DynamicFlags.__dataclass_fields__)

# What each template has been found to take. To read a signature takes as long as to start a child.
_known: WeakKeyDictionary[object, frozenset[str]] = WeakKeyDictionary()


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
    signature = signature_of(start)
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
    signature = signature_of(made.func)
    if signature is not None:
        try:
            signature.bind(*made.args, **made.keywords)
        except TypeError as error:
            raise _bad_arguments(made, error) from None


def check_template(made: functools.partial[object], key: str | None) -> None:
    """Call this to refuse a template that no child can be made from, whatever else it is given."""
    check_key(made.func, key)
    signature = signature_of(made.func)
    if signature is None:
        return
    keyed = {} if key is None else {key: ""}
    try:
        signature.bind_partial(*made.args, **{**made.keywords, **keyed})
    except TypeError as error:
        raise _bad_arguments(made, error) from None


def check_key(start: object, key: str | None) -> None:
    """Call this to refuse a key that the class or method does not take."""
    signature = None if key is None or not key.isidentifier() else signature_of(start)
    if key is not None and signature is not None and not _takes(signature, key):
        why = f"{_name_of(start)} takes no argument of that name."
        raise SpecError("bad_key", "key", key, why)


def _bad_arguments(made: functools.partial[object], error: TypeError) -> SpecError:
    return SpecError(
        "bad_arguments", "start", made.func, f"{_name_of(made.func)} cannot be called so: {error}."
    )


def _check_not_both(start: object, args: tuple[object, ...], chosen: Mapping[str, object]) -> None:
    for name, value in chosen.items():
        # `key` says which argument is the key; that one may be called `key` itself.
        if name != "key" and takes_too(start, args, name):
            what = _name_of(start)
            why = (
                f"{what} takes an argument of that name, and it is an option here. "
                f"{way_to_give_both(what, name)}"
            )
            raise SpecError("ambiguous_option", name, value, why)


def _takes(signature: Signature, name: str) -> bool:
    parameter = signature.parameters.get(name)
    if parameter is not None and parameter.kind in BY_NAME:
        return True
    return Parameter.VAR_KEYWORD in [one.kind for one in signature.parameters.values()]


def _name_of(start: object) -> str:
    made = class_behind(start)
    return getattr(made, "__qualname__", None) or repr(made)
