"""A node of a shop: tills that own their streams, a projection, the bus, checkouts as sagas.

What runs once runs as a singleton of the cluster. Its buyers and askers never stop: what they are
told is printed, so that it is known after a kill.
"""

from __future__ import annotations

import os
import signal
from collections import Counter as Counts
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import cast
from uuid import uuid4

import trio

from actors.cluster import Cluster, Host, HostActor, LinkActor, MakeSingleton, Member, made
from actors.persistence import (
    AggregateActor,
    AppendRequest,
    DueTimer,
    Fenced,
    OutboxEntry,
    OutboxRelay,
    ProjectionRunner,
    Shard,
    TimerService,
    execute,
)
from actors.persistence.beside_log.outbox import PARTITIONS
from actors.persistence.bus import (
    BusUnavailable,
    Guard,
    Received,
    Record,
    SubscribeOptions,
    SubscriptionActor,
    bus_message,
    publisher,
)
from actors.reducers import Environment
from actors.runtime import Actor, ActorExited, Batch, Shutdown
from actors.sagas import SagaActor, SagaIndex, SagaKinds, SagaParts, Sagas
from docs.examples.checkout import (
    Checkout,
    InitiateCheckout,
    Inventory,
    Orders,
    Payments,
    Shop,
    StockCame,
)
from docs.examples.checkout import Counter as Participants
from storage.bus import PostgresBus
from storage.postgres import (
    Database,
    PostgresDeadLetters,
    PostgresEventStore,
    PostgresOutbox,
    PostgresProjections,
    PostgresTimers,
    migrate,
    open_database,
)
from storage.testing.projections.filling import paid
from storage.testing.projections.parts import PARTS, Receipts
from storage.testing.samples import new_event
from supervision import (
    ChildSpec,
    Dynamic,
    DynamicFlags,
    Flags,
    Plan,
    Supervisor,
    dynamic_method,
    open_system,
)
from tests.nodes.shop.words import (
    ANSWERED,
    ASK_S,
    COUNTED,
    GROUP,
    LATE,
    LATE_TICKS,
    NOTED,
    STORIES,
    TICK_S,
    TILLS,
    TOPIC,
    TOPIC_PARTITIONS,
    Pay,
    ledger_stream,
    till_stream,
)
from web.app.clustering import SiteNode, frame_keys, node_of
from web.app.linking import NodeLink, link_of
from web.settings import Settings, read_settings
from web.wiring.directory import Directory
from web.wiring.environment import SystemClock, SystemIds
from web.wiring.frame.finding import OWNED

ASKERS, ASK_EVERY_S, BUY_EVERY_S, HAND_OVER_S_MAX = 4, 0.2, 2.0, 3.0


class Till(Actor[Pay]):
    """Stores what is paid, under its shard's epoch; ends where that is another's."""

    batch_max = 64

    def __init__(self, store: PostgresEventStore, id_: str, token: Shard) -> None:
        self._store, self._id, self._token = store, id_, token

    async def on_pay(self, asks: Batch[Pay]) -> None:
        """Store what waits, with one append."""
        stream, waiting = till_stream(self._id), list(asks)
        events = paid(*(one.message.amount for one in waiting))
        out = [bus_message(TOPIC, Record.of_append(stream, 1, event)) for event in events]
        request = AppendRequest(stream, events, outbox=out, shard=self._token)
        try:
            done = await self._store.append_request(request)
        except Fenced as error:
            over = Shutdown(error.code)
            for one in waiting:
                one.fail(ActorExited(self.ref.path, over, Pay))
            self.stop(over)
            return
        for at, one in enumerate(waiting):
            one.reply(done.first_version + at)


@dataclass
class World:
    """The ports of one node."""

    database: Database
    store: PostgresEventStore
    bus: PostgresBus
    env: Environment
    name: str


