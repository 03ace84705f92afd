"""Events: planned by a user, found by everybody, changed by their owner."""

from __future__ import annotations

from quart import Blueprint, Response

from docs.examples.ticketing.http.desk import SHOW_REFUSALS, Desk, desk_of, signed_in
from docs.examples.ticketing.http.shapes import ChangeBody, EventBody, cents, event_shown
from docs.examples.ticketing.shows import (
    SECTION_SEATS_MAX,
    CallOff,
    Change,
    CloseSales,
    OpenSales,
    Plan,
    Publish,
    Section,
    numbered,
)
from web.api import IdempotencyKeys, body, carry_out, created, effect_key, ok, validation
from web.app import OwnSite
from web.server import FieldProblem

EVENTS = "/api/events"
_STEPS = {"publish": Publish, "open-sales": OpenSales, "close-sales": CloseSales}


def show_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes of one event, but for its seats."""
    routes, desk = Blueprint("shows", __name__), desk_of(site)
    keys = IdempotencyKeys(site.idempotency, site.ring)

    @routes.post(EVENTS)
    @keys.once()
    async def plan() -> Response:
        owner = str(signed_in().user_id)
        asked = await body(EventBody)
        event_id = desk.new_id(effect_key())
        await carry_out(desk.show(event_id), plan_of(asked, event_id, owner), SHOW_REFUSALS)
        message = "The event is a draft; publish it, and open its sales."
        if asked.open_sales:
            await open_sales(desk, event_id, owner)
            message = "The event is planned, and its sales are open."
        return created({"event_id": event_id, "message": message}, at=f"{EVENTS}/{event_id}")

    @routes.get(f"{EVENTS}/<event_id>")
    async def look(event_id: str) -> Response:
        return ok(event_shown(event_id, await desk.look_at_show(event_id)))

    @routes.put(f"{EVENTS}/<event_id>")
    async def change(event_id: str) -> Response:
        by = str(signed_in().user_id)
        asked = await body(ChangeBody)
        wanted = Change(by, asked.title, asked.description, asked.start_time, asked.end_time)
        await carry_out(desk.show(event_id), wanted, SHOW_REFUSALS)
        return ok(event_shown(event_id, await desk.look_at_show(event_id)))

    @routes.delete(f"{EVENTS}/<event_id>")
    async def call_off(event_id: str) -> Response:
        by = str(signed_in().user_id)
        await carry_out(desk.show(event_id), CallOff(by), SHOW_REFUSALS)
        return Response(status=204)

    @routes.post(f"{EVENTS}/<event_id>/<any(publish,'open-sales','close-sales'):step>")
    async def move(event_id: str, step: str) -> Response:
        by = str(signed_in().user_id)
        await carry_out(desk.show(event_id), _STEPS[step](by), SHOW_REFUSALS)
        await desk.office.wait_followed(event_id)
        return ok(event_shown(event_id, await desk.look_at_show(event_id)))

    return routes


async def open_sales(desk: Desk, event_id: str, owner: str) -> None:
    """Call this to publish an event and open its sales; who asks next finds its seats."""
    show = await desk.look_at_show(event_id)
    # A request that comes again finds done what the one before has done.
    if show.status == "Draft":
        await carry_out(desk.show(event_id), Publish(owner), SHOW_REFUSALS)
        show = await desk.look_at_show(event_id)
    if show.status == "Published":
        await carry_out(desk.show(event_id), OpenSales(owner), SHOW_REFUSALS)
    # Nobody is told that sales are open before they are.
    await desk.office.wait_followed(event_id)


def plan_of(asked: EventBody, event_id: str, owner: str) -> Plan:
    """Call this for the plan that a body asks for; raises the answer 422."""
    price = cents(asked.price, "price")
    sections = []
    for number, one in enumerate(asked.sections):
        field = f"sections[{number}]"
        seats = tuple(one.seats or ())
        if not seats and 1 <= one.capacity <= SECTION_SEATS_MAX:
            seats = numbered(one.capacity)
        if len(seats) != one.capacity:
            problem = (
                f"a section has as many seats as its capacity, and at most {SECTION_SEATS_MAX}"
            )
            raise validation(f"{field}.capacity: {problem}", [FieldProblem(field, problem)])
        own = price if one.price is None else cents(one.price, f"{field}.price")
        sections.append(Section(one.name, seats, own))
    return Plan(
        asked.title,
        asked.description,
        asked.start_time,
        asked.end_time,
        asked.venue_name,
        asked.venue_address,
        asked.capacity,
        price,
        owner,
        tuple(sections),
        event_id,
    )
