"""When a visitor's session is let go, and when not."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import trio
from trio.testing import MockClock

from actors.accounts import RoomOfTab, StreamClosed, StreamOpened, TabId
from actors.accounts.session import TAB_KEPT_S, SessionActor
from actors.chat import LOBBY, Rooms
from supervision import ChildSpec, Dynamic, DynamicFlags, Flags, Plan, Supervisor, open_system
from web.lab.tree.picture import TreePicture
from web.wiring.directory import SESSIONS, Directory
from web.wiring.site_tree import SESSION_IDLE_S

TAB = TabId("tab")
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Root(Supervisor):
    """Sessions as the site has them, and nothing else."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def plan(self) -> Plan:
        self._directory.attach(self.system)
        flags = DynamicFlags(key="session_id", passivate_after=SESSION_IDLE_S)
        child = ChildSpec("session", partial(SessionActor, rooms=Rooms(lambda _: None)))
        sessions = partial(Dynamic, flags, child)
        return Plan(Flags(), [ChildSpec(SESSIONS, sessions, name=SESSIONS, type="supervisor")])


async def test_a_session_lives_with_its_tabs(autojump_clock: MockClock) -> None:
    """SITE-91 SITE-94: never let go under an open page; gone some time after the last one."""
    directory = Directory()
    async with open_system(Root, directory, name="site") as root:
        session = directory.session("s1")
        session.tell(StreamOpened(TAB, LOBBY))
        await trio.sleep(4 * SESSION_IDLE_S)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY
        session.tell(StreamClosed(TAB))
        await trio.sleep(TAB_KEPT_S - 1)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY
        await trio.sleep(TAB_KEPT_S + 2 * SESSION_IDLE_S)
        (cell,) = [cell for cell in root.system.cells() if "sessions/" in cell.path]
        assert cell.status == "stopped", "only its name is kept, bounded, for who comes back"
        picture = TreePicture(lambda: root.system, lambda: AT, None)
        assert picture.actor_count() == 2
        assert "SessionActor" not in repr(picture.root())
        assert await directory.session("s1").ask(RoomOfTab(TAB)) is None
