"""The simulated gateway of a site: what a bank does, kept in the store, so all processes know it.

A charge is a stream. It is taken once, ended once and given back once a name, whoever asks how
often. `SimulatedGateway` is the same in memory, for one process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import assert_never

import trio

from actors.persistence import Aggregate, AggregateRef, Decision, Refusal, event, execute
from actors.reducers import Environment
from docs.examples.ticketing.gateway import ANSWER_S, DECLINES, TIMES_OUT, Charged, Declined


@dataclass(frozen=True)
class Take:
    name: str
    cents: int


@dataclass(frozen=True)
class End:
    """What was not taken by now never will be."""


@dataclass(frozen=True)
class PayBack:
    name: str
    cents: int


@event(name="Ticketing.BankTook")
@dataclass(frozen=True)
class BankTook:
    charge: str
    cents: int


@event(name="Ticketing.BankEnded")
@dataclass(frozen=True)
class BankEnded:
    pass


@event(name="Ticketing.BankPaidBack")
@dataclass(frozen=True)
class BankPaidBack:
    charge: str
    cents: int


Command = Take | End | PayBack
Happened = BankTook | BankEnded | BankPaidBack


@dataclass(frozen=True)
class Charge:
    taken: int = 0
    is_ended: bool = False
    back: frozenset[str] = frozenset()


class Charges(Aggregate[Charge, Command, Happened]):
    category, state_type = "bank", Charge

    def initial(self) -> Charge:
        return Charge()

    def decide(self, state: Charge, command: Command, env: Environment) -> Decision[Happened]:
        match command:
            case Take() if state.taken:
                return []
            case Take() if state.is_ended:
                return Refusal("ended", "the charge was called off")
            case Take(name, cents):
                return [BankTook(name, cents)]
            case End():
                return [] if state.is_ended else [BankEnded()]
            case PayBack(name, cents):
                return [] if name in state.back else [BankPaidBack(name, cents)]
        assert_never(command)

    def apply(self, state: Charge, event: Happened) -> Charge:
        match event:
            case BankTook(_, cents):
                return replace(state, taken=cents)
            case BankEnded():
                return replace(state, is_ended=True)
            case BankPaidBack(name):
                return replace(state, back=state.back | {name})
        assert_never(event)


class StoredGateway:
    """The port `Gateway`; `find` gives the actor of a charge, and `tell` hears of what was taken.

    What it tells is what a bank sends by web hook: the charge, and its transaction.
    """

    def __init__(
        self,
        find: Callable[[str], AggregateRef],
        tell: Callable[[str, Charged | Declined], None] = lambda name, said: None,
    ) -> None:
        self._find, self._tell = find, tell

    async def charge(self, name: str, cents: int, token: str) -> Charged | Declined:
        """See `Gateway.charge`."""
        await trio.sleep(ANSWER_S)
        if token in DECLINES:
            said = Declined(DECLINES[token])
            self._tell(name, said)
            return said
        done = await execute(self._charge(name), Take(name, cents))
        if isinstance(done, Refusal):
            return Declined(done.message)
        self._tell(name, Charged(_transaction(name)))
        if token == TIMES_OUT and done.events:
            raise TimeoutError
        return Charged(_transaction(name))

    async def settle(self, name: str) -> Charged | Declined:
        """See `Gateway.settle`."""
        await trio.sleep(ANSWER_S)
        ref = self._charge(name)
        await execute(ref, End())
        # One that was taken is so for good; one that was not never will be.
        done = await execute(ref, Take(name, 0))
        is_taken = not isinstance(done, Refusal)
        return Charged(_transaction(name)) if is_taken else Declined("it was not charged")

    async def refund(self, name: str, transaction: str, cents: int) -> None:
        """See `Gateway.refund`."""
        await trio.sleep(ANSWER_S)
        await execute(self._find(transaction.removeprefix("txn-")), PayBack(name, cents))

    def _charge(self, name: str) -> AggregateRef:
        return self._find(_id(name))


def _id(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:32]


def _transaction(name: str) -> str:
    return f"txn-{_id(name)}"
