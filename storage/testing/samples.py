"""Events for tests that care about storing, not about what is stored."""

from collections.abc import Mapping
from uuid import UUID, uuid4

from actors.persistence import NewEvent


def new_event(
    data: bytes = b'{"n": 0}',
    *,
    type: str = "Counted",  # noqa: A002  (the word of the event)
    event_id: UUID | None = None,
    schema_version: int = 1,
    codec: str = "json",
    metadata: Mapping[str, str] | None = None,
    tenant: str | None = None,
) -> NewEvent:
    """Call this for one event with a new id."""
    return NewEvent(
        event_id=event_id or uuid4(),
        type=type,
        data=data,
        schema_version=schema_version,
        metadata=metadata or {},
        codec=codec,
        tenant=tenant,
    )


def new_events(count: int, **changes: str) -> list[NewEvent]:
    """Call this for several events, numbered from 0 in their data."""
    return [new_event(b'{"n": %d}' % number, **changes) for number in range(count)]  # type: ignore[arg-type]
