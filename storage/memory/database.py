"""The tables of the twins in memory: one object stands for one database.

Adapters share it as they share a `storage.postgres.Database`: what one writes the others
read. A change is made without a checkpoint between its first and last line, which is what
a transaction is here. Each has a number, drawn when it begins, as in PostgreSQL; a commit
can be held back by a test, and then hides the later ones from readers of the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import trio

from actors.accounts.kept.audit import Audited
from actors.accounts.kept.devices.words import Trust
from actors.accounts.kept.factors import Totp
from actors.accounts.kept.risk.port import JudgedLogin
from actors.accounts.kept.risk.words import PastLogin
from actors.accounts.kept.tokens import Scope
from actors.accounts.members import FIXED_FIELDS, AtProvider, Level, refuse_change
from actors.accounts.ways.passkeys import Passkey
from actors.accounts.ways.provider.words import Identity, ProviderTokens
from actors.chat import DEMO_DISPLAY_NAME, DEMO_EMAIL, DEMO_USER_ID, DEMO_USERNAME
from actors.cluster import Node
from actors.persistence import (
    CancelTimer,
    Checkpoint,
    CloseTimer,
    Cursor,
    Document,
    Fenced,
    LetterChange,
    NewEvent,
    OutboxMessage,
    SetTimer,
    Shard,
    Snapshot,
    StoredDeadLetter,
    StoredEvent,
    SubjectKey,
)
from actors.persistence.beside_log.mails import KnownMail
from actors.persistence.beside_log.outbox import part_of
from actors.persistence.words import FLEETING, split_name
from storage.memory.faults import HeldCommit, Switches


@dataclass(slots=True)
class OutboxRow:
    """A message waiting in the outbox, and what became of it."""

    id: int
    txid: int
    message: OutboxMessage
    created_at: datetime
    sent_at: datetime | None = None
    attempts: int = 0
    next_attempt_at: datetime | None = None
    last_error: str | None = None
    is_dead: bool = False


@dataclass(slots=True)
class SuppressedRow:
    """An address that takes no mail, by its digest; and when one went there all the same."""

    reason: str
    until: datetime
    excepted_at: datetime | None = None


@dataclass(slots=True)
class TimerRow:
    """A durable timer, and what became of it."""

    timer: SetTimer
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    attempts: int = 0
    fired_at: datetime | None = None
    cancelled_at: datetime | None = None
    failures: int = 0
    last_error: str | None = None
    given_up_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Call this to ask whether it can still fire or be cancelled."""
        return (self.fired_at, self.cancelled_at, self.given_up_at) == (None, None, None)


@dataclass(slots=True)
class IdempotencyRow:
    """A request that is handled, or was: its hash, its holder's token, and its answer."""

    request_hash: bytes
    token: UUID
    result: bytes | None
    created_at: datetime
    expires_at: datetime


@dataclass(slots=True)
class DeadLetterRow:
    """A dead letter, and since when somebody has it in hand."""

    stored: StoredDeadLetter
    claimed_at: datetime | None = None


@dataclass(slots=True)
class DeadLetterTable:
    """The dead letters by id, and what became of them."""

    rows: dict[int, DeadLetterRow] = field(default_factory=dict)
    audit: list[LetterChange] = field(default_factory=list)
    last_id: int = 0
    # As the indexes of the real table: the open letter of a failure, and the settled ones.
    open_ids: dict[tuple[str, str, str], int] = field(default_factory=dict)
    final_ids: set[int] = field(default_factory=set)

    def forget(self, stream_key: str) -> None:
        """Call this to remove all letters of a stream."""
        of_stream = {
            id_ for id_, row in self.rows.items() if row.stored.letter.stream_key == stream_key
        }
        for id_ in of_stream:
            del self.rows[id_]
        self.final_ids -= of_stream
        self.open_ids = {key: id_ for key, id_ in self.open_ids.items() if id_ not in of_stream}


@dataclass(frozen=True, slots=True)
class SubjectKeyChange:
    """One line of the audit: who forgot a subject, or readmitted it."""

    subject: str
    by: str
    action: str


@dataclass(slots=True)
class SessionEndRow:
    """A browser session that is over, and the accounts that were signed in on it or from it."""

    how: str
    ended_at: datetime
    members: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SocketTicketRow:
    """Whose a ticket is, and until when; by its digest."""

    session_id: str
    expires_at: datetime


