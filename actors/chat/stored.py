"""The event of a post as it is stored, with its text sealed.

Two subjects have a say over a text: its day in its room, whose key is deleted when the day is old
enough, and the account that wrote it. So the messages can be made again from the log at any time,
and the log says nothing any more of what had to be forgotten.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import msgspec

from actors.chat.moderation import Decision, Verdict
from actors.chat.words import Draft, Message, RoomName, Status
from actors.persistence import (
    ERASED,
    EVENTS,
    PRIVATE_CODEC,
    PRIVATE_KEY,
    START,
    Erased,
    NewEvent,
    Private,
    StoredEvent,
    StreamId,
    event,
)

# Messages are kept so long (SITE-79), the audit of what was done for a year.
MESSAGES_KEPT = timedelta(days=30)
AUDIT_KEPT = timedelta(days=365)
# A row of accepted posts counts for the period of its limit, of seconds.
LIMITS_KEPT = timedelta(hours=1)


@event(name="MessagePosted", subject=("room:{room_id}:{day}", "user:{user_id}?"))
class PostStored(msgspec.Struct, frozen=True):
    """A message was posted. Events of before have no text, no room and no day."""

    message_id: UUID
    seq: int
    user_id: UUID | None
    author_session: str | None
    client_id: str
    status: Status
    reason: str | None
    created_at: datetime
    room_id: UUID | None = None
    day: date | None = None
    text: Private[str] = Private(ERASED)


@event(name="MessageModerated")
class PostModerated(msgspec.Struct, frozen=True):
    """A moderator has decided about a message that waited. Why is told by the queue and the audit:

    they end, and this does not.
    """

    message_id: UUID
    decision: Decision
    reviewer_id: UUID
    decided_at: datetime


def stream_of(room_id: UUID) -> StreamId:
    """Call this for the stream of a room's events."""
    return StreamId(f"room-{room_id}")


def day_subject(room_id: UUID, day: date) -> str:
    """Call this for the subject of all texts of a day in a room."""
    return f"room:{room_id}:{day}"


def user_subject(user_id: UUID) -> str:
    """Call this for the subject of all texts of an account."""
    return f"user:{user_id}"


def over_before(now: datetime) -> date:
    """Call this for the first day that is kept: the texts of all earlier ones are forgotten."""
    return (now - MESSAGES_KEPT).date()


def post_event(draft: Draft, room_id: UUID, seq: int = 0) -> NewEvent:
    """Call this for the event of a draft, to be sealed; the store gives it its `seq`."""
    stored = PostStored(
        draft.message_id,
        seq,
        draft.author.user_id,
        draft.author.session_id,
        draft.client_id,
        draft.status,
        draft.reason,
        draft.created_at,
        room_id,
        draft.created_at.date(),
        Private(draft.body),
    )
    return EVENTS.encode(stored, event_id=draft.event_id, metadata=draft.metadata)


def verdict_event(verdict: Verdict) -> NewEvent:
    """Call this for the event of a decision."""
    decided = PostModerated(
        verdict.message_id, verdict.decision, verdict.reviewer_id, verdict.decided_at
    )
    return EVENTS.encode(decided, event_id=verdict.event_id, metadata=verdict.metadata)


def sealed_text(room_id: UUID, event_id: UUID, sealed: str, at: datetime) -> StoredEvent:
    """Call this for what a keyring opens: the part of an event that is kept with its message."""
    return StoredEvent(
        stream_of(room_id),
        1,
        START,
        event_id,
        "MessagePosted",
        1,
        PRIVATE_CODEC,
        f'{{"{PRIVATE_KEY}":{sealed}}}'.encode(),
        {},
        None,
        at,
    )


class PostFact(msgspec.Struct):
    """What stands in clear in the event of a post."""

    message_id: UUID
    seq: int
    user_id: UUID | None
    author_session: str | None
    client_id: str
    status: Status
    reason: str | None
    created_at: datetime


class _Decided(msgspec.Struct):
    """What the event of a decision says of its message."""

    message_id: UUID
    decision: Decision


@dataclass(frozen=True, slots=True)
class Heard:
    """An event of a room that is told to all: a message is shown, or taken away."""

    event: StoredEvent
    message_id: UUID
    is_withdrawn: bool = False


def heard_by_all(events: Iterable[StoredEvent]) -> list[Heard]:
    """Call this with events of a room for those among them that are told to all."""
    heard: list[Heard] = []
    for told in events:
        match told.type:
            case "MessagePosted":
                fact = msgspec.json.decode(told.data, type=PostFact)
                if fact.status is Status.VISIBLE:
                    heard.append(Heard(told, fact.message_id))
            case "MessageModerated":
                decided = msgspec.json.decode(told.data, type=_Decided)
                is_gone = decided.decision is Decision.REMOVE
                heard.append(Heard(told, decided.message_id, is_gone))
    return heard


def decision_of(event: StoredEvent) -> tuple[UUID, Decision] | None:
    """Call this for what an event decided about which message; None for another event."""
    if event.type != "MessageModerated":
        return None
    decided = msgspec.json.decode(event.data, type=_Decided)
    return decided.message_id, decided.decision


def message_of(room: RoomName, fact: PostFact, text: str, author_name: str | None) -> Message:
    """Call this for the message that a post made."""
    return Message(
        id=fact.message_id,
        room=room,
        seq=fact.seq,
        user_id=fact.user_id,
        author_session=fact.author_session,
        author_name=author_name,
        body=text,
        status=fact.status,
        client_id=fact.client_id,
        created_at=fact.created_at,
    )


def text_of(opened: StoredEvent) -> str | Erased:
    """Call this for the text of an opened event; `ERASED` also when it does not open."""
    text = None if opened.private is None else opened.private.fields().get("text")
    return ERASED if text is None else msgspec.json.decode(text, type=str)
