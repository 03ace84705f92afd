"""Nodes that reach each other: the actors, the database in memory and the link's twin, together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import trio

from actors.cluster import (
    Cluster,
    ClusterRef,
    Host,
    HostActor,
    LinkActor,
    MakeOwned,
    Member,
    NodeState,
    made,
    shard_of,
)
from actors.cluster.link import FrameKeys
from actors.persistence import Shard
from actors.runtime import Actor, AnyRef, Ask, AskTimeout, Exit, Secret, message
from storage.link import MemoryLink, MemoryLinkServer
from supervision import ChildSpec, Dynamic, DynamicFlags, open_system
from tests.actors.cluster.nodes_kit import OneNode, SomeNodes

SECRET = Secret("a secret of a test, long enough: 32 bytes")


@message(remote=True, name="test.Add")
class Add:
    """Put a number behind those that are there."""

    number: int
    by: str = ""


@message(remote=True, name="test.Seen")
class Seen(Ask[list[int]]):
    """Ask for all numbers, after a while."""

    after_s: float = 0.0


@message(remote=True, name="test.Echo")
class Echo(Ask[str]):
    """Ask for the text back."""

    text: str


@message(remote=True, name="test.Crash")
class Crash(Ask[int]):
    """Have the actor crash."""


@message(remote=True, name="test.Around")
class Around(Ask[str]):
    """Have the first of some shelves ask the next, and so on; gives how the last one ended."""

    ids: list[str]
    within_s: float


@message
class Local(Ask[int]):
    """A message that does not cross."""


AnyOfShelf: TypeAlias = Add | Seen | Echo | Crash | Around | Local


class Books:
    """What the actors of all nodes have done, for a test to look at."""

    def __init__(self) -> None:
        self.handled: dict[str, list[int]] = {}
        self.lives: list[str] = []
        # Of the node by its name, the ref of a shelf by its id.
        self.shelf_at: Callable[[str, str], ClusterRef[AnyOfShelf]]


class Shelf(Actor[AnyOfShelf]):
    """Keeps numbers; `name` is the node that it lives on."""

    def __init__(self, books: Books, name: str, id_: str, token: Shard) -> None:
        self._books, self._name, self._id, self._token = books, name, id_, token
        self._numbers = books.handled.setdefault(id_, [])

    def on_start(self) -> None:
        self._books.lives.append(f"{self._id} on {self._name}")

    def on_add(self, message: Add) -> None:
        self._numbers.append(message.number)

    async def on_seen(self, message: Seen) -> list[int]:
        await trio.sleep(message.after_s)
        return list(self._numbers)

    def on_echo(self, message: Echo) -> str:
        return message.text

    def on_crash(self, message: Crash) -> int:
        raise ValueError("as it was asked to")

    async def on_around(self, message: Around) -> str:
        if not message.ids:
            return "there"
        next_ = self._books.shelf_at(self._name, message.ids[0])
        try:
            return await next_.ask(Around(message.ids[1:], message.within_s), message.within_s)
        except AskTimeout as error:
            return type(error).__name__

    def on_local(self, message: Local) -> int:
        return 1

    def on_stop(self, exit_: Exit) -> None:
        self._books.lives.append(f"{self._id} left {self._name}")


class StoppableClock:
    """A node's clock: it stands still while the node is stopped, and then knows how long it was."""

    def __init__(self) -> None:
        self.stopped_at: float | None = None

    def __call__(self) -> float:
        return trio.current_time() if self.stopped_at is None else self.stopped_at


class StoppableLink(MemoryLink):
    """A link whose node neither hears nor sends anything while it is stopped."""

    def __init__(self, server: MemoryLinkServer, name: str) -> None:
        super().__init__(server, name)
        self.goes_on = trio.Event()

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        while self.is_stopped:
            await self.goes_on.wait()
        await super().publish(subject, data, reply=reply)

    def go_on(self) -> None:
        super().go_on()
        self.goes_on.set()
        self.goes_on = trio.Event()


@dataclass
class Talker:
    """One node with all that lives and talks on it."""

    node: OneNode
    host: Host
    link: StoppableLink
    cluster: Cluster
    actor: AnyRef
    refs: list[AnyRef] = field(default_factory=list)

    def shelf(self, id_: str) -> ClusterRef[AnyOfShelf]:
        """Call this for the ref of a shelf."""
        return self.cluster.ref("shelf", id_, Shelf)

    @property
    def is_ready(self) -> bool:
        """Whether it has been greeted by all whom it knows."""
        return all(peer.is_ready for peer in self.cluster.statistics().peers)


