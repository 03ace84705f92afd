"""A page that comes back says what it shows, and then shows what a page loaded now would."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

import pytest

from actors.chat import LOBBY, RoomForgot, RoomResumed, topic_of
from actors.chat.chat_log import HISTORY_LIMIT
from tests.web.chat.feed_kit import FeedKit, open_kit
from web.realtime import PageHolds, SseParser, read_holds
from web.server import Bundle, Frame

_MARKED = re.compile(r'id="chat-(you|demo)-([0-9a-f]{8}-[0-9a-f-]{27})"[^>]* data-mark="([^"]+)"')
_UNMARKED = re.compile(r"\[data-mark='([^']+)'\]")
Shown = list[tuple[str, str]]
PANES = ("you", "demo")


@dataclass(eq=False)
class Tab:
    """A page as a browser has it: its bytes may be cut anywhere, and it works with what it has."""

    session_id: str
    panes: dict[str, Shown] = field(default_factory=lambda: {pane: [] for pane in PANES})
    wire: bytearray = field(default_factory=bytearray)
    is_open: bool = False

    async def open(self, kit: FeedKit, *, is_new: bool = False) -> None:
        self.is_open = True
        self.wire.clear()
        kit.readers.join(self, None if is_new else self.holds())
        await kit.settle()

    def close(self, kit: FeedKit, *, at: int | None = None) -> None:
        kit.readers.leave(self)
        self.is_open = False
        for event in SseParser().feed(bytes(self.wire[: len(self.wire) if at is None else at])):
            self._apply(event.data)

    def put_panel(self, panel: str, frame: Frame, /) -> bool:
        raise AssertionError("this page shows nobody who is here")

    def put_chat(self, frame: Frame, position: int, /) -> None:
        self.wire += frame.payload

    put_window = put_chat

    def put_chats(self, bundle: Bundle, /) -> None:
        for frame, position in bundle.entries:
            self.put_chat(frame, position)

    def holds(self) -> PageHolds | None:
        """What `holds` in web/views/static/connection.js gives."""
        you, demo = ([mark for _, mark in self.panes[pane]] for pane in PANES)
        return read_holds("tree=unknown" + (f";chat={','.join(you)}" if you == demo else ""))

    def _apply(self, data: str) -> None:
        found = _MARKED.findall(data)
        if data.startswith("mode remove"):
            gone = _UNMARKED.findall(data)
            shown = {mark for pane in PANES for _, mark in self.panes[pane]}
            assert gone, "nothing is withdrawn here"
            assert set(gone) <= shown, "a browser warns of what it does not find"
            for pane in PANES:
                self.panes[pane] = [one for one in self.panes[pane] if one[1] not in gone]
            return
        if not data.startswith("mode append"):
            self.panes = {pane: [] for pane in PANES}
        for pane, name, mark in found:
            assert name not in [known for known, _ in self.panes[pane]], "shown twice"
            self.panes[pane].append((name, mark))


async def fresh(kit: FeedKit, session: str) -> Tab:
    tab = Tab(session)
    await tab.open(kit, is_new=True)
    tab.close(kit)
    return tab


async def come_back(kit: FeedKit, tab: Tab) -> int:
    """Open the page again and see that nothing is wrong with it; gives the bytes it was sent."""
    await tab.open(kit)
    sent = len(tab.wire)
    tab.close(kit)
    assert tab.panes == (await fresh(kit, tab.session_id)).panes
    return sent


async def test_who_misses_nothing_is_sent_nothing() -> None:  # SITE-91
    async with open_kit() as kit:
        tab = Tab("a")
        assert await come_back(kit, tab) == 0
        for number in range(HISTORY_LIMIT + 5):
            await kit.say("a" if number % 3 else "b")
        assert await come_back(kit, tab) > 0
        assert await come_back(kit, tab) == 0
        await restart(kit)
        assert await come_back(kit, tab) == 0


async def test_who_was_away_is_sent_exactly_the_rest() -> None:  # SITE-91, REL-62
    async with open_kit() as kit:
        for number in range(20):
            await kit.say("a", f"before {number}")
        tab = await fresh(kit, "b")
        missed = [await kit.say("a", f"missed {number}") for number in range(3)]
        await restart(kit)
        await tab.open(kit)
        text = tab.wire.decode()
        tab.close(kit)
    assert re.findall(r"missed \d", text) == ["missed 0", "missed 1", "missed 2"] * 2
    assert "before" not in text
    assert [name for name, _ in tab.panes["you"][-3:]] == [str(one.message.id) for one in missed]


async def test_a_page_that_holds_something_else_is_sent_all() -> None:  # SITE-91, REL-62
    async with open_kit() as kit:
        for _ in range(5):
            await kit.say("a")
        tab = await fresh(kit, "b")
        for panes in (tab.panes["you"][::-1], tab.panes["you"][1:], [("x", "y")] * 3):
            tab.panes = {pane: [*panes] for pane in PANES}
            await come_back(kit, tab)


async def restart(kit: FeedKit) -> None:
    assert kit.feed is not None
    await kit.feed.stop()
    await kit.start_feed()
    await kit.settle()


async def forget(kit: FeedKit, random: Random) -> None:
    table = kit.log._rooms[LOBBY]
    table.messages = [one for one in table.messages if random.random() < 0.9]
    kit.system.topics.publish(topic_of(LOBBY), RoomForgot(LOBBY))
    await kit.settle()


async def happen(kit: FeedKit, random: Random) -> None:
    """Something of what may happen to a room."""
    match random.choices(range(5), (20, 4, 2, 1, 1))[0]:
        case 0:
            await kit.say(random.choice("abc"))
        case 1:
            await kit.say(random.choice("abc"), "see https://example.org")
        case 2:
            await kit.store("a")
            kit.system.topics.publish(topic_of(LOBBY), RoomResumed(LOBBY))
            await kit.settle()
        case 3:
            await restart(kit)
        case _:
            await forget(kit, random)


@pytest.mark.parametrize("seed", range(8))
async def test_any_cuts_restarts_and_losses_leave_no_gap(seed: int) -> None:  # REL-62, SITE-95
    random = Random(seed)
    async with open_kit() as kit:
        tabs = [Tab(session) for session in "abd"]
        for _ in range(60):
            await happen(kit, random)
            tab = random.choice(tabs)
            if not tab.is_open:
                await tab.open(kit)
            elif random.random() < 0.5:
                tab.close(kit, at=random.randint(0, len(tab.wire)))
            elif random.random() < 0.2:
                kit.readers.want(tab)  # its backlog overflowed
        for tab in tabs:
            if tab.is_open:
                tab.close(kit, at=random.randint(0, len(tab.wire)))
            await come_back(kit, tab)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "chat",
        "chat=a b",
        "chat=<x>",
        "chat='",
        "=a",
        f"chat={'a,' * 300}a",
        "chat=a;;",
        "x" * 99,
    ],
)
def test_what_no_page_of_ours_says_is_taken_for_nothing(text: str) -> None:
    assert read_holds(text) is None


def test_what_a_page_says_is_read() -> None:
    holds = read_holds("tree=k3-5;crash=none;chat=")
    assert holds is not None
    assert (holds.one("tree"), holds.one("crash"), holds.all("chat")) == ("k3-5", "none", ())
    assert (holds.one("chat"), holds.one("other"), holds.all("other")) == (None, None, None)
