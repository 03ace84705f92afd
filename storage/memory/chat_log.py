"""The chat log in memory; the twin of `storage/postgres/chat_log.py`, and its specification."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec

from actors.chat import (
    ChatLogUnavailable,
    Draft,
    History,
    Message,
    Posted,
    PostLimit,
    PostOutcome,
    Repeated,
    Room,
    RoomName,
    Status,
    TooManyPosts,
    UnknownRoom,
    Viewer,
    may_see,
)
from actors.chat.chat_log import HISTORY_LIMIT
from actors.persistence import NewEvent
from storage.errors import UnknownUser
from storage.memory.database import MemoryDatabase


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the chat's audit log."""

    room_id: UUID
    actor_user_id: UUID | None
    action: str
    metadata: Mapping[str, str | int | None]
    created_at: datetime


@dataclass(slots=True)
class _RoomTable:
    room: Room
    messages: list[Message] = field(default_factory=list)
    by_client_id: dict[tuple[str, str], Message] = field(default_factory=dict)
    members: set[UUID] = field(default_factory=set)
    accepted_at: dict[str, list[datetime]] = field(default_factory=dict)
    events: int = 0


class MemoryChatLog:
    """The port `ChatLog` on a `MemoryDatabase`."""

    def __init__(
        self,
        database: MemoryDatabase | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.database = database if database is not None else MemoryDatabase()
        self.audit: list[AuditRow] = []
        self.queue: dict[UUID, str] = {}
        self._rooms: dict[RoomName, _RoomTable] = {}
        self._now = now
        self._failures = 0

    def fail_next(self, times: int = 1) -> None:
        """Call this in tests to make the next calls raise `ChatLogUnavailable`."""
        self._failures = times

    async def ensure_rooms(self, names: Sequence[RoomName]) -> Mapping[RoomName, Room]:
        """See `ChatLog.ensure_rooms`."""
        self._maybe_fail()
        for name in names:
            if name not in self._rooms:
                self._rooms[name] = _RoomTable(Room(uuid4(), name))
                self._audit(name, None, "chat.room.create", {}, self._now())
        return {name: self._rooms[name].room for name in names}

    async def post(self, draft: Draft) -> PostOutcome:
        """See `ChatLog.post`."""
        self._maybe_fail()
        table = self._table(draft.room)
        repeat = table.by_client_id.get((draft.author.key, draft.client_id))
        if repeat is not None:
            return Repeated(self._named(repeat))
        waits = [wait for limit in draft.limits if (wait := _wait(table, limit, draft.created_at))]
        if waits:
            return TooManyPosts(max(waits))
        return self._store(table, draft)

    async def history(
        self,
        room: RoomName,
        viewer: Viewer,
        *,
        before: int | None = None,
        limit: int = HISTORY_LIMIT,
    ) -> History:
        """See `ChatLog.history`."""
        self._maybe_fail()
        if not 1 <= limit <= HISTORY_LIMIT:
            raise ValueError(f"limit must be 1 to {HISTORY_LIMIT}, got {limit}")
        if before is not None and before < 1:
            raise ValueError(f"before must be at least 1, got {before}")
        table = self._table(room)
        seen = [
            self._named(message)
            for message in table.messages
            if (before is None or message.seq < before) and may_see(message, viewer)
        ]
        return History(tuple(seen[-limit:]), table.events, has_older=len(seen) > limit)

    async def join(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.join`."""
        self._maybe_fail()
        table = self._table(room)
        if user_id not in self.database.user_names:
            raise UnknownUser(str(user_id))
        if user_id in table.members:
            return False
        table.members.add(user_id)
        self._audit(room, user_id, "chat.room.join", {"role": "member"}, self._now())
        return True

    async def is_member(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.is_member`."""
        self._maybe_fail()
        return user_id in self._table(room).members

    def _store(self, table: _RoomTable, draft: Draft) -> Posted:
        table.events += 1
        message = Message(
            id=draft.message_id,
            room=draft.room,
            seq=len(table.messages) + 1,
            user_id=draft.author.user_id,
            author_session=draft.author.session_id,
            author_name=None,
            body=draft.body,
            status=draft.status,
            client_id=draft.client_id,
            created_at=draft.created_at,
        )
        table.messages.append(message)
        table.by_client_id[draft.author.key, draft.client_id] = message
        for limit in draft.limits:
            since = draft.created_at - timedelta(seconds=limit.period_s)
            kept = [t for t in table.accepted_at.get(limit.key, ()) if t > since]
            table.accepted_at[limit.key] = sorted([*kept, draft.created_at])
        if draft.status is Status.PENDING:
            self.queue[message.id] = draft.reason or "auto"
        _record(self.database, table, draft)
        facts = {"message_id": str(message.id), "status": draft.status, "reason": draft.reason}
        self._audit(draft.room, message.user_id, "chat.message.post", facts, draft.created_at)
        return Posted(self._named(message), table.events)

    def _named(self, message: Message) -> Message:
        if message.user_id is None:
            return message
        name = self.database.user_names.get(message.user_id)
        return replace(message, author_name=name)

    def _audit(
        self,
        room: RoomName,
        user_id: UUID | None,
        action: str,
        metadata: Mapping[str, str | None],
        at: datetime,
    ) -> None:
        room_id = self._rooms[room].room.id
        stamp = int(at.timestamp() * 1000)
        facts = {"room_id": str(room_id), **metadata, "timestamp_ms": stamp}
        self.audit.append(AuditRow(room_id, user_id, action, facts, at))

    def _table(self, room: RoomName) -> _RoomTable:
        try:
            return self._rooms[room]
        except KeyError:
            raise UnknownRoom(room) from None

    def _maybe_fail(self) -> None:
        if self._failures:
            self._failures -= 1
            raise ChatLogUnavailable("made to fail by a test")


def _wait(table: _RoomTable, limit: PostLimit, at: datetime) -> float:
    """How long until the limit lets another post through; 0.0 when it does now."""
    since = at - timedelta(seconds=limit.period_s)
    accepted = [t for t in table.accepted_at.get(limit.key, ()) if since < t <= at]
    if len(accepted) < limit.posts_max:
        return 0.0
    # Of the last `posts_max` the oldest: when it leaves the interval, there is room for one.
    return (accepted[len(accepted) - limit.posts_max] - since).total_seconds()


def _record(database: MemoryDatabase, table: _RoomTable, draft: Draft) -> None:
    # The text stays out of the event: events are for ever, messages are kept for days.
    data = {
        "message_id": draft.message_id,
        "seq": len(table.messages),
        "user_id": draft.author.user_id,
        "author_session": draft.author.session_id,
        "client_id": draft.client_id,
        "status": draft.status,
        "reason": draft.reason,
        "created_at": draft.created_at,
    }
    event = NewEvent(
        event_id=draft.event_id,
        type="MessagePosted",
        data=msgspec.json.encode(data),
        metadata=draft.metadata,
    )
    txid = database.begin()
    placed = database.place(txid, f"room-{table.room.id}", table.events, [event])
    database.commit(txid, placed)
