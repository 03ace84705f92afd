"""A purse, as an aggregate: what is stored are facts, and the state is made of them.

Write `decide` and `apply`. The state is what is in the purse, in cents. `Earn` stores `Earned`.
`Spend` stores `Spent`, or is refused with the code `too_little` when there is not enough. An amount
below 1 is refused with the code `no_amount`, whatever the command.
"""

from dataclasses import dataclass

from actors.persistence import Aggregate, Decision, event
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
        raise NotImplementedError

    def apply(self, state: int, event: Earned | Spent) -> int:
        raise NotImplementedError
