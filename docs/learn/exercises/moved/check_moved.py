"""How what is stored is read; green when the event's past is told."""

from datetime import UTC, datetime
from uuid import UUID

from moved import TYPES, AddressMoved

from actors.persistence import Cursor, StoredEvent


def read(version: int, data: bytes) -> object:
    stored = StoredEvent(
        stream_id="person-7",
        version=1,
        cursor=Cursor(1, 1),
        event_id=UUID(int=1),
        type="AddressMoved",
        schema_version=version,
        codec="json",
        data=data,
        metadata={},
        tenant=None,
        recorded_at=datetime(2020, 1, 1, tzinfo=UTC),
    )
    return TYPES.decode(stored)


def test_the_first_shape_is_read_as_todays() -> None:
    old = read(1, b'{"address": "1 High Street, Bern"}')
    assert old == AddressMoved("1 High Street", "Bern", "CH")


def test_what_was_stored_before_there_was_a_country_is_read() -> None:
    assert read(2, b'{"street": "1 High Street", "city": "Bern"}') == AddressMoved(
        "1 High Street", "Bern", "CH"
    )


def test_what_is_written_today_says_its_version() -> None:
    written = TYPES.encode(AddressMoved("1 Rue Haute", "Lyon", "FR"), event_id=UUID(int=2))
    assert written.schema_version == 2
    TYPES.check()
