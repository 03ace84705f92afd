"""Nodes with what lives on them: actors of a kind, and singletons; in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial

import trio

from actors.cluster import Host, HostActor, MakeOwned, MakeSingleton, made
from actors.persistence import Shard, StreamId
from actors.runtime import Actor, Ask, Exit, message
from storage.memory import MemoryEventStore, MemoryNodes
from storage.testing.samples import new_events
from supervision import ChildSpec, Dynamic, DynamicFlags, open_system
from tests.actors.cluster.nodes_kit import OneNode, SomeNodes


@message
class Write(Ask[int]):
    """Append one event, after a while; answers the version."""

    after_s: float = 0.0


@message
class Leave:
    """End by yourself."""


class Room(Actor[Write]):
    def __init__(
        self, store: MemoryEventStore, log: list[str], broken: set[str], id_: str, token: Shard
    ) -> None:
        self._store, self._log, self._id, self._token = store, log, id_, token
        self._broken = broken

    def on_start(self) -> None:
        if self._id in self._broken:
            raise RuntimeError("planted")
        self._log.append(f"{self._id} begins in {self._token.epoch}")

    async def on_write(self, message: Write) -> int:
        await trio.sleep(message.after_s)
        stream = StreamId(f"room-{self._id}")
        done = await self._store.append(stream, new_events(1), shard=self._token)
        return done.version

    def on_stop(self, exit_: Exit) -> None:
        self._log.append(f"{self._id} ends in {self._token.epoch}")


class Households(SomeNodes):
    """Nodes with what lives on them."""

    def __init__(self, above: Dynamic[object]) -> None:
        super().__init__(above.system, 4)
        self.above = above
        self.hosts: dict[str, Host] = {}
        self.log: list[str] = []
        self.broken: set[str] = set()
        self.store = MemoryEventStore(self.database)

    async def settle_in(
        self,
        name: str,
        above: Dynamic[object],
        singletons: Mapping[str, MakeSingleton],
        remembered: Collection[str] = (),
    ) -> OneNode:
        node = await self.start(name)
        kinds: dict[str, MakeOwned] = {"room": partial(Room, self.store, self.log, self.broken)}
        host = Host(
            node.member,
            lambda: above,
            kinds=kinds,
            singletons=singletons,
            remembered=remembered,
            memory=MemoryNodes(self.database),
        )
        self.hosts[name] = host
        await self.system.start(partial(HostActor, host))
        return node


def _owned() -> Dynamic[object]:
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


@asynccontextmanager
async def households(
    *names: str,
    singletons: Callable[[str], dict[str, MakeSingleton]] = lambda _: {},
    remembered: Collection[str] = (),
) -> AsyncIterator[Households]:
    async with open_system(_owned) as above:
        nodes = Households(above)
        for name in names:
            await nodes.settle_in(name, above, singletons(name), remembered)
        if names and not singletons("a"):
            await nodes.until(lambda: nodes.is_shared_out(*names))
        yield nodes
