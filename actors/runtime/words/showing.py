"""Values of user code as text and as fields, secrets hidden: this must never fail.

A broken `__repr__` in one actor's error would otherwise end the task that only reports it.
What an actor's own `redact` hides, and how much is shown, is in `watching/presenting.py`.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Callable
from typing import Final

# An error's message is a line to read, not a dump; reports hold the rest.
SHOWN_MAX: Final = 1000
HIDDEN: Final = "***"
MISSING: Final = "(not set)"

_SECRET_NAME = re.compile(r"(?i)password|passwd|token|secret|cookie|authorization|api_?key")
_SECRET_IN_TEXT = re.compile(
    r"(?i)(password|passwd|token|secret|cookie|authorization)([\"']?\s*[=:]\s*)"
    r"(\"[^\"]*\"|'[^']*'|(?:bearer\s+|basic\s+)?[^\s,;&)]+)"
)


def shown(value: object) -> str:
    """Call this instead of `repr`, for what user code has made; cut to SHOWN_MAX characters."""
    return _safely(repr, value)


def text_of(value: object) -> str:
    """Call this instead of `str`, for what user code has made; cut to SHOWN_MAX characters."""
    return _safely(str, value)


def _safely(show: Callable[[object], str], value: object) -> str:
    try:
        return show(value)[:SHOWN_MAX]
    except Exception as error:  # noqa: BLE001 - whatever a `__repr__` of user code raises
        return f"<{type(value).__name__}: its text failed with {type(error).__name__}>"


def redact_text(text: str) -> str:
    """Call this to hide what follows a word like `password=` or `token:` in free text."""
    return _SECRET_IN_TEXT.sub(rf"\1\2{HIDDEN}", text)


def redact_names(state: dict[str, object]) -> dict[str, object]:
    """Call this to hide values by their names; it is the default of `Actor.redact`."""
    return {
        name: HIDDEN if _SECRET_NAME.search(name) else _redact_value(value)
        for name, value in state.items()
    }


def _redact_value(value: object) -> object:
    if type(value) is dict:
        return redact_names({text_of(name): inner for name, inner in value.items()})
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_redact_value(inner) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, **redact_names(fields_of(value))}
    return value


def fields_of(value: object) -> dict[str, object]:
    """Call this to get the public fields of a message or an actor's state.

    A dataclass field declared with `repr=False` is hidden by the type itself, also when no
    actor is left whose `redact` could be asked.
    """
    if dataclasses.is_dataclass(value):
        return {
            field.name: getattr(value, field.name, MISSING) if field.repr else HIDDEN
            for field in dataclasses.fields(value)
        }
    if (fields := getattr(type(value), "__struct_fields__", None)) is not None:
        return {name: getattr(value, name, MISSING) for name in fields}
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        return {"value": value}
    return {name: inner for name, inner in attributes.items() if name != "_life"}
