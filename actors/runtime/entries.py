"""What lies in a mailbox besides messages: system entries, their notices, waiting senders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import trio

from actors.runtime.envelope import Envelope
from actors.runtime.words.counting import Counts

if TYPE_CHECKING:
    from actors.runtime.life import Life


class Entry(Protocol):
    """Something on the system lane."""

    def act(self) -> Envelope | None:
        """Do it; or give the envelope that a handler has to see."""

    def drop(self) -> None:
        """Called instead of `act` when the incarnation has ended."""


class Post(Protocol):
    """The actor behind a mailbox, as far as the mailbox needs it."""

    counts: Counts

    def wake(self) -> None: ...
    def lost(self, envelope: Envelope, reason: Literal["overflow", "closed"]) -> None: ...
    def overflowed(self) -> None: ...


class Waiter:
    """A send or ask waiting for room; `task` is None for an ask, whose reply holds the task."""

    __slots__ = ("delivered", "envelope", "task")

    def __init__(self, envelope: Envelope, task: trio.lowlevel.Task | None) -> None:
        self.envelope, self.task = envelope, task
        self.delivered = False


class Notice:
    """A system entry on the user lane, where it has to keep its place behind messages."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


class Note:
    """What a supervisor posts to itself; its `on_system` gets it."""

    __slots__ = ("_entry", "_life")

    def __init__(self, life: Life, entry: object) -> None:
        # The life, not its instance: a note may be posted before the instance is made.
        self._life, self._entry = life, entry

    def act(self) -> Envelope | None:
        """Called by the loop. Raising here is a bug of the supervisor, not a crash."""
        assert self._life.instance is not None
        self._life.instance.on_system(self._entry)
        return None

    def drop(self) -> None:
        """Called when the incarnation ended first."""
