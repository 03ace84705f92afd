"""One member of a group at work: it joins, reads its partitions, gives them back, and leaves.

Rule: a cancelled subscription handles nothing more, at once; `stop` lets the records in hand end,
notes them and leaves the group. Either way what was not noted is handled by who comes next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Never
from zlib import crc32

import trio

from actors.persistence.bus.errors import BusRejected, SubscriptionFailed
from actors.persistence.bus.handling import Handling
from actors.persistence.bus.port import (
    HEARTBEAT_S,
    LEASE_S,
    Assignment,
    Engine,
    Handler,
    HandlerInTransaction,
    Member,
)
from actors.persistence.bus.reading import Reader, Room, reader_of
from actors.persistence.bus.sharing import RECONNECT_FIRST_S, RECONNECT_S_MAX, backoff_s
from actors.persistence.bus.words import (
    DEAD,
    RETRY,
    Guard,
    OnFailure,
    Part,
    SubscribeOptions,
    check_group,
    check_topics,
    default_group,
)
from actors.persistence.errors import StoreError, StoreMisuse
from actors.persistence.words import check_a
from actors.runtime import Actor, Exit, Log, current_tallies

# A handler in progress has so long to end, when its partition goes to others or all stops.
FINISH_S_MAX = 10.0
# To say goodbye to a bus that may be away.
LEAVE_S_MAX = 2.0

_log = Log("actors.bus")


@dataclass(frozen=True, slots=True)
class SubscriptionStats:
    """How a subscription is: what it has done, what it has in hand, which partitions it reads."""

    handled: int
    put_aside: int
    given_up: int
    in_hand: int
    blocked: int
    parts: Sequence[Part]


class Subscription:
    """Hands the records of topics to a handler, as a member of a group; see `SubscribeOptions`.

    `handler(received)` is awaited for one record of a partition at a time, for several partitions
    at once. With `Guard.TRANSACTION` it is `handler(transaction, received)`, run by the engine:
    on PostgreSQL the transaction is the connection, and the handler runs on the database's thread.
    Without a `group` it is that of its topics: `greenroom-` and their names, sorted, with `-`
    between; `InvalidField` where that gets too long for a name.

        subscription = Subscription(bus, ["order-events"], "mail", send, options)
        nursery.start_soon(subscription.run)
    """

    def __init__(
        self,
        engine: Engine,
        topics: Sequence[str],
        group: str | None,
        handler: Handler | HandlerInTransaction,
        options: SubscribeOptions,
    ) -> None:
        self.topics = check_topics(topics)
        self.group = check_group(default_group(self.topics) if group is None else group)
        check_a("options", options, SubscribeOptions)
        if not callable(handler):
            raise SubscriptionFailed(self.topics, "the handler cannot be called")
        if options.guard is Guard.TRANSACTION and not engine.has_transactions:
            raise SubscriptionFailed(
                self.topics, "this engine has no transactions; guard the handler by its inbox"
            )
        self._engine, self._handler, self._options = engine, handler, options
        # What is put aside may wait for minutes: it never takes the room of what comes.
        aside = options.buffer // 2 if options.on_failure is OnFailure.PARK else 0
        self._room = Room(options.buffer - aside)
        self._aside = Room(aside) if aside else self._room
        self._member: Member | None = None
        self._handling: Handling | None = None
        self._readers: dict[Part, Reader] = {}
        self._leaving: set[Part] = set()
        self._stopping = trio.Event()
        self._ended: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<Subscription {self.group}: {len(self._readers)} partitions>"

    def statistics(self) -> SubscriptionStats:
        """Call this to see how it is."""
        handling, rooms = self._handling, {self._room, self._aside}
        readers = self._readers.items()
        return SubscriptionStats(
            handled=0 if handling is None else handling.handled,
            put_aside=0 if handling is None else handling.put_aside,
            given_up=0 if handling is None else handling.given_up,
            in_hand=sum(room.size - room.free for room in rooms),
            blocked=sum(reader.is_blocked for _, reader in readers),
            parts=sorted(part for part, _ in readers),
        )

    async def stop(self) -> None:
        """Call this to end it in order: at most 10 s for handlers, then it leaves the group."""
        self._stopping.set()
        if self._ended is not None:
            await self._ended.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call this in a task, once; started when it has joined. Ends after `stop`.

        Raises `SubscriptionFailed` for a topic that is not there. A bus that is away is waited
        for: after 1 s, doubling to 30 s.
        """
        if self._ended is not None:
            raise SubscriptionFailed(self.topics, "it was run before; make another")
        self._ended = trio.Event()
        try:
            await self._join()
            async with trio.open_nursery() as nursery:
                await self._keep(nursery, task_status)
                await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            await self._leave()
            self._ended.set()

    async def _join(self) -> None:
        tries = 0
        while self._member is None and not self._stopping.is_set():
            try:
                await self._try_to_join()
            except (BusRejected, SubscriptionFailed, StoreMisuse):
                raise
            except StoreError as error:
                tries += 1
                await self._wait_away(tries, RECONNECT_S_MAX, error)

    async def _try_to_join(self) -> None:
        engine, options = self._engine, self._options
        known = {info.name: info.partitions for info in await engine.topics()}
        missing = [topic for topic in self.topics if topic not in known]
        if missing:
            raise SubscriptionFailed(missing, "there is no such topic; declare it first")
        topics = list(self.topics)
        for topic in self.topics:
            await engine.declare(topic + DEAD, known[topic])
            if options.on_failure is OnFailure.PARK:
                await engine.declare(topic + RETRY, known[topic])
                topics.append(topic + RETRY)
        self._member = await engine.join(self.group, topics, options.start_at)
        self._handling = Handling(engine, self._member, self.group, self._handler, options)

    async def _keep(self, nursery: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        tries, is_told = 0, False
        while self._member is not None and not self._stopping.is_set():
            began = trio.current_time()
            try:
                assignment = await self._member.renew()
            except StoreMisuse:
                raise
            except StoreError as error:
                tries += 1
                # While partitions are held, each second counts.
                await self._wait_away(
                    tries, HEARTBEAT_S if tries <= LEASE_S else RECONNECT_S_MAX, error
                )
                continue
            tries = 0
            self._apply(assignment, began + LEASE_S, nursery)
            if not is_told:
                is_told = True
                task_status.started()
            with trio.move_on_after(HEARTBEAT_S):
                await self._stopping.wait()

    async def _wait_away(self, tries: int, most_s: float, error: StoreError) -> None:
        if tries == 1:
            _log.warning("bus.subscription_waits", group=self.group, code=error.code)
        jitter = crc32(f"{self.group}{trio.current_time()}".encode()) / 2**32
        with trio.move_on_after(backoff_s(tries, RECONNECT_FIRST_S, most_s, jitter)):
            await self._stopping.wait()

    def _apply(self, assignment: Assignment, until: float, nursery: trio.Nursery) -> None:
        handling = self._handling
        assert handling is not None, "a member was made with it"
        moved = set(self._readers) ^ set(assignment.held)
        if moved:
            current_tallies().count("bus_rebalances_total", self.group).number += len(moved)
        for part in set(self._readers) - set(assignment.held):
            self._readers.pop(part).scope.cancel()
        for part, held in assignment.held.items():
            reader = self._readers.get(part)
            if reader is not None and reader.at.epoch == held.epoch and not reader.ended.is_set():
                reader.scope.deadline = until
            elif part not in self._leaving:
                if reader is not None:
                    reader.scope.cancel()
                reader = reader_of(handling, part, held, self._room, self._aside)
                reader.scope.deadline = until
                self._readers[part] = reader
                nursery.start_soon(reader.run)
        for part in assignment.surplus - self._leaving:
            if part in self._readers:
                self._leaving.add(part)
                nursery.start_soon(self._give_back, part, self._readers[part])

    async def _give_back(self, part: Part, reader: Reader) -> None:
        reader.leave()
        with trio.move_on_after(FINISH_S_MAX):
            await reader.ended.wait()
        reader.scope.cancel()
        await reader.ended.wait()
        assert self._member is not None, "there was one to read with"
        try:
            await self._member.release(part, reader.at.epoch)
        except StoreError:
            pass  # its lease ends by itself
        if self._readers.get(part) is reader:
            del self._readers[part]
        self._leaving.discard(part)

    async def _drain(self) -> None:
        for reader in self._readers.values():
            reader.leave()
        with trio.move_on_after(FINISH_S_MAX):
            for reader in list(self._readers.values()):
                while not reader.ended.is_set():
                    with trio.move_on_after(HEARTBEAT_S):
                        await reader.ended.wait()
                    await self._renew_all()

    async def _renew_all(self) -> None:
        """Keep what is still being handled from others."""
        until = trio.current_time() + LEASE_S
        try:
            assert self._member is not None, "there was one to read with"
            held = (await self._member.renew()).held
        except StoreError:
            return  # the leases end by themselves, and the readers with them
        for part, reader in self._readers.items():
            if part in held and held[part].epoch == reader.at.epoch:
                reader.scope.deadline = until

    async def _leave(self) -> None:
        member, self._member = self._member, None
        if member is None:
            return
        with trio.move_on_after(LEAVE_S_MAX, shield=True):
            try:
                await member.leave()
            except StoreError as error:
                _log.warning("bus.lease_kept", group=self.group, code=error.code)


class SubscriptionActor(Actor[Never]):
    """Runs a subscription under a supervisor: what ends it is a crash, and it joins anew."""

    def __init__(
        self,
        engine: Engine,
        topics: Sequence[str],
        group: str | None,
        handler: Handler | HandlerInTransaction,
        options: SubscribeOptions,
    ) -> None:
        self.subscription = Subscription(engine, topics, group, handler, options)

    async def on_start(self) -> None:
        """Begin to read."""
        self.start_soon(self.subscription.run)

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002  (the runtime's word)
        """Let the records in hand end."""
        await self.subscription.stop()
