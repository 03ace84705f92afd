"""Several nodes on one database in memory, each behind a line that can be cut or made slow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from uuid import UUID

import trio

from actors.cluster import (
    Beat,
    ClusterNode,
    Identity,
    LinkState,
    Member,
    NewNode,
    NodeState,
    SecretMarks,
    Survey,
)
from actors.persistence import StoreUnavailable
from actors.runtime import AnyRef, System, open_actors
from storage.memory import MemoryDatabase, MemoryNodes
from tests.engines import virtual_environment

T = TypeVar("T")


class Line:
    """The port `Nodes` of one node: `delay_s` before each call, or cut, where nothing answers."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._nodes = MemoryNodes(database)
        self.delay_s = 0.0
        self.is_refused = False
        self.hangs_until: trio.Event | None = None
        self.calls = 0

    async def _through(self, call: Callable[[], Awaitable[T]]) -> T:
        self.calls += 1
        await trio.sleep(self.delay_s)
        if self.hangs_until is not None:
            await self.hangs_until.wait()
        if self.is_refused:
            raise StoreUnavailable("cut by a test", nothing_written=True)
        return await call()

    async def join(self, node: NewNode) -> Beat:
        return await self._through(lambda: self._nodes.join(node))

    async def beat(
        self,
        node_id: UUID,
        *,
        link: LinkState = LinkState.UP,
        trips: Mapping[UUID, float] | None = None,
    ) -> Beat:
        return await self._through(lambda: self._nodes.beat(node_id, link=link, trips=trips))

    async def survey(self) -> Survey:
        return await self._through(self._nodes.survey)

    async def set_state(self, node_id: UUID, state: NodeState) -> bool:
        return await self._through(lambda: self._nodes.set_state(node_id, state))

    async def claim(self, node_id: UUID, wanted: Mapping[int, int]) -> Mapping[int, int]:
        return await self._through(lambda: self._nodes.claim(node_id, wanted))

    async def hand_over(self, node_id: UUID, shard: int, epoch: int, to: UUID) -> int | None:
        return await self._through(lambda: self._nodes.hand_over(node_id, shard, epoch, to))

    async def release(self, node_id: UUID, shards: Mapping[int, int]) -> int:
        return await self._through(lambda: self._nodes.release(node_id, shards))

    async def purge(self, limit: int = 1000) -> int:
        return await self._through(lambda: self._nodes.purge(limit))


@dataclass
class OneNode:
    """One node: what it knows, its line to the database, and the actor."""

    member: Member
    line: Line
    link: list[LinkState] = field(default_factory=lambda: [LinkState.UP])
    ref: AnyRef | None = None
    link_state: Callable[[], LinkState] | None = None

    @property
    def owned(self) -> set[int]:
        """The shards that it may begin something in."""
        return {s for s in self.member.holding.epochs if self.member.holding.token_of(s)}


class SomeNodes:
    """Nodes of one cluster, by name."""

    def __init__(self, system: System, shards: int) -> None:
        self.system, self.shards = system, shards
        self.env = virtual_environment()
        self.database = MemoryDatabase(now=self.env.clock.now)
        self.all: dict[str, OneNode] = {}
        # What those that start from now on tell of their secret.
        self.marks = SecretMarks()

    def __getitem__(self, name: str) -> OneNode:
        return self.all[name]

    def clock_of(self, name: str) -> Callable[[], float]:
        """The clock of a node, which a test may stop."""
        return trio.current_time

    async def start(self, name: str) -> OneNode:
        member = Member(self.clock_of(name), self.shards)
        self.all[name] = OneNode(member, Line(self.database))
        return await self.start_again(name)

    async def start_again(self, name: str) -> OneNode:
        """As its supervisor does after a crash: another incarnation, which knows what it knew."""
        node = self.all[name]
        made = partial(
            ClusterNode,
            node.line,
            node.member,
            Identity(name, "1", marks=self.marks),
            self.env,
            link=lambda: node.link[-1] if node.link_state is None else node.link_state(),
        )
        node.ref = await self.system.start(made)
        return node

    def owned(self) -> dict[str, set[int]]:
        return {name: node.owned for name, node in self.all.items()}

    def is_shared_out(self, *names: str) -> bool:
        """Whether all shards are owned by these, fairly, and by nobody else."""
        counts = {name: len(shards) for name, shards in self.owned().items() if shards}
        fair = max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
        return counts.keys() == set(names) and sum(counts.values()) == self.shards and fair

    async def until(self, is_so: Callable[[], bool], within_s: float = 60.0) -> float:
        """Wait in virtual time; gives how long it took."""
        began = trio.current_time()
        with trio.fail_after(within_s):
            while not is_so():  # noqa: ASYNC110  (of several things, most set no event)
                await trio.sleep(0.05)
        return trio.current_time() - began


@asynccontextmanager
async def some_nodes(*names: str, shards: int = 16) -> AsyncIterator[SomeNodes]:
    """Call this for nodes that are up and have shared the shards out."""
    async with open_actors() as system:
        nodes = SomeNodes(system, shards)
        for name in names:
            await nodes.start(name)
        await nodes.until(lambda: nodes.is_shared_out(*names))
        yield nodes
