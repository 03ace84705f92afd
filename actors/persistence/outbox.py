"""What leaves after a commit, and what has arrived: the ports of outbox and inbox.

A message is written into the outbox by the append that causes it, and sent by a relay:
at least once, in order per key. The receiver writes its inbox row in the transaction of the
effect (`AppendRequest.inbox`), and so has the effect exactly once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID
from zlib import crc32

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
