"""What was sold: of an event, of its sections, to a customer, and of all; in cents.

Rule: each of them changes by the same amount at once, so their sums are the same.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from actors.persistence import ProjectionTx
from docs.examples.ticketing.reading.rows import largest, person, put, row

RECENT_MAX = 10


class Sale(msgspec.Struct, frozen=True):
    """What is sold to whom: a reservation."""

    reservation_id: str
    event_id: str
    section: str
    customer_id: str
    at: datetime | None = None


class EventSales(msgspec.Struct, frozen=True):
    total_revenue: int = 0
    tickets_sold: int = 0
    completed_reservations: int = 0
    cancelled_reservations: int = 0


class SectionSales(msgspec.Struct, frozen=True):
    section: str
    revenue: int = 0
    tickets_sold: int = 0


class AllSales(msgspec.Struct, frozen=True):
    total_revenue: int = 0
    total_tickets_sold: int = 0
    events_with_sales: int = 0
    customers: int = 0


class Purchase(msgspec.Struct, frozen=True):
    reservation_id: str
    event_id: str
    section: str
    tickets: int
    amount: int
    at: datetime | None


class CustomerHistory(msgspec.Struct, frozen=True):
    """Tickets by event and by section; the newest purchases first."""

    customer_id: str
    total_spent: int = 0
    total_tickets: int = 0
    events: dict[str, int] = {}
    sections: dict[str, int] = {}
    recent: tuple[Purchase, ...] = ()

    @property
    def favorite_section(self) -> str | None:
        return max(self.sections, key=lambda name: (self.sections[name], name), default=None)


async def count_sold(tx: ProjectionTx, sale: Sale, cents: int, tickets: int) -> None:
    """Call this when a sale is completed, with what it came to, or less when money goes back."""
    is_new = tickets > 0
    replace = msgspec.structs.replace
    key = f"sales_analytics/{sale.event_id}"
    before = await row(tx, key, EventSales) or EventSales()
    after = replace(
        before,
        total_revenue=before.total_revenue + cents,
        tickets_sold=before.tickets_sold + tickets,
        completed_reservations=before.completed_reservations + is_new,
    )
    put(tx, key, after)
    key = f"sales_by_section/{sale.event_id}/{sale.section}"
    part = await row(tx, key, SectionSales) or SectionSales(sale.section)
    revenue, sold = part.revenue + cents, part.tickets_sold + tickets
    put(tx, key, SectionSales(sale.section, revenue, sold))
    known = await _count_customer(tx, sale, cents, tickets)
    whole = await row(tx, "all_sales", AllSales) or AllSales()
    begins = (after.tickets_sold > 0) - (before.tickets_sold > 0)
    put(
        tx,
        "all_sales",
        AllSales(
            whole.total_revenue + cents,
            whole.total_tickets_sold + tickets,
            whole.events_with_sales + begins,
            whole.customers + (not known),
        ),
    )


async def count_cancelled(tx: ProjectionTx, event_id: str) -> None:
    """Call this when a reservation was cancelled, before or after it was paid."""
    key = f"sales_analytics/{event_id}"
    before = await row(tx, key, EventSales) or EventSales()
    count = before.cancelled_reservations + 1
    put(tx, key, msgspec.structs.replace(before, cancelled_reservations=count))


async def _count_customer(tx: ProjectionTx, sale: Sale, cents: int, tickets: int) -> bool:
    """Tell whether the customer had bought before."""
    who = person(sale.customer_id)
    key = f"customer_history/{who}"
    before = await row(tx, key, CustomerHistory)
    known = before or CustomerHistory(sale.customer_id)
    recent = known.recent
    if tickets > 0:
        bought = Purchase(sale.reservation_id, sale.event_id, sale.section, tickets, cents, sale.at)
        recent = (bought, *recent)[:RECENT_MAX]
    after = CustomerHistory(
        sale.customer_id,
        known.total_spent + cents,
        known.total_tickets + tickets,
        _added(known.events, sale.event_id, tickets),
        _added(known.sections, sale.section, tickets),
        recent,
    )
    put(tx, key, after)
    if before is not None:
        tx.delete(f"spenders/{largest(before.total_spent)}/{who}")
    tx.put(f"spenders/{largest(after.total_spent)}/{who}", {"id": who})
    return before is not None


def _added(counts: dict[str, int], name: str, number: int) -> dict[str, int]:
    after = {**counts, name: counts.get(name, 0) + number}
    return {one: count for one, count in after.items() if count > 0}
