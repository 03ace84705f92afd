"""The log on the bus: every event published in the order of the log, and heard in that order.

A `LogPublisher` reads the log and publishes it on a topic. A `LogListener` hears the topic, and a
`HeardLog` is what it heard: who would follow the store follows that instead, from any place.

Rule 1: the topic has one partition, so its order is that of the log.
Rule 2: each record names the event it stands behind. Who has not had that one has missed something,
        and reads the log, as does who is further behind than is kept. Nothing is missed.
Rule 3: the bus is not waited for: what it has not told within three looks is read from the log.
Rule 4: private fields stay sealed; a projection that reads them follows the store itself.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from typing import Protocol, cast

import trio

from actors.persistence.bus.errors import BusCodecError, BusUnavailable
from actors.persistence.bus.port import Engine, EventBus
from actors.persistence.bus.subscription import SubscriptionActor
from actors.persistence.bus.words import (
    PUBLISH_MAX,
    RECORD_BYTES_MAX,
    TRACED,
    Guard,
    OnFailure,
    Received,
    Record,
    StartAt,
    SubscribeOptions,
)
from actors.persistence.errors import CursorOutdated, StoreError, StoreMisuse
from actors.persistence.event_store import EventStore, check_place, place_of
from actors.persistence.projections.store import (
    Checkpoint,
    GenerationState,
    ProjectionBatch,
    ProjectionStore,
)
from actors.persistence.words import START, Bookmark, Cursor, Page, StoredEvent, split_name
from actors.runtime import Actor, Ask, Log, current_tallies, message, tell_past

# What a `LogPublisher` says of each event beside the headers of `Record.of_event`.
AFTER, LINEAGE, CODEC = "after", "lineage", "codec"
# A burst of sales; who is further behind reads the log, as before there was a bus.
KEPT_EVENTS, KEPT_BYTES = 2000, 8_388_608
# How soon it is seen that the bus is silent, and that nobody publishes any more.
LOOK_S = 2.0
AWAY_S = 1.0

_log = Log("actors.bus")


class PublishingPlace(Protocol):
    """How far the log is published, and by whom."""

    async def begin(self, events: EventStore) -> Bookmark:
        """Call this for where to go on; at first that is the log's end. Waits for its turn."""
        ...

    async def move(self, to: Cursor) -> bool:
        """Call this when all up to a cursor is published; False when another one publishes."""
        ...


class OwnPlace:
    """For a bus of one process, in its memory. It outlives the publisher, whose crash loses none.

    What is there before the first publisher is not published: nobody could hear it.
    """

    def __init__(self) -> None:
        self.at: Bookmark | None = None

    async def begin(self, events: EventStore) -> Bookmark:
        """See `PublishingPlace.begin`."""
        if self.at is None or self.at.lineage != await events.lineage():
            self.at = await end_of(events)
        return self.at

    async def move(self, to: Cursor) -> bool:
        """See `PublishingPlace.move`."""
        assert self.at is not None, "it was begun"
        self.at = replace(self.at, cursor=to)
        return True


class SharedPlace:
    """For a bus of several processes: a checkpoint beside the rows of projections.

    One of them publishes, and the others look on: who finds that another has moved the place lets
    it, until it stands still for a look though there is something to publish. While the turn goes
    over both may publish the same events; who hears an event twice knows it by its cursor.
    """

    def __init__(self, rows: ProjectionStore, name: str) -> None:
        self._rows, self._name = rows, name
        self._mine: Checkpoint | None = None
        self._is_others = False

    async def begin(self, events: EventStore) -> Bookmark:
        """See `PublishingPlace.begin`."""
        found = await self._look()
        if found is None:
            found = await self._begin_at_end(events, 1)
        elif found.lineage != await events.lineage():
            found = await self._begin_at_end(events, found.generation + 1)
        elif found.revision == 0:
            # Somebody else has made it a moment ago, and not said yet where it begins.
            found = await self._begin_at_end(events, found.generation)
        while self._is_others:
            await trio.sleep(LOOK_S)
            before, found = found, await self._look() or found
            is_left = found.revision == before.revision
            self._is_others = not (is_left and (await events.lag(found.cursor)).events)
        self._mine = found
        return Bookmark(found.lineage, found.cursor)

    async def move(self, to: Cursor) -> bool:
        """See `PublishingPlace.move`."""
        mine = self._mine
        assert mine is not None, "it was begun"
        if not await self._rows.commit(ProjectionBatch(mine, to)):
            self._is_others = True
            return False
        self._mine = replace(mine, cursor=to, revision=mine.revision + 1)
        return True

    async def _look(self) -> Checkpoint | None:
        known = await self._rows.checkpoints(self._name)
        return max(known, key=lambda one: one.generation, default=None)

    async def _begin_at_end(self, events: EventStore, generation: int) -> Checkpoint:
        end = await end_of(events)
        found = await self._rows.open(self._name, generation, 1, GenerationState.LIVE)
        if found.revision == 0 and await self._rows.commit(ProjectionBatch(found, end.cursor)):
            return replace(found, cursor=end.cursor, revision=found.revision + 1)
        return await self._look() or found


