"""A page that joins a room's feed shows every message once, whatever happens in between."""

from __future__ import annotations

from trio import sleep
from trio.lowlevel import checkpoint
from trio.testing import MockClock

from actors.chat import (
    LOBBY,
    Decision,
    MessageWithdrawn,
    RoomForgot,
    RoomResumed,
    Viewer,
    topic_of,
)
from actors.chat.chat_log import HISTORY_LIMIT
from actors.runtime import NoProc
from tests.web.chat.feed_kit import MODERATOR, FeedKit, Page, ids_of, noon, open_kit
from web.chat.presenting import ViewerClass
from web.chat.readers import Readers
from web.chat.room_feed import RETRY_S
from web.realtime import waker
from web.realtime.broadcast import SLICE_MEMBERS


async def test_a_page_gets_the_window_then_every_event() -> None:  # SITE-91 SITE-76
    async with open_kit() as kit:
        before = [await kit.say("a"), await kit.say("b")]
        page = await kit.open_page("reader")
        assert page.ids == ids_of(before)
        after = [await kit.say("a"), await kit.say("reader"), await kit.say("b")]
    assert page.ids == ids_of([*before, *after])
    assert page.window_count == 1
    assert page.positions == [2, 3, 4, 5]


async def test_events_that_wait_together_leave_in_one_write() -> None:  # SITE-77 SITE-78
    async with open_kit() as kit:
        reader, author = await kit.open_page("reader"), await kit.open_page("a")
        posts = [await kit.store(name) for name in ("a", "b", "a", "c")]
        kit.frames.posts.clear()
        for posted in posts[:3]:
            kit.publish(posted)
        kit.publish(posts[1])  # known already
        kit.publish(posts[3])
        await kit.settle()
        assert reader.ids == author.ids == ids_of(posts)
        assert (reader.bundle_count, author.bundle_count) == (1, 1)
        assert kit.frames.posts.count(ViewerClass.PUBLIC) == 4
        assert kit.frames.posts.count(ViewerClass.AUTHOR) == 2
        assert kit.readers.delivered == 8


async def test_a_gap_among_events_that_wait_together_is_mended() -> None:  # SITE-95
    async with open_kit() as kit:
        reader = await kit.open_page("reader")
        posts = [await kit.store("a") for _ in range(5)]
        for n in (0, 1, 3, 4):
            kit.publish(posts[n])
        await kit.settle()
        assert reader.ids == ids_of(posts)
        assert (reader.bundle_count, reader.window_count) == (1, 2)
        posts.append(await kit.say("a"))
    assert reader.ids == ids_of(posts)


async def test_a_crowd_is_served_in_slices_and_who_comes_between_misses_nothing() -> None:
    # REL-13 SITE-78
    async with open_kit() as kit:
        pages = [await kit.open_page("reader") for _ in range(2)]
        for _ in range(2 * SLICE_MEMBERS):
            kit.readers.join(Page("crowd"))
        await kit.settle()
        pages.append(await kit.open_page("reader"))
        posted, late = await kit.store("a"), Page("late")
        kit.publish(posted)
        while not pages[0].ids:
            await checkpoint()
        served = kit.readers.delivered
        kit.readers.join(late)
        await kit.settle()
        assert served in {SLICE_MEMBERS, 2 * SLICE_MEMBERS}, "some are served, others wait"
    assert [page.ids for page in (*pages, late)] == [ids_of([posted])] * 4
    assert (late.window_count, late.positions) == (1, [1])


async def test_an_event_between_join_and_window_is_shown_once() -> None:  # SITE-78
    async with open_kit() as kit:
        first = await kit.say("a")
        page, unheard = Page("reader"), await kit.store("a")
        kit.publish(unheard)
        kit.readers.join(page)
        await kit.settle()
        later = await kit.say("a")
    assert page.ids == ids_of([first, unheard, later])


async def test_a_page_that_joins_while_history_is_read_misses_nothing() -> None:  # SITE-78
    async with open_kit(with_feed=False) as kit:
        stored = [await kit.store("a"), await kit.store("b")]
        page = Page("reader")
        kit.readers = Readers(lambda: None, noon)  # every nudge is lost
        kit.readers.join(page)
        await kit.start_feed()
        kit.publish(stored[-1])  # the window holds it already
        stored.append(await kit.say("a"))
    assert page.ids == ids_of(stored)
    assert page.window_count == 1


