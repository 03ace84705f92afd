"""What must not be lost and could not be handled: one table for all kinds, and its rules.

The runtime's own ring of lost messages is another thing (`system.dead_letters`): that one
is for looking, this one is kept until somebody has decided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, Self
from uuid import UUID

from actors.persistence.errors import ForeignTenant, InvalidField, StoreMisuse
from actors.persistence.words import (
    BIGINT_MAX,
    INT_MAX,
    KEY_BYTES_MAX,
    READ_LIMIT_MAX,
    check_a,
    check_bytes,
    check_integer,
    check_row,
    check_tenant,
    check_text,
    check_texts,
    check_uuid,
    owned_name,
    split_name,
)
from actors.runtime.words.showing import redact_text

# Larger payloads are kept by reference to their event.
PAYLOAD_BYTES_MAX = 256 * 1024
# Of a chain of errors: nobody reads more of them, nor longer ones.
CHAIN_MAX, CHAIN_CHARS_MAX = 12, 500
# What is kept of an error: a person reads it, and some quote a whole page.
ERROR_CHARS_MAX = 8192
# That of the message, and what its handler adds.
LETTER_METADATA_BYTES_MAX = 64 * 1024
# The table is bounded; the oldest final rows make room, pending ones never do.
ROWS_MAX = 100_000
# Health tells at half: what fills it goes on failing, and there is still time to look.
FULL_DEGRADED = 0.5
# A worker that died with a row in hand has it taken away after this.
CLAIM = timedelta(seconds=60)

# Lines of the audit are kept for a year, as others of their sort.
AUDIT_KEPT = timedelta(days=365)

# The kind of a message that its relay gave up; its message id is that of the row in the outbox.
OUTBOX = "outbox"
# The kind of a parked event, and what has the timers' letters.
PROJECTION = "projection"
TIMERS = "timers"
KINDS = ("message", "effect", "event", PROJECTION, "bus", OUTBOX, "mail", "saga")


def storable(text: str) -> str:
    """Call this for text of others: NUL and halves of surrogate pairs, which no store takes, go."""
    text = text.replace("\x00", "\ufffd")
    return text.encode(errors="replace").decode()


def words_of(error: BaseException) -> str:
    """Call this for the class and text of an error, whatever they are: short, and storable."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  (its own code; the failure must be kept all the same)
        text = "(its text cannot be made)"
    return storable(f"{type(error).__name__}: {text}"[:ERROR_CHARS_MAX])


def chain_of(error: BaseException, *, has_texts: bool = True) -> str:
    """Call this for what led to an error, a line each: the error first, then what caused it.

    Each line has the class, the text, and the place in the program that raised it. Without texts
    where they may quote what nobody should read.
    """
    lines: list[str] = []
    seen: set[int] = set()
    waiting: list[tuple[str, BaseException]] = [("", error)]
    while waiting and len(lines) < CHAIN_MAX:
        mark, one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        words = words_of(one).splitlines()[0] if has_texts else type(one).__name__
        lines.append(f"{mark}{redact_text(words[:CHAIN_CHARS_MAX])}{_place_of(one)}")
        if isinstance(one, BaseExceptionGroup):
            waiting += [("of it: ", part) for part in one.exceptions]
        cause = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if cause is not None:
            waiting.append(("caused by: " if one.__cause__ else "while handling: ", cause))
    return storable("\n".join(lines)[:ERROR_CHARS_MAX])


def _place_of(error: BaseException) -> str:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return ""
    code = step.tb_frame.f_code
    return f" ({step.tb_frame.f_globals.get('__name__', '?')}:{step.tb_lineno}, {code.co_name})"


def outbox_id(message_id: str) -> int | None:
    """Call this for the row in the outbox that a letter of kind `outbox` speaks of."""
    is_number = message_id.isascii() and message_id.isdigit() and len(message_id) < 19
    return int(message_id) if is_number else None


def timer_of(kind: str, source: str, message_id: str) -> UUID | None:
    """Call this for the timer that a letter speaks of; None when it speaks of none."""
    if (kind, source) != ("message", TIMERS):
        return None
    try:
        return UUID(message_id)
    except ValueError:
        return None


def speaks_of(kind: str, source: str, message_id: str) -> int | UUID | None:
    """Call this for the message or timer that a letter speaks of; None when it is none of them."""
    return outbox_id(message_id) if kind == OUTBOX else timer_of(kind, source, message_id)


