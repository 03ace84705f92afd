"""The event store in memory; the twin of `storage/postgres/event_store.py`, read first."""

from bisect import bisect_left, bisect_right
from collections import ChainMap
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from typing import Self
from uuid import UUID

import trio

from actors.persistence import (
    ANY,
    ARCHIVED,
    COUNT_MAX,
    EVENTS,
    EXISTS,
    PAGE_LIMIT,
    REOPENED,
    START,
    TOMBSTONED,
    Appended,
    AppendRequest,
    BackwardPage,
    Bookmark,
    CloseTimer,
    Condition,
    Counted,
    Cursor,
    EventTypes,
    ExpectedVersion,
    Idempotent,
    InlineProjections,
    Keyring,
    Lag,
    NewEvent,
    OutboxMessage,
    Page,
    Projection,
    Query,
    Shard,
    StoredEvent,
    StreamId,
    StreamInfo,
    TimerChange,
    Version,
)
from actors.persistence.beside_log.subject_keys import open_events, seal_request, seal_requests
from actors.persistence.event_store import (
    check_backwards,
    check_batch,
    check_before,
    check_bounds,
    check_closing,
    check_count,
    check_cursor,
    check_filter,
    check_limit,
    check_lineage,
    check_names,
    check_place,
    check_view,
    is_closed_so,
    keep_answer,
    kept_answer,
    matches,
    outcome,
    owned,
    place_of,
    tagged_page,
)
from actors.persistence.words import check_query, check_stream, owned_name
from storage.errors import (
    AlreadyHandled,
    ConditionFailed,
    DuplicateMessageId,
    StoreError,
    StoreUnavailable,
    TimerGone,
)
from storage.memory.database import MemoryDatabase
from storage.memory.faults import HeldCommit
from storage.memory.idempotency import answer_of, claim, remember
from storage.memory.projections import apply_inline
from storage.memory.twin import Twin


