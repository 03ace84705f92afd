"""A holiday: a flight, a room, a car. All of it, or nothing.

Write `Holiday`, a saga with three steps in this order: `flight`, `room`, `car`. A flight that was
booked is cancelled by `CancelFlight`, a room by `CancelRoom`; a car needs no undo, it is the last
step. A room takes its time: nobody waits for its answer longer than 5 seconds.
"""

from dataclasses import dataclass

from actors.sagas import Saga, command, step


@dataclass(frozen=True)
class Wish:
    holiday_id: str


@command("flights")
@dataclass(frozen=True)
class BookFlight:
    holiday_id: str


@command("flights")
@dataclass(frozen=True)
class CancelFlight:
    holiday_id: str


@command("hotels")
@dataclass(frozen=True)
class BookRoom:
    holiday_id: str


@command("hotels")
@dataclass(frozen=True)
class CancelRoom:
    holiday_id: str


@command("cars")
@dataclass(frozen=True)
class RentCar:
    holiday_id: str


class Holiday(Saga[Wish]):
    car = step(RentCar, undo_when_unknown=False)
