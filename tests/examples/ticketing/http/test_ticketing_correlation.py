"""What one request leads to carries its correlation id, through every stream and process."""

from __future__ import annotations

from uuid import uuid4

from tests.examples.ticketing.http.ticketing_kit import planned, sign_in
from web.app import OwnSite

CATEGORIES = ("reservation", "buyer", "inventory", "payment", "bank", "ticket")


async def test_all_that_a_purchase_leads_to_has_the_id_of_its_requests(site: OwnSite) -> None:
    # EX-47
    owner, ann = [await sign_in(site.port, f"{who}@example.com") for who in ("o", "ann")]
    event = await planned(owner)
    before = (await site.store.read_backwards(limit=1)).events[0].cursor
    one = str(uuid4())
    ann.headers["X-Correlation-ID"] = one
    reply = await ann.ask("GET /api/reservations")
    assert reply.headers["x-correlation-id"] == one
    await ann.bought(event, 2)
    page = await site.store.read_all(after=before, limit=1000)
    found = [stored for stored in page.events if not stored.is_system]
    assert {str(stored.stream_id).partition("-")[0] for stored in found} == {*CATEGORIES}
    others = [str(stored.stream_id) for stored in found if stored.metadata["correlation_id"] != one]
    assert others == []
