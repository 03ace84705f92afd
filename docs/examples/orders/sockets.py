"""The topic of orders: what is told on it, and the commands it takes."""

from __future__ import annotations

import msgspec

from actors.persistence import Refusal
from docs.examples.orders.commands import Cancel, Desk, Place, Ship
from docs.examples.orders.deciding import Happened
from docs.examples.orders.desk import TOPIC
from docs.examples.orders.shapes import (
    LENIENT,
    CancelOrder,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    ShipOrder,
    ValidationFailed,
    items_of,
    told,
)
from web.app import OwnSite, Refused, Speaker, Topic, command


def order_topics(site: OwnSite) -> list[Topic]:
    """Call this for the one topic there is; a plain connection hears it as `default`."""
    desk = Desk(site)

    async def place(asked: PlaceOrder, speaker: Speaker) -> msgspec.Struct:
        order_id = asked.order_id or desk.new_id(speaker.key)
        wanted = Place(order_id, asked.customer_id, items_of(asked.items))
        return answer(await desk.over_socket(wanted, speaker))

    async def cancel(asked: CancelOrder, speaker: Speaker) -> msgspec.Struct:
        return answer(await desk.over_socket(Cancel(asked.order_id, asked.reason), speaker))

    async def ship(asked: ShipOrder, speaker: Speaker) -> msgspec.Struct:
        return answer(await desk.over_socket(Ship(asked.order_id, asked.tracking), speaker))

    return [
        Topic(
            TOPIC,
            events=[OrderPlaced, OrderCancelled, OrderShipped, ValidationFailed],
            commands=[
                command(PlaceOrder, place, lenient=LENIENT),
                command(CancelOrder, cancel, lenient=LENIENT),
                command(ShipOrder, ship, lenient=LENIENT),
            ],
        )
    ]


def answer(found: Happened | Refusal) -> msgspec.Struct:
    """What the sender is told; a refusal, as an event of its own where the form has no codes."""
    if isinstance(found, Refusal):
        raise Refused(found.message, plain=ValidationFailed(found.message))
    return told(found)
