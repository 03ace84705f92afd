"""What can go wrong between an actor and its store, one class per thing the caller can do.

Four kinds of answer: the call was wrong (`StoreMisuse`), somebody else was first
(`ConcurrencyConflict`, `Fenced`, `IdempotencyInFlight`), the world is away (`StoreUnavailable`
and its kin: try again), stored data is not what this program knows (`StoredDataError`).
Adapters translate what their driver raises into these words once, at the edge.
"""


class StoreError(Exception):
    """Base of everything a store raises; `code` is stable, for logs, answers and tables."""

    code = "store_error"
    # Whether the same call may succeed later without any change (RES-2).
    is_transient = False


class StoreMisuse(StoreError):
    """Base of refusals that no retry mends: the call itself must change. Nothing was written."""

    code = "store_misuse"


class InvalidStreamId(StoreMisuse, ValueError):
    """Raised at construction of a `StreamId` that breaks its rules."""

    code = "invalid_stream_id"

    def __init__(self, value: str, why: str) -> None:
        # As much of it as a name can be: what was given may be somebody's whole text.
        super().__init__(f"{value[:80]!r} is not a stream id: {why}")
        self.value, self.why = value, why


class InvalidField(StoreMisuse, ValueError):
    """Raised before any I/O for a value that a store cannot keep, or cannot look for.

    A text with a NUL or half of a surrogate pair, one that is too long, a number beyond the
    database's, another type than is declared. `field` names it; the value itself is not told.
    Nothing was written.
    """

    code = "invalid_field"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field} {why}; nothing was written")
        self.field, self.why = field, why


class InvalidTenant(StoreMisuse, ValueError):
    """Raised before any I/O for a name that no tenant can have.

    A tenant's name is 1 to 64 of the characters `A-Z a-z 0-9 . _ -`. `value` is what was given,
    which is not told. Nothing was written.
    """

    code = "invalid_tenant"

    def __init__(self, value: str) -> None:
        super().__init__(
            f"a text of {len(value)} characters is no name of a tenant, which has 1 to 64 of "
            "A-Z a-z 0-9 . _ -; nothing was written"
        )
        self.value = value


class ForeignTenant(StoreMisuse):
    """Raised before any I/O when what a store is given names another tenant than its own.

    `own` is None for the store of no tenant: what belongs to one is given to
    `store.for_tenant(...)`. Nothing was read or written.
    """

    code = "foreign_tenant"

    def __init__(self, own: str | None, given: str) -> None:
        whose = "that of no tenant" if own is None else f"that of {own}"
        super().__init__(
            f"the store is {whose}, and was given something of {given[:80]!r}; nothing was read "
            "or written. Use that tenant's own view, from for_tenant."
        )
        self.own, self.given = own, given


class EmptyAppend(StoreMisuse):
    """Raised before any I/O when an append brings no event; nothing was written."""

    code = "empty_append"

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"the append to {stream_id} brings no event; leave the call out")
        self.stream_id = stream_id


class AppendTooLarge(StoreMisuse):
    """Raised before any I/O when one append brings more events than a transaction should."""

    code = "append_too_large"

    def __init__(self, stream_id: str, events: int, limit: int) -> None:
        super().__init__(
            f"the append to {stream_id} brings {events} events, the limit is {limit}; "
            "nothing was written. Split it."
        )
        self.stream_id, self.events, self.limit = stream_id, events, limit


class BatchTooLarge(StoreMisuse):
    """Raised before any I/O when a batch has too many requests or events; nothing was written."""

    code = "batch_too_large"

    def __init__(self, what: str, count: int, limit: int) -> None:
        super().__init__(
            f"the batch has {count} {what}, the limit is {limit}; nothing was written. Split it."
        )
        self.what, self.count, self.limit = what, count, limit


class EventTooLarge(StoreMisuse):
    """Raised when an encoded event passes the limit; nothing was written."""

    code = "event_too_large"

    def __init__(self, event_type: str, size: int, limit: int) -> None:
        super().__init__(
            f"{event_type} takes {size} bytes, the limit is {limit}; nothing was written. "
            "Keep large things elsewhere and store their address."
        )
        self.event_type, self.size, self.limit = event_type, size, limit


class DuplicateEventId(StoreMisuse):
    """Raised when an event id is stored already, elsewhere or with other content.

    Nothing was written. A repeat of the same append is no error: it is answered as replayed.
    """

    code = "duplicate_event_id"

    def __init__(self, event_id: str, stream_id: str) -> None:
        super().__init__(
            f"event id {event_id} of the append to {stream_id} is already stored, in another "
            "stream or with other content; nothing was written. Make a new id for a new event."
        )
        self.event_id, self.stream_id = event_id, stream_id


