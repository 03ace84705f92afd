"""The room actor stores, then publishes; a store that is away is an answer, not a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from uuid import UUID

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.chat import (
    DEMO_DISPLAY_NAME,
    DEMO_USER_ID,
    LOBBY,
    Author,
    ChatEnvironment,
    ChatLogUnavailable,
    CrashedOnPurpose,
    CrashRoom,
    Draft,
    ForgetNewest,
    History,
    IsMember,
    Join,
    MessagePosted,
    Newest,
    NotAMember,
    NotStored,
    NotTaken,
    Post,
    Posted,
    PostRefused,
    PostVerdict,
    ReadHistory,
    Repeated,
    RoomActor,
    RoomEvent,
    RoomName,
    RoomRef,
    RoomResumed,
    Status,
    TooManyPosts,
    TooManyWaiting,
    Viewer,
    guest_name,
    topic_of,
)
from actors.chat.chat_log import HISTORY_LIMIT
from actors.chat.newest import NEWEST_KEPT_S
from actors.chat.room import MEMBER_KNOWN_S, POSTS_AT_ONCE_MAX, SETTLED_AFTER_S
from actors.runtime import ActorCrashed, ActorExited, AskError, Crashed, System, open_actors
from storage.memory import MemoryChatLog
from supervision import Supervisor, child, open_system
from tests.actors.chat.counting import CountingIds, SteppingClock

GUEST = Author(None, "s1", guest_name("s1"))
LINK = "see https://example.org"
DEMO = Author(DEMO_USER_ID, "s1", DEMO_DISPLAY_NAME)


class FlakyLog(MemoryChatLog):
    """The twin, with a switch that takes it away."""

    is_away = False

    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        if self.is_away:
            return [ChatLogUnavailable("away for a test")] * len(drafts)
        return await super().post_all(drafts)


@dataclass(eq=False)
class Listener:
    """A sink that remembers."""

    heard: list[RoomEvent] = field(default_factory=list)

    def deliver(self, message: object) -> None:
        assert isinstance(message, RoomEvent)
        self.heard.append(message)


@asynccontextmanager
async def open_room(
    log: MemoryChatLog, listener: Listener
) -> AsyncIterator[tuple[System, RoomRef]]:
    async with open_actors() as system:
        await log.ensure_rooms([LOBBY])
        system.topics.subscribe(topic_of(LOBBY), listener)
        environment = ChatEnvironment(SteppingClock(step_s=0.1), CountingIds(), log)
        yield system, await system.start(RoomActor, LOBBY, environment, name="lobby")


async def test_a_post_is_stored_then_published_once() -> None:  # SITE-62 SITE-66
    listener = Listener()
    async with open_room(MemoryChatLog(), listener) as (_, room):
        first = await room.ask(Post(GUEST, "hello", "c1"))
        again = await room.ask(Post(GUEST, "hello", "c1"))
        history = await room.ask(ReadHistory(Viewer()))
    assert isinstance(first, Posted)
    assert again == Repeated(first.message, first.n)
    assert listener.heard == [RoomResumed(LOBBY), MessagePosted(first.message, first.n)]
    assert isinstance(history, History)
    assert history.messages == (first.message,)
    assert history.n == first.n


async def test_numbers_follow_each_other() -> None:  # SITE-63
    listener = Listener()
    async with open_room(MemoryChatLog(), listener) as (_, room):
        for number in range(4):
            author = Author(None, f"s{number}", "x")
            await room.ask(Post(author, f"{number}", "c"))
    events = [event for event in listener.heard if isinstance(event, MessagePosted)]
    assert [event.message.seq for event in events] == [1, 2, 3, 4]
    assert [event.n - events[0].n for event in events] == [0, 1, 2, 3]


async def test_a_room_with_members_takes_posts_of_members_only(
    autojump_clock: MockClock,
) -> None:
    """SITE-62 SITE-75: judged before the post counts, and the store is asked now and then only."""
    log, support = MemoryChatLog(), RoomName("Support")
    asked: list[UUID] = []
    is_member = log.is_member

    async def counted(room: RoomName, user_id: UUID) -> bool:
        asked.append(user_id)
        return await is_member(room, user_id)

    log.is_member = counted  # type: ignore[method-assign]
    ada = UUID(int=7)
    log.database.user_names[ada] = "ada"
    own, demo = Author(ada, None, "ada"), DEMO
    async with open_actors() as system:
        await log.ensure_rooms([LOBBY, support])
        environment = ChatEnvironment(SteppingClock(step_s=0.1), CountingIds(), log)
        room: RoomRef = await system.start(RoomActor, support, environment)
        lobby: RoomRef = await system.start(RoomActor, LOBBY, environment)
        for author, member in ((own, ada), (demo, ada), (GUEST, None), (demo, None)):
            post = Post(author, "hello", "c1", member_id=member)
            assert isinstance(await room.ask(post), NotAMember)
        assert isinstance(await room.ask(Join(UUID(int=8))), NotAMember)
        log.fail_next()
        assert isinstance(await room.ask(Join(ada)), NotStored)
        log.fail_next()
        assert isinstance(await room.ask(Post(own, "hello", "c1", member_id=ada)), NotStored)
        assert [await room.ask(Join(ada)) for _ in range(2)] == [True, False]
        asked.clear()
        for author in (own, demo):
            assert isinstance(await room.ask(Post(author, "hi", "c2", member_id=ada)), Posted)
        assert await room.ask(IsMember(ada)) is True
        assert await room.ask(IsMember(UUID(int=8))) is False
        assert asked == [UUID(int=8)]
        # Taken away by whoever it is: noticed when it has been known for long enough.
        log._table(support).members.discard(ada)
        assert await room.ask(IsMember(ada)) is True
        await trio.sleep(MEMBER_KNOWN_S)
        assert await room.ask(IsMember(ada)) is False
        assert isinstance(await room.ask(Post(own, "hi", "c3", member_id=ada)), NotAMember)
        assert await lobby.ask(IsMember(UUID(int=8))) is True
        assert isinstance(await lobby.ask(Post(GUEST, "hi", "c1")), Posted)


async def test_the_sixth_post_waits() -> None:  # SITE-65
    async with open_room(MemoryChatLog(), Listener()) as (_, room):
        outcomes = [await room.ask(Post(GUEST, "x", f"c{number}")) for number in range(6)]
        other = await room.ask(Post(DEMO, "x", "c"))
    assert [type(outcome) for outcome in outcomes] == [Posted] * 5 + [TooManyPosts]
    last = outcomes[-1]
    assert isinstance(last, TooManyPosts)
    assert 9 < last.retry_after_s <= 10
    assert isinstance(other, Posted)


async def test_addresses_have_a_limit_of_their_own() -> None:  # SITE-65
    async with open_room(MemoryChatLog(), Listener()) as (_, room):
        outcomes = [
            await room.ask(Post(Author(None, f"s{number}", "x"), "x", "c", address_key="a"))
            for number in range(21)
        ]
    assert [type(outcome) for outcome in outcomes] == [Posted] * 20 + [TooManyPosts]


async def test_of_one_author_or_address_only_so_many_wait() -> None:
    """SITE-67 SITE-70: who drops the cookie is another author, at the same address still."""
    log = MemoryChatLog()
    async with open_actors() as system:
        await log.ensure_rooms([LOBBY])
        environment = ChatEnvironment(
            SteppingClock(step_s=60.0),
            CountingIds(),
            log,
            waiting_per_author_max=2,
            waiting_per_address_max=3,
        )
        room: RoomRef = await system.start(RoomActor, LOBBY, environment)

        async def post(author: Author, number: int, body: str = LINK) -> type[object]:
            return type(await room.ask(Post(author, body, f"c{number}", address_key="a")))

        assert [await post(GUEST, number) for number in range(3)] == [
            Posted, Posted, TooManyWaiting,
        ]  # fmt: skip
        others = [Author(None, f"other{number}", "x") for number in range(2)]
        assert [await post(one, 0) for one in others] == [Posted, TooManyPosts]
        assert await post(GUEST, 4, "short") is Posted
        member = Author(UUID(int=7), None, "ada")
        log.database.user_names[UUID(int=7)] = "ada"
        assert [await post(member, number) for number in range(3)] == [
            Posted, Posted, TooManyWaiting,
        ]  # fmt: skip


async def test_long_texts_and_links_wait_for_review() -> None:  # SITE-67
    listener = Listener()
    async with open_room(MemoryChatLog(), listener) as (_, room):
        outcome = await room.ask(Post(GUEST, LINK, "c"))
        own = await room.ask(ReadHistory(Viewer(session_id="s1")))
        others = await room.ask(ReadHistory(Viewer(session_id="s2")))
    assert isinstance(outcome, Posted)
    assert outcome.message.status is Status.PENDING
    assert isinstance(own, History)
    assert isinstance(others, History)
    assert own.messages == (outcome.message,)
    assert others.messages == ()


async def test_a_store_that_is_away_is_an_answer() -> None:  # SITE-155
    log, listener = FlakyLog(), Listener()
    async with open_room(log, listener) as (_, room):
        log.is_away = True
        refused = await room.ask(Post(GUEST, "hello", "c1"))
        log.is_away = False
        accepted = await room.ask(Post(GUEST, "hello", "c1"))
    assert isinstance(refused, NotStored)
    assert isinstance(accepted, Posted)
    assert [type(event) for event in listener.heard] == [RoomResumed, MessagePosted]


async def test_a_room_told_to_crash_says_so() -> None:
    async with open_room(MemoryChatLog(), Listener()) as (system, room):
        room.tell(CrashRoom("the lab"))
        exit_ = await system.wait_down(room)
    assert isinstance(exit_, Crashed)
    assert isinstance(exit_.error, CrashedOnPurpose)
    assert "the lab" in str(exit_.error)


# Posts that wait are stored together


class GatedLog(MemoryChatLog):
    """The twin; each call waits for `free`, and is written down. May store and then not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.free = trio.Event()
        self.calls: list[list[str]] = []
        self.loses_answers = self.answers_late = self.is_unreadable = False

    async def newest(self, room: RoomName, *, limit: int = HISTORY_LIMIT) -> Newest:
        if self.is_unreadable:
            raise ChatLogUnavailable("away")
        return await super().newest(room, limit=limit)

    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        self.calls.append([draft.client_id for draft in drafts])
        free = self.free
        if not self.answers_late:
            await free.wait()
        verdicts = await super().post_all(drafts)
        await free.wait()
        return [ChatLogUnavailable("lost")] * len(drafts) if self.loses_answers else verdicts


