"""What every `ChatLog` must do, as tests. Give the subclass a fixture `chat_log`.

The adapter starts empty: no rooms, and the demo user as the only user.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import trio

from actors.chat import (
    DEMO_DISPLAY_NAME,
    DEMO_USER_ID,
    LOBBY,
    ROOM_NAMES,
    Author,
    ChatLog,
    Draft,
    Posted,
    PostLimit,
    PostOutcome,
    Repeated,
    RoomName,
    Status,
    TooManyPosts,
    UnknownRoom,
    Viewer,
)
from storage.errors import UnknownUser

_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_GUEST = Author(None, "session-a", "amber fox 12")
_OTHER = Author(None, "session-b", "brave owl 34")
_DEMO = Author(DEMO_USER_ID, "session-a", DEMO_DISPLAY_NAME)
_SUPPORT = RoomName("Support")


def draft(
    body: str = "hello",
    *,
    client_id: str | None = None,
    author: Author = _GUEST,
    at_s: float = 0.0,
    room: RoomName = LOBBY,
    status: Status = Status.VISIBLE,
    limits: tuple[PostLimit, ...] = (),
) -> Draft:
    """Call this to make a draft whose unnamed parts are new or usual."""
    return Draft(
        message_id=uuid4(),
        event_id=uuid4(),
        room=room,
        author=author,
        body=body,
        client_id=client_id or str(uuid4()),
        status=status,
        reason="auto" if status is Status.PENDING else None,
        created_at=_NOON + timedelta(seconds=at_s),
        limits=limits,
        metadata={"correlation_id": "c-1"},
    )


async def _bodies(
    chat_log: ChatLog, viewer: Viewer | None = None, room: RoomName = LOBBY
) -> list[str]:
    history = await chat_log.history(room, viewer or Viewer())
    return [message.body for message in history.messages]


async def _post_all(chat_log: ChatLog, drafts: list[Draft]) -> list[PostOutcome]:
    outcomes: list[PostOutcome] = []

    async def post(one: Draft) -> None:
        outcomes.append(await chat_log.post(one))

    async with trio.open_nursery() as nursery:
        for one in drafts:
            nursery.start_soon(post, one)
    return outcomes


class ChatLogSuite:
    """The conformance suite of `ChatLog`."""

    async def test_rooms_are_made_once_however_many_start(self, chat_log: ChatLog) -> None:
        # SITE-60
        found = []

        async def start() -> None:
            found.append(await chat_log.ensure_rooms(ROOM_NAMES))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(start)
        assert list(found[0]) == list(ROOM_NAMES)
        assert len({rooms[LOBBY].id for rooms in found}) == 1
        assert len({room.id for room in found[0].values()}) == len(ROOM_NAMES)

    async def test_a_post_gets_the_next_numbers_and_is_read_back(self, chat_log: ChatLog) -> None:
        # SITE-62, SITE-73
        await chat_log.ensure_rooms(ROOM_NAMES)
        one = draft("first", author=_DEMO)
        first = await chat_log.post(one)
        second = await chat_log.post(draft("second"))
        assert isinstance(first, Posted)
        assert isinstance(second, Posted)
        assert (first.n, first.message.seq) == (1, 1)
        assert (second.n, second.message.seq) == (2, 2)
        assert first.message.author_name == DEMO_DISPLAY_NAME
        assert second.message.author_name is None
        assert first.message.id == one.message_id
        assert type(first.message.id) is UUID
        history = await chat_log.history(LOBBY, Viewer())
        assert history.messages == (first.message, second.message)
        assert (history.n, history.has_older) == (2, False)

    async def test_each_room_counts_for_itself(self, chat_log: ChatLog) -> None:
        # SITE-63
        await chat_log.ensure_rooms(ROOM_NAMES)
        await chat_log.post(draft())
        other = await chat_log.post(draft(room=_SUPPORT))
        assert isinstance(other, Posted)
        assert (other.n, other.message.seq) == (1, 1)
        assert await _bodies(chat_log, room=_SUPPORT) == ["hello"]

    async def test_a_repeat_stores_and_charges_nothing(self, chat_log: ChatLog) -> None:
        # SITE-66
        await chat_log.ensure_rooms(ROOM_NAMES)
        limits = (PostLimit("k", 2, 10.0),)
        first = await chat_log.post(draft("one", client_id="c", limits=limits))
        again = await chat_log.post(draft("other", client_id="c", limits=limits))
        assert isinstance(first, Posted)
        assert again == Repeated(first.message)
        assert isinstance(await chat_log.post(draft("two", limits=limits)), Posted)
        assert await _bodies(chat_log) == ["one", "two"]

    async def test_client_ids_belong_to_their_author_and_room(self, chat_log: ChatLog) -> None:
        # SITE-66: two sessions, the demo user of one of them, another room
        await chat_log.ensure_rooms(ROOM_NAMES)
        drafts = [draft(client_id="c", author=author) for author in (_GUEST, _OTHER, _DEMO)]
        drafts.append(draft(client_id="c", room=_SUPPORT))
        for one in drafts:
            assert isinstance(await chat_log.post(one), Posted)

    async def test_the_same_client_id_in_parallel_is_one_message(self, chat_log: ChatLog) -> None:
        # SITE-66
        await chat_log.ensure_rooms(ROOM_NAMES)
        outcomes = await _post_all(chat_log, [draft(client_id="c") for _ in range(10)])
        assert sum(isinstance(outcome, Posted) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Repeated) for outcome in outcomes) == 9
        assert len(await _bodies(chat_log)) == 1

    async def test_parallel_posts_use_each_number_once(self, chat_log: ChatLog) -> None:
        # SITE-63
        await chat_log.ensure_rooms(ROOM_NAMES)
        outcomes = await _post_all(chat_log, [draft(str(i)) for i in range(30)])
        posted = [outcome for outcome in outcomes if isinstance(outcome, Posted)]
        assert sorted(one.n for one in posted) == list(range(1, 31))
        assert sorted(one.message.seq for one in posted) == list(range(1, 31))

    async def test_of_fifty_parallel_posts_exactly_the_limit_passes(
        self, chat_log: ChatLog
    ) -> None:
        # SITE-65
        await chat_log.ensure_rooms(ROOM_NAMES)
        limits = (PostLimit("k", 5, 10.0),)
        outcomes = await _post_all(chat_log, [draft(limits=limits) for _ in range(50)])
        assert sum(isinstance(outcome, Posted) for outcome in outcomes) == 5
        assert sum(isinstance(outcome, TooManyPosts) for outcome in outcomes) == 45

    async def test_a_limit_tells_when_the_oldest_leaves(self, chat_log: ChatLog) -> None:
        # SITE-65: the interval is open at its old end, refused tries do not count
        await chat_log.ensure_rooms(ROOM_NAMES)
        limits = (PostLimit("k", 2, 10.0),)
        assert isinstance(await chat_log.post(draft(at_s=0, limits=limits)), Posted)
        assert isinstance(await chat_log.post(draft(at_s=4, limits=limits)), Posted)
        for at_s, wait in ((4.0, 6.0), (9.5, 0.5), (9.5, 0.5)):
            refused = await chat_log.post(draft(at_s=at_s, limits=limits))
            assert isinstance(refused, TooManyPosts)
            assert refused.retry_after_s == pytest.approx(wait)
        assert isinstance(await chat_log.post(draft(at_s=10, limits=limits)), Posted)
        refused = await chat_log.post(draft(at_s=10, limits=limits))
        assert isinstance(refused, TooManyPosts)
        assert refused.retry_after_s == pytest.approx(4.0)

    async def test_the_longest_wait_of_several_limits_counts(self, chat_log: ChatLog) -> None:
        # SITE-65: a refused post charges none of its limits
        await chat_log.ensure_rooms(ROOM_NAMES)
        own, shared = PostLimit("own", 1, 10.0), PostLimit("shared", 1, 30.0)
        assert isinstance(await chat_log.post(draft(limits=(own, shared))), Posted)
        refused = await chat_log.post(draft(at_s=1, limits=(own, shared)))
        assert isinstance(refused, TooManyPosts)
        assert refused.retry_after_s == pytest.approx(29.0)
        other = PostLimit("other", 1, 10.0)
        assert isinstance(await chat_log.post(draft(at_s=1, limits=(other, shared))), TooManyPosts)
        assert isinstance(await chat_log.post(draft(at_s=1, limits=(other,))), Posted)

    async def test_pending_is_for_its_author_and_moderators(self, chat_log: ChatLog) -> None:
        # SITE-68
        await chat_log.ensure_rooms(ROOM_NAMES)
        await chat_log.post(draft("by guest", status=Status.PENDING))
        await chat_log.post(draft("by demo", author=_DEMO, status=Status.PENDING))
        await chat_log.post(draft("open"))
        assert await _bodies(chat_log) == ["open"]
        assert await _bodies(chat_log, Viewer(session_id="session-b")) == ["open"]
        own = ["by guest", "by demo", "open"]
        assert await _bodies(chat_log, Viewer(session_id="session-a")) == own
        assert await _bodies(chat_log, Viewer(is_moderator=True)) == own
        # The demo user's posts belong to the session behind them, not to the user id.
        assert await _bodies(chat_log, Viewer(user_id=DEMO_USER_ID)) == ["open"]

    async def test_history_pages_back(self, chat_log: ChatLog) -> None:
        # SITE-73
        await chat_log.ensure_rooms(ROOM_NAMES)
        for number in range(1, 8):
            await chat_log.post(draft(str(number)))
        newest = await chat_log.history(LOBBY, Viewer(), limit=3)
        assert [m.body for m in newest.messages] == ["5", "6", "7"]
        assert (newest.n, newest.has_older) == (7, True)
        older = await chat_log.history(LOBBY, Viewer(), before=5, limit=4)
        assert [m.body for m in older.messages] == ["1", "2", "3", "4"]
        assert not older.has_older
        first = await chat_log.history(LOBBY, Viewer(), before=1)
        assert (first.messages, first.n, first.has_older) == ((), 7, False)

    async def test_history_refuses_nonsense(self, chat_log: ChatLog) -> None:
        # SITE-73
        await chat_log.ensure_rooms(ROOM_NAMES)
        for limit in (0, 51, -1):
            with pytest.raises(ValueError, match="limit"):
                await chat_log.history(LOBBY, Viewer(), limit=limit)
        with pytest.raises(ValueError, match="before"):
            await chat_log.history(LOBBY, Viewer(), before=0)

    async def test_an_unknown_room_is_told_everywhere(self, chat_log: ChatLog) -> None:
        # SITE-60
        await chat_log.ensure_rooms([LOBBY])
        nowhere = RoomName("lobby")
        with pytest.raises(UnknownRoom):
            await chat_log.post(draft(room=nowhere))
        with pytest.raises(UnknownRoom):
            await chat_log.history(nowhere, Viewer())
        with pytest.raises(UnknownRoom):
            await chat_log.join(nowhere, DEMO_USER_ID)
        with pytest.raises(UnknownRoom):
            await chat_log.is_member(nowhere, DEMO_USER_ID)

    async def test_joining_is_done_once(self, chat_log: ChatLog) -> None:
        # SITE-75
        await chat_log.ensure_rooms(ROOM_NAMES)
        assert not await chat_log.is_member(LOBBY, DEMO_USER_ID)
        assert await chat_log.join(LOBBY, DEMO_USER_ID)
        assert not await chat_log.join(LOBBY, DEMO_USER_ID)
        assert await chat_log.is_member(LOBBY, DEMO_USER_ID)
        assert not await chat_log.is_member(_SUPPORT, DEMO_USER_ID)
        with pytest.raises(UnknownUser):
            await chat_log.join(LOBBY, uuid4())

    async def test_any_text_comes_back_as_it_was(self, chat_log: ChatLog) -> None:
        # SITE-61
        await chat_log.ensure_rooms(ROOM_NAMES)
        text = "'; DROP TABLE users; -- \\ \" \n{} %s $1 \U0001d4b3 \u05e9 \u202e \u200d"
        await chat_log.post(draft(text, client_id=text))
        assert await _bodies(chat_log) == [text]
        assert isinstance(await chat_log.post(draft("x", client_id=text)), Repeated)
