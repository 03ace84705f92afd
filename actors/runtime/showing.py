"""Values of user code as text, for messages of errors and reports: this must never fail.

A broken `__repr__` in one actor's error would otherwise end the task that only reports it.
"""

from __future__ import annotations

from collections.abc import Callable

# An error's message is a line to read, not a dump; reports hold the rest.
SHOWN_MAX = 1000


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