Answers = dict[str, object]


async def post_all(room: RoomRef, posts: Sequence[Post], log: GatedLog) -> Answers:
    """Post in this order, so that all but the first wait; then let the store work."""
    answers: Answers = {}

    async def post(one: Post) -> None:
        try:
            answers[one.client_id] = await room.ask(one)
        except AskError as error:
            answers[one.client_id] = error

    async with trio.open_nursery() as nursery:
        for one in posts:
            nursery.start_soon(post, one)
            await trio.testing.wait_all_tasks_blocked()
        log.free.set()
    return answers


def by(number: int, body: str = "hello") -> Post:
    return Post(Author(None, f"s{number}", "x"), body, f"c{number}")


async def test_posts_that_wait_are_stored_together_and_answered_each(
    autojump_clock: MockClock,
) -> None:  # SITE-62 SITE-63
    log, listener = GatedLog(), Listener()
    async with open_room(log, listener) as (system, room):
        posts = [by(number) for number in range(70)]
        posts[40] = replace(posts[40], body="see http://a")
        posts[50] = replace(posts[49])
        answers = await post_all(room, posts, log)
        handled = system.stats(room).handled
    assert [len(call) for call in log.calls] == [1, POSTS_AT_ONCE_MAX, 5]
    assert handled == 70
    stored = [answer for answer in answers.values() if isinstance(answer, Posted | Repeated)]
    assert len(stored) == 69  # The same client id twice has the answer once in the table.
    published = [event for event in listener.heard if isinstance(event, MessagePosted)]
    assert [event.n for event in published] == list(range(1, 70))
    assert [event.message.seq for event in published] == list(range(1, 70))
    assert published[40].message.status is Status.PENDING


