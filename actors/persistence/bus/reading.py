"""The readers of a subscription: one a partition, those of topics and those of what is put aside.

Rule 1: an offset is passed only when all up to it is handled, put aside or given up.
Rule 2: nothing is handled outside of `scope`, which ends with the lease of the partition.
Rule 3: a reader that is to leave ends behind the record in hand.
"""

from collections import deque
from math import inf
from uuid import UUID
from zlib import crc32

import trio

from actors.persistence.bus.errors import BusCodecError
from actors.persistence.bus.handling import RETRY_GROUP, At, Handling, PartLost
from actors.persistence.bus.port import Held
from actors.persistence.bus.sharing import (
    BLOCK_FIRST_S,
    BLOCK_S_MAX,
    RECONNECT_FIRST_S,
    RECONNECT_S_MAX,
    backoff_s,
)
from actors.persistence.bus.words import (
    RETRY,
    OnFailure,
    Part,
    RawRecord,
    Record,
    read_record,
)
from actors.persistence.errors import StoreError
from actors.persistence.words import Cursor
from actors.runtime import Log

# Of one partition at a time, so that all get their turn.
FETCH_MAX = 100
# Behind a missed hint records wait so long.
POLL_S = 1.0
# What was handled is noted this soon: so much a killed member leaves to be handled twice.
COMMIT_S = 0.1
# A partition that stands for so long is an alarm.
BLOCKED_TOLD_S = 60.0

_log = Log("actors.bus")


class Room:
    """How many records may still be fetched."""

    def __init__(self, buffer: int) -> None:
        self.free = self.size = buffer
        self._waiting = trio.lowlevel.ParkingLot()

    async def take(self, most: int) -> int:
        """Call this for up to `most` places, at least one; waits for it."""
        while self.free == 0:
            await self._waiting.park()
        taken = min(most, self.free)
        self.free -= taken
        return taken

    def give(self, count: int) -> None:
        """Call this when so many records are handled, or were not there."""
        self.free += count
        self._waiting.unpark()


class Reader:
    """What the readers of all partitions have in common."""

    def __init__(self, handling: Handling, part: Part, held: Held, room: Room) -> None:
        self._handling, self._room = handling, room
        self.at = At(part, held.epoch)
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.is_blocked = False
        self._is_leaving = False
        self._pausing = trio.CancelScope()
        self._fetched = self._done = self._noted = held.offset
        self._noted_at = -inf
        self._taken = 0  # places in the room that are ours

    def leave(self) -> None:
        """Call this to end it behind the record in hand."""
        self._is_leaving = True
        self._pausing.cancel()

    async def run(self) -> None:
        """Call this in a task; ends when it is told to leave, or the partition is lost."""
        tries = 0
        try:
            with self.scope:
                while not self._is_leaving:
                    try:
                        await self._some()
                        tries = 0
                    except StoreError as error:
                        tries += 1
                        _log.warning("bus.reader_waits", part=str(self.at.part), code=error.code)
                        jitter = crc32(f"{self.at}{tries}".encode()) / 2**32
                        self._start_again()
                        wait_s = backoff_s(tries, RECONNECT_FIRST_S, RECONNECT_S_MAX, jitter)
                        await self._pause(wait_s)
                await self._commit()
        except (PartLost, StoreError):
            pass  # who has it next begins where we have noted
        finally:
            self._room.give(self._taken)
            self._taken = 0
            self.ended.set()

    async def _some(self) -> None:
        raise NotImplementedError

    def _start_again(self) -> None:
        """Forget what was fetched and is not handled."""
        self._room.give(self._taken)
        self._taken = 0
        self._fetched = self._done

    async def _fetch(self, most: int, bytes_max: int) -> list[RawRecord]:
        count = await self._room.take(most)
        self._taken += count
        member = self._handling.member
        raws = list(await member.fetch(self.at.part, self._fetched, count, bytes_max))
        self._give(count - len(raws))
        if raws:
            self._fetched = raws[-1].offset
        return raws

    def _give(self, count: int) -> None:
        self._taken -= count
        self._room.give(count)

    async def _commit(self) -> None:
        if self._done == self._noted:
            return
        done = self._done
        if not await self._handling.member.commit(self.at.part, self.at.epoch, done):
            raise PartLost
        self._noted, self._noted_at = done, trio.current_time()

    async def _pause(self, timeout_s: float) -> None:
        with trio.CancelScope() as self._pausing:
            if self._is_leaving:
                return
            await trio.sleep(timeout_s)

    async def _wait_for_more(self, timeout_s: float) -> None:
        with trio.CancelScope() as self._pausing:
            if self._is_leaving:
                return
            await self._handling.member.wait(self.at.part, timeout_s)