class Talkers(SomeNodes):
    """Nodes of one cluster, on one server of messages."""

    def __init__(self, above: Dynamic[object], shards: int) -> None:
        super().__init__(above.system, shards)
        self.above, self.books = above, Books()
        self.books.shelf_at = lambda name, id_: self.talkers[name].shelf(id_)
        self.server = MemoryLinkServer()
        self.talkers: dict[str, Talker] = {}
        self.clocks: dict[str, StoppableClock] = {}
        self.more_kinds: dict[str, Callable[[Member], MakeOwned]] = {}
        # Of those that were given another secret than the rest.
        self.keys: dict[str, FrameKeys] = {}

    def clock_of(self, name: str) -> Callable[[], float]:
        return self.clocks.setdefault(name, StoppableClock())

    def stop(self, name: str) -> None:
        """As SIGSTOP: it hears, sends and knows nothing, and its clock goes on without it."""
        self.clocks[name].stopped_at = trio.current_time()
        self.talkers[name].link.stop()
        self.all[name].line.hangs_until = trio.Event()

    def go_on(self, name: str) -> None:
        """As SIGCONT: whatever waited for it comes before anything else."""
        self.clocks[name].stopped_at = None
        self.talkers[name].link.go_on()
        hangs, self.all[name].line.hangs_until = self.all[name].line.hangs_until, None
        if hangs is not None:
            hangs.set()

    async def step_aside(self, name: str, for_s: float) -> None:
        """Have it drain and not end: what it owns is another's for a while, and some comes back."""
        node = self.all[name]
        for state, after_s in ((NodeState.DRAINING, for_s), (NodeState.UP, 0.0)):
            await node.line.set_state(node.member.node_id, state)
            for one in self.all.values():
                one.member.want_news()
            await trio.sleep(after_s)

    async def settle(self, name: str, nursery: trio.Nursery) -> Talker:
        node = await self.start(name)
        kinds: dict[str, MakeOwned] = {"shelf": partial(Shelf, self.books, name)}
        kinds |= {kind: make(node.member) for kind, make in self.more_kinds.items()}
        host = Host(node.member, lambda: self.above, kinds=kinds)
        await self.system.start(partial(HostActor, host))
        link = StoppableLink(self.server, name)
        self.server.links[name] = link
        nursery.start_soon(link.run)
        cluster = Cluster(
            self.system,
            node.member,
            host,
            link,
            name="test",
            keys=self.keys.get(name, FrameKeys("test", SECRET)),
            wall=self.env.clock.now,
        )
        node.link_state = cluster.link_state
        actor = await self.system.start(partial(LinkActor, cluster))
        talker = self.talkers[name] = Talker(node, host, link, cluster, actor)
        return talker

    async def serve_again(self, name: str) -> None:
        """As its supervisor does after a crash: another incarnation of the link's actor."""
        talker = self.talkers[name]
        talker.actor = await self.system.start(partial(LinkActor, talker.cluster))

    def id_on(self, name: str, number: int = 0, kind: str = "shelf") -> str:
        """Call this for an id of which the actor lives on a node; another for each number."""
        owned = self.all[name].owned
        fitting = (f"{n}" for n in range(100_000) if shard_of(kind, f"{n}", self.shards) in owned)
        return next(id_ for at, id_ in enumerate(fitting) if at == number)

    async def are_ready(self, *names: str) -> None:
        """Wait until all know all, and where everything is."""

        def is_so() -> bool:
            return self.is_shared_out(*names) and all(
                len(self.talkers[name].cluster.statistics().peers) == len(names) - 1
                and self.talkers[name].is_ready
                and self._knows(name)
                for name in names
            )

        await self.until(is_so)

    def _knows(self, name: str) -> bool:
        member = self.all[name].member
        return all(
            member.map.of(shard).owner == str(node.member.node_id)
            for node in self.all.values()
            for shard in node.owned
        )


def _owned() -> Dynamic[object]:
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


@asynccontextmanager
async def talkers(
    *names: str, shards: int = 8, prepare: Callable[[Talkers], None] = lambda _: None
) -> AsyncIterator[Talkers]:
    """Call this for nodes that know each other and have shared the shards out."""
    async with trio.open_nursery() as nursery:
        async with open_system(_owned) as above:
            some = Talkers(above, shards)
            prepare(some)
            for name in names:
                await some.settle(name, nursery)
            await some.are_ready(*names)
            yield some
        nursery.cancel_scope.cancel()
