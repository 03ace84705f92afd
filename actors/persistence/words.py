"""The nouns of the event store: streams, versions, cursors, events, appends, pages.

Frozen data only. `event_store.py` says what a store does with them, `event_types.py` how a
program's own event classes become stored ones and back.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from actors.persistence.errors import (
    AppendTooLarge,
    EmptyAppend,
    EventTooLarge,
    InvalidField,
    InvalidStreamId,
    InvalidTenant,
)
from actors.persistence.private import Opened, Unsealed

# The key of a row and of an index entry; longer names are somebody's text.
STREAM_ID_BYTES_MAX = 255

# As long as a correlation id, and of the same characters: what an edge lets through.
TENANT_BYTES_MAX = 64
# With the two marks of a tenant's names around it.
KEY_OF_STREAM_BYTES_MAX = STREAM_ID_BYTES_MAX + TENANT_BYTES_MAX + 2

# One transaction holds its locks for as long as it writes; more is a batch or a mistake.
APPEND_EVENTS_MAX = 1000
# The same of a batch: its requests, and the events of all of them.
BATCH_REQUESTS_MAX = 1000
# See the line above.
BATCH_EVENTS_MAX = 10_000

# An event is read by everything that ever replays the stream; blobs belong elsewhere.
EVENT_BYTES_MAX = 64 * 1024

# Names of types, codecs, consumers: what somebody typed into a program.
NAME_BYTES_MAX = 255

# Keys and addresses, made of other names. Up to two stand in one entry of an index with shorter
# ones, and an entry holds 2,700 bytes.
KEY_BYTES_MAX = 1024

# Correlation, causation, the headers of a trace, of which one may take 8 KiB.
METADATA_BYTES_MAX = 16 * 1024

# A state that is larger than many pages of events helps nobody to load it.
SNAPSHOT_BYTES_MAX = 16 * 1024 * 1024

# A relay holds a hundred messages at once.
MESSAGE_BYTES_MAX = 1024 * 1024

# Each tag of an append, of its condition or of a query is a lock in memory that all share: of 64 a
# pool of ten connections takes a tenth of what a server has by default.
TAGS_MAX = 64
# Each is looked up by itself.
QUERY_ITEMS_MAX = 64

# What the database's integers hold; versions leave room for one append on top.
INT_MAX = 2**31 - 1
BIGINT_MAX = 2**63 - 1
VERSION_MAX = BIGINT_MAX - APPEND_EVENTS_MAX

# What is read at once: constant memory, however long a stream or the log is.
PAGE_LIMIT = 500

# More at once is a loop that was not written: of the largest events it would be 640 MB.
READ_LIMIT_MAX = 10_000

# What a count counts at most: from an index alone it takes some 20 ms, and nobody needs it exactly.
COUNT_MAX = 100_000

# The first is nearly always it, and asking the second takes longer than all other checks.
_MAPPINGS = (dict, Mapping)

# A year away from what a time can be, so that any time zone, and a claim added to it, has room.
_FIRST_YEAR, _LAST_YEAR = 2, 9998
# A hundred years: more is no delay but a mistake, and any of it can be added to a time of ours.
DELAY_MAX = timedelta(days=36_500)

# Types that begin so are the store's own, and say what became of a stream. They stand in its last
# place while they hold, so whoever knows the last event knows whether another may follow.
SYSTEM_MARK = "$"
# It takes no events.
ARCHIVED = "$archived"
# It takes events again.
REOPENED = "$reopened"
# It is gone for ever.
TOMBSTONED = "$tombstoned"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CATEGORY = re.compile(r"[a-z][a-z0-9_]*")
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")

# A tenant's streams stand in one table with all others, as `@tenant/name`. No stream's own name
# begins with this mark, and no tenant's has a slash: so nobody can name what is another's.
TENANT_MARK = "@"

Version: TypeAlias = int
"""The number of an event in its stream, from 1 on; 0 is a stream that is not there."""


# What a store can keep, asked when a value is made.


def check_text(field: str, value: object, bytes_max: int = NAME_BYTES_MAX) -> int:
    """Call this for the bytes of a text that can be stored; else raises `InvalidField`."""
    if not isinstance(value, str):
        raise InvalidField(field, f"is no text but {type(value).__name__}")
    if "\x00" in value:
        raise InvalidField(field, "has a NUL, which no text of a database can hold")
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise InvalidField(field, "has half of a surrogate pair") from None
    if size > bytes_max:
        raise InvalidField(field, f"takes {size} bytes, the limit is {bytes_max}")
    return size


def check_texts(field: str, texts: object, bytes_max: int = METADATA_BYTES_MAX) -> None:
    """Call this to check a mapping of texts to texts; raises `InvalidField`."""
    if not isinstance(texts, _MAPPINGS):
        raise InvalidField(field, f"is no mapping but {type(texts).__name__}")
    try:
        # All at once: nearly every mapping is right, and this runs for every event.
        together = "".join(texts) + "".join(texts.values())
        if together.isascii() and "\x00" not in together and len(together) <= bytes_max:
            return
    except TypeError:
        pass  # told below
    size = 0
    for key, value in texts.items():
        size += check_text(f"a key of {field}", key, bytes_max)
        size += check_text(f"a value of {field}", value, bytes_max)
    if size > bytes_max:
        raise InvalidField(field, f"takes {size} bytes, the limit is {bytes_max}")


def check_bytes(field: str, value: object, bytes_max: int) -> None:
    """Call this to check bytes; raises `InvalidField`."""
    if not isinstance(value, bytes):
        raise InvalidField(field, f"is no bytes but {type(value).__name__}")
    if len(value) > bytes_max:
        raise InvalidField(field, f"takes {len(value)} bytes, the limit is {bytes_max}")


def check_integer(
    field: str, value: object, least: int | None = None, most: int | None = None
) -> None:
    """Call this to check a number, its bounds included; raises `InvalidField`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidField(field, f"is no integer but {type(value).__name__}")
    if least is not None and value < least:
        raise InvalidField(field, f"must be at least {least}, got {value}")
    if most is not None and value > most:
        raise InvalidField(field, f"must be at most {most}")


