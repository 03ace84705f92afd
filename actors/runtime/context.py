"""What travels with every message, and how the runtime knows what is being handled right now.

Rule 1: a context variable does not cross a mailbox; the `Context` in the envelope does.
Rule 2: one `Context` is made per handled message, at its first send, and shared by all it causes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trio

    from actors.runtime.cell import Cell
    from actors.runtime.envelope import Envelope


@dataclass(slots=True, unsafe_hash=True)
class Context:
    """Where a message comes from. Treat it as frozen; freezing it would cost 0.2 us a message."""

    correlation_id: str
    causation_id: int | None = None
    traceparent: str | None = None
    sender: str | None = None
    user_id: str | None = None
    tenant: str | None = None
    # Paths can be taken over by another actor, ids cannot: ACT-22 asks for the very sender.
    sender_id: int = 0


class Activity:
    """What one task is doing for an actor: the message in hand, and what it has caused.

    A task actor has one of its own, dispatched actors share the dispatcher's; with `cell` None
    nobody is being served, and sends take their context from the edge.
    """

    __slots__ = ("cell", "envelope", "out", "task")

    def __init__(self, cell: Cell | None = None, task: trio.lowlevel.Task | None = None) -> None:
        self.cell = cell
        self.task = task
        self.envelope: Envelope | None = None
        self.out: Context | None = None

    def sending(self) -> Context | None:
        """Call this to get the context of what is sent now; None outside, with nothing to pass."""
        if self.out is not None:
            return self.out
        cell = self.cell
        if cell is None:
            return edge.get()
        envelope = self.envelope
        if envelope is None:
            # A hook: nothing caused it, so a new correlation begins here.
            out = Context(cell.system.text_id(cell.system.next_id()), sender=cell.path)
        else:
            before = envelope[5]
            if before is None:
                out = Context(cell.system.text_id(envelope[1]), envelope[1], sender=cell.path)
            else:
                out = Context(
                    before.correlation_id,
                    envelope[1],
                    before.traceparent,
                    cell.path,
                    before.user_id,
                    before.tenant,
                )
        out.sender_id = cell.id
        self.out = out
        return out

    def fork(self) -> Activity:
        """Call this to get the activity of a sub-task: same cause, but nothing in hand."""
        child = Activity(self.cell)
        child.out = self.sending()
        return child


edge: ContextVar[Context | None] = ContextVar("edge_context", default=None)
OUTSIDE: Final = Activity()
# Set once per task; the activity changes with each message, so log lines always see the right one.
current_activity: ContextVar[Activity] = ContextVar("current_activity", default=OUTSIDE)


def current_context() -> Context | None:
    """Call this to get correlation, causation and trace for a log line or an outgoing call."""
    return current_activity.get().sending()


@contextmanager
def edge_context(context: Context) -> Iterator[Context]:
    """Call this where a request comes in; what is told and asked inside carries `context`."""
    token = edge.set(context)
    try:
        yield context
    finally:
        edge.reset(token)
