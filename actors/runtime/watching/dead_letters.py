"""Messages nobody handled: the newest are kept, all are counted, and each can be sent again.

Withdrawn asks, late replies and coalesced messages are none: nobody misses them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

import structlog
import trio

from actors.runtime.delivery.envelope import MESSAGE, Envelope
from actors.runtime.delivery.ref import Ref
from actors.runtime.life.cell import Cell, Reason
from actors.runtime.watching.presenting import redacted_message
from actors.runtime.words.exits import Exit

# Enough to look into an incident, little enough to forget: about a megabyte of messages.
DEAD_LETTERS_KEPT: Final = 1000
# A flood of one kind is one line a second, with the number that was left out.
LOG_INTERVAL_S: Final = 1.0
TOPIC: Final = "dead_letters"

_log = structlog.get_logger("actors.dead_letters")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message nobody handled, and why."""

    id: int
    at: float
    path: str
    incarnation: int
    reason: Reason
    message_type: str
    message: str
    message_id: int
    correlation_id: str
    causation_id: int | None
    sender: str | None
    was_ask: bool
    exit: Exit | None


class DeadLetters:
    """The ring of a system; iterate over it for the kept ones, oldest first."""

    def __init__(
        self, text_id: Callable[[int], str], publish: Callable[[str, object], int]
    ) -> None:
        self._text_id, self._publish = text_id, publish
        self._kept: deque[tuple[DeadLetter, Cell, Envelope]] = deque(maxlen=DEAD_LETTERS_KEPT)
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}
        self._publishing = False
        self.total = 0
        self.by_reason: Counter[Reason] = Counter()

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter([letter for letter, _, _ in self._kept])

    def __len__(self) -> int:
        return len(self._kept)

    def add(
        self,
        cell: Cell,
        envelope: Envelope,
        reason: Reason,
        exit_: Exit | None = None,
        note: str | None = None,
    ) -> None:
        """Called when nobody will handle `envelope`; `note` goes into the log line."""
        self.total += 1
        self.by_reason[reason] += 1
        cell.counts.dead_letters += 1
        message, message_id, reply, _, _, context = envelope
        if isinstance(message, DeadLetter):
            return  # Whoever watches dead letters and loses one would otherwise make more of them.
        letter = DeadLetter(
            self.total,
            trio.current_time(),
            cell.path,
            cell.incarnation,
            reason,
            type(message).__name__,
            redacted_message(cell, message),
            message_id,
            self._text_id(message_id) if context is None else context.correlation_id,
            None if context is None else context.causation_id,
            None if context is None else context.sender,
            reply is not None,
            exit_,
        )
        self._kept.append((letter, cell, envelope))
        self._log(letter, note)
        if self._publishing:
            return  # A sink that tells a dead actor would otherwise never come to an end.
        self._publishing = True
        try:
            self._publish(TOPIC, letter)
        finally:
            self._publishing = False

    def resend(self, letter_id: int) -> None:
        """Call this to tell a kept message once more to the same ref.

        Raises KeyError when it has left the ring. An ask becomes a tell: its asker is gone.
        """
        for letter, cell, envelope in self._kept:
            if letter.id == letter_id:
                ref = cast(Ref[object], cell.ref)  # The message was sent there before.
                ref.tell(envelope[MESSAGE])
                return
        raise KeyError(letter_id)

    def _log(self, letter: DeadLetter, note: str | None) -> None:
        key = (letter.path, letter.reason)
        began, left_out = self._logged.get(key, (-LOG_INTERVAL_S, 0))
        if letter.at - began < LOG_INTERVAL_S:
            self._logged[key] = (began, left_out + 1)
            return
        if len(self._logged) >= DEAD_LETTERS_KEPT:
            self._logged.clear()
        self._logged[key] = (letter.at, 0)
        _log.warning(
            "dead_letter",
            path=letter.path,
            reason=letter.reason,
            message_type=letter.message_type,
            correlation_id=letter.correlation_id,
            left_out=left_out,
            note=note,
        )