class DuplicateMessageId(StoreMisuse):
    """Raised when an append brings a message to the outbox whose id is there already.

    Nothing was written, the events neither. A repeat of the whole append is no error.
    """

    code = "duplicate_message_id"

    def __init__(self, stream_id: str) -> None:
        super().__init__(
            f"the append to {stream_id} brings a message whose id is in the outbox already; "
            "nothing was written. Make a new id for a new message."
        )
        self.stream_id = stream_id


class ConcurrencyConflict(StoreError):
    """Raised when the stream is not at the version the append expected; nothing was written.

    Load the stream, decide again with what is there now, and append the new decision.
    Never append the old events again with the new version.
    """

    code = "concurrency_conflict"

    def __init__(self, stream_id: str, expected: int | str, actual: int) -> None:
        super().__init__(
            f"{stream_id} is at version {actual}, the append expected {expected}; nothing was "
            "written. Load it and decide again."
        )
        self.stream_id, self.expected, self.actual = stream_id, expected, actual


class ConditionFailed(StoreError):
    """Raised when an event was stored that the append's condition excludes; nothing was written.

    Read on with the condition's query, decide again with what is there now, and append the new
    decision. `cursor` is the first such event's.
    """

    code = "condition_failed"

    def __init__(self, stream_id: str, cursor: tuple[int, int]) -> None:
        txid, position = cursor
        super().__init__(
            f"the append to {stream_id} depends on what was stored since: an event at "
            f"{txid}.{position} is of its query; nothing was written. Read on and decide again."
        )
        self.stream_id, self.cursor = stream_id, cursor


class StreamArchived(StoreMisuse):
    """Raised by an append to a stream that is archived; nothing was written.

    Its events can still be read, and `reopen` lets it be written again. `version` is that of
    the event that says so.
    """

    code = "stream_archived"

    def __init__(self, stream_id: str, version: int) -> None:
        super().__init__(
            f"{stream_id} is archived, since its version {version}; nothing was written. "
            "Reopen it first, or write to another stream."
        )
        self.stream_id, self.version = stream_id, version


class StreamGone(StoreMisuse):
    """Raised by an append to a stream that was tombstoned; nothing was written.

    It is closed for ever, and its events are gone: use another name.
    """

    code = "stream_gone"

    def __init__(self, stream_id: str) -> None:
        super().__init__(
            f"{stream_id} was tombstoned and is gone for ever; nothing was written. "
            "A new stream needs another name."
        )
        self.stream_id = stream_id


class Fenced(StoreError):
    """Raised when this process no longer owns the shard it writes for; nothing was written."""

    code = "fenced"

    def __init__(self, shard: int, held: int, current: int | None) -> None:
        super().__init__(
            f"shard {shard} was written with epoch {held}, its epoch is {current}; nothing was "
            "written. Look up the owner again; this one must stop."
        )
        self.shard, self.held, self.current = shard, held, current


class IdempotencyMismatch(StoreMisuse):
    """Raised when a key comes back with another request; nothing was written."""

    code = "idempotency_mismatch"

    def __init__(self, scope: str, key: str) -> None:
        super().__init__(
            f"key {key!r} in {scope} was used for another request; nothing was written. "
            "A new request needs a new key."
        )
        self.scope, self.key = scope, key


class IdempotencyInFlight(StoreError):
    """Raised when a request with the same key is being handled now; nothing was written."""

    code = "idempotency_in_flight"
    is_transient = True

    def __init__(self, scope: str, key: str, retry_after_s: float = 1.0) -> None:
        super().__init__(
            f"a request with key {key!r} in {scope} is being handled; nothing was written. "
            f"Ask again in {retry_after_s:g} s."
        )
        self.scope, self.key, self.retry_after_s = scope, key, retry_after_s


class IdempotencyLost(StoreError):
    """Raised when a request is finished that no longer holds its key; its answer was not kept.

    It took longer than a minute and another has taken the key, or a day and it was removed. Begin
    again for the answer that counts.
    """

    code = "idempotency_lost"

    def __init__(self, scope: str, key: str) -> None:
        super().__init__(
            f"key {key!r} in {scope} is held by another request now; this answer was not kept. "
            "Begin again for the one that counts."
        )
        self.scope, self.key = scope, key


class AlreadyHandled(StoreError):
    """Raised when the inbox knows the message: its effect is stored. Nothing was written.

    Acknowledge the message and go on.
    """

    code = "already_handled"

    def __init__(self, consumer: str, message_id: str) -> None:
        super().__init__(f"{consumer} has handled message {message_id}; nothing was written again")
        self.consumer, self.message_id = consumer, message_id


