"""Two nodes that keep their numbers over a link, so that what is lost is counted."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from actors.cluster.link import (
    Ack,
    Arrived,
    Delivery,
    Envelope,
    FrameHead,
    FrameKeys,
    Intake,
    Link,
    NoLink,
    Refused,
    RefusedReason,
    Sending,
    Subjects,
    write_content,
)
from actors.runtime import Secret
from tests.actors.cluster.link.samples import A, B, envelope


class Pair:
    """Node A sends frames to node B over a link; both keep their numbers.

    `ahead_s` is how far their time is ahead of trio's: over a real server nobody waits for it.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.ahead_s = 0.0
        self.subjects = Subjects("test")
        self.keys = FrameKeys("test", Secret("a secret of this test, of 32 bytes or more"))
        self.subject = self.subjects.node(B)
        self.sending = Sending(envelopes_max=64)
        self.door = Intake(
            "test", self.keys, is_member={A}.__contains__, hears_all={self.subject}.__contains__
        )
        self.handled: list[bytes] = []
        self.sent: list[bytes] = []
        self.refused: list[RefusedReason] = []

    @property
    def at(self) -> float:
        """Seconds, as both know them."""
        return trio.current_time() + self.ahead_s

    @property
    def now_us(self) -> int:
        """The time of their database."""
        return int(self.at * 1_000_000) + 1_700_000_000_000_000

    async def tell(self, bodies: list[bytes]) -> bool:
        """Sends a frame; False when the window has no room."""
        envelopes = [envelope(body) for body in bodies]
        numbered = self.sending.maybe_number(len(bodies), 100 * len(bodies), self.at)
        if numbered is None:
            return False
        self.sent += bodies
        await self._send(numbered.sequence, numbered.before, envelopes, asks=False)
        return True

    async def ask(self) -> None:
        """Asks what came, when it is time."""
        if (numbered := self.sending.maybe_ask(self.at)) is not None:
            await self._send(numbered.sequence, numbered.before, [], asks=True)

    async def _send(
        self, sequence: int, before: int, envelopes: Sequence[Envelope], *, asks: bool
    ) -> None:
        of = FrameHead("test", A.bytes, sequence, before, self.now_us, Ack(), asks)
        try:
            await self.link.publish(
                self.subject, self.keys.seal(self.subject, write_content(of, envelopes))
            )
        except NoLink:
            pass  # a gap: the answer to the next question counts it

    def hear(self, delivery: Delivery) -> None:
        """What B does with all that comes."""
        taken = self.door.take(delivery.subject, delivery.data, now_us=self.now_us, at=self.at)
        if isinstance(taken, Arrived):
            self.handled += [one.body for one in taken.envelopes]
        elif isinstance(taken, Refused):
            self.refused.append(taken.reason)

    def acknowledge(self) -> None:
        """Lets B's acknowledgement reach A, once it is time for one."""
        hearing = self.door.hearing(A, self.subject)
        if hearing is not None and (ack := hearing.maybe_ack(self.at)) is not None:
            self.sending.acknowledge(ack)