class TopicReader(Reader):
    """Handles the records of a partition one by one."""

    async def _some(self) -> None:
        raws = await self._fetch(FETCH_MAX, self._handling.options.part_bytes)
        if not raws:
            due_in_s = self._noted_at + COMMIT_S - trio.current_time()
            if due_in_s <= 0 or self._done == self._noted:
                await self._commit()
                due_in_s = POLL_S
            await self._wait_for_more(due_in_s)
            return
        parked = await self._parked_keys(raws)
        for raw in raws:
            await self._one(raw, parked)
            self._done = raw.offset
            if self._handling.is_in_transaction:
                self._noted = raw.offset
            self._give(1)
            if self._is_leaving:
                return
            if trio.current_time() - self._noted_at >= COMMIT_S:
                await self._commit()

    async def _parked_keys(self, raws: list[RawRecord]) -> set[str]:
        if self._handling.options.on_failure is not OnFailure.PARK:
            return set()
        keys = [key for key in {raw.key.decode(errors="replace") for raw in raws} if key]
        handling = self._handling
        return set(await handling.engine.parking.parked_keys(handling.group, self.at.topic, keys))

    async def _one(self, raw: RawRecord, parked: set[str]) -> None:
        handling = self._handling
        try:
            record = read_record(raw)
        except BusCodecError as error:
            await self._give_up(raw, error, None)
            return
        if record.key in parked:
            await handling.park(self.at, raw, record, 0.0)
            await self._pass(raw)
            return
        failure = await self._try(raw, record)
        if failure is None:
            return
        is_parked = handling.options.on_failure is OnFailure.PARK
        if is_parked and not isinstance(failure, BusCodecError):
            await handling.park(self.at, raw, record, handling.options.parked_delays_s[0])
            parked.add(record.key)
            await self._pass(raw)
        else:
            await self._give_up(raw, failure, record)

    async def _try(self, raw: RawRecord, record: Record) -> Exception | None:
        match self._handling.options.on_failure:
            case OnFailure.PARK:
                return await self._handling.try_in_place(self.at, raw, record)
            case OnFailure.SKIP:
                return await self._handling.try_once(self.at, raw, record, 1, raw.offset)
            case OnFailure.BLOCK:
                return await self._try_for_ever(raw, record)

    async def _give_up(self, raw: RawRecord, error: Exception, record: Record | None) -> None:
        event_id = None if record is None else record.event_id
        await self._handling.give_up(self.at, raw, error, event_id)
        await self._pass(raw)

    async def _pass(self, raw: RawRecord) -> None:
        """Note at once what no transaction of a handler notes, and cost much to do twice."""
        self._done = raw.offset
        await self._commit()

    async def _try_for_ever(self, raw: RawRecord, record: Record) -> Exception | None:
        began, tries = trio.current_time(), 1
        try:
            while True:
                error = await self._handling.try_once(self.at, raw, record, tries, raw.offset)
                if error is None or isinstance(error, BusCodecError):
                    return error
                if trio.current_time() - began >= BLOCKED_TOLD_S and not self.is_blocked:
                    self.is_blocked = True
                    _log.error("bus.partition_blocked", part=str(self.at.part), tries=tries)
                jitter = crc32(f"{record.event_id}{tries}".encode()) / 2**32
                await self._pause(backoff_s(tries, BLOCK_FIRST_S, BLOCK_S_MAX, jitter))
                if self._is_leaving:
                    raise PartLost
                tries += 1
        finally:
            self.is_blocked = False


class _Waiting:
    """A record that is put aside: how often it was tried, and when it is again."""

    def __init__(self, raw: RawRecord, record: Record, tries: int, due: float) -> None:
        self.raw, self.record, self.tries, self.due = raw, record, tries, due


