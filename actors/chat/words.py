"""The nouns of chat: rooms, authors, drafts, messages, and what becomes of a post.

Frozen data only. The rules about them stand in `policy.py`, the actor that carries them
out in `room.py`, the port that keeps them in `chat_log.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

RoomName = NewType("RoomName", str)

LOBBY = RoomName("Lobby")

# A closed set, made at start-up: nobody can fill the database with rooms.
ROOM_NAMES: tuple[RoomName, ...] = (LOBBY, RoomName("Demo"), RoomName("Support"))

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
        if self.posts_max < 1:
            raise ValueError(f"posts_max must be at least 1, got {self.posts_max}")
        if not self.period_s > 0:
            raise ValueError(f"period_s must be above 0, got {self.period_s}")


@dataclass(frozen=True, slots=True)
class Draft:
    """A parsed and classified post, ready to be stored in one transaction.

    `reason` says why it is pending (`auto`), and is None for a visible one. `metadata` is
    the envelope's context (correlation id and the like), stored with the room event.
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


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message. `seq` orders the messages of a room from 1, without holes.

    `author_name` is the name of the user, and None for a guest or an unknown user: the
    reader derives those names (`policy.author_name`).
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


@dataclass(frozen=True, slots=True)
class Viewer:
    """For whom history is read; decides whether pending messages are among it."""

    user_id: UUID | None = None
    session_id: str | None = None
    is_moderator: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """The newest messages a viewer may see, oldest first.

    `n` is the room's event number when they were read: a change with a higher number is
    not in them. `has_older` tells whether a page before the first one exists.
    """

    messages: tuple[Message, ...]
    n: int
    has_older: bool


@dataclass(frozen=True, slots=True)
class Posted:
    """The post is stored as event `n` of its room."""

    message: Message
    n: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same author had sent this client id before; nothing was stored, charged or audited."""

    message: Message


@dataclass(frozen=True, slots=True)
class TooManyPosts:
    """A limit is reached; nothing was stored. The oldest post leaves it in `retry_after_s`."""

    retry_after_s: float


PostOutcome = Posted | Repeated | TooManyPosts
