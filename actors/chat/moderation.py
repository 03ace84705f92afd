"""The nouns of moderation: a decision about a message that waits, the queue, and the audit.

Frozen data and the rules of its fields. A decision is an event of the message's room, stored with
the message, its place in the queue and a row of the audit, or not at all (SITE-71).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from actors.chat.policy import BadPost, has_controls, is_own
from actors.chat.words import Message, RoomName, Status, Viewer
from actors.persistence.words import (
    BIGINT_MAX,
    check_a,
    check_integer,
    check_text,
    check_texts,
    check_time,
    check_uuid,
)

REASON_LENGTH_MAX = 200
# What a moderator reads in one sitting; and one page of the audit.
QUEUE_LIMIT = 50
AUDIT_LIMIT = 50


class Decision(StrEnum):
    """What a moderator does with a message that waits."""

    APPROVE = "approve"
    REMOVE = "remove"

    @property
    def status(self) -> Status:
        """Where the message stands then."""
        return Status.VISIBLE if self is Decision.APPROVE else Status.REMOVED


class NotDecided(StrEnum):
    """Why a decision was not taken; nothing was changed."""

    # There is no such message, or none any more.
    UNKNOWN = "unknown"
    # Nobody decides about what they wrote themselves.
    OWN = "own"
    # Somebody has decided, or it never waited.
    NOT_WAITING = "not_waiting"
    # Who decides is none who may, or not any more.
    NO_MODERATOR = "no_moderator"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A moderator's decision, ready to be stored. An empty `reason` keeps the one of the queue.

    `reviewer_session` is the browser session it comes from, in which somebody may have written as
    the demo user.
    """

    message_id: UUID
    event_id: UUID
    reviewer_id: UUID
    reviewer_session: str | None
    decision: Decision
    reason: str
    decided_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_uuid("message_id", self.message_id)
        check_uuid("event_id", self.event_id)
        check_uuid("reviewer_id", self.reviewer_id)
        if self.reviewer_session is not None:
            check_text("reviewer_session", self.reviewer_session)
        check_a("decision", self.decision, Decision)
        if self.reason != "":
            check_text("reason", self.reason, 4 * REASON_LENGTH_MAX)
        check_time("decided_at", self.decided_at)
        check_texts("metadata", self.metadata)


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision is stored as event `n` of the message's room; `reason` is what it says now."""

    message: Message
    n: int
    reason: str


ModerationOutcome = Decided | NotDecided


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message in the queue, and why it is there.

    `members` are the accounts that its author's browser session is known to have been of: who was
    signed in on it, or signed in from it. They do not decide about it.
    """

    message: Message
    reason: str
    members: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class WaitingList:
    """The messages that wait longest, oldest first, and how many wait in all."""

    messages: tuple[WaitingMessage, ...]
    count: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the chat's audit. `actor` is None for the program and for guests.

    `room` is None for one that is not there any more; its id stands in `metadata`.
    """

    id: int
    at: datetime
    action: str
    actor: UUID | None
    actor_name: str | None
    room: RoomName | None
    metadata: Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the audit, newest first."""

    entries: tuple[AuditEntry, ...]
    has_older: bool


def parse_decision(text: str) -> Decision:
    """Call this to read a decision; raises `BadPost`."""
    try:
        return Decision(text)
    except ValueError:
        raise BadPost("decision", "is to approve or to remove") from None


def parse_reason(text: str) -> str:
    """Call this to trim and check a moderator's reason; raises `BadPost`."""
    reason = text.strip()
    if len(reason) > REASON_LENGTH_MAX:
        raise BadPost("reason", f"at most {REASON_LENGTH_MAX} characters; this has {len(reason)}")
    if has_controls(reason):
        raise BadPost("reason", "one line, without control characters")
    return reason


def check_waiting(limit: int) -> None:
    """Call this with how much of the queue is to be read; raises `InvalidField`."""
    check_integer("limit", limit, 1, QUEUE_LIMIT)


def check_audited(before: int | None, limit: int) -> None:
    """Call this with what is to be read of the audit; raises `InvalidField`."""
    check_integer("limit", limit, 1, AUDIT_LIMIT)
    if before is not None:
        check_integer("before", before, 1, BIGINT_MAX)


def is_by_reviewer(waiting: WaitingMessage, viewer: Viewer) -> bool:
    """Call this to learn whether who decides has written the message, as far as is known.

    Not known to be theirs is what somebody wrote as a guest in a browser where they have not signed
    in since, or signed in only after its session had been replaced.
    """
    return is_own(waiting.message, viewer) or viewer.user_id in waiting.members