@dataclass(slots=True)
class UserRow:
    """A person with an account; without a hash of a password nobody can sign in as it."""

    username: str
    email: str
    role: str
    created_at: datetime
    password_hash: str | None = field(default=None, repr=False)
    epoch: int = 0
    email_verified_at: datetime | None = None
    doubted_since: datetime | None = None
    guarded_until: datetime | None = None


@dataclass(slots=True)
class AddressChangeRow:
    """A change of an address; by its id."""

    user_id: UUID
    reference: UUID
    former: str
    email: str
    asked_at: datetime
    made_at: datetime | None = None


@dataclass(slots=True)
class RecoveryRow:
    """A recovery that is under way; by its id. `email` is that of the account when it began."""

    user_id: UUID
    email: str
    started_at: datetime
    ready_at: datetime
    told_at: datetime | None = None


@dataclass(slots=True)
class SignInLinkRow:
    """A link that signs in; by the digest of its mailbox."""

    digest: bytes
    email: str
    flow: bytes | None
    code: bytes | None
    expires_at: datetime
    wrong_codes: int = 0


@dataclass(slots=True)
class SignInRow:
    """One sign-in of one browser; by the digest of its token. Some of it never changes (SEC-21)."""

    reference: UUID
    user_id: UUID
    session_id: str
    browser: str
    created_at: datetime
    seen_at: datetime
    proven_at: datetime
    address: str = ""
    method: str = ""
    level: Level = Level.BASIC
    epoch: int = 0
    name: str = ""
    # Where it began, and whose identity there it was.
    at_provider: tuple[AtProvider, Identity] | None = None
    device: UUID | None = None
    is_limited: bool = False
    is_made: bool = False

    def __post_init__(self) -> None:
        self.is_made = True

    def __setattr__(self, name: str, value: object) -> None:
        if name in FIXED_FIELDS and getattr(self, "is_made", False):
            raise refuse_change(name)
        object.__setattr__(self, name, value)


@dataclass(slots=True)
class DeviceRow:
    """A device of an account; `digest` is that of what tells it."""

    id: UUID
    user_id: UUID
    digest: bytes
    browser: str
    first_seen_at: datetime
    seen_at: datetime
    trust: Trust = Trust.UNKNOWN
    logins: int = 1
    name: str = ""
    passkey: UUID | None = None
    # What it showed last, `packed`; None for one that never showed anything.
    fingerprint: bytes | None = None


@dataclass(slots=True)
class TokenRow:
    """An API token of an account; by its digest."""

    id: UUID
    user_id: UUID
    session_id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LoginRow:
    """A sign-in that was assessed, and what later ones are compared with."""

    login: JudgedLogin
    past: PastLogin
    # Its place was kept long enough.
    is_stripped: bool = False


@dataclass(slots=True)
class AllowanceRow:
    """An attempt that the owner of an account allowed."""

    user_id: UUID
    bound: bytes
    until: datetime
    is_used: bool = False


@dataclass(slots=True)
class FactorsRow:
    """The second factors of an account. A secret of an app stands here as it is."""

    totp: Totp | None = None
    codes: set[bytes] = field(default_factory=set, repr=False)


@dataclass(frozen=True, slots=True)
class PasskeyChallengeRow:
    """A challenge for passkeys; by its digest."""

    ceremony: str
    bound: bytes
    user_id: UUID | None
    expires_at: datetime


@dataclass(slots=True)
class IdentityRow:
    """Whose an identity at a provider is. Tokens stand here as they are."""

    user_id: UUID
    provider: str
    tokens: ProviderTokens | None = field(repr=False)
    linked_at: datetime
    used_at: datetime | None = None
    renew_at: datetime | None = None
    renewals_begun: int = 0


@dataclass(slots=True)
class AttemptsRow:
    """Tries that count under a key, oldest first."""

    tried_at: list[datetime]
    expires_at: datetime


