"""Processes that share the parts of a projection, and are killed (PROJ-14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import IO

import trio

from actors.persistence import Cursor, ProjectionStore, StreamId, wait_until
from storage.postgres import Connection, Database
from storage.testing.kept import Kept
from storage.testing.projections.filling import paid
from storage.testing.samples import PATIENCE_S
from tests.processes.forked import Forked, start

_TABLE = "CREATE TABLE applied (node text, projection text, stream_id text, version int)"


class Nodes:
    """Nodes that fill the parts of a projection, each a process of its own; and what they did."""

    def __init__(self, database: Database, urls: Sequence[str]) -> None:
        self._database, self._urls = database, urls
        self._running: dict[str, tuple[Forked, IO[str]]] = {}

    def start(self, name: str) -> None:
        """Start a node."""
        words = [name, *self._urls]
        self._running[name] = start("tests.storage.projection_node_process", words)

    def kill(self, name: str) -> None:
        """Kill one."""
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

    async def applied(self) -> list[tuple[str, str, str, int]]:
        """Call this for who has applied what: node, projection, stream, version."""

        async def work(connection: Connection) -> list[tuple[str, str, str, int]]:
            return [tuple(row) for row in await connection.fetch("SELECT * FROM applied")]

        return await self._database.run(work)

    async def until_all(self, names: Collection[str], least: int) -> None:
        """Each of them has applied so many."""
        with trio.fail_after(PATIENCE_S):
            while True:
                counts = Counter(node for node, *_ in await self.applied())
                if all(counts[name] >= least for name in names):
                    return
                await trio.sleep(0.02)  # what other processes do is no event here

    def end(self) -> None:
        """Kill all."""
        for name in [*self._running]:
            self.kill(name)


async def change_hands(
    kept: Kept, nodes: Nodes, database: Database, views: Mapping[str, ProjectionStore]
) -> None:
    """Call this to have nodes killed with events in hand, and others go on: each event once.

    `views` are read models by their names, and where they are read.
    """
    tills = [StreamId(f"till-{number}") for number in range(12)]
    rounds, last = [0] * len(tills), Cursor(0, 0)

    async def make(connection: Connection) -> None:
        await connection.execute(_TABLE)

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
            if {node for node, *_ in await nodes.applied()} == {"a", "b"}:
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
        for name, store in views.items():
            await wait_until(store, name, last, timeout_s=PATIENCE_S)
    finally:
        nodes.end()
    applied = await nodes.applied()
    assert {node for node, *_ in applied} == {"a", "b", "c"}
    assert len({(name, stream, at) for _, name, stream, at in applied}) == len(applied)
    wanted = {str(till): [*range(count)] for till, count in zip(tills, rounds, strict=True)}
    for name, store in views.items():
        assert sum(one == name for _, one, _, _ in applied) == sum(rounds)
        found = await store.query(f"{name}__g1")
        assert {key: one["amounts"] for key, one in found} == wanted
