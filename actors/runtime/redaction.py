"""How secrets are kept out of what is shown: status, reports, dead letters.

Rule 1: when redaction fails, nothing of the state is shown.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from typing import TYPE_CHECKING, Final

from actors.runtime.exits import redact_text
from actors.runtime.showing import text_of

if TYPE_CHECKING:
    from actors.runtime.cell import Cell

# One dead letter is a line in a table; 512 characters fill it.
MESSAGE_TEXT_MAX: Final = 512
HIDDEN: Final = "***"
MISSING: Final = "(not set)"
_SECRET_NAME = re.compile(r"(?i)password|passwd|token|secret|cookie|authorization|api_?key")


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


def redacted(cell: Cell, state: dict[str, object]) -> dict[str, object] | str:
    """Call this to pass `state` through the actor's hook; a text when the hook fails."""
    life = cell.life
    instance = None if life is None else life.instance
    cls = cell.actor_class
    try:
        if instance is None and cls is not None:
            # Nobody runs, and the state is somebody else's message. A hook that needs the
            # attributes of an instance fails here, and then nothing is shown.
            instance = cls.__new__(cls)
        hidden = redact_names(state) if instance is None else instance.redact(state)
    except Exception as error:  # noqa: BLE001 - a failing hook must not show the raw state
        return f"<redaction failed: {type(error).__name__}>"
    return hidden


def redacted_message(cell: Cell, message: object) -> str:
    """Call this to get a message as text, its secrets hidden, cut to one line's length."""
    hidden = redacted(cell, fields_of(message))
    if isinstance(hidden, str):
        return hidden
    try:
        inner = ", ".join(f"{name}={value!r}" for name, value in hidden.items())
    except Exception as error:  # noqa: BLE001 - a failing __repr__ of user code
        return f"<repr failed: {type(error).__name__}>"
    return redact_text(f"{type(message).__name__}({inner})")[:MESSAGE_TEXT_MAX]