def _real_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class MemoryDatabase:
    """Tables as lists and dictionaries; the demo user is among the users as after migration.

    `now` is the clock of all that stands on it: what ends, is claimed or kept for a time ends by
    it, so a test gives its own, such as the `now` of a `FixedClock`.
    """

    now: Callable[[], datetime] = _real_now
    user_names: dict[UUID, str] = field(default_factory=lambda: {DEMO_USER_ID: DEMO_DISPLAY_NAME})
    lineage: str = field(default_factory=lambda: str(uuid4()))
    events: list[StoredEvent] = field(default_factory=list)  # in the global order
    # Here and below streams go by their names among those of all tenants.
    streams: dict[str, list[StoredEvent]] = field(default_factory=dict)
    by_id: dict[UUID, StoredEvent] = field(default_factory=dict)
    gone: dict[str, StoredEvent] = field(default_factory=dict)  # by stream, its tombstone
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    outbox: dict[int, OutboxRow] = field(default_factory=dict)
    # As the indexes of the real table: what waits in each part, and the ids of all messages.
    unsent: dict[int, dict[int, OutboxRow]] = field(default_factory=dict)
    # By partition: who has it, by which epoch, until when.
    outbox_leases: dict[int, tuple[str, int, datetime]] = field(default_factory=dict)
    message_ids: set[UUID] = field(default_factory=set)
    inbox: dict[tuple[str, UUID], datetime] = field(default_factory=dict)
    timers: dict[UUID, TimerRow] = field(default_factory=dict)
    timer_tokens: dict[tuple[str, str], dict[str, UUID]] = field(default_factory=dict)
    idempotency: dict[tuple[str, str, str], IdempotencyRow] = field(default_factory=dict)
    documents: dict[str, dict[str, Document]] = field(default_factory=dict)
    dead_letters: DeadLetterTable = field(default_factory=DeadLetterTable)
    shards: dict[int, tuple[str, int]] = field(default_factory=dict)
    # Until when each shard is its owner's; and the nodes, into how many shards all is divided, and
    # who serves the store without being one.
    shard_leases: dict[int, datetime] = field(default_factory=dict)
    nodes: dict[UUID, Node] = field(default_factory=dict)
    remembered: dict[tuple[str, str], int] = field(default_factory=dict)  # their shards
    shard_count: int | None = None
    alone: list[str] = field(default_factory=list)
    checkpoints: dict[tuple[str, int, int], Checkpoint] = field(default_factory=dict)
    # By projection and generation; the latter: whose private fields it was made of.
    retired_at: dict[tuple[str, int], datetime] = field(default_factory=dict)
    projection_subjects: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    subject_keys: dict[str, SubjectKey] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)  # in their order, as often as it happened
    subject_audit: list[SubjectKeyChange] = field(default_factory=list)
    session_ends: dict[str, SessionEndRow] = field(default_factory=dict)
    sessions_changed: trio.Event = field(default_factory=trio.Event)
    socket_tickets: dict[bytes, SocketTicketRow] = field(default_factory=dict)
    users: dict[UUID, UserRow] = field(default_factory=dict)
    sign_ins: dict[bytes, SignInRow] = field(default_factory=dict)
    factors: dict[UUID, FactorsRow] = field(default_factory=dict)
    identities: dict[Identity, IdentityRow] = field(default_factory=dict)
    used_states: dict[bytes, datetime] = field(default_factory=dict)
    audit: list[Audited] = field(default_factory=list)
    address_changes: dict[UUID, AddressChangeRow] = field(default_factory=dict)
    recoveries: dict[UUID, RecoveryRow] = field(default_factory=dict)
    used_disavowals: dict[bytes, datetime] = field(default_factory=dict)
    devices: dict[UUID, DeviceRow] = field(default_factory=dict)
    api_tokens: dict[bytes, TokenRow] = field(default_factory=dict)
    logins: dict[UUID, LoginRow] = field(default_factory=dict)  # in their order
    allowances: dict[bytes, AllowanceRow] = field(default_factory=dict)
    sign_in_links: dict[bytes, SignInLinkRow] = field(default_factory=dict)
    passkeys: dict[bytes, Passkey] = field(default_factory=dict)  # by the id of a credential
    passkey_challenges: dict[bytes, PasskeyChallengeRow] = field(default_factory=dict)
    attempts: dict[str, AttemptsRow] = field(default_factory=dict)
    mails: dict[UUID, KnownMail] = field(default_factory=dict)  # the newest change last
    suppressed: dict[bytes, SuppressedRow] = field(default_factory=dict)
    open_txids: set[int] = field(default_factory=set)
    changed: trio.Event = field(default_factory=trio.Event)
    # Of tests: faults of all twins that stand on it; the commit to be held back, one at most, and
    # those that are; how twins empty what they keep themselves.
    faults: Switches = field(default_factory=Switches)
    next_held: HeldCommit | None = None
    held: set[HeldCommit] = field(default_factory=set)
    kept_beside: list[Callable[[], None]] = field(default_factory=list)
    _last_txid: int = 0
    _last_position: int = 0
    _last_outbox_id: int = 0

    def __post_init__(self) -> None:
        if not self.users:
            demo = UserRow(DEMO_USERNAME, DEMO_EMAIL, "user", self.now())
            self.users[DEMO_USER_ID] = demo

    def reset(self) -> None:
        """Call this in tests to begin anew: nothing stored, no faults, another lineage.

        Clock and numbers go on, so that no cursor is given twice; what a test holds back is rolled
        back.
        """
        fresh = MemoryDatabase(self.now)
        fresh._last_txid, fresh._last_position = self._last_txid, self._last_position
        fresh._last_outbox_id = self._last_outbox_id
        fresh.kept_beside = self.kept_beside
        waiting, held = (self.changed, self.sessions_changed), self.held
        vars(self).update(vars(fresh))
        for clear in self.kept_beside:
            clear()
        for commit in held:
            commit.drop()
        for event in waiting:
            event.set()

    def check_shard(self, shard: Shard) -> None:
        """Call this with what something is done under; raises `Fenced`."""
        owner, epoch = self.shards.get(shard.id, ("", 0))
        if (owner, epoch) != (shard.owner, shard.epoch):
            raise Fenced(shard.id, shard.epoch, epoch or None)

    def begin(self) -> int:
        """Call this to draw the number of a transaction; `commit` or `roll_back` ends it."""
        self._last_txid += 1
        self.open_txids.add(self._last_txid)
        return self._last_txid

    def roll_back(self, txid: int) -> None:
        """Call this to end a transaction without a trace, except for the numbers it drew."""
        self.open_txids.discard(txid)
        self.announce()

    def place(
        self, txid: int, stream_key: str, first_version: int, events: Sequence[NewEvent]
    ) -> list[StoredEvent]:
        """Call this to number events within a transaction; `commit` makes them visible."""
        placed = []
        tenant, stream_id = split_name(stream_key)
        for version, event in enumerate(events, start=first_version):
            self._last_position += 1
            placed.append(
                StoredEvent(
                    stream_id=stream_id,
                    version=version,
                    cursor=Cursor(txid, self._last_position),
                    event_id=event.event_id,
                    type=event.type,
                    schema_version=event.schema_version,
                    codec=event.codec,
                    data=event.data,
                    metadata=dict(event.metadata),
                    tenant=tenant,
                    recorded_at=self.now(),
                    tags=tuple(event.tags),
                )
            )
        return placed

    def commit(self, txid: int, placed: Sequence[StoredEvent]) -> None:
        """Call this to end a transaction and let readers see its events."""
        self.open_txids.discard(txid)
        for event in placed:
            self.streams.setdefault(event.stream_key, []).append(event)
            self.by_id[event.event_id] = event
        self.events.extend(placed)
        # A transaction that began earlier and commits later belongs before what is there.
        if len(self.events) > len(placed) and self.events[-len(placed) - 1].cursor.txid > txid:
            self.events.sort(key=lambda event: event.cursor)
        self.announce()

    def close(
        self, txid: int, stream_key: str, version: int, kind: str, metadata: Mapping[str, str]
    ) -> StoredEvent:
        """Call this to make the store's own event about a stream; `commit` makes it visible."""
        self._last_position += 1
        tenant, stream_id = split_name(stream_key)
        return StoredEvent(
            stream_id=stream_id,
            version=version,
            cursor=Cursor(txid, self._last_position),
            event_id=uuid4(),
            type=kind,
            schema_version=1,
            codec="json",
            data=b"{}",
            metadata=dict(metadata),
            tenant=tenant,
            recorded_at=self.now(),
        )

    def remove(self, tombstone: StoredEvent) -> None:
        """Call this after a tombstone was committed: of its stream nothing else is left."""
        key = tombstone.stream_key
        self.gone[key] = tombstone
        for event in self.streams.pop(key):
            if event is not tombstone:
                del self.by_id[event.event_id]
        self.events = [one for one in self.events if one.stream_key != key or one is tombstone]
        self.snapshots.pop(key, None)
        self.dead_letters.forget(key)

    def end_of(self, stream_key: str) -> tuple[int, str | None]:
        """Call this for version and type of a stream's last event, which says if it is closed."""
        last = self.last(stream_key)
        return (0, None) if last is None else (last.version, last.type)

    def last(self, stream_key: str) -> StoredEvent | None:
        """Call this for the last event of a stream, closed or not."""
        if stream_key in self.gone:
            return self.gone[stream_key]
        stored = self.streams.get(stream_key)
        return stored[-1] if stored else None

    @property
    def horizon(self) -> int:
        """Call this for the lowest transaction number that may still write: `xmin` of the real one.

        Readers of the order stop below it, so nothing ever appears behind them.
        """
        return min(self.open_txids, default=self._last_txid + 1)

    def add_outbox(self, txid: int, messages: Sequence[OutboxMessage]) -> tuple[int, ...]:
        """Call this in an append to queue what is sent after it."""
        for message in messages:
            self._last_outbox_id += 1
            row = OutboxRow(self._last_outbox_id, txid, message, self.now())
            self.outbox[row.id] = row
            self.unsent.setdefault(part_of(message), {})[row.id] = row
            self.message_ids.add(message.message_id)
        return tuple(range(self._last_outbox_id - len(messages) + 1, self._last_outbox_id + 1))

    def add_messages(self, messages: Sequence[OutboxMessage]) -> int:
        """Call this to queue in one transaction what goes with no append; how many were new."""
        new = {one.message_id: one for one in messages if one.message_id not in self.message_ids}
        txid = self.begin()
        self.add_outbox(txid, [*new.values()])
        self.roll_back(txid)  # the numbers it drew are used; there are no events to show
        return len(new)

    def mark_sent(self, row: OutboxRow) -> None:
        """Call this when a message was sent, or is to rest as if it were."""
        row.is_dead, row.sent_at = False, self.now()
        if FLEETING in row.message.headers:
            row.message = replace(row.message, payload=b"")
        del self.unsent[part_of(row.message)][row.id]

    def drop_outbox(self, id_: int) -> None:
        """Call this to forget a message that was sent long ago."""
        self.message_ids.discard(self.outbox.pop(id_).message.message_id)

    def change_timer(self, change: SetTimer | CancelTimer | CloseTimer) -> int:
        """Call this in an append to set, cancel or close; checked by the caller; how many it were.

        A timer that was set before is left as it is.
        """
        match change:
            case SetTimer():
                name = (change.address, change.name)
                known = self.timer_tokens.get(name, {})
                if change.token in known or change.timer_id in self.timers:
                    return 0
                self.timers[change.timer_id] = TimerRow(change)
                self.timer_tokens.setdefault(name, {})[change.token] = change.timer_id
                return 1
            case CancelTimer():
                tokens = self.timer_tokens.get((change.address, change.name), {})
                rows = [row for id_ in tokens.values() if (row := self.timers[id_]).is_open]
                for row in rows:
                    row.cancelled_at = self.now()
                return len(rows)
            case CloseTimer():
                self.timers[change.timer_id].fired_at = self.now()
                return 1

    def drop_timer(self, timer_id: UUID) -> None:
        """Call this to forget a timer that was over long ago."""
        timer = self.timers.pop(timer_id).timer
        tokens = self.timer_tokens[timer.address, timer.name]
        del tokens[timer.token]
        if not tokens:
            del self.timer_tokens[timer.address, timer.name]

    def revive_message(self, id_: int) -> bool:
        """Call this to send a given-up message once more; False when it is not dead."""
        row = self.outbox.get(id_)
        if row is None or not row.is_dead:
            return False
        row.is_dead, row.attempts, row.next_attempt_at = False, 0, None
        self.announce()
        return True

    def revive_timer(self, timer_id: UUID) -> bool:
        """Call this to deliver a given-up timer once more; False when it is not given up."""
        row = self.timers.get(timer_id)
        if row is None or row.given_up_at is None:
            return False
        row.given_up_at, row.failures, row.claimed_until = None, 0, None
        return True

    def edit_message(self, id_: int, payload: bytes) -> bool:
        """Call this to replace what a given-up message says; False when it is not dead."""
        row = self.outbox.get(id_)
        if row is None or not row.is_dead:
            return False
        row.message = replace(row.message, payload=payload)
        return True

    def edit_timer(self, timer_id: UUID, payload: bytes) -> bool:
        """Call this to replace what a given-up timer tells; False when it is not given up."""
        row = self.timers.get(timer_id)
        if row is None or row.given_up_at is None:
            return False
        row.timer = replace(row.timer, payload=payload)
        return True

    def write_documents(self, changes: Mapping[str, Mapping[str, Document | None]]) -> None:
        """Call this to put documents into their collections, or remove them."""
        for collection, documents in changes.items():
            kept = self.documents.setdefault(collection, {})
            for key, document in documents.items():
                if document is None:
                    kept.pop(key, None)
                else:
                    kept[key] = dict(document)

    def announce(self) -> None:
        """Call this when readers have something to look for."""
        self.changed.set()
        self.changed = trio.Event()
