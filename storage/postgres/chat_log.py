"""The chat log in tables of PostgreSQL; the twin of `storage/memory/chat_log.py`.

A post is one statement: the function `chat_post` of the chat migration does all of it under
a lock of the room, taken before the transaction has its number. Several posts are one statement as
well; where one of them cannot be stored, each goes by itself. The event of a post stands in
the stream `room-<id>`. Its text is sealed here, before the statement, and what is sealed stands in
the event and with the message.
"""

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from dataclasses import replace
from datetime import timedelta
from operator import itemgetter
from time import perf_counter
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import msgspec

from actors.chat import (
    ChatLogUnavailable,
    Draft,
    History,
    Message,
    Newest,
    Posted,
    PostOutcome,
    PostRefused,
    PostVerdict,
    Repeated,
    Room,
    RoomHead,
    RoomName,
    Said,
    SaidAgain,
    Status,
    TooManyPosts,
    TooManyWaiting,
    UnknownRoom,
    Viewer,
)
from actors.chat.chat_log import (
    HISTORY_LIMIT,
    SAID_LIMIT,
    WAITING_MAX,
    check_drafts,
    check_history,
    check_member,
    check_members,
    check_newest,
    check_owner,
    check_rooms,
    check_said,
)
from actors.chat.moderation import (
    AUDIT_LIMIT,
    QUEUE_LIMIT,
    AuditEntry,
    AuditPage,
    Decided,
    ModerationOutcome,
    NotDecided,
    Verdict,
    WaitingList,
    WaitingMessage,
    check_audited,
    check_waiting,
)
from actors.chat.stored import (
    AUDIT_KEPT,
    LIMITS_KEPT,
    MESSAGES_KEPT,
    heard_by_all,
    post_event,
    sealed_text,
    stream_of,
    text_of,
    verdict_event,
)
from actors.chat.words import AuthorId, TakenAway
from actors.persistence import AppendRequest, Fenced, Keyring, Shard, StreamId
from actors.persistence.event_store import check_limit, refuse_closed
from actors.persistence.words import check_a, check_text, check_uuid
from actors.runtime import Log
from storage.errors import (
    MasterKeyMissing,
    StatementRefused,
    StoredDataError,
    StoreMisuse,
    StoreUnavailable,
    SubjectForgotten,
    UnknownUser,
)
from storage.postgres.connecting.database import Database
from storage.postgres.connecting.figures import StoreTallies
from storage.postgres.connecting.notices import ROOMS
from storage.postgres.connecting.session import Connection, change_rows
from storage.postgres.connecting.statements import on_behalf_of
from storage.postgres.event_store import PostgresEventStore
from storage.postgres.events.reading import last_event

# The category of rooms, as operators are told of their appends.
_ROOM = "room"
T = TypeVar("T")

_log = Log(__name__)

# They concern a key: nobody can post or read with it until somebody mends that, and a room that
# crashes would not.
_OF_A_KEY = (SubjectForgotten, MasterKeyMissing, StoredDataError)

_POST = """
SELECT outcome, n, retry_after_s, id, seq, user_id, author_session, author_name, body, event_id,
    sealed, status, client_id, created_at
FROM chat_post($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""

# Several posts in one statement, and so with one commit: the function is called for each in turn,
# and sees what it has written for those before. The room is held from the first to the last.
_POST_ALL = """
SELECT d.ordinality AS place, p.outcome, p.n, p.retry_after_s, p.id, p.seq, p.user_id,
    p.author_session, p.author_name, p.body, p.event_id, p.sealed, p.status, p.client_id,
    p.created_at
FROM ROWS FROM (jsonb_to_recordset($2::jsonb) AS (
    message_id uuid, event_id uuid, user_id uuid, session text, author_key text, event jsonb,
    client_id text, status text, reason text, created_at timestamptz, metadata jsonb,
    limit_keys text[], limit_max int[], limit_period float8[], waiting_max int))
    WITH ORDINALITY AS d
CROSS JOIN LATERAL chat_post($1, d.message_id, d.event_id, d.user_id, d.session, d.author_key,
    d.event, d.client_id, d.status, d.reason, d.created_at, d.metadata, d.limit_keys, d.limit_max,
    d.limit_period, d.waiting_max) AS p
"""

# The same as the owner of a shard: of one that is another's by now nothing is posted, and no row
# comes back. Who takes the shard over waits until this is committed.
_HELD = """
WITH held AS MATERIALIZED (
    SELECT 1 FROM shards WHERE id = $3 AND owner = $4 AND epoch = $5 FOR KEY SHARE)
