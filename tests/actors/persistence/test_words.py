"""The nouns of the store refuse nonsense when they are made."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest

from actors.persistence import (
    EVENT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    METADATA_BYTES_MAX,
    AppendRequest,
    Bookmark,
    CancelTimer,
    CloseTimer,
    Cursor,
    EventTooLarge,
    Idempotent,
    InvalidField,
    InvalidStreamId,
    InvalidTenant,
    NewEvent,
    OutboxMessage,
    SetTimer,
    Shard,
    Snapshot,
    StreamId,
)


@pytest.mark.parametrize("good", ["a-1", "order_2-x-y", "a-ä", "z9_-" + "x" * 251])
def test_good_stream_ids(good: str) -> None:
    # STORE-1
    made = StreamId(good)
    assert made == good
    assert made.category == good.partition("-")[0]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "order",
        "-1",
        "order-",
        "Order-1",
        "1order-1",
        "or der-1",
        "order-\n",
        "order-\x7f",
        "order-\x85",
        "order-\ud800",
        "order-" + "x" * 250,
        "order-" + "ä" * 125,
    ],
)
def test_bad_stream_ids(bad: str) -> None:
    # STORE-1
    with pytest.raises(InvalidStreamId) as caught:
        StreamId(bad)
    assert caught.value.value == bad


def test_versions_count_from_one() -> None:
    # STORE-2
    with pytest.raises(ValueError, match="at least 1"):
        NewEvent(UUID(int=1), "A", b"{}", schema_version=0)
    event = NewEvent(UUID(int=1), "A", b"{}")
    with pytest.raises(ValueError, match="at least 0"):
        AppendRequest(StreamId("a-1"), [event], -1)


_ID = UUID(int=1)
_NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
_GOOD: dict[type, Mapping[str, object]] = {
    NewEvent: {"event_id": _ID, "type": "A", "data": b"{}"},
    OutboxMessage: {
        "message_id": _ID,
        "kind": "bus",
        "target": "t",
        "key": "k",
        "payload": b"x",
    },
    SetTimer: {"timer_id": _ID, "address": "a", "name": "n", "token": "t", "due_at": _NOON},
    CancelTimer: {"address": "a", "name": "n"},
    CloseTimer: {"timer_id": _ID},
    Idempotent: {"scope": "s", "key": "k", "request_hash": b"h"},
    Shard: {"id": 1, "owner": "o", "epoch": 1},
    Snapshot: {"stream_id": "a-1", "version": 1, "schema": "s", "data": b"{}"},
    AppendRequest: {"stream_id": StreamId("a-1"), "events": [NewEvent(_ID, "A", b"{}")]},
}
_NOT_TEXT = ("a\x00b", "\ud800", "x" * 2000, 7, None)
_NOT_TEXTS = (
    {"n": 1},
    {1: "n"},
    {"n": None},
    {"a\x00": "b"},
    {"a": "b\x00"},
    {"a": "\ud800"},
    {"\ud800": "a"},
    {"a": "b" * METADATA_BYTES_MAX},
    {"a": "ä" * (METADATA_BYTES_MAX // 2)},
    [("a", "b")],
    None,
)
# STORE-9: a slash would make it another's name, and the rest is no identifier.
_NOT_TENANTS = ("", "a/b", "@acme", "a b", "a\x00b", "ä", "\ud800", "x" * 65, 7, "acme\n")
_MESSAGE = OutboxMessage(_ID, "bus", "t", "k", b"x")
_WRONG: list[tuple[type, str, tuple[object, ...]]] = [
    (NewEvent, "event_id", ("x", None)),
    (NewEvent, "type", ("", *_NOT_TEXT)),
    (NewEvent, "data", ("{}", None, bytearray(b"{}"))),
    (NewEvent, "schema_version", (0, -1, 2**31, 2**70, 1.5, True + 1.0)),
    (NewEvent, "metadata", _NOT_TEXTS),
    (NewEvent, "codec", _NOT_TEXT),
    (NewEvent, "tenant", _NOT_TENANTS),
    (OutboxMessage, "message_id", ("x",)),
    (OutboxMessage, "kind", ("pigeon", "")),
    (OutboxMessage, "target", _NOT_TEXT),
    (OutboxMessage, "key", _NOT_TEXT),
    (OutboxMessage, "payload", ("x", b"x" * (MESSAGE_BYTES_MAX + 1))),
    (OutboxMessage, "headers", _NOT_TEXTS),
    (SetTimer, "timer_id", ("x",)),
    (SetTimer, "address", _NOT_TEXT),
    (SetTimer, "name", _NOT_TEXT),
    (SetTimer, "token", _NOT_TEXT),
    (SetTimer, "due_at", (None, _NOON.replace(tzinfo=None))),
    (SetTimer, "payload", ("x", b"x" * (EVENT_BYTES_MAX + 1))),
    (SetTimer, "metadata", _NOT_TEXTS),
    (CancelTimer, "address", _NOT_TEXT),
    (CancelTimer, "name", _NOT_TEXT),
    (CloseTimer, "timer_id", ("x",)),
    (Idempotent, "scope", _NOT_TEXT),
    (Idempotent, "key", _NOT_TEXT),
    (Idempotent, "request_hash", ("x", b"x" * 256)),
    (Idempotent, "tenant", (*_NOT_TENANTS[1:], None)),
    (Shard, "id", (-1, 2**31, "1")),
    (Shard, "owner", _NOT_TEXT),
    (Shard, "epoch", (-1, 2**63)),
    (Snapshot, "version", (0, 2**63)),
    (Snapshot, "schema", _NOT_TEXT),
    (AppendRequest, "stream_id", ("a1", "a-\x00")),
    (AppendRequest, "tenant", _NOT_TENANTS),
    (AppendRequest, "expected", (-1, 2**63 - 1, 2**70, 1.0, None)),
    (AppendRequest, "inbox", (("a\x00", _ID), ("a", "x"))),
    (AppendRequest, "outbox", ([_MESSAGE, _MESSAGE],)),
]


@pytest.mark.parametrize(("word", "field", "values"), _WRONG)
def test_what_no_store_can_keep_is_refused_when_it_is_made(
    word: type, field: str, values: tuple[object, ...]
) -> None:
    # STORE-3, STORE-10
    assert word(**_GOOD[word])
    for value in values:
        with pytest.raises((InvalidField, InvalidStreamId, InvalidTenant)) as caught:
            word(**{**_GOOD[word], field: value})
        assert field.removesuffix("_id") in str(caught.value) or field == "stream_id"
        # Whoever logs it tells no secrets.
        assert "xxx" not in str(caught.value)


def test_the_limits_themselves_can_be_kept() -> None:
    # STORE-3
    for key, size in (("ä", METADATA_BYTES_MAX - 2), ("a", METADATA_BYTES_MAX - 1)):
        NewEvent(_ID, "x" * 255, b"x" * EVENT_BYTES_MAX, 2**31 - 1, {key: "b" * size}, "c", "t")
    with pytest.raises(EventTooLarge):
        NewEvent(_ID, "A", b"x" * (EVENT_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "text", ["", "1.2", ":1.2", "a:", "a:1", "a:x.1", "a\x00:1.2", "x" * 300 + ":1.2", "a:1.2:"]
)
def test_what_is_no_bookmark_is_refused(text: str) -> None:
    # STORE-26
    assert str(Bookmark.parse("a:b:7.1")) == "a:b:7.1"
    with pytest.raises(ValueError, match=r"not a|lineage"):
        Bookmark.parse(text)


@pytest.mark.parametrize("text", ["9" * 19 + ".1", "1." + "9" * 19, "9" * 5000 + ".1"])
def test_a_cursor_beyond_the_databases_numbers_is_none(text: str) -> None:
    # STORE-2
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)
