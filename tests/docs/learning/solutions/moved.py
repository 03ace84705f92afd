"""One way to tell the event's past."""

from dataclasses import dataclass

from actors.persistence import EventTypes

TYPES = EventTypes()


@TYPES.event(version=2)
@dataclass(frozen=True)
class AddressMoved:
    street: str
    city: str
    country: str = "CH"


@TYPES.upcaster("AddressMoved.v1", "AddressMoved.v2")
def taken_apart(fields: dict[str, object]) -> dict[str, object]:
    street, _, city = str(fields["address"]).partition(", ")
    return {"street": street, "city": city}
