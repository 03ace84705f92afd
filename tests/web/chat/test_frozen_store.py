"""A page that is asked for while the store says nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from actors.chat import LOBBY, ChatEnvironment, Newest, NewestCache, RoomActor, RoomName, Rooms
from actors.chat.chat_log import HISTORY_LIMIT
from actors.runtime import AskError, open_actors
from storage.memory import MemoryChatLog
from tests.actors.chat.counting import CountingIds
from web.chat.routes import LOBBY_NOW, PAGE_READ_S_MAX, ChatServices, chat_view
from web.routing.services import ASK_S_MAX, Services
from web.server import RequestState, Visitor
from web.wiring.environment import SystemClock


class FrozenLog(MemoryChatLog):
    """A log that never answers."""

    async def newest(self, room: RoomName, *, limit: int = HISTORY_LIMIT) -> Newest:
        await trio.sleep_forever()
        raise AssertionError("nobody wakes it")


async def test_a_page_does_not_wait_longer_than_two_seconds(autojump_clock: MockClock) -> None:
    # SITE-155
    log = FrozenLog()
    await log.ensure_rooms([LOBBY])
    async with open_actors() as system:
        environment = ChatEnvironment(SystemClock(), CountingIds(), log)
        room = await system.start(RoomActor, LOBBY, environment, name="lobby")
        # What the view asks for before it has the messages, and nothing else.
        services = cast("Services", SimpleNamespace(remaining=lambda state: ASK_S_MAX))
        chat = cast(
            "ChatServices", SimpleNamespace(rooms=Rooms(lambda name: room), newest=NewestCache())
        )
        visitor = Visitor(UUID(int=1), is_new=False)
        state = cast("RequestState", SimpleNamespace(visitor=visitor, signed_in=None))
        began = trio.current_time()
        with pytest.raises(AskError):
            await chat_view(services, chat, state, LOBBY_NOW, "t1")
        assert trio.current_time() - began == pytest.approx(PAGE_READ_S_MAX, abs=0.1)
        assert PAGE_READ_S_MAX < 2
        room.kill()
