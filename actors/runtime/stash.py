"""Setting messages aside, and answering to other rules for a while (`become`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from actors.runtime.errors import StashFull

if TYPE_CHECKING:
    from actors.runtime.life import Life

# A quarter of a mailbox: an actor that sets more aside is waiting for something that went wrong.
STASH_CAPACITY: Final = 256


def stash(life: Life, capacity: int) -> None:
    """Call this to set the message in hand aside; it is not answered now.

    Raises StashFull beyond the capacity, RuntimeError when no message is in hand.
    """
    envelope = life.activity.envelope
    if envelope is None or life.activity.cell is not life.cell:
        raise RuntimeError("stash() is for handlers; no message is in hand here")
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


def become(life: Life, behaviour: Callable[[object], object] | None) -> None:
    """Call this to replace the handlers by `behaviour`; None brings them back.

    Raises TypeError for an `async` behaviour in an actor without a task.
    """
    if inspect.iscoroutinefunction(behaviour) and not life.table.is_task:
        raise TypeError(
            f"{life.cell.path} runs on the dispatcher and cannot await; make one of its handlers "
            "`async def` to give it a task"
        )
    life.behaviour = behaviour
    life.handlers = life.table.handlers if behaviour is None else {}
    life.cell.mailbox.call_attention()  # The loop holds the old table until it looks up.
