"""Read models in Redis: the suites of every engine, and what only a server can lose (PROJ-12)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import cast

import msgspec
import pytest
import trio

from actors.persistence import (
    CachedProjections,
    Checkpoint,
    Cursor,
    Document,
    GenerationState,
    NotRetired,
    ProjectionBatch,
    ProjectionRunner,
    StoreUnavailable,
    UnknownProjection,
    begin_rebuild,
    live_collection,
    swap_back,
    wait_until,
)
from actors.persistence.projections import filling, runner
from actors.runtime import open_actors
from storage.memory import MemoryDatabase, MemoryProjections
from storage.postgres import Database, PostgresProjections
from storage.redis import ReadModelLost, RedisClient, RedisProjections, Script, open_redis
from storage.redis.codec import Part, Reply
from storage.redis.projections import PREFIX
from storage.testing import (
    ProjectionCrashSuite,
    ProjectionHaltSuite,
    ProjectionPartsSuite,
    ProjectionPoisonSuite,
    ProjectionRebuildSuite,
    ProjectionSuite,
    ProjectionWaitingSuite,
    ProjectionWishesSuite,
)
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.private import Place, place_in_memory
from storage.testing.projections.filling import A, B, Totals, paid
from storage.testing.samples import PATIENCE_S
from tests.patience import until
from tests.redis_server import RedisServer
from tests.storage.beside_books import BesideBooksForgettingSuite, LookingPlace


@pytest.fixture(autouse=True)
def pauses_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many retries and looks as ever, without their pauses: a server knows no virtual time."""
    monkeypatch.setattr(filling, "POISON_RETRIES_S", (0.0,) * len(filling.POISON_RETRIES_S))
    monkeypatch.setattr(filling, "AWAY_S", 0.02)
    monkeypatch.setattr(filling, "EMPTY_COMMIT_S", 0.05)
    monkeypatch.setattr(filling, "LEFT_S", 0.3)
    monkeypatch.setattr(runner, "AWAY_S", 0.02)
    monkeypatch.setattr(runner, "LOOK_S", 0.02)


class TestRedisProjections(
    ProjectionSuite,
    ProjectionCrashSuite,
    ProjectionPartsSuite,
    ProjectionPoisonSuite,
    ProjectionHaltSuite,
    ProjectionRebuildSuite,
    ProjectionWaitingSuite,
    ProjectionWishesSuite,
):
    # PROJ-10, PROJ-12

    @pytest.fixture
    def kept(self, redis: RedisClient) -> Kept:
        kept = kept_in_memory()
        return replace(kept, projections=RedisProjections(redis, kept.projections))


class TestRedisForgetting(BesideBooksForgettingSuite):
    # STORE-44, PROJ-12: what was made of a forgotten subject's fields is removed here too

    @pytest.fixture
    def place(self, redis: RedisClient) -> Place:
        place = place_in_memory()

        async def dump() -> bytes:
            found = [await place.dump()]
            names = await redis.call("KEYS", f"{PREFIX}documents:*")
            assert isinstance(names, list)
            for name in names:
                assert isinstance(name, bytes)
                found.append(repr(await redis.call("HGETALL", name)).encode())
            return b"".join(found)

        return LookingPlace(
            place.keys,
            place.events,
            place.snapshots,
            RedisProjections(redis, place.projections),
            dump,
            place.audited,
        )


class TestRedisProjectionsOfPostgres:
    # PROJ-12: with the books that a site has

    @pytest.fixture
    def kept(self, redis: RedisClient, database: Database) -> Kept:
        kept = kept_in_postgres(database)
        return replace(kept, projections=RedisProjections(redis, kept.projections))

    async def test_events_become_documents(self, kept: Kept) -> None:
        await ProjectionSuite().test_events_become_documents_and_can_be_waited_for(kept)

    async def test_a_rebuild_can_be_undone(self, kept: Kept) -> None:
        await ProjectionSuite().test_a_rebuild_leaves_the_old_one_serving_and_can_be_undone(kept)

    async def test_two_nodes_with_caches_read_what_they_waited_for(
        self, kept: Kept, redis: RedisClient, database: Database
    ) -> None:
        # PROJ-6, PROJ-10
        here, there = (
            CachedProjections(RedisProjections(redis, PostgresProjections(database)))
            for _ in range(2)
        )
        async with open_actors() as system:
            await system.start(ProjectionRunner, Totals(), kept.events, there)
            for total in range(1, 6):
                last = await kept.events.append(A, paid(1))
                await wait_until(here, "totals", last.cursor, timeout_s=PATIENCE_S)
                for _ in range(2):
                    assert await here.get("totals__g1", A) == {"sum": total}
        assert here.statistics().hits >= 5

    async def test_what_is_retired_is_removed(self, kept: Kept) -> None:
        await ProjectionRebuildSuite().test_a_retired_generation_is_removed_in_pieces(kept)


@asynccontextmanager
async def on_own(server: RedisServer) -> AsyncIterator[tuple[Kept, RedisClient]]:
    """Everything in memory but documents, which that server has."""
    async with open_redis(server.settings) as client:
        kept = kept_in_memory()
        yield replace(kept, projections=RedisProjections(client, kept.projections)), client


