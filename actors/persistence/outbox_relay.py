"""The actor that sends what stands in the outbox, in order per key, at least once."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog
import trio

from actors.persistence.dead_letters import DeadLetters, NewDeadLetter
from actors.persistence.errors import StoreError
from actors.persistence.outbox import (
    ATTEMPTS_MAX,
    PARTITIONS,
    Outbox,
    OutboxEntry,
    retry_delay,
)
from actors.reducers import Environment
from actors.runtime import Actor, Exit, message

Send = Callable[[OutboxEntry], Awaitable[None]]

# How often the outbox is looked at when nothing tells; appends of this process ring.
LOOK_S = 0.25
# A target that does not answer holds its part up for no longer.
SEND_S_MAX = 10.0

_log = structlog.get_logger("actors.persistence")


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