# Notes of the audit.
HANDED_BACK = "handed back to be tried again"
REPLAY_WISHED = "asked to be replayed"
REMOVED = "the generation that it speaks of was removed, long after it had been retired"
EDITED = "edited: "
# Who gives up what nobody can try again.
RETENTION = "retention"
# Why one cannot be handed back.
GONE = "what it speaks of is not waiting any more"
NOT_PARKED = "its event was left out, nothing waits behind it; rebuild the projection"
NEVER_CHANGES = "it speaks of an event, and events never change; write an upcaster, or discard it"
NOT_KEPT = "its payload is kept elsewhere, or not at all"
OF_A_PROGRAM = "only the program that knows its kind can try it again, with DeadLetters.retry"


class DeadLetterStatus(StrEnum):
    """Where a dead letter stands; the last two are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


# from -> allowed to.
TRANSITIONS: Mapping[DeadLetterStatus, frozenset[DeadLetterStatus]] = {
    DeadLetterStatus.PENDING: frozenset({DeadLetterStatus.PROCESSING, DeadLetterStatus.DISCARDED}),
    DeadLetterStatus.PROCESSING: frozenset({DeadLetterStatus.RESOLVED, DeadLetterStatus.PENDING}),
    DeadLetterStatus.RESOLVED: frozenset(),
    DeadLetterStatus.DISCARDED: frozenset(),
}


class InvalidTransition(StoreMisuse):
    """Raised when a dead letter cannot go from where it stands to where it was sent."""

    code = "invalid_transition"

    def __init__(self, id_: int, from_: str, to: str) -> None:
        super().__init__(f"dead letter {id_} is {from_} and cannot become {to}; nothing was done")
        self.id, self.from_, self.to = id_, from_, to


class UnknownDeadLetter(StoreMisuse, LookupError):
    """Raised for an id that no dead letter has, or has no more."""

    code = "unknown_dead_letter"

    def __init__(self, id_: int) -> None:
        super().__init__(f"there is no dead letter {id_}")
        self.id = id_


class NotHandedBack(StoreMisuse):
    """Raised for a dead letter that nothing here can try again; nothing was done."""

    code = "not_handed_back"

    def __init__(self, id_: int, why: str) -> None:
        super().__init__(f"dead letter {id_} cannot be handed back: {why}; nothing was done")
        self.id, self.why = id_, why


class NotEdited(StoreMisuse):
    """Raised for a dead letter whose payload nobody may change; nothing was done."""

    code = "not_edited"

    def __init__(self, id_: int, why: str) -> None:
        super().__init__(f"dead letter {id_} cannot be edited: {why}; nothing was done")
        self.id, self.why = id_, why


class LetterChanged(StoreMisuse):
    """Raised when a payload is not any more what the editor saw: somebody was faster.

    Nothing was done. Read it again, and edit that.
    """

    code = "letter_changed"

    def __init__(self, id_: int) -> None:
        super().__init__(f"dead letter {id_} was changed by somebody else; nothing was done")
        self.id = id_


class DeadLettersFull(StoreMisuse):
    """Raised when all rows are pending: nothing may be dropped, so nothing can be added."""

    code = "dead_letters_full"

    def __init__(self, limit: int) -> None:
        super().__init__(f"all {limit} dead letters are pending; resolve or discard some")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """Something that could not be handled, with all that is needed to try again.

    `tenant` is whose it is, with the names of stream and message: filled in by a tenant's view.
    """

    kind: str
    source: str
    message_id: str
    error_message: str
    error_details: str = ""
    payload: bytes | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_id: str | None = None
    event_id: UUID | None = None
    event_type: str | None = None
    event_version: int | None = None
    # The place of a parked event in its stream; None when nothing waits behind the letter.
    stream_version: int | None = None
    tenant: str | None = None

    def __post_init__(self) -> None:
        if self.tenant is not None:
            check_tenant(self.tenant)
        elif self.stream_id is not None:
            check_text("stream_id", self.stream_id)
            if split_name(self.stream_id)[0] is not None:
                raise InvalidField("stream_id", "is a tenant's, @tenant/name; name the tenant")
        if self.kind not in KINDS:
            raise InvalidField("kind", f"is none of {', '.join(KINDS)}")
        check_text("source", self.source, KEY_BYTES_MAX)
        check_text("message_id", self.message_id, KEY_BYTES_MAX)
        # Somebody else's words: no reason to lose the failure.
        for name in ("error_message", "error_details"):
            check_a(name, getattr(self, name), str)
            object.__setattr__(self, name, storable(getattr(self, name)))
        if self.event_id is not None:
            check_uuid("event_id", self.event_id)
            # What is larger stands in the event.
            if isinstance(self.payload, bytes) and len(self.payload) > PAYLOAD_BYTES_MAX:
                object.__setattr__(self, "payload", None)
            if _size_of(self.metadata) > LETTER_METADATA_BYTES_MAX:
                object.__setattr__(self, "metadata", {})
        if self.payload is not None:
            check_bytes("payload (of no event)", self.payload, PAYLOAD_BYTES_MAX)
        check_texts("metadata", self.metadata, LETTER_METADATA_BYTES_MAX)
        for name in ("stream_id", "event_type"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        for name, most in (("event_version", INT_MAX), ("stream_version", BIGINT_MAX)):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 0, most)

    @property
    def stream_key(self) -> str | None:
        """Call this for the name of its stream among those of all tenants; None without one.

        For a tenant's letter of no stream it is the begin of all names of that tenant.
        """
        if self.tenant is None and self.stream_id is None:
            return None
        return owned_name(self.tenant, self.stream_id or "")

    @property
    def message_key(self) -> str:
        """Call this for the id of its message among those of all tenants."""
        return owned_name(self.tenant, self.message_id)


def _size_of(metadata: Mapping[str, str]) -> int:
    try:
        return sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    except (AttributeError, UnicodeEncodeError):
        return 0  # told by its check


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as it is kept.

    `next_retry_at` stands while somebody's wish to have its stream replayed waits, from this one
    on: since when whoever runs the projection may do so.
    """

    id: int
    letter: NewDeadLetter
    retry_count: int
    status: DeadLetterStatus
    first_failed_at: datetime
    last_failed_at: datetime
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution_notes: str | None = None
    next_retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LetterChange:
    """One line of the audit: who moved a dead letter from where to where, or edited it."""

    id: int
    by: str
    from_status: DeadLetterStatus
    to_status: DeadLetterStatus
    notes: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetterCounts:
    """How many there are of each status, and how full the table of `rows_max` is."""

    by_status: Mapping[DeadLetterStatus, int]
    fullness: float
    rows_max: int = ROWS_MAX

    @property
    def health(self) -> str:
        """Call this for the word health checks show: `unhealthy` when no more can be added."""
        # Final ones make room; those that are open never do.
        open_ones = (DeadLetterStatus.PENDING, DeadLetterStatus.PROCESSING)
        if sum(self.by_status.get(status, 0) for status in open_ones) >= self.rows_max:
            return "unhealthy"
        return "degraded" if self.fullness > FULL_DEGRADED else "healthy"