async def reached(kept: Kept, wanted: dict[str, int], collection: str) -> None:
    """Wait until a generation serves, and holds that."""
    with trio.fail_after(PATIENCE_S):
        while True:
            with suppress(StoreUnavailable):
                if await live_collection(kept.projections, "totals") == collection:
                    found = await kept.projections.query(collection)
                    if {key: one["sum"] for key, one in found} == wanted:
                        return
            await kept.projections.changed(0.02)


async def test_a_server_that_is_killed_costs_a_rebuild_and_nothing_else(
    server: RedisServer,
) -> None:
    # PROJ-12: in the middle of the filling; what it had is gone, what is read is never half of it
    async with on_own(server) as (kept, client), open_actors() as system:
        await kept.events.append(A, paid(*[1] * 150))
        await system.start(ProjectionRunner, Totals(), kept.events, kept.projections)
        await reached(kept, {A: 150}, "totals__g1")
        server.kill()
        await until(lambda: not client.statistics().is_up)
        last = await kept.events.append(B, paid(7))
        server.start()
        await client.wait_up(PATIENCE_S)
        with suppress(StoreUnavailable):
            assert await kept.projections.get("totals__g1", A) == {"sum": 150}
        await reached(kept, {A: 150, B: 7}, "totals__g2")
        with pytest.raises(ReadModelLost):
            await kept.projections.get("totals__g1", A)
        with pytest.raises(UnknownProjection):
            await swap_back(kept.projections, "totals", 1)
        await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
        await kept.events.append(A, paid(1))
        await reached(kept, {A: 151, B: 7}, "totals__g2")


async def test_what_is_lost_is_not_told_to_be_missing(redis: RedisClient) -> None:
    # PROJ-12: whatever is asked, and whatever part of it is gone
    for gone in ("documents", "keys"):
        store, begun = await filled(redis)
        [now] = await store.checkpoints("totals")
        assert await store.commit(ProjectionBatch(now, Cursor(6, 1), {"c": {"n": 3}}))
        await redis.call("DEL", f"{PREFIX}{gone}:{begun.collection}")
        asked: list[Coroutine[object, None, object]] = [store.query(begun.collection)]
        if gone == "documents":
            asked += [
                store.get(begun.collection, "a"),
                store.get_many(begun.collection, ["a"]),
                store.exists(begun.collection, "a"),
            ]
        for one in asked:
            with pytest.raises(ReadModelLost):
                await one
        [now] = await store.checkpoints("totals")
        assert now.is_outdated
        with pytest.raises(ReadModelLost):
            await store.commit(ProjectionBatch(now, Cursor(9, 1), {"a": {"n": 9}}))
        # It can be made live by nobody, and what serves instead is a new one.
        assert await begin_rebuild(store, Totals()) == 2
        await store.swap("totals", 2)
        await store.swap("totals", 1)
        assert await live_collection(store, "totals") == "totals__g2"


async def test_what_was_being_built_is_given_up_when_it_is_lost(redis: RedisClient) -> None:
    # PROJ-8, PROJ-12: nobody is told to complete it, and a wish for another one is heard
    store, _ = await filled(redis)
    assert await begin_rebuild(store, Totals()) == 2
    for position in (1, 2):
        now = (await store.checkpoints("totals"))[1]
        made = {"a": {"n": position}}
        assert await store.commit(ProjectionBatch(now, Cursor(5, position), made))
    await redis.call("DEL", f"{PREFIX}documents:totals__g2")
    lost = (await store.checkpoints("totals"))[1]
    assert (lost.state, lost.is_outdated) == (GenerationState.RETIRED, True)
    assert (await store.behind.checkpoints("totals"))[1].state is GenerationState.RETIRED
    with pytest.raises(NotRetired):
        await swap_back(store, "totals")
    assert await begin_rebuild(store, Totals()) == 3


async def test_an_old_copy_is_no_state(redis: RedisClient) -> None:
    # PROJ-12: a server that went back to what it once saved has less than the books say
    store, begun = await filled(redis)
    name = f"{PREFIX}documents:{begun.collection}"
    old = await redis.call("DUMP", name)
    assert isinstance(old, bytes)
    [now] = await store.checkpoints("totals")
    assert await store.commit(ProjectionBatch(now, Cursor(6, 1), {"a": {"n": 2}}))
    await redis.call("RESTORE", name, 0, old, "REPLACE")
    [now] = await store.checkpoints("totals")
    # What the books have still is written again.
    assert not now.is_outdated
    assert await store.get(begun.collection, "a") == {"n": 2}
    assert await store.commit(ProjectionBatch(now, Cursor(7, 1), {"b": {"n": 3}}))
    for known in (store, RedisProjections(redis, store.behind)):
        await redis.call("RESTORE", name, 0, old, "REPLACE")
        [now] = await known.checkpoints("totals")
        assert now.is_outdated


