"""The one place of a process that hears when a room has a new event, in whatever process.

Rule 1: a ring is only a hint. Where the rooms stand is asked of the store: at each ring, and now
        and then without one.
Rule 2: a room is told where it stands, and it alone tells its readers: in order and once.
"""

from collections.abc import MutableMapping
from contextlib import aclosing, suppress
from typing import Never

import trio

from actors.chat.chat_log import ChatLog, ChatLogUnavailable, UnknownRoom
from actors.chat.room import Rooms, Stored
from actors.chat.words import RoomName
from actors.runtime import Actor, Log, NoProc

# What a lost ring costs: one is lost with a process that dies between its commit and the ring.
LOOK_S = 10.0
# While the store is away.
RETRY_S = 1.0
# Between two looks while one post follows the other. Read in one query for all rooms.
PAUSE_S = 0.1

_log = Log("actors.chat")


class RoomsWatch(Actor[Never]):
    """Tells each room of this process how far its stream has come."""

    def __init__(self, log: ChatLog, rooms: Rooms, *, look_s: float = LOOK_S) -> None:
        self._chat, self._rooms, self._look_s = log, rooms, look_s
        self._told: dict[RoomName, int] = {}
        self._is_away = False

    def on_start(self) -> None:
        """Begin to listen; what was stored meanwhile is found at once."""
        self.start_soon(self._listen)

    async def _listen(self) -> None:
        async with aclosing(self._chat.rings(self._look_s)) as rings:
            async for _ in rings:
                await self._look()
                await trio.sleep(PAUSE_S)

    async def _look(self) -> None:
        while True:
            try:
                await tell_where_they_stand(self._chat, self._rooms, self._told)
            except ChatLogUnavailable as error:
                if not self._is_away:
                    _log.warning("chat.versions_unknown", error=str(error))
                self._is_away = True
                await trio.sleep(RETRY_S)
                continue
            self._is_away = False
            break


async def tell_where_they_stand(
    log: ChatLog, rooms: Rooms, told: MutableMapping[RoomName, int]
) -> None:
    """Call this to tell each room of this process how far its stream has come, in `told` too.

    Raises `ChatLogUnavailable`; no room was told then.
    """
    for room, n in (await log.versions()).items():
        if told.get(room) == n:
            continue
        # One whose actor is away says by itself that it is back; it is told at the next look.
        with suppress(NoProc, UnknownRoom):
            rooms.of(room).tell(Stored(n))
            told[room] = n
