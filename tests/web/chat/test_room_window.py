"""The newest messages of a room: what pushes out what, and who sees it."""

from __future__ import annotations

from dataclasses import replace
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
    if not is_whole(newest.messages, has_older=newest.has_older):
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
    assert repr(window) == f"<RoomWindow n=600 {HISTORY_LIMIT}+{3 * HISTORY_LIMIT}>"
    for n, message in enumerate(messages_of([Status.PENDING] * (2 * PENDING_MAX)), 601):
        window.post(replace(message, id=UUID(int=n), author_session=f"s{n}"), n)
    assert repr(window) == f"<RoomWindow n=1600 {HISTORY_LIMIT}+{PENDING_MAX}>"


def test_a_flood_of_one_author_pushes_out_nothing_of_others() -> None:
    # SITE-68, REL-70: of the one page shows no more than it holds; the others keep what waits
    window = RoomWindow()
    every = messages_of([Status.PENDING] * (2 * PENDING_MAX))
    quiet = {n: replace(every[n], author_session=f"quiet {n}") for n in range(0, 400, 4)}
    floods = [f"flood {number}" for number in range(15)]
    for n, message in enumerate(every):
        loud = replace(message, author_session=floods[n % len(floods)])
        window.post(quiet.get(n, loud), n + 1)
    for n, message in quiet.items():
        assert window.seen_by(Viewer(session_id=f"quiet {n}")) == (message,)
    kept = [len(window.seen_by(Viewer(session_id=flood))) for flood in floods]
    assert max(kept) - min(kept) <= 1
    assert repr(window) == f"<RoomWindow n={2 * PENDING_MAX} 0+{PENDING_MAX}>"


def test_one_that_made_room_is_known_to_have_waited() -> None:
    # SITE-69: its author's page may hold it, and shall not show it twice
    window = RoomWindow()
    first, *others = messages_of([Status.PENDING] * (3 * HISTORY_LIMIT + 10))
    for n, message in enumerate((first, *others), 1):
        window.post(replace(message, author_session="s"), n)
    assert first.id not in {one.id for one in window.seen_by(Viewer(session_id="s"))}
    assert window.post(replace(first, status=Status.VISIBLE), 1000)
    again = window.seen_by(Viewer())
    assert window.post(replace(first, status=Status.VISIBLE), 1001)
    assert window.seen_by(Viewer()) == again, "approved while the history was read: once"
    assert not window.post(replace(others[-1], id=UUID(int=7777), seq=7777), 1002)


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
