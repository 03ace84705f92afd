"""The way from a room's name to its actor.

A room's actor may be replaced (its supervisor gave up and was started anew), so refs are
looked up at each use and never kept.
"""

from collections.abc import Callable

from actors.chat.ports import UnknownRoom
from actors.chat.room import CrashRoom, Post, ReadHistory
from actors.chat.words import RoomName
from actors.runtime import Ref

RoomRef = Ref[Post | ReadHistory | CrashRoom]


class Rooms:
    """Finds the actors of rooms; `find` gives None for a room that has none."""

    def __init__(self, find: Callable[[RoomName], RoomRef | None]) -> None:
        self._find = find

    def of(self, name: RoomName) -> RoomRef:
        """Call this to get the actor of a room now; raises `UnknownRoom`."""
        ref = self._find(name)
        if ref is None:
            raise UnknownRoom(name)
        return ref
