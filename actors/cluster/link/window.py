"""How much may be under way to a node, what came, and what was lost: numbers only, no clock.

`Sending` numbers what goes to one subject, `Hearing` what comes from one node by one subject. For
the data subject the two meet by `Ack`: everything that was sent is delivered, counted as lost,
given up with a peer that is gone, or still under way, and nothing is delivered twice.

A node asks for an acknowledgement by a frame on the data subject itself. There it comes after all
that was sent before it, so the answer covers all of it, and no frame that was counted as lost can
be handled later: its number is too low by then.
"""

from collections import deque
from dataclasses import dataclass

from actors.cluster.link.words import Ack, FrameHead, Gap

# CLU-52. What a server keeps for a client that does not read is 8 MiB with the documented file.
WINDOW_BYTES_MAX = 2 * 1024 * 1024
WINDOW_ENVELOPES_MAX = 4096
# An acknowledgement that nothing carries goes alone after this; a window is refilled ten times a
# second at least.
ACK_ALONE_S = 0.1
# A server that was killed is back in less; a node that is stopped answers when it goes on.
ASK_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class Numbered:
    """The numbers of a frame that may go: see `FrameHead`."""

    sequence: int
    before: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What an acknowledgement has told of, in envelopes."""

    delivered: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class _Under:
    """A frame under way; `upto` counts all envelopes of the subject to its end."""

    sequence: int
    upto: int
    size: int
    at: float


class Sending:
    """What goes to one node by its data subject. Times are of one clock that never goes back.

    Rule 1: a number that was given is used; a frame that could not be sent after all is a gap.
    """

    def __init__(
        self, *, bytes_max: int = WINDOW_BYTES_MAX, envelopes_max: int = WINDOW_ENVELOPES_MAX
    ) -> None:
        self._bytes_max, self._envelopes_max = bytes_max, envelopes_max
        self._under: deque[_Under] = deque()
        self._sequence = 0
        self._settled_sequence = 0
        # Envelopes: given a number, told of, and come.
        self.sent_count = 0
        self._settled = 0
        self.delivered_count = 0
        # Of a peer that was gone nothing is known, until one that came back tells.
        self.given_up_count = 0
        self._given_up_sequence = 0
        self.bytes_under_way = 0
        self._asked_at = float("-inf")
        self.is_open = True

    @property
    def envelopes_under_way(self) -> int:
        """How many envelopes nothing is known of yet."""
        return self.sent_count - self._settled - self.given_up_count

    @property
    def lost_count(self) -> int:
        """How many envelopes are known not to have come."""
        return self._settled - self.delivered_count

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return (
            f"Sending({state}, {self.envelopes_under_way} envelopes and "
            f"{self.bytes_under_way} bytes under way, {self.lost_count} lost, "
            f"{self.given_up_count} given up)"
        )

    def maybe_number(self, envelopes: int, size: int, now: float) -> Numbered | None:
        """Call this for the numbers of a frame; None when the window has no room for it.

        Then the peer is overloaded or gone: nothing was noted, and nothing waits.
        """
        if not self.is_open:
            return None
        if envelopes and (
            self.envelopes_under_way + envelopes > self._envelopes_max
            or self.bytes_under_way + size > self._bytes_max
        ):
            return None
        given = Numbered(self._sequence + 1, self.sent_count)
        self._sequence += 1
        if envelopes:
            self.sent_count += envelopes
            self.bytes_under_way += size
            self._under.append(_Under(given.sequence, self.sent_count, size, now))
        return given

    def maybe_ask(self, now: float) -> Numbered | None:
        """Call this now and then: the numbers of an empty frame that asks, once it is time.

        That is 2 s after the oldest frame under way, and as long after the last question: one
        that was lost must not keep a window shut for ever. Of a peer that is back it is at once,
        when something was given up.
        """
        if not self.is_ask_due(now):
            return None
        self._asked_at = now
        return self.maybe_number(0, 0, now)

    def is_ask_due(self, now: float) -> bool:
        """Call this to ask whether `maybe_ask` would give numbers."""
        if self.given_up_count:
            waited_from = self._asked_at
        elif self._under:
            waited_from = max(self._under[0].at, self._asked_at)
        else:
            return False
        return self.is_open and now - waited_from >= ASK_AFTER_S

    def acknowledge(self, ack: Ack) -> Settled:
        """Call this with what the peer has told; an old or impossible one changes nothing."""
        told_before = max(self._settled_sequence, self._given_up_sequence - 1)
        if not self.is_open or not told_before < ack.sequence <= self._sequence:
            return Settled()
        upto = self._settled + self.given_up_count
        for frame in self._under:
            if frame.sequence > ack.sequence:
                break
            upto = frame.upto
        delivered = ack.received - self.delivered_count
        lost = upto - self._settled - delivered
        if delivered < 0 or lost < 0:
            return Settled()
        while self._under and self._under[0].sequence <= ack.sequence:
            self.bytes_under_way -= self._under.popleft().size
        self._settled, self._settled_sequence = upto, ack.sequence
        self.delivered_count, self.given_up_count = ack.received, 0
        return Settled(delivered, lost)

    def close(self) -> int:
        """Call this when the peer is gone: gives how many envelopes are given up.

        They may have come or not; should the peer be back after all, its next answer says.
        """
        given_up = self.envelopes_under_way
        self.given_up_count += given_up
        self._given_up_sequence = self._sequence
        self._under.clear()
        self.bytes_under_way, self.is_open = 0, False
        return given_up

    def open_again(self) -> None:
        """Call this when a peer that was taken for gone says hello; numbers go on."""
        if not self.is_open:
            self.is_open, self._asked_at = True, float("-inf")


class Hearing:
    """What comes from one node by one subject.

    `from_first` is for subjects of which this node must have heard all, its own; of a topic that
    it began to hear later, the first frame that comes is where counting begins.
    """

    def __init__(self, *, from_first: bool) -> None:
        self._is_begun = from_first
        self._sequence = 0
        # Envelopes: sent by the peer up to there, and come.
        self._upto = 0
        self.received_count = 0
        self.lost_count = 0
        self._untold_since: float | None = None

    @property
    def sequence(self) -> int:
        """The number of the last frame that came."""
        return self._sequence

    def is_old(self, sequence: int) -> bool:
        """Call this to ask whether a frame is one that came, or one that was overtaken."""
        return sequence <= self._sequence

    def note(self, head: FrameHead, envelopes: int, now: float) -> Gap:
        """Call this with a frame that is not old; gives what was lost before it.

        `envelopes` are those of it that were taken; of one that is refused there are none: they
        count as lost with the next frame, and its sender learns it by the acknowledgement.
        """
        gap = Gap()
        if self._is_begun:
            frames = head.sequence - self._sequence - 1
            gap = Gap(frames, max(0, head.before - self._upto))
        self._is_begun = True
        self._sequence, self._upto = head.sequence, head.before + envelopes
        self.received_count += envelopes
        self.lost_count += gap.envelopes
        if self._untold_since is None:
            self._untold_since = now
        if head.asks:
            self._untold_since = float("-inf")
        return gap

    def ack(self) -> Ack:
        """Call this for what a frame to that node carries; it counts as told."""
        self._untold_since = None
        return Ack(self._sequence, self.received_count)

    def maybe_ack(self, now: float) -> Ack | None:
        """Call this now and then: an acknowledgement that must go alone, once it is time."""
        return self.ack() if self.is_ack_due(now) else None

    def is_ack_due(self, now: float) -> bool:
        """Call this to ask whether an acknowledgement must go alone."""
        return self._untold_since is not None and now - self._untold_since >= ACK_ALONE_S
