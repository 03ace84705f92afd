"""What chat needs from storage: one port, kept by `storage/postgres` and `storage/memory`.

Every adapter runs the same conformance suite (`storage/testing/chat_log.py`). Each method
may raise `ChatLogUnavailable` when the store cannot be reached in time: nothing is known
then to be stored, and a repeat with the same client id settles the doubt.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol, TypeAlias
from uuid import UUID

from actors.chat.moderation import (
    AUDIT_LIMIT,
    QUEUE_LIMIT,
    AuditPage,
    ModerationOutcome,
    Verdict,
    WaitingList,
)
from actors.chat.words import (
    Draft,
    History,
    Newest,
    PostOutcome,
    Room,
    RoomHead,
    RoomName,
    Said,
    Viewer,
)
from actors.persistence.errors import InvalidField
from actors.persistence.words import (
    BIGINT_MAX,
    Shard,
    check_a,
    check_integer,
    check_list,
    check_text,
    check_uuid,
)

# One page of history: what a chat panel shows at once.
HISTORY_LIMIT = 50
# What a client program missed is read by so many events, with at most this many at once.
SAID_LIMIT = 200
SAID_LIMIT_MAX = 1000
# Users asked about in one statement.
MEMBERS_ASKED_MAX = 1000
# Of a room where more wait for review than this, `newest` does not tell whose they are.
WAITING_MAX = 200


class ChatLogUnavailable(Exception):
    """Raised by every method of a `ChatLog` when the store is away or too slow.

    Reads gave nothing. A post is stored wholly or not at all; post again with the same
    client id to learn which: a stored one comes back as `Repeated`.
    """


class PostRefused(Exception):
    """Raised for a post that the store does not take, however often it is tried.

    Nothing of it was stored, and others are not concerned: a number of it is taken already, or the
    tables hold a rule that no check of ours knows. Posting it again gives the same.
    """


# What becomes of one post among several: as it would have ended alone, with what would be raised.
PostVerdict: TypeAlias = PostOutcome | ChatLogUnavailable | PostRefused


class UnknownRoom(LookupError):
    """Raised when a room is named that `ensure_rooms` has not made; nothing was done."""

    def __init__(self, room: str) -> None:
        super().__init__(f"there is no room {room!r}; rooms are a closed set made at start-up")
        self.room = room


# What is asked of a caller before any I/O, by every engine. Each raises `InvalidField`.


def check_rooms(names: Sequence[str]) -> None:
    """Call this with the names of rooms."""
    for name in check_list("names", names):
        check_text("room", name)


def check_drafts(drafts: Sequence[Draft]) -> None:
    """Call this with what is posted together: of one room, each with numbers of its own."""
    for draft in check_list("drafts", drafts):
        check_a("a draft", draft, Draft)
    rooms = {draft.room for draft in drafts}
    if len(rooms) > 1:
        raise InvalidField("drafts", f"are of {len(rooms)} rooms; post those of each by themselves")


def check_owner(shard: object) -> None:
    """Call this with the ownership under which is posted."""
    check_a("shard", shard, Shard)


def check_member(room: str, user_id: UUID) -> None:
    """Call this with who is, or shall be, a member of what."""
    check_text("room", room)
    check_uuid("user_id", user_id)


def check_members(room: str, user_ids: Sequence[UUID]) -> list[UUID]:
    """Call this with who may be members of what; gives them in a list."""
    check_text("room", room)
    check_list("user_ids", user_ids)
    given = list(user_ids)
    for one in given:
        check_uuid("user_ids", one)
    if len(given) > MEMBERS_ASKED_MAX:
        raise InvalidField("user_ids", f"are {len(given)}, the limit is {MEMBERS_ASKED_MAX}")
    return given


def check_newest(room: str, limit: int) -> None:
    """Call this with how much is to be read of what."""
    check_text("room", room)
    check_integer("limit", limit, 1, HISTORY_LIMIT)


def check_history(room: str, viewer: Viewer, before: int | None, limit: int) -> None:
    """Call this with what is to be read, and for whom."""
    check_text("room", room)
    check_a("viewer", viewer, Viewer)
    check_integer("limit", limit, 1, HISTORY_LIMIT)
    if before is not None:
        check_integer("before", before, 1, BIGINT_MAX)


def check_said(room: str, after: int, limit: int) -> None:
    """Call this with what is to be read again."""
    check_text("room", room)
    # So that the last event of the page has a number too.
    check_integer("after", after, 0, BIGINT_MAX - SAID_LIMIT_MAX)
    check_integer("limit", limit, 1, SAID_LIMIT_MAX)


class ChatLog(Protocol):
    """The stored truth of all rooms: messages, members, limits, audit."""

    async def ensure_rooms(self, names: Sequence[RoomName]) -> Mapping[RoomName, Room]:
        """Call this at start-up to have each room exactly once, however many processes start.

        Returns the rooms by name. A room made here is audited as `chat.room.create`; one
        that existed is left as it was.
        """
        ...

    async def post(self, draft: Draft) -> PostOutcome:
        """Call this to store a draft in one transaction, or learn why it is not stored.

        In this order: unknown room (`UnknownRoom`); a repeat of (room, author key, client
        id) is `Repeated`; a reached limit is `TooManyPosts`, measured by `draft.created_at`
        with the accepted posts of (room, limit key) in the half-open interval
        (created_at - period_s, created_at]; one that is to wait where `draft.waiting_max` of its
        author wait in the room is `TooManyWaiting`; else the room event, the message under the next
        `seq`, a moderation queue row when pending, the limit rows and the audit row
        `chat.message.post` are written together. Concurrent posts of a room are serialised:
        no `seq` and no event number is used twice or left out. The text is stored sealed,
        in the event and with the message. An author who was forgotten is told as unavailable.
        `PostRefused` when a number of the draft is taken already; nothing is stored then.
        """
        ...

    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        """Call this to post several drafts of one room, in their order, with one commit.

        Each ends as it would alone behind those before it: what comes back in its place is what
        `post` would return or raise for it, `ChatLogUnavailable` and `PostRefused` as values. One
        that is refused, or whose author was forgotten, harms no other. The store may be lost in the
        middle: then each that is told as unavailable is stored wholly or not at all. `InvalidField`
        for drafts of several rooms, `UnknownRoom` as `post`; nothing was stored then.
        """
        ...

    async def post_as_owner(self, drafts: Sequence[Draft], shard: Shard) -> Sequence[PostVerdict]:
        """Call this for the same as a node that owns a shard, where several serve the store.

        Raises `Fenced` when it is another's, or of another epoch, by then. Where not all could be
        stored together, those before may be: whoever posts them again is told so by the client id.
        """
        ...

    async def history(
        self,
        room: RoomName,
        viewer: Viewer,
        *,
        before: int | None = None,
        limit: int = HISTORY_LIMIT,
    ) -> History:
        """Call this to read the newest `limit` messages the viewer may see, below seq `before`.

        Visible ones for all; pending ones for their author and moderators; of removed ones their
        author is told that they were there, and why they are not. A text that was forgotten is
        `ERASED`. At most three queries. `limit` outside 1 to 50, or `before` below 1, is
        `InvalidField`, a `ValueError`. The messages and `n` come from one snapshot.
        """
        ...

    async def head(self, room: RoomName) -> RoomHead:
        """Call this to learn where a room stands, for who wants to hear what follows."""
        ...

    async def said(self, room: RoomName, *, after: int, limit: int = SAID_LIMIT) -> Said:
        """Call this to read again what all were told in the `limit` events behind number `after`.

        Read from the room's stream, so it is the same after any restart. What waits for review is
        not among it; what was approved stands where it was. A text that was forgotten is `ERASED`.
        `after` below 0, or `limit` outside 1 to 1000, is `InvalidField`, a `ValueError`.
        """
        ...

    async def versions(self) -> Mapping[RoomName, int]:
        """Call this for the number of the last event of each room, of one moment."""
        ...

    def rings(self, every_s: float) -> AsyncGenerator[None, None]:
        """Call this to be woken when a room may have a new event, in whatever process.

        Rings at once, then within some 10 ms of a commit, and after `every_s` seconds without one:
        a ring may be lost. Only a hint, ask `versions`. Several rings may come as one. Close it
        (`aclosing`) when you are done.
        """
        ...

    async def newest(self, room: RoomName, *, limit: int = HISTORY_LIMIT) -> Newest:
        """Call this to read the newest `limit` messages that everybody may see, for many viewers.

        What `history` would give each viewer who is no moderator and no author of what waits for
        review or was removed. One query; errors as `history`.
        """
        ...

    async def room_of(self, message_id: UUID) -> RoomName | None:
        """Call this to learn in which room a message is; None when there is no such message."""
        ...

    async def moderate(self, verdict: Verdict) -> ModerationOutcome:
        """Call this to decide about a message that waits for review, once.

        In one transaction: the event of the room, the message's status, reviewer, time and reason
        in the queue, and the audit row `chat.message.moderate`. Of several at once one decides and
        the others are `NOT_WAITING`. An approved message keeps its `seq`.

        Whether the reviewer is a moderator is read in that transaction: a role that was taken away
        before it commits decides nothing (`NO_MODERATOR`). Nor does anybody about what was written
        under their name, in the session they decide from, or in one known to have been theirs
        (`OWN`, see `is_by_reviewer`).
        """
        ...

    async def waiting(self, limit: int = QUEUE_LIMIT) -> WaitingList:
        """Call this for the messages of all rooms that wait longest for review, oldest first.

        `limit` outside 1 to 50 is `InvalidField`, a `ValueError`.
        """
        ...

    async def audited(self, *, before: int | None = None, limit: int = AUDIT_LIMIT) -> AuditPage:
        """Call this for what was done, newest first, below entry `before`.

        `limit` outside 1 to 50, or `before` below 1, is `InvalidField`, a `ValueError`.
        """
        ...

    async def join(self, room: RoomName, user_id: UUID) -> bool:
        """Call this to make a user a member; False when they were one already.

        Audited once as `chat.room.join`. An unknown user or room raises, nothing is written.
        """
        ...

    async def is_member(self, room: RoomName, user_id: UUID) -> bool:
        """Call this to ask whether a user is a member of a room."""
        ...

    async def members(self, room: RoomName, user_ids: Sequence[UUID]) -> frozenset[UUID]:
        """Call this to ask which of at most 1,000 users are members of a room."""
        ...

    async def rebuild(self) -> int:
        """Call this to make messages that are missing again from the log; returns how many.

        Those of the last 30 days, as they were decided about.
        """
        ...

    # Each removes at most so many and returns how many it has removed; for a `Cleaner`.

    async def purge_messages(self, limit: int = 1000) -> int:
        """Call this to remove messages older than 30 days."""
        ...

    async def purge_texts(self, limit: int = 1000) -> int:
        """Call this to forget the texts of days that ended 30 days ago, in the log too."""
        ...

    async def purge_audit(self, limit: int = 1000) -> int:
        """Call this to remove rows of the audit older than 365 days."""
        ...

    async def purge_limits(self, limit: int = 1000) -> int:
        """Call this to remove rows of limits that hold no accepted post of the last hour."""
        ...
