"""Messages nobody handled: the newest are kept, all are counted, and each can be sent again.

Withdrawn asks, late replies and coalesced messages are none: nobody misses them.

Losing a message is cheap, for it happens most where there is too much to do already: what is
kept is the message and who, when and why; a `DeadLetter`, and the text in it, is made when
somebody reads it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Self, TypeAlias

import trio

from actors.runtime.delivery.envelope import MESSAGE, NO_DEADLINE, Context, Envelope
from actors.runtime.delivery.ref import check_thread
from actors.runtime.life.cell import Cell, Reason
from actors.runtime.telling.log import Log
from actors.runtime.telling.spans import DEAD, DEADLINE_MISSED, Spans, trace_in
from actors.runtime.watching.presenting import redacted_message
from actors.runtime.words.exits import Exit, exit_text
from actors.runtime.words.showing import class_name, redact_text
from actors.runtime.words.weighing import weight_of

# Enough to look into an incident, little enough to forget.
DEAD_LETTERS_KEPT: Final = 1000
# A thousand messages of 16 KB; of larger ones fewer. By estimate, see `words/weighing.py`.
BYTES_KEPT: Final = 16 * 1024 * 1024
# A flood of one kind is one line a second, with the number that was left out.
LOG_INTERVAL_S: Final = 1.0
TOPIC: Final = "dead_letters"

_log = Log("actors.dead_letters")


# What is kept of a lost message; everything else can be found out later. A plain tuple, as an
# envelope is: one is made for each. Its number, when, whose it was, of which incarnation, why, the
# message, its number and context, whether it was asked, the exit, and what it weighs.
_Kept: TypeAlias = tuple[
    int, float, Cell, int, Reason, object, int, Context | None, bool, Exit | None, int
]
_WEIGHT: Final = 10


class _TooLarge:
    """Stands in the ring for a message that alone is more than may be kept."""

    def __init__(self, message: object, text: str, weight: int) -> None:
        self.type_name = class_name(type(message))
        self.text, self.weight = text, weight


@dataclass(frozen=True, slots=True, repr=False)
class DeadLetter:
    """One message nobody handled, and why; `message` is made when it is read."""

    id: int
    at: float
    path: str
    incarnation: int
    reason: Reason
    message_type: str
    message_id: int
    correlation_id: str
    causation_id: int | str | None
    sender: str | None
    was_ask: bool
    exit: Exit | None
    _cell: Cell = field(compare=False)
    _message: object = field(compare=False)

    def __repr__(self) -> str:
        return f"<DeadLetter {self.id} {self.path}#{self.incarnation} {self.reason} {self.message}>"

    def __deepcopy__(self, _: object) -> Self:
        return self  # A copy of an actor's state holds the same letters.

    @property
    def message(self) -> str:
        """The message as text, secrets hidden, at most 512 characters, marked where cut."""
        lost = self._message
        return lost.text if type(lost) is _TooLarge else redacted_message(self._cell, lost)


class DeadLetters:
    """The ring of a system; iterate over it for the kept ones, oldest first."""

    def __init__(
        self,
        text_id: Callable[[int], str],
        publish: Callable[[str, object], int],
        has_subscribers: Callable[[str], bool],
    ) -> None:
        self._text_id, self._publish = text_id, publish
        self._has_subscribers = has_subscribers
        # Not asked of trio each time: a ref may be told something when trio has ended.
        self._clock = trio.lowlevel.current_clock()
        self._kept: deque[_Kept] = deque()
        self._weight = 0
        # By path and reason: when its last line was written, and how many were left out since.
        self._logged: dict[tuple[str, str], list[float]] = {}
        self._publishing = False
        self.total = 0
        """How many there were since the system was opened, those not kept included."""
        self.by_reason: Counter[Reason] = Counter()
        """How many there were of each reason."""

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter([self._letter(kept) for kept in self._kept])

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
        self.total = number = self.total + 1
        self.by_reason[reason] += 1
        cell.counts.dead_letters += 1
        message, message_id, reply, _, _, context = envelope
        if type(message) is DeadLetter:
            return  # Whoever watches dead letters and loses one would otherwise make more of them.
        at = self._clock.current_time()
        if cell.spans is not None and context is not None and context.traceparent is not None:
            self._tell_trace(cell, cell.spans, envelope, context, reason, at)
        weight = weight_of(message)
        if weight > BYTES_KEPT:
            message = _TooLarge(message, redacted_message(cell, message), weight)
            weight = 0
        kept: _Kept = (
            number, at, cell, cell.incarnation, reason, message, message_id, context,
            reply is not None, exit_, weight,
        )  # fmt: skip
        ring = self._kept
        ring.append(kept)
        self._weight += weight
        while len(ring) > DEAD_LETTERS_KEPT or self._weight > BYTES_KEPT:
            self._weight -= ring.popleft()[_WEIGHT]
        # The message in hand of a crash stands in the line of that crash.
        if reason != "crashed":
            logged = self._logged.get((cell.path, reason))
            if logged is not None and at - logged[0] < LOG_INTERVAL_S:
                logged[1] += 1
            else:
                self._log(kept, note, 0 if logged is None else int(logged[1]))
        if self._has_subscribers(TOPIC) and not self._publishing:
            self._tell_subscribers(kept)

    def _tell_trace(
        self,
        cell: Cell,
        spans: Spans,
        envelope: Envelope,
        context: Context,
        reason: Reason,
        at: float,
    ) -> None:
        trace = context.traceparent or ""
        # The span that a handler would have had is told by the loop, where one was called.
        own = spans.new_id()
        error = DEADLINE_MISSED if reason == "expired" else reason
        at = spans.time_of(at)
        spans.add(
            (DEAD, trace, own, None, cell.id, at, at, cell.path, context.correlation_id, error,
             type(envelope[MESSAGE]))
        )  # fmt: skip

    def _tell_subscribers(self, kept: _Kept) -> None:
        # A sink that tells a dead actor would otherwise never come to an end.
        self._publishing = True
        try:
            self._publish(TOPIC, self._letter(kept))
        finally:
            self._publishing = False

    def resend(self, letter_id: int) -> None:
        """Call this to tell a kept message once more to the same actor, under its former id.

        It keeps its correlation, and has no deadline any more; the trace it was of is over, and
        had its span. Raises KeyError when it is not kept: it has left the ring, or was too large
        for it and only its text is there. An ask becomes a tell, whose reply is dropped: its
        asker is gone. Off the trio thread: RuntimeError.
        """
        for number, _, cell, _, _, message, message_id, context, *_ in self._kept:
            if number != letter_id:
                continue
            if type(message) is _TooLarge:
                raise KeyError(
                    f"dead letter {number} was too large to be kept (about {message.weight} "
                    "bytes); only its text is there, and nothing was sent"
                )
            check_thread(cell, "resend")
            again = context and replace(context, traceparent=None)
            cell.mailbox.put((message, message_id, None, NO_DEADLINE, 0.0, again))
            return
        raise KeyError(letter_id)

    def _letter(self, kept: _Kept) -> DeadLetter:
        number, at, cell, incarnation, reason, message, message_id, context, was_ask, exit_, _ = (
            kept
        )
        return DeadLetter(
            number,
            at,
            cell.path,
            incarnation,
            reason,
            _type_name(message),
            message_id,
            self._text_id(message_id) if context is None else context.correlation_id,
            None if context is None else context.causation_id,
            None if context is None else context.sender,
            was_ask,
            exit_,
            cell,
            message,
        )

    def _log(self, kept: _Kept, note: str | None, left_out: int) -> None:
        _, at, cell, _, reason, message, message_id, context, _, exit_, _ = kept
        if len(self._logged) >= DEAD_LETTERS_KEPT:
            self._logged.clear()
        self._logged[cell.path, reason] = [at, 0]
        extra = {
            "trace_id": None if context is None else trace_in(context.traceparent) or None,
            "sender": None if context is None else context.sender,
            "receiver_ended": None if exit_ is None else redact_text(exit_text(exit_)),
            "note": note,
        }
        _log.warning(
            "dead_letter",
            path=cell.path,
            reason=reason,
            message_type=_type_name(message),
            correlation_id=self._text_id(message_id) if context is None else context.correlation_id,
            left_out=left_out,
            **{name: text for name, text in extra.items() if text is not None},
        )


def _type_name(message: object) -> str:
    return message.type_name if type(message) is _TooLarge else class_name(type(message))
