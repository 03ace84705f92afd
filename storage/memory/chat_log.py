"""The chat log in memory; the twin of `storage/postgres/chat_log.py`, and its specification."""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import trio

from actors.accounts import Role
from actors.chat import (
    Author,
    ChatLogUnavailable,
    Draft,
    History,
    Message,
    Newest,
    Posted,
    PostLimit,
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
    may_see,
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
    is_by_reviewer,
)
from actors.chat.policy import author_id
from actors.chat.stored import (
    AUDIT_KEPT,
    LIMITS_KEPT,
    MESSAGES_KEPT,
    PostFact,
    day_subject,
    decision_of,
    heard_by_all,
    message_of,
    over_before,
    post_event,
    stream_of,
    text_of,
    verdict_event,
)
from actors.chat.words import TakenAway
from actors.persistence import (
    PRIVATE_CODEC,
    AppendRequest,
    Keyring,
    NewEvent,
    Shard,
    StoredEvent,
)
from actors.persistence.event_store import check_limit, refuse_closed
from actors.persistence.words import check_a, check_text, check_uuid
from actors.runtime import Secret
from storage.errors import (
    MasterKeyMissing,
    StoredDataError,
    StoreMisuse,
    StoreUnavailable,
    SubjectForgotten,
    UnknownUser,
)
from storage.keyring import MASTER_BYTES, SubjectKeyring
from storage.memory.database import MemoryDatabase
from storage.memory.subject_keys import MemorySubjectKeys
from storage.memory.twin import Twin


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the chat's audit log."""

    id: int
    room_id: UUID
    actor_user_id: UUID | None
    action: str
    metadata: Mapping[str, str | int | None]
    created_at: datetime


@dataclass(slots=True)
class _Kept:
    """A message without its text, which is sealed in its event."""

    message: Message
    event: StoredEvent


@dataclass(slots=True)
class _RoomTable:
    room: Room
    messages: list[_Kept] = field(default_factory=list)
    by_client_id: dict[tuple[str, str], _Kept] = field(default_factory=dict)
    members: set[UUID] = field(default_factory=set)
    accepted_at: dict[str, list[datetime]] = field(default_factory=dict)
    events: int = 0
    seq: int = 0


