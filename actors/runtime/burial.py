"""What becomes of a mailbox whose actor is gone for good: dead letters, and failed asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from actors.runtime.entries import Notice
from actors.runtime.envelope import Envelope
from actors.runtime.words.errors import ActorExited, NoProc
from actors.runtime.words.exits import Exit, Killed

if TYPE_CHECKING:
    from actors.runtime.cell import Cell


def bury(cell: Cell, exit_: Exit) -> None:
    """Call this when the actor has ended and is not started again."""
    for envelope in cell.mailbox.drain():
        if isinstance(envelope[0], Notice):
            continue
        reply = envelope[2]
        if reply is not None and reply.outcome == "withdrawn":
            cell.counts.withdrawn += 1
        elif reply is not None and reply.outcome == "timed_out":
            cell.counts.expired += 1
            cell.system.dead_letters.add(cell, envelope, "expired")
        else:
            cell.system.dead_letters.add(cell, envelope, "stopped", exit_)
            if reply is not None:
                reply.fail(ActorExited(cell.path, exit_, type(envelope[0])))


def turn_away(cell: Cell) -> None:
    """Call this when messages came for an actor that may not start (`cell.refusal` says why)."""
    _close(cell)
    for envelope in cell.mailbox.drain():
        if isinstance(envelope[0], Notice):
            continue
        cell.lost(envelope, "closed")
        if envelope[2] is not None:
            envelope[2].fail(NoProc(cell.path, type(envelope[0]), cell.refusal))


def abandon(cell: Cell) -> None:
    """Call this when the system is cancelled: whoever waits is told, nothing else is done."""
    _close(cell)
    for envelope in cell.mailbox.drain():
        if envelope[2] is not None:
            envelope[2].fail(cell.no_proc(envelope[0]))
    for entry in cell.mailbox.drop_system():
        entry.drop()
    for watch in list(cell.watchers or ()):
        cell.unwatch(watch)
        watch.ended(cell, Killed(because="the system was cancelled"))


def lose(cell: Cell, envelope: Envelope, reason: Literal["overflow", "closed"]) -> None:
    """Call this for a message that found no place in the mailbox."""
    if reason == "overflow":
        cell.counts.overflowed += 1
        cell.system.dead_letters.add(cell, envelope, "overflow")
    elif cell.gone:
        cell.system.dead_letters.add(cell, envelope, "no_such_actor", note=cell.refusal)
    else:
        cell.system.dead_letters.add(cell, envelope, "stopped")


def _close(cell: Cell) -> None:
    cell.gone, cell.dormant = True, False
    cell.system.forget(cell)
    cell.mailbox.close()
