"""A state that is made of stored events when somebody asks, and kept nowhere.

Without a projection and without an actor: for a look at an aggregate as it was, for what is asked
seldom, and for a decision over several streams. What is asked often is a projection's.

Rule 1: events are read page by page and let go: the memory needed is that of the state, however
long a stream or the log is.
Rule 2: a state is always one that there was. Of a stream it is made of all events up to one, in
order, and never of half of one that is split.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, cast

import msgspec

from actors.persistence.aggregate import Aggregate, read_state, schema_tag
from actors.persistence.errors import InvalidField
from actors.persistence.event_store import EventStore, Snapshots, place_of
from actors.persistence.event_types import EVENTS, EventTypes
from actors.persistence.words import (
    START,
    Bookmark,
    Cursor,
    Query,
    Snapshot,
    StoredEvent,
    StreamId,
    Version,
    check_integer,
    check_time,
)
from actors.reducers.messages import here
from actors.runtime import Log

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

# Of each stream a page is held while they are merged; more streams are a category, or have a tag.
VIEW_STREAMS_MAX = 100

_log = Log("actors.persistence")


@dataclass(frozen=True, slots=True)
class Folded(Generic[S]):
    """A state, and what it was made of.

    `version` is that of its stream, 0 of several ones. `cursor` is where the reading ended: go
    on from there, or append under a condition on it. `recorded_at` is when the last event of it
    was stored; None when there was none.
    """

    state: S
    version: Version = 0
    cursor: Cursor = START
    recorded_at: datetime | None = None
    # Of the store that was read by tags or as a log: an answer is read on in the same order only.
    lineage: str = ""


class View(Generic[S]):
    """Base of a state over several streams; has no state of its own.

    ```python
    class Open(View[frozenset[str]]):
        handles = (OrderOpened, OrderClosed)

        def initial(self) -> frozenset[str]:
            return frozenset()

        def apply(self, state: frozenset[str], event: StoredEvent) -> frozenset[str]:
            if isinstance(self.types.decode(event), OrderOpened):
                return state | {event.stream_id}
            return state - {event.stream_id}
    ```

    Events of other classes are left out. Of one that is split those parts come that are handled.
    """

    handles: ClassVar[tuple[type, ...]]
    types: ClassVar[EventTypes] = EVENTS

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not getattr(cls, "handles", ()):
            raise TypeError(
                f"{cls.__qualname__} handles no event; list the classes it wants ({here()})"
            )

    def initial(self) -> S:
        """Override this: the state before the first event."""
        raise TypeError(f"{type(self).__name__} has no initial()")

    def apply(self, state: S, event: StoredEvent) -> S:
        """Override this: the state after an event; a pure function, which keeps none of them."""
        raise TypeError(f"{type(self).__name__} has no apply()")


async def state_of(
    aggregate: Aggregate[S, C, E],
    id_: str,
    store: EventStore,
    *,
    version: Version | None = None,
    at: datetime | None = None,
    snapshots: Snapshots | None = None,
) -> Folded[S]:
    """Call this for the state of an aggregate: now, at a version, or as of a time.

    A version that is not there yet gives the last one; 0 gives the initial state. As of a time
    it is made of the events before the first that was recorded later, by the clock of the
    database. A snapshot is used when it is not of later, and never written. Raises
    `UnknownEventType` and `CodecError` as an aggregate does when it starts.
    """
    aggregate.types.check()
    stream_id = StreamId(f"{aggregate.category}-{id_}")
    if version is not None:
        check_integer("version", version, 0)
    if at is not None:
        check_time("at", at)
    if snapshots is not None:
        kept = await snapshots.latest(stream_id)
        if kept is not None and (version is None or kept.version <= version):
            found = await _from_snapshot(aggregate, kept, store, version, at)
            if found is not None:
                return found
    if version == 0:
        return Folded(aggregate.initial())
    return await _read_on(aggregate, store, stream_id, Folded(aggregate.initial()), version, at)


async def _from_snapshot(
    aggregate: Aggregate[S, C, E],
    kept: Snapshot,
    store: EventStore,
    version: Version | None,
    at: datetime | None,
) -> Folded[S] | None:
    if kept.schema != schema_tag(aggregate):
        return None
    try:
        state = read_state(aggregate, kept.data)
    except msgspec.DecodeError:
        _log.warning("persistence.snapshot_ignored", stream_id=kept.stream_id, why="bytes")
        return None
    stream_id = StreamId(kept.stream_id)
    # When its last event was recorded, and where, says the log only; without it there is no
    # stream that the state could be of.
    last = [
        one
        async for one in store.load(stream_id, from_version=kept.version, to_version=kept.version)
    ]
    if not last or (at is not None and last[0].recorded_at > at):
        return None
    begun = Folded(state, kept.version, last[0].cursor, last[0].recorded_at)
    return await _read_on(aggregate, store, stream_id, begun, version, at)


async def _read_on(
    aggregate: Aggregate[S, C, E],
    store: EventStore,
    stream_id: StreamId,
    begun: Folded[S],
    version: Version | None,
    at: datetime | None,
) -> Folded[S]:
    state, last = begun.state, None
    reading = store.load(stream_id, from_version=begun.version + 1, to_version=version)
    async with _closing(reading) as events:
        async for stored in events:
            if at is not None and stored.recorded_at > at:
                break
            for event in aggregate.types.decode_all(stored):
                state = aggregate.apply(state, cast("E", event))
            last = stored
    if last is None:
        return begun
    return Folded(state, last.version, last.cursor, last.recorded_at)


async def view_streams(
    view: View[S], streams: Sequence[StreamId], store: EventStore, *, at: datetime | None = None
) -> Folded[S]:
    """Call this for a state of several streams, their events in the order of the log.

    Up to `VIEW_STREAMS_MAX` (100); more, or none, is `InvalidField`. As of a time each stream
    ends before its first event that was recorded later.
    """
    view.types.check()
    names = list(dict.fromkeys(streams))
    if not 1 <= len(names) <= VIEW_STREAMS_MAX:
        why = f"has {len(names)} streams, 1 to {VIEW_STREAMS_MAX} are possible"
        raise InvalidField("streams", why)
    if at is not None:
        check_time("at", at)
    made = Folded(view.initial())
    async with AsyncExitStack() as stack:
        waiting: list[tuple[Cursor, int, StoredEvent]] = []
        readers = [await stack.enter_async_context(_closing(store.load(name))) for name in names]
        for number, reader in enumerate(readers):
            await _push(waiting, number, reader, at)
        while waiting:
            _, number, event = heapq.heappop(waiting)
            made = _folded(view, made, event)
            await _push(waiting, number, readers[number], at)
    return made


async def _push(
    waiting: list[tuple[Cursor, int, StoredEvent]],
    number: int,
    reader: AsyncIterator[StoredEvent],
    at: datetime | None,
) -> None:
    event = await anext(reader, None)
    if event is not None and (at is None or event.recorded_at <= at):
        heapq.heappush(waiting, (event.cursor, number, event))


async def view_log(
    view: View[S],
    store: EventStore,
    *,
    categories: Sequence[str] | None = None,
    at: datetime | None = None,
    since: Folded[S] | None = None,
) -> Folded[S]:
    """Call this for a state of whole categories, or of all that there is.

    Reads the log to its end, whatever is asked for: events recorded after `at` are left out, and
    in the order of the log times go up and down a little. `since` is an earlier answer, of the
    same view and without `at`: only what came behind it is read. One of another lineage is
    `CursorOutdated`.
    """
    view.types.check()
    if at is not None:
        check_time("at", at)
    made = since or Folded(view.initial())
    types = view.types.stored_as(*view.handles)
    while True:
        page = await store.read_all(after=_place(made), types=types, categories=categories)
        for event in page.events:
            if at is None or event.recorded_at <= at:
                made = _folded(view, made, event)
        made = Folded(made.state, 0, page.next, made.recorded_at, page.lineage)
        if page.is_last:
            return made


async def view_tagged(
    view: View[S], query: Query, store: EventStore, *, since: Folded[S] | None = None
) -> Folded[S]:
    """Call this for what a decision over several streams is made on; `EventStore.read_tagged`.

    Append it under `Condition(query, folded.cursor)`. `since` is an earlier answer, of the same
    view and query: only what came behind it is read. One of another lineage is `CursorOutdated`.
    """
    view.types.check()
    made = since or Folded(view.initial())
    while True:
        page = await store.read_tagged(query, after=_place(made))
        for event in page.events:
            made = _folded(view, made, event)
        made = Folded(made.state, 0, page.next, made.recorded_at, page.lineage)
        if page.is_last:
            return made


def _folded(view: View[S], made: Folded[S], event: StoredEvent) -> Folded[S]:
    state, recorded_at = made.state, made.recorded_at
    for part in view.types.parts(event, view.handles):
        state, recorded_at = view.apply(state, part), event.recorded_at
    return Folded(state, 0, event.cursor, recorded_at, made.lineage)


def _place(made: Folded[S]) -> Cursor | Bookmark:
    return place_of(made.cursor, made.lineage)


def _closing(events: AsyncIterator[StoredEvent]) -> aclosing[AsyncGenerator[StoredEvent, None]]:
    return aclosing(cast("AsyncGenerator[StoredEvent, None]", events))