class TimerGone(StoreError):
    """Raised when an append handles a timer that was cancelled or handled before.

    Nothing was written: of firing and cancelling exactly one has an effect.
    """

    code = "timer_gone"

    def __init__(self, timer_id: str) -> None:
        super().__init__(f"timer {timer_id} was cancelled or handled before; nothing was written")
        self.timer_id = timer_id


class StoreUnavailable(StoreError):
    """Raised when the store cannot be reached, or was lost while answering.

    A read gave nothing. A write is stored wholly or not at all, and which is not known:
    repeat it with the same event ids or idempotency key, and the store tells. Where nothing had
    been sent yet, `nothing_written` is True and the text says so.
    """

    code = "store_unavailable"
    is_transient = True

    def __init__(self, reason: str, *, nothing_written: bool = False) -> None:
        outcome = (
            "Nothing was written; try again."
            if nothing_written
            else "The outcome of a write in hand is not known; repeat it with the same ids."
        )
        super().__init__(f"the store is unavailable: {reason}. {outcome}")
        self.reason, self.nothing_written = reason, nothing_written


class StoreTimeout(StoreUnavailable):
    """Raised when the store took longer than the call allowed; see `StoreUnavailable`."""

    code = "store_timeout"

    def __init__(self, timeout_s: float, *, nothing_written: bool = False) -> None:
        super().__init__(f"no answer within {timeout_s:g} s", nothing_written=nothing_written)
        self.timeout_s = timeout_s


class PoolExhausted(StoreUnavailable):
    """Raised when no connection came free in time; nothing was sent to the database."""

    code = "pool_exhausted"

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"all {limit} connections are in use and {waiting} callers wait")
        self.waiting, self.limit = waiting, limit


class StoredDataError(StoreError):
    """Base of errors about what is stored: this program cannot read it. Nothing was changed."""

    code = "stored_data"


class UnknownEventType(StoredDataError):
    """Raised when an aggregate's stream holds an event type that no class is registered for."""

    code = "unknown_event_type"

    def __init__(self, event_type: str, stream_id: str, version: int) -> None:
        super().__init__(
            f"{stream_id} has {event_type} at version {version} and no class is registered "
            "for it; import the module that defines it, or add an upcaster."
        )
        self.event_type, self.stream_id, self.version = event_type, stream_id, version


class CodecError(StoredDataError):
    """Raised when stored bytes do not decode into the class registered for them."""

    code = "codec_error"

    def __init__(self, event_type: str, version: int, field: str, reason: str) -> None:
        super().__init__(f"{event_type} at version {version}: {field}: {reason}")
        self.event_type, self.version, self.field, self.reason = event_type, version, field, reason


class SubjectForgotten(StoreError):
    """Raised when something private is to be stored of a subject that was forgotten.

    Nothing was written. Its key is gone for good, and none is made in silence: whoever has a
    reason to keep something of it again says so with `readmit`.
    """

    code = "subject_forgotten"

    def __init__(self, subject: str) -> None:
        super().__init__(f"{subject} was forgotten, and has no key; nothing was written")
        self.subject = subject


class KeyringMissing(StoreError):
    """Raised when private fields are written to, or read from, a store opened without keys.

    Nothing was written: they would stand there in clear. Nothing is wrong with what is stored:
    give the store its `keyring`.
    """

    code = "keyring_missing"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} has private fields and the store was opened without a keyring; nothing was "
            "written. Give it one."
        )
        self.what = what


class MasterKeyMissing(StoreError):
    """Raised when a subject's key is wrapped by a master key that this program was not given.

    Nothing was written, and nothing is lost: `key_id` names the master key, among the former ones
    perhaps.
    """

    code = "master_key_missing"

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"the master key {key_id} is missing, which wraps keys of private texts; give it "
            "there, or among the former ones (PRIVATE_KEYS_PREVIOUS)"
        )
        self.key_id = key_id


class CursorOutdated(StoredDataError):
    """Raised for a cursor of an earlier lineage: the store was renumbered since.

    Translated cursors stand in the checkpoints; any other reader starts over.
    """

    code = "cursor_outdated"

    def __init__(self, cursor_lineage: str, store_lineage: str) -> None:
        super().__init__(
            f"the cursor belongs to lineage {cursor_lineage}, the store is lineage "
            f"{store_lineage}; read from the start or take the translated checkpoint."
        )
        self.cursor_lineage, self.store_lineage = cursor_lineage, store_lineage
