"""What the pages show: a frozen view for each template, and how money, times and statuses read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.accounts.ways.links import LINK_KEPT
from docs.examples.ticketing.amounts import PERCENT, Tier, amount_of, price_in, tier_at
from docs.examples.ticketing.payments import ATTEMPTS_MAX, Payment
from docs.examples.ticketing.sections import TICKETS_MAX, Seating
from docs.examples.ticketing.shows import Plan, Show, ShowStatus
from docs.examples.ticketing.tickets import Ticket
from web.views import PictureView

# A plan of more is no plan that a thumb finds a seat in; such a section gives any of its seats.
SEATS_DRAWN_MAX = 60

STATUS_WORDS: dict[ShowStatus, str] = {
    "Draft": "a draft",
    "Published": "sales open soon",
    "SalesOpen": "on sale",
    "SalesClosed": "sales are closed",
    "Completed": "is over",
    "Cancelled": "called off",
}
TIERS = {Tier.EARLY_BIRD: "early, 20 % less", Tier.LAST_MINUTE: "last minute, 10 % more"}


@dataclass(frozen=True)
class Link:
    path: str
    text: str
    is_current: bool = False


@dataclass(frozen=True)
class SeatView:
    name: str
    element_id: str
    is_free: bool


@dataclass(frozen=True)
class SectionView:
    name: str
    price: str
    tier: str
    total: int
    available: int
    free: int
    reserved: int
    sold: int
    is_first: bool
    seats: Sequence[SeatView]


@dataclass(frozen=True)
class RowView:
    """An event, a ticket or an order in a list."""

    path: str
    title: str
    when: str = ""
    iso: str = ""
    venue: str = ""
    place: str = ""
    price: str = ""
    word: str = ""
    tone: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class EventPage:
    path: str
    title: str
    description: str
    venue: str
    address: str
    when: str
    iso: str
    is_open: bool
    closed: str
    is_member: bool
    reservation: str
    quantity: int = 2
    quantities: Sequence[int] = tuple(range(1, TICKETS_MAX + 1))


@dataclass(frozen=True)
class CardView:
    value: str
    text: str


@dataclass(frozen=True)
class TicketLink:
    path: str
    seat: str


@dataclass(frozen=True)
class StateView:
    """How a reservation stands, for its customer alone."""

    word: str
    text: str
    tone: str = ""
    until: str = ""
    until_words: str = ""
    seats: str = ""
    total: str = ""
    tier: str = ""
    declined: str = ""
    tickets: Sequence[TicketLink] = ()
    is_over: bool = False


@dataclass(frozen=True)
class ReservationPage:
    path: str
    show_path: str
    title: str
    venue: str
    when: str
    iso: str
    section: str
    quantity: int
    total: str
    attempt: str
    can_pay: bool
    can_refund: bool
    cards: Sequence[CardView]


@dataclass(frozen=True)
class TicketPage:
    """`word` says why it is no good any more; then it has no code."""

    path: str
    title: str
    venue: str
    when: str
    iso: str
    section: str
    seat: str
    word: str
    code: str
    picture: PictureView | None
    to: str = ""
    problem: str = ""


@dataclass(frozen=True)
class VerdictView:
    tone: str
    word: str
    text: str


@dataclass(frozen=True)
class GatePage:
    path: str
    title: str
    gate: str
    verdict: VerdictView | None = None


@dataclass(frozen=True)
class SignInPage:
    next: str
    email: str = ""
    problem: str = ""
    sent: str = ""
    is_printed: bool = False
    minutes: int = int(LINK_KEPT.total_seconds()) // 60


@dataclass(frozen=True)
class EnterPage:
    path: str
    token: str
    next: str


@dataclass(frozen=True)
class PlainPage:
    status: int
    title: str
    text: str


@dataclass(frozen=True)
class FieldView:
    name: str
    label: str
    value: str = ""
    kind: str = "text"
    rows: int = 0
    hint: str = ""
    is_required: bool = True
    problem: str = ""


@dataclass(frozen=True)
class PlanForm:
    show: str
    fields: Sequence[FieldView]


@dataclass(frozen=True)
class StepView:
    """What can be done next; with a hint it stands behind it, for it cannot be undone."""

    name: str
    text: str
    tone: str = ""
    hint: str = ""
    button: str = ""


@dataclass(frozen=True)
class StagingPage:
    path: str
    show_path: str
    gate_path: str
    title: str
    description: str
    venue: str
    when: str
    word: str
    is_open: bool
    can_change: bool
    steps: Sequence[StepView]


def money(cents: int) -> str:
    """Call this for an amount as a person reads it."""
    return f"{amount_of(cents):,}"


def moment(at: datetime) -> str:
    """Call this for a time as a person reads it; in UTC, for a page is the same to everybody."""
    at = at.astimezone(UTC)
    return f"{at:%a} {at.day} {at:%b %Y, %H:%M} UTC"


def clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M} UTC"


def is_open(show: Show, now: datetime) -> bool:
    """Call this for whether its seats can be bought now."""
    return show.status == "SalesOpen" and show.plan is not None and now < show.plan.starts_at


def closed_words(show: Show, now: datetime) -> str:
    if show.plan is not None and now >= show.plan.starts_at and show.status == "SalesOpen":
        return "It has begun; nothing is sold any more."
    return {
        "Published": "Sales are not open yet.",
        "SalesClosed": "Sales are closed.",
        "Cancelled": "It was called off. Who has paid gets the money back.",
        "Completed": "It is over.",
    }.get(show.status, "")


def section_view(number: int, name: str, seating: Seating, now: datetime) -> SectionView:
    """Call this for a section as it is now; `number` counts from 1."""
    assert seating.starts_at is not None
    tier, free = tier_at(now, seating.starts_at), frozenset(seating.free)
    drawn = seating.seats if seating.total <= SEATS_DRAWN_MAX else ()
    return SectionView(
        name,
        money(price_in(tier, seating.price_cents)),
        "" if PERCENT[tier] == 100 else TIERS[tier],
        seating.total,
        seating.available if seating.is_on_sale else 0,
        seating.available,
        seating.reserved,
        seating.sold_count,
        False,
        [
            SeatView(seat, f"seat-{number}-{place}", seating.is_on_sale and seat in free)
            for place, seat in enumerate(drawn, 1)
        ],
    )


def event_page(
    show: Show, reservation: str, now: datetime, *, is_member: bool, quantity: int = 2
) -> EventPage:
    plan = planned(show)
    return EventPage(
        f"/events/{plan.show}",
        plan.title,
        plan.description,
        plan.venue_name,
        plan.venue_address,
        moment(plan.starts_at),
        plan.starts_at.isoformat(),
        is_open(show, now),
        closed_words(show, now),
        is_member,
        reservation,
        quantity,
    )


def planned(show: Show) -> Plan:
    assert show.plan is not None, "it was looked at before"
    return show.plan


def why_not_good(ticket: Ticket) -> str:
    """Call this for why a ticket lets nobody in any more, or nothing."""
    if ticket.is_void:
        return "This ticket was taken back."
    if ticket.came_in is not None:
        return f"It came in at {clock(ticket.came_in.at)}, gate {ticket.came_in.gate}."
    return ""


_STATES = {
    "Initiated": ("One moment.", "Your seats are asked for."),
    "SeatsReserved": ("One moment.", "Your seats are held."),
    "PaymentPending": ("Held for you.", "Pay before the time is over, or others get the seats."),
    "PaymentCompleted": ("Paid.", "Your tickets are made."),
    "Completed": ("Yours.", "Your tickets are below; one of them shown at a gate lets one in."),
    "Failed": ("Not held.", ""),
    "Expired": ("Too late.", "The five minutes are over, and the seats are free for others."),
    "Cancelled": ("Over.", "The seats are free for others; money that was paid goes back."),
    "PaymentFailed": ("Not paid.", "The seats are given back."),
    "Compensated": ("Not paid.", "The seats were given back, and nothing was kept of your money."),
}
_GOOD, _BAD = ("PaymentCompleted", "Completed"), ("Failed", "Expired", "Compensated")


def state_words(status: str, why: str) -> tuple[str, str, str]:
    """Call this for a status in a word, a sentence and a tone."""
    word, text = _STATES.get(status, (status, ""))
    if status == "Failed":
        text = why
    tone = "tone-good" if status in _GOOD else "tone-bad" if status in _BAD else ""
    return word, text, tone


def declined_words(payment: Payment) -> str:
    """Call this for what came of the attempts to pay that were in vain, or nothing."""
    last = next(reversed([*payment.attempts.values()]), None)
    if last is None or last.status == "Captured" or payment.is_closed:
        return ""
    if last.status != "Failed":
        return "The bank has not answered yet. Pay again: it is the same attempt."
    left = ATTEMPTS_MAX - payment.declined_count
    more = f"{left} more {'try' if left == 1 else 'tries'}." if left else "That was the last try."
    return f"The card was not charged: {last.reason}. {more}"
