"""What every `EventStore` must do with whole streams, as tests. Give the subclass a `store`, empty.

Reading backwards and counting: the newest first, and how many.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import cast

import pytest
import trio

from actors.persistence import (
    COUNT_MAX,
    START,
    Counted,
    Cursor,
    EventStore,
    StoredEvent,
    StoreMisuse,
    StreamId,
)
from storage.testing.event_store import read_to_end
from storage.testing.samples import new_events

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