async def test_a_lost_event_is_mended_for_everybody() -> None:  # SITE-95
    async with open_kit() as kit:
        pages = [await kit.open_page(name) for name in ("x", "y")]
        posts = [await kit.say("a"), await kit.store("b"), await kit.store("a")]
        kit.publish(posts[-1])
        await kit.settle()
        assert [page.ids for page in pages] == [ids_of(posts)] * 2
        assert [page.window_count for page in pages] == [2, 2]
        posts.append(await kit.say("b"))
    assert [page.ids for page in pages] == [ids_of(posts)] * 2


async def test_what_others_have_stored_comes_one_by_one() -> None:  # SITE-63 SITE-76
    async with open_kit() as kit:
        page = await kit.open_page("x")
        posts = [await kit.say("a"), await kit.store("b"), await kit.store("c"), await kit.say("a")]
        assert page.ids == ids_of(posts)
        assert page.window_count == 1, "no window but the first"


async def test_a_restarted_room_shows_what_it_stored_and_never_told() -> None:  # SITE-63
    async with open_kit() as kit:
        page = await kit.open_page("x")
        posts = [await kit.say("a"), await kit.store("a")]
        kit.system.topics.publish(topic_of(LOBBY), RoomResumed(LOBBY))
        await kit.settle()
        assert page.ids == ids_of(posts)
        assert page.window_count == 2
        kit.system.topics.publish(topic_of(LOBBY), RoomResumed(LOBBY))
        await kit.settle()
    assert page.window_count == 2, "nothing new, nothing sent"


async def test_a_store_that_is_away_is_asked_again(autojump_clock: MockClock) -> None:
    """SITE-155: the readers are kept and served once the history can be read."""
    async with open_kit(with_feed=False) as kit:
        posts = [await kit.store("a")]
        kit.log.is_away = True
        await kit.start_feed()
        page = await kit.open_page("x")
        await sleep(4 * RETRY_S + 0.1)
        assert (page.window_count, kit.log.reads) == (0, 5)
        kit.log.is_away = False
        await sleep(RETRY_S)
        assert page.ids == ids_of(posts)
        await sleep(10 * RETRY_S)
        assert kit.log.reads == 6, "it is not asked for ever"
        posts.append(await kit.say("a"))
    assert page.ids == ids_of(posts)


