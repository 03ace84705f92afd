"""The nouns of chat: rooms, authors, drafts, messages, and what becomes of a post.

Frozen data only. The rules about them stand in `policy.py`, the actor that carries them
out in `room.py`, the port that keeps them in `chat_log.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType, TypeAlias
from uuid import UUID

from actors.persistence.words import (
    EVENT_BYTES_MAX,
    KEY_BYTES_MAX,
    check_a,
    check_integer,
    check_list,
    check_text,
    check_texts,
    check_time,
    check_uuid,
)

RoomName = NewType("RoomName", str)

LOBBY = RoomName("Lobby")

# A closed set, made at start-up: nobody can fill the database with rooms.
ROOM_NAMES: tuple[RoomName, ...] = (LOBBY, RoomName("Demo"), RoomName("Support"))

# What a store counts to, and more than anybody reads.
WAITING_MAX_MAX = 2**31 - 1

# Written by the first chat migration; this user can neither register nor sign in.
DEMO_USER_ID = UUID("00000000-0000-7000-8000-00000000d3b0")
DEMO_USERNAME = "demo bot"
DEMO_DISPLAY_NAME = "Demo Bot"
DEMO_EMAIL = "demo.bot@example.com"


class Status(StrEnum):
    """Where a message stands: shown to all, waiting for a moderator, or taken away."""

    VISIBLE = "visible"
    PENDING = "pending"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Room:
    """One room of the closed set, as it is stored."""

    id: UUID
    name: RoomName


@dataclass(frozen=True, slots=True)
class Author:
    """Who posts: a user, a guest's browser session, or the demo user on behalf of a session.

    `name` is what readers see. `key` separates authors for repeats and limits: two
    sessions that both post as the demo user never share it.
    """

    user_id: UUID | None
    session_id: str | None
    name: str

    def __post_init__(self) -> None:
        if self.user_id is None and self.session_id is None:
            raise ValueError("an author is a user, a session, or both; got neither")
        if self.user_id is not None:
            check_uuid("user_id", self.user_id)
        if self.session_id is not None:
            check_text("session_id", self.session_id)

    @property
    def key(self) -> str:
        """Call this to get the author's identity in idempotency and limit rows."""
        if self.session_id is None:
            return f"user:{self.user_id}"
        if self.user_id is None:
            return f"session:{self.session_id}"
        return f"demo:{self.session_id}"


@dataclass(frozen=True, slots=True)
class PostLimit:
    """At most `posts_max` accepted posts under `key` in any interval of `period_s` seconds."""

    key: str
    posts_max: int
    period_s: float

    def __post_init__(self) -> None:
        check_text("key", self.key, KEY_BYTES_MAX)
        if self.posts_max < 1:
            raise ValueError(f"posts_max must be at least 1, got {self.posts_max}")
        if not self.period_s > 0:
            raise ValueError(f"period_s must be above 0, got {self.period_s}")


@dataclass(frozen=True, slots=True)
class Draft:
    """A parsed and classified post, ready to be stored in one transaction.

    `reason` says why it is pending (`auto`), and is None for a visible one. `waiting_max` is how
    many messages of its author may wait in the room, this one among them; None for any number.
    `metadata` is the envelope's context (correlation id and the like), stored with the room event.
    """

    message_id: UUID
    event_id: UUID
    room: RoomName
    author: Author
    body: str
    client_id: str
    status: Status
    reason: str | None
    created_at: datetime
    limits: Sequence[PostLimit] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    waiting_max: int | None = None

    def __post_init__(self) -> None:
        # What a store cannot keep; what a post may say is the policy's business.
        check_uuid("message_id", self.message_id)
        check_uuid("event_id", self.event_id)
        check_text("room", self.room)
        check_a("author", self.author, Author)
        check_text("body", self.body, EVENT_BYTES_MAX)
        check_text("client_id", self.client_id, KEY_BYTES_MAX)
        check_a("status", self.status, Status)
        if self.reason is not None:
            check_text("reason", self.reason)
        check_time("created_at", self.created_at)
        for limit in check_list("limits", self.limits):
            check_a("a limit", limit, PostLimit)
        check_texts("metadata", self.metadata)
        if self.waiting_max is not None:
            check_integer("waiting_max", self.waiting_max, 1, WAITING_MAX_MAX)


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message. `seq` orders the messages of a room from 1, without holes.

    `author_name` is the name of the user, and None for a guest or an unknown user: the
    reader derives those names (`policy.author_name`). One that was removed is told to its author
    only: without its text, with the reason in `removed_for`.
    """

    id: UUID
    room: RoomName
    seq: int
    user_id: UUID | None
    author_session: str | None
    author_name: str | None
    body: str
    status: Status
    client_id: str
    created_at: datetime
    removed_for: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Viewer:
    """For whom history is read; decides which pending and removed messages are among it.

    `tells_authors` is nobody's page: who reads for all sees of each removed one that it was there.
    """

    user_id: UUID | None = None
    session_id: str | None = None
    is_moderator: bool = False
    tells_authors: bool = False

    def __post_init__(self) -> None:
        if self.user_id is not None:
            check_uuid("user_id", self.user_id)
        if self.session_id is not None:
            check_text("session_id", self.session_id)


@dataclass(frozen=True, slots=True)
class History:
    """The newest messages a viewer may see, oldest first.

    `n` is the room's event number when they were read: a change with a higher number is
    not in them. `has_older` tells whether a page before the first one exists.
    """

    messages: tuple[Message, ...]
    n: int
    has_older: bool


# By which an author is known again: the session, or the user where there is none.
AuthorId: TypeAlias = str | UUID


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest messages that everybody may see, oldest first, for pages of any viewer.

    `waiting` are the authors of messages among them that wait for review, or were removed: their
    page holds those too. None when there are too many to tell. `n` and `has_older` as in
    `History`, of one snapshot.
    """

    messages: tuple[Message, ...]
    n: int
    has_older: bool
    waiting: frozenset[AuthorId] | None


@dataclass(frozen=True, slots=True)
class RoomHead:
    """Where a room stands: the version `n` of its stream, and its last event that all may see.

    `lineage` is the store's: numbers of another one say nothing here.
    """

    lineage: str
    n: int
    seen: int


@dataclass(frozen=True, slots=True)
class SaidAgain:
    """A message that was shown to all at event `n`, with the correlation id stored with it."""

    message: Message
    n: int
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class TakenAway:
    """All were told at event `n` that a message is gone."""

    message_id: UUID
    n: int
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Said:
    """What all were told of a room behind an event number, up to event `to`, in order.

    `n` is the version of the room's stream when it was read. `is_whole` is False when some of
    these messages are not kept any more; those taken away since are left out.
    """

    lineage: str
    n: int
    to: int
    messages: tuple[SaidAgain, ...]
    is_whole: bool
    withdrawn: tuple[TakenAway, ...] = ()


@dataclass(frozen=True, slots=True)
class Posted:
    """The post is stored as event `n` of its room."""

    message: Message
    n: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same author had sent this client id before; nothing was stored, charged or audited.

    It is event `n` of its room; None for one that was stored before events were kept with it.
    """

    message: Message
    n: int | None


@dataclass(frozen=True, slots=True)
class TooManyPosts:
    """A limit is reached; nothing was stored. The oldest post leaves it in `retry_after_s`."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class TooManyWaiting:
    """As many messages of the author wait for review as may; nothing was stored.

    There is room for one more when a moderator has decided about one of the `waiting_max`.
    """

    waiting_max: int


PostOutcome = Posted | Repeated | TooManyPosts | TooManyWaiting
