"""The HTTP API of orders: read, ask, answer."""

from __future__ import annotations

import msgspec
from quart import Blueprint, Response, request

from actors.persistence.projections.searching import Place as FoundAt
from docs.examples.asked_words import question_of
from docs.examples.orders.commands import Cancel, Desk, Place, Ship
from docs.examples.orders.listing import NAME, RECENT_MAX, STATUSES, OrderList
from docs.examples.orders.searching import FILTERS, OrdersByWords, row_of
from docs.examples.orders.searching import NAME as SEARCH_NAME
from docs.examples.orders.shapes import (
    LENIENT,
    CancelBody,
    PlaceBody,
    ShipBody,
    answered,
    items_of,
    shown,
)
from web.api import (
    IdempotencyKeys,
    Pages,
    body,
    catch_up,
    created,
    effect_key,
    not_found,
    ok,
    validation,
)
from web.app import OwnSite
from web.server import FieldProblem

ORDERS = "/api/v1/orders"
LISTED = "/api/v1/listed-orders"
# How many of the list are shown to who does not say.
RECENT = 20


def order_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes that clients of orders know."""
    routes, desk = Blueprint("orders", __name__), Desk(site)
    keys = IdempotencyKeys(site.idempotency, site.ring)

    @routes.post(ORDERS)
    @keys.once()
    async def place() -> Response:
        asked = await body(PlaceBody, lenient=LENIENT)
        order_id = desk.new_id(effect_key())
        command = Place(order_id, asked.customer_id, items_of(asked.items))
        placed = await desk.over_http(command)
        return created(answered(placed), at=f"{ORDERS}/{order_id}")

    @routes.get(f"{ORDERS}/<order_id>")
    async def look(order_id: str) -> Response:
        return ok(shown(await desk.look(order_id)))

    @routes.post(f"{ORDERS}/<order_id>/cancel")
    @keys.once()
    async def cancel(order_id: str) -> Response:
        asked = await body(CancelBody, lenient=LENIENT, when_empty=CancelBody())
        return ok(answered(await desk.over_http(Cancel(order_id, asked.reason))))

    @routes.post(f"{ORDERS}/<order_id>/ship")
    @keys.once()
    async def ship(order_id: str) -> Response:
        tracking = tracking_of(await body(ShipBody, lenient=LENIENT))
        return ok(answered(await desk.over_http(Ship(order_id, tracking))))

    return routes


def tracking_of(asked: ShipBody) -> str:
    """The number a client sent under either name; raises the answer 422 where it sent none."""
    for given in (asked.tracking, asked.tracking_number):
        if given is not msgspec.UNSET:
            return given
    raise validation("tracking: is missing", [FieldProblem("tracking", "is missing")])


def listing_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes of the list, which reads its own writes (`X-Greenroom-After`)."""
    routes, projections = Blueprint("listing", __name__), site.beside.projections
    orders = OrderList(projections)

    @routes.get(LISTED)
    async def listed() -> Response:
        await catch_up(projections, NAME)
        customer = request.args.get("customer_id")
        if customer is not None:
            return ok({"orders": await orders.customer_orders(customer)})
        return ok({"orders": await orders.recent(limit_of(request.args.get("limit")))})

    found, pages = OrdersByWords(site.searching), Pages[FoundAt](site.ring, tuple)

    @routes.get(f"{LISTED}/search")
    async def search() -> Response:
        page = pages.read()
        text, filters = question_of(request.args, FILTERS)
        await catch_up(found.store, SEARCH_NAME)
        # One more tells that there is another page.
        rows = await found.search(text, filters, page.after, page.limit + 1)
        return pages.answer(
            page, rows, lambda one: one.place, lambda one: msgspec.to_builtins(row_of(one.document))
        )

    @routes.get(f"{LISTED}/<order_id>")
    async def one(order_id: str) -> Response:
        await catch_up(projections, NAME)
        row = await orders.order(order_id)
        if row is None:
            raise not_found("Order", order_id)
        return ok(row)

    @routes.get(f"{LISTED}/counts")
    async def counts() -> Response:
        await catch_up(projections, NAME)
        return ok({status: await orders.count_by_status(status) for status in STATUSES})

    return routes


def limit_of(text: str | None) -> int:
    """The limit a client asks for; raises the answer 422 for one that is not 1 to 100."""
    if text is None:
        return RECENT
    # No longer than the largest: a thousand digits are not read.
    if text.isascii() and text.isdigit() and len(text) <= len(str(RECENT_MAX)):
        number = int(text)
        if 1 <= number <= RECENT_MAX:
            return number
    problem = f"is a number from 1 to {RECENT_MAX}"
    raise validation(f"limit: {problem}", [FieldProblem("limit", problem)])
