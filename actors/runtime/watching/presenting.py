"""What an actor holds, as others may see it: its own `redact` first, then cut, ready for JSON.

`redact` gets the real values, all of them; what it gives back is cut while it is walked
(`words/showing.py`), and names of secrets are hidden in it wherever they stand.

Rule 1: when redaction fails, nothing of the state is shown.
"""

from __future__ import annotations

from typing import Final

from actors.runtime.life.cell import Cell
from actors.runtime.words.showing import (
    Bounds,
    class_name,
    fields_of,
    fields_shown,
    plain,
    redact_names,
)

# One dead letter is a line in a table; 512 characters fill it.
MESSAGE_BOUNDS: Final = Bounds(total=512, text=512)
# A state is looked at in a side panel: so much of it, and so deep, can be read there. What does
# not fit is shown with less of each thing, so that there is room for something of all.
STATE_BYTES_MAX: Final = 8 * 1024
STATE_BOUNDS: Final = (
    Bounds(STATE_BYTES_MAX, text=1000, items=1000),
    Bounds(STATE_BYTES_MAX, text=150, items=30),
    Bounds(STATE_BYTES_MAX, text=50, items=10),
)


def redacted(cell: Cell, value: object) -> dict[str, object] | str:
    """The fields of a state or message after the actor's own hook; a text when that fails."""
    life = cell.life
    instance = None if life is None else life.instance
    cls = cell.actor_class
    try:
        # Properties, and a `__getattribute__`, are code of the user's as the hook is.
        state = fields_of(value)
        if instance is None and cls is not None:
            # Nobody runs, and the state is somebody else's message. A hook that needs the
            # attributes of an instance fails here, and then nothing is shown.
            instance = cls.__new__(cls)
        hidden = redact_names(state) if instance is None else instance.redact(state)
        return {**hidden}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a failing hook must not show the raw state
        return f"<redaction failed: {class_name(type(error))}>"


def redacted_message(cell: Cell, message: object) -> str:
    """A message as text, its secrets hidden, cut to one line's length."""
    hidden = redacted(cell, message)
    if isinstance(hidden, str):
        return hidden
    return fields_shown(class_name(type(message)), hidden, MESSAGE_BOUNDS)


def redacted_state(cell: Cell, instance: object) -> object:
    """The state of an actor as plain data, its secrets hidden."""
    return presentable(redacted(cell, instance))


def presentable(value: object) -> object:
    """Call this to make anything ready for JSON: at most 4 deep and 8 KiB, marked where cut.

    What stands under the name of a secret is hidden. It costs no more for a large value than for
    one that just fits.
    """
    return plain(value, *STATE_BOUNDS)
