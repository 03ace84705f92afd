"""The nouns of the store refuse nonsense when they are made."""

from uuid import UUID

import pytest

from actors.persistence import AppendRequest, InvalidStreamId, NewEvent, StreamId


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
    with pytest.raises(ValueError, match="from 1"):
        NewEvent(UUID(int=1), "A", b"{}", schema_version=0)
    event = NewEvent(UUID(int=1), "A", b"{}")
    with pytest.raises(ValueError, match="at least 0"):
        AppendRequest(StreamId("a-1"), [event], -1)
