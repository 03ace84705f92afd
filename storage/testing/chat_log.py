"""What every `ChatLog` must do, as tests. Give the subclass a fixture `chat_log`.

The adapter starts empty: no rooms, and as users the demo user and a moderator
(`moderator_in_memory`, `moderator_in_postgres`).
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from uuid import UUID, uuid4

import pytest
import trio

from actors.accounts import Role
from actors.chat import (
    DEMO_DISPLAY_NAME,
    DEMO_USER_ID,
    LOBBY,
    ROOM_NAMES,
    Author,
    ChatLog,
    ChatLogUnavailable,
    Decided,
    Decision,
    Draft,
    History,
    ModerationOutcome,
    Newest,
    NotDecided,
    Posted,
    PostLimit,
    PostOutcome,
    PostRefused,
    PostStored,
    PostVerdict,
    Repeated,
    RoomName,
    Status,
    TooManyPosts,
    TooManyWaiting,
    UnknownRoom,
    Verdict,
    Viewer,
    WaitingList,
    user_subject,
)
from actors.chat.chat_log import MEMBERS_ASKED_MAX, WAITING_MAX
from actors.persistence import ERASED, EVENTS, EventStore, Keyring
from actors.persistence.words import EVENT_BYTES_MAX
from storage.errors import InvalidField, UnknownUser
from storage.memory import MemoryChatLog
from storage.memory.database import UserRow
from storage.postgres import Connection, Database
from storage.testing.samples import PATIENCE_S

MODERATOR_ID = UUID("00000000-0000-7000-8000-00000000a0de")

_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_GUEST = Author(None, "session-a", "amber fox 12")
_OTHER = Author(None, "session-b", "brave owl 34")
_DEMO = Author(DEMO_USER_ID, "session-a", DEMO_DISPLAY_NAME)
_USER = Author(DEMO_USER_ID, None, DEMO_DISPLAY_NAME)
_SUPPORT = RoomName("Support")
_TWO = (LOBBY, _SUPPORT)


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


def verdict(message_id: UUID, decision: Decision = Decision.APPROVE, reason: str = "") -> Verdict:
    """Call this to make a decision of a moderator who wrote nothing."""
    return Verdict(message_id, uuid4(), MODERATOR_ID, "session-m", decision, reason, _NOON)


def moderator_in_memory(log: MemoryChatLog) -> MemoryChatLog:
    """Call this to have the suite's moderator among the users of a log's database."""
    role = Role.MODERATOR.value
    log.database.users[MODERATOR_ID] = UserRow("mod", "mod@example.org", role, _NOON)
    return log


async def moderator_in_postgres(database: Database) -> None:
    """Call this to have the suite's moderator among the users."""

    async def work(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO users (id, username, display_name, email, role)"
            " VALUES ($1, 'mod', 'mod', 'mod@example.org', 'moderator')",
            MODERATOR_ID,
        )

    await database.run(work)


def _again(one: Draft, **changes: UUID) -> Draft:
    """Give the same post with numbers that nobody has."""
    return replace(one, **{"message_id": uuid4(), "event_id": uuid4(), **changes})  # type: ignore[arg-type]


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


@dataclass
class ChatPlace:
    """A chat log on a database, as this process and others have it.

    `lose_messages` empties what is made of the log, and gives the queue as it was; `queue` the
    messages that wait for review.
    """

    open: Callable[[], tuple[ChatLog, Keyring]]
    events: EventStore
    dump: Callable[[], Awaitable[bytes]]
    lose_messages: Callable[[], Awaitable[None]]
    queue: Callable[[], Awaitable[dict[UUID, str]]]


def _days_ago(days: float, one: Draft | None = None) -> Draft:
    return replace(one or draft(), created_at=datetime.now(UTC) - timedelta(days=days))


def _told(verdict: PostVerdict) -> tuple[object, ...]:
    """What became of a post, without what differs from room to room."""
    match verdict:
        case Posted(message, n):
            return ("posted", n, message.seq, message.body, message.status, message.client_id)
        case Repeated(message):
            return ("repeated", message.seq, message.body, message.client_id)
        case TooManyPosts(retry_after_s):
            return ("too many", round(retry_after_s, 3))
    return (type(verdict),)