def check_tags(field: str, tags: object) -> None:
    """Call this to check tags: distinct texts, none empty; raises `InvalidField`."""
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise InvalidField(field, f"is no list of texts but {type(tags).__name__}")
    if len(tags) > TAGS_MAX:
        raise InvalidField(field, f"has {len(tags)} texts, the limit is {TAGS_MAX}")
    for tag in tags:
        if not check_text(f"one of {field}", tag):
            raise InvalidField(field, "has an empty text")
    if len(set(tags)) < len(tags):
        raise InvalidField(field, "has one text twice")


def check_uuid(field: str, value: object) -> None:
    """Call this to check an id; raises `InvalidField`."""
    if not isinstance(value, UUID):
        raise InvalidField(field, f"is no UUID but {type(value).__name__}")


def check_time(field: str, value: object) -> None:
    """Call this to check a time; raises `InvalidField`."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidField(field, "is no time with a time zone")
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise InvalidField(field, f"is not in the years {_FIRST_YEAR} to {_LAST_YEAR}")


def check_delay(field: str, value: object) -> None:
    """Call this to check how long something takes or is ago; raises `InvalidField`."""
    if not isinstance(value, timedelta):
        raise InvalidField(field, f"is no timedelta but {type(value).__name__}")
    if not timedelta(0) <= value <= DELAY_MAX:
        raise InvalidField(field, f"must be from 0 to {DELAY_MAX.days} days")


def check_row(id_: object) -> None:
    """Call this with the number of a row; raises `InvalidField`."""
    check_integer("an id", id_, 0, BIGINT_MAX)


def check_a(field: str, value: object, kind: type) -> None:
    """Call this to check what has a class of its own; raises `InvalidField`."""
    if not isinstance(value, kind):
        raise InvalidField(field, f"is no {kind.__name__} but {type(value).__name__}")


def check_list(field: str, value: object) -> list[object]:
    """Call this for several values as a list, of which one text is none; `InvalidField`."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidField(field, f"is no list but {type(value).__name__}")
    return list(value)


class StreamId(str):
    """The name of a stream, `category-id`; raises `InvalidStreamId` when it breaks a rule.

    1 to 255 bytes of UTF-8 without control characters; the category is `[a-z][a-z0-9_]*`
    and ends at the first hyphen.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> StreamId:
        """Call this with the whole name."""
        if not isinstance(value, str):
            raise InvalidField("a stream id", f"is no text but {type(value).__name__}")
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


def check_stream(value: str) -> None:
    """Call this with a stream's name that may have come without its type; `InvalidStreamId`."""
    if type(value) is not StreamId:
        StreamId(value)


