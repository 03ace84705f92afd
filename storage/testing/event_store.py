"""What every `EventStore` must do, as tests. Give the subclass a fixture `store`, empty.

Two suites: appending and loading, then the global order and its readers.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import cast
from uuid import UUID

import pytest
import trio

from actors.persistence import (
    ANY,
    APPEND_EVENTS_MAX,
    EXISTS,
    START,
    Appended,
    AppendRequest,
    AppendTooLarge,
    BatchTooLarge,
    Bookmark,
    ConcurrencyConflict,
    Cursor,
    CursorOutdated,
    DuplicateEventId,
    EmptyAppend,
    EventStore,
    NewEvent,
    Page,
    StoredEvent,
    StoreError,
    StoreMisuse,
    StreamId,
)
from storage.testing.samples import PATIENCE_S, new_event, new_events

A, B = StreamId("order-a"), StreamId("order-b")
USER = StreamId("user-b")


async def versions(store: EventStore, stream_id: StreamId) -> list[int]:
    """Call this for the versions of a stream as it is loaded."""
    return [event.version async for event in store.load(stream_id)]


class EventStoreSuite:
    """The conformance suite of `EventStore`: appending and loading."""

    async def test_what_is_appended_is_loaded(self, store: EventStore) -> None:
        # STORE-3, STORE-10
        events = [
            new_event(b'{"n": 1}', type="Made", metadata={"correlation_id": "c-1"}),
            new_event(b"\x00\xff", type="Moved", schema_version=3, codec="raw"),
        ]
        appended = await store.append(A, events, expected=0)
        assert (appended.first_version, appended.version, appended.replayed) == (1, 2, False)
        loaded = [event async for event in store.load(A)]
        assert [_content(event) for event in loaded] == [_content(event) for event in events]
        assert [event.version for event in loaded] == [1, 2]
        assert loaded[-1].cursor == appended.cursor
        assert loaded[0].cursor < loaded[1].cursor
        assert all(event.recorded_at.tzinfo is not None for event in loaded)

    async def test_texts_of_a_class_of_their_own_are_texts(self, store: EventStore) -> None:
        # STORE-3
        await store.append(A, [new_event(metadata={StreamId("key-1"): B})])
        (loaded,) = [event async for event in store.load(A)]
        assert loaded.metadata == {"key-1": "order-b"}

    async def test_versions_go_on_from_append_to_append(self, store: EventStore) -> None:
        # STORE-2
        assert (await store.append(A, new_events(2))).version == 2
        second = await store.append(A, new_events(3), expected=2)
        assert (second.first_version, second.version) == (3, 5)
        assert await versions(store, A) == [1, 2, 3, 4, 5]
        assert await store.head(A) == 5
        assert await store.head(B) == 0

    async def test_another_version_than_expected_is_a_conflict(self, store: EventStore) -> None:
        # STORE-10: lower or higher; STORE-11: with the true version
        await store.append(A, new_events(3))
        for expected, count in ((1, 1), (2, 1), (4, 1), (99, 1), (0, 1), (2, 2), (4, 2), (0, 2)):
            with pytest.raises(ConcurrencyConflict) as caught:
                await store.append(A, new_events(count), expected=expected)
            assert (caught.value.expected, caught.value.actual) == (expected, 3)
        assert await store.head(A) == 3

    async def test_any_and_exists_expect_what_they_say(self, store: EventStore) -> None:
        # STORE-10
        with pytest.raises(ConcurrencyConflict) as caught:
            await store.append(A, new_events(1), expected=EXISTS)
        assert (caught.value.expected, caught.value.actual) == ("exists", 0)
        assert (await store.append(A, new_events(1), expected=ANY)).version == 1
        assert (await store.append(A, new_events(2), expected=EXISTS)).version == 3

    async def test_the_same_append_again_is_replayed(self, store: EventStore) -> None:
        # STORE-12, STORE-18: whatever is expected by then
        events = new_events(2)
        first = await store.append(A, events, expected=0)
        await store.append(A, new_events(1))
        for expected in (0, ANY, EXISTS, 3):
            again = await store.append(A, events, expected=expected)
            assert again == Appended(2, 1, first.cursor, replayed=True)
        assert await store.head(A) == 3

    async def test_an_id_stored_elsewhere_or_otherwise_is_refused(self, store: EventStore) -> None:
        # STORE-12
        event = new_event()
        await store.append(A, [event])
        changed = new_event(b'{"other": 1}', event_id=event.event_id)
        for stream_id, events in (
            (B, [event]),
            (A, [changed]),
            (A, [event, new_event()]),
            (A, [new_event(), event]),
        ):
            with pytest.raises(DuplicateEventId):
                await store.append(stream_id, events)
        twice = new_event()
        with pytest.raises(DuplicateEventId):
            await store.append(A, [twice, twice])
        assert (await store.head(A), await store.head(B)) == (1, 0)

    async def test_nonsense_is_refused_before_any_input_or_output(self, store: EventStore) -> None:
        # STORE-13
        with pytest.raises(EmptyAppend):
            await store.append(A, [])
        with pytest.raises(AppendTooLarge):
            await store.append(A, [new_event()] * (APPEND_EVENTS_MAX + 1))
        with pytest.raises(ValueError, match="expected"):
            await store.append(A, new_events(1), expected=-1)
        with pytest.raises(ValueError, match="from_version"):
            await anext(aiter(store.load(A, from_version=0)))

    async def test_readers_are_refused_nonsense_before_any_input_or_output(
        self, store: EventStore
    ) -> None:
        # STORE-17, STORE-20: alike in every engine
        await store.append(A, new_events(2))
        bad_name = cast("StreamId", "order-\x00")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.head(bad_name),
            lambda: anext(aiter(store.load(bad_name))),
            lambda: anext(aiter(store.load(A, from_version=cast("int", "1")))),
            lambda: store.read_all(limit=-1),
            lambda: store.read_all(limit=2**70),
            lambda: store.read_all(types=["a\x00"]),
            lambda: store.read_all(types="Made"),
            lambda: store.read_all(categories=["\ud800"]),
            lambda: store.lag(Cursor(-1, 0)),
            lambda: store.list_streams(limit=0),
            lambda: store.list_streams(prefix="\x00"),
            lambda: store.list_streams(after="\ud800"),
            lambda: store.list_streams(category="\x00"),
        ]
        for cursor in (Cursor(-1, 0), Cursor(0, -1), Cursor(2**63, 0), Cursor(0, 2**63)):
            calls.append(partial(store.read_all, after=cursor))
            calls.append(partial(_first, store, cursor))
        for number, call in enumerate(calls):
            with pytest.raises(StoreMisuse):
                raise AssertionError(number, await call())

    async def test_bounds_beyond_every_stream_are_no_error(self, store: EventStore) -> None:
        # STORE-17
        await store.append(A, new_events(2))
        for first, last, found in (
            (1, 2**70, [1, 2]),
            (2**62, None, []),
            (2**63, 2**64, []),
            (1, 0, []),
            (1, -1, []),
            (2, 1, []),
        ):
            loaded = store.load(A, from_version=first, to_version=last)
            assert [event.version async for event in loaded] == found

    async def test_loading_keeps_to_its_bounds(self, store: EventStore) -> None:
        # STORE-17
        assert await versions(store, A) == []
        await store.append(A, new_events(7))
        part = [event.version async for event in store.load(A, from_version=3, to_version=5)]
        assert part == [3, 4, 5]
        assert [event.version async for event in store.load(A, from_version=8)] == []
        assert [e.version async for e in store.load(A, from_version=6, to_version=99)] == [6, 7]

    async def test_a_long_stream_is_loaded_whole(self, store: EventStore) -> None:
        # STORE-17: over the borders of pages
        for _ in range(3):
            await store.append(A, new_events(500))
        await store.append(B, new_events(500))
        assert await versions(store, A) == list(range(1, 1501))
        assert await versions(store, B) == list(range(1, 501))

    async def test_of_many_with_one_expectation_one_wins(self, store: EventStore) -> None:
        # STORE-11
        for round_ in range(5):
            results = await race(store, A, expected=round_, writers=20)
            assert sum(isinstance(result, Appended) for result in results) == 1
            assert all(isinstance(r, Appended | ConcurrencyConflict) for r in results)
            actual = {r.actual for r in results if isinstance(r, ConcurrencyConflict)}
            assert actual == {round_ + 1}

    async def test_a_batch_answers_in_order(self, store: EventStore) -> None:
        # STORE-15
        known = new_event()
        await store.append(B, [known])
        requests = [
            AppendRequest(A, new_events(2), 0),
            AppendRequest(A, new_events(1), 0),  # sees the first one
            AppendRequest(A, new_events(1), 2),
            AppendRequest(B, [known]),
            AppendRequest(A, [known]),
            AppendRequest(B, new_events(3), EXISTS),
        ]
        results = await store.append_batch(requests)
        assert [_short(result) for result in results] == [
            (1, 2, False),
            "ConcurrencyConflict",
            (3, 3, False),
            (1, 1, True),
            "DuplicateEventId",
            (2, 4, False),
        ]
        assert await versions(store, A) == [1, 2, 3]
        assert await versions(store, B) == [1, 2, 3, 4]
        first = results[0]
        assert isinstance(first, Appended)
        assert [e.cursor async for e in store.load(A)][1] == first.cursor

    async def test_a_request_twice_in_a_batch_is_stored_once(self, store: EventStore) -> None:
        # STORE-12, STORE-15
        request = AppendRequest(A, new_events(2), 0)
        results = await store.append_batch([AppendRequest(B, new_events(2)), request, request])
        assert [_short(result) for result in results] == [
            (1, 2, False),
            (1, 2, False),
            (1, 2, True),
        ]
        assert isinstance(results[1], Appended)
        assert isinstance(results[2], Appended)
        assert results[1].cursor == results[2].cursor
        again = await store.append_batch([request])
        assert again == [results[2]]

    async def test_an_atomic_batch_is_all_or_nothing(self, store: EventStore) -> None:
        # STORE-15
        await store.append(B, new_events(1))
        good, bad = AppendRequest(A, new_events(1), 0), AppendRequest(B, new_events(1), 7)
        with pytest.raises(ConcurrencyConflict) as caught:
            await store.append_batch([good, bad], atomic=True)
        assert caught.value.stream_id == B
        assert (await store.head(A), await store.head(B)) == (0, 1)
        done = await store.append_batch([good, AppendRequest(B, new_events(1), 1)], atomic=True)
        assert [_short(result) for result in done] == [(1, 1, False), (2, 2, False)]

    async def test_a_batch_has_limits(self, store: EventStore) -> None:
        # STORE-15
        request = AppendRequest(A, new_events(1))
        with pytest.raises(BatchTooLarge):
            await store.append_batch([request] * 1001)
        with pytest.raises(BatchTooLarge):
            await store.append_batch([AppendRequest(A, [new_event()] * 1000)] * 11)
        assert await store.append_batch([]) == []
        assert await store.head(A) == 0

    async def test_batches_and_appends_race_without_loss(self, store: EventStore) -> None:
        # STORE-15: every event once, versions without holes
        stored: list[UUID] = []

        async def batch() -> None:
            requests = [AppendRequest(s, new_events(2)) for s in (A, B, A)]
            for request, result in zip(requests, await store.append_batch(requests), strict=True):
                assert isinstance(result, Appended)
                stored.extend(event.event_id for event in request.events)

        async def single() -> None:
            events = new_events(1)
            await store.append(A, events)
            stored.extend(event.event_id for event in events)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(batch)
                nursery.start_soon(single)
        loaded = [e.event_id for s in (A, B) for e in [x async for x in store.load(s)]]
        assert sorted(loaded) == sorted(stored)
        assert await versions(store, A) == list(range(1, 31))
        await read_to_end(store, limit=10)

    async def test_batches_over_the_same_streams_do_not_block_each_other(
        self, store: EventStore
    ) -> None:
        # STORE-15: in whatever order each names them, and their events keep that order
        streams = [StreamId(f"order-{n}") for n in range(10)]
        rng = random.Random(7)

        async def write() -> None:
            for _ in range(5):
                named = rng.sample(streams, len(streams))
                results = await store.append_batch([AppendRequest(s, new_events(2)) for s in named])
                cursors = [one.cursor for one in results if isinstance(one, Appended)]
                assert len(cursors) == len(named)
                assert cursors == sorted(cursors)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(write)
        assert [await store.head(stream) for stream in streams] == [60] * 10
        await read_to_end(store, limit=500)

    async def test_an_append_that_expects_nothing_is_never_refused(self, store: EventStore) -> None:
        # STORE-10: however many write to the stream at once
        async with trio.open_nursery() as nursery:
            for _ in range(32):

                async def write() -> None:
                    for _ in range(5):
                        await store.append(A, new_events(1))

                nursery.start_soon(write)
        assert await store.head(A) == 160

    async def test_streams_are_listed_by_name(self, store: EventStore) -> None:
        # STORE port
        for name in ("order-b", "order-a", "orders-1", "user-ä", "user-Z", "order-a1"):
            await store.append(StreamId(name), new_events(2))
        names = [info.stream_id for info in await store.list_streams()]
        assert names == ["order-a", "order-a1", "order-b", "orders-1", "user-Z", "user-ä"]
        assert [i.stream_id for i in await store.list_streams(category="order")] == names[:3]
        assert [i.stream_id for i in await store.list_streams(prefix="order-a")] == names[:2]
        both = await store.list_streams(category="order", prefix="order-b")
        assert [(i.stream_id, i.version) for i in both] == [("order-b", 2)]
        assert await store.list_streams(category="user", prefix="order") == []
        assert [i.stream_id for i in await store.list_streams(after="order-a1", limit=2)] == [
            "order-b",
            "orders-1",
        ]


async def race(
    store: EventStore, stream_id: StreamId, *, expected: int, writers: int
) -> list[Appended | StoreError]:
    """Call this to append from many tasks at once, all expecting the same version."""
    results: list[Appended | StoreError] = []

    async def write() -> None:
        try:
            results.append(await store.append(stream_id, new_events(1), expected=expected))
        except StoreError as error:
            results.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(writers):
            nursery.start_soon(write)
    return results


def assert_streams_ascend(events: Iterable[StoredEvent]) -> None:
    """Call this with events in the global order: of each stream every version, in its order."""
    reached: dict[str, int] = {}
    for event in events:
        before = reached.get(event.stream_key, 0)
        assert event.version == before + 1, (event.stream_key, before, event.version)
        reached[event.stream_key] = event.version


async def read_to_end(store: EventStore, after: Cursor | None = None, limit: int = 3) -> list[Page]:
    """Call this to read on in small pages until there is no more."""
    pages = [await store.read_all(after=after, limit=limit)]
    while not pages[-1].is_last:
        pages.append(await store.read_all(after=pages[-1].next, limit=limit))
    if after is None:
        assert_streams_ascend(event for page in pages for event in page.events)
    return pages


def following(
    store: EventStore,
    after: Cursor | None = None,
    types: list[str] | None = None,
    categories: list[str] | None = None,
) -> aclosing[AsyncGenerator[Page, None]]:
    """Call this to follow a store within `async with`, and be done with it at the end."""
    pages = store.follow(after=after, types=types, categories=categories)
    return aclosing(cast("AsyncGenerator[Page, None]", pages))


async def _first(store: EventStore, after: Cursor) -> Page:
    async with following(store, after=after) as pages:
        return await anext(pages)


class EventOrderSuite:
    """The conformance suite of `EventStore`: the global order and its readers."""

    async def test_an_empty_store_has_an_empty_page(self, store: EventStore) -> None:
        # STORE-20
        page = await store.read_all()
        assert (list(page.events), page.next, page.head) == ([], START, START)
        assert page.is_last
        lag = await store.lag(None)
        assert (lag.events, lag.seconds) == (0, 0.0)

    async def test_pages_give_every_event_once_in_order(self, store: EventStore) -> None:
        # STORE-20
        for _ in range(4):
            await store.append(A, new_events(2))
            await store.append(USER, new_events(1))
        pages = await read_to_end(store)
        seen = [event for page in pages for event in page.events]
        assert len(seen) == 12
        cursors = [event.cursor for event in seen]
        assert cursors == sorted(set(cursors))
        assert [e.version for e in seen if e.stream_id == A] == list(range(1, 9))
        assert pages[-1].next == pages[-1].head == cursors[-1]
        assert (await store.read_all(after=cursors[-1])).events == []
        with pytest.raises(ValueError, match="limit"):
            await store.read_all(limit=0)

    async def test_a_filter_leaves_out_and_goes_on(self, store: EventStore) -> None:
        # STORE port
        for _ in range(3):
            await store.append(A, new_events(2, type="Made"))
            await store.append(USER, new_events(2, type="Seen"))
        made = await store.read_all(types=["Made"])
        assert {event.type for event in made.events} == {"Made"}
        assert len(made.events) == 6
        # What was left out is behind the reader.
        assert made.next == made.head
        users = await store.read_all(categories=["user"], limit=4)
        assert [event.stream_id for event in users.events] == [USER] * 4
        assert not users.is_last
        rest = await store.read_all(categories=["user"], after=users.next, limit=4)
        assert len(rest.events) == 2
        none = await store.read_all(types=["Made"], categories=["user"])
        assert (list(none.events), none.is_last) == ([], True)

    async def test_cursors_print_and_parse(self, store: EventStore) -> None:
        # STORE-2
        appended = await store.append(A, new_events(1))
        assert Cursor.parse(str(appended.cursor)) == appended.cursor
        for wrong in ("", "1", "1.", ".1", "1.x", "-1.2", "1.2.3", "١.٢"):
            with pytest.raises(ValueError, match="cursor"):
                Cursor.parse(wrong)
        assert await store.lineage()

    async def test_a_bookmark_is_a_place_in_one_order_only(self, store: EventStore) -> None:
        # STORE-24, STORE-26: who keeps a place elsewhere is told when it means nothing any more
        await store.append(A, new_events(3))
        first = await store.read_all(limit=2)
        kept = str(first.bookmark)
        assert kept == f"{await store.lineage()}:{first.next}"
        rest = await store.read_all(after=Bookmark.parse(kept))
        assert [event.version for event in rest.events] == [3]
        follower = cast("AsyncGenerator[Page, None]", store.follow(after=Bookmark.parse(kept)))
        async with aclosing(follower) as pages:
            with trio.fail_after(PATIENCE_S):
                assert [event.version for event in (await anext(pages)).events] == [3]
        other = Bookmark("another-lineage", first.next)
        with pytest.raises(CursorOutdated) as caught:
            await store.read_all(after=other)
        assert caught.value.cursor_lineage == "another-lineage"
        assert caught.value.store_lineage == rest.lineage
        with pytest.raises(CursorOutdated):
            await anext(aiter(store.follow(after=other)))

    async def test_the_lag_tells_events_and_seconds(self, store: EventStore) -> None:
        # PROJ-5
        first = await store.append(A, new_events(1))
        await store.append(A, new_events(4))
        assert (await store.lag(None)).events == 5
        lag = await store.lag(first.cursor)
        assert lag.events == 4
        assert lag.seconds >= 0

    async def test_following_catches_up_then_goes_live(self, store: EventStore) -> None:
        # STORE-21
        await store.append(A, new_events(700))
        seen: list[Cursor] = []
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery, following(store) as pages:

                async def write() -> None:
                    for _ in range(20):
                        await store.append(USER, new_events(2))

                nursery.start_soon(write)
                async for page in pages:
                    seen.extend(event.cursor for event in page.events)
                    if len(seen) >= 740:
                        break
        assert len(seen) == 740
        assert seen == sorted(set(seen))
        await read_to_end(store, limit=500)

    async def test_following_resumes_from_a_cursor(self, store: EventStore) -> None:
        # STORE-21
        first = await store.append(A, new_events(3))
        await store.append(A, new_events(2))
        with trio.fail_after(PATIENCE_S):
            async with following(store, after=first.cursor) as pages:
                page = await anext(pages)
        assert [event.version for event in page.events] == [4, 5]

    async def test_two_followers_see_the_same(self, store: EventStore) -> None:
        # STORE-21
        seen: dict[int, list[Cursor]] = {0: [], 1: []}

        async def follow(number: int) -> None:
            async with following(store) as pages:
                async for page in pages:
                    seen[number].extend(event.cursor for event in page.events)
                    if len(seen[number]) >= 30:
                        return

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, 0)
                nursery.start_soon(follow, 1)
                for _ in range(15):
                    await store.append(A, new_events(2))
        assert seen[0] == seen[1]

    async def test_a_filtered_follower_moves_on_past_others(self, store: EventStore) -> None:
        # STORE port: its checkpoint need not stay behind
        await store.append(A, new_events(2, type="Made"))
        last = await store.append(USER, new_events(2, type="Seen"))
        with trio.fail_after(PATIENCE_S):
            async with following(store, types=["Made"]) as pages:
                page = await anext(pages)
        assert len(page.events) == 2
        assert page.next == last.cursor


def _content(event: NewEvent | StoredEvent) -> tuple[object, ...]:
    return (
        event.event_id,
        event.type,
        event.schema_version,
        event.codec,
        event.data,
        dict(event.metadata),
    )


def _short(result: Appended | StoreError) -> object:
    if isinstance(result, Appended):
        return (result.first_version, result.version, result.replayed)
    return type(result).__name__
