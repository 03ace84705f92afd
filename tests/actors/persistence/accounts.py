"""An aggregate for tests: an account that never goes below zero."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from actors.persistence import Aggregate, Decision, EventTypes, Refusal, Reply
from actors.reducers import Environment

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class Deposited:
    amount: int


@TYPES.event(name="MoneyWithdrawn", version=2)
@dataclass(frozen=True)
class Withdrawn:
    amount: int
    reason: str = ""


@TYPES.upcaster("MoneyWithdrawn.v1", "MoneyWithdrawn.v2")
def _amount_was_a_text(fields: dict[str, object]) -> dict[str, object]:
    return {**fields, "amount": int(str(fields["amount"]))}


@dataclass(frozen=True)
class Deposit:
    amount: int


@dataclass(frozen=True)
class Withdraw:
    amount: int


@dataclass(frozen=True)
class HowMuch:
    pass


@dataclass(frozen=True)
class Balance:
    amount: int
    changes: int = 0


Command = Deposit | Withdraw | HowMuch


class Account(Aggregate[Balance, Command, Deposited | Withdrawn]):
    category = "account"
    state_type = Balance
    snapshot_every = 5
    types = TYPES

    def initial(self) -> Balance:
        return Balance(0)

    def decide(
        self, state: Balance, command: Command, env: Environment
    ) -> Decision[Deposited | Withdrawn]:
        match command:
            case Deposit(amount):
                return [Deposited(amount)]
            case Withdraw(amount) if amount > state.amount:
                return Refusal("too_little", f"there are only {state.amount}")
            case Withdraw(amount):
                return [Withdrawn(amount)]
            case HowMuch():
                return Reply(state.amount)

    def apply(self, state: Balance, event: Deposited | Withdrawn) -> Balance:
        change = event.amount if isinstance(event, Deposited) else -event.amount
        return Balance(state.amount + change, state.changes + 1)


@dataclass
class FixedIds:
    made: int = 0

    def new_id(self) -> UUID:
        self.made += 1
        return UUID(int=self.made << 64 | self.made)


@dataclass
class SetClock:
    at: datetime = field(default_factory=lambda: datetime(2025, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def environment() -> Environment:
    return Environment(clock=SetClock(), ids=FixedIds())
