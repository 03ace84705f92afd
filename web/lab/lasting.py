"""What the site has survived over all its runs, as events: crashes, and what they lost (LAB-75).

Rule 1: a crash counts when its actor is running again; one that ends the process never does.
Rule 2: an event tells what it adds and what that makes, so a start reads the last one and no more,
and the sum over the stream is what is shown. Nothing else is the truth: what was not stored when a
process was killed, a second's worth, was not shown either.
Rule 3: a write whose outcome is not known is repeated as it was, with the same id and version.
Another process that wrote meanwhile is read first, so two of them count each crash once.
Rule 4: what is stored is published with it: for other programs, and for the other nodes of a
cluster, which show what was survived on any of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import trio

from actors.chat import ROOM_NAMES, CrashRoom
from actors.persistence import (
    EVENTS,
    ConcurrencyConflict,
    EventStore,
    NewEvent,
    StoreError,
    StreamId,
    Version,
    event,
)
from actors.persistence.bus import BusCodecError, Received, Record, bus_message
from actors.reducers import Ids
from actors.runtime import Actor, Cell, Crashed, DeadLetter, Exit, Log, message
from supervision import REPORTS, Report

STREAM: Final = StreamId("survived-site")
DEAD_LETTERS: Final = "dead_letters"
# Of the bus. One stream, so one key: a second partition would have nothing in it.
TOPIC: Final = "survived-events"
TOPIC_PARTITIONS: Final = 1
# A crash is stored within this; what was delivered alone is no news, and waits for longer.
PERIOD_S = 1.0
DELIVERED_PERIOD_S = 30.0
# An actor with the longest backoff is back by then, or was given up.
AWAITED_S = 60.0
# Two hundred visitors that crash at their quota, for ten seconds.
AWAITED_MAX = 1000
# At a stop, behind the server: what happened until now is stored, unless the store is away.
FLUSH_S_MAX = 1.0
# A letter that its sender was told of was not taken; all others were, and are lost.
REFUSED = frozenset({"overflow", "expired", "no_such_actor"})

_ROOMS = frozenset(f"site/rooms/{room.lower()}" for room in ROOM_NAMES)
_log = Log("web.lab")


@dataclass(frozen=True, slots=True)
class Lasted:
    """Counts: crashes of rooms and of other actors, letters rooms lost, messages delivered."""

    rooms: int = 0
    others: int = 0
    lost: int = 0
    delivered: int = 0

    def plus(self, other: Lasted) -> Lasted:
        """Call this for both together."""
        return Lasted(
            self.rooms + other.rooms,
            self.others + other.others,
            self.lost + other.lost,
            self.delivered + other.delivered,
        )

    @property
    def is_news(self) -> bool:
        """Whether something crashed, or was lost."""
        return bool(self.rooms or self.others or self.lost)


@event(name="SiteSurvived")
@dataclass(frozen=True, slots=True)
class SiteSurvived:
    """Some crashes were survived: what this adds, and what all until now come to."""

    added: Lasted
    so_far: Lasted
    at: datetime


@dataclass(frozen=True, slots=True)
class _Write:
    event: NewEvent
    expected: Version
    added: Lasted
    so_far: Lasted


class Survivals:
    """What has happened in this process, and what is stored of all. One for a process.

    It outlives the incarnations of the actor that stores it. It is the sink of two topics: what
    supervisors report, and dead letters.
    """

    def __init__(self, ids: Ids, now: Callable[[], datetime], delivered: Callable[[], int]) -> None:
        self._ids, self._now, self._delivered = ids, now, delivered
        self._told_delivered = 0
        self.fresh = Lasted()
        # What the store has, None until it was read; and the version that it has.
        self.stored: Lasted | None = None
        self.version = Version(0)
        # A write whose outcome is not known.
        self.write: _Write | None = None
        self.written_at = -DELIVERED_PERIOD_S
        self._awaited: deque[tuple[str, int, float]] = deque(maxlen=AWAITED_MAX)

    def total(self) -> Lasted | None:
        """Call this for all runs together; None while the store was not read.

        Of crashes only what is stored: what was shown once is never taken back. Deliveries are
        too many for that, so those of this moment are among them.
        """
        if self.stored is None:
            return None
        unseen = self._delivered() - self._told_delivered
        pending = 0 if self.write is None else self.write.added.delivered
        return self.stored.plus(Lasted(delivered=self.fresh.delivered + pending + unseen))

    def deliver(self, told: object) -> None:
        """Called by the topics, at once."""
        if isinstance(told, DeadLetter):
            is_room = told.path in _ROOMS and told.message_type != CrashRoom.__name__
            if is_room and told.reason not in REFUSED:
                self.fresh = self.fresh.plus(Lasted(lost=1))
        elif (
            isinstance(told, Report)
            and told.context == "child_terminated"
            and isinstance(told.reason, Crashed)
        ):
            self.note(told.offender.path, told.offender.incarnation, told.at)

    @property
    def awaited(self) -> int:
        """How many have crashed and are not back yet."""
        return len(self._awaited)

    def note(self, path: str, incarnation: int, at: float) -> None:
        """Call this for an actor that has crashed: which life of it, and when."""
        self._awaited.append((path, incarnation, at))

    def look(self, maybe_cell: Callable[[str], Cell | None]) -> None:
        """Call this now and then: whoever is running again has survived."""
        now, left = trio.current_time(), list(self._awaited)
        self._awaited.clear()
        for path, incarnation, at in left:
            cell = maybe_cell(path)
            if cell is not None and cell.status == "running" and cell.incarnation != incarnation:
                is_room = path in _ROOMS
                self.fresh = self.fresh.plus(Lasted(rooms=int(is_room), others=int(not is_room)))
            elif now - at < AWAITED_S:
                self.note(path, incarnation, at)

    def next_write(self, *, is_last: bool = False) -> _Write | None:
        """Call this for what is to be stored now, or again; None: nothing is due."""
        if self.write is not None or self.stored is None:
            return self.write
        delivered = self._delivered()
        added = self.fresh.plus(Lasted(delivered=delivered - self._told_delivered))
        is_due = is_last or trio.current_time() - self.written_at >= DELIVERED_PERIOD_S
        if not (added.is_news or (added.delivered and is_due)):
            return None
        so_far = self.stored.plus(added)
        survived = SiteSurvived(added, so_far, self._now())
        new = EVENTS.encode(survived, event_id=self._ids.new_id())
        self.write = _Write(new, self.version, added, so_far)
        self.fresh, self._told_delivered = Lasted(), delivered
        return self.write

    def was_written(self, write: _Write) -> None:
        """Call this when it is stored."""
        self.stored, self.version = write.so_far, Version(write.expected + 1)
        self.write, self.written_at = None, trio.current_time()

    async def hear(self, received: Received) -> None:
        """Call this with a record of the topic, whoever wrote it; raises `BusCodecError`."""
        record = received.record
        try:
            version = int(record.headers["version"])
            survived = msgspec.json.decode(record.value, type=SiteSurvived)
        except (KeyError, ValueError, RecursionError) as error:
            raise BusCodecError("it tells of nothing that was survived") from error
        # A write under way finds out by itself; what is no newer was heard of, or is our own.
        if self.stored is not None and self.write is None and version > self.version:
            self.stored, self.version = survived.so_far, Version(version)

    def was_overtaken(self, write: _Write) -> None:
        """Call this when another process has written first: the store is to be read again."""
        self.fresh = self.fresh.plus(write.added)
        self.stored, self.write = None, None


@message
class Look:
    """Time to see who is back, and to store it."""


class SurvivalsActor(Actor[Look]):
    """Stores what was survived, within a second, and reads at a start what was before."""

    def __init__(self, survivals: Survivals, store: EventStore) -> None:
        self._survivals, self._store = survivals, store
        self._is_away = False

    def on_start(self) -> None:
        """Hear of crashes and of letters that nobody took."""
        for topic in (REPORTS, DEAD_LETTERS):
            self.system.topics.subscribe(topic, self._survivals)
        self.after(0.0, Look(), key="look")

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Store what happened until now."""
        self._survivals.look(self.system.at)
        with trio.move_on_after(FLUSH_S_MAX):
            await self._store_it(is_last=True)

    async def on_look(self, _: Look) -> None:
        """Store what was survived since the last look."""
        self.after(PERIOD_S, Look(), key="look")
        self._survivals.look(self.system.at)
        await self._store_it()

    async def _store_it(self, *, is_last: bool = False) -> None:
        survivals = self._survivals
        try:
            if survivals.stored is None and survivals.write is None:
                await self._read()
            write = survivals.next_write(is_last=is_last)
            if write is None:
                return
            try:
                record = Record.of_append(STREAM, write.expected + 1, write.event)
                await self._store.append(
                    STREAM,
                    [write.event],
                    expected=write.expected,
                    outbox=[bus_message(TOPIC, record)],
                )
            except ConcurrencyConflict:
                survivals.was_overtaken(write)
            else:
                survivals.was_written(write)
            self._is_away = False
        except StoreError as error:
            if not self._is_away:
                _log.warning("lab.survivals_wait", code=error.code)
            self._is_away = True

    async def _read(self) -> None:
        survivals = self._survivals
        found = [stored async for stored in self._store.load_backwards(STREAM, limit=1)]
        if not found:
            survivals.stored, survivals.version = Lasted(), Version(0)
            return
        last = EVENTS.decode(found[0])
        assert isinstance(last, SiteSurvived), "nothing else is written to this stream"
        survivals.stored, survivals.version = last.so_far, found[0].version
