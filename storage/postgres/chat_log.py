"""The chat log in tables of PostgreSQL; the twin of `storage/memory/chat_log.py`.

A post is one statement: the function `chat_post` of the chat migration does all of it under
a lock of the room, taken before the transaction has its number. The event of a post stands in
the stream `room-<id>`.
"""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import msgspec

from actors.chat import (
    ChatLogUnavailable,
    Draft,
    History,
    Message,
    Posted,
    PostOutcome,
    Repeated,
    Room,
    RoomName,
    Status,
    TooManyPosts,
    UnknownRoom,
    Viewer,
)
from actors.chat.chat_log import HISTORY_LIMIT
from storage.errors import StoreUnavailable, UnknownUser
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.session import Connection

T = TypeVar("T")

_POST = """
SELECT outcome, n, retry_after_s, id, seq, user_id, author_session, author_name, body, status,
    client_id, created_at
FROM chat_post($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""

# One statement, so messages and event number come from one snapshot.
_HISTORY = """
WITH r AS (SELECT id, name, last_event FROM chat_rooms WHERE name = $1),
m AS (
    SELECT m.id, m.seq, m.user_id, m.author_session, m.body, m.status, m.client_id, m.created_at
    FROM chat_messages m, r
    WHERE m.room_id = r.id AND m.seq < $2
        AND (m.status = 'visible' OR m.status = 'pending' AND ($3
            OR m.author_session = $4 OR m.author_session IS NULL AND m.user_id = $5))
    ORDER BY m.seq DESC LIMIT $6
)
SELECT r.last_event AS n, m.id, m.seq, m.user_id, m.author_session,
    u.display_name AS author_name, m.body, m.status, m.client_id, m.created_at
