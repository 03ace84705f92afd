"""The newest messages of a room: what pushes out what, and who sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from actors.chat import LOBBY, History, Message, Status, Viewer, may_see
from actors.chat.chat_log import HISTORY_LIMIT
from web.chat.presenting import PageViews, window_views
from web.chat.window import PENDING_MAX, RoomWindow, is_whole, merged

AT = datetime(2026, 1, 1, tzinfo=UTC)
_STATUSES = st.sampled_from([Status.VISIBLE, Status.PENDING])


def messages_of(statuses: list[Status]) -> list[Message]:
    return [
        Message(UUID(int=seq), LOBBY, seq, None, f"s{seq % 3}", None, "x", status, "c", AT)
        for seq, status in enumerate(statuses, start=1)
    ]


def page(messages: list[Message], viewer: Viewer, n: int) -> History:
    """What the store answers: the newest a viewer may see."""
    seen = [message for message in messages if may_see(message, viewer)]
    return History(tuple(seen[-HISTORY_LIMIT:]), n, has_older=len(seen) > HISTORY_LIMIT)


@given(st.lists(_STATUSES, max_size=130), st.integers(0, 5))
def test_what_the_public_sees_is_the_stores_answer(statuses: list[Status], later: int) -> None:
    """SITE-73 SITE-78: read at `n` while more is posted; the events that follow are shown once."""
    stored = messages_of(statuses)
    then = stored[: len(stored) - later] if later else stored
    newest = page(then, Viewer(is_moderator=True), len(then))
    window = RoomWindow(newest.messages, newest.n)
    if not is_whole(newest):
        window = RoomWindow(merged(newest, page(stored, Viewer(), len(stored))), newest.n)
    for message in stored[len(then) :]:
        window.post(message, window.n + 1)
    public = page(stored, Viewer(), len(stored)).messages
    assert window.seen_by(Viewer()) == public
    assert window.n == len(stored)


@given(st.lists(_STATUSES, max_size=60))
def test_an_author_sees_own_pending_ones_in_order(statuses: list[Status]) -> None:  # SITE-68
    stored = messages_of(statuses)
    window = RoomWindow(stored, len(stored))
    viewer = Viewer(session_id="s1")
    seen = window.seen_by(viewer)
    assert all(may_see(message, viewer) for message in seen)
    assert list(seen) == sorted(seen, key=lambda message: message.seq)
    assert len(seen) <= HISTORY_LIMIT
    if len(stored) <= HISTORY_LIMIT:
        assert seen == page(stored, viewer, 0).messages
    assert window.authors() <= {"s0", "s1", "s2"}


def test_everything_is_bounded() -> None:  # REL-70
    window = RoomWindow()
    for n, message in enumerate(messages_of([Status.PENDING] * 300 + [Status.VISIBLE] * 300), 1):
        window.post(message, n)
    assert repr(window) == f"<RoomWindow n=600 {HISTORY_LIMIT}+{PENDING_MAX}>"


def test_a_removed_message_is_never_kept() -> None:
    window = RoomWindow(messages_of([Status.REMOVED]), 1)
    assert window.seen_by(Viewer(is_moderator=True)) == ()


@given(st.lists(_STATUSES, max_size=20), st.integers(0, 4), st.integers(0, 4))
def test_the_views_of_a_page_are_shared_by_those_who_wrote_nothing_in_it(
    statuses: list[Status], first: int, second: int
) -> None:  # SITE-68, SITE-77
    kept = PageViews()
    messages = tuple(messages_of(statuses))
    viewers = [Viewer(session_id=f"s{number}") for number in (first, second)]
    for viewer in (*viewers, Viewer(), *viewers):
        assert kept.of(LOBBY, messages, viewer) == window_views(messages, viewer)
    strangers = [Viewer(session_id=name) for name in ("t1", "t2")]
    one, other = (kept.of(LOBBY, messages, viewer) for viewer in strangers)
    assert one is other
    longer = (*messages, messages_of([Status.VISIBLE])[0])
    assert kept.of(LOBBY, longer, strangers[0]) == window_views(longer, strangers[0])
