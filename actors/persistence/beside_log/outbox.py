"""What leaves after a commit, and what has arrived: the ports of outbox and inbox, and the relay.

A message is written into the outbox by the append that causes it, and sent by a relay:
at least once, in order per key. The receiver writes its inbox row in the transaction of the
effect (`AppendRequest.inbox`), and so has the effect exactly once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID
from zlib import crc32

import trio

from actors.persistence.beside_log.dead_letters import DeadLetters, NewDeadLetter
from actors.persistence.errors import StoreError
from actors.reducers import Environment
from actors.runtime import Actor, Exit, Log, message

# Relays of several processes share these; more of them than parts would idle.
PARTITIONS = 8
BATCH_MAX = 100

# A dead relay's parts are taken over after this; a living one renews in a third of it.
LEASE = timedelta(seconds=15)

ATTEMPTS_MAX = 10
RETRY_FIRST_S = 1.0
RETRY_S_MAX = 60.0

SENT_KEPT = timedelta(days=7)
INBOX_KEPT = timedelta(days=14)

# How often the outbox is looked at when nothing tells; appends of this process ring.
LOOK_S = 0.25
# A target that does not answer holds its part up for no longer.
SEND_S_MAX = 10.0

_log = Log("actors.persistence")


def partition_of(key: str) -> int:
    """Call this to learn into which part of the outbox a key goes."""
    return crc32(key.encode()) % PARTITIONS


def retry_delay(attempts: int, jitter: float) -> timedelta:
    """Call this for the wait after a failed attempt; `jitter` is drawn from 0 to 1."""
    whole = min(RETRY_FIRST_S * 2.0 ** (attempts - 1), RETRY_S_MAX)
    return timedelta(seconds=whole * (0.5 + jitter / 2))


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message taken from the outbox to be sent."""

    id: int
    message_id: UUID
    kind: str
    target: str
    key: str
    payload: bytes
    headers: Mapping[str, str]
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """How much waits, how old the oldest is, and how many were given up."""

    pending: int
    oldest_s: float
    dead: int


class Outbox(Protocol):
    """The queue of what leaves, in parts that one relay each may work on."""

    async def lease(self, owner: str, partitions: Sequence[int]) -> Mapping[int, int]:
        """Call this to take or renew parts; gives those held now, with the epoch of each.

        A part whose lease ran out changes hands and raises its epoch: what the former
        holder says afterwards has no effect.
        """
        ...

    async def release(self, owner: str) -> None:
        """Call this when a relay stops, so that another need not wait for the lease to end."""
        ...

    async def next_batch(
        self,
        partition: int,
        epoch: int,
        *,
        limit: int = BATCH_MAX,
        skipping: Sequence[str] = (),
    ) -> Sequence[OutboxEntry]:
        """Call this for the next messages of a part, in order, none before an open transaction.

        A message behind a failed or dead one of its key waits; behind a dead one it passes
        when its target is among `skipping`. Nothing is given to an outdated epoch.
        """
        ...

    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        """Call this after sending; returns how many were marked (0 for an outdated epoch)."""
        ...

    async def mark_failed(
        self, partition: int, epoch: int, id_: int, error: str, retry_in: timedelta | None
    ) -> None:
        """Call this after a failed attempt; without `retry_in` the message is given up."""
        ...

    async def revive(self, id_: int) -> bool:
        """Call this to send a message once more that was given up; False when it is not dead."""
        ...

    async def drop(self, id_: int) -> bool:
        """Call this to let a given-up message rest as sent; those behind it go on."""
        ...

    async def stats(self) -> OutboxStats:
        """Call this for the gauges."""
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove old sent and inbox rows, at most `limit` of each."""
        ...


class Inbox(Protocol):
    """Which messages a consumer has handled."""

    async def note(self, consumer: str, message_id: UUID) -> bool:
        """Call this for a handler without an append: True the first time, False ever after."""
        ...


Send = Callable[[OutboxEntry], Awaitable[None]]


@message
class LookAtOutbox:
    """Tells the relay to look now; it tells itself so in time."""


class OutboxRelay(Actor[LookAtOutbox]):
    """Leases parts of the outbox and hands their messages to `send`, one after the other.

    A message whose `send` raises is tried again after 1 s, doubling to 60 s; after ten
    attempts it is a dead letter, and those behind it of the same key wait until that is
    resolved. Targets in `skipping` go on without.
    """

    def __init__(
        self,
        outbox: Outbox,
        send: Send,
        env: Environment,
        owner: str,
        *,
        dead_letters: DeadLetters | None = None,
        skipping: Sequence[str] = (),
        partitions: Sequence[int] = tuple(range(PARTITIONS)),
    ) -> None:
        self._outbox, self._send, self._env, self._owner = outbox, send, env, owner
        self._dead_letters, self._skipping = dead_letters, skipping
        self._partitions = partitions
        self.sent = 0

    async def on_start(self) -> None:
        """Begin to look."""
        self.ref.tell(LookAtOutbox())

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002  (the runtime's word)
        """Give the parts to another relay at once."""
        try:
            await self._outbox.release(self._owner)
        except StoreError as error:
            _log.warning("persistence.lease_kept", code=error.code)

    async def on_look_at_outbox(self, message: LookAtOutbox) -> None:
        """Send what can be sent, then wait for more."""
        try:
            held = await self._outbox.lease(self._owner, self._partitions)
            for partition, epoch in held.items():
                await self._send_part(partition, epoch)
        except StoreError as error:
            _log.warning("persistence.outbox_waits", code=error.code)
        self.after(LOOK_S, LookAtOutbox(), key="look")

    async def _send_part(self, partition: int, epoch: int) -> None:
        batch = await self._outbox.next_batch(partition, epoch, skipping=self._skipping)
        sent: list[int] = []
        failed_keys: set[str] = set()
        for entry in batch:
            if entry.key in failed_keys:
                continue
            error = await self._try(entry)
            if error is None:
                sent.append(entry.id)
                continue
            failed_keys.add(entry.key)
            await self._note_failure(partition, epoch, entry, error)
        if sent:
            self.sent += await self._outbox.mark_sent(partition, epoch, sent)

    async def _try(self, entry: OutboxEntry) -> Exception | None:
        try:
            with trio.fail_after(SEND_S_MAX):
                await self._send(entry)
        except Exception as error:  # noqa: BLE001  (whatever a target raises is a failed attempt)
            return error
        return None

    async def _note_failure(
        self, partition: int, epoch: int, entry: OutboxEntry, error: Exception
    ) -> None:
        attempts = entry.attempts + 1
        retry_in: timedelta | None = None
        if attempts < ATTEMPTS_MAX:
            retry_in = retry_delay(attempts, (self._env.ids.new_id().int & 0xFFFF) / 0x10000)
        elif self._dead_letters is not None:
            await self._dead_letters.add(
                NewDeadLetter(
                    kind="outbox",
                    source=entry.target,
                    message_id=str(entry.id),
                    error_message=f"{type(error).__name__}: {error}",
                    payload=entry.payload,
                    metadata=entry.headers,
                )
            )
        text = f"{type(error).__name__}: {error}"
        await self._outbox.mark_failed(partition, epoch, entry.id, text, retry_in)
