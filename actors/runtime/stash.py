"""Setting messages aside, and answering to other rules for a while (`become`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from actors.runtime.context import current_activity
from actors.runtime.words.errors import StashFull

if TYPE_CHECKING:
    from actors.runtime.life import Life

# A quarter of a mailbox: an actor that sets more aside is waiting for something that went wrong.
STASH_CAPACITY: Final = 256


def stash(life: Life, capacity: int) -> None:
    """Call this to set the message in hand aside; it is not answered now.

    Raises StashFull beyond the capacity, RuntimeError when no message is in hand.
    """
    envelope = life.activity.envelope
    is_own = life.activity.cell is life.cell and life.activity is current_activity.get()
    if envelope is None or not is_own:
        raise RuntimeError("stash() is for handlers; hooks and sub-tasks have no message in hand")
    if life.aside is envelope:
        return  # Set aside already; once is enough to come back once.
    if life.stash is None:
        life.stash = []
    if len(life.stash) >= capacity:
        raise StashFull(life.cell.path, capacity)
    life.stash.append(envelope)
    life.aside = envelope


def unstash_all(life: Life) -> None:
    """Call this to put everything set aside back to the front of the mailbox, in order."""
    if life.stash:
        envelopes, life.stash = life.stash, None
        life.cell.mailbox.put_back(envelopes)


def is_async(behaviour: object) -> bool:
    """Call this to learn whether calling `behaviour` gives a coroutine, as far as can be seen."""
    call = getattr(behaviour, "__call__", None)  # noqa: B004 - of an object with `async __call__`
    return inspect.iscoroutinefunction(behaviour) or inspect.iscoroutinefunction(call)


def become(life: Life, behaviour: Callable[[object], object] | None) -> None:
    """Call this to replace the handlers by `behaviour`; None brings them back.

    Raises TypeError for an `async` behaviour in an actor without a task.
    """
    if is_async(behaviour) and not life.table.is_task:
        raise TypeError(
            f"{life.cell.path} runs on the dispatcher and cannot await; make one of its handlers "
            "`async def` to give it a task"
        )
    life.behaviour = behaviour
    life.handlers = life.table.handlers if behaviour is None else {}
    life.cell.mailbox.call_attention()  # The loop holds the old table until it looks up.