class Checkouts(Supervisor):
    """The sagas of this node, and what their steps are done by."""

    def __init__(self, world: World, parts: SagaParts, found: list[Checkouts]) -> None:
        self._store, self._env, self._parts = world.store, world.env, parts
        found[:] = [self]

    @dynamic_method(key="key", restart="transient")
    def sagas(self, key: str) -> SagaActor:
        return SagaActor(self._parts, key)

    @dynamic_method(key="order_id", restart="transient")
    def orders(self, order_id: str) -> AggregateActor:  # type: ignore[type-arg]
        return AggregateActor(Orders(), order_id, self._store, self._env)

    @dynamic_method(key="order_id", restart="transient")
    def payments(self, order_id: str) -> AggregateActor:  # type: ignore[type-arg]
        return AggregateActor(Payments(), order_id, self._store, self._env)

    @dynamic_method(key="house", restart="transient")
    def inventory(self, house: str) -> AggregateActor:  # type: ignore[type-arg]
        return AggregateActor(Inventory(), house, self._store, self._env)


class Node(Supervisor):
    """All of it: `parts` are made once the actors can be found."""

    def __init__(self, directory: Directory, specs: Callable[[], list[ChildSpec]]) -> None:
        self._directory, self._specs = directory, specs

    def plan(self) -> Plan:
        self._directory.attach(self.system)
        return Plan(Flags(intensity=100, period=5.0), self._specs())


def _owned() -> Dynamic[object]:
    return Dynamic(DynamicFlags(), ChildSpec("owned", made, restart="transient"))


def singletons(world: World, member: Member, sagas: Sagas) -> Mapping[str, MakeSingleton]:
    """Call this for what the cluster runs once."""
    outbox, timers = PostgresOutbox(world.database), PostgresTimers(world.database)
    letters, views = PostgresDeadLetters(world.database), PostgresProjections(world.database)
    publish = publisher(world.bus)

    async def send(entry: OutboxEntry) -> None:
        await (sagas.send(entry) if sagas.takes_message(entry) else publish(entry))

    async def deliver(timer: DueTimer) -> bool:
        return await sagas.deliver(timer)

    def relay(part: int, token: Shard) -> OutboxRelay:
        owner = f"{world.name}-{uuid4()}"
        return OutboxRelay(
            outbox, send, world.env, owner, dead_letters=letters, partitions=[part],
            keys_at_once=16, shard=member.lease(token),
        )  # fmt: skip

    def clock(token: Shard) -> TimerService:
        return TimerService(timers, deliver, world.env, str(uuid4()), shard=member.lease(token))

    def runner(part: int, _token: Shard) -> ProjectionRunner:
        return ProjectionRunner(Receipts(), world.store, views, partition=part)

    return {
        **{f"outbox-{part}": partial(relay, part) for part in range(PARTITIONS)},
        **{f"receipts-{part}": partial(runner, part) for part in range(PARTS)},
        "timers": clock,
    }


def ledger(world: World) -> SubscriptionActor:
    """Call this for who notes each record of the bus, once behind its inbox."""

    async def note(received: Received) -> None:
        id_ = received.record.event_id
        event = new_event(str(id_).encode(), type=NOTED)
        stream = ledger_stream(received.partition)
        await world.store.append_request(AppendRequest(stream, [event], inbox=(GROUP, id_)))

    return SubscriptionActor(world.bus, [TOPIC], GROUP, note, SubscribeOptions(Guard.INBOX))


