"""A sandbox as client programs hear it: its own topic on `/ws`, for its own visitor only (LAB-4).

What is told is numbered by the sandbox, one up each time; who finds a gap, or hears `resync`, reads
the snapshot again, which says where it stands. Without anybody who hears it nothing is built. How
many letters wait is no change: a flood would be one five times a second, each kept for minutes for
those who come back. For the same reason exits stand in the snapshot only.
"""

from collections.abc import Callable, Mapping
from uuid import UUID

import msgspec

from actors.runtime import Cell, System
from web.lab.sandbox.sandboxes import Sandbox, Sandboxes
from web.lab.sandbox.words import Place
from web.lab.stage.api import actor_json, topic_name
from web.realtime import Action, Tells


class TreeChanged(msgspec.Struct, frozen=True):
    """Actors of a sandbox are different, or gone. With `resync` all of them are told."""

    epoch: str
    seq: int
    changed: list[dict[str, object]]
    removed: list[str]
    resync: bool


class TreeTells:
    """What sockets are told of sandboxes; of all else, what `others` tell."""

    def __init__(self, others: Tells) -> None:
        self._others = others

    def action(self, message: object, /) -> Action | None:
        """Write a message as an action."""
        if isinstance(message, TreeChanged):
            return Action("TreeChanged", msgspec.json.encode(message))
        return self._others.action(message)

    def position(self, message: object, /) -> int | None:
        """Tell the number of a message."""
        return message.seq if isinstance(message, TreeChanged) else self._others.position(message)


class TreeTopic:
    """Publishes what changed in sandboxes, where somebody hears it."""

    def __init__(self, sandboxes: Sandboxes, system: Callable[[], System]) -> None:
        self._sandboxes, self._system = sandboxes, system

    def may_hear(self, session: str, topic: str) -> bool:
        """Call this for whether a topic is that of the session's own sandbox."""
        try:
            sandbox = self._sandboxes.of(UUID(session))
        except ValueError:
            return False
        return sandbox.is_own and topic == topic_name(sandbox)

    def tell(self, sandbox: Sandbox, places: list[Place], *, resync: bool) -> None:
        """Call this with the places that are other than before; counts them as one change."""
        sandbox.seq += 1
        topics, topic = self._system().topics, topic_name(sandbox)
        if not topics.has_subscribers(topic):
            return
        cells = self._sandboxes.cells(sandbox)
        there = [place for place in (cells if resync else places) if place in cells]
        topics.publish(
            topic,
            TreeChanged(
                epoch=sandbox.record,
                seq=sandbox.seq,
                changed=[self._actor(sandbox, place, cells) for place in there],
                removed=[place for place in places if place not in cells],
                resync=resync,
            ),
        )

    def _actor(
        self, sandbox: Sandbox, place: Place, cells: Mapping[Place, Cell]
    ) -> dict[str, object]:
        actor = actor_json(self._sandboxes, sandbox, place, cells)
        del actor["last_exits"]
        return actor
