"""The nouns of the event bus: records, topics, places, and how a subscription behaves.

A *topic* has partitions; the records of a key are all in one, in their order. A *group* shares
the partitions of its topics among its *members*, and keeps an *offset* for each: up to where it
has handled them. Offsets are cursors; what their numbers say is the engine's business, as is
theirs of two engines to be compared.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

from actors.persistence.bus.errors import BusCodecError, InvalidTopic, RecordTooLarge
from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    BIGINT_MAX,
    KEY_BYTES_MAX,
    METADATA_BYTES_MAX,
    Cursor,
    NewEvent,
    StoredEvent,
    StreamId,
    check_a,
    check_bytes,
    check_integer,
    check_list,
    check_text,
    check_texts,
    check_time,
    check_uuid,
)

# Kafka takes names of up to 249 characters; with `.retry` behind it a topic stays below.
TOPIC_CHARS_MAX = 199
_TOPIC = re.compile(r"[a-z][a-z0-9._-]*")
# Where a group puts aside what it could not handle, and what it gave up.
RETRY, DEAD = ".retry", ".dead"

# Before the topics in a group's name that nobody gave: whose it is, at a broker of many.
GROUP_PREFIX = "greenroom"

PARTITIONS_DEFAULT = 3
# Each is a task, a lease and a row a group.
PARTITIONS_MAX = 256
TOPICS_MAX = 64
# As one statement, and one request to a broker.
PUBLISH_MAX = 1000
# Of key, value and headers: a legal record passes a broker with default settings, 1 MiB.
RECORD_BYTES_MAX = 900_000

# A failure of a moment is over by then, and a partition does not stand long for it.
PLACE_DELAYS_S = (0.1, 0.2, 0.4)
# Those of a restart, of an outage, and of somebody who looks.
PARKED_DELAYS_S = (5.0, 60.0, 600.0)
# What is put aside is kept in hand until it is due.
DELAYS_MAX, DELAY_S_MAX = 10, 3600.0

BUFFER = 1000
BUFFER_MAX = 100_000
# Of one partition at a time in hand: a hundred records, the most of one fetch, of 80 KB each.
PART_BYTES = 8_388_608
PART_BYTES_MAX = 2**31

JSON = "application/json"
EVENT_ID = "event_id"
CONTENT_TYPE = "content_type"
# Of the metadata, what a record has among its headers.
TRACED = ("correlation_id", "causation_id", "traceparent")
# Away for so long is unhealthy; degraded at once.
AWAY_UNHEALTHY_S = 60.0


def check_topic(value: object) -> str:
    """Call this for the name of a topic; raises `InvalidTopic`."""
    if not isinstance(value, str):
        raise InvalidTopic(type(value).__name__, "it is no text")
    if len(value) > TOPIC_CHARS_MAX:
        raise InvalidTopic(value, f"it has {len(value)} characters, the limit is {TOPIC_CHARS_MAX}")
    if _TOPIC.fullmatch(value) is None:
        raise InvalidTopic(value, "it begins with a letter, and has only a-z 0-9 . _ -")
    return value


def check_group(value: object) -> str:
    """Call this for the name of a group; raises `InvalidField`."""
    if not check_text("group", value):
        raise InvalidField("group", "is empty")
    return str(value)


def default_group(topics: Sequence[str]) -> str:
    """Call this for the group of a subscription that names none: one for each set of topics."""
    return "-".join([GROUP_PREFIX, *sorted(topics)])


def check_partitions(value: object) -> None:
    """Call this for how many partitions a topic has; raises `InvalidField`."""
    check_integer("partitions", value, 1, PARTITIONS_MAX)


def check_topics(value: object) -> Sequence[str]:
    """Call this for the topics of a subscription; raises `InvalidTopic` or `InvalidField`."""
    topics = [check_topic(one) for one in check_list("topics", value)]
    if not 1 <= len(topics) <= TOPICS_MAX:
        raise InvalidField("topics", f"has {len(topics)} names, and may have 1 to {TOPICS_MAX}")
    if len(set(topics)) < len(topics):
        raise InvalidField("topics", "has one name twice")
    for topic in topics:
        if topic.endswith((RETRY, DEAD)):
            raise InvalidTopic(topic, "the bus itself fills and reads it")
        check_topic(topic + RETRY)
    return topics


def partition_for(key: str, partitions: int) -> int:
    """Call this for the partition of a key: alike in all engines, and Kafka's own clients."""
    return crc32(key.encode()) % partitions


