"""Read models in PostgreSQL pass the suite of their port."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import IO

import pytest
import trio

from actors.persistence import (
    Cursor,
    GenerationState,
    ProjectionRunner,
    ProjectionTx,
    StoredEvent,
    StreamId,
    begin_rebuild,
    wait_until,
)
from actors.runtime import open_actors
from storage.postgres import Connection, Database
from storage.testing import ProjectionCrashSuite, ProjectionSuite
from storage.testing.kept import Kept, kept_in_postgres
from storage.testing.projections.filling import A, Totals, paid
from storage.testing.samples import PATIENCE_S
from tests.processes.forked import Forked, start


class TestPostgresProjections(ProjectionSuite, ProjectionCrashSuite):
    # PROJ-10
    @pytest.fixture
    def kept(self, database: Database) -> Kept:
        return kept_in_postgres(database)


async def test_a_document_says_of_which_event_it_is_and_when_it_was_written(
    database: Database,
) -> None:
    # PROJ-11
    kept = kept_in_postgres(database)
    written = []

    async def look(connection: Connection) -> tuple[Cursor, datetime]:
        row = await connection.fetchrow("SELECT txid, position, updated_at FROM documents")
        assert row is not None
        return Cursor(row["txid"], row["position"]), row["updated_at"]

    async with open_actors() as system:
        await system.start(lambda: ProjectionRunner(Totals(), kept.events, kept.projections))
        for amount in (1, 2):
            cursor = (await kept.events.append(A, paid(amount))).cursor
            await wait_until(kept.projections, "totals", cursor, timeout_s=PATIENCE_S)
            written.append((cursor, await database.run(look)))
    assert all(kept_at == cursor for cursor, (kept_at, _) in written)
    (_, (_, first)), (_, (_, second)) = written
    assert first < second


@pytest.mark.slow
async def test_a_runner_killed_at_any_point_applies_each_event_once(database: Database) -> None:
    # PROJ-2, PROJ-3: two at once and one killed again and again
    kept = kept_in_postgres(database)
    total, last = 0, Cursor(0, 0)

    def make() -> ProjectionRunner:
        return ProjectionRunner(Totals(), kept.events, kept.projections)

    async with open_actors() as system:
        await system.start(make)
        for round_ in range(25):
            other = await system.start(make)
            amounts = [round_ + number for number in range(1, 20)]
            total += sum(amounts)
            last = (await kept.events.append(A, paid(*amounts))).cursor
            for _ in range(round_ % 7):
                await trio.lowlevel.checkpoint()
            other.kill()
        await wait_until(kept.projections, "totals", last, timeout_s=PATIENCE_S)
    assert await kept.projections.get("totals__g1", A) == {"sum": total}


class Told(Totals):
    """Notes how its commit was made."""

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        tx.execute(
            "INSERT INTO documents (collection, key, document, txid, position)"
            " SELECT 'told', $1, jsonb_build_object(source, setting), '1', 1"
            " FROM pg_settings WHERE name = 'synchronous_commit'",
            str(event.event_id),
        )


@pytest.mark.parametrize("rebuild", [False, True])
async def test_only_what_is_being_built_does_not_wait_for_the_disk(
    database: Database, rebuild: bool
) -> None:
    # PROJ-8
    kept = kept_in_postgres(database)
    if rebuild:
        await kept.projections.open("totals", 1, 1, GenerationState.LIVE)
        assert await begin_rebuild(kept.projections, Told()) == 2
    await kept.events.append(A, paid(1))

    def make() -> ProjectionRunner:
        return ProjectionRunner(Told(), kept.events, kept.projections, rebuild=rebuild)

    async with open_actors() as system:
        await system.start(make)
        with trio.fail_after(PATIENCE_S):
            while not (found := await kept.projections.query("told")):
                await kept.projections.changed(0.05)
    ((_, document),) = found
    # The servers of tests have it off at their command line.
    assert (document == {"session": "off"}) is rebuild


class _Nodes:
    """Nodes that fill the parts of a projection, each a process of its own; and what they did."""

    def __init__(self, database: Database, url: str) -> None:
        self._database, self._url = database, url
        self._running: dict[str, tuple[Forked, IO[str]]] = {}

    def start(self, name: str) -> None:
        words = [self._url, name]
        self._running[name] = start("tests.storage.projection_node_process", words)

    def kill(self, name: str) -> None:
        process, output = self._running.pop(name)
        process.kill()
        process.wait(PATIENCE_S)
        output.close()

    async def kill_and_take_over(self, name: str) -> None:
        """As if its lease were over already: that it is waited for is tried elsewhere."""
        self.kill(name)

        async def age(connection: Connection) -> None:
            await connection.execute(
                "UPDATE nodes SET heartbeat_at = heartbeat_at - interval '1 minute'"
                " WHERE name = $1",
                name,
            )

        await self._database.run(age)

    async def applied(self) -> list[tuple[str, str, int]]:
        async def work(connection: Connection) -> list[tuple[str, str, int]]:
            return [tuple(row) for row in await connection.fetch("SELECT * FROM applied")]

        return await self._database.run(work)

    async def until_all(self, names: Collection[str], least: int) -> None:
        """Each of them has applied so many."""
        with trio.fail_after(PATIENCE_S):
            while True:
                counts = Counter(node for node, _, _ in await self.applied())
                if all(counts[name] >= least for name in names):
                    return
                await trio.sleep(0.02)  # what other processes do is no event here

    def end(self) -> None:
        for name in [*self._running]:
            self.kill(name)


@pytest.mark.slow
async def test_parts_change_hands_with_nodes_that_are_killed(
    database: Database, database_url: str
) -> None:
    """Two processes share the parts; each is killed with events in hand, and another goes on."""
    # CLU-15, PROJ-14
    kept, nodes = kept_in_postgres(database), _Nodes(database, database_url)
    tills = [StreamId(f"till-{number}") for number in range(12)]
    rounds, last = [0] * len(tills), Cursor(0, 0)

    async def make(connection: Connection) -> None:
        await connection.execute("CREATE TABLE applied (node text, stream_id text, version int)")

    async def pay(times: int) -> None:
        nonlocal last
        for at, till in enumerate(tills):
            amounts = range(rounds[at], rounds[at] + times)
            last = (await kept.events.append(till, paid(*amounts))).cursor
            rounds[at] += times

    await database.run(make)
    try:
        nodes.start("a")
        nodes.start("b")
        while True:
            # One has them all, until the other is there too.
            await pay(1)
            if {node for node, _, _ in await nodes.applied()} == {"a", "b"}:
                break
            await trio.sleep(0.1)  # what other processes do is no event here
        for name, other in (("a", "b"), ("b", "c")):
            if other == "c":
                nodes.start("c")
                await nodes.until_all(["b"], 1)
            await pay(40)
            await nodes.kill_and_take_over(name)
            await pay(5)
        # From a process that fills nothing.
        await wait_until(kept.projections, "receipts", last, timeout_s=PATIENCE_S)
    finally:
        nodes.end()
    applied = await nodes.applied()
    assert {node for node, _, _ in applied} == {"a", "b", "c"}
    assert len(applied) == len(set(applied)) == sum(rounds)
    found = await kept.projections.query("receipts__g1")
    assert {key: one["amounts"] for key, one in found} == {
        str(till): list(range(count)) for till, count in zip(tills, rounds, strict=True)
    }
