"""What every `EventStore` must do about the global order, as tests. Fixture `store`, empty."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest
import trio

from actors.persistence import START, Cursor, EventStore, Page, StreamId
from storage.testing.samples import new_events

A, B = StreamId("order-a"), StreamId("user-b")


async def read_to_end(store: EventStore, after: Cursor | None = None, limit: int = 3) -> list[Page]:
    """Call this to read on in small pages until there is no more."""
    pages = [await store.read_all(after=after, limit=limit)]
    while not pages[-1].is_last:
        pages.append(await store.read_all(after=pages[-1].next, limit=limit))
    return pages


def following(
    store: EventStore,
    after: Cursor | None = None,
    types: list[str] | None = None,
    categories: list[str] | None = None,
) -> "aclosing[AsyncGenerator[Page, None]]":
    """Call this to follow a store within `async with`, and be done with it at the end."""
    pages = store.follow(after=after, types=types, categories=categories)
    return aclosing(cast("AsyncGenerator[Page, None]", pages))


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
            await store.append(B, new_events(1))
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
            await store.append(B, new_events(2, type="Seen"))
        made = await store.read_all(types=["Made"])
        assert {event.type for event in made.events} == {"Made"}
        assert len(made.events) == 6
        # What was left out is behind the reader.
        assert made.next == made.head
        users = await store.read_all(categories=["user"], limit=4)
        assert [event.stream_id for event in users.events] == [B] * 4
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
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery, following(store) as pages:

                async def write() -> None:
                    for _ in range(20):
                        await store.append(B, new_events(2))

                nursery.start_soon(write)
                async for page in pages:
                    seen.extend(event.cursor for event in page.events)
                    if len(seen) >= 740:
                        break
        assert len(seen) == 740
        assert seen == sorted(set(seen))

    async def test_following_resumes_from_a_cursor(self, store: EventStore) -> None:
        # STORE-21
        first = await store.append(A, new_events(3))
        await store.append(A, new_events(2))
        with trio.fail_after(5):
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

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, 0)
                nursery.start_soon(follow, 1)
                for _ in range(15):
                    await store.append(A, new_events(2))
        assert seen[0] == seen[1]

    async def test_a_filtered_follower_moves_on_past_others(self, store: EventStore) -> None:
        # STORE port: its checkpoint need not stay behind
        await store.append(A, new_events(2, type="Made"))
        last = await store.append(B, new_events(2, type="Seen"))
        with trio.fail_after(5):
            async with following(store, types=["Made"]) as pages:
                page = await anext(pages)
        assert len(page.events) == 2
        assert page.next == last.cursor