@pytest.mark.parametrize("place", [1, 2, 4])
async def test_one_that_no_store_could_keep_harms_no_other(
    autojump_clock: MockClock, place: int
) -> None:  # SITE-62
    log = GatedLog()
    async with open_room(log, Listener()) as (system, room):
        posts = [by(number) for number in range(5)]
        posts[place] = replace(posts[place], body="half a pair \ud800")
        answers = await post_all(room, posts, log)
        assert system.stats(room).crashes == 0
    refused = answers.pop(f"c{place}")
    assert isinstance(refused, NotTaken)
    assert "half a pair" not in refused.reason
    assert all(isinstance(answer, Posted) for answer in answers.values())


async def test_one_that_the_store_refuses_harms_no_other(autojump_clock: MockClock) -> None:
    # SITE-62
    class Refusing(GatedLog):
        async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
            verdicts = [*await super().post_all(drafts)]
            return [
                PostRefused("no") if draft.client_id == "c2" else verdict
                for draft, verdict in zip(drafts, verdicts, strict=True)
            ]

    log, listener = Refusing(), Listener()
    async with open_room(log, listener) as (_, room):
        answers = await post_all(room, [by(number) for number in range(4)], log)
    assert answers.pop("c2") == NotTaken("no")
    assert all(isinstance(answer, Posted) for answer in answers.values())
    published = [event for event in listener.heard if isinstance(event, MessagePosted)]
    assert [event.message.client_id for event in published] == ["c0", "c1", "c3"]


