"""Heartbeats of all streams, by one actor with one timer (SITE-92, REL-110).

A timer a stream would wake the loop for each of them, and a message to each would cost more than
the heartbeat. Here the streams stand in slots by when they are due, and all of a slot are seen to
at once.

Rule 1: a stream stands in one slot, from its opening to its end.
Rule 2: nothing is moved when a stream is written to. It is looked at when it was due at first, and
        stands anew by when it was written to last.
Rule 3: whoever waits does so in the handler, not as a message: the lab shows a mailbox as it is,
        and each page that is shown one is written to. Ten thousand of them were, twice a beat.
"""

from __future__ import annotations

import math
from typing import ClassVar

import trio

from actors.runtime import Actor, message
from web.realtime.sse.encoding import HEARTBEAT, HEARTBEAT_S
from web.realtime.sse.stream import Stream

# So much later than due a heartbeat may be; a proxy that cuts silent streams waits twice as long
# as they are silent at most.
_SLOT_S = 0.5
# Each takes some ten microseconds, so that a thousand tabs of one moment do not stop the loop.
_AT_ONCE_MAX = 100


class Heartbeats:
    """Says which streams were silent for too long, and sends them a heartbeat."""

    def __init__(self) -> None:
        # By the slot's number, which rises with time; no slot is empty.
        self._slots: dict[int, dict[Stream, None]] = {}
        self._slot_of: dict[Stream, int] = {}

    def __repr__(self) -> str:
        return f"<Heartbeats of {len(self)}>"

    def __len__(self) -> int:
        return len(self._slot_of)

    def add(self, stream: Stream) -> None:
        """Call this when a stream opens."""
        self._stand(stream, stream.sent_at)

    def _stand(self, stream: Stream, since: float) -> None:
        slot = math.ceil((since + HEARTBEAT_S) / _SLOT_S)
        self._slots.setdefault(slot, {})[stream] = None
        self._slot_of[stream] = slot

    def discard(self, stream: Stream) -> None:
        """Call this when it ended; may be repeated."""
        slot = self._slot_of.pop(stream, None)
        if slot is None:
            return
        streams = self._slots[slot]
        del streams[stream]
        if not streams:
            del self._slots[slot]

    def beat(self, now: float, at_most: int = _AT_ONCE_MAX) -> bool:
        """Call this to see to those due by now, of the clock that streams go by.

        False: there are more of them than `at_most`.
        """
        due_until = math.floor(now / _SLOT_S)
        for slot in sorted(one for one in self._slots if one <= due_until):
            for stream in [*self._slots[slot]]:
                if not at_most:
                    return False
                at_most -= 1
                self.discard(stream)
                self._see_to(stream, now)
        return True

    def _see_to(self, stream: Stream, now: float) -> None:
        since = stream.sent_at
        if now - since >= HEARTBEAT_S:
            stream.put_panel("heartbeat", HEARTBEAT)
            since = now
        if stream.is_open:
            self._stand(stream, since)


@message
class Beat:
    """Look which streams were silent for too long."""


class HeartbeatActor(Actor[Beat]):
    """Sends the heartbeats of all streams; restarted, it goes on where it was."""

    # Of its timer; the next one is set when all were seen to.
    capacity: ClassVar[int] = 8

    def __init__(self, heartbeats: Heartbeats) -> None:
        self._heartbeats = heartbeats

    def on_start(self) -> None:
        """Look at each slot when its time is over."""
        self.after(_SLOT_S, Beat(), key="beat")

    async def on_beat(self, _: Beat) -> None:
        """See to those that are due; others have a turn before the rest of them."""
        while not self._heartbeats.beat(trio.current_time()):
            await trio.lowlevel.checkpoint()
        self.after(_SLOT_S, Beat(), key="beat")
