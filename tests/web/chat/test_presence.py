"""Who is in a room: joins at once, leaves only after a while, and nothing for who does not look."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from trio import sleep
from trio.testing import MockClock

from actors.chat import Viewer
from tests.web.chat.feed_kit import FeedKit, Page, open_kit
from web.chat.readers import LEFT_AFTER_S, NAMES_MAX, Presence
from web.chat.room_feed import PRESENCE_AFTER_S
from web.views import HereView

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
ADA, GRACE = UUID(int=1), UUID(int=2)


def said(page: Page) -> list[str]:
    """What a page was told, as words."""
    told = []
    for panel, frame in page.panels:
        assert panel == "presence"
        found = re.search(r"Here now: (.*)</p>", frame)
        assert found
        words = re.sub(r" since <time [^>]+>[^<]+</time>", "", found.group(1))
        told.append(re.sub(r"<[^>]+>", "", words))
    return told


def enter(kit: FeedKit, session: str, user: UUID | None = None, name: str | None = None) -> Page:
    page = Page(session)
    kit.readers.join(page, who=Viewer(user, session), name=name)
    return page


def test_people_are_counted_once_and_a_short_absence_is_none() -> None:
    # LAB-56 REL-37
    presence = Presence()
    for person, name in ((ADA, "ada"), (ADA, "ada"), ("s1", None), ("s1", None), ("s2", None)):
        presence.join(person, name, 90.0, NOON)
    assert presence.seen().names == (HereView("ada", 2, NOON),)
    assert presence.seen().guests == 2
    presence.leave(ADA, 100.0)
    presence.leave(ADA, 101.0)
    presence.leave("s2", 102.0)
    assert presence.forget(101.0 + LEFT_AFTER_S - 0.1) == 101.0 + LEFT_AFTER_S
    assert presence.seen().names == (HereView("ada", 1, NOON),)
    # Within the time of a reload one was here all the while.
    presence.join(ADA, "ada", 101.0 + LEFT_AFTER_S - 0.1, LATER)
    assert presence.forget(102.0 + LEFT_AFTER_S) is None
    here = HereView("ada", 1, NOON)
    assert (presence.seen().names, presence.seen().guests) == ((here,), 1)
    # Nobody looks for hours, and people come and go: nothing is kept of them.
    for number in range(1000):
        presence.join(f"g{number}", None, 200.0 + number, NOON)
        presence.leave(f"g{number}", 200.0 + number)
    assert len(presence._here) < LEFT_AFTER_S + 5


def test_a_crowd_is_told_by_its_number() -> None:
    presence = Presence()
    for number in range(NAMES_MAX + 5):
        presence.join(UUID(int=number), f"name {number:02d}", 0.0, NOON)
    seen = presence.seen()
    assert (len(seen.names), seen.more, seen.names[0]) == (
        NAMES_MAX,
        5,
        HereView("name 00", 1, NOON),
    )


def test_who_had_left_and_comes_back_is_here_since_then() -> None:
    # LAB-56: also when nobody looked meanwhile
    presence = Presence()
    presence.join(ADA, "ada", 0.0, NOON)
    presence.join(ADA, "ada", 50.0, LATER)
    assert presence.seen().names == (HereView("ada", 2, NOON),), "another tab is no arrival"
    for now in (60.0, 61.0):
        presence.leave(ADA, now)
    presence.join(ADA, "ada", 61.0 + LEFT_AFTER_S, LATER)
    assert presence.seen().names == (HereView("ada", 1, LATER),)


async def test_since_when_somebody_is_here_is_told(autojump_clock: MockClock) -> None:
    # LAB-56
    async with open_kit() as kit:
        await sleep(3600)
        page = enter(kit, "s1", ADA, "ada")
        kit.readers.watch(page)
        await sleep(3600)
        enter(kit, "s2", GRACE, "grace")
        await sleep(2 * PRESENCE_AFTER_S)
    last = page.panels[-1][1]
    times = re.findall(r'<time datetime="2026-11-21T(\d\d:\d\d:\d\d)Z">\1 UTC</time>', last)
    assert times == ["13:00:00", "14:00:00"]


async def test_a_page_that_looks_is_told_of_comings_and_goings(autojump_clock: MockClock) -> None:
    # LAB-56: within a second; a reload shows nothing, and who left is gone after a while
    async with open_kit() as kit:
        page, blind = enter(kit, "s1", ADA, "ada"), enter(kit, "s0")
        kit.readers.watch(page)
        await sleep(2 * PRESENCE_AFTER_S)
        assert said(page) == ["ada; 1 guest"]
        grace = [enter(kit, "s2", GRACE, "<b>grace</b>") for _ in range(2)]
        await sleep(2 * PRESENCE_AFTER_S)
        assert said(page)[1:] == ["&lt;b&gt;grace&lt;/b&gt; (2 tabs), ada; 1 guest"]
        # A reload, and the same again.
        kit.readers.leave(grace.pop())
        grace.append(enter(kit, "s2", GRACE, "<b>grace</b>"))
        await sleep(LEFT_AFTER_S + 1)
        assert len(said(page)) == 2
        for one in grace:
            kit.readers.leave(one)
        kit.readers.leave(blind)
        await sleep(LEFT_AFTER_S - 1)
        assert len(said(page)) == 3, "one tab fewer, and nobody left"
        await sleep(3)
        assert said(page)[-1] == "ada"
        count = len(said(page))
        kit.readers.unwatch(page)
        enter(kit, "s3")
        await sleep(LEFT_AFTER_S)
        assert len(said(page)) == count
        assert blind.panels == []


async def test_a_feed_that_is_restarted_goes_on(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        page = enter(kit, "s1", ADA, "ada")
        kit.readers.watch(page)
        await sleep(2 * PRESENCE_AFTER_S)
        guest = enter(kit, "s2")
        assert kit.feed is not None
        kit.feed.kill()
        await kit.system.wait_down(kit.feed, final=True)
        kit.readers.leave(guest)
        await kit.start_feed()
        await sleep(2 * PRESENCE_AFTER_S)
        assert said(page) == ["ada", "ada; 1 guest"]
        await sleep(LEFT_AFTER_S)
        assert said(page)[2:] == ["ada"]