async def test_an_event_while_the_store_is_away_is_not_lost(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:  # SITE-155
        page = await kit.open_page("x")
        posts = [await kit.store("a"), await kit.store("a")]
        kit.log.is_away = True
        kit.publish(posts[1])
        await kit.settle()
        assert page.ids == []
        kit.log.is_away = False
        await sleep(RETRY_S + 0.1)
    assert page.ids == ids_of(posts)


async def test_a_pending_message_reaches_only_its_author() -> None:  # SITE-68
    async with open_kit() as kit:
        own, second_tab, other = [await kit.open_page(name) for name in ("a", "a", "b")]
        shown = await kit.say("b")
        pending = await kit.say("a", "see https://example.org/hidden-word")
        late = [await kit.open_page(name) for name in ("a", "b")]
    assert own.ids == second_tab.ids == late[0].ids == ids_of([shown, pending])
    assert other.ids == late[1].ids == ids_of([shown])
    assert "hidden-word" not in other.text + late[1].text
    assert "waiting for review" in own.text


async def test_pending_messages_push_nothing_out_of_the_window() -> None:  # SITE-73
    async with open_kit() as kit:
        visible = [await kit.say("a", f"{number}") for number in range(3)]
        for number in range(HISTORY_LIMIT + 5):
            await kit.say(f"spam-{number}", "http://example.org")
        page = await kit.open_page("reader")
        assert page.ids == ids_of(visible)
        again = await open_after_restart(kit)
    assert again.ids == ids_of(visible)


async def open_after_restart(kit: FeedKit) -> Page:
    assert kit.feed is not None
    await kit.feed.stop()
    page = Page("late")
    kit.readers.join(page)
    await kit.start_feed()
    await kit.settle()
    return page


async def test_what_waits_behind_a_flood_is_read_for_its_author() -> None:
    # SITE-68, SITE-69: also by a feed that was restarted, and on a page that comes back
    async with open_kit(with_feed=False) as kit:
        shown = [await kit.say("b")]
        waits = await kit.say("a", "see http://a")
        for number in range(2 * HISTORY_LIMIT + 20):
            await kit.say(f"spam-{number}", "http://example.org")
        await kit.start_feed()
        author, other = await kit.open_page("a"), await kit.open_page("x")
        assert author.ids == ids_of([*shown, waits])
        assert other.ids == ids_of(shown)
        await kit.decide(waits, Decision.REMOVE, "no links, please")
        assert "no links, please" in author.text
        assert "no links, please" not in other.text


async def test_a_withdrawn_message_leaves_every_page() -> None:  # SITE-69
    async with open_kit() as kit:
        page = await kit.open_page("x")
        posts = [await kit.say("a") for _ in range(3)]
        kit.system.topics.publish(
            topic_of(LOBBY), MessageWithdrawn(LOBBY, posts[1].message.id, posts[-1].n + 1)
        )
        await kit.settle()
        late = await kit.open_page("y")
    assert page.ids == late.ids == ids_of([posts[0], posts[2]])


async def test_what_is_not_kept_any_more_leaves_every_page() -> None:  # SITE-79
    async with open_kit() as kit:
        pages = [await kit.open_page(name) for name in ("x", "y")]
        old, new = await kit.say("a"), await kit.say("b")
        table = kit.log._rooms[LOBBY]
        table.messages = [one for one in table.messages if one.message.id != old.message.id]
        kit.system.topics.publish(topic_of(LOBBY), RoomForgot(LOBBY))
        await kit.settle()
        pages.append(await kit.open_page("late"))
        assert [page.ids for page in pages] == [ids_of([new])] * 3
        later = await kit.say("a")
    assert [page.ids for page in pages] == [ids_of([new, later])] * 3


async def test_a_restarted_feed_serves_the_old_readers() -> None:  # SITE-91
    async with open_kit() as kit:
        page = await kit.open_page("x")
        posts = [await kit.say("a")]
        assert kit.feed is not None
        await kit.feed.stop()
        posts.append(await kit.say("b"))
        await kit.start_feed()
        await kit.settle()
        posts.append(await kit.say("b"))
    assert page.ids == ids_of(posts)
    assert page.window_count == 2


async def test_who_left_is_sent_nothing_more() -> None:  # SITE-94
    async with open_kit() as kit:
        page = await kit.open_page("x")
        posts = [await kit.say("a")]
        kit.readers.leave(page)
        kit.readers.leave(page)
        kit.readers.want(page)
        await kit.say("a")
        assert page.ids == ids_of(posts)
        assert len(kit.readers) == 0
        assert kit.readers.sessions_of((await kit.say("x")).message) == set()
        assert kit.readers.take_waiting() == {}


async def test_a_hundred_readers_cost_one_render_for_each_class() -> None:  # SITE-77
    async with open_kit() as kit:
        pages = [await kit.open_page(f"s{number % 50}") for number in range(100)]
        assert len(kit.frames.windows) == 1
        posted = await kit.say("s7")
    assert sorted(kit.frames.posts) == [ViewerClass.AUTHOR, ViewerClass.PUBLIC]
    assert all(page.ids == ids_of([posted]) for page in pages)
    last = [page.frames[-1] for page in pages]
    assert len({id(frame) for frame in last}) == 2, "the bytes are shared"


async def test_a_message_nobody_sees_as_its_author_is_rendered_once() -> None:  # SITE-77
    async with open_kit() as kit:
        await kit.open_page("x")
        await kit.say("socket-only")
    assert kit.frames.posts == [ViewerClass.PUBLIC]


async def test_a_resync_renders_once_for_all_who_wrote_nothing() -> None:  # SITE-77
    async with open_kit() as kit:
        for number in range(60):
            await kit.open_page(f"s{number}")
        await kit.say("s1")
        rendered = len(kit.frames.windows)
        await kit.store("s2")
        kit.system.topics.publish(topic_of(LOBBY), RoomResumed(LOBBY))
        await kit.settle()
    windows = kit.frames.windows[rendered:]
    assert sorted(viewer.session_id or "" for viewer in windows) == ["", "s1", "s2"]


async def test_the_window_is_bounded() -> None:  # SITE-73
    async with open_kit() as kit:
        posts = [await kit.say("a", f"{number}") for number in range(HISTORY_LIMIT + 10)]
        page = await kit.open_page("x")
        reads = kit.log.reads
        await kit.open_page("y")
        assert kit.log.reads == reads, "a join asks nobody"
    assert page.ids == ids_of(posts[-HISTORY_LIMIT:])


async def test_delivered_messages_are_counted() -> None:  # SITE-6
    async with open_kit() as kit:
        for name in ("a", "b", "c"):
            await kit.open_page(name)
        await kit.say("a")
        await kit.say("a", "https://example.org")
    assert kit.readers.delivered == 3 + 1


async def test_reports_of_a_feed_hold_nobodys_words() -> None:  # SEC-131
    async with open_kit() as kit:
        await kit.say("a", "secret words")
        kit.publish(await kit.store("a", "more secret words"))
        await kit.settle()
        assert kit.feed is not None
        kit.feed.kill()
        await kit.system.wait_down(kit.feed, final=True)
        kit.publish(await kit.store("a", "even more secret words"))
        await kit.settle()
        assert "secret words" not in f"{[*kit.system.reports.kept]} {[*kit.system.dead_letters]}"


async def test_a_feed_that_is_away_is_not_nudged() -> None:
    def find() -> object:
        raise NoProc("feed-lobby")

    readers = Readers(waker(find), noon)  # type: ignore[arg-type]
    page = Page("x")
    readers.join(page)
    assert readers.take_waiting() == {page: None}


async def test_what_waits_is_seen_by_its_author_and_moderators() -> None:
    # SITE-68, SITE-69, SITE-77
    async with open_kit() as kit:
        public, author = await kit.open_page("reader"), await kit.open_page("a")
        moderator = await kit.open_page("m", Viewer(MODERATOR, "m", is_moderator=True))
        before = [await kit.say("b")]
        waits = await kit.say("a", "see http://a")
        after = await kit.say("b")
        assert public.ids == ids_of([*before, after])
        assert author.ids == moderator.ids == ids_of([*before, waits, after])
        assert "http://a" not in public.text
        assert "waiting for review" in moderator.text
        late = await kit.open_page("m", Viewer(MODERATOR, "m", is_moderator=True))
        assert late.ids == moderator.ids
        kit.frames.posts.clear()
        await kit.decide(waits, Decision.APPROVE)
        # Shown to all, once each; a page puts it where its number says.
        for page in (public, author, moderator):
            assert sorted(page.ids) == sorted(ids_of([*before, waits, after]))
        assert sorted(kit.frames.posts) == sorted(ViewerClass)
        fresh = await kit.open_page("another")
        assert fresh.ids == ids_of([*before, waits, after])
        assert public.positions[-1] == 4


async def test_what_is_removed_goes_from_all_pages_and_its_author_is_told_why() -> None:
    # SITE-69
    async with open_kit() as kit:
        public, author = await kit.open_page("reader"), await kit.open_page("a")
        moderator = await kit.open_page("m", Viewer(MODERATOR, "m", is_moderator=True))
        waits = await kit.say("a", "see http://a")
        await kit.decide(waits, Decision.REMOVE, "an <i>advertisement</i>")
        assert public.frames[1:] == []
        assert moderator.ids == []
        assert "an &lt;i&gt;advertisement&lt;/i&gt;" in author.text
        assert "advertisement" not in public.text + moderator.text
        later = await kit.say("b")
        # Who comes back is told as well, without what was written; others have nothing of it.
        back = await kit.open_page("a")
        assert back.ids == ids_of([waits, later])
        assert "an &lt;i&gt;advertisement&lt;/i&gt;" in back.text
        assert "http://a" not in back.text
        for name in ("b", "m"):
            assert (await kit.open_page(name)).ids == ids_of([later])
        assert public.ids == ids_of([later])
