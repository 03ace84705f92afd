"""Any sagas with a participant that a test plays, on the ports of a `World`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from actors.persistence import DueTimer, LookAtOutbox, OutboxEntry, OutboxRelay, TimerService
from actors.persistence.beside_log.timers import LookForTimers
from actors.sagas import (
    AnySaga,
    Outcome,
    SagaActor,
    SagaCommand,
    SagaKinds,
    SagaParts,
    Sagas,
    Succeeded,
)
from docs.examples.checkout import Deliver, Send
from supervision import Supervisor, child_method, dynamic_method, open_system
from tests.actors.sagas.shops import Plan, World


class Tree(Supervisor):
    def __init__(
        self, world: World, parts: SagaParts, send: Send, deliver: Deliver, owner: str
    ) -> None:
        self.world, self.parts, self.send, self.deliver = world, parts, send, deliver
        self.owner = owner

    @dynamic_method(key="key", restart="transient")
    def sagas(self, key: str) -> SagaActor:
        return SagaActor(self.parts, key)

    @child_method()
    def relay(self) -> OutboxRelay:
        return self.relay_actor()

    def relay_actor(self) -> OutboxRelay:
        """The relay, for a tree that sends in a way of its own."""
        ports = self.world.ports
        return OutboxRelay(
            ports.outbox,
            self.send,
            ports.env,
            self.owner,
            dead_letters=ports.dead_letters,
            sends_max=128,
            keys_at_once=32,
        )

    @child_method()
    def clock(self) -> TimerService:
        ports = self.world.ports
        return TimerService(ports.timers, self.deliver, ports.env, self.owner)


@dataclass
class Player:
    """Serves every target: notes what came, and answers as `rules` say, by step or `undo step`."""

    rules: dict[str, Callable[[SagaCommand], Outcome | None]] = field(default_factory=dict)
    got: list[SagaCommand] = field(default_factory=list)
    came: trio.Event = field(default_factory=trio.Event)

    async def __call__(self, command: SagaCommand) -> Outcome | None:
        self.got.append(command)
        self.came.set()
        self.came = trio.Event()
        name = f"undo {command.step}" if command.is_undo else command.step
        rule = self.rules.get(name)
        return Succeeded() if rule is None else rule(command)

    @property
    def told(self) -> list[str]:
        """What came, in order."""
        return [f"undo {one.step}" if one.is_undo else one.step for one in self.got]


@dataclass
class Desk:
    """Sagas that run, with what they are made of."""

    tree: Tree
    sagas: Sagas
    parts: SagaParts
    player: Player


@asynccontextmanager
async def open_desk(
    world: World,
    player: Player,
    *kinds: type[AnySaga],
    owner: str = "the-process",
    plan: Plan | None = None,
    tree: type[Tree] = Tree,
) -> AsyncIterator[Desk]:
    """Call this for a running tree with sagas of these kinds."""
    world.set_plan(Plan() if plan is None else plan)
    opened, trees = trio.Event(), list[Tree]()

    def look_at_outbox(look: LookAtOutbox) -> None:
        trees[0].relay.tell(look)

    parts = SagaParts(
        SagaKinds(*kinds),
        world.events,
        world.env,
        look_at_outbox=look_at_outbox,
        look_for_timers=lambda: trees[0].clock.tell(LookForTimers()),
    )
    sagas = Sagas(
        parts,
        lambda saga: trees[0].sagas[saga.key],
        dict.fromkeys(("orders", "payments", "stock"), player),
        dead_letters=world.dead_letters,
    )

    async def send(entry: OutboxEntry) -> None:
        await opened.wait()
        await sagas.send(entry)

    async def deliver(timer: DueTimer) -> bool:
        await opened.wait()
        return await sagas.deliver(timer)

    async with open_system(tree, world, parts, send, deliver, owner, name="tree") as opened_tree:
        trees.append(opened_tree)
        opened.set()
        yield Desk(opened_tree, sagas, parts, player)