async def end_of(events: EventStore) -> Bookmark:
    """Call this for the end of the log."""
    lineage = await events.lineage()
    newest = await events.read_backwards(limit=1)
    return Bookmark(lineage, newest.events[0].cursor if newest.events else START)


def records_of(events: Sequence[StoredEvent], after: Bookmark) -> list[Record]:
    """Call this for the records of events that stand behind a place; too large ones are left out.

    Who misses one of those finds that by the next record, and reads it in the log.
    """
    found, before = list[Record](), after.cursor
    for event in events:
        record = Record.of_event(event)
        told = {AFTER: str(before), LINEAGE: after.lineage, CODEC: event.codec}
        record = replace(record, headers={**record.headers, **told})
        before = event.cursor
        if record.size <= RECORD_BYTES_MAX:
            found.append(record)
    return found


@dataclass(frozen=True, slots=True)
class Heard:
    """An event that was heard, and the place in the log that it stands behind."""

    event: StoredEvent
    after: Bookmark


def heard_of(record: Record) -> Heard:
    """Call this for what a record of a `LogPublisher` says; raises `BusCodecError`."""
    headers = record.headers
    try:
        tenant, stream = split_name(headers["stream_id"])
        event = StoredEvent(
            stream,
            int(headers["version"]),
            Cursor.parse(headers["cursor"]),
            record.event_id,
            headers["event_type"],
            int(headers["schema_version"]),
            headers[CODEC],
            record.value,
            {name: headers[name] for name in TRACED if name in headers},
            tenant,
            datetime.fromisoformat(headers["recorded_at"]),
        )
        return Heard(event, Bookmark(headers[LINEAGE], Cursor.parse(headers[AFTER])))
    except (KeyError, ValueError) as error:
        raise BusCodecError(f"it is no event of a log: {error}") from error


@message
class AskPublished(Ask[Cursor]):
    """Asks a publisher up to where the log is published; `START` before it has begun."""


class LogPublisher(Actor[AskPublished]):
    """Publishes the log on a topic, each event at least once, in its order.

    Where the bus or the store is away it waits, and goes on from its place. With `categories` it
    publishes those alone; then nobody may follow others by what is heard.
    """

    def __init__(
        self,
        events: EventStore,
        bus: EventBus,
        topic: str,
        place: PublishingPlace,
        categories: Sequence[str] | None = None,
    ) -> None:
        self._events, self._bus, self._topic, self._place = events, bus, topic, place
        self._categories = categories
        self._at = START

    async def on_start(self) -> None:
        """Begin to publish."""
        self.start_soon(self._publish_for_ever)

    def on_ask_published(self, message: AskPublished) -> Cursor:
        """Tell how far it is."""
        return self._at

    async def _publish_for_ever(self) -> None:
        while True:
            try:
                await self._bus.declare(self._topic, 1)
                await self._publish(await self._place.begin(self._events))
            except CursorOutdated:
                _log.warning("bus.log_begins_anew", topic=self._topic)
            except StoreMisuse:
                raise
            except StoreError as error:
                _log.warning("bus.log_waits", topic=self._topic, code=error.code)
                await trio.sleep(AWAY_S)

    async def _publish(self, at: Bookmark) -> None:
        """Publish until another one does."""
        self._at = at.cursor
        last = at
        pages = self._events.follow(after=at, categories=self._categories)
        async with aclosing(cast("AsyncGenerator[Page, None]", pages)) as reading:
            async for page in reading:
                records = records_of(page.events, last)
                for begin in range(0, len(records), PUBLISH_MAX):
                    await self._publish_part(records[begin : begin + PUBLISH_MAX])
                if not await self._place.move(page.next):
                    return
                self._at = page.next
                if page.events:
                    last = replace(at, cursor=page.events[-1].cursor)

    async def _publish_part(self, records: Sequence[Record]) -> None:
        tallies, began = current_tallies(), trio.current_time()
        try:
            await self._bus.publish_batch(self._topic, records)
        except StoreError:
            tallies.count("bus_published_total", self._topic, "failed").number += len(records)
            raise
        tallies.count("bus_published_total", self._topic, "ok").number += len(records)
        tallies.histogram("bus_publish_seconds", self._topic).note(trio.current_time() - began)
        tell_past("bus.publish", (one.headers for one in records), began, topic=self._topic)


