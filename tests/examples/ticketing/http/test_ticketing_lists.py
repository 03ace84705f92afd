"""What ticketing tells from rows: lists, free seats, and what was sold to whom."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from actors.persistence import live_collection
from actors.persistence.projections import runner
from docs.examples.ticketing.reading import halls, listing, sales
from docs.examples.ticketing.reading.halls import Halls
from docs.examples.ticketing.reading.listing import EventListing
from docs.examples.ticketing.reading.sales import Sales
from tests.examples.orders.orders_kit import ask, fields_at, text, told
from tests.examples.ticketing.http.ticketing_kit import (
    User,
    event_body,
    made_admin,
    open_ticketing,
    planned,
    rebuilt,
    sign_in,
)
from tests.patience import PATIENCE_S
from tests.web.cli.commanding import Commands
from web.app import OwnSite

SECTIONS = [
    {"name": "Stalls", "capacity": 2, "price": 80.0, "seats": ["A1", "A2"]},
    {"name": "Balcony", "capacity": 3},
]


async def test_what_is_sold_is_told_in_every_list(site: OwnSite) -> None:
    # EX-41, EX-47
    port = site.port
    owner, ann, bob = [await sign_in(port, f"{who}@example.com") for who in ("o", "ann", "bob")]
    event = await planned(owner, 5, sections=SECTIONS)
    stalls = await ann.bought(event, 2, section="Stalls")
    balcony = await ann.bought(event, 1, section="Balcony")
    held = await bob.reserved(event, 1, section="Balcony")
    seats = await bob.until(f"/api/events/{event}/availability", "total_available", 1)
    assert seats["sections"] == [
        {"section": "Stalls", "total_capacity": 2, "reserved": 0, "sold": 2, "available": 0},
        {"section": "Balcony", "total_capacity": 3, "reserved": 1, "sold": 1, "available": 1},
    ]
    one = await bob.get(f"/api/events/{event}/sections/Balcony/availability")
    assert one == fields_at(seats, "sections", 1)
    assert (await bob.get(f"/api/events/{event}/total-available"))["total_available"] == 1
    # At 20 % less: 2 x 64 and 1 x 40.
    sales = f"/api/analytics/events/{event}/sales"
    found = await bob.until(sales, "tickets_sold", 3)
    assert found == {
        "event_id": event,
        "total_revenue": 16800,
        "tickets_sold": 3,
        "completed_reservations": 2,
        "cancelled_reservations": 0,
        "average_ticket_price": 5600,
        "sections": [
            {"section": "Balcony", "revenue": 4000, "tickets_sold": 1},
            {"section": "Stalls", "revenue": 12800, "tickets_sold": 2},
        ],
    }
    popular = await bob.get(f"/api/analytics/events/{event}/sections/popular")
    assert fields_at(popular, "most_popular")["section"] == "Stalls"
    mine = await ann.until("/api/reservations", "total", 2)
    assert [fields_at(mine, "reservations", n)["id"] for n in (0, 1)] == [balcony, stalls]
    assert fields_at(mine, "reservations", 1) == await ann.get(f"/api/reservations/{stalls}")
    paid = await ann.get("/api/payments")
    assert fields_at(paid, "payments", 0) == await ann.get(f"/api/payments/{balcony}")
    assert (await ann.until("/api/tickets", "total", 3))["total"] == 3
    await _refunded(ann, stalls, 12800)
    await ann.until(sales, "tickets_sold", 1)
    after = await ann.get(sales)
    assert (after["total_revenue"], after["cancelled_reservations"]) == (4000, 1)
    await bob.ask(f"POST /api/reservations/{held}/cancel")
    await bob.until(f"/api/events/{event}/total-available", "total_available", 4)
    await _are_anothers(site, owner, ann, bob)


async def _refunded(user: User, payment: str, cents: int) -> None:
    body, keys = {"reason": "ill"}, {"Idempotency-Key": "r" * 16}
    reply = await user.ask(f"POST /api/payments/{payment}/refund", body, keys)
    assert fields_at(told(reply), "status", "Refunded") == {"amount": cents}


async def _are_anothers(site: OwnSite, owner: User, ann: User, bob: User) -> None:
    """Whose business it is: that of the customer, and of who runs this."""
    for path in ("revenue", "customers/top-spenders"):
        assert (await ask(site.port, f"GET /api/analytics/{path}")).status == 401
        assert (await ann.ask(f"GET /api/analytics/{path}")).status == 403
    profile = f"/api/analytics/customers/{ann.id}/profile"
    assert (await bob.ask(f"GET {profile}")).status == 403
    admin = await made_admin(site, owner)
    assert await admin.get("/api/analytics/revenue") == {
        "total_revenue": 4000,
        "total_tickets_sold": 1,
        "events_with_sales": 1,
    }
    top = await admin.get("/api/analytics/customers/top-spenders?limit=1")
    assert (top["total_customers"], fields_at(top, "customers", 0)["total_spent"]) == (1, 4000)
    assert (await admin.ask("GET /api/analytics/customers/top-spenders?limit=101")).status == 400
    for who in (ann, admin):
        told_of = await who.get(profile)
        assert (told_of["total_tickets"], told_of["favorite_section"]) == (1, "Balcony")


async def test_events_are_listed_by_status_and_owner(memory_port: int) -> None:
    # EX-40
    owner, other = [await sign_in(memory_port, f"{who}@example.com") for who in ("o", "p")]
    draft = await owner.ask("POST /api/events", event_body() | {"open_sales": False})
    name = text(told(draft), "event_id")
    assert fields_at(await owner.get(f"/api/events/{name}"))["status"] == "Draft"
    first, second = await planned(owner, title="First"), await planned(other, title="Second")
    listed = await owner.until("/api/events", "total", 2)
    assert [fields_at(listed, "events", n)["id"] for n in (0, 1)] == [second, first]
    assert fields_at(listed, "events", 1) == await owner.get(f"/api/events/{first}")
    paged = await owner.get("/api/events?page=1&page_size=1")
    assert (paged["page"], fields_at(paged, "events", 0)["id"]) == (1, first)
    assert (await owner.until("/api/events?mine=true", "total", 2))["total"] == 2
    await other.ask(f"POST /api/events/{second}/close-sales")
    closed = await owner.until("/api/events?status=SalesClosed", "total", 1)
    assert fields_at(closed, "events", 0)["title"] == "Second"
    for wrong in ("page_size=101", "page_size=0", "page=x", "status=Draft", "status=x"):
        assert (await owner.ask(f"GET /api/events?{wrong}")).status == 422, wrong


async def test_events_are_found_by_words(memory_port: int) -> None:
    # EX-40, PROJ-13: soonest first, no drafts; a limit out of range is 422, a made up cursor 400
    owner = await sign_in(memory_port, "o@example.com")
    later = await planned(owner, title="Piano recital", days=9)
    soon = await planned(owner, title="Piano and cello", days=3)
    await owner.ask("POST /api/events", event_body(title="Piano draft") | {"open_sales": False})
    closed = await planned(owner, title="Quartet")
    last = await owner.ask(f"POST /api/events/{closed}/close-sales")
    after = {"X-Greenroom-After": last.headers["x-greenroom-position"]}

    async def found(query: str) -> list[str]:
        with trio.fail_after(PATIENCE_S):
            reply = await owner.ask(f"GET /api/events/search?{query}", None, after)
            while "x-greenroom-stale" in reply.headers:
                reply = await owner.ask(f"GET /api/events/search?{query}", None, after)
        items = told(reply)["items"]
        assert isinstance(items, list)
        return [str(one["id"]) for one in items]

    assert await found("q=quartet&status=SalesClosed") == [closed]
    assert await found("q=PIANO") == [soon, later]
    assert await found("q=piano+recital") == [later]
    assert await found("q=piano&status=SalesClosed") == []
    assert await found("q=draft") == []
    first = await owner.get("/api/events/search?q=piano&limit=1")
    assert fields_at(first, "items", 0)["title"] == "Piano and cello"
    assert await found(f"q=piano&limit=1&after={first['next']}") == [later]
    for wrong, status in (("limit=0", 422), ("q=" + "x" * 201, 422), ("after=AAAA", 400)):
        assert (await owner.ask(f"GET /api/events/search?{wrong}")).status == status, wrong


READ_MODELS = {
    listing.NAME: ("events",),
    halls.NAME: ("available_seats", "seat_assignments"),
    sales.NAME: (
        *("reservations", "payments", "tickets"),
        *("sales_analytics", "sales_by_section", "customer_history"),
    ),
}


@pytest.mark.slow
async def test_rows_are_built_anew_by_a_command_while_sales_go_on(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # EX-47: each of the read models by its name; none of them loses or doubles a sale meanwhile
    monkeypatch.setattr(runner, "LOOK_S", 0.02)
    run, is_built = Commands(database_url, capsys), trio.Event()

    async def build_all() -> None:
        for name in READ_MODELS:
            words = ("projection", "rebuild", name, "--yes", "--wait")
            assert await trio.to_thread.run_sync(run, *words) == 0, run.err
        is_built.set()

    async with open_ticketing(database_url, tmp_path) as site:
        owner, ann = [await sign_in(site.port, f"{who}@example.com") for who in ("o", "ann")]
        event, bought, rows = await planned(owner, 200), 0, site.beside.projections
        serving = {name: await live_collection(rows, name) for name in READ_MODELS}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(build_all)
            while not is_built.is_set() or bought < 2:
                # Eight seats a customer: somebody else is next.
                ann = await sign_in(site.port, f"buyer-{bought}@example.com")
                await ann.bought(event, 2)
                bought += 1
        await ann.until(f"/api/analytics/events/{event}/sales", "tickets_sold", 2 * bought)
        await ann.until(f"/api/events/{event}/total-available", "total_available", 200 - 2 * bought)
        for name in READ_MODELS:
            assert await live_collection(rows, name) != serving[name]
        # Without sales, and from the begin: the same rows.
        found = await rebuilt(rows, [EventListing(), Halls(), Sales()])
        for name, models in READ_MODELS.items():
            before, after = found[name]
            assert before == after, name
            for model in models:
                assert [key for key in after if key.startswith(f"{model}/")], model
        taken = [key for key in found[halls.NAME][1] if key.startswith("seat_assignments/")]
        assert len(taken) == 2 * bought
