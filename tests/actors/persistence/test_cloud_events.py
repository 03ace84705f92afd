"""Records as CloudEvents: which headers they get, and that nothing of theirs is lost."""

from __future__ import annotations

from uuid import uuid4

import pytest

from actors.persistence import InvalidField, StreamId
from actors.persistence.bus import RECORD_BYTES_MAX, CloudEvents, Record
from storage.testing.samples import new_event

SOURCE = "https://shop.example"
MARKS = CloudEvents(SOURCE)


def test_a_record_has_the_attributes_beside_its_own_headers() -> None:
    # BUS-2, BUS-15
    event = new_event(metadata={"traceparent": "00-1-2-01", "correlation_id": "c"})
    record = Record.of_append(StreamId("order-7"), 3, event)
    marked = MARKS.of("order-events", record)
    added = {name: text for name, text in marked.headers.items() if name not in record.headers}
    assert added == {
        "ce_specversion": "1.0",
        "ce_id": str(event.event_id),
        "ce_source": SOURCE,
        "ce_type": event.type,
        "ce_subject": "order-7",
        "ce_partitionkey": "order-7",
        "ce_sequence": "3",
        "ce_traceparent": "00-1-2-01",
        "ce_correlationid": "c",
        "content-type": "application/json",
    }
    assert record.headers.items() <= marked.headers.items()
    assert (marked.event_id, marked.key, marked.value) == (record.event_id, "order-7", event.data)


def test_what_a_record_says_itself_stays() -> None:
    # BUS-15
    own = {"ce_source": "urn:mine", "content_type": "text/plain"}
    marked = MARKS.of("order-events", Record(uuid4(), "k", b"1", own))
    assert marked.headers["ce_source"] == "urn:mine"
    assert marked.headers["content-type"] == "text/plain"
    assert marked.headers["ce_type"] == "order-events"  # nobody has said what it is


@pytest.mark.parametrize(
    "record",
    [
        Record(uuid4(), "k", bytes(RECORD_BYTES_MAX - 150)),
        Record(uuid4(), "k", b"1", {"note": "x" * (16 * 1024 - 100)}),
    ],
    ids=["as large as it may be", "headers as many as there may be"],
)
def test_one_that_has_no_room_for_them_goes_without(record: Record) -> None:
    # BUS-15: what was a legal record is one still
    assert MARKS.of("order-events", record) == record


@pytest.mark.parametrize("source", ["", "a b", "a\nb", "a\0", 7, None])
def test_a_source_that_is_no_uri_is_refused(source: object) -> None:
    # BUS-15
    with pytest.raises(InvalidField, match="source"):
        CloudEvents(source)  # type: ignore[arg-type]
