"""A relay and a timer service that find their shard taken: what is in hand is cut, and they end."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.cluster import made
from actors.persistence import (
    DueTimer,
    OutboxEntry,
    OutboxMessage,
    OutboxRelay,
    SetTimer,
    Shard,
    ShardLease,
    TimerService,
)
from actors.persistence.beside_log.outbox import part_of
from actors.runtime import AnyActor, Shutdown
from actors.runtime.life.cell import cell_of
from storage.memory import MemoryDatabase, MemoryOutbox, MemoryTimers
from supervision import ChildSpec, Dynamic, DynamicFlags, open_system
from tests.engines import virtual_environment

SHARD = Shard(7, "node-a", 1)
# Its node believes that it owns the shard, as in the second before the next heartbeat tells.
BELIEVED = ShardLease(SHARD, lambda: True)


def _above() -> Dynamic[object]:
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


class Heirs:
    """What one node had in hand as another took its shard, and what each has done."""

    def __init__(self) -> None:
        self.env = virtual_environment()
        self.database = MemoryDatabase(now=self.env.clock.now)
        self.database.shards[SHARD.id] = (SHARD.owner, SHARD.epoch)
        self.begun = trio.Event()
        self.done: list[tuple[str, float]] = []

    async def hang(self, what: object) -> bool:
        self.begun.set()
        await trio.sleep(9)
        self.done.append(("former", trio.current_time()))
        return True

    def take(self) -> ShardLease:
        self.database.shards[SHARD.id] = ("node-b", 2)
        return ShardLease(Shard(SHARD.id, "node-b", 2), lambda: True)

    def relay(self, owner: str, lease: ShardLease, part: int) -> OutboxRelay:
        async def send(entry: OutboxEntry) -> None:
            if owner == "a":
                await self.hang(entry)
            self.done.append((owner, trio.current_time()))

        outbox = MemoryOutbox(self.database)
        return OutboxRelay(outbox, send, self.env, owner, partitions=[part], shard=lease)

    def timers(self, worker: str, lease: ShardLease) -> TimerService:
        async def deliver(timer: DueTimer) -> bool:
            if worker == "a":
                return await self.hang(timer)
            self.done.append((worker, trio.current_time()))
            return True

        port = MemoryTimers(self.database)
        return TimerService(port, deliver, self.env, worker, shard=lease)


@pytest.mark.parametrize("what", ["outbox", "timers"])
async def test_who_is_fenced_cuts_what_it_does_and_is_not_restarted(
    what: str, autojump_clock: MockClock
) -> None:
    """At its next renewal or claim, and before what it has in hand would have ended by itself."""
    # CLU-14, STORE-16
    async with open_system(_above) as above:
        heirs = Heirs()
        message = OutboxMessage(uuid4(), "hook", "mail", "k", b"x")
        if what == "outbox":
            await MemoryOutbox(heirs.database).add([message])
            actor: AnyActor = heirs.relay("a", BELIEVED, part_of(message))
        else:
            due = heirs.env.clock.now() + timedelta(seconds=1)
            await MemoryTimers(heirs.database).set(SetTimer(uuid4(), "saga/1", "step", "t", due))
            actor = heirs.timers("a", BELIEVED)
        former = (await above.start_child(lambda: actor)).started
        await heirs.begun.wait()
        taken_at, lease = trio.current_time(), heirs.take()
        with trio.fail_after(6):
            while not cell_of(former).gone:  # noqa: ASYNC110  (virtual time)
                await trio.sleep(0.1)
        (exit_,) = cell_of(former).last_exits
        assert isinstance(exit_, Shutdown)
        assert exit_.info == "fenced"
        # At once where another has the shard: it waits for no lease of the former's.
        if what == "outbox":
            await above.start_child(lambda: heirs.relay("b", lease, part_of(message)))
        else:
            await above.start_child(lambda: heirs.timers("b", lease))
        await trio.sleep(60)
    assert [who for who, _ in heirs.done] == ["b"]
    assert heirs.done[0][1] - taken_at < 8
