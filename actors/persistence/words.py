"""The nouns of the event store: streams, versions, cursors, events, appends, pages.

Frozen data only. `event_store.py` says what a store does with them, `event_types.py` how a
program's own event classes become stored ones and back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from actors.persistence.errors import (
    AppendTooLarge,
    EmptyAppend,
    EventTooLarge,
    InvalidStreamId,
)

# The key of a row and of an index entry; longer names are somebody's text.
STREAM_ID_BYTES_MAX = 255

# One transaction holds its locks for as long as it writes; more is a batch or a mistake.
APPEND_EVENTS_MAX = 1000
BATCH_REQUESTS_MAX = 1000
BATCH_EVENTS_MAX = 10_000

# An event is read by everything that ever replays the stream; blobs belong elsewhere.
EVENT_BYTES_MAX = 64 * 1024

# What is read at once: constant memory, however long a stream or the log is.
PAGE_LIMIT = 500

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CATEGORY = re.compile(r"[a-z][a-z0-9_]*")

Version: TypeAlias = int


class StreamId(str):
    """The name of a stream, `category-id`; raises `InvalidStreamId` when it breaks a rule.

    1 to 255 bytes of UTF-8 without control characters; the category is `[a-z][a-z0-9_]*`
    and ends at the first hyphen.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> StreamId:
        """Call this with the whole name."""
        category, hyphen, rest = value.partition("-")
        if not hyphen or not rest:
            raise InvalidStreamId(value, "it has the form category-id")
        if _CATEGORY.fullmatch(category) is None:
            raise InvalidStreamId(value, "the category is lower case letters, digits and _")
        if _CONTROL.search(value) is not None:
            raise InvalidStreamId(value, "it has a control character")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise InvalidStreamId(value, "it has half of a surrogate pair") from None
        if size > STREAM_ID_BYTES_MAX:
            raise InvalidStreamId(value, f"it takes {size} of {STREAM_ID_BYTES_MAX} bytes")
        return super().__new__(cls, value)

    @property
    def category(self) -> str:
        """Call this to get what stands before the first hyphen."""
        return self.partition("-")[0]


class Cursor(NamedTuple):
    """A place in the global order: the transaction, then the position within."""

    txid: int
    position: int

    def __str__(self) -> str:
        return f"{self.txid}.{self.position}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Call this to read `txid.position`; raises `ValueError` on anything else."""
        txid, dot, position = text.partition(".")
        if not (dot and txid.isascii() and txid.isdigit()):
            raise ValueError(f"{text!r} is not a cursor: it has the form txid.position")
        if not (position.isascii() and position.isdigit()):
            raise ValueError(f"{text!r} is not a cursor: it has the form txid.position")
        return cls(int(txid), int(position))


# Before the first event of every store.
START = Cursor(0, 0)


class Expected(Enum):
    """What an append expects of its stream when it is not a version."""

    ANY = "any"
    EXISTS = "exists"


ANY = Expected.ANY
EXISTS = Expected.EXISTS

ExpectedVersion: TypeAlias = Version | Expected


# Without the garbage collector's notice: events hold plain values only, and come by the thousand.
class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """A fact to be stored: its type, its bytes, and who caused it.

    `event_id` is made by the caller, once for each fact: a repeated append with the same
    ids writes nothing twice.
    """

    event_id: UUID
    type: str
    data: bytes
    schema_version: int = 1
    metadata: Mapping[str, str] = {}
    codec: str = "json"
    tenant: str | None = None

    def __post_init__(self) -> None:
        if len(self.data) > EVENT_BYTES_MAX:
            raise EventTooLarge(self.type, len(self.data), EVENT_BYTES_MAX)
        if self.schema_version < 1:
            raise ValueError(f"schema_version counts from 1, got {self.schema_version}")


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """A fact as it is stored, with its place in its stream and in the global order."""

    stream_id: str
    version: Version
    cursor: Cursor
    event_id: UUID
    type: str
    schema_version: int
    codec: str
    data: bytes
    metadata: Mapping[str, str]
    tenant: str | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Appended:
    """An append is stored: its first and last version, and the cursor of the last event."""

    version: Version
    first_version: Version
    cursor: Cursor
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Shard:
    """Under which ownership an append is made: refused when another epoch holds the shard."""

    id: int
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Idempotent:
    """Which request an append answers; a repeat gets the stored answer."""

    scope: str
    key: str
    request_hash: bytes
    tenant: str = ""


# What an append may carry besides events; written in its transaction.


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """Something to be sent after the commit, in order per key, at least once."""

    message_id: UUID
    kind: str
    target: str
    key: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetTimer:
    """A timer to be set in the append's transaction; it survives every restart."""

    timer_id: UUID
    address: str
    name: str
    token: str
    due_at: datetime
    payload: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """A timer to be cancelled in the append's transaction; no effect once it has fired."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class CloseTimer:
    """A delivered timer that this append handles; it is not delivered again."""

    timer_id: UUID


TimerChange: TypeAlias = SetTimer | CancelTimer | CloseTimer


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """One append with all that stands in its transaction; checked when made."""

    stream_id: StreamId
    events: Sequence[NewEvent]
    expected: ExpectedVersion = ANY
    shard: Shard | None = None
    outbox: Sequence[OutboxMessage] = ()
    timers: Sequence[TimerChange] = ()
    idempotency: Idempotent | None = None
    # The consumer that handles a message with this append, and the message's id.
    inbox: tuple[str, UUID] | None = None

    def __post_init__(self) -> None:
        if not self.events:
            raise EmptyAppend(self.stream_id)
        if len(self.events) > APPEND_EVENTS_MAX:
            raise AppendTooLarge(self.stream_id, len(self.events), APPEND_EVENTS_MAX)
        if not isinstance(self.expected, Expected) and self.expected < 0:
            raise ValueError(f"expected must be at least 0, got {self.expected}")

    @property
    def is_plain(self) -> bool:
        """Call this to ask whether only events are written."""
        return not (self.shard or self.outbox or self.timers or self.idempotency or self.inbox)


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the global order: its events, where to go on, and where the order ends.

    `next` may lie behind the last event: what lies between was left out by a filter.
    """

    events: Sequence[StoredEvent]
    next: Cursor
    head: Cursor

    @property
    def is_last(self) -> bool:
        """Call this to ask whether nothing more can be read now."""
        return self.next >= self.head


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a reader is behind: events it has not read, and the age of the oldest of them."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream in a list: how long it is and when it was last written."""

    stream_id: str
    version: Version
    last_recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state kept to shorten loading; `schema` says which code can read it."""

    stream_id: str
    version: Version
    schema: str
    data: bytes