class HeardLog:
    """What this process has heard of the log, for whoever follows it; as many as there are.

    heard = HeardLog(store)
    ProjectionRunner(projection, store, rows, source=heard)
    """

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._heard: deque[Heard] = deque(maxlen=KEPT_EVENTS)
        self._bytes = 0
        self._changed = trio.Event()
        # How often somebody had reason to believe that not all was told.
        self._doubts = 0
        # Where those are who wait for more; one for each that follows.
        self._waiting: dict[object, Cursor] = {}

    def __repr__(self) -> str:
        newest = self._heard[-1].event.cursor if self._heard else START
        return f"<HeardLog {len(self._heard)} events up to {newest}>"

    def maybe_last(self) -> Cursor | None:
        """Call this for the place of whoever is furthest behind and waits; None where nobody does.

        What one of them has read in the log, the others were not told.
        """
        return min(self._waiting.values(), default=None)

    def hear(self, heard: Heard) -> None:
        """Call this with each event as it comes; one that comes again is passed over."""
        before = self._heard[-1] if self._heard else None
        if before is not None and before.after.lineage != heard.after.lineage:
            self._heard.clear()
            self._bytes = 0
        elif before is not None and heard.event.cursor <= before.event.cursor:
            return
        self._bytes += len(heard.event.data)
        while self._heard and (len(self._heard) == KEPT_EVENTS or self._bytes > KEPT_BYTES):
            self._bytes -= len(self._heard.popleft().event.data)
        self._heard.append(heard)
        self._ring()

    def doubt(self) -> None:
        """Call this when the bus may have told less than there is: all look into the log once."""
        self._doubts += 1
        self._ring()

    def _ring(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def follow(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """See `EventStore.follow`; `types` are those that events are stored under."""
        at, lineage = check_place(after)
        settled = -1
        while True:
            changed, doubts = self._changed, self._doubts
            news = self._behind(at, lineage)
            if news:
                at = news[-1].cursor
                wanted = [one for one in news if _is_of(one, types, categories)]
                yield Page(wanted, at, at, lineage)
            elif news is None or settled != doubts:
                place = place_of(at, lineage)
                page = await self._events.read_all(after=place, types=types, categories=categories)
                lineage = page.lineage
                if page.is_last:
                    settled = doubts
                if page.next > at:
                    at = page.next
                    yield page
                elif news is None:
                    # What was heard is not in this log; what comes next tells more.
                    await self._wait(changed, at)
            else:
                await self._wait(changed, at)

    async def _wait(self, changed: trio.Event, at: Cursor) -> None:
        waiting = object()
        self._waiting[waiting] = at
        try:
            await changed.wait()
        finally:
            del self._waiting[waiting]

    def _behind(self, at: Cursor, lineage: str) -> Sequence[StoredEvent] | None:
        """What was heard behind a place without a hole; None where there is one."""
        later = [*takewhile(lambda one: one.event.cursor > at, reversed(self._heard))]
        if not later:
            return ()
        later.reverse()
        if later[0].after.lineage != lineage or later[0].after.cursor > at:
            return None
        found, before = list[StoredEvent](), at
        for one in later:
            if one.after.cursor > before:
                break
            found.append(one.event)
            before = one.event.cursor
        return found


def _is_of(
    event: StoredEvent, types: Sequence[str] | None, categories: Sequence[str] | None
) -> bool:
    category = event.stream_id.partition("-")[0]
    is_wanted = categories is None or category in categories
    return is_wanted and (types is None or event.type in types)


class LogListener(SubscriptionActor):
    """Hears the topic of a `LogPublisher` for a `HeardLog`; each process in a `group` of its own.

    Every few seconds it looks whether there is more in the log than was heard.
    """

    def __init__(self, engine: Engine, topic: str, group: str, heard: HeardLog, events: EventStore):
        # A record that cannot be read is a hole, and what is in it is read from the log.
        options = SubscribeOptions(
            Guard.IDEMPOTENT, on_failure=OnFailure.SKIP, start_at=StartAt.LATEST
        )
        super().__init__(engine, [topic], group, self._hear, options)
        self._engine, self._topic, self._heard, self._events = engine, topic, heard, events

    async def _hear(self, received: Received) -> None:
        self._heard.hear(heard_of(received.record))

    async def on_start(self) -> None:
        """Begin to hear."""
        self.start_soon(self._listen)
        self.start_soon(self._look_for_ever)

    async def _listen(self) -> None:
        while True:
            try:
                await self._engine.declare(self._topic, 1)
                break
            except BusUnavailable:
                await trio.sleep(AWAY_S)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.subscription.run)
            # What was published until now is not told: the group begins behind it.
            self._heard.doubt()

    async def _look_for_ever(self) -> None:
        # Behind which more was there at the look before; what has just come is on its way.
        stuck: Cursor | None = None
        while True:
            last = self._heard.maybe_last()
            try:
                is_behind = last is not None and (await self._events.lag(last)).events > 0
            except StoreError as error:
                _log.warning("bus.log_waits", topic=self._topic, code=error.code)
                is_behind = False
            if is_behind and last == stuck:
                self._heard.doubt()
            stuck = last if is_behind else None
            await trio.sleep(LOOK_S)