async def test_a_batch_that_is_in_the_books_alone_is_written_by_the_next_look(
    redis: RedisClient,
) -> None:
    # PROJ-2, PROJ-12: killed, or cut off, between the two; once, by however many
    store, begun = await filled(redis)
    [now] = await store.checkpoints("totals")
    cut_off = CutOff(redis)
    batch = ProjectionBatch(now, Cursor(6, 1), {"a": {"n": 2}, "b": None, "ü": {"x": [1.5, None]}})
    with pytest.raises(StoreUnavailable):
        await RedisProjections(cast("RedisClient", cut_off), store.behind).commit(batch)
    assert await store.get(begun.collection, "a") == {"n": 1}
    # Who began before it writes nothing over it.
    assert not await store.commit(replace(batch, documents={"a": {"n": 9}}))
    others = [RedisProjections(redis, store.behind) for _ in range(5)]
    seen = list[Checkpoint]()

    async def look(one: RedisProjections) -> None:
        seen.extend(await one.checkpoints("totals"))

    async with trio.open_nursery() as nursery:
        for one in others:
            nursery.start_soon(look, one)
    assert {(one.cursor, one.is_outdated) for one in seen} == {(Cursor(6, 1), False)}
    found = await store.query(begun.collection)
    assert found == [("a", {"n": 2}), ("ü", {"x": [1.5, None]})]
    assert await store.commit(ProjectionBatch(seen[0], Cursor(7, 1), {"b": {"n": 4}}))
    assert await store.exists(begun.collection, "b")


async def test_what_another_life_left_is_not_read(redis: RedisClient) -> None:
    # PROJ-12: a new database beside a server that is full of another's documents
    await filled(redis)
    store, begun = await filled(redis, documents={"z": {"n": 1}})
    assert [key for key, _ in await store.query(begun.collection)] == ["z"]
    [now] = await store.checkpoints("totals")
    assert not now.is_outdated
    assert await store.commit(ProjectionBatch(now, Cursor(6, 1), {"y": {"n": 1}}))


async def test_a_document_tells_its_cursor_and_when_it_was_written(redis: RedisClient) -> None:
    # PROJ-11
    _, begun = await filled(redis)
    text = await redis.call("HGET", f"{PREFIX}documents:{begun.collection}", "a")
    assert isinstance(text, bytes)
    kept = msgspec.json.decode(text)
    assert (kept["_cursor"], kept["document"]) == ("5-1", {"n": 1})
    clock = await redis.call("TIME")
    assert isinstance(clock, list)
    assert isinstance(clock[0], bytes)
    assert 0 <= int(clock[0]) + 1 - kept["_updated_at"] / 1000 < PATIENCE_S


async def test_a_batch_that_comes_late_writes_nothing_over_a_later_one(redis: RedisClient) -> None:
    # PROJ-2, PROJ-12: who committed it stood still, and others went on meanwhile
    store, begun = await filled(redis)
    [now] = await store.checkpoints("totals")
    late, told = Late(redis), list[bool]()

    async def commit() -> None:
        slow = RedisProjections(cast("RedisClient", late), store.behind)
        told.append(await slow.commit(ProjectionBatch(now, Cursor(6, 1), {"a": {"n": 2}})))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        await late.has_come.wait()
        [now_] = await store.checkpoints("totals")
        assert await store.commit(ProjectionBatch(now_, Cursor(7, 1), {"a": {"n": 3}}))
        late.may_go.set()
    assert told == [True]
    assert await store.get(begun.collection, "a") == {"n": 3}
    [now] = await store.checkpoints("totals")
    assert (now.cursor, now.is_outdated) == (Cursor(7, 1), False)


class CutOff:
    """A client whose connection is lost when a batch is to be written."""

    def __init__(self, client: RedisClient) -> None:
        self._client, self.call = client, client.call

    async def run(self, script: Script, keys: tuple[Part, ...], *arguments: Part) -> Reply:
        """Ask, but for what writes documents."""
        if "HSET" in script.text and "_cursor" in script.text:
            raise StoreUnavailable("cut off")
        return await self._client.run(script, keys, *arguments)


class Late(CutOff):
    """A client that stands still when a batch is to be written."""

    def __init__(self, client: RedisClient) -> None:
        super().__init__(client)
        self.has_come, self.may_go = trio.Event(), trio.Event()

    async def run(self, script: Script, keys: tuple[Part, ...], *arguments: Part) -> Reply:
        """Ask, late for what writes documents."""
        if "_cursor" in script.text:
            self.has_come.set()
            await self.may_go.wait()
        return await self._client.run(script, keys, *arguments)


async def filled(
    redis: RedisClient, documents: dict[str, Document | None] | None = None
) -> tuple[RedisProjections, Checkpoint]:
    """A generation with two documents, of books of its own."""
    store = RedisProjections(redis, MemoryProjections(MemoryDatabase()))
    begun = await store.open("totals", 1, 1, GenerationState.LIVE)
    made = {"a": {"n": 1}, "b": {"n": 2}} if documents is None else documents
    assert await store.commit(ProjectionBatch(begun, Cursor(5, 1), made))
    return store, begun
