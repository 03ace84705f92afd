"""The actors of checkouts, below one supervisor: sagas, counterparts, a relay, timers, a waker.

Rule 1: each can be restarted alone. What is under way lies in the store: in logs, in the outbox,
in timers; whoever was restarted finds it there.
Rule 2: of several nodes one sends and one times, whoever owns that; nobody wakes. A node that is
gone is found out by what it left, and each shows what is a visitor's by the index.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Never, Protocol

import trio

from actors.persistence import (
    AggregateActor,
    AggregateRef,
    DeadLetters,
    Done,
    DurableTimers,
    EventStore,
    Execute,
    Failed,
    Outbox,
    OutboxRelay,
    ProjectionStore,
    Refusal,
    ShardLease,
    StoreError,
    TimerService,
)
from actors.persistence.beside_log.outbox import SAGA_PARTS, Send
from actors.reducers import Environment
from actors.runtime import Actor, Log
from actors.sagas import SagaActor, SagaId, SagaParts, Sagas, SagaState, Wake, lines
from supervision import ChildSpec, Dynamic, DynamicFlags, Flags, Plan, Supervisor
from web.lab.demos.checkout.counterparts import LabStep
from web.lab.demos.checkout.steps import Checkout

# Names they are found by.
SAGAS, STEPS, RELAY, CLOCK = "lab-sagas", "lab-steps", "lab-saga-relay", "lab-saga-clock"
# No timer of a checkout is due sooner after it was set, so that a site without any asks its store
# twice in this, and not twice a second. The waits between attempts are told (`look_for_timers`).
CLOCK_LOOK_S = 5.0
# Where several nodes serve, who hurries it may be another node than the one that times.
SHARED_LOOK_S = 1.0
# Five steps of fifty checkouts at once.
KEYS_AT_ONCE = 16
# An actor that nobody speaks to gives its memory back.
IDLE_S = 120.0
# One checkout and its five steps, of as many as may run at once (`visitors.RUNNING_MAX`), twice:
# those that are over go a little later.
SAGAS_MAX, STEPS_MAX = 1000, 5000
# At a start with a store that is away.
AWAITED_S = 2.0

_log = Log("web.lab")


class Ports(Protocol):
    """What of a store checkouts need; the store keeps the index of sagas within its appends."""

    @property
    def store(self) -> EventStore:
        """The logs."""

    @property
    def outbox(self) -> Outbox:
        """What leaves."""

    @property
    def timers(self) -> DurableTimers:
        """What is due."""

    @property
    def dead_letters(self) -> DeadLetters:
        """What was given up."""

    @property
    def index(self) -> ProjectionStore:
        """Which sagas there are."""


Told = Callable[[SagaId, SagaState], None]


class CheckoutActor(SagaActor):
    """One checkout; whoever shows it is told of every change."""

    def __init__(self, parts: SagaParts, told: Told, key: str) -> None:
        super().__init__(parts, key)
        self._told = told

    async def on_execute(self, message: Execute) -> Done | Refusal | Failed:
        """Decide and store as every saga does, then tell it."""
        outcome = await super().on_execute(message)
        if isinstance(outcome, Done):
            self._told(SagaId.of_key(self.ref.path.rpartition("/")[2]), self.state)
        return outcome


class Waker(Actor[Never]):
    """Wakes at a start the checkouts that are not over: they go on, and are seen again.

    What they wait for would wake them too; only who looks would not find them until then.
    """

    def __init__(
        self, sagas: Sagas, index: ProjectionStore, find: Callable[[str], AggregateRef]
    ) -> None:
        self._sagas, self._index, self._find = sagas, index, find

    def on_start(self) -> None:
        """Begin; nobody waits for it."""
        self.start_soon(self._wake_all)

    async def _wake_all(self) -> None:
        while True:
            try:
                async with aclosing(lines(self._index, kind=Checkout.kind, is_over=False)) as found:
                    async for line in found:
                        await self._wake(SagaId.parse(line.saga))
                return
            except StoreError:
                await trio.sleep(AWAITED_S)

    async def _wake(self, saga: SagaId) -> None:
        try:
            await self._sagas.tell(saga, Wake())
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  (one that cannot be woken keeps no other asleep)
            _log.warning("lab.checkout_not_woken", saga=str(saga), error=type(error).__name__)


class Serving:
    """Makes those who serve all checkouts; with a shard, as a node that owns them."""

    def __init__(
        self, ports: Ports, env: Environment, sagas: Sagas, sending: Callable[[Send], Send]
    ) -> None:
        self.ports, self.env, self.sagas, self._sending = ports, env, sagas, sending

    def clock(self, shard: ShardLease | None = None) -> TimerService:
        """Call this for who brings sagas their timers."""
        return TimerService(
            self.ports.timers,
            self.sagas.deliver,
            self.env,
            f"lab-{self.env.ids.new_id()}",
            dead_letters=self.ports.dead_letters,
            look_s=CLOCK_LOOK_S if shard is None else SHARED_LOOK_S,
            shard=shard,
        )

    def relay(self, shard: ShardLease | None = None) -> OutboxRelay:
        """Call this for who sends what sagas say."""
        return OutboxRelay(
            self.ports.outbox,
            self._sending(self.sagas.send),
            self.env,
            f"lab-{self.env.ids.new_id()}",
            dead_letters=self.ports.dead_letters,
            partitions=SAGA_PARTS,
            sends_max=KEYS_AT_ONCE,
            keys_at_once=KEYS_AT_ONCE,
            shard=shard,
        )


class CheckoutsSupervisor(Supervisor):
    """Restarts each alone; `is_shared`: who serves all stands elsewhere, and on one node only."""

    def __init__(
        self,
        serving: Serving,
        parts: SagaParts,
        told: Told,
        find: Callable[[str], AggregateRef],
        is_shared: bool,
    ) -> None:
        self._serving, self._parts = serving, parts
        self._told, self._find, self._is_shared = told, find, is_shared

    def plan(self) -> Plan:
        """Who is asked before who asks."""
        specs = [
            ChildSpec("steps", self._steps, name=STEPS, type="supervisor"),
            ChildSpec("sagas", self._actors, name=SAGAS, type="supervisor"),
        ]
        if not self._is_shared:
            serving = self._serving
            wake = partial(Waker, serving.sagas, serving.ports.index, self._find)
            specs += [
                ChildSpec("clock", serving.clock, name=CLOCK),
                ChildSpec("relay", serving.relay, name=RELAY),
                ChildSpec("waker", wake),
            ]
        return Plan(Flags(intensity=10, period=5.0), specs)

    def _steps(self) -> Dynamic[object]:
        template = ChildSpec("step", self._step, restart="transient")
        return Dynamic(DynamicFlags(key="step", max_children=STEPS_MAX), template)

    def _step(self, step: str) -> Actor[Never]:
        store, env = self._serving.ports.store, self._serving.env
        return AggregateActor(LabStep(), step, store, env, idle_s=IDLE_S, is_shared=True)

    def _actors(self) -> Dynamic[object]:
        make = partial(CheckoutActor, self._parts, self._told)
        template = ChildSpec("saga", make, restart="transient")
        return Dynamic(DynamicFlags(key="key", max_children=SAGAS_MAX), template)