def check_tenant(value: object) -> None:
    """Call this with the name of a tenant; raises `InvalidTenant`."""
    if not isinstance(value, str):
        raise InvalidField("a tenant", f"is no text but {type(value).__name__}")
    if _TENANT.fullmatch(value) is None:
        raise InvalidTenant(value)


def owned_name(tenant: str | None, name: str) -> str:
    """Call this for the name that tells a stream, a tag or a subject from all tenants' others.

    `@acme/order-1` for `order-1` of `acme`; what is no tenant's has its own name.
    """
    return name if tenant is None else f"{TENANT_MARK}{tenant}/{name}"


def split_name(owned: str) -> tuple[str | None, str]:
    """Call this for the tenant and the name that `owned_name` made one of.

    What stands before the slash has to be a tenant's name: a letter of a program of before may
    speak of any text, such as `@a b/c`, and is no tenant's.
    """
    if not owned.startswith(TENANT_MARK):
        return None, owned
    tenant, slash, name = owned[1:].partition("/")
    return (tenant, name) if slash and _TENANT.fullmatch(tenant) else (None, owned)


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
        # Shorter than any that could be beyond the database's numbers, or take long to read.
        if len(txid) > 18 or len(position) > 18:
            raise ValueError("this is not a cursor: its numbers are too large")
        return cls(int(txid), int(position))


# Before the first event of every store.
START = Cursor(0, 0)
# Behind the last one: where reading backwards begins.
END = Cursor(BIGINT_MAX, BIGINT_MAX)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A cursor with the lineage it belongs to: what is kept of a place outside of the store.

    `str` and `parse` are its text, `lineage:txid.position`. A store whose order was given anew, or
    that went back in time, has another lineage: there a bare cursor would skip events, a bookmark
    is refused with `CursorOutdated`.
    """

    lineage: str
    cursor: Cursor

    def __post_init__(self) -> None:
        if not check_text("lineage", self.lineage):
            raise InvalidField("lineage", "is empty")

    def __str__(self) -> str:
        return f"{self.lineage}:{self.cursor}"

    @classmethod
    def parse(cls, text: str) -> Bookmark:
        """Call this to read `lineage:txid.position`; raises `ValueError` on anything else."""
        lineage, colon, cursor = text.rpartition(":")
        if not colon:
            raise ValueError(f"{text!r} is not a bookmark: it has the form lineage:txid.position")
        return cls(lineage, Cursor.parse(cursor))


class Expected(Enum):
    """What an append expects of its stream when it is not a version."""

    ANY = "any"
    EXISTS = "exists"


# Whatever the stream has: never refused for its version.
ANY = Expected.ANY
# Some event, whichever.
EXISTS = Expected.EXISTS

ExpectedVersion: TypeAlias = Version | Expected
"""What an append may say of the version it was decided on."""


# Without the garbage collector's notice: events hold plain values only, and come by the thousand.
class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """A fact to be stored: its type, its bytes, and who caused it.

    `event_id` is made by the caller, once for each fact: a repeated append with the same
    ids writes nothing twice. `private` has what the store seals before it writes. `tags` name
    what the fact is about, beside its stream, such as `course-7` and `student-3`: it can be read
    by them, and appends can depend on it. `tenant` is that of the store it is given to, which
    fills it in.
    """

    event_id: UUID
    type: str
    data: bytes
    schema_version: int = 1
    metadata: Mapping[str, str] = {}
    codec: str = "json"
    tenant: str | None = None
    private: Unsealed | None = None
    tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        # A struct checks no types when it is made by a program, and what is stored stays: one
        # value of another type would be met by every reader of the log, for ever.
        check_uuid("event_id", self.event_id)
        if not check_text("type", self.type):
            raise InvalidField("type", "is empty")
        if self.type[0] == SYSTEM_MARK:
            raise InvalidField("type", f"begins with {SYSTEM_MARK}, which is for the store's own")
        check_bytes("data", self.data, sys.maxsize)
        if len(self.data) > EVENT_BYTES_MAX:
            raise EventTooLarge(self.type, len(self.data), EVENT_BYTES_MAX)
        if self.schema_version != 1:
            check_integer("schema_version", self.schema_version, 1, INT_MAX)
        if self.codec != "json":
            check_text("codec", self.codec)
        if self.tenant is not None:
            check_tenant(self.tenant)
        if self.metadata != {}:
            check_texts("metadata", self.metadata)
        if self.tags != ():
            check_tags("tags", self.tags)


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """A fact as it is stored, with its place in its stream and in the global order.

    `part` tells apart what one stored fact is read as today, when it was split: their version,
    cursor and id are those of the fact. `data` has private fields sealed, if at all; a store with
    keys gives them beside it, in `private`. `tenant` is whose stream it is, None for those of no
    tenant: only together with it does `stream_id` name one stream.
    """

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
    tags: Sequence[str] = ()
    part: int = 0
    private: Opened | None = None

    @property
    def stream_key(self) -> str:
        """Call this for the name of its stream among those of all tenants: `@acme/order-1`.

        What a projection over all tenants keeps it under. For the streams of no tenant it is
        `stream_id`.
        """
        return owned_name(self.tenant, self.stream_id)

    @property
    def is_system(self) -> bool:
        """Call this to ask whether it is the store's own: its stream was closed or reopened."""
        return self.type.startswith(SYSTEM_MARK)