async def test_an_unknown_outcome_is_settled_by_posting_again(autojump_clock: MockClock) -> None:
    # SITE-66, SITE-155
    log, listener = GatedLog(), Listener()
    async with open_room(log, listener) as (_, room):
        posts = [by(number) for number in range(4)]
        log.loses_answers = True
        answers = await post_all(room, posts, log)
        assert all(isinstance(answer, NotStored) for answer in answers.values())
        assert listener.heard == [RoomResumed(LOBBY)]
        log.loses_answers = False
        answers = await post_all(room, posts, log)
        # What nobody was shown is read again, by all.
        assert set(listener.heard) == {RoomResumed(LOBBY)}
        assert len(listener.heard) > 1
        told = len(listener.heard)
        await room.ask(posts[0])
        assert len(listener.heard) == told
    assert all(isinstance(answer, Repeated) for answer in answers.values())


async def test_an_unknown_outcome_is_shown_also_when_nobody_posts_again(
    autojump_clock: MockClock,
) -> None:  # SITE-66, SITE-155
    log, listener = GatedLog(), Listener()
    async with open_room(log, listener) as (_, room):
        log.loses_answers = log.is_unreadable = True
        await post_all(room, [by(0)], log)
        await trio.sleep(10 * SETTLED_AFTER_S)
        assert listener.heard == [RoomResumed(LOBBY)]
        log.is_unreadable = False
        await trio.sleep(SETTLED_AFTER_S)
        assert listener.heard == [RoomResumed(LOBBY)] * 2
        await trio.sleep(10 * SETTLED_AFTER_S)
    assert listener.heard == [RoomResumed(LOBBY)] * 2


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_room_killed_with_posts_in_hand_loses_none_it_has_accepted(
    autojump_clock: MockClock, is_stored: bool
) -> None:  # SITE-63: nor is a number used twice
    log = GatedLog()
    await log.ensure_rooms([LOBBY])
    environment = ChatEnvironment(SteppingClock(step_s=0.1), CountingIds(), log)

    class Tree(Supervisor):
        room = child(partial(RoomActor, LOBBY, environment), restart="permanent")

    answers: Answers = {}
    async with open_system(Tree) as tree:
        room: RoomRef = tree.room

        async def post(one: Post) -> None:
            try:
                answers[one.client_id] = await room.ask(one)
            except AskError as error:
                answers[one.client_id] = error

        async with trio.open_nursery() as nursery:
            for number in range(7):
                nursery.start_soon(post, by(number))
                await trio.testing.wait_all_tasks_blocked()
            first, log.free, log.answers_late = log.free, trio.Event(), is_stored
            first.set()
            await trio.testing.wait_all_tasks_blocked()
            assert [len(call) for call in log.calls] == [1, 6]
            room.kill()
        log.free.set()
        again = [await room.ask(by(number)) for number in range(7)]
    assert isinstance(answers.pop("c0"), Posted)
    assert [type(answer) for answer in answers.values()] == [ActorExited] * 6
    known = [isinstance(answer, Repeated) for answer in again]
    assert known == [True] + [is_stored] * 6
    stored = [answer for answer in again if isinstance(answer, Posted | Repeated)]
    assert [answer.message.seq for answer in stored] == [*range(1, 8)]


