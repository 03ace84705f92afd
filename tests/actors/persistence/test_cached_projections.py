"""Documents kept in memory, in front of any engine (PROJ-10), and forgotten when they change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.persistence import (
    CachedProjections,
    Checkpoint,
    Cursor,
    Document,
    GenerationState,
    ProjectionBatch,
    StoreUnavailable,
    wait_until,
)
from actors.persistence.projections import filling, runner
from actors.runtime.words.tallies import Tallies
from storage.memory import MemoryDatabase, MemoryProjections
from storage.testing import ProjectionCrashSuite, ProjectionRebuildSuite, ProjectionSuite
from storage.testing.kept import Kept, kept_in_memory
from tests.patience import PATIENCE_S

NAME = "totals__g1"


@pytest.mark.parametrize("writes_through", [True, False])
class TestCachedProjections(ProjectionSuite, ProjectionCrashSuite, ProjectionRebuildSuite):
    # PROJ-10

    @pytest.fixture(autouse=True)
    def pauses_are_short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many retries and looks as ever, without their pauses."""
        monkeypatch.setattr(filling, "POISON_RETRIES_S", (0.0,) * len(filling.POISON_RETRIES_S))
        monkeypatch.setattr(filling, "AWAY_S", 0.02)
        monkeypatch.setattr(filling, "EMPTY_COMMIT_S", 0.05)
        monkeypatch.setattr(filling, "LEFT_S", 0.3)
        monkeypatch.setattr(runner, "AWAY_S", 0.02)
        monkeypatch.setattr(runner, "LOOK_S", 0.02)

    @pytest.fixture
    def kept(self, writes_through: bool) -> Kept:
        kept = kept_in_memory()
        cached = CachedProjections(kept.projections, writes_through=writes_through)
        return replace(kept, projections=cached)


