"""The rules of chat, as tables."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given

from actors.chat import (
    DEMO_USER_ID,
    LOBBY,
    Author,
    Message,
    PostLimit,
    Status,
    Viewer,
    guest_name,
    policy,
)
from tests.any_text import any_text

USER = UUID(int=7)


def a_message(
    status: Status,
    *,
    user_id: UUID | None = None,
    session: str | None = None,
    name: str | None = None,
) -> Message:
    when = datetime(2025, 1, 1, tzinfo=UTC)
    return Message(UUID(int=1), LOBBY, 1, user_id, session, name, "hi", status, "c", when)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("hello", "hello"),
        ("  hello \n", "hello"),
        ("a\nb", "a\nb"),
        ("a\r\nb", "a\nb"),
        ("x" * 1000, "x" * 1000),
        (" " + "👋" * 1000 + " ", "👋" * 1000),
        ("\u202eabc", "\u202eabc"),
        ("👩\u200d🚀\ufe0f", "👩\u200d🚀\ufe0f"),
        ("\u0301", "\u0301"),
        ("\U0001faff", "\U0001faff"),  # newer than some tables of Unicode
        ("a\u2028", "a"),
    ],
)
def test_good_bodies(text: str, body: str) -> None:  # SITE-61
    assert policy.parse_body(text) == body


@pytest.mark.parametrize(
    "text",
    [
        *("", "  \n ", "x" * 1001, "a\tb", "a\x00b", "a\x1b[31mb", "a\rb", "\ud800"),
        *("a\x85b", "a\u2028b", "a\u2029b", "a\x7fb", "a\x0bb", "a\x0cb"),
        # drawn as nothing: an empty bubble
        *("\u202e", "\u200b", "\u200b \n\u200b", "\ufeff", "\xad", "\u2060", "\u3164"),
        *("\u2800", "\u115f", "\ufe0f", "\u034f", "\U000e0041", "\u202e\u2066\u2069"),
    ],
)
def test_bad_bodies(text: str) -> None:  # SITE-61
    with pytest.raises(policy.BadPost) as caught:
        policy.parse_body(text)
    assert caught.value.field == "body"


@given(any_text())
def test_a_body_is_a_fixed_point_or_refused(text: str) -> None:  # SITE-61
    try:
        body = policy.parse_body(text)
    except policy.BadPost:
        return
    assert policy.parse_body(body) == body
    assert 1 <= len(body) <= policy.BODY_LENGTH_MAX


@pytest.mark.parametrize("text", ["a", " a ", "x" * 128])
def test_good_client_ids(text: str) -> None:  # SITE-61
    assert policy.parse_client_id(text) == text.strip()


@pytest.mark.parametrize("text", ["", "  ", "x" * 129, "a\nb", "a\x85b", "a\u2029b"])
def test_bad_client_ids(text: str) -> None:  # SITE-61
    with pytest.raises(policy.BadPost):
        policy.parse_client_id(text)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("x" * 300, Status.VISIBLE),
        ("x" * 301, Status.PENDING),
        ("€" * 101, Status.VISIBLE),
        ("see http://a", Status.PENDING),
        ("see HTTPS://A", Status.PENDING),
        ("HTTP://", Status.PENDING),
        ("http:/", Status.VISIBLE),
    ],
)
def test_classification(body: str, status: Status) -> None:  # SITE-67
    assert policy.classify(body) == (status, "auto" if status is Status.PENDING else None)


@pytest.mark.parametrize("text", ["Lobby", "Demo", "Support"])
def test_rooms_are_matched_exactly(text: str) -> None:  # SITE-60
    assert policy.parse_room(text) == text
    assert policy.parse_room(text.lower()) is None
    assert policy.parse_room(f" {text}") is None


@pytest.mark.parametrize(
    ("viewer", "sees"),
    [
        (Viewer(), False),
        (Viewer(session_id="other"), False),
        (Viewer(session_id="s"), True),
        (Viewer(user_id=DEMO_USER_ID), False),
        (Viewer(is_moderator=True), True),
    ],
)
def test_a_pending_demo_post_is_its_sessions_own(viewer: Viewer, sees: bool) -> None:  # SITE-68
    message = a_message(Status.PENDING, user_id=DEMO_USER_ID, session="s")
    assert policy.may_see(message, viewer) is sees


def test_visibility_by_status() -> None:  # SITE-68
    assert policy.may_see(a_message(Status.VISIBLE, user_id=USER), Viewer())
    assert policy.may_see(a_message(Status.PENDING, user_id=USER), Viewer(user_id=USER))
    assert not policy.may_see(a_message(Status.PENDING, user_id=USER), Viewer())
    assert not policy.may_see(a_message(Status.REMOVED, user_id=USER), Viewer(is_moderator=True))


def test_names_of_authors() -> None:
    assert policy.author_name(a_message(Status.VISIBLE, user_id=USER, name="ann")) == "ann"
    assert policy.author_name(a_message(Status.VISIBLE, user_id=USER)) == "user-00000007"  # SITE-73
    guest = policy.author_name(a_message(Status.VISIBLE, session="s"))
    assert guest == guest_name("s")
    assert guest != guest_name("t")
    assert len(guest.split()) == 3


def test_limits_by_kind_of_author() -> None:  # SITE-65
    demo = Author(DEMO_USER_ID, "s", "Demo Bot")
    assert policy.limits_for(demo, "a") == (
        PostLimit("demo:s", 5, 10.0),
        PostLimit("address:a", 20, 10.0),
    )
    assert policy.limits_for(Author(USER, None, "ann"), "a") == (
        PostLimit(f"user:{USER}", 5, 10.0),
    )


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="author"):
        Author(None, None, "nobody")
    with pytest.raises(ValueError, match="posts_max"):
        PostLimit("k", 0, 10.0)
    with pytest.raises(ValueError, match="period_s"):
        PostLimit("k", 1, float("nan"))