async def test_a_post_that_was_given_up_while_it_waited_is_not_stored(
    autojump_clock: MockClock,
) -> None:  # SITE-62: a client that leaves
    log = GatedLog()
    async with open_room(log, Listener()) as (_, room), trio.open_nursery() as nursery:
        nursery.start_soon(room.ask, by(0))
        await trio.testing.wait_all_tasks_blocked()
        for number in (1, 2, 3):
            with trio.move_on_after(1.0 if number == 2 else 0.0):
                await room.ask(by(number))
        nursery.start_soon(room.ask, by(4))
        await trio.testing.wait_all_tasks_blocked()
        log.free.set()
    assert log.calls == [["c0"], ["c4"]]


# What the room keeps of the newest messages


class CountedLog(MemoryChatLog):
    """The twin, which counts how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def newest(self, room: RoomName, *, limit: int = HISTORY_LIMIT) -> Newest:
        self.reads += 1
        return await super().newest(room, limit=limit)

    async def history(
        self,
        room: RoomName,
        viewer: Viewer,
        *,
        before: int | None = None,
        limit: int = HISTORY_LIMIT,
    ) -> History:
        self.reads += 1
        return await super().history(room, viewer, before=before, limit=limit)

    async def truth(self, viewer: Viewer, limit: int = HISTORY_LIMIT) -> History:
        return await super().history(LOBBY, viewer, limit=limit)


async def test_many_views_and_posts_ask_the_store_once(autojump_clock: MockClock) -> None:
    # SITE-73
    log = CountedLog()
    async with open_room(log, Listener()) as (_, room):
        for number in range(60):
            await room.ask(by(number))
            history = await room.ask(ReadHistory(Viewer(session_id=f"s{number % 7}")))
            assert history == await log.truth(Viewer())
        assert log.reads == 1
        await trio.sleep(NEWEST_KEPT_S)
        await room.ask(ReadHistory(Viewer()))
    assert log.reads == 2


async def test_whoever_has_something_that_waits_is_looked_up(autojump_clock: MockClock) -> None:
    # SITE-68
    log = CountedLog()
    async with open_room(log, Listener()) as (_, room):
        await room.ask(ReadHistory(Viewer()))
        await room.ask(by(1, "see http://a"))
        for session, reads in (("s1", 2), ("s2", 2), ("s1", 3)):
            viewer = Viewer(session_id=session)
            history = await room.ask(ReadHistory(viewer))
            assert history == await log.truth(viewer)
            assert log.reads == reads
        moderator = Viewer(is_moderator=True)
        assert await room.ask(ReadHistory(moderator)) == await log.truth(moderator)
        assert log.reads == 4


@pytest.mark.parametrize("seed", range(4))
async def test_a_page_is_always_what_the_store_has(autojump_clock: MockClock, seed: int) -> None:
    # SITE-73, SITE-79, STORE-44: whatever happens in this process
    log, chance = CountedLog(), Random(seed)
    viewers = [Viewer(), Viewer(is_moderator=True), *(Viewer(session_id=f"s{n}") for n in range(4))]
    async with open_room(log, Listener()) as (system, room):
        for step in range(150):
            match chance.randrange(8):
                case 0:
                    await room.ask(by(step, "see http://a"))
                case 1:
                    log.fail_next()
                    assert isinstance(await room.ask(by(step)), NotStored)
                case 2:
                    for kept in [*log._rooms[LOBBY].messages][:2]:
                        log._rooms[LOBBY].messages.remove(kept)
                    room.tell(ForgetNewest())
                case 3:
                    await trio.sleep(chance.random())
                case _:
                    await room.ask(Post(Author(None, f"s{step % 6}", "x"), "hello", f"n{step}"))
            viewer, limit = chance.choice(viewers), chance.choice((1, 3, 50))
            history = await room.ask(ReadHistory(viewer, limit=limit))
            assert history == await log.truth(viewer, limit)
        assert system.stats(room).crashes == 0
    assert log.reads < 150


async def test_what_others_post_is_seen_a_moment_later(autojump_clock: MockClock) -> None:
    # SITE-73: at once, when the room's own next post tells that something is missing
    log, listener = CountedLog(), Listener()
    for waits in (True, False):
        async with open_room(log, listener) as (_, room):
            await room.ask(ReadHistory(Viewer()))
            environment = ChatEnvironment(
                SteppingClock(step_s=0.1), CountingIds(9_000 + waits), log
            )
            await log.post(draft_of(environment, f"other{waits}"))
            if waits:
                await trio.sleep(NEWEST_KEPT_S)
            else:
                await room.ask(by(7))
            assert await room.ask(ReadHistory(Viewer())) == await log.truth(Viewer())


async def test_nothing_is_kept_over_an_outcome_nobody_knows(autojump_clock: MockClock) -> None:
    # SITE-155
    log = GatedLog()
    log.free.set()
    async with open_room(log, Listener()) as (_, room):
        await room.ask(ReadHistory(Viewer()))
        log.loses_answers = True
        assert isinstance(await room.ask(by(1)), NotStored)
        history = await room.ask(ReadHistory(Viewer()))
        assert isinstance(history, History)
        assert len(history.messages) == 1
        log.fail_next()
        await trio.sleep(NEWEST_KEPT_S)
        assert isinstance(await room.ask(ReadHistory(Viewer())), NotStored)


def draft_of(environment: ChatEnvironment, client_id: str) -> Draft:
    return Draft(
        message_id=environment.ids.new_id(),
        event_id=environment.ids.new_id(),
        room=LOBBY,
        author=GUEST,
        body="from elsewhere",
        client_id=client_id,
        status=Status.VISIBLE,
        reason=None,
        created_at=environment.clock.now(),
    )


def test_topics_are_lower_case() -> None:  # SITE-107
    assert topic_of(LOBBY) == "room:lobby"


async def test_reports_hold_nobodys_words() -> None:
    """SEC-131: neither the crash report nor a dead letter tells what was written."""
    log = BrokenLog()
    async with open_room(log, Listener()) as (system, room):
        with pytest.raises(ActorCrashed):
            await room.ask(Post(GUEST, "my secret words", "c1"))
        room.tell(Post(GUEST, "more secret words", "c2"))
        await system.wait_down(room, final=True)
        reports = [*system.reports.kept]
        letters = [*system.dead_letters]
    assert reports
    assert letters
    assert "secret words" not in f"{reports} {letters}"


class BrokenLog(MemoryChatLog):
    """The twin, with a bug."""

    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        raise RuntimeError("a bug in the store")
