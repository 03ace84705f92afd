"""Faults that a simulation puts in: crashes, pauses, and messages that are late or lost.

Messages are caught by a gate at the receiver's mailbox; every actor of a simulation has one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

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
    """Stands at one mailbox: every message is written down, and `rules` may keep it."""

    def __init__(self, cell: Cell, sent: Callable[[float, str, Envelope], None]) -> None:
        self._cell, self._sent = cell, sent
        self.rules: list[Rule] = []

    def take(self, envelope: Envelope) -> bool:
        """Called by the mailbox: True when the message is not put there now."""
        self._sent(trio.current_time(), self._cell.path, envelope)
        for rule in self.rules:
            if rule.matches(envelope):
                if rule.delay_s is not None:
                    later = partial(self._let_in, envelope)
                    self._cell.system.wheel.call_after(rule.delay_s, later)
                return True
        return False

    def _let_in(self, envelope: Envelope) -> None:
        self._cell.mailbox.put_past_gate(envelope)


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
    """Call this to make an error again that a trace names; RuntimeError when it cannot be made."""
    module, _, qualified = name.rpartition(":")
    found: object = sys.modules.get(module or "builtins")
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Exception):
        # Its constructor may want other things than a text.
        with suppress(Exception):
            return found(text)
    return RuntimeError(f"{qualified}: {text}")


def name_of(error: BaseException) -> str:
    """Call this for the name by which `error_named` finds the class of an error."""
    cls = type(error)
    is_known = cls.__module__ == "builtins"
    return cls.__qualname__ if is_known else f"{cls.__module__}:{cls.__qualname__}"
