"""What is read from rows: lists, free seats, and what was sold; behind the log by a moment.

Who sends the position of a command as `X-Greenroom-After` reads what it wrote.
"""

from __future__ import annotations

import msgspec
from quart import Blueprint, Response, request

from actors.persistence import live_collection
from actors.persistence.projections.searching import Place
from docs.examples.asked_words import question_of
from docs.examples.ticketing.http.desk import Desk, desk_of, is_admin, signed_in
from docs.examples.ticketing.http.routes.payments import PAYMENTS
from docs.examples.ticketing.http.routes.reservations import RESERVATIONS
from docs.examples.ticketing.http.routes.shows import EVENTS
from docs.examples.ticketing.http.routes.tickets import TICKETS
from docs.examples.ticketing.http.shapes import (
    EventShown,
    PaymentShown,
    ReservationShown,
    SectionShown,
    Status,
    reservation_status,
    units,
)
from docs.examples.ticketing.reading import finding, halls, listing, sales
from docs.examples.ticketing.reading.halls import SectionRow, section_key
from docs.examples.ticketing.reading.ledger import (
    AllSales,
    CustomerHistory,
    EventSales,
    SectionSales,
)
from docs.examples.ticketing.reading.listing import LISTED, Count, EventRow
from docs.examples.ticketing.reading.rows import Rows, person
from docs.examples.ticketing.reading.sales import PaymentRow, ReservationRow, TicketRow
from docs.examples.ticketing.shows import SECTIONS_MAX, sections_of
from web.api import Pages, bad_request, catch_up, forbidden, not_found, ok, validation
from web.app import OwnSite
from web.server import FieldProblem

ANALYTICS = "/api/analytics"
PAGE_SIZE, PAGE_SIZE_MAX = 20, 100
# Nobody turns so many pages; what is looked for so far behind is found otherwise.
PAGES_MAX = 1000
OWN_MAX = 100
_STATUSES = ("Draft", "Published", "SalesOpen", "SalesClosed", "Completed", "Cancelled")


class TicketListed(msgspec.Struct, frozen=True):
    """A ticket as the list of its owner has it."""

    id: str
    reservation_id: str
    event_id: str
    section: str
    seat: str
    owner: str
    is_void: bool

    @classmethod
    def of(cls, row: TicketRow) -> TicketListed:
        return msgspec.convert(row, cls, from_attributes=True)


