"""The bank at work: an actor for each account and transfer, a relay, and a clock."""

from collections.abc import Callable
from dataclasses import dataclass

from actors.persistence import (
    AggregateActor,
    AggregateRef,
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
    saga_clock,
    saga_relay,
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
            topic=TOPIC,
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
        return SagaActor(self.office.parts, key)

    @dynamic_method(key="name", restart="transient")
    def accounts(self, name: str) -> AggregateActor[Account, Command, Happened]:
        return AggregateActor(Accounts(), name, self.ports.store, self.ports.env, topic=TOPIC)

    @child_method()
    def relay(self) -> OutboxRelay:
        ports = self.ports
        return saga_relay(ports.beside, self.office.sagas.send, ports.env, ports.owner)

    @child_method()
    def clock(self) -> TimerService:
        ports = self.ports
        return saga_clock(ports.beside, self.office.sagas.deliver, ports.env, ports.owner)
