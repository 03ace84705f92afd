"""A checkout for tests of decisions: three steps, with typed results."""

from dataclasses import dataclass

from actors.sagas import Facts, Saga, child, command, group, step


@dataclass(frozen=True)
class Basket:
    """What is bought."""

    order_id: str
    customer_id: str
    cents: int


@dataclass(frozen=True)
class Placed:
    number: int


@dataclass(frozen=True)
class Paid:
    payment_id: str


@command("orders")
@dataclass(frozen=True)
class Place:
    order_id: str
    customer_id: str


@command("orders")
@dataclass(frozen=True)
class Unplace:
    order_id: str


@command("payments")
@dataclass(frozen=True)
class Charge:
    order_id: str
    cents: int


@command("payments")
@dataclass(frozen=True)
class Refund:
    payment_id: str
    why: str


@command("stock")
@dataclass(frozen=True)
class Reserve:
    order_id: str


@command("stock")
@dataclass(frozen=True)
class Release:
    order_id: str


def refund(facts: Facts[Basket]) -> Refund:
    """The payment to give back, by the order where nobody confirmed it."""
    kept = facts.results.get("pay")
    payment_id = kept.payment_id if isinstance(kept, Paid) else f"of {facts.data.order_id}"
    return Refund(payment_id, facts.reason)


class Purchase(Saga[Basket]):
    place = step(Place, undo=Unplace, result=Placed)
    pay = step(Charge, undo=refund, result=Paid)
    reserve = step(Reserve, undo=Release)


def same(facts: Facts[Basket]) -> Basket:
    """What the parent buys, for the child."""
    return facts.data


class Ship(Saga[Basket]):
    pack = step(Reserve, undo=Release)


class Notify(Saga[Basket]):
    tell = step(Place)


class Fulfilment(Saga[Basket]):
    """EX-31's nested variant: a payment, then shipping and notification together."""

    buy = child(Purchase, data=same)
    ship = child(Ship, data=same)
    notify = child(Notify, data=same)
    both = group(ship, notify)
