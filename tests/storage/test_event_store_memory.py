"""The event store in memory passes the suites of its port; they fail on faulty ones."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import trio

from actors.persistence import (
    ANY,
    Appended,
    AppendRequest,
    Bookmark,
    Cursor,
    Page,
    StoredEvent,
    StreamId,
    Version,
)
from actors.persistence.event_store import check_place
from storage.errors import StoreUnavailable
from storage.memory import MemoryEventStore
from storage.testing import BackwardsSuite, EventOrderSuite, EventStoreSuite, failing_cases
from storage.testing.event_store import following
from storage.testing.samples import PATIENCE_S, new_events

A, B = StreamId("order-a"), StreamId("order-b")


class TestMemoryEventStore(EventStoreSuite, EventOrderSuite, BackwardsSuite):
    @pytest.fixture
    def store(self) -> MemoryEventStore:
        return MemoryEventStore()


class _CountsFromZero(MemoryEventStore):
    async def load(
        self, stream_id: StreamId, *, from_version: Version = 1, to_version: Version | None = None
    ) -> AsyncIterator[StoredEvent]:
        async for event in super().load(stream_id, from_version=from_version):
            yield StoredEvent(**{**_fields(event), "version": event.version - 1})  # type: ignore[arg-type]


class _LosesConflicts(MemoryEventStore):
    async def append_request(self, request: AppendRequest) -> Appended:
        return await super().append_request(replace(request, expected=ANY))


class _ForgetsIds(MemoryEventStore):
    async def append_request(self, request: AppendRequest) -> Appended:
        self.database.by_id.clear()
        return await super().append_request(request)


class _RemembersPositionsOnly(MemoryEventStore):
    """Reads by position, as if nothing could become visible later: the naive reader."""

    async def read_all(
        self,
        *,
        after: Cursor | Bookmark | None = None,
        limit: int = 500,
        types: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Page:
        await self.pass_faults()
        begin, _ = check_place(after)
        events = sorted(self.database.events, key=lambda event: event.cursor.position)
        page = [event for event in events if event.cursor.position > begin.position][:limit]
        end = page[-1].cursor if page else begin
        return Page(page, end, end)


def _fields(event: StoredEvent) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


@pytest.mark.parametrize(
    ("faulty", "case"),
    [
        (_CountsFromZero, "test_what_is_appended_is_loaded"),
        (_LosesConflicts, "test_of_many_with_one_expectation_one_wins"),
        (_ForgetsIds, "test_the_same_append_again_is_replayed"),
    ],
)
async def test_the_suite_finds_a_planted_fault(faulty: type[MemoryEventStore], case: str) -> None:
    # TEST-8
    assert case in await failing_cases(EventStoreSuite, faulty)


async def _late_commit(store: MemoryEventStore) -> list[Cursor]:
    """What a follower sees while a lower position commits after a higher one."""
    seen: list[Cursor] = []
    held = store.hold_next_commit()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.append, A, new_events(1))
            await held.reached.wait()
            await store.append(B, new_events(1))

            async def follow() -> None:
                async with following(store) as pages:
                    async for page in pages:
                        seen.extend(event.cursor for event in page.events)

            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            held.release()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    return seen


async def test_a_late_commit_is_not_skipped() -> None:
    # STORE-25
    seen = await _late_commit(MemoryEventStore())
    assert seen == [Cursor(1, 1), Cursor(2, 2)]


async def test_a_naive_reader_skips_the_late_commit() -> None:
    # STORE-25, TEST-8: the proof can fail
    assert await _late_commit(_RemembersPositionsOnly()) == [Cursor(2, 2)]


async def test_a_rolled_back_commit_leaves_no_trace() -> None:
    # STORE-21
    store = MemoryEventStore()
    held = store.hold_next_commit()
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            with pytest.raises(StoreUnavailable):
                await store.append(A, new_events(1))

        nursery.start_soon(write)
        await held.reached.wait()
        await store.append(B, new_events(1))
        assert (await store.read_all()).events == []
        assert (await store.read_backwards()).events == []  # STORE-27
        held.drop()
    assert [event.stream_id for event in (await store.read_all()).events] == [B]
    assert (await store.append(A, new_events(1), expected=0)).version == 1