class ChatForgettingSuite:
    """How the texts of a chat end, and come again while they have not. Fixture `chat`."""

    async def test_a_text_is_stored_sealed_and_ends_with_its_author(self, chat: ChatPlace) -> None:
        # STORE-44, SEC-136
        log, keyring = chat.open()
        other, _ = chat.open()
        await log.ensure_rooms(ROOM_NAMES)
        by_user = _days_ago(0, draft("Marker one", author=_USER, client_id="c"))
        assert isinstance(await log.post(by_user), Posted)
        assert isinstance(await log.post(_days_ago(0, draft("Marker two"))), Posted)
        assert await _bodies(other) == ["Marker one", "Marker two"]
        assert b"Marker" not in await chat.dump()
        events = [EVENTS.decode(event) for event in (await chat.events.read_all()).events]
        texts = [one.text.reveal() for one in events if isinstance(one, PostStored)]
        assert texts == ["Marker one", "Marker two"]
        await keyring.forget(user_subject(DEMO_USER_ID), by="test")
        for reader in (log, chat.open()[0]):
            assert await _bodies(reader) == [ERASED, "Marker two"]
            newest = await reader.newest(LOBBY)
            assert [message.body for message in newest.messages] == [ERASED, "Marker two"]
        assert isinstance(await log.post(_days_ago(0, draft("Marker three"))), Posted)
        with pytest.raises(ChatLogUnavailable, match="forgotten"):
            await log.post(_days_ago(0, draft("Marker four", author=_USER)))
        assert b"Marker" not in await chat.dump()
        assert (await log.history(LOBBY, Viewer())).n == 3

    async def test_one_whose_author_was_forgotten_harms_no_other(self, chat: ChatPlace) -> None:
        # STORE-44, SITE-62
        log, keyring = chat.open()
        await log.ensure_rooms(ROOM_NAMES)
        assert isinstance(await log.post(_days_ago(0, draft(author=_USER))), Posted)
        await keyring.forget(user_subject(DEMO_USER_ID), by="test")
        for place in range(3):
            drafts = [_days_ago(0, draft(str(number))) for number in range(3)]
            drafts[place] = replace(drafts[place], author=_USER)
            verdicts = list(await chat.open()[0].post_all(drafts))
            assert isinstance(verdicts.pop(place), ChatLogUnavailable)
            assert [type(verdict) for verdict in verdicts] == [Posted, Posted]
        assert (await log.history(LOBBY, Viewer())).n == 7

    async def test_messages_are_made_again_from_the_log(self, chat: ChatPlace) -> None:
        # SITE-79, STORE-44
        log, keyring = chat.open()
        await log.ensure_rooms(ROOM_NAMES)
        drafts = [
            _days_ago(40, draft("too old")),
            _days_ago(3, draft("by user", author=_USER)),
            _days_ago(2, draft("by demo", author=_DEMO)),
            _days_ago(1, draft("waits", status=Status.PENDING)),
            _days_ago(0, draft("elsewhere", room=_SUPPORT)),
            _days_ago(0, draft("approved", room=_SUPPORT, status=Status.PENDING)),
            _days_ago(0, draft("taken away", room=_SUPPORT, status=Status.PENDING)),
        ]
        for one in drafts:
            assert isinstance(await log.post(one), Posted)
        await log.moderate(verdict(drafts[5].message_id))
        await log.moderate(verdict(drafts[6].message_id, Decision.REMOVE, "off topic"))
        await log.purge_messages()
        moderator = Viewer(is_moderator=True)
        before = [await log.history(room, moderator) for room in (LOBBY, _SUPPORT)]
        assert [one.body for one in before[0].messages] == ["by user", "by demo", "waits"]
        assert [one.body for one in before[1].messages] == ["elsewhere", "approved"]
        queued = await chat.queue()
        assert sorted(queued.values()) == ["auto", "auto", "off topic"]
        waiting = await log.waiting()
        await chat.lose_messages()
        assert (await log.history(LOBBY, moderator)).messages == ()
        assert await log.rebuild() == 6
        assert await log.rebuild() == 0
        assert [await log.history(room, moderator) for room in (LOBBY, _SUPPORT)] == before
        assert await chat.queue() == queued
        assert await log.waiting() == waiting
        for one in drafts[5:]:
            again = await log.moderate(verdict(one.message_id))
            assert again is NotDecided.NOT_WAITING
        # A repeat is known as one, and the next post goes on counting.
        assert isinstance(await log.post(drafts[1]), Repeated)
        posted = await log.post(_days_ago(0))
        assert isinstance(posted, Posted)
        assert posted.message.seq == 5
        # What was forgotten is made again without its text: the demo user's, whoever wrote it.
        await keyring.forget(user_subject(DEMO_USER_ID), by="test")
        await chat.lose_messages()
        await log.rebuild()
        assert await _bodies(log, moderator) == [ERASED, ERASED, "waits", "hello"]

    async def test_what_was_shown_says_when_some_of_it_is_gone(self, chat: ChatPlace) -> None:
        # WEB-42, STORE-44
        log, keyring = chat.open()
        await log.ensure_rooms(ROOM_NAMES)
        await log.post(_days_ago(31, draft("old")))
        await log.post(_days_ago(0, draft("by a user", author=_USER)))
        await log.post(_days_ago(0, draft("new")))
        assert (await log.said(LOBBY, after=0)).is_whole
        await log.purge_messages()
        await keyring.forget(user_subject(DEMO_USER_ID), by="test")
        part = await log.said(LOBBY, after=0)
        assert not part.is_whole
        assert [one.message.body for one in part.messages] == [ERASED, "new"]
        assert (await log.said(LOBBY, after=1)).is_whole

    async def test_what_was_kept_long_enough_goes(self, chat: ChatPlace) -> None:
        # SITE-79, SEC-134: messages after 30 days, their texts in the log too, audit after 365
        log, _ = chat.open()
        await log.ensure_rooms(ROOM_NAMES)
        for days in (400, 100, 32, 29, 0):
            limits = (PostLimit(f"k{days}", 5, 10.0),)
            await log.post(_days_ago(days, draft(f"{days} days", limits=limits)))
        assert await log.purge_messages(2) == 2
        assert await log.purge_messages(2) == 1
        assert await log.purge_messages(2) == 0
        assert await _bodies(log) == ["29 days", "0 days"]
        assert await log.purge_texts(2) == 2
        assert await log.purge_texts(2) == 1
        assert await log.purge_texts(2) == 0
        events = [EVENTS.decode(event) for event in (await chat.events.read_all()).events]
        texts = [one.text.reveal() for one in events if isinstance(one, PostStored)]
        assert texts == [ERASED, ERASED, ERASED, "29 days", "0 days"]
        assert await log.purge_audit() == 1
        assert await log.purge_audit() == 0
        assert await log.purge_limits(3) == 3
        assert await log.purge_limits(3) == 1
        assert await log.purge_limits(3) == 0
        # A clock that went back is told, and keeps nothing.
        with pytest.raises(ChatLogUnavailable, match="forgotten"):
            await log.post(_days_ago(32, draft("late")))


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
        assert again == Repeated(first.message, first.n)
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

    async def test_posts_together_end_as_they_would_one_by_one(self, chat_log: ChatLog) -> None:
        # SITE-62, SITE-63, SITE-65, SITE-66
        await chat_log.ensure_rooms(ROOM_NAMES)
        chance = Random(9)
        at_s = 0.0
        kinds: set[object] = set()
        for _ in range(12):
            drafts = []
            for _ in range(chance.randrange(1, 8)):
                at_s += chance.random()
                author = chance.choice((_GUEST, _OTHER, _DEMO, _USER))
                drafts.append(
                    draft(
                        f"at {at_s}",
                        client_id=f"c{chance.randrange(30)}",
                        author=author,
                        at_s=at_s,
                        status=chance.choice((Status.VISIBLE, Status.PENDING)),
                        limits=(PostLimit(author.key, 2, 4.0), PostLimit("all", 4, 3.0)),
                    )
                )
            together = [_told(verdict) for verdict in await chat_log.post_all(drafts)]
            alone = [
                _told(await chat_log.post(replace(_again(one), room=_SUPPORT))) for one in drafts
            ]
            assert together == alone
            kinds.update(verdict[0] for verdict in together)
        assert kinds == {"posted", "repeated", "too many"}
        pages = [await chat_log.history(room, Viewer(is_moderator=True)) for room in _TWO]
        assert len({page.n for page in pages}) == 1
        assert [one.body for one in pages[0].messages] == [one.body for one in pages[1].messages]

    async def test_one_that_cannot_be_stored_harms_no_other(self, chat_log: ChatLog) -> None:
        # SITE-62
        await chat_log.ensure_rooms(ROOM_NAMES)
        limits = (PostLimit("k", 100, 10.0),)
        first = draft("first", limits=limits)
        assert isinstance(await chat_log.post(first), Posted)
        for place in range(4):
            drafts = [draft(f"{place}.{number}", limits=limits) for number in range(4)]
            drafts[place] = replace(drafts[place], message_id=first.message_id)
            verdicts = list(await chat_log.post_all(drafts))
            refused = verdicts.pop(place)
            assert isinstance(refused, PostRefused)
            assert first.body not in str(refused)
            assert [type(verdict) for verdict in verdicts] == [Posted] * 3
            with pytest.raises(PostRefused):
                await chat_log.post(_again(drafts[place], message_id=first.message_id))
            taken = replace(_again(drafts[place]), event_id=drafts[place - 1].event_id)
            with pytest.raises(PostRefused):
                await chat_log.post(taken)
            # Not too long for a text, but for an event with the text sealed in it.
            too_long = draft("x" * EVENT_BYTES_MAX, limits=limits)
            verdicts = [*await chat_log.post_all([too_long, _again(drafts[place - 1])])]
            assert [type(verdict) for verdict in verdicts] == [PostRefused, Repeated]
        history = await chat_log.history(LOBBY, Viewer())
        assert [message.seq for message in history.messages] == list(range(1, 14))
        assert history.n == 13

    async def test_posts_together_are_of_one_room_that_exists(self, chat_log: ChatLog) -> None:
        # SITE-60
        await chat_log.ensure_rooms([LOBBY, _SUPPORT])
        assert list(await chat_log.post_all([])) == []
        with pytest.raises(ValueError, match="rooms"):
            await chat_log.post_all([draft(), draft(room=_SUPPORT)])
        with pytest.raises(UnknownRoom):
            await chat_log.post_all([draft(room=RoomName("Nowhere"))] * 2)
        assert await _bodies(chat_log) == []

    async def test_of_fifty_parallel_posts_exactly_the_limit_passes(
        self, chat_log: ChatLog
    ) -> None:
        # SITE-65, SEC-115
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

    async def test_of_one_author_only_so_many_wait(self, chat_log: ChatLog) -> None:
        # SITE-67, SITE-70: several at once too; what is decided, visible, or another's is not one
        await chat_log.ensure_rooms(ROOM_NAMES)

        def waits(author: Author = _GUEST, room: RoomName = LOBBY) -> Draft:
            one = draft(author=author, room=room, status=Status.PENDING)
            return replace(one, waiting_max=2)

        first = waits()
        outcomes = [
            *(await chat_log.post_all([first, waits(_DEMO), waits()])),
            *(await _post_all(chat_log, [waits() for _ in range(4)])),
        ]
        assert [type(one) for one in outcomes] == [Posted] * 3 + [TooManyWaiting] * 4
        assert outcomes[-1] == TooManyWaiting(2)
        assert isinstance(await chat_log.post(first), Repeated)
        for other in (replace(draft(), waiting_max=2), waits(room=_SUPPORT), waits(_USER)):
            assert isinstance(await chat_log.post(other), Posted)
        history = await chat_log.history(LOBBY, Viewer(is_moderator=True))
        assert [message.seq for message in history.messages] == list(range(1, 6))
        await chat_log.moderate(verdict(first.message_id))
        together = await chat_log.post_all([waits(), waits()])
        assert [type(one) for one in together] == [Posted, TooManyWaiting]

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

    async def test_the_newest_are_what_each_viewer_s_history_has(self, chat_log: ChatLog) -> None:
        # SITE-68, SITE-73
        await chat_log.ensure_rooms(ROOM_NAMES)
        authors = (_GUEST, _OTHER, _DEMO, _USER)
        viewers = [Viewer(), Viewer(DEMO_USER_ID), *(Viewer(None, f"session-{x}") for x in "abc")]
        assert await chat_log.newest(LOBBY) == Newest((), 0, has_older=False, waiting=frozenset())
        chance = Random(4)
        sizes: set[int] = set()
        for round_ in range(8):
            drafts = [
                draft(
                    f"{round_}.{number}",
                    author=chance.choice(authors[: 1 + round_ // 2]),
                    status=Status.PENDING if chance.random() < 0.2 else Status.VISIBLE,
                )
                for number in range(3)
            ]
            await chat_log.post_all(drafts)
            for limit in (1, 2, 7, 50):
                newest = await chat_log.newest(LOBBY, limit=limit)
                assert newest.waiting is not None
                sizes.add(len(newest.waiting))
                for viewer in viewers:
                    if {viewer.session_id, viewer.user_id}.isdisjoint(newest.waiting):
                        history = await chat_log.history(LOBBY, viewer, limit=limit)
                        page = History(newest.messages, newest.n, newest.has_older)
                        assert page == history
        assert len(sizes) > 1

    async def test_of_too_many_that_wait_nobody_is_told(self, chat_log: ChatLog) -> None:
        # SITE-68: then each viewer is looked up
        await chat_log.ensure_rooms(ROOM_NAMES)
        waits = [draft("x", status=Status.PENDING) for _ in range(WAITING_MAX + 1)]
        await chat_log.post_all(waits[:-1])
        assert (await chat_log.newest(LOBBY)).waiting == frozenset({"session-a"})
        await chat_log.post_all(waits[-1:])
        assert (await chat_log.newest(LOBBY)).waiting is None
        # Behind a full page of later ones they are of no interest.
        await chat_log.post_all([draft("y") for _ in range(3)])
        assert (await chat_log.newest(LOBBY, limit=2)).waiting == frozenset()

    async def test_history_refuses_nonsense(self, chat_log: ChatLog) -> None:
        # SITE-73
        await chat_log.ensure_rooms(ROOM_NAMES)
        for limit in (0, 51, -1):
            with pytest.raises(ValueError, match="limit"):
                await chat_log.history(LOBBY, Viewer(), limit=limit)
            with pytest.raises(ValueError, match="limit"):
                await chat_log.newest(LOBBY, limit=limit)
        with pytest.raises(ValueError, match="before"):
            await chat_log.history(LOBBY, Viewer(), before=0)

    async def test_what_was_shown_is_read_again_from_any_number(self, chat_log: ChatLog) -> None:
        # WEB-42: in order, with holes where nobody but the author saw something
        await chat_log.ensure_rooms(ROOM_NAMES)
        assert await chat_log.head(LOBBY) == replace(await chat_log.head(_SUPPORT), n=0, seen=0)
        for n in range(1, 7):
            status = Status.PENDING if n in {2, 6} else Status.VISIBLE
            author = _USER if n == 3 else _GUEST
            posted = await chat_log.post(draft(f"m{n}", status=status, author=author))
            assert isinstance(posted, Posted)
            assert posted.n == n
        await chat_log.post(draft("elsewhere", room=_SUPPORT))
        head = await chat_log.head(LOBBY)
        assert (head.n, head.seen) == (6, 5)
        whole = await chat_log.said(LOBBY, after=0)
        assert (whole.lineage, whole.n, whole.to, whole.is_whole) == (head.lineage, 6, 6, True)
        assert [(one.n, one.message.body) for one in whole.messages] == [
            (1, "m1"), (3, "m3"), (4, "m4"), (5, "m5"),
        ]  # fmt: skip
        assert {one.correlation_id for one in whole.messages} == {"c-1"}
        history = await chat_log.history(LOBBY, Viewer())
        assert [one.message for one in whole.messages] == list(history.messages)
        part = await chat_log.said(LOBBY, after=1, limit=2)
        assert (part.n, part.to, [one.n for one in part.messages]) == (6, 3, [3])
        for after in (6, 9):
            rest = await chat_log.said(LOBBY, after=after)
            assert (rest.n, rest.to, rest.messages) == (6, after, ())

    async def test_reading_again_refuses_nonsense(self, chat_log: ChatLog) -> None:
        # WEB-42
        await chat_log.ensure_rooms(ROOM_NAMES)
        for after, limit in ((-1, 1), (0, 0), (0, 1001), (True, 1), (2**63, 1)):
            with pytest.raises(ValueError, match=r"after|limit"):
                await chat_log.said(LOBBY, after=after, limit=limit)
        for call in (chat_log.head(RoomName("Cellar")), chat_log.said(RoomName("Cellar"), after=0)):
            with pytest.raises(UnknownRoom):
                await call

    async def test_an_unknown_room_is_told_everywhere(self, chat_log: ChatLog) -> None:
        # SITE-60
        await chat_log.ensure_rooms([LOBBY])
        nowhere = RoomName("lobby")
        with pytest.raises(UnknownRoom):
            await chat_log.post(draft(room=nowhere))
        with pytest.raises(UnknownRoom):
            await chat_log.history(nowhere, Viewer())
        with pytest.raises(UnknownRoom):
            await chat_log.newest(nowhere)
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
        asked = [DEMO_USER_ID, uuid4()]
        assert await chat_log.members(LOBBY, asked) == {DEMO_USER_ID}
        assert await chat_log.members(_SUPPORT, asked) == set()
        with pytest.raises(InvalidField):
            await chat_log.members(LOBBY, [DEMO_USER_ID] * (MEMBERS_ASKED_MAX + 1))
        with pytest.raises(UnknownUser):
            await chat_log.join(LOBBY, uuid4())

    async def test_any_text_comes_back_as_it_was(self, chat_log: ChatLog) -> None:
        # SITE-61
        await chat_log.ensure_rooms(ROOM_NAMES)
        text = "'; DROP TABLE users; -- \\ \" \n{} %s $1 \U0001d4b3 \u05e9 \u202e \u200d"
        await chat_log.post(draft(text, client_id=text))
        assert await _bodies(chat_log) == [text]
        assert isinstance(await chat_log.post(draft("x", client_id=text)), Repeated)

    async def test_a_message_that_waits_is_decided_once(self, chat_log: ChatLog) -> None:
        # SITE-69, SITE-71: approved at its place, and the room counts on
        await chat_log.ensure_rooms(ROOM_NAMES)
        waits = draft("see http://a", status=Status.PENDING)
        await chat_log.post(waits)
        await chat_log.post(draft("behind it"))
        outcomes: list[ModerationOutcome] = []

        async def decide(decision: Decision) -> None:
            outcomes.append(await chat_log.moderate(verdict(waits.message_id, decision, "fine")))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(decide, Decision.APPROVE)
        (decided,) = (one for one in outcomes if isinstance(one, Decided))
        assert outcomes.count(NotDecided.NOT_WAITING) == 2
        assert (decided.n, decided.message.seq, decided.reason) == (3, 1, "fine")
        assert decided.message.status is Status.VISIBLE
        assert await _bodies(chat_log) == ["see http://a", "behind it"]
        later = await chat_log.moderate(verdict(waits.message_id, Decision.REMOVE))
        assert later is NotDecided.NOT_WAITING
        posted = await chat_log.post(draft("and on"))
        assert isinstance(posted, Posted)
        assert (posted.n, posted.message.seq) == (4, 3)

    async def test_whoever_waits_is_rung_for_what_is_stored(self, chat_log: ChatLog) -> None:
        # SITE-63, SITE-69: a post and a decision; where the rooms stand is asked behind the ring
        await chat_log.ensure_rooms(ROOM_NAMES)
        first = await chat_log.versions()
        assert set(first) == set(ROOM_NAMES)
        waits = draft("see http://a", status=Status.PENDING)
        async with aclosing(chat_log.rings(10 * PATIENCE_S)) as rings:
            await anext(rings)
            with trio.fail_after(PATIENCE_S):
                for expected, stored in (
                    (1, partial(chat_log.post, waits)),
                    (2, partial(chat_log.moderate, verdict(waits.message_id))),
                ):
                    await stored()
                    while (await chat_log.versions())[LOBBY] < first[LOBBY] + expected:
                        await anext(rings)
                    await anext(rings)
        assert await chat_log.versions() == {**first, LOBBY: first[LOBBY] + 2}

    async def test_of_a_removed_message_its_author_is_told_why(self, chat_log: ChatLog) -> None:
        # SITE-69: at its place, without its text, however much later they come; nobody else is
        await chat_log.ensure_rooms(ROOM_NAMES)
        waits = draft("see http://a", status=Status.PENDING)
        await chat_log.post(waits)
        await chat_log.post(draft("behind it", author=_OTHER))
        await chat_log.moderate(verdict(waits.message_id, Decision.REMOVE, "off topic"))
        author = Viewer(session_id="session-a")
        (gone, _) = (await chat_log.history(LOBBY, author)).messages
        assert (gone.id, gone.seq, gone.status) == (waits.message_id, 1, Status.REMOVED)
        assert (gone.body, gone.removed_for) == ("", "off topic")
        for other in (Viewer(), Viewer(session_id="session-b"), Viewer(is_moderator=True)):
            assert await _bodies(chat_log, other) == ["behind it"]
        # Who reads for all knows of it too, and that the author's page is another one.
        for_all = Viewer(is_moderator=True, tells_authors=True)
        assert (await chat_log.history(LOBBY, for_all)).messages[0] == gone
        newest = await chat_log.newest(LOBBY)
        assert newest.waiting == frozenset({"session-a"})
        assert [one.body for one in newest.messages] == ["behind it"]

    async def test_a_message_that_is_removed_is_gone_for_all(self, chat_log: ChatLog) -> None:
        # SITE-69
        await chat_log.ensure_rooms(ROOM_NAMES)
        waits = draft("see http://a", status=Status.PENDING)
        await chat_log.post(waits)
        decided = await chat_log.moderate(verdict(waits.message_id, Decision.REMOVE))
        assert isinstance(decided, Decided)
        # Without words of its own the decision keeps the queue's reason.
        assert (decided.reason, decided.message.status) == ("auto", Status.REMOVED)
        for viewer in (Viewer(), Viewer(is_moderator=True)):
            assert await _bodies(chat_log, viewer) == []
        assert await _bodies(chat_log, Viewer(session_id="session-a")) == [""]
        # A repeat of the post is one still, and brings nothing back.
        assert isinstance(await chat_log.post(waits), Repeated)
        assert await _bodies(chat_log, Viewer(is_moderator=True)) == []

    async def test_what_cannot_be_decided_is_told_and_changes_nothing(
        self, chat_log: ChatLog
    ) -> None:
        # SITE-71, SEC-117: by the role of that moment
        await chat_log.ensure_rooms(ROOM_NAMES)
        own = draft("own", author=Author(MODERATOR_ID, None, "mod"), status=Status.PENDING)
        as_demo = draft("as demo", author=_DEMO, status=Status.PENDING)
        visible = draft("visible")
        for one in (own, as_demo, visible):
            await chat_log.post(one)
        told = [
            await chat_log.moderate(one)
            for one in (
                verdict(uuid4()),
                verdict(own.message_id),
                replace(verdict(as_demo.message_id), reviewer_session="session-a"),
                verdict(visible.message_id),
                replace(verdict(as_demo.message_id), reviewer_id=DEMO_USER_ID),
                replace(verdict(as_demo.message_id), reviewer_id=uuid4()),
            )
        ]
        assert told == [
            NotDecided.UNKNOWN, NotDecided.OWN, NotDecided.OWN, NotDecided.NOT_WAITING,
            NotDecided.NO_MODERATOR, NotDecided.NO_MODERATOR,
        ]  # fmt: skip
        assert (await chat_log.history(LOBBY, Viewer())).n == 3
        assert (await chat_log.waiting()).count == 2
        assert [one.action for one in (await chat_log.audited(limit=1)).entries] == [
            "chat.message.post"
        ]

    async def test_the_queue_has_the_oldest_first_and_counts_all(self, chat_log: ChatLog) -> None:
        # SITE-70
        await chat_log.ensure_rooms(ROOM_NAMES)
        assert await chat_log.waiting() == WaitingList((), 0)
        drafts = [
            draft("third", status=Status.PENDING, at_s=3, room=_SUPPORT),
            draft("first", status=Status.PENDING, at_s=1),
            draft("second", status=Status.PENDING, at_s=2, author=_DEMO),
            draft("shown", at_s=0),
        ]
        for one in drafts:
            await chat_log.post(one)
        found = await chat_log.waiting(2)
        assert [one.message.body for one in found.messages] == ["first", "second"]
        assert [one.reason for one in found.messages] == ["auto", "auto"]
        assert found.messages[1].message.author_name == DEMO_DISPLAY_NAME
        assert found.count == 3
        assert await chat_log.room_of(drafts[0].message_id) == _SUPPORT
        assert await chat_log.room_of(uuid4()) is None
        await chat_log.moderate(verdict(drafts[1].message_id))
        found = await chat_log.waiting()
        assert [one.message.body for one in found.messages] == ["second", "third"]
        assert [one.message.room for one in found.messages] == [LOBBY, _SUPPORT]

    async def test_the_audit_tells_each_act_once(self, chat_log: ChatLog) -> None:
        # SITE-72: with ids, and never with a body
        await chat_log.ensure_rooms([LOBBY])
        waits = draft("Marker http://a", status=Status.PENDING)
        await chat_log.post(waits)
        await chat_log.post(waits)
        await chat_log.join(LOBBY, DEMO_USER_ID)
        await chat_log.join(LOBBY, DEMO_USER_ID)
        await chat_log.moderate(verdict(waits.message_id, Decision.REMOVE, "an advertisement"))
        await chat_log.moderate(verdict(waits.message_id, Decision.REMOVE, "again"))
        newest = await chat_log.audited(limit=2)
        older = await chat_log.audited(before=newest.entries[-1].id, limit=2)
        assert (newest.has_older, older.has_older) == (True, False)
        entries = [*newest.entries, *older.entries]
        assert [one.action for one in entries] == [
            "chat.message.moderate", "chat.room.join", "chat.message.post", "chat.room.create",
        ]  # fmt: skip
        assert {one.room for one in entries} == {LOBBY}
        facts = dict(entries[0].metadata)
        assert str(facts.pop("room_id")) == str(entries[1].metadata["room_id"])
        stamp = facts.pop("timestamp_ms")
        assert stamp == int(entries[0].at.timestamp() * 1000)
        assert facts == {
            "message_id": str(waits.message_id),
            "decision": "remove",
            "status": "removed",
            "reason": "an advertisement",
        }
        assert entries[1].actor_name == DEMO_DISPLAY_NAME
        assert "Marker" not in repr(entries)

    async def test_what_was_decided_is_read_again_where_it_was(self, chat_log: ChatLog) -> None:
        # SITE-107, WEB-42
        await chat_log.ensure_rooms(ROOM_NAMES)
        waits = [draft(str(number), status=Status.PENDING) for number in range(2)]
        for one in waits:
            await chat_log.post(one)
        await chat_log.post(draft("shown"))
        assert (await chat_log.head(LOBBY)).seen == 3
        await chat_log.moderate(verdict(waits[0].message_id))
        await chat_log.moderate(verdict(waits[1].message_id, Decision.REMOVE, "no"))
        assert (await chat_log.head(LOBBY)).seen == 5
        said = await chat_log.said(LOBBY, after=0)
        assert [(one.n, one.message.body) for one in said.messages] == [(3, "shown"), (4, "0")]
        assert [(one.n, one.message_id) for one in said.withdrawn] == [(5, waits[1].message_id)]
        assert said.is_whole
        assert said.to == 5
