"""An event of years ago, read as the class of today.

`AddressMoved` was stored as `{"address": "1 High Street, Bern"}`. Today it has a street and a city,
and since last month a country, which is "CH" for all that is stored without one. Write what leads
from the former shape to this one: what is stored is never changed.
"""

from dataclasses import dataclass

from actors.persistence import EventTypes

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class AddressMoved:
    street: str
    city: str
    country: str
