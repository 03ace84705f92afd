"""How long a word to another node and back takes: what people are shown of the link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from actors.cluster.link.sayings import Probe, Probed
from actors.cluster.reaching.talking import Talk

# As often as a node says that it is there; the answer is one small message.
PROBE_S: Final = 2.0


class Trips:
    """The last round trip to each node; belongs to the trio thread."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._number, self._sent_at = 0, float("-inf")
        self._trips: dict[UUID, float] = {}

    def __repr__(self) -> str:
        return f"<Trips to {len(self._trips)} nodes>"

    def of(self, node_id: UUID) -> float | None:
        """Call this for the seconds of the last one; None for a node that has not answered."""
        return self._trips.get(node_id)

    def all(self) -> Mapping[UUID, float]:
        """Call this for the seconds of the last one to each node that has answered."""
        return self._trips

    def look(self) -> None:
        """Call this now and then: asks all nodes, and forgets those that are gone."""
        now = self._talk.member.clock()
        if now - self._sent_at < PROBE_S or not self._talk.is_up:
            return
        self._trips = {one: trip for one, trip in self._trips.items() if one in self._talk.peers}
        self._number, self._sent_at = self._number + 1, now
        self._talk.say_all(Probe(self._number))

    def probed(self, node_id: UUID, answer: Probed) -> None:
        """Call this with an answer; one to an earlier question tells nothing."""
        if answer.number == self._number and node_id in self._talk.peers:
            self._trips[node_id] = self._talk.member.clock() - self._sent_at
