"""Events, messages and timers for tests that care about storing, not about what is stored."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from actors.persistence import NewEvent, OutboxMessage, SetTimer

# Suites wait for what must come, however slow the machine is (REL-2); only a hang reaches this.
PATIENCE_S = 120.0

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def new_event(
    data: bytes = b'{"n": 0}',
    *,
    type: str = "Counted",  # noqa: A002  (the word of the event)
    event_id: UUID | None = None,
    schema_version: int = 1,
    codec: str = "json",
    metadata: Mapping[str, str] | None = None,
    tenant: str | None = None,
    tags: Sequence[str] = (),
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
        tags=tags,
    )


def new_events(count: int, **changes: str) -> list[NewEvent]:
    """Call this for several events, numbered from 0 in their data."""
    return [new_event(b'{"n": %d}' % number, **changes) for number in range(count)]  # type: ignore[arg-type]


def message(key: str = "k", target: str = "t", payload: bytes = b"x") -> OutboxMessage:
    """Call this for a message with a new id."""
    return OutboxMessage(uuid4(), "bus", target, key, payload, {"h": "1"})


def timer(
    due_s: float = 0.0, *, address: str = "saga/1", name: str = "step", token: str | None = None
) -> SetTimer:
    """Call this for a timer due so many seconds after the tests' noon."""
    return SetTimer(
        uuid4(),
        address,
        name,
        token or str(uuid4()),
        NOON + timedelta(seconds=due_s),
        b"payload",
        {"correlation_id": "c"},
    )


def numbered(number: int) -> UUID:
    """Call this for an id that is the same in every run."""
    return UUID(int=number)