"""
_POST_ALL_HELD = _HELD + _POST_ALL.replace(
    "($2::jsonb)", "(CASE WHEN EXISTS (SELECT 1 FROM held) THEN $2::jsonb ELSE '[]' END)"
)
_EPOCH = "SELECT epoch FROM shards WHERE id = $1"

# One statement, so messages and event number come from one snapshot.
_HISTORY = """
WITH r AS (SELECT id, name, last_event FROM chat_rooms WHERE name = $1),
m AS (
    SELECT m.id, m.seq, m.user_id, m.author_session, m.body, m.event_id, m.sealed, m.status,
        m.client_id, m.created_at
    FROM chat_messages m, r
    WHERE m.room_id = r.id AND m.seq < $2 AND (m.status = 'visible'
        OR m.status = 'pending' AND $3 OR m.status = 'removed' AND $7
        OR m.author_session = $4 OR m.author_session IS NULL AND m.user_id = $5)
    ORDER BY m.seq DESC LIMIT $6
)
SELECT r.id AS room_id, r.last_event AS n, m.id, m.seq, m.user_id, m.author_session,
    u.display_name AS author_name, m.body, m.event_id, m.sealed, m.status, m.client_id,
    m.created_at, q.reason AS removed_for
FROM r LEFT JOIN m ON true LEFT JOIN users u ON u.id = m.user_id
    LEFT JOIN chat_moderation_queue q ON q.message_id = m.id AND m.status = 'removed'
ORDER BY m.seq
"""

# One statement again. Who has something that waits for review, or was removed, behind the first of
# these messages, or at all where there is none before it: told on the last row only, there may be
# many.
_NEWEST = """
WITH r AS (SELECT id, last_event FROM chat_rooms WHERE name = $1),
m AS (
    SELECT m.id, m.seq, m.user_id, m.author_session, m.body, m.event_id, m.sealed, m.status,
        m.client_id, m.created_at
    FROM chat_messages m, r
    WHERE m.room_id = r.id AND m.status = 'visible' ORDER BY m.seq DESC LIMIT $2 + 1
),
p AS (
    SELECT p.author_session, p.user_id FROM chat_messages p, r
    WHERE p.room_id = r.id AND p.status IN ('pending', 'removed')
        AND p.seq > (SELECT CASE WHEN count(*) > $2 THEN min(seq) ELSE 0 END FROM m)
    LIMIT $3 + 1
)
SELECT r.id AS room_id, r.last_event AS n, m.id, m.seq, m.user_id, m.author_session,
    u.display_name AS author_name, m.body, m.event_id, m.sealed, m.status, m.client_id,
    m.created_at, CASE WHEN m.seq IS NOT DISTINCT FROM (SELECT max(seq) FROM m) THEN
        (SELECT array_agg(to_jsonb(p)) FROM p) END AS waiting
FROM r LEFT JOIN m ON true LEFT JOIN users u ON u.id = m.user_id
ORDER BY m.seq
"""

# A post that finds its place taken goes again, as long as its room's stream is closed and reopened
# under it: more often than that is no person.
RACES_MAX = 3
STREAM_KEY = "events_pkey"

# What is kept of messages that were shown; the text as `_texts` reads it.
_SHOWN = """
SELECT m.id, m.seq, m.user_id, m.author_session, u.display_name AS author_name, m.body, m.event_id,
    m.sealed, m.status, m.client_id, m.created_at
FROM chat_messages m LEFT JOIN users u ON u.id = m.user_id WHERE m.id = ANY($1)
"""

_MODERATE = """
SELECT outcome, room_name, room_id, n, reason, id, seq, user_id, author_session, author_name, body,
    event_id, sealed, status, client_id, created_at
