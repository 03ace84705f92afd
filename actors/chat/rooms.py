"""The way from a room's name to its actor.

A room's actor may be replaced (its supervisor gave up and was started anew), so refs are
looked up at each use and never kept.
"""

from collections.abc import Callable

from actors.chat.ports import UnknownRoom
from actors.chat.room import CrashRoom, Post, ReadHistory
from actors.chat.words import ROOM_NAMES, RoomName
from actors.runtime import NoProc, Ref

RoomRef = Ref[Post | ReadHistory | CrashRoom]


class Rooms:
    """Finds the actors of rooms; `find` gives None for a room that has none."""

    def __init__(self, find: Callable[[RoomName], RoomRef | None]) -> None:
        self._find = find

    def of(self, name: RoomName) -> RoomRef:
        """Call this to get the actor of a room now.

        Raises `UnknownRoom` for a name outside the closed set, and `NoProc` (an `AskError`)
        for a room whose actor is away: its supervisor is being restarted.
        """
        ref = self._find(name)
        if ref is not None:
            return ref
        if name in ROOM_NAMES:
            raise NoProc(f"the room {name}")
        raise UnknownRoom(name)
