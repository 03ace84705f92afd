"""The tables of the twins in memory: one object stands for one database.

Adapters share it as they share a `storage.postgres.Database`: what one writes the others
read. A change is made without a checkpoint between its first and last line, which is what
a transaction is here.
"""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from actors.chat import DEMO_DISPLAY_NAME, DEMO_USER_ID


@dataclass(frozen=True, slots=True)
class EventRow:
    """A stored event as a row: its stream, its number there, what it says."""

    stream_id: str
    version: int
    event_id: UUID
    event_type: str
    event_version: int
    data: bytes
    metadata: dict[str, str]
    recorded_at: datetime


@dataclass(slots=True)
class MemoryDatabase:
    """Tables as lists and dictionaries; the demo user is among the users as after migration."""

    user_names: dict[UUID, str] = field(default_factory=lambda: {DEMO_USER_ID: DEMO_DISPLAY_NAME})
    events: list[EventRow] = field(default_factory=list)