FROM chat_moderate($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

# The count by the same snapshot, on every row; one row without a message when nobody waits.
_WAITING = """
WITH q AS (
    SELECT message_id, reason, queued_at FROM chat_moderation_queue
    WHERE status = 'pending' ORDER BY queued_at, message_id LIMIT $1
),
c AS (SELECT count(*) AS waiting FROM chat_moderation_queue WHERE status = 'pending')
SELECT c.waiting, q.reason, session_members(m.author_session) AS members, r.name AS room_name,
    m.room_id, m.id, m.seq, m.user_id, m.author_session, u.display_name AS author_name, m.body,
    m.event_id, m.sealed, m.status, m.client_id, m.created_at
FROM c LEFT JOIN q ON true LEFT JOIN chat_messages m ON m.id = q.message_id
    LEFT JOIN chat_rooms r ON r.id = m.room_id LEFT JOIN users u ON u.id = m.user_id
ORDER BY q.queued_at, q.message_id
"""

_AUDITED = """
SELECT a.id, a.created_at, a.action, a.actor_user_id, u.display_name AS actor_name,
    r.name AS room_name, a.metadata::text AS metadata
FROM chat_audit_log a LEFT JOIN users u ON u.id = a.actor_user_id
    LEFT JOIN chat_rooms r ON r.id = a.room_id
WHERE a.id < $1 ORDER BY a.id DESC LIMIT $2
"""

_MEMBERS = """
SELECT user_id FROM chat_room_memberships WHERE room_id = $1 AND user_id = ANY($2)
"""

_VERSIONS = "SELECT name, last_event FROM chat_rooms"

_SEQ_MAX = 2**63 - 1

# Posts of before had no text in their event, and are not made again.
_REBUILD = """
WITH told AS (
    SELECT r.id AS room_id, e.event_id, e.event_type, e.codec,
        convert_from(e.event_data, 'UTF8')::jsonb AS fact
    FROM chat_rooms r JOIN events e ON e.stream_id = 'room-' || r.id
    WHERE e.event_type IN ('MessagePosted', 'MessageModerated')
        AND e.stream_id NOT IN (SELECT stream_id FROM removals)
), decided AS (
    SELECT (fact ->> 'message_id')::uuid AS message_id, fact ->> 'decision' AS decision,
        (fact ->> 'reviewer_id')::uuid AS reviewer_id,
        (fact ->> 'decided_at')::timestamptz AS decided_at
    FROM told WHERE event_type = 'MessageModerated'
), told_why AS (
    -- The events do not say why; the audit does, and is kept for longer than messages.
    SELECT (metadata ->> 'message_id')::uuid AS message_id, metadata ->> 'reason' AS reason
    FROM chat_audit_log WHERE action = 'chat.message.moderate'
), posted AS (
    SELECT room_id, event_id, fact, d.decision, d.reviewer_id, d.decided_at
    FROM told LEFT JOIN decided d ON d.message_id = (fact ->> 'message_id')::uuid
    WHERE event_type = 'MessagePosted' AND codec = 'json+private'
), made AS (
    INSERT INTO chat_messages (id, room_id, seq, user_id, author_session, author_key, event_id,
        sealed, status, client_id, created_at)
    SELECT (fact ->> 'message_id')::uuid, room_id, (fact ->> 'seq')::bigint,
        (fact ->> 'user_id')::uuid, fact ->> 'author_session',
        CASE WHEN fact ->> 'author_session' IS NULL THEN 'user:' || (fact ->> 'user_id')
            WHEN fact ->> 'user_id' IS NULL THEN 'session:' || (fact ->> 'author_session')
            ELSE 'demo:' || (fact ->> 'author_session') END,
        event_id, fact -> '$private', CASE decision WHEN 'approve' THEN 'visible'
            WHEN 'remove' THEN 'removed' ELSE fact ->> 'status' END, fact ->> 'client_id',
        (fact ->> 'created_at')::timestamptz
    FROM posted WHERE (fact ->> 'created_at')::timestamptz > clock_timestamp() - $1::interval
    ON CONFLICT DO NOTHING
    RETURNING id, event_id, created_at
), queued AS (
    INSERT INTO chat_moderation_queue (message_id, reason, status, reviewer_id, reviewed_at,
        queued_at)
    SELECT m.id, coalesce(w.reason, p.fact ->> 'reason', 'auto'), CASE p.decision WHEN 'approve'
        THEN 'approved' WHEN 'remove' THEN 'removed' ELSE 'pending' END, p.reviewer_id,
        p.decided_at, m.created_at
    FROM made m JOIN posted p USING (event_id) LEFT JOIN told_why w ON w.message_id = m.id
    WHERE p.fact ->> 'status' = 'pending'
)
SELECT count(*) FROM made
"""

_PURGE_MESSAGES = """
DELETE FROM chat_messages WHERE id = ANY(ARRAY(SELECT id FROM chat_messages
    WHERE created_at <= clock_timestamp() - $1::interval LIMIT $2))
"""
_PURGE_CHAT_AUDIT = """
DELETE FROM chat_audit_log WHERE id = ANY(ARRAY(SELECT id FROM chat_audit_log
    WHERE created_at <= clock_timestamp() - $1::interval LIMIT $2))
"""
_PURGE_AUDIT = """
DELETE FROM audit_log WHERE id = ANY(ARRAY(SELECT id FROM audit_log
    WHERE at <= clock_timestamp() - $1::interval LIMIT $2))
"""
_PURGE_LIMITS = """
DELETE FROM chat_rate_limits WHERE ctid = ANY(ARRAY(SELECT ctid FROM chat_rate_limits
    WHERE NOT coalesce(clock_timestamp() - $1::interval < ANY(accepted_at), false) LIMIT $2))
"""
# `room:<id>:<day>`: a day as text sorts as a day.
_OLD_DAYS = """
SELECT k.subject FROM chat_rooms r JOIN subject_keys k
    ON k.subject >= 'room:' || r.id || ':' AND k.subject < 'room:' || r.id || ':'
        || to_char((now() - $1::interval) AT TIME ZONE 'UTC', 'YYYY-MM-DD')
WHERE k.wrapped IS NOT NULL ORDER BY k.subject LIMIT $2
"""
_AUDIT = """
INSERT INTO chat_audit_log (room_id, actor_user_id, action, metadata, created_at)
SELECT $1, $2, $3, $4::jsonb || jsonb_build_object(
    'timestamp_ms', floor(extract(epoch FROM c.now) * 1000)::bigint), c.now
FROM (SELECT clock_timestamp() AS now) c
"""
# Who forgets, in the audit.
PURGE = "chat.purge"


class PostgresChatLog:
    """The port `ChatLog` on a `Database` whose schema is up to date."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database, self._keyring = database, keyring
        # Only read: rooms write their events with their messages.
        self._events = PostgresEventStore(database)
        # Rooms are a closed set, and keep their ids.
        self._rooms: dict[RoomName, UUID] = {}
        self._counted = StoreTallies(database.tallies)

    async def ensure_rooms(self, names: Sequence[RoomName]) -> Mapping[RoomName, Room]:
        """See `ChatLog.ensure_rooms`."""
        check_rooms(names)
        return await _available(self._database.transact(_ensure_rooms, list(names)))

    async def post(self, draft: Draft) -> PostOutcome:
        """See `ChatLog.post`."""
        check_a("draft", draft, Draft)
        verdict = await self._post_alone(draft, await self._room_id(draft.room))
        if isinstance(verdict, ChatLogUnavailable | PostRefused):
            raise verdict
        return verdict

    async def post_all(self, drafts: Sequence[Draft]) -> Sequence[PostVerdict]:
        """See `ChatLog.post_all`."""
        return await self._post_all(drafts, None)

    async def post_as_owner(self, drafts: Sequence[Draft], shard: Shard) -> Sequence[PostVerdict]:
        """See `ChatLog.post_as_owner`."""
        check_owner(shard)
        return await self._post_all(drafts, shard)

    async def _post_all(
        self, drafts: Sequence[Draft], shard: Shard | None
    ) -> Sequence[PostVerdict]:
        check_drafts(drafts)
        if not drafts:
            return ()
        with on_behalf_of([cause for draft in drafts if (cause := _cause_of(draft))]):
            return await self._post_drafts(drafts, shard)

    async def _post_drafts(
        self, drafts: Sequence[Draft], shard: Shard | None
    ) -> Sequence[PostVerdict]:
        try:
            room_id = await self._room_id(drafts[0].room)
        except ChatLogUnavailable as error:
            return [error] * len(drafts)
        verdicts = None if len(drafts) == 1 else await self._post_together(drafts, room_id, shard)
        return verdicts or await self._post_apart(drafts, room_id, shard)

    async def _post_together(
        self, drafts: Sequence[Draft], room_id: UUID, shard: Shard | None
    ) -> list[PostVerdict] | None:
        """None when one of them cannot be stored: nothing is, and each has to try alone."""
        try:
            events = await self._seal(drafts, room_id)
            rows = await self._retried(_post_all, drafts[0].room, drafts, events, shard)
            return [
                await self._verdict(draft, room_id, row)
                for draft, row in zip(drafts, rows, strict=True)
            ]
        except (StatementRefused, StoreMisuse, ChatLogUnavailable, *_OF_A_KEY):
            return None
        except StoreUnavailable as error:
            return [_unavailable(error)] * len(drafts)

    async def _post_apart(
        self, drafts: Sequence[Draft], room_id: UUID, shard: Shard | None
    ) -> list[PostVerdict]:
        verdicts: list[PostVerdict] = []
        for draft in drafts:
            if verdicts and _is_away(verdicts[-1]):
                # The next one would wait for the store as long, and the room with it.
                verdicts.append(verdicts[-1])
            else:
                verdicts.append(await self._post_alone(draft, room_id, shard))
        return verdicts

    async def _post_alone(
        self, draft: Draft, room_id: UUID, shard: Shard | None = None
    ) -> PostVerdict:
        try:
            events = await self._seal([draft], room_id)
            if shard is None:
                row = await self._retried(_post, draft.room, draft, *events)
            else:
                (row,) = await self._retried(_post_all, draft.room, [draft], events, shard)
            return await self._verdict(draft, room_id, row)
        except ChatLogUnavailable as error:
            return error  # The room is closed.
        except (StoreUnavailable, *_OF_A_KEY) as error:
            return _unavailable(error)
        except (StatementRefused, StoreMisuse) as error:
            # Too large once it is sealed, or what no check of ours foresaw.
            _log.warning("chat.post_refused", room=draft.room, error=str(error))
            refused = PostRefused(str(error))
            refused.__cause__ = error
            return refused

    async def _seal(self, drafts: Sequence[Draft], room_id: UUID) -> list[str]:
        # Before the statement, which holds the room.
        request = AppendRequest(
            stream_of(room_id), [post_event(draft, room_id) for draft in drafts]
        )
        (sealed,) = await self._keyring.seal([request])
        return [event.data.decode() for event in sealed.events]

    async def _retried(
        self, work: Callable[..., Coroutine[Any, Any, T]], room: RoomName, *args: object
    ) -> T:
        for _ in range(RACES_MAX):
            began = perf_counter()
            try:
                done = await self._database.run(work, *args, channel=ROOMS)
                self._counted.posted(_ROOM, began, count=_count_of(done), is_stored=True)
                return done
            except StoreUnavailable:
                self._counted.posted(_ROOM, began, count=1, is_stored=False)
                raise
            except StatementRefused as error:
                if error.constraint != STREAM_KEY:
                    raise
                # The next place in the room's stream is taken, and not by a post: it was closed.
                await self._database.transact(_catch_up, room)
        raise StoreUnavailable(f"the stream of {room} changes all the time")

    async def _verdict(self, draft: Draft, room_id: UUID, row: asyncpg.Record) -> PostVerdict:
        match row["outcome"]:
            case "posted":
                return Posted(_message(row, draft.room, draft.body), row["n"])
            case "repeated":
                try:
                    (text,) = await self._texts(room_id, [row])
                    n = await _available(self._database.run(_version_of, row["event_id"]))
                except ChatLogUnavailable as error:
                    return error  # Of this one alone: the others are stored by now.
                return Repeated(_message(row, draft.room, text), n)
            case "too_many":
                return TooManyPosts(row["retry_after_s"])
            case "too_many_waiting":
                assert draft.waiting_max is not None
                return TooManyWaiting(draft.waiting_max)
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
        check_history(room, viewer, before, limit)
        rows = await _available(self._database.run(_history, room, viewer, before, limit))
        if not rows:
            raise UnknownRoom(room)
        found = [row for row in rows if row["id"] is not None]
        kept = [row for row in found if row["status"] != Status.REMOVED]
        texts = iter(await self._texts(rows[0]["room_id"], kept))
        messages = [
            replace(_message(row, room, ""), removed_for=row["removed_for"])
            if row["status"] == Status.REMOVED
            else _message(row, room, next(texts))
            for row in found
        ]
        return History(tuple(messages[-limit:]), rows[0]["n"], has_older=len(found) > limit)

    async def head(self, room: RoomName) -> RoomHead:
        """See `ChatLog.head`."""
        check_text("room", room)
        return await _available(self._head(stream_of(await self._room_id(room))))

    async def said(self, room: RoomName, *, after: int, limit: int = SAID_LIMIT) -> Said:
        """See `ChatLog.said`."""
        check_said(room, after, limit)
        return await _available(self._said(room, await self._room_id(room), after, limit))

    async def versions(self) -> Mapping[RoomName, int]:
        """See `ChatLog.versions`."""
        rows = await _available(self._database.run(_fetch, _VERSIONS))
        return {RoomName(row["name"]): row["last_event"] for row in rows}

    async def rings(self, every_s: float) -> AsyncGenerator[None, None]:
        """See `ChatLog.rings`."""
        bell = self._database.bell(ROOMS)
        with bell.heard():
            while True:
                # Before whoever is woken looks: what is stored while it does rings for it.
                wait = bell.listen()
                yield
                await wait(every_s)

    async def newest(self, room: RoomName, *, limit: int = HISTORY_LIMIT) -> Newest:
        """See `ChatLog.newest`."""
        check_newest(room, limit)
        rows = await _available(self._database.run(_fetch, _NEWEST, room, limit, WAITING_MAX))
        if not rows:
            raise UnknownRoom(room)
        found = [row for row in rows if row["id"] is not None][-limit:]
        texts = await self._texts(rows[0]["room_id"], found)
        messages = [_message(row, room, text) for row, text in zip(found, texts, strict=True)]
        waiting = [msgspec.json.decode(one, type=_Waiting) for one in rows[-1]["waiting"] or ()]
        return Newest(
            tuple(messages),
            rows[0]["n"],
            has_older=len(rows) > limit,
            waiting=None if len(waiting) > WAITING_MAX else frozenset(map(_author_id, waiting)),
        )

    async def room_of(self, message_id: UUID) -> RoomName | None:
        """See `ChatLog.room_of`."""
        check_uuid("message_id", message_id)
        rows = await _available(
            self._database.run(
                _fetch,
                "SELECT r.name FROM chat_messages m JOIN chat_rooms r ON r.id = m.room_id"
                " WHERE m.id = $1",
                message_id,
            )
        )
        return RoomName(rows[0]["name"]) if rows else None

    async def moderate(self, verdict: Verdict) -> ModerationOutcome:
        """See `ChatLog.moderate`."""
        check_a("verdict", verdict, Verdict)
        room = await self.room_of(verdict.message_id)
        if room is None:
            return NotDecided.UNKNOWN
        row = await _available(self._retried(_moderate, room, verdict))
        if row["outcome"] != "decided":
            return NotDecided(row["outcome"])
        (text,) = await self._texts(_uuid(row["room_id"]), [row])
        return Decided(_message(row, room, text), row["n"], row["reason"])

    async def waiting(self, limit: int = QUEUE_LIMIT) -> WaitingList:
        """See `ChatLog.waiting`."""
        check_waiting(limit)
        rows = await _available(self._database.run(_fetch, _WAITING, limit))
        found = [row for row in rows if row["id"] is not None]
        texts: dict[UUID, str] = {}
        for room_id in {row["room_id"] for row in found}:
            own = [row for row in found if row["room_id"] == room_id]
            opened = await self._texts(_uuid(room_id), own)
            texts.update(zip((row["id"] for row in own), opened, strict=True))
        return WaitingList(
            tuple(
                WaitingMessage(
                    _message(row, RoomName(row["room_name"]), texts[row["id"]]),
                    row["reason"],
                    frozenset(map(_uuid, row["members"])),
                )
                for row in found
            ),
            rows[0]["waiting"],
        )

    async def audited(self, *, before: int | None = None, limit: int = AUDIT_LIMIT) -> AuditPage:
        """See `ChatLog.audited`."""
        check_audited(before, limit)
        first = _SEQ_MAX if before is None else before
        rows = await _available(self._database.run(_fetch, _AUDITED, first, limit + 1))
        return AuditPage(tuple(map(_audit_entry, rows[:limit])), has_older=len(rows) > limit)

    async def join(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.join`."""
        check_member(room, user_id)
        return await _available(self._database.transact(_join, room, user_id))

    async def is_member(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.is_member`."""
        check_member(room, user_id)
        return await _available(self._database.run(_is_member, room, user_id))

    async def members(self, room: RoomName, user_ids: Sequence[UUID]) -> frozenset[UUID]:
        """See `ChatLog.members`."""
        asked = check_members(room, user_ids)
        room_id = await self._room_id(room)
        rows = await _available(self._database.run(_fetch, _MEMBERS, room_id, asked))
        return frozenset(_uuid(row["user_id"]) for row in rows)

    async def rebuild(self) -> int:
        """See `ChatLog.rebuild`."""
        return await _available(self._database.run(_rebuild))

    async def purge_messages(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_messages`."""
        check_limit(limit)
        return await self._purge(_PURGE_MESSAGES, MESSAGES_KEPT, limit)

    async def purge_texts(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_texts`."""
        check_limit(limit)
        rows = await _available(self._database.run(_fetch, _OLD_DAYS, MESSAGES_KEPT, limit))
        for row in rows:
            await _available(self._keyring.forget(row["subject"], by=PURGE))
        return len(rows)

    async def purge_audit(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_audit`."""
        check_limit(limit)
        gone = await self._purge(_PURGE_CHAT_AUDIT, AUDIT_KEPT, limit)
        return gone or await self._purge(_PURGE_AUDIT, AUDIT_KEPT, limit)

    async def purge_limits(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_limits`."""
        check_limit(limit)
        return await self._purge(_PURGE_LIMITS, LIMITS_KEPT, limit)

    async def _head(self, stream: StreamId) -> RoomHead:
        lineage, n = await self._events.lineage(), await self._events.head(stream)
        at = n
        while at > 0:
            # Few wait for review: the first page has one that all saw, as a rule its first.
            newest = self._events.load_backwards(stream, from_version=at, limit=SAID_LIMIT)
            page = [event async for event in newest]
            for event in page:
                if heard_by_all([event]):
                    return RoomHead(lineage, n, event.version)
            at = page[-1].version - 1 if page else 0
        return RoomHead(lineage, n, 0)

    async def _said(self, room: RoomName, room_id: UUID, after: int, limit: int) -> Said:
        stream = stream_of(room_id)
        page = [
            event
            async for event in self._events.load(
                stream, from_version=after + 1, to_version=after + limit
            )
        ]
        heard = heard_by_all(page)
        ids = [one.message_id for one in heard if not one.is_withdrawn]
        rows = {row["id"]: row for row in await self._database.run(_fetch, _SHOWN, ids)}
        shown = [
            (one.event, rows[one.message_id])
            for one in heard
            if not one.is_withdrawn
            and one.message_id in rows
            and rows[one.message_id]["status"] != Status.REMOVED
        ]
        texts = await self._texts(room_id, [row for _, row in shown])
        # Asked behind the page: no lineage comes back, so what it says held for the page.
        return Said(
            await self._events.lineage(),
            await self._events.head(stream),
            page[-1].version if page else after,
            tuple(
                SaidAgain(
                    _message(row, room, text), event.version, event.metadata.get("correlation_id")
                )
                for (event, row), text in zip(shown, texts, strict=True)
            ),
            is_whole=len(rows) == len(ids),
            withdrawn=tuple(
                TakenAway(
                    one.message_id, one.event.version, one.event.metadata.get("correlation_id")
                )
                for one in heard
                if one.is_withdrawn
            ),
        )

    async def _purge(self, statement: str, kept: timedelta, limit: int) -> int:
        return await _available(self._database.run(change_rows, statement, kept, limit))

    async def _room_id(self, room: RoomName) -> UUID:
        known = self._rooms.get(room)
        if known is None:
            rows = await _available(
                self._database.run(_fetch, "SELECT id FROM chat_rooms WHERE name = $1", room)
            )
            if not rows:
                raise UnknownRoom(room)
            known = self._rooms[room] = _uuid(rows[0]["id"])
        return known

    async def _texts(self, room_id: UUID, rows: Sequence[asyncpg.Record]) -> list[str]:
        """The text of each row: as it stands there, or out of what is sealed."""
        sealed = [
            sealed_text(room_id, row["event_id"], row["sealed"], row["created_at"])
            for row in rows
            if row["sealed"] is not None
        ]
        opened = iter(await _available(self._keyring.open(sealed)) if sealed else ())
        return [row["body"] if row["sealed"] is None else text_of(next(opened)) for row in rows]


def _count_of(done: object) -> int:
    return len(done) if isinstance(done, list) else 1


async def _version_of(connection: Connection, event_id: UUID | None) -> int | None:
    """The place of an event in its stream; messages of long ago do not name theirs."""
    version: int | None = await connection.fetchval(
        "SELECT version FROM events WHERE event_id = $1", event_id
    )
    return version


async def _catch_up(connection: Connection, room: RoomName) -> None:
    """Count the room's events from where its stream is, unless that is closed."""
    row = await connection.fetchrow("SELECT id FROM chat_rooms WHERE name = $1 FOR UPDATE", room)
    if row is None:
        raise UnknownRoom(room)
    stream_id = f"room-{row['id']}"
    version, last_type = await last_event(connection, stream_id)
    try:
        refuse_closed(stream_id, version, last_type)
    except StoreMisuse as error:
        raise ChatLogUnavailable(str(error)) from error
    await connection.execute(
        "UPDATE chat_rooms SET last_event = greatest(last_event, $2) WHERE id = $1",
        row["id"],
        version,
    )


async def _available(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except (StoreUnavailable, *_OF_A_KEY) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> ChatLogUnavailable:
    told = ChatLogUnavailable(str(error))
    told.__cause__ = error
    return told


def _cause_of(draft: Draft) -> str | None:
    """The request that has led to a post, as its room has noted it."""
    return draft.metadata.get("correlation_id")


def _is_away(verdict: PostVerdict) -> bool:
    return isinstance(verdict, ChatLogUnavailable) and isinstance(
        verdict.__cause__, StoreUnavailable
    )


async def _fetch(connection: Connection, statement: str, *args: object) -> list[asyncpg.Record]:
    return await connection.fetch(statement, *args)


async def _rebuild(connection: Connection) -> int:
    return int(await connection.fetchval(_REBUILD, MESSAGES_KEPT))


async def _post(connection: Connection, draft: Draft, event: str) -> asyncpg.Record:
    author, limits = draft.author, draft.limits
    row = await connection.fetchrow(
        _POST,
        draft.room,
        draft.message_id,
        draft.event_id,
        author.user_id,
        author.session_id,
        author.key,
        event,
        draft.client_id,
        draft.status.value,
        draft.reason,
        draft.created_at,
        _json(draft.metadata),
        [limit.key for limit in limits],
        [limit.posts_max for limit in limits],
        [limit.period_s for limit in limits],
        draft.waiting_max,
    )
    assert row is not None, "chat_post gives one row"
    return row


async def _moderate(connection: Connection, verdict: Verdict) -> asyncpg.Record:
    row = await connection.fetchrow(
        _MODERATE,
        verdict.message_id,
        verdict.event_id,
        verdict.reviewer_id,
        verdict.reviewer_session,
        verdict.decision.value,
        verdict.reason,
        verdict.decided_at,
        verdict_event(verdict).data.decode(),
        _json(verdict.metadata),
    )
    assert row is not None, "chat_moderate gives one row"
    return row


async def _post_all(
    connection: Connection,
    drafts: Sequence[Draft],
    events: Sequence[str],
    shard: Shard | None,
) -> list[asyncpg.Record]:
    told = [_told(draft, event) for draft, event in zip(drafts, events, strict=True)]
    given = drafts[0].room, msgspec.json.encode(told).decode()
    if shard is None:
        rows = await connection.fetch(_POST_ALL, *given)
    else:
        held = shard.id, shard.owner, shard.epoch
        rows = await connection.fetch(_POST_ALL_HELD, *given, *held)
        if not rows:
            raise Fenced(shard.id, shard.epoch, await connection.fetchval(_EPOCH, shard.id))
    return sorted(rows, key=itemgetter("place"))


def _told(draft: Draft, event: str) -> dict[str, object]:
    author, limits = draft.author, draft.limits
    return {
        "message_id": draft.message_id,
        "event_id": draft.event_id,
        "user_id": author.user_id,
        "session": author.session_id,
        "author_key": author.key,
        "event": msgspec.Raw(event.encode()),
        "client_id": draft.client_id,
        "status": draft.status.value,
        "reason": draft.reason,
        "created_at": draft.created_at,
        "metadata": draft.metadata,
        "limit_keys": [limit.key for limit in limits],
        "limit_max": [limit.posts_max for limit in limits],
        "limit_period": [limit.period_s for limit in limits],
        "waiting_max": draft.waiting_max,
    }


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
        viewer.tells_authors,
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
    except asyncpg.ForeignKeyViolationError:
        raise UnknownUser(str(user_id)) from None
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
    facts = {"room_id": str(room_id), **metadata}
    await connection.execute(_AUDIT, room_id, user_id, action, _json(facts))


def _message(row: asyncpg.Record, room: RoomName, body: str) -> Message:
    user_id = row["user_id"]
    return Message(
        id=_uuid(row["id"]),
        room=room,
        seq=row["seq"],
        user_id=None if user_id is None else _uuid(user_id),
        author_session=row["author_session"],
        author_name=row["author_name"],
        body=body,
        status=Status(row["status"]),
        client_id=row["client_id"],
        created_at=row["created_at"],
    )


def _audit_entry(row: asyncpg.Record) -> AuditEntry:
    actor, room = row["actor_user_id"], row["room_name"]
    return AuditEntry(
        id=row["id"],
        at=row["created_at"],
        action=row["action"],
        actor=None if actor is None else _uuid(actor),
        actor_name=row["actor_name"],
        room=None if room is None else RoomName(room),
        metadata=msgspec.json.decode(row["metadata"], type=dict[str, str | int | None]),
    )


class _Waiting(msgspec.Struct):
    """Whose message waits for review."""

    author_session: str | None
    user_id: UUID | None


def _author_id(waiting: _Waiting) -> AuthorId:
    author = waiting.user_id if waiting.author_session is None else waiting.author_session
    assert author is not None, "a message has an author (chat_messages_author)"
    return author


def _uuid(value: UUID) -> UUID:
    """A plain UUID: the driver's own subclass is unknown to encoders."""
    return UUID(int=value.int)


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
