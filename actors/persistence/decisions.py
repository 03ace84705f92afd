"""What an append comes to, decided from what is stored; no store is touched here.

Both engines gather the same facts and ask these functions, so that their answers agree.
"""

from collections.abc import Mapping
from uuid import UUID

from actors.persistence.errors import ConcurrencyConflict, DuplicateEventId
from actors.persistence.words import (
    Appended,
    AppendRequest,
    Expected,
    ExpectedVersion,
    NewEvent,
    StoredEvent,
    Version,
)


def fits(expected: ExpectedVersion, actual: Version) -> bool:
    """Call this to decide whether a stream at a version is as an append expects it."""
    match expected:
        case Expected.ANY:
            return True
        case Expected.EXISTS:
            return actual > 0
        case int():
            return actual == expected


def spoken(expected: ExpectedVersion) -> int | str:
    """Call this for what an error says was expected."""
    return expected.value if isinstance(expected, Expected) else expected


def repeat_of(request: AppendRequest, stored: Mapping[UUID, StoredEvent]) -> Appended | None:
    """Call this with the stored events that have ids of a request, before its version counts.

    The earlier result when the request was stored before; None when no id is known; raises
    `DuplicateEventId` when an id is stored elsewhere, otherwise, or twice in the request.
    """
    ids = [event.event_id for event in request.events]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise DuplicateEventId(str(twice), request.stream_id)
    found = [stored[one] for one in ids if one in stored]
    if not found:
        return None
    first = found[0]
    for number, event in enumerate(request.events):
        kept = stored.get(event.event_id)
        if kept is None or not _is_same(event, kept, request, first.version + number):
            raise DuplicateEventId(str(found[0].event_id), request.stream_id)
    last = found[-1]
    return Appended(last.version, first.version, last.cursor, replayed=True)


def _is_same(event: NewEvent, kept: StoredEvent, request: AppendRequest, version: Version) -> bool:
    return (
        kept.stream_id == request.stream_id
        and kept.version == version
        and kept.type == event.type
        and kept.schema_version == event.schema_version
        and kept.data == event.data
    )


def conflict(request: AppendRequest, actual: Version) -> ConcurrencyConflict:
    """Call this for the error of a request whose stream is not as expected."""
    return ConcurrencyConflict(request.stream_id, spoken(request.expected), actual)
