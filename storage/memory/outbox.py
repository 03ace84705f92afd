"""Outbox and inbox in memory; the twin of `storage/postgres/outbox.py`."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import trio

from actors.persistence import (
    HeldKey,
    OutboxEntry,
    OutboxMessage,
    OutboxStats,
    Shard,
    WaitingMessage,
)
from actors.persistence.beside_log.dead_letters import storable
from actors.persistence.beside_log.outbox import (
    BATCH_MAX,
    INBOX_KEPT,
    LEASE,
    SENT_KEPT,
    Listen,
    check_asked,
    check_failure,
    check_messages,
    check_noted,
    check_numbers,
    check_part,
    check_parts,
    check_rows,
)
from actors.persistence.event_store import check_limit
from actors.persistence.words import check_row
from storage.memory.database import OutboxRow
from storage.memory.twin import Twin


class MemoryOutbox(Twin):
    """The ports `Outbox` and `Inbox` on a `MemoryDatabase`."""

    async def add(self, messages: Sequence[OutboxMessage]) -> int:
        """See `Outbox.add`."""
        given = check_messages(messages)
        await self.pass_faults()
        return self.database.add_messages(given)

    async def lease(
        self, owner: str, partitions: Sequence[int], *, shard: Shard | None = None
    ) -> Mapping[int, int]:
        """See `Outbox.lease`."""
        check_parts(owner, partitions, shard)
        await self.pass_faults()
        now = self.database.now()
        if shard is not None:
            self.database.check_shard(shard)
        held = {}
        for partition in partitions:
            holder, epoch, until = self.database.outbox_leases.get(partition, ("", 0, now))
            if until > now and holder != owner and shard is None:
                if until > now + 2 * LEASE:
                    # From before the clock was set back.
                    self.database.outbox_leases[partition] = (holder, epoch, now + LEASE)
                continue
            # A holder that was late to renew, and that nobody replaced, keeps the epoch.
            epoch = epoch if holder == owner else epoch + 1
            self.database.outbox_leases[partition] = (owner, epoch, now + LEASE)
            held[partition] = epoch
        return held

    async def release(self, owner: str) -> None:
        """See `Outbox.release`."""
        check_parts(owner, ())
        await self.pass_faults()
        for partition, (holder, epoch, _) in self.database.outbox_leases.items():
            if holder == owner:
                self.database.outbox_leases[partition] = (holder, epoch, self.database.now())

    async def next_batch(
        self,
        partition: int,
        epoch: int,
        *,
        limit: int = BATCH_MAX,
        skipping: Sequence[str] = (),
        without: Sequence[int] = (),
    ) -> Sequence[OutboxEntry]:
        """See `Outbox.next_batch`."""
        check_part(partition, epoch)
        check_asked(limit, skipping, without)
        await self.pass_faults()
        if not self._is_leased(partition, epoch):
            return []
        # In order, remembering the keys of what may not be passed: one that failed and waits, one
        # that was given up unless its target is skipped. A row above the horizon is held by the
        # transactions that may still write before it, not by its key.
        now, held_keys, found, left_out = self.database.now(), set(), [], set(without)
        for row in self._unsent(partition):
            is_waiting = row.next_attempt_at is not None and row.next_attempt_at > now
            if row.is_dead:
                if row.message.target not in skipping:
                    held_keys.add(row.message.key)
            elif is_waiting:
                held_keys.add(row.message.key)
            elif row.id in left_out:
                continue
            elif row.message.key not in held_keys and row.txid < self.database.horizon:
                found.append(_entry(row))
        return found[:limit]

    async def due_in(self, partitions: Sequence[int]) -> Mapping[int, float]:
        """See `Outbox.due_in`."""
        check_numbers(partitions)
        await self.pass_faults()
        now, due = self.database.now(), dict[int, float]()
        for partition in partitions:
            for row in self.database.unsent.get(partition, {}).values():
                if not row.is_dead:
                    in_s = max(0.0, ((row.next_attempt_at or now) - now).total_seconds())
                    due[partition] = min(in_s, due.get(partition, in_s))
        return due

    @contextmanager
    def heard(self) -> Iterator[Listen]:
        """See `Outbox.heard`."""
        yield self._listen

    def _listen(self) -> Callable[[float], Awaitable[None]]:
        changed = self.database.changed

        async def wait(timeout_s: float) -> None:
            with trio.move_on_after(timeout_s):
                await changed.wait()

        return wait

    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        """See `Outbox.mark_sent`."""
        check_part(partition, epoch)
        check_rows("ids", ids)
        await self.pass_faults()
        if not self._is_held(partition, epoch):
            return 0
        waiting = self.database.unsent.get(partition, {})
        rows = [waiting[id_] for id_ in set(ids) if id_ in waiting]
        for row in rows:
            self.database.mark_sent(row)
            row.last_error = None
            row.attempts += 1
        return len(rows)

    async def mark_failed(
        self, partition: int, epoch: int, id_: int, error: str, retry_in: timedelta | None
    ) -> bool:
        """See `Outbox.mark_failed`."""
        check_part(partition, epoch)
        check_row(id_)
        check_failure(error, retry_in)
        await self.pass_faults()
        row = self.database.outbox.get(id_)
        if row is None or row.sent_at is not None or not self._is_held(partition, epoch):
            return False
        row.attempts += 1
        row.last_error, row.is_dead = storable(error), retry_in is None
        row.next_attempt_at = None if retry_in is None else self.database.now() + retry_in
        return True

    async def revive(self, id_: int) -> bool:
        """See `Outbox.revive`."""
        check_row(id_)
        await self.pass_faults()
        return self.database.revive_message(id_)

    async def drop(self, id_: int) -> bool:
        """See `Outbox.drop`."""
        check_row(id_)
        await self.pass_faults()
        row = self.database.outbox.get(id_)
        if row is None or not row.is_dead:
            return False
        self.database.mark_sent(row)
        self.database.announce()
        return True

    async def stats(self) -> OutboxStats:
        """See `Outbox.stats`."""
        await self.pass_faults()
        unsent = [row for part in self.database.unsent.values() for row in part.values()]
        dead = sum(row.is_dead for row in unsent)
        now = self.database.now()
        oldest = min((row.created_at for row in unsent if not row.is_dead), default=now)
        return OutboxStats(len(unsent) - dead, (now - oldest).total_seconds(), dead)

    async def waiting(self, *, limit: int = 50, after: int = 0) -> Sequence[WaitingMessage]:
        """See `Outbox.waiting`."""
        await self.pass_faults()
        rows = [row for part in self.database.unsent.values() for row in part.values()]
        rows.sort(key=lambda row: row.id)
        return [
            WaitingMessage(
                row.id,
                row.message.kind,
                row.message.target,
                row.message.key,
                row.attempts,
                row.created_at,
                row.next_attempt_at,
                row.last_error,
                row.is_dead,
            )
            for row in rows
            if row.id > after
        ][:limit]

    async def held_keys(self, *, limit: int = 50) -> Sequence[HeldKey]:
        """See `Outbox.held_keys`."""
        await self.pass_faults()
        found: dict[str, HeldKey] = {}
        for partition in self.database.unsent:
            for row in self._unsent(partition):
                held = found.get(row.message.key)
                if held is None and row.is_dead:
                    key = row.message.key
                    found[key] = HeldKey(key, row.id, row.message.target, 0)
                elif held is not None and not row.is_dead:
                    found[held.key] = replace(held, waiting=held.waiting + 1)
        return sorted(found.values(), key=lambda held: held.dead_id)[:limit]

    async def purge(self, limit: int = 1000) -> int:
        """See `Outbox.purge`."""
        check_limit(limit)
        await self.pass_faults()
        now, tables = self.database.now(), self.database
        sent = [
            row.id
            for row in tables.outbox.values()
            if row.sent_at is not None and row.sent_at <= now - SENT_KEPT
        ][:limit]
        handled = [key for key, at in tables.inbox.items() if at <= now - INBOX_KEPT][:limit]
        for id_ in sent:
            tables.drop_outbox(id_)
        for key in handled:
            del tables.inbox[key]
        return len(sent) + len(handled)

    async def note(self, consumer: str, message_id: UUID) -> bool:
        """See `Inbox.note`."""
        check_noted(consumer, message_id)
        await self.pass_faults()
        if (consumer, message_id) in self.database.inbox:
            return False
        self.database.inbox[consumer, message_id] = self.database.now()
        return True

    def _is_held(self, partition: int, epoch: int) -> bool:
        return self.database.outbox_leases.get(partition, ("", 0, None))[1] == epoch

    def _is_leased(self, partition: int, epoch: int) -> bool:
        _, current, until = self.database.outbox_leases.get(partition, ("", 0, self.database.now()))
        return current == epoch and until > self.database.now()

    def _unsent(self, partition: int) -> list[OutboxRow]:
        rows = self.database.unsent.get(partition, {}).values()
        return sorted(rows, key=lambda row: (row.txid, row.id))


def _entry(row: OutboxRow) -> OutboxEntry:
    return OutboxEntry(
        id=row.id,
        message_id=row.message.message_id,
        kind=row.message.kind,
        target=row.message.target,
        key=row.message.key,
        payload=row.message.payload,
        headers=dict(row.message.headers),
        attempts=row.attempts,
        created_at=row.created_at,
    )
