"""Membership and ownership: both engines pass the suite; what only PostgreSQL can show."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
import trio

from actors.chat import LOBBY, Posted
from actors.persistence import Shard, StreamId
from storage.errors import ConcurrencyConflict, Fenced
from storage.postgres import Connection, Database, open_database
from storage.testing import NodesSuite
from storage.testing.chat_log import draft
from storage.testing.nodes import OVER_S, A, KeptNodes, nodes_in_memory, nodes_in_postgres
from storage.testing.samples import new_event
from tests.patience import PATIENCE_S, PATIENT_POOL


class TestMemoryNodes(NodesSuite):
    @pytest.fixture
    def kept(self) -> KeptNodes:
        return nodes_in_memory()


class TestPostgresNodes(NodesSuite):
    @pytest.fixture
    def kept(self, database: Database) -> KeptNodes:
        return nodes_in_postgres(database)


async def _held(database: Database, *, task_status: trio.TaskStatus[trio.Event]) -> None:
    """An append that has looked at its shard and does not end, as of a node that was stopped."""

    async def work(connection: Connection) -> None:
        await connection.fetchrow("SELECT owner, epoch FROM shards WHERE id = 0 FOR KEY SHARE")
        while not done.is_set():  # noqa: ASYNC110  (set on the other thread)
            await asyncio.sleep(0.01)

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.transact, work)
        while not await _is_waiting(database):  # noqa: ASYNC110  (the server sets no event)
            await trio.sleep(0.01)
        task_status.started(done)


async def _is_waiting(database: Database) -> bool:
    async def work(connection: Connection) -> bool:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND state = 'idle in transaction' AND query LIKE '%FOR KEY SHARE')"
            )
        )

    return await database.run(work)


async def test_a_renewal_waits_for_no_append_and_a_new_epoch_for_all(database: Database) -> None:
    # STORE-16
    kept = nodes_in_postgres(database)
    one, other = await kept.join("a"), await kept.join("b")
    await kept.nodes.claim(one, {0: 0})
    raised: list[int | None] = []

    async def hand_over() -> None:
        raised.append(await kept.nodes.hand_over(one, 0, 1, other))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            done = await nursery.start(_held, database)
            assert dict((await kept.nodes.beat(one)).held) == {0: 1}
            nursery.start_soon(hand_over)
            while not await _waits_for_lock(database):  # noqa: ASYNC110  (as above)
                await trio.sleep(0.01)
            assert raised == []
            done.set()
    assert raised == [2]


async def _waits_for_lock(database: Database) -> bool:
    async def work(connection: Connection) -> bool:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock')"
            )
        )

    return await database.run(work)


async def test_an_append_that_was_stopped_keeps_its_shard_only(database_url: str) -> None:
    """The others are owned anew at once; its session is ended, and then so is its shard."""
    # CLU-13
    async with (
        open_database(database_url, part="stopped", settings=PATIENT_POOL) as stopped,
        open_database(database_url, part="test", settings=PATIENT_POOL) as database,
    ):
        kept = nodes_in_postgres(database)
        dead = await kept.join("a")
        await kept.nodes.claim(dead, {0: 0, 1: 0})
        await kept.pass_time(OVER_S)
        heir = await kept.join("b")
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                done = await nursery.start(_held, stopped)
                assert await kept.nodes.claim(heir, {0: 1, 1: 1}) == {1: 2}
                # It said nothing for less than a lease: it may be at work.
                assert await kept.nodes.claim(heir, {0: 1}) == {}
                done.set()
            assert await kept.nodes.claim(heir, {0: 1}) == {0: 2}


async def test_two_claim_at_once_and_one_wins(database: Database) -> None:  # CLU-11
    kept = nodes_in_postgres(database)
    heirs = [await kept.join(name) for name in "ab"]
    got: dict[UUID, set[int]] = {}

    async def claim(heir: UUID) -> None:
        got[heir] = set(await kept.nodes.claim(heir, dict.fromkeys(range(128), 0)))

    async with trio.open_nursery() as nursery:
        for heir in heirs:
            nursery.start_soon(claim, heir)
    assert len(got[heirs[0]]) + len(got[heirs[1]]) == 128
    assert got[heirs[0]] | got[heirs[1]] == set(range(128))
    survey = await kept.nodes.survey()
    assert {row.shard for row in survey.shards.values() if row.owner == str(heirs[0])} == got[
        heirs[0]
    ]


async def test_who_serves_alone_is_named(database_url: str, database: Database) -> None:
    # CLU-2
    kept = nodes_in_postgres(database)
    assert (await kept.nodes.survey()).alone == ()
    async with open_database(database_url, part="site", settings=PATIENT_POOL):
        alone = (await kept.nodes.survey()).alone
        assert any(one.startswith("greenroom:site (pid ") for one in alone)


async def test_what_was_under_way_when_an_epoch_rose_is_whole_or_refused(
    database: Database,
) -> None:
    """Appends of two owners across a takeover: none is mixed in, none of the former comes late."""
    # STORE-16, CLU-17
    kept = nodes_in_postgres(database)
    one, other = await kept.join("a"), await kept.join("b")
    await kept.nodes.claim(one, {0: 0})
    ended = {"stored": 0, "fenced": 0}
    told: set[tuple[int, int, int | None]] = set()

    async def append(owner: UUID, epoch: int) -> None:
        try:
            events = [new_event(metadata={"owner": str(epoch)})]
            await kept.events.append(A, events, shard=Shard(0, str(owner), epoch))
            ended["stored"] += 1
        except Fenced as error:
            told.add((error.shard, error.held, error.current))
            ended["fenced"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(append, one, 1)
        assert await kept.nodes.hand_over(one, 0, 1, other) == 2
        for _ in range(20):
            nursery.start_soon(append, one, 1)
            nursery.start_soon(append, other, 2)
    owners = [event.metadata["owner"] async for event in kept.events.load(A)]
    assert owners == sorted(owners)
    assert owners.count("2") == 20
    assert ended == {"stored": len(owners), "fenced": 60 - len(owners)}
    assert ended["fenced"] >= 20
    assert told == {(0, 1, 2)}


async def test_single_events_under_way_when_an_epoch_rose_are_stored_or_refused(
    database: Database,
) -> None:
    """As above, each on a stream of its own: none is stored late, and all that count were whole."""
    # STORE-16, CLU-17
    kept = nodes_in_postgres(database)
    one, other = await kept.join("a"), await kept.join("b")
    await kept.nodes.claim(one, {0: 0})
    ended = {"stored": 0, "fenced": 0}

    async def append(owner: UUID, epoch: int) -> None:
        stream, shard = StreamId(f"order-{uuid4()}"), Shard(0, str(owner), epoch)
        events = [new_event(metadata={"owner": str(epoch)}) for _ in range(epoch)]
        try:
            await kept.events.append(stream, events, expected=0, shard=shard)
            ended["stored"] += 1
        except Fenced:
            ended["fenced"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(append, one, 1)
        assert await kept.nodes.hand_over(one, 0, 1, other) == 2
        for _ in range(20):
            nursery.start_soon(append, one, 1)
            nursery.start_soon(append, other, 2)
    owners = [event.metadata["owner"] for event in (await kept.events.read_all()).events]
    assert owners == sorted(owners)
    stored = owners.count("1") + 20
    assert owners.count("2") == 2 * 20
    assert ended == {"stored": stored, "fenced": 60 - stored}
    assert ended["fenced"] >= 20
    # The shard is right, and the version is not.
    with pytest.raises(ConcurrencyConflict) as caught:
        await kept.events.append(A, [new_event()], expected=5, shard=Shard(0, str(other), 2))
    assert caught.value.actual == 0


async def test_posts_under_way_when_an_epoch_rose_are_whole_or_refused(
    database: Database,
) -> None:
    # STORE-16, CLU-17
    kept = nodes_in_postgres(database)
    await kept.chat.ensure_rooms([LOBBY])
    one, other = await kept.join("a"), await kept.join("b")
    await kept.nodes.claim(one, {0: 0})
    ended = {"stored": 0, "fenced": 0}

    async def post(owner: UUID, epoch: int) -> None:
        try:
            drafts = [draft(f"{epoch}"), draft(f"{epoch}")]
            told = await kept.chat.post_as_owner(drafts, Shard(0, str(owner), epoch))
            assert [type(verdict) for verdict in told] == [Posted, Posted]
            ended["stored"] += 1
        except Fenced:
            ended["fenced"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(post, one, 1)
        assert await kept.nodes.hand_over(one, 0, 1, other) == 2
        for _ in range(10):
            nursery.start_soon(post, one, 1)
            nursery.start_soon(post, other, 2)
    said = await kept.chat.said(LOBBY, after=0)
    owners = [one.message.body for one in said.messages]
    assert owners == sorted(owners)
    assert owners.count("2") == 20
    assert ended == {"stored": len(owners) // 2, "fenced": 30 - len(owners) // 2}
    assert ended["fenced"] >= 10