@dataclass(frozen=True, slots=True)
class Record:
    """What is published: the bytes of an event, under the key whose order it keeps.

    `headers` say what the value is; `event_id` and `content_type` are added to them on the way.
    """

    event_id: UUID
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_uuid(EVENT_ID, self.event_id)
        if not check_text("key", self.key, KEY_BYTES_MAX):
            raise InvalidField("key", "is empty")
        # How large all may be together is the topic's to tell.
        check_bytes("value", self.value, 2**31)
        check_texts("headers", self.headers, METADATA_BYTES_MAX)

    @classmethod
    def of_append(cls, stream: StreamId, version: int, event: NewEvent) -> "Record":
        """Call this for an event as the append will store it that publishes it.

        As `of_event`, but that the log alone knows its place there and when it was recorded.
        """
        headers = {
            "stream_id": stream,
            "version": str(version),
            "event_type": event.type,
            "schema_version": str(event.schema_version),
            **{name: event.metadata[name] for name in TRACED if name in event.metadata},
        }
        return cls(event.event_id, stream, event.data, headers)

    @classmethod
    def of_event(cls, event: StoredEvent) -> "Record":
        """Call this for a stored event as others get it; private fields stay sealed."""
        headers = {
            "stream_id": event.stream_key,
            "version": str(event.version),
            "event_type": event.type,
            "schema_version": str(event.schema_version),
            "cursor": str(event.cursor),
            "recorded_at": event.recorded_at.isoformat(),
        }
        headers |= {name: event.metadata[name] for name in TRACED if name in event.metadata}
        if event.tenant is not None:
            headers["tenant"] = event.tenant
        return cls(event.event_id, event.stream_key, event.data, headers)

    @property
    def wire_headers(self) -> dict[str, str]:
        """Call this for the headers as they travel."""
        named = {CONTENT_TYPE: JSON, **self.headers}
        return {**named, EVENT_ID: str(self.event_id)}

    @property
    def size(self) -> int:
        """Call this for the bytes of key, value and headers."""
        headers = self.wire_headers
        texts = sum(len(name.encode()) + len(text.encode()) for name, text in headers.items())
        return len(self.key.encode()) + len(self.value) + texts


def check_records(topic: str, records: object) -> Sequence[Record]:
    """Call this before any I/O with what is to be published."""
    check_topic(topic)
    listed = check_list("records", records)
    if not 1 <= len(listed) <= PUBLISH_MAX:
        raise InvalidField("records", f"has {len(listed)}, and may have 1 to {PUBLISH_MAX}")
    checked: list[Record] = []
    for one in listed:
        check_a("a record", one, Record)
        assert isinstance(one, Record), "it was just checked"
        if one.size > RECORD_BYTES_MAX:
            raise RecordTooLarge(topic, one.size, RECORD_BYTES_MAX)
        checked.append(one)
    return checked