class Asked(MemoryProjections):
    """A store that counts what it is asked, and answers when it may."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__(database)
        self.asked: list[str] = []
        self.may_answer = trio.Event()
        self.may_answer.set()

    async def get(self, collection: str, key: str) -> Document | None:
        """Read first, answer later: by then it may be old."""
        self.asked.append(key)
        found = await super().get(collection, key)
        await self.may_answer.wait()
        return found


async def write(
    store: CachedProjections | MemoryProjections, documents: dict[str, Document | None]
) -> Checkpoint:
    """Commit documents behind what is there; the checkpoint that follows."""
    begun = await store.open("totals", 1, 1, GenerationState.LIVE)
    reached = Cursor(begun.cursor.txid + 1, 1)
    assert await store.commit(ProjectionBatch(begun, reached, documents))
    return replace(begun, cursor=reached, revision=begun.revision + 1)


async def test_a_document_is_asked_for_once_until_its_time_is_over(
    autojump_clock: MockClock,
) -> None:
    # PROJ-10: one that is missing too; and what a reader changes is its own
    store = Asked()
    cached = CachedProjections(store, ttl_s=60)
    await write(store, {"a": {"n": [1]}})
    for _ in range(3):
        found = await cached.get(NAME, "a")
        assert found == {"n": [1]}
        assert isinstance(found, dict)
        found["n"].append(2)
        assert not await cached.exists(NAME, "b")
        assert await cached.get_many(NAME, ["a", "b", "a"]) == {"a": {"n": [1]}}
    assert store.asked == ["a", "b"]
    await trio.sleep(61)
    assert await cached.get(NAME, "a") == {"n": [1]}
    assert store.asked == ["a", "b", "a"]


async def test_of_many_who_ask_at_once_one_loads() -> None:
    # PROJ-10: and when it is cancelled, one of the others does; an error is told to all
    store = Asked()
    cached = CachedProjections(store)
    await write(store, {"a": {"n": 1}})
    store.may_answer = trio.Event()
    told: list[object] = []

    async def ask() -> None:
        try:
            told.append(await cached.get(NAME, "a"))
        except StoreUnavailable as error:
            told.append(error.code)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as first:
                async with trio.open_nursery() as loading:
                    loading.start_soon(ask)
                    await wait_all_tasks_blocked()
                    for _ in range(20):
                        nursery.start_soon(ask)
                    await wait_all_tasks_blocked()
                    assert store.asked == ["a"]
                    first.cancel()
            await wait_all_tasks_blocked()
            assert store.asked == ["a", "a"]
            store.may_answer.set()
    assert told == [{"n": 1}] * 20
    cached = CachedProjections(store)
    await cached.checkpoints("totals")
    store.fail_next(StoreUnavailable("planted"))
    with pytest.raises(StoreUnavailable):
        await cached.get(NAME, "a")
    assert await cached.get(NAME, "a") == {"n": 1}


@pytest.mark.parametrize("writes_through", [True, False])
async def test_what_a_commit_writes_is_read(writes_through: bool) -> None:
    # PROJ-10: at once; what it did not write stays kept
    store = Asked()
    cached = CachedProjections(store, writes_through=writes_through)
    await write(cached, {"a": {"n": 1}, "b": {"n": 1}})
    assert await cached.get_many(NAME, ["a", "b"]) == {"a": {"n": 1}, "b": {"n": 1}}
    hits = cached.statistics().hits
    await write(cached, {"a": {"n": 2}})
    assert await cached.get(NAME, "b") == {"n": 1}
    assert cached.statistics().hits == hits + 1
    assert await cached.get(NAME, "a") == {"n": 2}
    assert cached.statistics().hits == hits + 1 + writes_through
    await write(cached, {"a": None})
    assert await cached.get(NAME, "a") is None


async def test_a_load_that_began_before_a_change_is_kept_by_nobody() -> None:
    # PROJ-10: by whomever it was changed; nor given to who asks after it
    for by_another in (True, False):
        store = Asked()
        cached = CachedProjections(store)
        await write(cached, {"a": {"n": 1}})
        store.may_answer = trio.Event()
        late: list[object] = []

        async def ask(cached: CachedProjections = cached, late: list[object] = late) -> None:
            late.append(await cached.get(NAME, "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            if by_another:
                await write(MemoryProjections(store.database), {"a": {"n": 2}})
                await cached.checkpoints("totals")
            else:
                await write(cached, {"a": {"n": 2}})
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert store.asked == ["a", "a"]
            store.may_answer.set()
        assert sorted(map(str, late)) == ["{'n': 1}", "{'n': 2}"]
        assert await cached.get(NAME, "a") == {"n": 2}


async def test_who_has_waited_for_another_process_reads_what_it_wrote() -> None:
    # PROJ-6, PROJ-10: without anybody who serves the cache
    store = MemoryProjections()
    here, there = CachedProjections(store), CachedProjections(MemoryProjections(store.database))
    await write(there, {"a": {"n": 1}})
    assert await here.get(NAME, "a") == {"n": 1}
    last = await write(there, {"a": {"n": 2}})
    await wait_until(here, "totals", last.cursor, timeout_s=PATIENCE_S)
    assert await here.get(NAME, "a") == {"n": 2}


async def test_what_another_process_writes_is_known_soon(autojump_clock: MockClock) -> None:
    # PROJ-10: long before its time is over, also when the store was away meanwhile
    store = MemoryProjections()
    here, there = CachedProjections(store), MemoryProjections(store.database)
    await write(there, {"a": {"n": 1}})
    async with trio.open_nursery() as nursery:
        await nursery.start(here.serve)
        assert await here.get(NAME, "a") == {"n": 1}
        store.fail_next(StoreUnavailable("planted"), times=2)
        await write(there, {"a": {"n": 2}})
        await trio.sleep(5)
        assert await here.get(NAME, "a") == {"n": 2}
        nursery.cancel_scope.cancel()


async def test_a_full_cache_gives_up_what_was_not_read_for_longest() -> None:
    # PROJ-10, OBS-1
    store, tallies = Asked(), Tallies()
    cached = CachedProjections(store, entries_max=2, tallies=tallies)
    await write(store, {key: {"n": 1} for key in "abc"})
    for key in "abac":
        await cached.get(NAME, key)
    store.asked.clear()
    for key in "ac":
        await cached.get(NAME, key)
    assert store.asked == []
    await cached.get(NAME, "b")
    assert store.asked == ["b"]
    counted = {name: number for name, labels, number in tallies.counts() if labels == ("totals",)}
    assert counted == {"cache_hits_total": 3, "cache_misses_total": 4, "cache_evictions_total": 2}
    statistics = cached.statistics()
    assert (statistics.entries, statistics.hits, statistics.misses) == (2, 3, 4)
    assert statistics.evictions == 2


async def test_what_no_checkpoint_tells_of_is_not_kept() -> None:
    # PROJ-10: documents that an append writes change without one
    store = Asked()
    cached = CachedProjections(store)
    for collection in ("names", "unknown__g1"):
        store.database.write_documents({collection: {"a": {"n": 1}}})
        assert await cached.get(collection, "a") == {"n": 1}
        store.database.write_documents({collection: {"a": {"n": 2}}})
        assert await cached.get(collection, "a") == {"n": 2}
    with pytest.raises(ValueError, match="one document at least"):
        CachedProjections(store, entries_max=0)