@dataclass(frozen=True, slots=True)
class Appended:
    """An append is stored: its first and last version, and the cursor of the last event.

    `outbox` has the numbers of its messages there, in their order; none where the store took a
    way that does not tell them, or the append is from before.
    """

    version: Version
    first_version: Version
    cursor: Cursor
    replayed: bool = False
    outbox: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Shard:
    """Under which ownership an append is made: refused when another epoch holds the shard."""

    id: int
    owner: str
    epoch: int

    def __post_init__(self) -> None:
        check_integer("id", self.id, 0, INT_MAX)
        check_text("owner", self.owner)
        check_integer("epoch", self.epoch, 0, BIGINT_MAX)


@dataclass(frozen=True, slots=True)
class ShardLease:
    """What a service works under that the cluster runs once: its shard, instead of an own lease.

    `holds` is asked before each effect that no transaction guards; False as soon as the shard may
    be another's.
    """

    shard: Shard
    holds: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Idempotent:
    """Which request an append answers; a repeat gets the stored answer.

    `tenant` is filled in by a tenant's store; with `Idempotency` alone the caller gives it.
    """

    scope: str
    key: str
    request_hash: bytes
    tenant: str = ""

    def __post_init__(self) -> None:
        check_text("scope", self.scope)
        check_text("key", self.key, KEY_BYTES_MAX)
        check_bytes("request_hash", self.request_hash, NAME_BYTES_MAX)
        if self.tenant != "":
            check_tenant(self.tenant)


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that is held for a minute, until it is finished or abandoned by its holder.

    `token` is made anew for every holder: what a former one says has no effect.
    """

    request: Idempotent
    token: UUID

    def __post_init__(self) -> None:
        check_a("request", self.request, Idempotent)
        check_uuid("token", self.token)


# What an append may carry besides events; written in its transaction.


OUTBOX_KINDS = frozenset({"bus", "command", "mail", "hook"})
# A header: what the message says is nobody's once it was sent or dropped, such as a link that signs
# in. Its payload is removed then, and no dead letter copies it.
FLEETING = "fleeting"


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """Something to be sent after the commit, in order per key, at least once."""

    message_id: UUID
    kind: str
    target: str
    key: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_uuid("message_id", self.message_id)
        check_text("kind", self.kind)
        if self.kind not in OUTBOX_KINDS:
            raise InvalidField("kind", f"is none of {', '.join(sorted(OUTBOX_KINDS))}")
        check_text("target", self.target, KEY_BYTES_MAX)
        check_text("key", self.key, KEY_BYTES_MAX)
        check_bytes("payload", self.payload, MESSAGE_BYTES_MAX)
        check_texts("headers", self.headers)


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

    def __post_init__(self) -> None:
        check_uuid("timer_id", self.timer_id)
        check_text("address", self.address, KEY_BYTES_MAX)
        check_text("name", self.name)
        check_text("token", self.token)
        check_time("due_at", self.due_at)
        check_bytes("payload", self.payload, EVENT_BYTES_MAX)
        check_texts("metadata", self.metadata)


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """A timer to be cancelled in the append's transaction; no effect once it has fired."""

    address: str
    name: str

    def __post_init__(self) -> None:
        check_text("address", self.address, KEY_BYTES_MAX)
        check_text("name", self.name)