class Part(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as an engine has it: nothing of it is known to be right."""

    part: Part
    offset: Cursor
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    published_at: datetime

    @property
    def size(self) -> int:
        """Call this for the bytes of key, value and headers."""
        texts = sum(len(name.encode()) + len(text) for name, text in self.headers.items())
        return len(self.key) + len(self.value) + texts


def within(raws: Sequence[RawRecord], bytes_max: int) -> Sequence[RawRecord]:
    """Call this for the first records that take so many bytes together, at least one."""
    size = 0
    for count, raw in enumerate(raws):
        size += raw.size
        if count and size > bytes_max:
            return raws[:count]
    return raws


@dataclass(frozen=True, slots=True)
class Received:
    """A record as a handler is given it; `topic` is where it was published.

    `attempt` counts from 1; above, the record was handled before and failed. What was put aside is
    read from another topic, which has the partition and the offset then.
    """

    topic: str
    partition: int
    offset: Cursor
    record: Record
    published_at: datetime
    attempt: int = 1


def read_record(raw: RawRecord) -> Record:
    """Call this for the record in raw bytes; raises `BusCodecError`."""
    try:
        headers = {name: text.decode() for name, text in raw.headers.items()}
        key = raw.key.decode()
    except UnicodeDecodeError:
        raise BusCodecError("its key or a header is no UTF-8") from None
    event_id = headers.pop(EVENT_ID, None)
    if event_id is None:
        raise BusCodecError("it has no event_id")
    try:
        return Record(UUID(event_id), key, raw.value, headers)
    except ValueError as error:
        told = error.why if isinstance(error, InvalidField) else "its event_id is no UUID"
        raise BusCodecError(told) from None


class StartAt(StrEnum):
    """Where a group begins that was never there."""

    EARLIEST = "earliest"
    LATEST = "latest"


# Where a group is moved to: the ends, a time, or an offset.
Goal = StartAt | datetime | Cursor


def check_goal(group: object, goal: object, topic: object) -> None:
    """Call this with who is moved where, of which topic; raises `InvalidField`."""
    check_group(group)
    if isinstance(goal, datetime):
        check_time("goal", goal)
    elif isinstance(goal, Cursor):
        check_integer("goal", goal.txid, 0, BIGINT_MAX)
        check_integer("goal", goal.position, 0, BIGINT_MAX)
    else:
        check_a("goal", goal, StartAt)
    if topic is not None:
        check_topic(topic)


class Guard(StrEnum):
    """What keeps a handler's effect from happening twice, when a record comes twice.

    `INBOX`: it writes its inbox row, by the group's name, in the append of its effect; and
    `AlreadyHandled` means handled. `TRANSACTION`: the engine runs it in the transaction that notes
    row and offset. `IDEMPOTENT`: nothing, and twice is as good as once.
    """

    INBOX = "inbox"
    TRANSACTION = "transaction"
    IDEMPOTENT = "idempotent"


class OnFailure(StrEnum):
    """What becomes of a record whose handler raises.

    `PARK`: it is tried three times more in place and then put aside, with all later ones of its
    key; other keys flow on. `BLOCK`: it is tried for ever, and its partition stands. `SKIP`: it is
    a dead letter at once.
    """

    PARK = "park"
    BLOCK = "block"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """How a subscription behaves; `buffer` bounds the records it has fetched and not handled.

    `part_bytes` bounds the bytes of those of one partition, and again of what it has put aside;
    one record is always fetched, however large.
    With `OnFailure.PARK` a record is tried again in place after each of `place_delays_s`, then
    aside after each of `parked_delays_s`, with one try each.
    """

    guard: Guard
    on_failure: OnFailure = OnFailure.PARK
    start_at: StartAt = StartAt.EARLIEST
    buffer: int = BUFFER
    part_bytes: int = PART_BYTES
    place_delays_s: Sequence[float] = PLACE_DELAYS_S
    parked_delays_s: Sequence[float] = PARKED_DELAYS_S

    def __post_init__(self) -> None:
        check_a("guard", self.guard, Guard)
        check_a("on_failure", self.on_failure, OnFailure)
        check_a("start_at", self.start_at, StartAt)
        check_integer("buffer", self.buffer, 1, BUFFER_MAX)
        check_integer("part_bytes", self.part_bytes, 1, PART_BYTES_MAX)
        _check_delays("place_delays_s", self.place_delays_s, 0)
        _check_delays("parked_delays_s", self.parked_delays_s, 1)


def _check_delays(field_: str, delays: object, least: int) -> None:
    listed = check_list(field_, delays)
    if not least <= len(listed) <= DELAYS_MAX:
        raise InvalidField(field_, f"has {len(listed)}, and may have {least} to {DELAYS_MAX}")
    for one in listed:
        if not isinstance(one, (int, float)) or not 0 <= one <= DELAY_S_MAX:
            raise InvalidField(field_, f"has one that is not from 0 to {DELAY_S_MAX:.0f}")


@dataclass(frozen=True, slots=True)
class PartLag:
    """How far a group is behind in a partition; `seconds` is the age of the oldest unhandled."""

    topic: str
    partition: int
    records: int
    seconds: float
    handled_at: datetime | None


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic and how many partitions it has."""

    name: str
    partitions: int


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group: its topics, its living members, when one was last seen, whether it is counted.

    One that is silent for as long as records are kept is counted no more: nothing is kept for it.
    """

    name: str
    topics: Sequence[str]
    members: int
    seen_at: datetime | None
    is_counted: bool = True


class BusState(StrEnum):
    """How the bus is, in the words of health."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class BusHealth:
    """How the bus is: degraded as soon as it is away, unhealthy after a minute."""

    state: BusState
    away_s: float
    reason: str

    @classmethod
    def after(cls, away_s: float, reason: str) -> "BusHealth":
        """Call this with how long it is away, 0.0 when it is there."""
        if not reason:
            return cls(BusState.HEALTHY, 0.0, "")
        is_long = away_s >= AWAY_UNHEALTHY_S
        return cls(BusState.UNHEALTHY if is_long else BusState.DEGRADED, away_s, reason)