class MemoryEventStore(Twin):
    """The port `EventStore` on a `MemoryDatabase`."""

    def __init__(
        self,
        database: MemoryDatabase | None = None,
        *,
        inline: Sequence[Projection] = (),
        event_types: EventTypes = EVENTS,
        keyring: Keyring | None = None,
    ) -> None:
        super().__init__(database)
        self._keyring = keyring
        self._inline = InlineProjections(inline)
        self._event_types = event_types
        self._busy: dict[str, trio.Event] = {}
        self._tenant: str | None = None

    # For tests.

    def hold_next_commit(self) -> HeldCommit:
        """Call this to hold back the commit of the next append until it is released.

        Of the next on the database, by whichever store or view of it.
        """
        self.database.next_held = held = HeldCommit()
        return held

    def event_count(self) -> int:
        """Call this for the number of stored events."""
        return len(self.database.events)

    def current_version(self, stream_id: str) -> Version:
        """Call this for the last version of a stream."""
        return self.database.end_of(self._key(stream_id))[0]

    def stream_exists(self, stream_id: str) -> bool:
        """Call this to ask whether a stream has an event."""
        return self._key(stream_id) in self.database.streams

    # The port.

    @property
    def tenant(self) -> str | None:
        """See `EventStore.tenant`."""
        return self._tenant

    def for_tenant(self, tenant: str) -> Self:
        """See `EventStore.for_tenant`."""
        check_view(self._tenant, tenant)
        view = copy(self)
        view._tenant = tenant
        return view

    def _key(self, stream_id: str) -> str:
        return owned_name(self._tenant, stream_id)

    def _seen(self, events: Iterable[StoredEvent]) -> Iterable[StoredEvent]:
        """Of the order: all, for the store of no tenant; a view has its own."""
        if self._tenant is None:
            return events
        return (event for event in events if event.tenant == self._tenant)

    # Word by word as in the port and in the twin: one line of body is no reason for a base class.
    async def append(
        self,
        stream_id: StreamId,
        events: Sequence[NewEvent],
        *,
        expected: ExpectedVersion = ANY,
        shard: Shard | None = None,
        outbox: Sequence[OutboxMessage] = (),
        timers: Sequence[TimerChange] = (),
        idempotency: Idempotent | None = None,
        condition: Condition | None = None,
    ) -> Appended:
        """See `EventStore.append`."""
        return await self.append_request(
            AppendRequest(
                stream_id,
                events,
                expected,
                shard,
                outbox,
                timers,
                idempotency,
                condition=condition,
            )
        )

    async def append_request(self, request: AppendRequest) -> Appended:
        """See `EventStore.append_request`."""
        request = await seal_request(self._keyring, owned(request, self._tenant))
        await self.pass_faults()
        # Behind a commit that a test holds back, as the real one waits for a key that another
        # transaction has written and not committed. Below this loop is no checkpoint, apart
        # from such a hold: judged and stored is one step.
        await self._wait_for_held(_places([request]))
        earlier = self._judge(request)
        if earlier is not None:
            return earlier
        database = self.database
        txid = database.begin()
        actual = self.current_version(request.stream_id)
        placed = database.place(txid, request.key, actual + 1, request.events)
        if database.next_held is not None and not await self._hold(
            database.next_held, txid, request
        ):
            raise StoreUnavailable("a test rolled the append back")
        documents = apply_inline(self._inline, database, txid, placed)
        numbers = database.add_outbox(txid, request.outbox)
        for change in request.timers:
            database.change_timer(change)
        if request.inbox is not None:
            database.inbox[request.inbox] = database.now()
        last = placed[-1]
        appended = Appended(last.version, placed[0].version, last.cursor, outbox=numbers)
        if request.idempotency is not None:
            held = claim(database, request.idempotency)
            remember(database, held, keep_answer(request.key, appended))
        database.write_documents(documents)
        database.commit(txid, placed)
        return appended

    async def append_batch(
        self, requests: Sequence[AppendRequest], *, atomic: bool = False
    ) -> list[Appended | StoreError]:
        """See `EventStore.append_batch`."""
        check_batch(requests)
        self._inline.check_batch(requests)
        requests = [owned(request, self._tenant) for request in requests]
        requests = await seal_requests(self._keyring, requests)
        await self.pass_faults()
        await self._wait_for_held(_places(requests))
        database = self.database
        txid = database.begin()
        # What this transaction sees: the stored events and its own. Versions are given as if the
        # earlier requests were stored, which all of them are at the end, or none.
        heads: dict[str, int] = {}
        new_by_id: dict[UUID, StoredEvent] = {}
        by_id = ChainMap(new_by_id, database.by_id)
        placed: list[StoredEvent] = []
        results: list[Appended | StoreError] = []
        for request in requests:
            actual = heads.get(request.stream_id, self.current_version(request.stream_id))
            try:
                _, last_type = database.end_of(request.key)
                result = outcome(request, by_id, actual, last_type)
                if result is None:
                    new = database.place(txid, request.key, actual + 1, request.events)
                    placed += new
                    new_by_id.update((event.event_id, event) for event in new)
                    heads[request.stream_id] = new[-1].version
                    result = Appended(new[-1].version, new[0].version, new[-1].cursor)
                results.append(result)
            except StoreError as error:
                if atomic:
                    database.roll_back(txid)
                    raise
                results.append(error)
        database.commit(txid, placed)
        return results

    async def load(
        self, stream_id: StreamId, *, from_version: Version = 1, to_version: Version | None = None
    ) -> AsyncIterator[StoredEvent]:
        """See `EventStore.load`."""
        first, last = check_bounds(stream_id, from_version, to_version)
        await self.pass_faults()
        found = self.database.streams.get(self._key(stream_id), [])[first - 1 : last]
        for event in await open_events(self._keyring, found):
            yield event

    async def load_backwards(
        self,
        stream_id: StreamId,
        *,
        from_version: Version | None = None,
        to_version: Version = 1,
        limit: int | None = None,
    ) -> AsyncIterator[StoredEvent]:
        """See `EventStore.load_backwards`."""
        first, last, count = check_backwards(stream_id, from_version, to_version, limit)
        await self.pass_faults()
        found = self.database.streams.get(self._key(stream_id), [])[last - 1 : first]
        for event in await open_events(self._keyring, found[::-1][:count]):
            yield event

    async def read_all(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        limit: int = PAGE_LIMIT,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Page:
        """See `EventStore.read_all`."""
        begin, lineage = check_place(after)
        check_limit(limit)
        types = self._event_types.widened(check_filter("types", types))
        categories = check_filter("categories", categories)
        await self.pass_faults()
        check_lineage(lineage, self.database.lineage)
        page = self._page(begin, limit, types, categories)
        return replace(page, events=await open_events(self._keyring, page.events))

    def _page(
        self,
        begin: Cursor,
        limit: int,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Page:
        end = self._horizon()
        last = self._first(range(end - 1, -1, -1), 1, None, None)
        head = max(begin, last[0].cursor) if last else begin
        later = range(bisect_right(self.database.events, begin, hi=end, key=_place), end)
        wanted = self._first(later, limit + 1, types, categories)
        page = wanted[:limit]
        at = page[-1].cursor if len(wanted) > limit else head
        return Page(page, at, head, self.database.lineage)

    def _horizon(self) -> int:
        """How many events can be read: those below the lowest transaction that may still write."""
        return bisect_left(self.database.events, Cursor(self.database.horizon, 0), key=_place)

    def _first(
        self,
        places: Iterable[int],
        count: int,
        types: Sequence[str] | None,
        categories: Sequence[str] | None,
    ) -> list[StoredEvent]:
        events = self._seen(self.database.events[at] for at in places)
        return list(islice(_matching(events, types, categories), count))

    async def read_backwards(
        self,
        *,
        before: Cursor | Bookmark | None = None,
        limit: int = PAGE_LIMIT,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> BackwardPage:
        """See `EventStore.read_backwards`."""
        begin, lineage = check_before(before)
        check_limit(limit)
        types = self._event_types.widened(check_filter("types", types))
        categories = check_filter("categories", categories)
        await self.pass_faults()
        check_lineage(lineage, self.database.lineage)
        earlier = bisect_left(self.database.events, begin, hi=self._horizon(), key=_place)
        wanted = self._first(range(earlier - 1, -1, -1), limit + 1, types, categories)
        page = await open_events(self._keyring, wanted[:limit])
        at = page[-1].cursor if len(wanted) > limit else START
        return BackwardPage(page, at, self.database.lineage)

    async def read_tagged(
        self, query: Query, *, after: Cursor | Bookmark | None = None, limit: int = PAGE_LIMIT
    ) -> Page:
        """See `EventStore.read_tagged`."""
        tags, (begin, lineage) = check_query(query), check_place(after)
        check_limit(limit)
        await self.pass_faults()
        await self._wait_for_held([f"#{self._key(tag)}" for tag in tags])
        found = list(islice(self._tagged(self._event_types.widened_query(query), begin), limit + 1))
        current = self.database.lineage
        check_lineage(lineage, current)
        return tagged_page(await open_events(self._keyring, found), begin, limit, current)

    async def count(
        self,
        *,
        stream_id: StreamId | None = None,
        category: str | None = None,
        types: Sequence[str] | None = None,
        up_to: int = COUNT_MAX,
    ) -> Counted:
        """See `EventStore.count`."""
        types = self._event_types.widened(check_count(stream_id, category, types, up_to))
        await self.pass_faults()
        if stream_id is not None:
            events: Iterable[StoredEvent] = self.database.streams.get(self._key(stream_id), [])
        elif category is not None:
            # By the beginning of names, which are a tenant's own, or those of none.
            events = (one for one in self.database.events if one.tenant == self._tenant)
        else:
            events = self._seen(self.database.events)
        found = _matching(events, types, None if category is None else [category])
        number = sum(1 for _ in islice(found, up_to + 1))
        return Counted(min(number, up_to), number <= up_to)

    async def follow(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """See `EventStore.follow`."""
        at, lineage = check_place(after)
        while True:
            changed = self.database.changed
            place = place_of(at, lineage)
            page = await self.read_all(after=place, types=types, categories=categories)
            lineage = page.lineage
            if page.next > at:
                at = page.next
                yield page
            else:
                await changed.wait()

    async def lag(self, after: Cursor | None) -> Lag:
        """See `EventStore.lag`."""
        begin = check_cursor(after)
        await self.pass_faults()
        page = self._page(begin, len(self.database.events) + 1)
        if not page.events:
            return Lag(0, 0.0)
        age = self.database.now() - page.events[0].recorded_at
        return Lag(len(page.events), max(0.0, age.total_seconds()))

    async def list_streams(
        self,
        *,
        category: str | None = None,
        prefix: str | None = None,
        after: str | None = None,
        limit: int = 100,
        include_archived: bool = False,
    ) -> list[StreamInfo]:
        """See `EventStore.list_streams`."""
        check_names(category, prefix, after)
        check_limit(limit)
        await self.pass_faults()
        own = (
            events[-1]
            for events in self.database.streams.values()
            if events[-1].tenant == self._tenant
        )
        found = [
            StreamInfo(name, last.version, last.recorded_at, last.type == ARCHIVED)
            for name, last in sorted(
                ((last.stream_id, last) for last in own), key=lambda one: one[0].encode()
            )
            if (category is None or name.partition("-")[0] == category)
            and (prefix is None or name.startswith(prefix))
            and (after is None or name.encode() > after.encode())
            and (include_archived or last.type != ARCHIVED)
        ]
        return found[:limit]

    async def head(self, stream_id: StreamId) -> Version:
        """See `EventStore.head`."""
        check_stream(stream_id)
        await self.pass_faults()
        return self.current_version(stream_id)

    async def lineage(self) -> str:
        """See `EventStore.lineage`."""
        await self.pass_faults()
        return self.database.lineage

    async def archive(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = EXISTS,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """See `EventStore.archive`."""
        return await self._close(stream_id, ARCHIVED, expected, metadata)

    async def reopen(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = EXISTS,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """See `EventStore.reopen`."""
        return await self._close(stream_id, REOPENED, expected, metadata)

    async def tombstone(
        self,
        stream_id: StreamId,
        *,
        expected: ExpectedVersion = ANY,
        metadata: Mapping[str, str] | None = None,
    ) -> Appended:
        """See `EventStore.tombstone`."""
        return await self._close(stream_id, TOMBSTONED, expected, metadata)

    async def _close(
        self,
        stream_id: StreamId,
        kind: str,
        expected: ExpectedVersion,
        metadata: Mapping[str, str] | None,
    ) -> Appended:
        metadata = check_closing(stream_id, expected, metadata)
        await self.pass_faults()
        key = self._key(stream_id)
        await self._wait_for_held([key])
        database = self.database
        last = database.last(key)
        version, last_type = database.end_of(key)
        if is_closed_so(stream_id, kind, expected, version, last_type):
            assert last is not None, "an empty stream is not closed"
            return Appended(version, version, last.cursor, replayed=True)
        txid = database.begin()
        closed = database.close(txid, key, version + 1, kind, metadata)
        database.commit(txid, [closed])
        if kind == TOMBSTONED:
            database.remove(closed)
        return Appended(closed.version, closed.version, closed.cursor)

    # An append's checks, in the order of its transaction.

    def _judge(self, request: AppendRequest) -> Appended | None:
        """The earlier result of a repeat; raises what keeps the request from being stored."""
        database = self.database
        if request.shard is not None:
            database.check_shard(request.shard)
        if request.inbox is not None and request.inbox in database.inbox:
            raise AlreadyHandled(request.inbox[0], str(request.inbox[1]))
        if request.idempotency is not None:
            answer = answer_of(database, request.idempotency)
            if answer is not None:
                kept = kept_answer(request.idempotency, answer)
                stored = database.streams.get(kept.stream_id)
                # The start when its stream is gone.
                cursor = stored[kept.version - 1].cursor if stored else START
                return Appended(kept.version, kept.first_version, cursor, replayed=True)
        earlier = outcome(request, database.by_id, *database.end_of(request.key))
        if earlier is not None:
            return earlier
        if request.condition is not None:
            query = self._event_types.widened_query(request.condition.query)
            check_lineage(request.condition.lineage, database.lineage)
            behind = self._tagged(query, request.condition.cursor)
            if (first := next(behind, None)) is not None:
                raise ConditionFailed(request.stream_id, first.cursor)
        if any(message.message_id in database.message_ids for message in request.outbox):
            raise DuplicateMessageId(request.stream_id)
        for change in request.timers:
            if isinstance(change, CloseTimer):
                row = database.timers.get(change.timer_id)
                if row is None or not row.is_open:
                    raise TimerGone(str(change.timer_id))
        return None

    async def _wait_for_held(self, places: Collection[str]) -> None:
        while busy := [self._busy[place] for place in places if place in self._busy]:
            await busy[0].wait()

    def _tagged(self, query: Query, after: Cursor) -> Iterator[StoredEvent]:
        for event in self.database.events:
            is_ours = event.tenant == self._tenant and event.cursor > after
            if is_ours and matches(query, event):
                yield event

    async def _hold(self, held: HeldCommit, txid: int, request: AppendRequest) -> bool:
        self.database.next_held = None
        self.database.held.add(held)
        done, places = trio.Event(), _places([request])
        self._busy.update(dict.fromkeys(places, done))
        is_kept = False
        try:
            is_kept = await held.wait()
        finally:
            self.database.held.discard(held)
            for place in places:
                del self._busy[place]
            done.set()
            if not is_kept:
                self.database.roll_back(txid)
        return is_kept


def _places(requests: Sequence[AppendRequest]) -> set[str]:
    """What appends hold until they are over: their streams, and tags, which no stream is named."""
    return {str(one.key) for one in requests} | {
        f"#{owned_name(one.tenant, tag)}" for one in requests for tag in one.tags
    }


def _place(event: StoredEvent) -> Cursor:
    return event.cursor


def _matching(
    events: Iterable[StoredEvent], types: Sequence[str] | None, categories: Sequence[str] | None
) -> Iterator[StoredEvent]:
    for event in events:
        if (types is None or event.type in types) and (
            categories is None or event.stream_id.partition("-")[0] in categories
        ):
            yield event