@dataclass(frozen=True, slots=True)
class CloseTimer:
    """A delivered timer that this append handles; it is not delivered again."""

    timer_id: UUID

    def __post_init__(self) -> None:
        check_uuid("timer_id", self.timer_id)


# What an append may depend on beside its stream.


@dataclass(frozen=True, slots=True)
class Tagged:
    """Events that have all these tags, and one of these types; without `types`, of any.

    They are looked for by the first tag: name the one first that the fewest events have.
    """

    tags: Sequence[str]
    types: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_tags("tags", self.tags)
        if not self.tags:
            raise InvalidField("tags", "is empty; a query names at least one")
        if isinstance(self.types, str):
            raise InvalidField("types", "is one text; give a list of them")
        for name in self.types:
            check_text("types", name)


# Events that one of these describes.
Query: TypeAlias = Sequence[Tagged]


@dataclass(frozen=True, slots=True)
class Condition:
    """That no event of a query was stored behind a cursor: what was decided on is still all.

    The cursor is `next` of the last page of `EventStore.read_tagged` with the same query, or its
    `bookmark` where it was kept outside of the store; START asks that there is none at all.
    """

    query: Query
    after: Cursor | Bookmark = START

    def __post_init__(self) -> None:
        check_query(self.query)
        check_integer("the txid of a cursor", self.cursor.txid, 0, BIGINT_MAX)
        check_integer("the position of a cursor", self.cursor.position, 0, BIGINT_MAX)

    @property
    def cursor(self) -> Cursor:
        """Call this for the place behind which nothing of the query may stand."""
        return self.after.cursor if isinstance(self.after, Bookmark) else self.after

    @property
    def lineage(self) -> str:
        """Call this for the lineage the store must have; empty for any."""
        return self.after.lineage if isinstance(self.after, Bookmark) else ""


def check_query(query: Query) -> Sequence[str]:
    """Call this for the distinct tags of a query; raises `InvalidField`."""
    given: object = query
    if not isinstance(given, Sequence) or not all(isinstance(one, Tagged) for one in given):
        raise InvalidField("query", "is no list of `Tagged`")
    if not 1 <= len(query) <= QUERY_ITEMS_MAX:
        raise InvalidField("query", f"has {len(query)} items, 1 to {QUERY_ITEMS_MAX} are possible")
    tags = sorted({tag for one in query for tag in one.tags})
    if len(tags) > TAGS_MAX:
        raise InvalidField("query", f"has {len(tags)} tags, the limit is {TAGS_MAX}")
    return tags


