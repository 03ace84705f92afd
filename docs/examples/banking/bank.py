"""The bank at work: an actor for each account and transfer, a relay, and a clock."""

from collections.abc import Callable
from dataclasses import dataclass

from actors.persistence import (
    AggregateActor,
    AggregateRef,
    Done,
    DueTimer,
    Execute,
    Failed,
    OutboxEntry,
    OutboxRelay,
    Refusal,
    TimerService,
    execute,
)
from actors.persistence.beside_log.timers import LookForTimers
from actors.persistence.event_store import EventStore
from actors.reducers import Environment
from actors.sagas import (
    Outcome,
    Refused,
    SagaActor,
    SagaCommand,
    SagaId,
    SagaIndex,
    SagaKinds,
    SagaParts,
    Sagas,
    Succeeded,
)
from docs.examples.banking.accounts import (
    Account,
    Accounts,
    Command,
    Credit,
    Debit,
    Happened,
    TakeBack,
    TransferRefused,
    UndoDebit,
)
from docs.examples.banking.ledger import Ledger
from docs.examples.banking.transfers import MoveMoney, Transfer, transfer_refusal
from supervision import Supervisor, child_method, dynamic_method
from web.app import Beside

# Given to the store: they are written in the transaction of each append.
INLINE = (SagaIndex(), Ledger())
# What the page follows.
TOPIC = "bank"


@dataclass(frozen=True)
class Ports:
    """What of a store a bank needs; `owner` names this process among those that relay."""

    store: EventStore
    beside: Beside
    env: Environment
    owner: str


class AccountActor(AggregateActor[Account, Command, Happened]):
    """Tells on a topic that it may have stored something."""

    async def on_execute(self, message: Execute) -> Done | Refusal | Failed:
        done = await super().on_execute(message)
        if not isinstance(done, Refusal):  # after a failure what is stored may be unknown
            self.system.topics.publish(TOPIC, done)
        return done


class TransferActor(SagaActor):
    """Tells on a topic that its transfer may have gone on."""

    async def on_execute(self, message: Execute) -> Done | Refusal | Failed:
        done = await super().on_execute(message)
        self.system.topics.publish(TOPIC, done)
        return done


class Office:
    """Begins transfers, and carries out what they send; `find` gives the bank at each use."""

    def __init__(self, ports: Ports, find: Callable[[], "Bank"]) -> None:
        self.ports, self.find = ports, find
        self.parts = SagaParts(
            SagaKinds(Transfer),
            ports.store,
            ports.env,
            look_at_outbox=lambda look: find().relay.tell(look),  # noqa: PLW0108  (found late)
            look_for_timers=lambda: find().clock.tell(LookForTimers()),
        )
        self.sagas = Sagas(
            self.parts,
            self._saga,
            {"accounts": self._carry_out},
            dead_letters=ports.beside.dead_letters,
        )

    def account(self, name: str) -> AggregateRef:
        """Call this for the account of a name; raises `NoProc` while the bank is away."""
        return self.find().accounts[name]

    async def transfer(self, asked: MoveMoney) -> SagaId | Refusal:
        """Call this to begin a transfer, once for each name; raises as `Sagas.start` does."""
        refused = transfer_refusal(asked)
        return refused or await self.sagas.start(Transfer, asked, name=asked.transfer)

    # What the relay and the clock of the bank are given.

    async def send(self, entry: OutboxEntry) -> None:
        await self.sagas.send(entry)

    async def deliver(self, timer: DueTimer) -> bool:
        return await self.sagas.deliver(timer)

    def _saga(self, saga: SagaId) -> AggregateRef:
        return self.find().sagas[saga.key]

    async def _carry_out(self, command: SagaCommand) -> Outcome:
        told = command.opened()
        assert isinstance(told, Debit | UndoDebit | Credit | TakeBack)
        name = told.source if isinstance(told, Debit | UndoDebit) else told.target
        done = await execute(self.account(name), told)
        if isinstance(done, Refusal):
            return Refused(done.message)
        last = done.events[-1] if done.events else done.value
        return Refused(last.reason) if isinstance(last, TransferRefused) else Succeeded()


class Bank(Supervisor, intensity=10, period=5.0):
    def __init__(self, office: Office) -> None:
        self.office, self.ports = office, office.ports

    @dynamic_method(key="key", restart="transient")
    def sagas(self, key: str) -> SagaActor:
        return TransferActor(self.office.parts, key)

    @dynamic_method(key="name", restart="transient")
    def accounts(self, name: str) -> AggregateActor[Account, Command, Happened]:
        return AccountActor(Accounts(), name, self.ports.store, self.ports.env)

    @child_method()
    def relay(self) -> OutboxRelay:
        beside = self.ports.beside
        return OutboxRelay(
            beside.outbox,
            self.office.send,
            self.ports.env,
            self.ports.owner,
            dead_letters=beside.dead_letters,
            sends_max=64,
            keys_at_once=16,
        )

    @child_method()
    def clock(self) -> TimerService:
        ports = self.ports
        return TimerService(ports.beside.timers, self.office.deliver, ports.env, ports.owner)