class MemoryChatLog(Twin):
    """The port `ChatLog` on a `MemoryDatabase`."""

    def __init__(
        self,
        database: MemoryDatabase | None = None,
        *,
        keyring: Keyring | None = None,
    ) -> None:
        super().__init__(database)
        self.database.kept_beside.append(self._forget)
        if keyring is None:
            # A master key of its own: nothing of a database in memory outlives it.
            keys = MemorySubjectKeys(self.database)
            keyring = SubjectKeyring(keys, Secret(os.urandom(MASTER_BYTES)))
        self._keyring: Keyring = keyring
        self.audit: list[AuditRow] = []
        self._audit_count = 0
        # Why each message waits, or waited; and those that were decided about.
        self.queue: dict[UUID, str] = {}
        self.reviewed: set[UUID] = set()
        self._rooms: dict[RoomName, _RoomTable] = {}
        self._changed = trio.Event()
        # Set in tests: every ring is lost.
        self.is_deaf = False

    async def ensure_rooms(self, names: Sequence[RoomName]) -> Mapping[RoomName, Room]:
        """See `ChatLog.ensure_rooms`."""
        check_rooms(names)
        await self.pass_faults()
        for name in names:
            if name not in self._rooms:
                self._rooms[name] = _RoomTable(Room(uuid4(), name))
                self._audit(name, None, "chat.room.create", {}, self.database.now())
        return {name: self._rooms[name].room for name in names}

    async def post(self, draft: Draft) -> PostOutcome:
        """See `ChatLog.post`."""
        check_a("draft", draft, Draft)
        await self.pass_faults()
        verdict = await self._post(draft)
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
        try:
            await self.pass_faults()
        except ChatLogUnavailable as error:
            return [error] * len(drafts)
        return [await self._post(draft, shard) for draft in drafts]

    async def _post(self, draft: Draft, shard: Shard | None = None) -> PostVerdict:
        table = self._table(draft.room)
        request = AppendRequest(stream_of(table.room.id), [post_event(draft, table.room.id)])
        try:
            (sealed,) = await self._keyring.seal([request])
            # From here to the end is no checkpoint, apart from reading a repeat.
            if shard is not None:
                self.database.check_shard(shard)
            repeat = table.by_client_id.get((draft.author.key, draft.client_id))
            if repeat is not None:
                return Repeated((await self._read([repeat]))[0], repeat.event.version)
            waits = [
                wait for limit in draft.limits if (wait := _wait(table, limit, draft.created_at))
            ]
            if waits:
                return TooManyPosts(max(waits))
            if _has_too_many_waiting(table, draft):
                assert draft.waiting_max is not None
                return TooManyWaiting(draft.waiting_max)
            return self._store(table, draft, sealed.events[0])
        except (ChatLogUnavailable, PostRefused) as error:
            return error
        except (StoreUnavailable, SubjectForgotten, MasterKeyMissing, StoredDataError) as error:
            return ChatLogUnavailable(str(error))
        except StoreMisuse as error:
            return PostRefused(str(error))

    @property
    def rooms(self) -> Mapping[RoomName, Room]:
        """The rooms that were made."""
        return {name: table.room for name, table in self._rooms.items()}

    async def written_by(self, user_id: UUID, room: RoomName) -> Sequence[Message]:
        """Call this for all that an account has said in a room under its own name."""
        await self.pass_faults()
        own = [
            kept
            for kept in self._table(room).messages
            if kept.message.user_id == user_id and kept.message.author_session is None
        ]
        return await self._read(own)

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
        await self.pass_faults()
        table = self._table(room)
        seen = [
            kept
            for kept in table.messages
            if (before is None or kept.message.seq < before) and may_see(kept.message, viewer)
        ]
        n = table.events
        messages = tuple(map(self._told, await self._read(seen[-limit:])))
        return History(messages, n, has_older=len(seen) > limit)

    async def head(self, room: RoomName) -> RoomHead:
        """See `ChatLog.head`."""
        check_text("room", room)
        await self.pass_faults()
        stream = self._stream(self._table(room))
        heard = heard_by_all(stream)
        n = stream[-1].version if stream else 0
        return RoomHead(self.database.lineage, n, heard[-1].event.version if heard else 0)

    async def said(self, room: RoomName, *, after: int, limit: int = SAID_LIMIT) -> Said:
        """See `ChatLog.said`."""
        check_said(room, after, limit)
        await self.pass_faults()
        table = self._table(room)
        stream = self._stream(table)
        page = [event for event in stream if after < event.version <= after + limit]
        known = {kept.message.id: kept for kept in table.messages}
        heard = heard_by_all(page)
        told = [one for one in heard if not one.is_withdrawn]
        shown = [
            (one.event, known[one.message_id])
            for one in told
            if one.message_id in known
            and known[one.message_id].message.status is not Status.REMOVED
        ]
        messages = await self._read([kept for _, kept in shown])
        return Said(
            self.database.lineage,
            stream[-1].version if stream else 0,
            page[-1].version if page else after,
            tuple(
                SaidAgain(message, event.version, event.metadata.get("correlation_id"))
                for (event, _), message in zip(shown, messages, strict=True)
            ),
            is_whole=all(one.message_id in known for one in told),
            withdrawn=tuple(
                TakenAway(
                    one.message_id, one.event.version, one.event.metadata.get("correlation_id")
                )
                for one in heard
                if one.is_withdrawn
            ),
        )

    async def versions(self) -> Mapping[RoomName, int]:
        """See `ChatLog.versions`."""
        await self.pass_faults()
        return {name: table.events for name, table in self._rooms.items()}

    async def rings(self, every_s: float) -> AsyncGenerator[None, None]:
        """See `ChatLog.rings`."""
        while True:
            changed = self._changed
            yield
            with trio.move_on_after(every_s):
                await changed.wait()

    async def newest(self, room: RoomName, *, limit: int = HISTORY_LIMIT) -> Newest:
        """See `ChatLog.newest`."""
        check_newest(room, limit)
        await self.pass_faults()
        table = self._table(room)
        visible = [one for one in table.messages if one.message.status is Status.VISIBLE]
        first = visible[-limit - 1].message.seq if len(visible) > limit else 0
        waiting = [
            author_id(one.message)
            for one in table.messages
            if one.message.status is not Status.VISIBLE and one.message.seq > first
        ]
        n = table.events
        return Newest(
            tuple(await self._read(visible[-limit:])),
            n,
            has_older=len(visible) > limit,
            waiting=None if len(waiting) > WAITING_MAX else frozenset(filter(None, waiting)),
        )

    async def room_of(self, message_id: UUID) -> RoomName | None:
        """See `ChatLog.room_of`."""
        check_uuid("message_id", message_id)
        await self.pass_faults()
        return None if (found := self._find(message_id)) is None else found.message.room

    async def moderate(self, verdict: Verdict) -> ModerationOutcome:
        """See `ChatLog.moderate`."""
        check_a("verdict", verdict, Verdict)
        await self.pass_faults()
        kept = self._find(verdict.message_id)
        if kept is None:
            return NotDecided.UNKNOWN
        message, table = kept.message, self._table(kept.message.room)
        reviewer = self.database.users.get(verdict.reviewer_id)
        if reviewer is None or reviewer.role != Role.MODERATOR:
            return NotDecided.NO_MODERATOR
        waiting = WaitingMessage(message, "", self._members(message))
        if is_by_reviewer(waiting, Viewer(verdict.reviewer_id, verdict.reviewer_session)):
            return NotDecided.OWN
        if message.id not in self.queue or message.id in self.reviewed:
            return NotDecided.NOT_WAITING
        # From here to the text is no checkpoint.
        self._catch_up(table)
        table.events += 1
        _record(self.database, table, verdict_event(verdict))
        self._ring()
        self.reviewed.add(message.id)
        reason = self.queue[message.id] = verdict.reason or self.queue[message.id]
        status = verdict.decision.status
        kept.message = replace(message, status=status)
        facts = {
            "message_id": str(message.id),
            "decision": verdict.decision.value,
            "status": status.value,
            "reason": reason,
        }
        self._audit(
            message.room, verdict.reviewer_id, "chat.message.moderate", facts, verdict.decided_at
        )
        n = table.events
        return Decided((await self._read([kept]))[0], n, reason)

    async def waiting(self, limit: int = QUEUE_LIMIT) -> WaitingList:
        """See `ChatLog.waiting`."""
        check_waiting(limit)
        await self.pass_faults()
        waiting = sorted(
            (
                kept
                for table in self._rooms.values()
                for kept in table.messages
                if kept.message.status is Status.PENDING
            ),
            key=lambda kept: (kept.message.created_at, kept.message.id),
        )
        reasons = [self.queue[kept.message.id] for kept in waiting[:limit]]
        messages = await self._read(waiting[:limit])
        return WaitingList(
            tuple(
                WaitingMessage(message, reason, self._members(message))
                for message, reason in zip(messages, reasons, strict=True)
            ),
            len(waiting),
        )

    async def audited(self, *, before: int | None = None, limit: int = AUDIT_LIMIT) -> AuditPage:
        """See `ChatLog.audited`."""
        check_audited(before, limit)
        await self.pass_faults()
        rows = [row for row in reversed(self.audit) if before is None or row.id < before]
        rooms = {table.room.id: name for name, table in self._rooms.items()}
        return AuditPage(
            tuple(
                AuditEntry(
                    row.id,
                    row.created_at,
                    row.action,
                    row.actor_user_id,
                    None
                    if row.actor_user_id is None
                    else self.database.user_names.get(row.actor_user_id),
                    rooms.get(row.room_id),
                    row.metadata,
                )
                for row in rows[:limit]
            ),
            has_older=len(rows) > limit,
        )

    async def join(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.join`."""
        check_member(room, user_id)
        await self.pass_faults()
        table = self._table(room)
        if user_id not in self.database.user_names:
            raise UnknownUser(str(user_id))
        if user_id in table.members:
            return False
        table.members.add(user_id)
        self._audit(room, user_id, "chat.room.join", {"role": "member"}, self.database.now())
        return True

    async def is_member(self, room: RoomName, user_id: UUID) -> bool:
        """See `ChatLog.is_member`."""
        check_member(room, user_id)
        await self.pass_faults()
        return user_id in self._table(room).members

    async def members(self, room: RoomName, user_ids: Sequence[UUID]) -> frozenset[UUID]:
        """See `ChatLog.members`."""
        asked = check_members(room, user_ids)
        await self.pass_faults()
        return frozenset(self._table(room).members.intersection(asked))

    async def rebuild(self) -> int:
        """See `ChatLog.rebuild`."""
        await self.pass_faults()
        first, made = self.database.now() - MESSAGES_KEPT, 0
        # The events do not say why; the audit does, and is kept for longer than messages.
        told_why = {
            row.metadata["message_id"]: str(row.metadata["reason"])
            for row in self.audit
            if row.action == "chat.message.moderate"
        }
        for name, table in self._rooms.items():
            known = {kept.message.id for kept in table.messages}
            stream = self.database.streams.get(stream_of(table.room.id), ())
            decided = dict(filter(None, map(decision_of, stream)))
            for event in stream:
                if event.type != "MessagePosted":
                    continue
                fact = msgspec.json.decode(event.data, type=PostFact)
                if event.codec != PRIVATE_CODEC or fact.message_id in known:
                    continue
                if fact.created_at <= first:
                    continue
                kept = _Kept(message_of(name, fact, "", None), event)
                if (decision := decided.get(fact.message_id)) is not None:
                    kept.message = replace(kept.message, status=decision.status)
                    self.reviewed.add(fact.message_id)
                table.messages.append(kept)
                table.by_client_id[_author_of(fact).key, fact.client_id] = kept
                if fact.status is Status.PENDING:
                    why = told_why.get(str(fact.message_id))
                    self.queue[fact.message_id] = why or fact.reason or "auto"
                made += 1
            table.messages.sort(key=lambda kept: kept.message.seq)
        return made

    async def purge_messages(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_messages`."""
        check_limit(limit)
        await self.pass_faults()
        first, gone = self.database.now() - MESSAGES_KEPT, 0
        for table in self._rooms.values():
            for kept in [one for one in table.messages if one.message.created_at <= first]:
                if gone == limit:
                    break
                table.messages.remove(kept)
                table.by_client_id = {k: v for k, v in table.by_client_id.items() if v is not kept}
                self.queue.pop(kept.message.id, None)
                self.reviewed.discard(kept.message.id)
                gone += 1
        return gone

    async def purge_texts(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_texts`."""
        check_limit(limit)
        await self.pass_faults()
        first = over_before(self.database.now())
        old = [
            subject
            for subject, key in sorted(self.database.subject_keys.items())
            if not key.is_forgotten
            and any(
                day_subject(table.room.id, date.min) <= subject < day_subject(table.room.id, first)
                for table in self._rooms.values()
            )
        ][:limit]
        for subject in old:
            await self._keyring.forget(subject, by="chat.purge")
        return len(old)

    async def purge_audit(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_audit`."""
        check_limit(limit)
        await self.pass_faults()
        first = self.database.now() - AUDIT_KEPT
        old = [row for row in self.audit if row.created_at <= first][:limit]
        self.audit = [row for row in self.audit if row not in old]
        return len(old)

    async def purge_limits(self, limit: int = 1000) -> int:
        """See `ChatLog.purge_limits`."""
        check_limit(limit)
        await self.pass_faults()
        first = self.database.now() - LIMITS_KEPT
        old = [
            (table, key)
            for table in self._rooms.values()
            for key, accepted in table.accepted_at.items()
            if not any(at > first for at in accepted)
        ][:limit]
        for table, key in old:
            del table.accepted_at[key]
        return len(old)

    async def _read(self, kept: Sequence[_Kept]) -> list[Message]:
        texts = await self._texts([one.event for one in kept])
        return [
            self._named(replace(one.message, body=text))
            for one, text in zip(kept, texts, strict=True)
        ]

    def _told(self, message: Message) -> Message:
        if message.status is not Status.REMOVED:
            return message
        return replace(message, body="", removed_for=self.queue.get(message.id))

    async def _texts(self, events: Sequence[StoredEvent]) -> list[str]:
        try:
            opened = await self._keyring.open(events)
        except (StoreUnavailable, MasterKeyMissing) as error:
            raise ChatLogUnavailable(str(error)) from error
        return [text_of(event) for event in opened]

    def _stream(self, table: _RoomTable) -> Sequence[StoredEvent]:
        return self.database.streams.get(stream_of(table.room.id), ())

    def _catch_up(self, table: _RoomTable) -> None:
        """Count the room's events from where its stream is, unless that is closed."""
        version, last_type = self.database.end_of(stream_of(table.room.id))
        try:
            refuse_closed(stream_of(table.room.id), version, last_type)
        except StoreMisuse as error:
            raise ChatLogUnavailable(str(error)) from error
        table.events = max(table.events, version)

    def _find(self, message_id: UUID) -> _Kept | None:
        tables = self._rooms.values()
        return next(
            (kept for t in tables for kept in t.messages if kept.message.id == message_id), None
        )

    def _store(self, table: _RoomTable, draft: Draft, event: NewEvent) -> Posted:
        self._catch_up(table)
        if self._is_taken(draft):
            raise PostRefused("a number of the post is taken already; nothing was written")
        table.events += 1
        table.seq += 1
        message = Message(
            id=draft.message_id,
            room=draft.room,
            seq=table.seq,
            user_id=draft.author.user_id,
            author_session=draft.author.session_id,
            author_name=None,
            body="",
            status=draft.status,
            client_id=draft.client_id,
            created_at=draft.created_at,
        )
        kept = _Kept(message, _record(self.database, table, _numbered(event, table.seq)))
        self._ring()
        table.messages.append(kept)
        table.by_client_id[draft.author.key, draft.client_id] = kept
        for limit in draft.limits:
            since = draft.created_at - timedelta(seconds=limit.period_s)
            recent = [t for t in table.accepted_at.get(limit.key, ()) if t > since]
            table.accepted_at[limit.key] = sorted([*recent, draft.created_at])
        if draft.status is Status.PENDING:
            self.queue[message.id] = draft.reason or "auto"
        facts = {"message_id": str(message.id), "status": draft.status, "reason": draft.reason}
        self._audit(draft.room, message.user_id, "chat.message.post", facts, draft.created_at)
        return Posted(self._named(replace(message, body=draft.body)), table.events)

    def _is_taken(self, draft: Draft) -> bool:
        return draft.event_id in self.database.by_id or self._find(draft.message_id) is not None

    def _members(self, message: Message) -> frozenset[UUID]:
        session = message.author_session
        if session is None:
            return frozenset()
        signed_in = {
            row.user_id for row in self.database.sign_ins.values() if row.session_id == session
        }
        end = self.database.session_ends.get(session)
        return frozenset(signed_in if end is None else signed_in | end.members)

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
        self._audit_count += 1
        self.audit.append(AuditRow(self._audit_count, room_id, user_id, action, facts, at))

    def _table(self, room: RoomName) -> _RoomTable:
        try:
            return self._rooms[room]
        except KeyError:
            raise UnknownRoom(room) from None

    def _ring(self) -> None:
        if not self.is_deaf:
            self._changed.set()
            self._changed = trio.Event()

    async def pass_faults(self) -> None:
        """See `Twin.pass_faults`; a store that is away is a log that is away."""
        try:
            await super().pass_faults()
        except StoreUnavailable as error:
            raise ChatLogUnavailable(str(error)) from error

    def _forget(self) -> None:
        self.audit.clear()
        self.queue.clear()
        self.reviewed.clear()
        self._rooms.clear()


def _has_too_many_waiting(table: _RoomTable, draft: Draft) -> bool:
    if draft.status is not Status.PENDING or draft.waiting_max is None:
        return False
    waiting = [
        kept
        for (author_key, _), kept in table.by_client_id.items()
        if author_key == draft.author.key and kept.message.status is Status.PENDING
    ]
    return len(waiting) >= draft.waiting_max


def _wait(table: _RoomTable, limit: PostLimit, at: datetime) -> float:
    """How long until the limit lets another post through; 0.0 when it does now."""
    since = at - timedelta(seconds=limit.period_s)
    accepted = [t for t in table.accepted_at.get(limit.key, ()) if since < t <= at]
    if len(accepted) < limit.posts_max:
        return 0.0
    # Of the last `posts_max` the oldest: when it leaves the interval, there is room for one.
    return (accepted[len(accepted) - limit.posts_max] - since).total_seconds()


def _numbered(event: NewEvent, seq: int) -> NewEvent:
    data = msgspec.json.decode(event.data, type=dict[str, msgspec.Raw])
    numbered = data | {"seq": msgspec.Raw(b"%d" % seq)}
    return msgspec.structs.replace(event, data=msgspec.json.encode(numbered))


def _record(database: MemoryDatabase, table: _RoomTable, event: NewEvent) -> StoredEvent:
    txid = database.begin()
    (placed,) = database.place(txid, stream_of(table.room.id), table.events, [event])
    database.commit(txid, [placed])
    return placed


def _author_of(fact: PostFact) -> Author:
    return Author(fact.user_id, fact.author_session, "")
