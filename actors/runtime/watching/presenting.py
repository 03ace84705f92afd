"""What an actor holds, as others may see it: its own `redact` first, then cut, ready for JSON.

Rule 1: when redaction fails, nothing of the state is shown.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Final

from actors.runtime.life.cell import Cell
from actors.runtime.words.showing import fields_of, redact_names, redact_text, shown, text_of

# One dead letter is a line in a table; 512 characters fill it.
MESSAGE_TEXT_MAX: Final = 512

# A state is looked at in a side panel: this deep, and this much of it, can be read there.
STATE_DEPTH_MAX: Final = 4
STATE_BYTES_MAX: Final = 8 * 1024
TEXT_MAX: Final = 1000
NUMBER_BITS_MAX: Final = 256
CUT: Final = "… (cut)"


def redacted(cell: Cell, state: dict[str, object]) -> dict[str, object] | str:
    """`state` after the actor's own hook; a text when the hook fails."""
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
    """A message as text, its secrets hidden, cut to one line's length."""
    hidden = redacted(cell, fields_of(message))
    if isinstance(hidden, str):
        return hidden
    try:
        inner = ", ".join(f"{name}={value!r}" for name, value in hidden.items())
    except Exception as error:  # noqa: BLE001 - a failing __repr__ of user code
        return f"<repr failed: {type(error).__name__}>"
    return redact_text(f"{type(message).__name__}({inner})")[:MESSAGE_TEXT_MAX]


def presentable(value: object) -> object:
    """Call this to make anything ready for JSON: at most 4 deep and 8 KiB, marked where cut."""
    try:
        return _cut(value)
    except Exception as error:  # noqa: BLE001 - containers of user code may fail in any way
        return f"<cannot be shown: {type(error).__name__}>"


def _cut(value: object) -> object:
    plain: object = None
    for text_max, items_max in ((TEXT_MAX, 1000), (200, 50), (50, 10)):
        plain = _plain(value, STATE_DEPTH_MAX, text_max, items_max)
        text = json.dumps(plain, ensure_ascii=False)
        if len(text.encode(errors="replace")) <= STATE_BYTES_MAX:
            return plain
    return redact_text(json.dumps(plain, ensure_ascii=False))[: STATE_BYTES_MAX // 4] + CUT


def _plain(value: object, depth: int, text_max: int, items_max: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Larger ones no reader of JSON takes, and beyond 4300 digits Python refuses to write.
        return value if value.bit_length() <= NUMBER_BITS_MAX else hex(value)[:text_max] + CUT
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if isinstance(value, str):
        value = value.encode(errors="replace").decode()  # Half a surrogate pair is no JSON.
        return value if len(value) <= text_max else value[:text_max] + CUT
    if isinstance(value, dict | list | tuple | set | frozenset | deque):
        if depth == 0:
            return CUT
        return _container(value, depth - 1, text_max, items_max)
    return _plain(redact_text(shown(value)), depth, text_max, items_max)


def _container(value: object, depth: int, text_max: int, items_max: int) -> object:
    if isinstance(value, dict):
        named: dict[str, object] = {
            text_of(name)[:text_max]: _plain(inner, depth, text_max, items_max)
            for name, inner in list(value.items())[:items_max]
        }
        if len(value) > items_max:
            named[CUT] = f"{len(value) - items_max} more"
        return named
    assert isinstance(value, list | tuple | set | frozenset | deque)
    items = [_plain(inner, depth, text_max, items_max) for inner in list(value)[:items_max]]
    if len(value) > items_max:
        items.append(f"{len(value) - items_max} more {CUT}")
    return items
