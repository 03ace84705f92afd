"""Seats by section as numbers, and who has which: one row a section, one a seat that is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from actors.persistence import Projection, ProjectionTx, StoredEvent
from docs.examples.ticketing.reading.rows import put, row
from docs.examples.ticketing.sections import SeatsFreed, SeatsHeld, SeatsSold, SectionSetUp

NAME = "ticketing_seats"
# Of a stream's name `inventory-SHOW-SECTION`; the id of an event is a UUID.
_SHOW_CHARS = 36


class SectionRow(msgspec.Struct, frozen=True):
    """`available = total_capacity - reserved - sold`."""

    event_id: str
    section: str
    total_capacity: int
    reserved: int = 0
    sold: int = 0

    @property
    def available(self) -> int:
        return self.total_capacity - self.reserved - self.sold


class SeatRow(msgspec.Struct, frozen=True):
    """A seat that is taken, and by which reservation."""

    seat: str
    reservation: str
    status: Literal["reserved", "sold"]


class Halls(Projection):
    """Keeps `available_seats/SHOW/SECTION` and `seat_assignments/SHOW/SECTION/SEAT`."""

    name = NAME
    handles = (SectionSetUp, SeatsHeld, SeatsSold, SeatsFreed)

    def reads(self, event: StoredEvent) -> Sequence[str]:
        """The numbers of its section."""
        return [section_key(*place_of(str(event.stream_id)))]

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        """Write what an event means for its section and its seats."""
        happened = self.types.decode(event)
        show, section = place_of(str(event.stream_id))
        key = section_key(show, section)
        numbers = await row(tx, key, SectionRow)
        if isinstance(happened, SectionSetUp):
            put(tx, key, SectionRow(show, section, len(happened.seats)))
            return
        assert isinstance(happened, SeatsHeld | SeatsSold | SeatsFreed)
        if numbers is None:
            return
        reserved, sold = numbers.reserved, numbers.sold
        for seat in happened.seats:
            place = f"seat_assignments/{show}/{section}/{seat}"
            before = await row(tx, place, SeatRow)
            reserved -= before is not None and before.status == "reserved"
            sold -= before is not None and before.status == "sold"
            match happened:
                case SeatsHeld(reservation):
                    put(tx, place, SeatRow(seat, reservation, "reserved"))
                    reserved += 1
                case SeatsSold(reservation):
                    put(tx, place, SeatRow(seat, reservation, "sold"))
                    sold += 1
                case SeatsFreed():
                    tx.delete(place)
        put(tx, key, msgspec.structs.replace(numbers, reserved=reserved, sold=sold))


def section_key(show: str, section: str) -> str:
    """Call this for the key of a section's numbers."""
    return f"available_seats/{show}/{section}"


def place_of(stream: str) -> tuple[str, str]:
    """Call this for the show and the section of a stream."""
    rest = stream.removeprefix("inventory-")
    return rest[:_SHOW_CHARS], rest[_SHOW_CHARS + 1 :]