# What is asked of a caller before any I/O, by every engine. Each raises `InvalidField`.


def check_query(
    status: DeadLetterStatus | None,
    kind: str | None,
    source: str | None,
    limit: int,
    after: int | None,
) -> None:
    """Call this with which letters are asked for."""
    if status is not None:
        check_a("status", status, DeadLetterStatus)
    for field_, text in (("kind", kind), ("source", source)):
        if text is not None:
            check_text(field_, text, KEY_BYTES_MAX)
    check_integer("limit", limit, 1, READ_LIMIT_MAX)
    if after is not None:
        check_integer("after", after, 0, BIGINT_MAX)


def check_change(id_: int, by: str, words: str = "") -> None:
    """Call this with who changes a letter's status, and what they say."""
    check_row(id_)
    check_text("by", by)
    check_a("what is said", words, str)


def check_edit(id_: int, seen: bytes, payload: bytes, by: str, notes: str) -> None:
    """Call this with what somebody makes of a payload."""
    check_change(id_, by, notes)
    check_bytes("seen", seen, PAYLOAD_BYTES_MAX)
    check_bytes("payload", payload, PAYLOAD_BYTES_MAX)


def check_editable(stored: StoredDeadLetter, seen: bytes) -> None:
    """Call this in the transaction of an edit, with the letter as it is locked.

    Raises `InvalidTransition` for one that is settled or in hand, `NotEdited` for what never
    changes, `LetterChanged` when its payload is not what was seen.
    """
    if stored.status is not DeadLetterStatus.PENDING:
        raise InvalidTransition(stored.id, stored.status, DeadLetterStatus.PENDING)
    letter = stored.letter
    if letter.kind == PROJECTION or letter.event_id is not None:
        raise NotEdited(stored.id, NEVER_CHANGES)
    if letter.payload is None:
        raise NotEdited(stored.id, NOT_KEPT)
    if letter.payload != seen:
        raise LetterChanged(stored.id)