FROM r LEFT JOIN m ON true LEFT JOIN users u ON u.id = m.user_id
ORDER BY m.seq
"""

_SEQ_MAX = 2**63 - 1


class PostgresChatLog:
    """The port `ChatLog` on a `Database` whose schema is up to date."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure_rooms(self, names: Sequence[RoomName]) -> Mapping[RoomName, Room]:
        """See `ChatLog.ensure_rooms`."""
        return await _available(self._database.transact(_ensure_rooms, list(names)))

    async def post(self, draft: Draft) -> PostOutcome:
        """See `ChatLog.post`."""
        row: asyncpg.Record = await _available(self._database.run(_post, draft))
        match row["outcome"]:
            case "posted":
                return Posted(_message(row, draft.room), row["n"])
            case "repeated":
                return Repeated(_message(row, draft.room))
            case "too_many":
                return TooManyPosts(row["retry_after_s"])
        raise UnknownRoom(draft.room)

    async def history(
        self,
        room: RoomName,
        viewer: Viewer,
        *,
        before: int | None = None,
        limit: int = HISTORY_LIMIT,
    ) -> History:
        """See `ChatLog.history`."""
        if not 1 <= limit <= HISTORY_LIMIT:
            raise ValueError(f"limit must be 1 to {HISTORY_LIMIT}, got {limit}")
        if before is not None and before < 1:
            raise ValueError(f"before must be at least 1, got {before}")
        rows = await _available(self._database.run(_history, room, viewer, before, limit))
        if not rows:
            raise UnknownRoom(room)
        found = [_message(row, room) for row in rows if row["id"] is not None]
        return History(tuple(found[-limit:]), rows[0]["n"], has_older=len(found) > limit)

    async def join(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.join`."""
        return await _available(self._database.transact(_join, room, user_id))

    async def is_member(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.is_member`."""
        return await _available(self._database.run(_is_member, room, user_id))


async def _available(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except StoreUnavailable as error:
        raise ChatLogUnavailable(str(error)) from error


async def _post(connection: Connection, draft: Draft) -> asyncpg.Record:
    author, limits = draft.author, draft.limits
    row = await connection.fetchrow(
        _POST,
        draft.room,
        draft.message_id,
        draft.event_id,
        author.user_id,
        author.session_id,
        author.key,
        draft.body,
        draft.client_id,
        draft.status.value,
        draft.reason,
        draft.created_at,
        _json(draft.metadata),
        [limit.key for limit in limits],
        [limit.posts_max for limit in limits],
        [limit.period_s for limit in limits],
    )
    assert row is not None, "chat_post gives one row"
    return row


async def _history(
    connection: Connection, room: RoomName, viewer: Viewer, before: int | None, limit: int
) -> list[asyncpg.Record]:
    return await connection.fetch(
        _HISTORY,
        room,
        _SEQ_MAX if before is None else before,
        viewer.is_moderator,
        viewer.session_id,
        viewer.user_id,
        limit + 1,
    )


async def _ensure_rooms(connection: Connection, names: list[RoomName]) -> Mapping[RoomName, Room]:
    # Looked for first: at most starts all are there, also while nothing can be written.
    rows = await connection.fetch("SELECT name FROM chat_rooms WHERE name = ANY($1)", names)
    for name in set(names) - {row["name"] for row in rows}:
        made = await connection.fetchval(
            "INSERT INTO chat_rooms (id, name) VALUES ($1, $2)"
            " ON CONFLICT (name) DO NOTHING RETURNING id",
            uuid4(),
            name,
        )
        if made is not None:
            await _audit(connection, made, None, "chat.room.create", {})
    rows = await connection.fetch("SELECT id, name FROM chat_rooms WHERE name = ANY($1)", names)
    rooms = {RoomName(row["name"]): _uuid(row["id"]) for row in rows}
    return {name: Room(rooms[name], name) for name in names}


async def _join(connection: Connection, room: RoomName, user_id: UUID) -> bool:
    room_id = await connection.fetchval("SELECT id FROM chat_rooms WHERE name = $1", room)
    if room_id is None:
        raise UnknownRoom(room)
    try:
        done = await connection.execute(
            "INSERT INTO chat_room_memberships (room_id, user_id) VALUES ($1, $2)"
            " ON CONFLICT DO NOTHING",
            room_id,
            user_id,
        )
    except asyncpg.ForeignKeyViolationError as error:
        raise UnknownUser(str(user_id)) from error
    if done == "INSERT 0 0":
        return False
    await _audit(connection, room_id, user_id, "chat.room.join", {"role": "member"})
    return True


async def _is_member(connection: Connection, room: RoomName, user_id: UUID) -> bool:
    row = await connection.fetchrow(
        "SELECT EXISTS (SELECT FROM chat_room_memberships m"
        " WHERE m.room_id = r.id AND m.user_id = $2) AS is_member"
        " FROM chat_rooms r WHERE r.name = $1",
        room,
        user_id,
    )
    if row is None:
        raise UnknownRoom(room)
    return bool(row["is_member"])


async def _audit(
    connection: Connection,
    room_id: UUID,
    user_id: UUID | None,
    action: str,
    metadata: dict[str, str],
) -> None:
    now = datetime.now(UTC)
    facts = {"room_id": str(room_id), **metadata, "timestamp_ms": int(now.timestamp() * 1000)}
    await connection.execute(
        "INSERT INTO chat_audit_log (room_id, actor_user_id, action, metadata, created_at)"
        " VALUES ($1, $2, $3, $4, $5)",
        room_id,
        user_id,
        action,
        _json(facts),
        now,
    )


def _message(row: asyncpg.Record, room: RoomName) -> Message:
    user_id = row["user_id"]
    return Message(
        id=_uuid(row["id"]),
        room=room,
        seq=row["seq"],
        user_id=None if user_id is None else _uuid(user_id),
        author_session=row["author_session"],
        author_name=row["author_name"],
        body=row["body"],
        status=Status(row["status"]),
        client_id=row["client_id"],
        created_at=row["created_at"],
    )


def _uuid(value: UUID) -> UUID:
    """A plain UUID: the driver's own subclass is unknown to encoders."""
    return UUID(int=value.int)


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
