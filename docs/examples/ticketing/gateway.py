"""Who moves the money: the port, and a simulator that answers as banks do, late or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import trio

ANSWER_S = 0.1


@dataclass(frozen=True)
class Charged:
    transaction: str


@dataclass(frozen=True)
class Declined:
    reason: str


class Gateway(Protocol):
    """Each call may be made again with the same name, and moves money once.

    TimeoutError: it may have been done. The same call again tells what it was.
    """

    async def charge(self, name: str, cents: int, token: str) -> Charged | Declined:
        """Call this to take money; `token` stands for the card."""
        ...

    async def settle(self, name: str) -> Charged | Declined:
        """Call this to make an end to a charge: what was not taken by now never will be."""
        ...

    async def refund(self, name: str, transaction: str, cents: int) -> None:
        """Call this to give money back, all of a transaction or a part."""
        ...


DECLINES = {
    "tok_declined": "the card was declined",
    "tok_insufficient": "there is too little money",
    "tok_invalid": "the card is unknown",
}
# The money is taken, and the first answer is lost.
TIMES_OUT = "tok_timeout"


@dataclass
class SimulatedGateway:
    """A bank in memory: what it has taken and given back, by name."""

    taken: dict[str, int] = field(default_factory=dict)
    given_back: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    async def charge(self, name: str, cents: int, token: str) -> Charged | Declined:
        await trio.sleep(ANSWER_S)
        if name not in self.taken and name in self.ended:
            return Declined("the charge was called off")
        if token in DECLINES:
            return Declined(DECLINES[token])
        is_new = name not in self.taken
        self.taken.setdefault(name, cents)
        if is_new and token == TIMES_OUT:
            raise TimeoutError
        return Charged(f"txn {name}")

    async def settle(self, name: str) -> Charged | Declined:
        await trio.sleep(ANSWER_S)
        self.ended.add(name)
        return Charged(f"txn {name}") if name in self.taken else Declined("it was not charged")

    async def refund(self, name: str, transaction: str, cents: int) -> None:
        await trio.sleep(ANSWER_S)
        self.given_back.setdefault(name, cents)
