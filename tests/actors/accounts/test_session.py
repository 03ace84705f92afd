"""The session actor: who acts, in which tab, and for how long a tab is remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from actors.accounts import (
    BindTab,
    Pane,
    Poster,
    PostInRoom,
    PostInTab,
    RoomFailed,
    RoomOfTab,
    SessionActor,
    SessionId,
    StreamClosed,
    StreamOpened,
    TabId,
    TabUnbound,
)
from actors.accounts.session import (
    TAB_KEPT_S,
    TABS_MAX,
    Messages,
)
from actors.chat import (
    DEMO_USER_ID,
    LOBBY,
    Author,
    CrashRoom,
    ForgetNewest,
    History,
    IsMember,
    Join,
    Moderate,
    ModerationOutcome,
    NotAMember,
    NotStored,
    NotTaken,
    Post,
    PostOutcome,
    ReadHistory,
    RenewNewest,
    RoomMessage,
    RoomName,
    Rooms,
    Stored,
    UnknownRoom,
    guest_name,
)
from actors.runtime import Actor, NoProc, Ref, open_actors

TAB = TabId("tab-1")


class FakeRoom(Actor[RoomMessage]):
    """Remembers who posted; answers that nothing is stored, or crashes when asked to."""

    def __init__(self, seen: list[Post]) -> None:
        self.seen = seen

    def on_post(self, message: Post) -> PostOutcome | NotStored | NotTaken | NotAMember:
        self.seen.append(message)
        if message.body == "crash":
            raise RuntimeError("told to")
        return NotStored("a fake stores nothing")

    def on_join(self, message: Join) -> bool | NotStored | NotAMember:
        return NotStored("a fake stores nothing")

    def on_is_member(self, message: IsMember) -> bool | NotStored:
        return NotStored("a fake stores nothing")

    def on_read_history(self, message: ReadHistory) -> History | NotStored:
        return NotStored("a fake stores nothing")

    def on_moderate(self, message: Moderate) -> ModerationOutcome | NotStored:
        return NotStored("a fake stores nothing")

    def on_forget_newest(self, message: ForgetNewest) -> None: ...

    def on_renew_newest(self, message: RenewNewest) -> None: ...

    def on_stored(self, message: Stored) -> None: ...

    def on_crash_room(self, message: CrashRoom) -> None:
        raise AssertionError("no session crashes a room")


@asynccontextmanager
async def open_session(seen: list[Post]) -> AsyncIterator[Ref[Messages]]:
    async with open_actors() as system:
        room = await system.start(FakeRoom, seen)
        rooms = Rooms(lambda name: room if name == LOBBY else None)
        yield await system.start(SessionActor, SessionId("s1"), rooms)


def a_post(body: str = "hello", *, tab: TabId = TAB, pane: Pane = Pane.YOU) -> PostInTab:
    return PostInTab(tab, pane, body, "c1", "address")


async def test_a_guest_posts_under_a_readable_name() -> None:  # SITE-9
    seen: list[Post] = []
    async with open_session(seen) as session:
        session.tell(BindTab(TAB, LOBBY))
        assert isinstance(await session.ask(a_post()), NotStored)
        await session.ask(a_post(pane=Pane.DEMO))
    assert [post.author for post in seen] == [
        Author(None, "s1", guest_name("s1")),
        Author(DEMO_USER_ID, "s1", "Demo Bot"),
    ]


async def test_a_member_posts_as_themselves() -> None:  # SITE-62, SITE-9
    seen: list[Post] = []
    ada = Poster(UUID(int=7), "ada")
    async with open_session(seen) as session:
        session.tell(BindTab(TAB, LOBBY))
        for pane in Pane:
            await session.ask(PostInTab(TAB, pane, "hello", "c1", "address", ada))
        await session.ask(PostInRoom(LOBBY, "hello", "c1", "address", ada))
    assert [post.author for post in seen] == [
        Author(ada.user_id, None, "ada"),
        Author(DEMO_USER_ID, "s1", "Demo Bot"),
        Author(ada.user_id, None, "ada"),
    ]


async def test_an_unbound_tab_may_not_post() -> None:  # SITE-62
    seen: list[Post] = []
    async with open_session(seen) as session:
        assert await session.ask(a_post()) == TabUnbound()
        session.tell(BindTab(TAB, LOBBY))
        assert await session.ask(a_post(tab=TabId("tab-2"))) == TabUnbound()
    assert seen == []


async def test_a_room_that_crashes_leaves_the_session_alone() -> None:
    async with open_session([]) as session:
        session.tell(BindTab(TAB, LOBBY))
        assert isinstance(await session.ask(a_post("crash")), RoomFailed)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY


async def test_a_tab_is_forgotten_ten_minutes_after_its_page(autojump_clock: MockClock) -> None:
    async with open_session([]) as session:  # SITE-94
        session.tell(BindTab(TAB, LOBBY))
        await trio.sleep(TAB_KEPT_S - 1)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY
        await trio.sleep(2)
        assert await session.ask(RoomOfTab(TAB)) is None


async def test_an_open_stream_keeps_its_tab(autojump_clock: MockClock) -> None:  # SITE-91 SITE-94
    async with open_session([]) as session:
        session.tell(StreamOpened(TAB, LOBBY))
        await trio.sleep(5 * TAB_KEPT_S)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY
        session.tell(StreamClosed(TAB))
        await trio.sleep(TAB_KEPT_S - 1)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY
        await trio.sleep(2)
        assert await session.ask(RoomOfTab(TAB)) is None


async def test_rendering_does_not_close_an_open_stream(autojump_clock: MockClock) -> None:
    async with open_session([]) as session:
        session.tell(StreamOpened(TAB, LOBBY))
        session.tell(BindTab(TAB, LOBBY))
        await trio.sleep(2 * TAB_KEPT_S)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY


async def test_tabs_are_bounded_and_open_ones_stay() -> None:  # REL-70
    async with open_session([]) as session:
        session.tell(StreamOpened(TAB, LOBBY))
        for number in range(2 * TABS_MAX):
            session.tell(BindTab(TabId(f"more-{number}"), LOBBY))
        kept = [await session.ask(RoomOfTab(TabId(f"more-{n}"))) for n in range(2 * TABS_MAX)]
        assert await session.ask(RoomOfTab(TAB)) == LOBBY
    assert kept == [None] * (TABS_MAX + 1) + [LOBBY] * (TABS_MAX - 1)


async def test_a_tab_that_gave_way_leaves_no_timer() -> None:  # REL-70
    async with open_actors() as system:
        session = await system.start(SessionActor, SessionId("s1"), Rooms(lambda _: None))
        for number in range(2 * TABS_MAX):
            session.tell(BindTab(TabId(f"more-{number}"), LOBBY))
        await session.ask(RoomOfTab(TAB))
        timers = system.stats(session).timers
    assert len(timers) == TABS_MAX


class FrozenRoom(FakeRoom):
    """Its store answers nothing, for as long as an operation may take."""

    async def on_post(  # type: ignore[override]  # it waits
        self, message: Post
    ) -> PostOutcome | NotStored | NotTaken | NotAMember:
        self.seen.append(message)
        await trio.sleep(4.0)
        return NotStored("no answer within 4 s")


async def test_who_waits_behind_others_for_a_store_that_stands_still_knows_in_time(
    autojump_clock: MockClock,
) -> None:
    # REL-82: each waits for those before, and would wait for as long again
    seen: list[Post] = []
    took: list[float] = []

    async def post(session: Ref[Messages]) -> None:
        assert isinstance(await session.ask(a_post()), NotStored | RoomFailed)
        took.append(trio.current_time() - began)

    async with open_actors() as system, trio.open_nursery() as nursery:
        room = await system.start(FrozenRoom, seen)
        began = trio.current_time()
        for number in range(5):
            session = await system.start(
                SessionActor, SessionId(f"s{number}"), Rooms(lambda _: room)
            )
            session.tell(BindTab(TAB, LOBBY))
            nursery.start_soon(post, session)
    assert max(took) <= 5.0
    # Whoever was told that nothing came of it is not stored later.
    assert len(seen) == 2


def test_an_unknown_room_is_an_error_and_one_that_is_away_is_no_proc() -> None:
    rooms = Rooms(lambda _: None)
    with pytest.raises(UnknownRoom):
        rooms.of(RoomName("Cellar"))
    with pytest.raises(NoProc):
        rooms.of(LOBBY)


async def test_a_room_that_is_away_leaves_the_session_alone() -> None:
    """SITE-155: while the supervisor of rooms restarts, a post is refused, not a crash."""
    async with open_actors() as system:
        session = await system.start(SessionActor, SessionId("s1"), Rooms(lambda _: None))
        session.tell(BindTab(TAB, LOBBY))
        assert isinstance(await session.ask(a_post()), RoomFailed)
        assert await session.ask(RoomOfTab(TAB)) == LOBBY
