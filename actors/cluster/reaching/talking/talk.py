"""How one node talks to the others: its lives, and what is done now and then."""

from __future__ import annotations

from uuid import UUID

import trio

from actors.cluster.link.sayings import (
    Beacon,
    Hello,
)
from actors.cluster.reaching.peer import Item
from actors.cluster.reaching.talking.hearing import Hearing
from actors.cluster.reaching.talking.words import BEACON_S, HELLO_S, SWEEP_S, TICK_S
from actors.runtime.delivery.envelope import (
    REPLY,
)
from actors.runtime.delivery.envelope import Envelope as Papers


class Talk(Hearing):
    """The talk of one process with the other nodes of its cluster; it outlives the link's actor."""

    def __repr__(self) -> str:
        state = "up" if self.is_up else "down"
        return f"<Talk of {self.node_id}: link {state}, {len(self.peers)} peers>"

    # A life

    def begin(self, node_id: UUID, task: trio.lowlevel.Task) -> None:
        """Call this when the subjects of a node are heard: it is this process from now on."""
        self._task = task
        if node_id != self.node_id:
            self.node_id = node_id
            self._own = self.subjects.node(node_id)
            refused = self._intake.refused
            self.peers, self._named_peers = {}, {}
            self._survey = None
            # Those of topics go on: what was published between two lives is missed by its number.
            topics = self.subjects.topic("x")[:-1]
            self.numbers = {s: n for s, n in self.numbers.items() if s.startswith(topics)}
            self._intake = self._new_intake()
            # Sums of the process, not of one life.
            self._intake.refused = refused
        self._was_up = self.link.status()
        self._look_at_members()
        for peer in self.peers.values():
            peer.is_ready = False
        self.say_all(Hello(wants_answer=True))

    def suspend(self) -> None:
        """Call this when nobody serves the link any more: all that waits for others ends."""
        self._task = None
        self.inbox.clear()
        self._drop_loose()
        self._end_asks()

    # Now and then

    async def serve_clock(self) -> None:
        """Call this in a task of its own: acknowledges, asks, greets and forgets in time."""
        while True:
            self.tick()
            await trio.sleep(TICK_S)

    def tick(self) -> None:
        """Call this every 50 ms."""
        now = self.member.clock()
        self._look_at_members()
        for peer in self.peers.values():
            if peer.sending.is_ask_due(now):
                peer.has_work.set()
            hearing = self._intake.hearing(peer.node_id, self._own)
            if hearing is not None and hearing.is_ack_due(now):
                self.acknowledge(peer)
            if not peer.is_ready and now - peer.said_hello_at >= HELLO_S:
                peer.said_hello_at = now
                self.say(peer.node_id, Hello(wants_answer=True))
        if now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            self._sweep()
        if now - self._beacon_at >= BEACON_S:
            self._beacon_at = now
            self.say_all(Beacon(self.last_numbers()))

    def _sweep(self) -> None:
        for peer in self.peers.values():
            _forget_settled(peer.asks)
        _forget_settled(self.service_asks)


def _forget_settled(asks: dict[int, Item]) -> None:
    over = [n for n, one in asks.items() if one.papers is None or not _is_open(one.papers)]
    for number in over:
        del asks[number]


def _is_open(papers: Papers) -> bool:
    reply = papers[REPLY]
    return reply is not None and reply.task is not None
