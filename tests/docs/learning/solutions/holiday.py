"""One way to write the holiday."""

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
    flight = step(BookFlight, undo=CancelFlight)
    room = step(BookRoom, undo=CancelRoom, timeout=5)
    car = step(RentCar, undo_when_unknown=False)
