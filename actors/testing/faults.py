"""Faults that a simulation puts in: crashes, pauses, and messages that are late or lost.

Messages are caught by a gate at the receiver's mailbox; without faults there is no gate.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from actors.runtime import AnyRef, Cell, Crashed
from actors.runtime.delivery.envelope import Envelope
from actors.runtime.life.cell import Life, cell_of
from actors.runtime.watching.inspection import resume, suspend


@dataclass(slots=True)
class Rule:
    """What happens to messages from `sender` (None: from anybody): lost, or late by `delay_s`."""

    sender: str | None
    delay_s: float | None
    left: int | None

    def matches(self, envelope: Envelope) -> bool:
        """Whether it applies; a counted rule is used up by it."""
        context = envelope[5]
        if self.left == 0:
            return False
        if self.sender is not None and (context is None or context.sender != self.sender):
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Gate:
    """The rules at one mailbox."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.rules: list[Rule] = []
        cell.mailbox.gate = self.take
        cell.mailbox.renew_limit()

    def take(self, envelope: Envelope) -> bool:
        """Called by the mailbox: True when the message is not put there now."""
        for rule in self.rules:
            if rule.matches(envelope):
                if rule.delay_s is not None:
                    later = partial(self._let_in, envelope)
                    self._cell.system.wheel.call_after(rule.delay_s, later)
                return True
        return False

    def _let_in(self, envelope: Envelope) -> None:
        self._cell.mailbox.put_past_gate(envelope)

    def open(self) -> None:
        """Call this to end all rules."""
        self._cell.mailbox.gate = None
        self._cell.mailbox.renew_limit()


class Work:
    """A system entry that does something between two messages and tells nobody."""

    def __init__(self, cell: Cell, work: Callable[[Life], None]) -> None:
        self._cell, self._work = cell, work

    def act(self) -> None:
        """Called by the loop."""
        if self._cell.life is not None:
            self._work(self._cell.life)

    def drop(self) -> None:
        """Called when the incarnation ended first."""


def crash(ref: AnyRef, error: BaseException) -> None:
    """Call this to end the incarnation as if a child task had raised `error`."""
    life = cell_of(ref).life
    if life is not None:
        life.abort(Crashed(error, because="a fault of the simulation"))


def pause(ref: AnyRef, seconds: float) -> None:
    """Call this to hold an actor still for a while."""
    cell = cell_of(ref)
    cell.mailbox.post(Work(cell, suspend))
    cell.system.wheel.call_after(seconds, lambda: cell.mailbox.post(Work(cell, resume)))


def error_named(name: str, text: str) -> BaseException:
    """Call this to make an error again that a trace names; one of our own becomes RuntimeError."""
    kind = getattr(builtins, name, RuntimeError)
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind(text)
    return RuntimeError(f"{name}: {text}")