def owned_letter(letter: NewDeadLetter, tenant: str | None) -> NewDeadLetter:
    """Call this first when a letter is added, for the letter as one of a view's tenant.

    Raises `ForeignTenant` when it is another's. Where there is no tenant it may be anybody's.
    """
    check_a("letter", letter, NewDeadLetter)
    if tenant is None or letter.tenant == tenant:
        return letter
    if letter.tenant is not None:
        raise ForeignTenant(tenant, letter.tenant)
    return replace(letter, tenant=tenant)


class DeadLetters(Protocol):
    """The kept failures. Each change of status is audited with who made it.

    A tenant's view has the letters of that tenant, and no other has an id there. The table is
    one: a letter may find it full of others', and the upkeep is not a view's.
    """

    def for_tenant(self, tenant: str) -> Self:
        """Call this for the letters of a tenant; as `EventStore.for_tenant`."""
        ...

    async def add(self, letter: NewDeadLetter) -> int:
        """Call this to keep a failure; one with an open letter raises its `retry_count`.

        Its letter is known by (kind, source, message id), and is pending again when it was in
        hand. A settled letter stays as it is, and the failure gets a new one. Raises
        `DeadLettersFull` when a new one finds only open ones.
        """
        ...

    async def get(self, id_: int) -> StoredDeadLetter:
        """Call this for one; `UnknownDeadLetter` when there is none."""
        ...

    async def list(
        self,
        *,
        status: DeadLetterStatus | None = None,
        kind: str | None = None,
        source: str | None = None,
        limit: int = 50,
        after: int | None = None,
    ) -> Sequence[StoredDeadLetter]:
        """Call this for a page by id, after a given one."""
        ...

    async def retry(self, id_: int, by: str = "worker") -> StoredDeadLetter:
        """Call this to take a pending one in hand; its metadata gains `retry_of`.

        Then `resolve` it, or give it back with `failed_again`. One in hand for over a
        minute counts as pending.
        """
        ...

    async def retry_all(
        self, *, kind: str | None = None, limit: int = 50, by: str = "worker"
    ) -> Sequence[StoredDeadLetter]:
        """Call this to take several in hand, oldest first."""
        ...

    async def hand_back(self, id_: int, by: str) -> StoredDeadLetter:
        """Call this to have a pending one tried again by where it failed, in whatever process.

        A message goes back into its outbox and a timer to its service, with all their attempts;
        their letter is resolved, and the next failure is a new one. Parked events of a projection
        are replayed by its runner, their letters resolved as they are applied. Gives the letter as
        it is then. Raises `NotHandedBack` for any other: `retry` is for the program that knows it.
        """
        ...

    async def outcomes(self, ids: Sequence[int]) -> Mapping[int, str]:
        """Call this for what became of letters that were handed back: how they failed, else "".

        A message or timer that has failed once since then is told with its error, long before it
        is given up again. One that nobody has tried yet is not among them, and neither is one of
        which that is not known: a record on a bus.
        """
        ...

    async def edit(self, id_: int, *, seen: bytes, payload: bytes, by: str, notes: str) -> None:
        """Call this to replace the payload of a pending one, here and where it is tried again.

        `seen` is the payload that was edited, `notes` what was changed, for the audit. Raises
        `LetterChanged` when it is another by now, `NotEdited` for an event, which never changes,
        and for a payload that is not kept here; `NotHandedBack` when what it speaks of is gone.
        """
        ...

    async def changes(self, id_: int, limit: int = 50) -> Sequence[LetterChange]:
        """Call this for the audit of one, the newest first; `UnknownDeadLetter`."""
        ...

    async def failed_again(self, id_: int, error_message: str, by: str = "worker") -> None:
        """Call this when a retry failed: pending again, and counted."""
        ...

    async def resolve(self, id_: int, by: str, notes: str = "") -> None:
        """Call this when a retry succeeded; of an outbox message those behind it go on."""
        ...

    async def discard(self, id_: int, by: str, reason: str) -> None:
        """Call this to give a pending one up, with the reason; those behind it go on too."""
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove lines of the audit of over a year ago, at most `limit`.

        In a tenant's view nothing is removed.
        """
        ...

    async def counts(self) -> DeadLetterCounts:
        """Call this for the gauges; in a tenant's view of its own letters."""
        ...
