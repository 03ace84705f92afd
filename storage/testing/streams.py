"""What every `EventStore` must do with whole streams, as tests.

First reading backwards and counting, with a fixture `store`, empty: the newest first, and how
many. Then what closing a stream means for everybody, with a fixture `kept`, empty.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import cast

import pytest
import trio

from actors.persistence import (
    ANY,
    ARCHIVED,
    COUNT_MAX,
    EXISTS,
    REOPENED,
    START,
    TOMBSTONED,
    Appended,
    AppendRequest,
    Bookmark,
    ConcurrencyConflict,
    Condition,
    ConditionFailed,
    Counted,
    Cursor,
    CursorOutdated,
    EventStore,
    ExpectedVersion,
    Idempotent,
    InvalidField,
    NewEvent,
    ProjectionRunner,
    ReplayParked,
    Snapshot,
    StoredEvent,
    StoreError,
    StoreMisuse,
    StreamArchived,
    StreamGone,
    StreamId,
    Tagged,
    live_collection,
    wait_until,
)
from actors.runtime import open_actors
from storage.testing.event_store import following, read_to_end, versions
from storage.testing.kept import Kept
from storage.testing.projections.filling import Totals, Totals2, paid
from storage.testing.samples import PATIENCE_S, message, new_event, new_events

A, B = StreamId("order-a"), StreamId("order-b")
USER = StreamId("user-b")


async def _versions(events: AsyncIterator[StoredEvent]) -> list[int]:
    return [event.version async for event in events]


async def _read_back(
    store: EventStore,
    limit: int,
    before: Cursor | None = None,
    types: list[str] | None = None,
    categories: list[str] | None = None,
) -> list[StoredEvent]:
    """The log from its end, or a cursor, to its begin, in pages."""
    page = await store.read_backwards(
        before=before, limit=limit, types=types, categories=categories
    )
    seen = list(page.events)
    while not page.is_last:
        page = await store.read_backwards(
            before=page.next, limit=limit, types=types, categories=categories
        )
        assert len(page.events) <= limit
        seen += page.events
    return seen


class BackwardsSuite:
    """The conformance suite of `EventStore`: the newest first, and how many there are."""

    async def test_a_stream_is_read_from_its_end(self, store: EventStore) -> None:
        # STORE-27: the last n, both bounds included, over the borders of pages
        assert await _versions(store.load_backwards(A)) == []
        for _ in range(2):
            await store.append(A, new_events(600))
        await store.append(B, new_events(3))
        assert await _versions(store.load_backwards(A)) == list(range(1200, 0, -1))
        assert await _versions(store.load_backwards(A, limit=2)) == [1200, 1199]
        assert await _versions(store.load_backwards(A, limit=501)) == list(range(1200, 699, -1))
        back = [event async for event in store.load_backwards(B)]
        assert back[::-1] == [event async for event in store.load(B)]
        for first, last, limit, found in (
            (3, 2, None, [3, 2]),
            (2, 1, 1, [2]),
            (9, 3, None, [3]),
            (2**70, 1, 2**70, [3, 2, 1]),
            (None, 2, None, [3, 2]),
            (None, 2**70, None, []),
            (1, 2, None, []),
            (0, 1, None, []),
            (-1, 1, None, []),
        ):
            events = store.load_backwards(B, from_version=first, to_version=last, limit=limit)
            assert await _versions(events) == found, (first, last, limit)

    async def test_the_order_is_read_from_its_end(self, store: EventStore) -> None:
        # STORE-27
        page = await store.read_backwards()
        assert (list(page.events), page.next, page.is_last) == ([], START, True)
        for _ in range(4):
            await store.append(A, new_events(2))
            await store.append(USER, new_events(1))
        forward = [event for page in await read_to_end(store) for event in page.events]
        for limit in (1, 5, 12, 500):
            assert await _read_back(store, limit) == forward[::-1]
        last = await store.read_backwards(limit=3)
        assert list(last.events) == forward[:-4:-1]
        for at in (0, 4, 11):
            assert await _read_back(store, 5, forward[at].cursor) == forward[:at][::-1]

    async def test_a_filter_reads_backwards_past_others(self, store: EventStore) -> None:
        # STORE-27
        for _ in range(3):
            await store.append(A, new_events(2, type="Made"))
            await store.append(USER, new_events(2, type="Seen"))
        forward = [event for page in await read_to_end(store) for event in page.events]
        made = [event for event in forward if event.type == "Made"]
        for limit in (1, 2, 6, 500):
            assert await _read_back(store, limit, types=["Made"]) == made[::-1]
            assert await _read_back(store, limit, categories=["order"]) == made[::-1]
        assert await _read_back(store, 2, types=["Made"], categories=["user"]) == []
        assert await _read_back(store, 2, types=[]) == []

    async def test_what_is_appended_meanwhile_is_not_met_on_the_way_back(
        self, store: EventStore
    ) -> None:
        # STORE-27: each older event once
        await store.append(A, new_events(5))
        page = await store.read_backwards(limit=2)
        await store.append(A, new_events(5))
        rest = await _read_back(store, 2, page.next)
        assert [event.version for event in [*page.events, *rest]] == [5, 4, 3, 2, 1]
        # Kept outside, and the store was given another order since.
        kept = await store.read_backwards(before=page.bookmark)
        assert list(kept.events) == rest[: len(kept.events)]
        with pytest.raises(CursorOutdated):
            await store.read_backwards(before=Bookmark("another-lineage", page.next))

    async def test_events_are_counted(self, store: EventStore) -> None:
        # STORE-27
        assert await store.count() == Counted(0, is_whole=True)
        await store.append(A, new_events(3, type="Made"))
        await store.append(B, new_events(4, type="Seen"))
        await store.append(StreamId("orders-1"), new_events(2, type="Made"))
        await store.append(StreamId("order-a1"), new_events(1, type="Made"))
        for wanted, found in (
            ({}, 10),
            ({"stream_id": A}, 3),
            ({"stream_id": USER}, 0),
            ({"category": "order"}, 8),
            ({"category": "ord"}, 0),
            ({"types": ["Made"]}, 6),
            ({"types": ["Made", "Seen", "Made", "Odd"]}, 10),
            ({"types": []}, 0),
            ({"types": ["Made"], "category": "order"}, 4),
            ({"types": ["Made"], "stream_id": B}, 0),
            ({"types": ["Seen"], "stream_id": B}, 4),
        ):
            count = partial(store.count, **wanted)
            assert await count() == Counted(found, is_whole=True), wanted
            if found:
                assert await count(up_to=found) == Counted(found, is_whole=True)
            if found > 1:
                assert await count(up_to=found - 1) == Counted(found - 1, is_whole=False)

    async def test_backwards_too_nonsense_is_refused_before_any_input_or_output(
        self, store: EventStore
    ) -> None:
        # STORE-27
        await store.append(A, new_events(2))
        bad_name = cast("StreamId", "order-\x00")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: anext(aiter(store.load_backwards(bad_name))),
            lambda: anext(aiter(store.load_backwards(A, to_version=0))),
            lambda: anext(aiter(store.load_backwards(A, limit=0))),
            lambda: anext(aiter(store.load_backwards(A, from_version=cast("int", "1")))),
            lambda: store.read_backwards(limit=0),
            lambda: store.read_backwards(before=Cursor(-1, 0)),
            lambda: store.read_backwards(types="Made"),
            lambda: store.read_backwards(categories=["\ud800"]),
            lambda: store.count(up_to=0),
            lambda: store.count(up_to=COUNT_MAX + 1),
            lambda: store.count(stream_id=bad_name),
            lambda: store.count(stream_id=A, category="order"),
            lambda: store.count(category="\x00"),
            lambda: store.count(types="Made"),
        ]
        for number, call in enumerate(calls):
            with pytest.raises(StoreMisuse):
                raise AssertionError(number, await call())

    async def test_reading_backwards_can_be_given_up(self, store: EventStore) -> None:
        # STORE-27: half-way, and what was read stays right
        await store.append(A, new_events(1000))
        events = cast("AsyncGenerator[StoredEvent, None]", store.load_backwards(A))
        with trio.CancelScope() as scope:
            async with aclosing(events):
                async for event in events:
                    if event.version == 400:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert await _versions(store.load_backwards(A, limit=1)) == [1000]


TILL_A, TILL_B, TILL_C = StreamId("till-a"), StreamId("till-b"), StreamId("till-c")
EXPECTATIONS: tuple[ExpectedVersion, ...] = (ANY, EXISTS, 0, 2, 3, 4)


async def _types(store: EventStore, stream_id: StreamId) -> list[str]:
    return [event.type async for event in store.load(stream_id)]


async def _log(store: EventStore) -> list[StoredEvent]:
    found, at = list[StoredEvent](), START
    while True:
        page = await store.read_all(after=at, limit=2)
        found, at = [*found, *page.events], page.next
        if page.is_last:
            return found


async def _refuses(store: EventStore, stream_id: StreamId, error: type[StoreError]) -> None:
    """Every road of an append, whatever is expected."""
    before = await store.head(stream_id)
    for expected in EXPECTATIONS:
        for events in (new_events(1), new_events(3)):
            with pytest.raises(error):
                await store.append(stream_id, events, expected=expected)
            with pytest.raises(error):
                await store.append(stream_id, events, expected=expected, outbox=[message()])
            tagged = [*events, new_event(tags=("road-1",))]
            with pytest.raises(error):
                await store.append(stream_id, tagged, expected=expected)
            request = AppendRequest(stream_id, events, expected)
            other = AppendRequest(StreamId("other-1"), new_events(1))
            results = await store.append_batch([other, request, other])
            assert [type(result) for result in results] == [Appended, error, Appended]
            with pytest.raises(error):
                await store.append_batch([request], atomic=True)
    key = Idempotent("s", "k", b"h")
    with pytest.raises(error):
        await store.append(stream_id, new_events(1), idempotency=key)
    assert await store.head(stream_id) == before


class _Writers:
    """Who append to a stream, each in its way, until it takes nothing more."""

    def __init__(self, store: EventStore, stream_id: StreamId) -> None:
        self.store, self.stream_id = store, stream_id
        self.ended: list[StoreError] = []
        self.begun = trio.Event()

    async def write(self, append: Callable[[Sequence[NewEvent]], Awaitable[object]]) -> None:
        try:
            for number in range(1000):
                await append(new_events(1 + number % 2))
                if number == 2:
                    self.begun.set()
        except StoreError as error:
            self.ended.append(error)

    async def any(self, events: Sequence[NewEvent]) -> None:
        await self.store.append(self.stream_id, events)

    async def exactly(self, events: Sequence[NewEvent]) -> None:
        while True:
            head = await self.store.head(self.stream_id)
            try:
                await self.store.append(self.stream_id, events, expected=head)
            except ConcurrencyConflict:
                continue
            return

    async def batched(self, events: Sequence[NewEvent]) -> None:
        await self.store.append_batch([AppendRequest(self.stream_id, events)], atomic=True)

    async def outgoing(self, events: Sequence[NewEvent]) -> None:
        await self.store.append(self.stream_id, events, outbox=[message()])


class ClosedStreamsSuite:
    """The conformance suite of `EventStore`: archived, reopened and tombstoned streams."""

    async def test_an_archived_stream_takes_no_event_and_gives_all(self, kept: Kept) -> None:
        # STORE-28
        store, stored = kept.events, new_events(2)
        first = await store.append(TILL_A, stored)
        closed = await store.archive(TILL_A, metadata={"by": "ada"})
        assert (closed.first_version, closed.version, closed.replayed) == (3, 3, False)
        await _refuses(store, TILL_A, StreamArchived)
        with pytest.raises(StreamArchived, match="Reopen") as caught:
            await store.append(TILL_A, new_events(1), expected=3)
        assert (caught.value.stream_id, caught.value.version) == (TILL_A, 3)
        assert await _types(store, TILL_A) == ["Counted", "Counted", ARCHIVED]
        log = [event for event in await _log(store) if event.stream_id == TILL_A]
        assert log == [event async for event in store.load(TILL_A)]
        assert (log[-1].metadata, log[-1].cursor) == ({"by": "ada"}, closed.cursor)
        assert [event.is_system for event in log] == [False, False, True]
        # What was stored before comes back as it was, here as there.
        again = Appended(2, 1, first.cursor, replayed=True)
        assert await store.append(TILL_A, stored, expected=0) == again
        assert await store.append_batch([AppendRequest(TILL_A, stored)]) == [again]

    async def test_archiving_again_changes_nothing(self, kept: Kept) -> None:
        # STORE-28: and reopening, so that a lost answer may be asked for again
        store = kept.events
        await store.append(TILL_A, new_events(2))
        open_ = await store.reopen(TILL_A)
        assert (open_.version, open_.replayed) == (2, True)
        closed = await store.archive(TILL_A, expected=2)
        for expected in (ANY, EXISTS, 2, 99):
            again = await store.archive(TILL_A, expected=expected)
            assert again == Appended(3, 3, closed.cursor, replayed=True)
        reopened = await store.reopen(TILL_A, expected=3)
        assert (reopened.version, reopened.replayed) == (4, False)
        assert await store.reopen(TILL_A) == Appended(4, 4, reopened.cursor, replayed=True)
        # Who knew the stream before it was archived has something to read first.
        with pytest.raises(ConcurrencyConflict):
            await store.append(TILL_A, new_events(1), expected=3)
        assert (await store.append(TILL_A, new_events(1), expected=4)).version == 5
        assert (await store.append(TILL_A, new_events(2))).version == 7
        assert (await store.reopen(TILL_A)).version == 7
        assert (await store.archive(TILL_A)).version == 8
        kinds = [kind for kind in await _types(store, TILL_A) if kind != "Counted"]
        assert kinds == [ARCHIVED, REOPENED, ARCHIVED]
        await read_to_end(store)

    async def test_closing_expects_a_version_too(self, kept: Kept) -> None:
        # STORE-28, STORE-29
        store = kept.events
        for close in (store.archive, store.reopen):
            with pytest.raises(ConcurrencyConflict) as caught:
                await close(TILL_A)
            assert (caught.value.expected, caught.value.actual) == ("exists", 0)
        await store.append(TILL_A, new_events(2))
        for close in (store.archive, store.tombstone):
            with pytest.raises(ConcurrencyConflict) as caught:
                await close(TILL_A, expected=1)
            assert (caught.value.expected, caught.value.actual) == (1, 2)
        assert await versions(store, TILL_A) == [1, 2]
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.archive(StreamId("a-b"), expected=-1),
            lambda: store.reopen("nonsense"),  # type: ignore[arg-type]
            lambda: store.tombstone(TILL_A, metadata={"a": 1}),  # type: ignore[dict-item]
        ]
        for number, call in enumerate(calls):
            with pytest.raises(StoreMisuse):
                raise AssertionError(number, await call())

    async def test_no_program_makes_an_event_of_the_stores_own(self, kept: Kept) -> None:
        # STORE-28: it would close the stream
        for kind in (ARCHIVED, "$", "$mine"):
            with pytest.raises(InvalidField, match="type"):
                new_event(type=kind)
        await kept.events.append(TILL_A, [new_event(type="US$")])

    async def test_lists_leave_closed_streams_out(self, kept: Kept) -> None:
        # STORE-28, STORE-29
        store = kept.events
        for stream_id in (TILL_A, TILL_B, TILL_C, StreamId("till-d")):
            await store.append(stream_id, new_events(1))
        await store.archive(TILL_A)
        await store.archive(TILL_C)
        await store.tombstone(TILL_B)
        names = [info.stream_id for info in await store.list_streams(limit=1)]
        assert names == ["till-d"]
        listed = await store.list_streams(category="till", include_archived=True)
        found = [(info.stream_id, info.version, info.is_archived) for info in listed]
        assert found == [("till-a", 2, True), ("till-c", 2, True), ("till-d", 1, False)]
        await store.reopen(TILL_A)
        assert [i.stream_id for i in await store.list_streams(prefix="till-a")] == [TILL_A]

    async def test_a_tombstoned_stream_is_gone_for_everybody(self, kept: Kept) -> None:
        # STORE-29: at once, and no otherwise when its rows are removed
        store, stored = kept.events, new_events(2)
        await store.append(TILL_B, new_events(1))
        await store.append(TILL_A, stored, expected=0)
        await store.archive(TILL_A)
        await store.append(TILL_B, new_events(1))
        await kept.snapshots.save(Snapshot(TILL_A, 2, "t", b"{}"))
        gone = await store.tombstone(TILL_A, metadata={"why": "asked"})
        last = await store.append(TILL_B, new_events(1))
        assert (gone.version, gone.replayed) == (4, False)
        for _ in range(2):
            await _refuses(store, TILL_A, StreamGone)
            for expected in (ANY, 0, 2, 4):
                with pytest.raises(StreamGone):
                    await store.append(TILL_A, stored, expected=expected)
                again = await store.tombstone(TILL_A, expected=expected)
                assert again == Appended(4, 4, gone.cursor, replayed=True)
            for close in (store.archive, store.reopen):
                with pytest.raises(StreamGone):
                    await close(TILL_A)
            assert await store.head(TILL_A) == 4
            assert await _types(store, TILL_A) == []
            assert [event async for event in store.load_backwards(TILL_A)] == []
            assert await kept.snapshots.latest(TILL_A) is None
            await kept.snapshots.save(Snapshot(TILL_A, 2, "t", b"{}"))
            assert await kept.snapshots.latest(TILL_A) is None
            await self._log_has_nothing_else(store, gone.cursor, last.cursor)
            await kept.remove_tombstoned()

    @staticmethod
    async def _log_has_nothing_else(store: EventStore, gone: Cursor, last: Cursor) -> None:
        log = [one for one in await _log(store) if one.stream_id.startswith("till-")]
        assert [(one.stream_id, one.version) for one in log] == [
            (TILL_B, 1),
            (TILL_B, 2),
            (TILL_A, 4),
            (TILL_B, 3),
        ]
        assert (log[2].type, log[2].cursor, log[2].metadata) == (
            TOMBSTONED,
            gone,
            {"why": "asked"},
        )
        assert log[3].cursor == last
        back = await store.read_backwards(categories=["till"])
        assert list(back.events) == log[::-1]
        filtered = await store.read_all(categories=["till"], types=["Counted", ARCHIVED])
        assert list(filtered.events) == [log[0], log[1], log[3]]
        assert await store.count(stream_id=TILL_A) == Counted(0, is_whole=True)
        assert await store.count(category="till") == Counted(4, is_whole=True)
        assert await store.count(types=[ARCHIVED]) == Counted(0, is_whole=True)
        assert await store.count(types=[TOMBSTONED], category="till") == Counted(1, is_whole=True)

    async def test_a_name_that_never_was_can_be_closed_for_ever(self, kept: Kept) -> None:
        # STORE-29
        assert (await kept.events.tombstone(TILL_A)).version == 1
        await kept.remove_tombstoned()
        await _refuses(kept.events, TILL_A, StreamGone)

    async def test_readers_pass_by_what_is_hidden(self, kept: Kept) -> None:
        # STORE-29, STORE-21: a follower misses nothing of others, and keeps its cursor
        store = kept.events
        await store.append(TILL_B, new_events(1))
        for _ in range(3):
            await store.append(TILL_A, new_events(400))
        middle = (await store.read_all(limit=300)).next
        last = await store.append(TILL_B, new_events(2))
        gone = await store.tombstone(TILL_A)
        for after, found in (
            (None, [1, 2, 3, 1201]),
            (middle, [2, 3, 1201]),
            (last.cursor, [1201]),
        ):
            seen = list[StoredEvent]()
            with trio.fail_after(PATIENCE_S):
                async with following(store, after=after) as pages:
                    async for page in pages:
                        seen += page.events
                        if page.next == gone.cursor:
                            break
            assert [event.version for event in seen] == found
        assert len(await _log(store)) == 4
        assert (await store.lag(last.cursor)).events == 1

    @pytest.mark.parametrize("kind", [ARCHIVED, TOMBSTONED])
    async def test_after_the_answer_nothing_lands(self, kept: Kept, kind: str) -> None:
        # STORE-28, STORE-29: however many append meanwhile, by whatever road
        store = kept.events
        close = store.archive if kind == ARCHIVED else store.tombstone
        error = StreamArchived if kind == ARCHIVED else StreamGone
        for round_ in range(2):
            stream_id = StreamId(f"till-{round_}")
            await store.append(stream_id, new_events(1))
            writers = _Writers(store, stream_id)
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    for append in (writers.any, writers.exactly, writers.batched, writers.outgoing):
                        nursery.start_soon(writers.write, append)
                        nursery.start_soon(writers.write, append)
                    await writers.begun.wait()
                    closed = await close(stream_id)
            assert [type(refused) for refused in writers.ended] == [error] * 8
            assert await store.head(stream_id) == closed.version
            mine = [one for one in await _log(store) if one.stream_id == stream_id]
            assert (mine[-1].type, mine[-1].cursor) == (kind, closed.cursor)
            if kind == ARCHIVED:
                assert [one.version for one in mine] == list(range(1, closed.version + 1))

    async def test_of_many_who_close_a_stream_one_does(self, kept: Kept) -> None:
        # STORE-28, STORE-29: the others are answered the same
        store = kept.events
        await store.append(TILL_A, new_events(1))
        for close in (store.archive, store.tombstone):
            answers = list[Appended]()

            async def run(
                close: Callable[[StreamId], Awaitable[Appended]] = close,
                answers: list[Appended] = answers,
            ) -> None:
                answers.append(await close(TILL_A))

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(run)
            assert len({answer.cursor for answer in answers}) == 1
            assert sum(not answer.replayed for answer in answers) == 1
        assert await store.head(TILL_A) == 3

    async def test_tags_of_what_is_gone_say_nothing(self, kept: Kept) -> None:
        # STORE-29, STORE-7, STORE-8: neither to a reader nor to a condition
        store, query = kept.events, [Tagged(("seat-1",))]
        await store.append(TILL_A, [new_event(tags=("seat-1", "by-ann"))])
        await store.archive(TILL_A)
        condition = Condition(query)
        with pytest.raises(ConditionFailed):
            await store.append(TILL_B, new_events(1), condition=condition)
        assert [one.stream_id for one in (await store.read_tagged(query)).events] == [TILL_A]
        await store.tombstone(TILL_A)
        for number in range(2):
            assert list((await store.read_tagged(query)).events) == []
            with pytest.raises(StreamGone):
                await store.append(TILL_A, [new_event(tags=("seat-2",))], condition=condition)
            taken = await store.append(TILL_B, new_events(1), expected=number, condition=condition)
            assert taken.version == number + 1
            await kept.remove_tombstoned()

    async def test_a_kept_answer_outlives_the_stream(self, kept: Kept) -> None:
        # STORE-29, STORE-55: its repeat is not carried out elsewhere
        store, key = kept.events, Idempotent("s", "k", b"h")
        done = await store.append(TILL_A, new_events(2), idempotency=key)
        await store.tombstone(TILL_A)
        await kept.remove_tombstoned()
        again = await store.append(TILL_A, new_events(2), idempotency=key)
        assert again == Appended(done.version, done.first_version, START, replayed=True)

    async def test_a_projection_is_built_without_what_is_gone(self, kept: Kept) -> None:
        # STORE-28, STORE-29: archived streams are in it
        store = kept.events
        await store.append(TILL_A, paid(1))
        await store.append(TILL_B, paid(-2, 4))  # parked, with what comes behind it
        await store.append(TILL_C, paid(7))

        def make(projection: Totals) -> Callable[[], ProjectionRunner]:
            return lambda: ProjectionRunner(projection, store, kept.projections)

        totals = Totals()
        async with open_actors() as system:
            runner = await system.start(make(totals))
            archived = await store.archive(TILL_C)
            with trio.fail_after(PATIENCE_S):
                await wait_until(kept.projections, "totals", archived.cursor, timeout_s=PATIENCE_S)
            assert await kept.projections.parked_streams("totals__g1") == {TILL_B}
            await store.tombstone(TILL_A)
            gone = await store.tombstone(TILL_B)
            totals.is_strict = False
            # Nothing is applied of a stream that is gone, and nothing is left to be applied.
            assert await runner.ask(ReplayParked(TILL_B), timeout=PATIENCE_S) in (0, 2)
            assert await kept.projections.parked_streams("totals__g1") == frozenset()
            assert await kept.projections.get("totals__g1", TILL_B) is None
            await system.start(make(Totals2()))
            with trio.fail_after(PATIENCE_S):
                while await live_collection(kept.projections, "totals") != "totals__g2":
                    await kept.projections.changed(0.1)
                await wait_until(kept.projections, "totals", gone.cursor, timeout_s=PATIENCE_S)
        found = await kept.projections.query("totals__g2")
        assert {key: document["sum"] for key, document in found} == {TILL_C: 7}