TimerChange: TypeAlias = SetTimer | CancelTimer | CloseTimer
"""What an append may do with timers."""


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """One append with all that stands in its transaction; checked when made.

    `tenant` is filled in by a tenant's store.
    """

    stream_id: StreamId
    events: Sequence[NewEvent]
    expected: ExpectedVersion = ANY
    shard: Shard | None = None
    outbox: Sequence[OutboxMessage] = ()
    timers: Sequence[TimerChange] = ()
    idempotency: Idempotent | None = None
    # The consumer that handles a message with this append, and the message's id.
    inbox: tuple[str, UUID] | None = None
    condition: Condition | None = None
    tenant: str | None = None

    def __post_init__(self) -> None:
        check_stream(self.stream_id)
        if self.tenant is not None:
            check_tenant(self.tenant)
        if not isinstance(self.events, Sequence):
            raise InvalidField("events", f"is no list but {type(self.events).__name__}")
        if not self.events:
            raise EmptyAppend(self.stream_id)
        if len(self.events) > APPEND_EVENTS_MAX:
            raise AppendTooLarge(self.stream_id, len(self.events), APPEND_EVENTS_MAX)
        for event in self.events:
            if type(event) is not NewEvent:
                check_a("an event", event, NewEvent)
        # Most bring nothing else.
        beside = (self.shard, self.idempotency, self.inbox, self.outbox, self.timers)
        if beside != (None, None, None, (), ()):
            self._check_what_goes_with_it()
        if self.condition is not None:
            check_a("condition", self.condition, Condition)
        if (self.condition is not None or self.is_tagged) and len(self.tags) > TAGS_MAX:
            why = f"has {len(self.tags)} tags in events and condition, the limit is {TAGS_MAX}"
            raise InvalidField("the append", f"{why}; split it")
        if not isinstance(self.expected, Expected):
            check_integer("expected", self.expected, 0, VERSION_MAX)

    def _check_what_goes_with_it(self) -> None:
        if self.shard is not None:
            check_a("shard", self.shard, Shard)
        if self.idempotency is not None:
            check_a("idempotency", self.idempotency, Idempotent)
        for one in check_list("outbox", self.outbox):
            check_a("a message", one, OutboxMessage)
        for change in check_list("timers", self.timers):
            if not isinstance(change, (SetTimer, CancelTimer, CloseTimer)):
                raise InvalidField("a timer", f"is no change but {type(change).__name__}")
        if self.inbox is not None:
            check_text("the consumer of inbox", self.inbox[0])
            check_uuid("the message id of inbox", self.inbox[1])
        if len({one.message_id for one in self.outbox}) < len(self.outbox):
            raise InvalidField("outbox", "has one message id twice")

    @property
    def key(self) -> str:
        """Call this for the name of its stream among those of all tenants."""
        if self.tenant is None:
            return self.stream_id
        return owned_name(self.tenant, self.stream_id)

    @property
    def is_plain(self) -> bool:
        """Call this to ask whether only events are written, and nothing but its stream counts."""
        return not (
            self.shard
            or self.outbox
            or self.timers
            or self.idempotency
            or self.inbox
            or self.condition
            or self.is_tagged
        )

    @property
    def is_tagged(self) -> bool:
        """Call this to ask whether an event has a tag."""
        # A loop: of the one event that there nearly always is, it is faster than `any`.
        for event in self.events:  # noqa: SIM110
            if event.tags:
                return True
        return False

    @property
    def tags(self) -> Mapping[str, bool]:
        """Call this for the tags of its events (True) and, beside them, of its condition.

        By their own names, as `EventStore.read_tagged` is given them.
        """
        asked = () if self.condition is None else check_query(self.condition.query)
        own = (tag for event in self.events for tag in event.tags)
        return {**dict.fromkeys(asked, False), **dict.fromkeys(own, True)}


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of the global order: its events, where to go on, and where the order ends.

    `next` may lie behind the last event: what lies between was left out by a filter. `lineage` is
    that of the store when the page was read.
    """

    events: Sequence[StoredEvent]
    next: Cursor
    head: Cursor
    lineage: str = ""

    @property
    def bookmark(self) -> Bookmark:
        """Call this for where to go on, to be kept outside of the store."""
        return Bookmark(self.lineage, self.next)

    @property
    def is_last(self) -> bool:
        """Call this to ask whether nothing more can be read now."""
        return self.next >= self.head


@dataclass(frozen=True, slots=True)
class BackwardPage:
    """A stretch of the global order, newest first, and before which cursor to go on.

    `next` may lie far below the last event: what lies between was left out by a filter. `lineage`
    is that of the store when the page was read.
    """

    events: Sequence[StoredEvent]
    next: Cursor
    lineage: str = ""

    @property
    def bookmark(self) -> Bookmark:
        """Call this for where to go on, to be kept outside of the store."""
        return Bookmark(self.lineage, self.next)

    @property
    def is_last(self) -> bool:
        """Call this to ask whether the order's begin is reached."""
        return self.next == START


@dataclass(frozen=True, slots=True)
class Counted:
    """How many events there are; more than these when it is not the whole number."""

    events: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a reader is behind: events it has not read, and the age of the oldest of them."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream in a list: how long it is, when it was last written, whether it is archived."""

    stream_id: str
    version: Version
    last_recorded_at: datetime
    is_archived: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state kept to shorten loading; `schema` says which code can read it.

    `subjects` are those whose private fields its stream has had: it is stored sealed with the
    keys of all of them, and is gone with the first.
    """

    stream_id: str
    version: Version
    schema: str
    data: bytes = field(repr=False)
    subjects: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_stream(self.stream_id)
        check_integer("version", self.version, 1, BIGINT_MAX)
        check_text("schema", self.schema)
        check_bytes("data", self.data, SNAPSHOT_BYTES_MAX)