def list_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes that read rows."""
    routes, desk = Blueprint("lists", __name__), desk_of(site)
    store = site.beside.projections
    events, sold = Rows(store, listing.NAME), Rows(store, sales.NAME)

    @routes.get(EVENTS)
    async def listed() -> Response:
        await catch_up(store, listing.NAME)
        return ok(await events_page(events))

    @routes.get(RESERVATIONS)
    async def reservations() -> Response:
        who = str(signed_in().user_id)
        await catch_up(store, sales.NAME)
        found = await sold.named(
            f"reservations_of/{person(who)}/", "reservations", ReservationRow, limit=OWN_MAX
        )
        return ok({"reservations": [reservation_listed(one) for one in found], "total": len(found)})

    @routes.get(PAYMENTS)
    async def payments() -> Response:
        who = str(signed_in().user_id)
        await catch_up(store, sales.NAME)
        found = await sold.named(
            f"payments_of/{person(who)}/", "payments", PaymentRow, limit=OWN_MAX
        )
        return ok({"payments": [payment_listed(one) for one in found], "total": len(found)})

    @routes.get(TICKETS)
    async def tickets() -> Response:
        who = str(signed_in().user_id)
        await catch_up(store, sales.NAME)
        found = await sold.named(f"tickets_of/{person(who)}/", "tickets", TicketRow, limit=OWN_MAX)
        listed = [TicketListed.of(one) for one in found]
        return ok({"tickets": listed, "total": len(listed)})

    _search(routes, site)
    _seats(routes, desk, Rows(store, halls.NAME))
    _analytics(routes, desk, sold)
    return routes


def _search(routes: Blueprint, site: OwnSite) -> None:
    searching, cursors = site.searching, Pages[Place](site.ring, tuple)

    @routes.get(f"{EVENTS}/search")
    async def search() -> Response:
        page = cursors.read()
        text, filters = question_of(request.args, finding.FILTERS)
        await catch_up(searching.projections, finding.NAME)
        collection = await live_collection(searching.projections, finding.NAME)
        asked = {**filters, **finding.LISTED_ONLY}
        # One more tells that there is another page.
        found = (
            []
            if collection is None
            else await searching.by_words.search(
                collection, text, filters=asked, after=page.after, limit=page.limit + 1
            )
        )
        return cursors.answer(
            page, found, lambda one: one.place, lambda one: _event(finding.event_of(one.document))
        )


def _seats(routes: Blueprint, desk: Desk, rows: Rows) -> None:
    store = desk.site.beside.projections

    @routes.get(f"{EVENTS}/<event_id>/availability")
    async def availability(event_id: str) -> Response:
        await catch_up(store, halls.NAME)
        found = await seats_of(desk, rows, event_id)
        total = sum(one.available for one in found)
        return ok({"event_id": event_id, "sections": found, "total_available": total})

    @routes.get(f"{EVENTS}/<event_id>/total-available")
    async def total_available(event_id: str) -> Response:
        await catch_up(store, halls.NAME)
        found = await seats_of(desk, rows, event_id)
        total = sum(one.available for one in found)
        return ok({"event_id": event_id, "total_available": total})

    @routes.get(f"{EVENTS}/<event_id>/sections/<section>/availability")
    async def section_availability(event_id: str, section: str) -> Response:
        await catch_up(store, halls.NAME)
        for one in await seats_of(desk, rows, event_id):
            if one.section == section:
                return ok(one)
        raise not_found("Section", section)


def _analytics(routes: Blueprint, desk: Desk, rows: Rows) -> None:
    store = desk.site.beside.projections

    @routes.get(f"{ANALYTICS}/events/<event_id>/sales")
    async def event_sales(event_id: str) -> Response:
        await catch_up(store, sales.NAME)
        await desk.look_at_show(event_id)
        found = await rows.one(f"sales_analytics/{event_id}", EventSales) or EventSales()
        parts = await _parts(rows, event_id)
        average = found.total_revenue // found.tickets_sold if found.tickets_sold else 0
        return ok(
            {
                "event_id": event_id,
                **msgspec.to_builtins(found),
                "average_ticket_price": average,
                "sections": parts,
            }
        )

    @routes.get(f"{ANALYTICS}/events/<event_id>/sections/popular")
    async def popular(event_id: str) -> Response:
        await catch_up(store, sales.NAME)
        await desk.look_at_show(event_id)
        parts = [one for one in await _parts(rows, event_id) if one.tickets_sold]
        most = max(parts, key=lambda one: one.tickets_sold, default=None)
        highest = max(parts, key=lambda one: one.revenue, default=None)
        return ok({"event_id": event_id, "most_popular": most, "highest_revenue": highest})

    @routes.get(f"{ANALYTICS}/revenue")
    async def revenue() -> Response:
        admin_only()
        await catch_up(store, sales.NAME)
        found = await rows.one("all_sales", AllSales) or AllSales()
        return ok(
            {
                "total_revenue": found.total_revenue,
                "total_tickets_sold": found.total_tickets_sold,
                "events_with_sales": found.events_with_sales,
            }
        )

    @routes.get(f"{ANALYTICS}/customers/top-spenders")
    async def top_spenders() -> Response:
        admin_only()
        limit = number_of("limit", 10)
        if not 1 <= limit <= OWN_MAX:
            raise bad_request(f"limit is 1 to {OWN_MAX}.")
        await catch_up(store, sales.NAME)
        found = await rows.named("spenders/", "customer_history", CustomerHistory, limit=limit)
        whole = await rows.one("all_sales", AllSales) or AllSales()
        told = [
            {
                "customer_id": one.customer_id,
                "total_spent": one.total_spent,
                "total_tickets": one.total_tickets,
                "events_attended": len(one.events),
                "favorite_section": one.favorite_section,
            }
            for one in found
        ]
        return ok({"customers": told, "total_customers": whole.customers})

    @routes.get(f"{ANALYTICS}/customers/<customer_id>/profile")
    async def profile(customer_id: str) -> Response:
        who = signed_in()
        if customer_id != str(who.user_id) and not is_admin(who):
            raise forbidden("Only the customer, and who runs this, may read that.")
        await catch_up(store, sales.NAME)
        found = await rows.one(f"customer_history/{person(customer_id)}", CustomerHistory)
        found = found or CustomerHistory(customer_id)
        return ok(
            {
                "customer_id": customer_id,
                "total_spent": found.total_spent,
                "total_tickets": found.total_tickets,
                "events_attended": list(found.events),
                "favorite_section": found.favorite_section,
                "recent_purchases": found.recent,
            }
        )


def admin_only() -> None:
    """Raises the answer 401 for a guest, 403 for whoever does not run this."""
    if not is_admin(signed_in()):
        raise forbidden("Only who runs this may read that.")


def number_of(name: str, usual: int) -> int:
    """Call this for a number of the query; raises the answer 422 for what is none."""
    text = request.args.get(name)
    if text is None:
        return usual
    # No longer than any of them: a thousand digits are not read.
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise validation(f"{name}: is a number", [FieldProblem(name, "is a number")])
    return int(text)


async def events_page(rows: Rows) -> dict[str, object]:
    """The page of events that is asked for; `mine` are those of who asks, drafts too."""
    page, size = number_of("page", 0), number_of("page_size", PAGE_SIZE)
    if not 1 <= size <= PAGE_SIZE_MAX or page > PAGES_MAX:
        problem = f"page is at most {PAGES_MAX}, page_size 1 to {PAGE_SIZE_MAX}"
        raise validation(problem, [FieldProblem("page_size", problem)])
    status = request.args.get("status", "")
    name = f"status/{status}" if status else LISTED
    if request.args.get("mine") == "true":
        name = f"owner/{person(str(signed_in().user_id))}"
    elif status and (status not in _STATUSES or status == "Draft"):
        problem = f"is one of {', '.join(_STATUSES[1:])}"
        raise validation(f"status: {problem}", [FieldProblem("status", problem)])
    found = await rows.named(f"in/{name}/", "events", EventRow, limit=size, skip=page * size)
    count = await rows.one(f"count/{name}", Count)
    return {
        "events": [_event(one) for one in found],
        "total": count.count if count else 0,
        "page": page,
        "page_size": size,
    }


def _event(one: EventRow) -> EventShown:
    return msgspec.convert(one, EventShown, from_attributes=True)


async def seats_of(desk: Desk, rows: Rows, event_id: str) -> list[SectionShown]:
    """The seats of each section, in the order of the plan; raises the answer 404."""
    show = await desk.look_at_show(event_id)
    assert show.plan is not None
    found = await rows.below(section_key(event_id, ""), SectionRow, limit=SECTIONS_MAX)
    known = {one.section: one for one in found}
    told = []
    for part in sections_of(show.plan):
        one = known.get(part.name) or SectionRow(event_id, part.name, len(part.seats))
        told.append(
            SectionShown(part.name, one.total_capacity, one.reserved, one.sold, one.available)
        )
    return told


async def _parts(rows: Rows, event_id: str) -> list[SectionSales]:
    prefix = f"sales_by_section/{event_id}/"
    return [*await rows.below(prefix, SectionSales, limit=SECTIONS_MAX)]


def reservation_listed(one: ReservationRow) -> ReservationShown:
    """Call this for a reservation as its list tells it."""
    return ReservationShown(
        one.id,
        one.event_id,
        one.customer_id,
        one.section,
        one.quantity,
        reservation_status(one.status, one.reason.partition(": ")[2] or one.reason),
        None if one.cents is None else units(one.cents),
        one.expires_at,
        one.created_at,
        one.completed_at,
    )


def payment_listed(one: PaymentRow) -> PaymentShown:
    """Call this for a payment as its list tells it."""
    status: Status = "Pending"
    if one.kept and one.back < one.cents:
        status = "Captured"
    elif one.money_in:
        status = {"Refunded": {"amount": one.back or one.money_in}}
    elif one.is_closed or one.refused:
        status = {"Failed": {"reason": one.refused or "it was not paid in time"}}
    return PaymentShown(
        one.id,
        one.id,
        one.customer_id,
        units(one.cents),
        one.method,
        status,
        one.transaction or None,
        one.created_at,
        one.processed_at,
    )
