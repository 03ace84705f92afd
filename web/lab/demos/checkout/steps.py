"""The saga of the lab: an order is placed, reserved, paid, confirmed by its visitor, and sent.

Rule: nothing in it comes from a visitor but a word of `CHOICES`, and a press. It names nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from actors.sagas import Facts, Saga, command, step, wait

# How it goes: well, refused at the third step, never answered there, or each step as its visitor
# answers for whoever carries it out.
Choice: TypeAlias = Literal["well", "refused", "silent", "hand"]
CHOICES: Final[frozenset[str]] = frozenset(get_args(Choice))

# Those who are asked are actors beside it, and none takes a second. But a process that is killed
# keeps its parts of the outbox for `LEASE`, 15 s: a step that were over by then would be undone
# where it was to go on.
STEP_S: Final = 30.0
# The same, and no longer: somebody looks on while nobody answers.
SILENT_S: Final = 20.0
# Long enough to read what is asked, to crash it, and to come back to it behind a restart.
CONFIRM_S: Final = 60.0
# All steps, each with its whole time, and their undoing.
WHOLE_S: Final = 180.0


@dataclass(frozen=True)
class Order:
    """What a checkout is about: how it was asked to go."""

    choice: Choice


@command("orders", name="LabPlaceOrder")
@dataclass(frozen=True)
class PlaceOrder:
    """Take an order down."""

    choice: Choice = "well"


@command("orders", name="LabCancelOrder")
@dataclass(frozen=True)
class CancelOrder:
    """Strike it out."""


@command("stock", name="LabReserve")
@dataclass(frozen=True)
class Reserve:
    """Lay a piece aside."""

    choice: Choice = "well"


@command("stock", name="LabRelease")
@dataclass(frozen=True)
class Release:
    """Put it back."""


@command("payments", name="LabPay")
@dataclass(frozen=True)
class Pay:
    """Take the money, unless the card is refused, or nobody answers."""

    choice: Choice


@command("payments", name="LabPayBack")
@dataclass(frozen=True)
class PayBack:
    """Give back whatever was taken."""

    reason: str


@command("parcels", name="LabSend")
@dataclass(frozen=True)
class Send:
    """Send it off; this cannot be taken back, so it comes last."""

    choice: Choice = "well"


@dataclass(frozen=True)
class Confirmed:
    """The visitor has pressed Confirm."""


def pay_back(facts: Facts[Order]) -> PayBack:
    """Whether it was paid is not always known."""
    return PayBack(facts.reason)


class Checkout(Saga[Order]):
    """Five steps, and what takes back the first three."""

    kind = "lab_checkout"
    own_parts = True
    deadline_s = WHOLE_S
    place = step(PlaceOrder, undo=CancelOrder, timeout=STEP_S)
    reserve = step(Reserve, undo=Release, timeout=STEP_S)
    pay = step(Pay, undo=pay_back, timeout=SILENT_S)
    confirm = wait(Confirmed, timeout=CONFIRM_S)
    send = step(Send, timeout=STEP_S)


TITLES: Final[Mapping[str, str]] = {
    "place": "place the order",
    "reserve": "reserve a piece",
    "pay": "pay",
    "confirm": "your Confirm",
    "send": "send it",
}