class ParkedReader(Reader):
    """Handles what is put aside, when it is due, those of a key in their order.

    The offset stays before the first that waits; those behind it that were handled are not put
    aside any more, and so are passed over when they come again.
    """

    def __init__(self, handling: Handling, part: Part, held: Held, room: Room) -> None:
        super().__init__(handling, part, held, room)
        self._by_key: dict[str, deque[_Waiting]] = {}
        self._open: dict[UUID, Cursor] = {}  # in the order of the partition
        self._bytes = 0  # of those that are open

    def _start_again(self) -> None:
        super()._start_again()
        self._by_key.clear()
        self._open.clear()
        self._bytes = 0

    async def _some(self) -> None:
        left = self._handling.options.part_bytes - self._bytes
        has_room = not self._open or (self._room.free > 0 and left > 0)
        if has_room:
            await self._take_in(await self._fetch(FETCH_MAX, max(1, left)))
        head = min(
            (waiting[0] for waiting in self._by_key.values()),
            key=lambda one: one.due,
            default=None,
        )
        now = trio.current_time()
        if head is None or head.due > now:
            await self._commit()
            wait_s = min(POLL_S, inf if head is None else head.due - now)
            # Without room it does not matter what came: a wait behind no fetch ends at once.
            await (self._wait_for_more(wait_s) if has_room else self._pause(wait_s))
            return
        await self._one(head)
        self._note_done()
        await self._commit()

    async def _take_in(self, raws: list[RawRecord]) -> None:
        own = self._handling.group.encode()
        records: list[tuple[RawRecord, Record]] = []
        for raw in raws:
            if raw.headers.get(RETRY_GROUP) == own:
                try:
                    records.append((raw, read_record(raw)))
                except BusCodecError as error:
                    await self._handling.give_up(self.at, raw, error)
        ids = [record.event_id for _, record in records]
        parking = self._handling.engine.parking
        rows = await parking.parked(self._handling.group, self.at.topic, ids) if ids else {}
        now, kept = trio.current_time(), 0
        for raw, record in records:
            row = rows.get(record.event_id)
            if row is None or record.event_id in self._open:
                continue
            kept += 1
            tries, due_in_s = row
            # No wait is longer than it was meant to be: the clock was set back since.
            delays = self._handling.options.parked_delays_s
            due_in_s = min(due_in_s, delays[min(tries, len(delays) - 1)])
            waiting = _Waiting(raw, record, tries, now + due_in_s)
            self._by_key.setdefault(record.key, deque()).append(waiting)
            self._open[record.event_id] = raw.offset
            self._bytes += raw.size
        self._give(len(raws) - kept)
        self._note_done()

    def _note_done(self) -> None:
        first = next(iter(self._open), None)
        if first is None:
            self._done = self._fetched
        elif self._before is not None:
            self._done = max(self._done, self._before)

    @property
    def _before(self) -> Cursor | None:
        """The offset before the first that is open; offsets between records are as good."""
        first = next(iter(self._open.values()))
        return Cursor(first.txid, first.position - 1) if first.position > 0 else None

    async def _one(self, head: _Waiting) -> None:
        handling, record = self._handling, head.record
        options = handling.options
        attempt = 2 + len(options.place_delays_s) + head.tries
        error = await handling.try_once(self.at, head.raw, record, attempt, None)
        parking = handling.engine.parking
        if error is not None:
            tries = head.tries + 1
            if tries < len(options.parked_delays_s) and not isinstance(error, BusCodecError):
                delay_s = options.parked_delays_s[tries]
                await parking.park(
                    handling.group, self.at.topic, record.key, record.event_id, tries, delay_s
                )
                head.tries, head.due = tries, trio.current_time() + delay_s
                return
            await handling.give_up(self.at, head.raw, error, record.event_id)
        await parking.unpark(handling.group, self.at.topic, record.event_id)
        waiting = self._by_key[record.key]
        waiting.popleft()
        if not waiting:
            del self._by_key[record.key]
        del self._open[record.event_id]
        self._bytes -= head.raw.size
        self._give(1)


def reader_of(handling: Handling, part: Part, held: Held, room: Room, aside: Room) -> Reader:
    """Call this for the reader of a partition."""
    if part.topic.endswith(RETRY):
        return ParkedReader(handling, part, held, aside)
    return TopicReader(handling, part, held, room)
