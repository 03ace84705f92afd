"""One way to write the purse."""

from dataclasses import dataclass

from actors.persistence import Aggregate, Decision, Refusal, event
from actors.reducers import Environment


@event()
@dataclass(frozen=True)
class Earned:
    cents: int


@event()
@dataclass(frozen=True)
class Spent:
    cents: int


@dataclass(frozen=True)
class Earn:
    cents: int


@dataclass(frozen=True)
class Spend:
    cents: int


class Purse(Aggregate[int, Earn | Spend, Earned | Spent]):
    category, state_type = "purse", int

    def initial(self) -> int:
        return 0

    def decide(
        self, state: int, command: Earn | Spend, env: Environment
    ) -> Decision[Earned | Spent]:
        if command.cents < 1:
            return Refusal("no_amount", "an amount is 1 cent or more")
        if isinstance(command, Earn):
            return [Earned(command.cents)]
        if command.cents > state:
            return Refusal("too_little", f"there are only {state} cents")
        return [Spent(command.cents)]

    def apply(self, state: int, event: Earned | Spent) -> int:
        return state + (event.cents if isinstance(event, Earned) else -event.cents)
