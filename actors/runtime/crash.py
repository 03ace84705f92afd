"""What an error becomes: the crash of an actor, or something that passes through the runtime."""

from __future__ import annotations

import trio

from actors.runtime.exits import Crashed


def crash_from(error: BaseException) -> Crashed:
    """Call this to make a caught error an exit; re-raises what must not become one."""
    return Crashed(without_cancelled(error))


def without_cancelled(error: BaseException) -> BaseException:
    """Call this to take `Cancelled` leaves out of a group.

    Raises the error again when it is no crash: nothing but cancellation, or a KeyboardInterrupt,
    SystemExit or GeneratorExit among the leaves.
    """
    if isinstance(error, Exception) or not isinstance(error, BaseExceptionGroup):
        return error
    if error.subgroup((KeyboardInterrupt, SystemExit, GeneratorExit)) is not None:
        raise error
    _, rest = error.split(trio.Cancelled)
    if rest is None:
        raise error
    return rest