class Askers:
    """Ask tills all the time, and see to it that each ask ends."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._random, self._ticks = cluster, Random(), 0
        self._open: dict[int, int] = {}
        self.ends = Counts[str]()

    async def tick(self) -> None:
        """Count the time that this process lives, and look for asks that should have ended."""
        most = round(ASK_S / TICK_S) + LATE_TICKS
        while True:
            await trio.sleep(TICK_S)
            self._ticks += 1
            for amount, since in self._open.items():
                if self._ticks - since == most:
                    print(LATE, amount, flush=True)
            if self._ticks % 20 == 0:
                print(COUNTED, *(f"{name}={n}" for name, n in self.ends.items()), flush=True)

    async def ask(self) -> None:
        """Pay at one till after the other."""
        while True:
            await trio.sleep(ASK_EVERY_S * self._random.uniform(0.5, 1.5))
            id_, amount = str(self._random.randrange(TILLS)), self._random.getrandbits(52)
            self._open[amount] = self._ticks
            try:
                await self._cluster.ref("till", id_, Till).ask(Pay(amount), ASK_S)
            except Exception as error:  # noqa: BLE001  (which it is, is counted)
                self.ends[type(error).__name__] += 1
            else:
                self.ends[ANSWERED] += 1
                print(ANSWERED, id_, amount, flush=True)
            del self._open[amount]


async def buy(world: World, sagas: Sagas, found: list[Checkouts]) -> None:
    """Begin one checkout after the other; what is begun goes on by itself, here or elsewhere."""
    count = 0
    while True:
        await trio.sleep(BUY_EVERY_S)
        story = STORIES[count % len(STORIES)]
        number = f"{story}-{world.name}-{uuid4().hex}"
        count += 1
        cents, chairs = 500_000 if story == "poor" else 500, 9 if story == "sold" else 1
        order = InitiateCheckout(number, "ann", cents, {f"chair {number}": chairs})
        with suppress(Exception):
            await execute(found[0].inventory["main"], StockCame({f"chair {number}": 2}))
            await sagas.start(Checkout, order, name=number)


async def declared(bus: PostgresBus) -> None:
    """Have the topic, once the database is there."""
    while True:
        with suppress(BusUnavailable):
            await bus.purge()
            return await bus.declare(TOPIC, TOPIC_PARTITIONS)
        await trio.sleep(1)


@dataclass
class Parts:
    """What a node is put together of."""

    world: World
    node: SiteNode
    link: NodeLink
    settings: Settings


async def serve(parts: Parts) -> None:
    """Be a node until told to stop; then hand over."""
    world, node, link = parts.world, parts.node, parts.link
    directory, found = Directory(), list[Checkouts]()
    saga_parts = SagaParts(SagaKinds(Checkout), world.store, world.env)
    participants = Participants(lambda: cast("Shop", found[0]))
    letters = PostgresDeadLetters(world.database)
    sagas = Sagas(saga_parts, participants.saga, participants.participants, dead_letters=letters)
    host = Host(
        node.member,
        directory.owned,
        kinds={"till": partial(Till, world.store)},
        singletons=singletons(world, node.member, sagas),
    )
    clusters: list[Cluster] = []

    def specs() -> list[ChildSpec]:
        clusters.append(
            Cluster(
                directory.system, node.member, host, link.link,
                name=parts.settings.cluster_name, keys=frame_keys(parts.settings),
                wall=SystemClock().now,
            )
        )  # fmt: skip
        return [
            ChildSpec("checkouts", partial(Checkouts, world, saga_parts, found), type="supervisor"),
            ChildSpec("link", link.make),
            ChildSpec("messages", partial(LinkActor, clusters[0])),
            ChildSpec("node", partial(node.make, clusters[0].link_state)),
            ChildSpec("owned", _owned, name=OWNED, type="supervisor"),
            ChildSpec("host", partial(HostActor, host)),
            ChildSpec("ledger", partial(ledger, world)),
        ]

    async with open_system(Node, directory, specs), trio.open_nursery() as nursery:
        print(f"shop is at http://127.0.0.1:{os.getpid()}", flush=True)
        # One that is quiet only ends what others have begun.
        if "QUIET" not in os.environ:
            askers = Askers(clusters[0])
            nursery.start_soon(askers.tick)
            for _ in range(ASKERS):
                nursery.start_soon(askers.ask)
            nursery.start_soon(buy, world, sagas, found)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await anext(signals)
        nursery.cancel_scope.cancel()
        with trio.move_on_after(HAND_OVER_S_MAX, shield=True):
            await node.member.hand_over()


async def main() -> None:
    """Call this to be a node with the settings of the environment."""
    settings = read_settings(os.environ)
    assert settings.database_url is not None
    async with open_database(settings.database_url.reveal(), part="node-shop") as database:
        await migrate(database)
        node, link = node_of(settings, database), link_of(settings)
        assert node is not None
        assert link is not None
        store = PostgresEventStore(database, inline=[SagaIndex()])
        bus, env = PostgresBus(database), Environment(SystemClock(), SystemIds())
        await declared(bus)
        world = World(database, store, bus, env, settings.node_name or "node")
        await serve(Parts(world, node, link, settings))


if __name__ == "__main__":
    trio.run(main)
