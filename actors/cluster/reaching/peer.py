"""One other node: what waits to go there, what is under way, and who waits for its replies.

Rule 1: nothing is held back to fill a frame; a frame takes what waits when it is made.
Rule 2: what waits counts for the window, so that nothing waits that has no room.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
import trio

from actors.cluster.link.window import WINDOW_BYTES_MAX, WINDOW_ENVELOPES_MAX, Sending
from actors.cluster.link.words import Envelope
from actors.cluster.reaching.ref import Standin
from actors.runtime.delivery.envelope import NO_DEADLINE
from actors.runtime.delivery.envelope import Envelope as Papers
from actors.runtime.life.cell import Cell


class Item:
    """A message on its way to an actor, wherever that is.

    Of this node's own senders there are the `papers`; of another node's, who is the `source`, the
    `wire` as it came, which is read where it is handled. `after`: it goes to an owner of a later
    epoch only, for the one of that epoch has sent it back.
    """

    __slots__ = (
        "after",
        "cell",
        "deadline",
        "is_again",
        "key",
        "moves",
        "papers",
        "shard",
        "source",
        "wire",
    )

    def __init__(
        self,
        key: tuple[str, str],
        shard: int,
        *,
        cell: Cell | None = None,
        papers: Papers | None = None,
        wire: Envelope | None = None,
        source: UUID | None = None,
    ) -> None:
        self.key, self.shard = key, shard
        self.cell, self.papers, self.wire, self.source = cell, papers, wire, source
        self.after = self.moves = 0
        # Of one of another node: until when its asker waits, by trio's clock.
        self.deadline = NO_DEADLINE
        # Whether it was put into a mailbox once, and left it unhandled.
        self.is_again = False

    def __repr__(self) -> str:
        return f"<Item for {'/'.join(self.key)} in {self.shard}>"


class Waiting(msgspec.Struct, frozen=True):
    """An envelope that goes with the next frame.

    Of a tell or ask of this node's own there are the `standin` and the `papers`, should it not go
    after all; and its `item`, if one was made.
    """

    envelope: Envelope
    size: int
    standin: Standin | None
    papers: Papers | None
    item: Item | None


class Peer:
    """What this node knows of another, for as long as that one lives."""

    def __init__(self, node_id: UUID, now: float, subject: str, gone_subject: str) -> None:
        self.node_id = node_id
        # Where it hears data, and where the server says that nobody does.
        self.subject, self.gone_subject = subject, gone_subject
        self.sending = Sending()
        # Whether it has said that it hears its subjects, since the link was last up.
        self.is_ready = self.is_over = False
        self.heard_at = now
        self.waiting: list[Waiting] = []
        self.bytes_waiting = 0
        # Asks under way, by number.
        self.asks: dict[int, Item] = {}
        self.has_work = trio.Event()
        # Set, and another made, when there may be room again.
        self.room = trio.Event()
        # Envelopes that came since it was last told how many did, and the last hint it was given.
        self.untold = 0
        self.hinted = (-1, -1)
        self.said_hello_at = float("-inf")

    def __repr__(self) -> str:
        state = "ready" if self.is_ready else "not ready"
        return f"<Peer {self.node_id}: {state}, {len(self.asks)} asks, {self.sending!r}>"

    def has_room(self, size: int, envelopes: int = 1) -> bool:
        """Call this before envelopes wait, with their size together."""
        sending = self.sending
        if not sending.is_open:
            return False
        waiting = len(self.waiting) + envelopes
        if sending.bytes_under_way + self.bytes_waiting + size > WINDOW_BYTES_MAX:
            return False
        return sending.envelopes_under_way + waiting <= WINDOW_ENVELOPES_MAX

    def made_room(self) -> None:
        """Call this when less is under way, or nobody need wait any more."""
        if self.room.statistics().tasks_waiting:
            self.room.set()
            self.room = trio.Event()

    def put(
        self,
        envelope: Envelope,
        size: int,
        standin: Standin | None = None,
        papers: Papers | None = None,
        item: Item | None = None,
    ) -> None:
        """Call this with what has room."""
        if not self.waiting:
            # Else its sender was woken by what waits already.
            self.has_work.set()
        self.waiting.append(Waiting(envelope, size, standin, papers, item))
        self.bytes_waiting += size

    def take(self) -> list[Waiting]:
        """Call this, as its sender, for all that waits."""
        taken, self.waiting, self.bytes_waiting = self.waiting, [], 0
        if self.has_work.is_set():
            # Else its sender still waits for this one.
            self.has_work = trio.Event()
        return taken
