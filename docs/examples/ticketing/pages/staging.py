"""What an organiser does: plans an event, publishes it, opens and closes sales, calls it off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from actors.persistence import Refusal, execute
from docs.examples.ticketing.amounts import cents_of
from docs.examples.ticketing.http.desk import ID, signed_in
from docs.examples.ticketing.pages import words
from docs.examples.ticketing.pages.buying import OLD_FORM, SHOWS_LISTED, row_of
from docs.examples.ticketing.pages.front import (
    Front,
    PageRoutes,
    maybe_who,
    page_template,
    to_sign_in,
)
from docs.examples.ticketing.pages.gates import runs
from docs.examples.ticketing.reading.listing import EventRow
from docs.examples.ticketing.reading.rows import person
from docs.examples.ticketing.shows import (
    INVALID,
    SECTION_SEATS_MAX,
    SECTIONS_MAX,
    CallOff,
    Change,
    CloseSales,
    OpenSales,
    Plan,
    Publish,
    Section,
    Show,
    Shows,
    numbered,
)

_ORGANISE, _STAGING = page_template("organise"), page_template("staging")
_SECTIONS_HINT = (
    "One a line: name; how many seats; price. A row in front numbers them so: Stalls; A 1-12; 45.00"
)
_COMMANDS = {
    "publish": Publish,
    "open-sales": OpenSales,
    "close-sales": CloseSales,
    "call-off": CallOff,
}
_PUBLISH = words.StepView("publish", "Publish", "primary")
_OPEN = words.StepView("open-sales", "Open sales", "primary")
_CLOSE = words.StepView("close-sales", "Close sales")
_CALL_OFF = words.StepView(
    "call-off",
    "Call it off",
    "danger",
    "All money goes back, and no ticket is good any more.",
    "Call the event off",
)
# What can be done with an event, by its status.
_STEPS: Mapping[str, Sequence[words.StepView]] = {
    "Draft": (_PUBLISH, _CALL_OFF),
    "Published": (_OPEN, _CALL_OFF),
    "SalesOpen": (_CLOSE, _CALL_OFF),
    "SalesClosed": (_OPEN, _CALL_OFF),
}
_FIELDS = (
    words.FieldView("title", "Title"),
    words.FieldView("starts_at", "Begins (UTC)", kind="datetime-local"),
    words.FieldView("ends_at", "Ends (UTC)", kind="datetime-local"),
    words.FieldView("venue_name", "Venue"),
    words.FieldView("venue_address", "Address", is_required=False),
    words.FieldView("description", "About it", rows=3, is_required=False),
    words.FieldView("sections", "Sections", rows=3, hint=_SECTIONS_HINT),
)
_FIRST: Mapping[str, str] = {"sections": "Stalls; A 1-12; 45.00\nBalcony; 40; 25.00"}
# An evening, some weeks from now: within the time in which tickets cost less.
_WEEKS = timedelta(weeks=6)


def staging_routes(front: Front) -> Blueprint:
    """Call this for the pages of who organises."""
    routes = PageRoutes(front, "staging")
    desk = front.desk

    @routes.get("/organise")
    async def organise() -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in()
        return await organise_page(front, first_values(desk.now()))

    @routes.post("/organise")
    async def plan() -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in("/organise")
        form, owner = await request.form, str(signed_in().user_id)
        wanted = plan_of(form, owner)
        if isinstance(wanted, Plan):
            done = await execute(desk.show(wanted.show), wanted)
            if not isinstance(done, Refusal):
                return redirect(f"/organise/{wanted.show}?done=kept", 303)
            wanted = done
        return await organise_page(front, form, wanted.message, 422)

    @routes.get("/organise/<event_id>")
    async def look(event_id: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in()
        show = await desk.look_at_show(event_id)
        return await staging_page(front, show) if runs(show) else await front.nothing_here()

    @routes.post("/organise/<event_id>/change")
    async def change(event_id: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in(f"/organise/{event_id}")
        show, form = await desk.look_at_show(event_id), await request.form
        if not runs(show):
            return await front.nothing_here()
        asked = Change(
            str(signed_in().user_id), form.get("title", ""), _lines(form.get("description", ""))
        )
        done = await execute(desk.show(event_id), asked)
        if isinstance(done, Refusal):
            return await staging_page(front, show, done.message, 422)
        return redirect(f"/organise/{event_id}?done=changed", 303)

    @routes.post("/organise/<event_id>/<any('publish','open-sales','close-sales','call-off'):step>")
    async def move(event_id: str, step: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in(f"/organise/{event_id}")
        show = await desk.look_at_show(event_id)
        if not runs(show):
            return await front.nothing_here()
        done = await execute(desk.show(event_id), _COMMANDS[step](str(signed_in().user_id)))
        if isinstance(done, Refusal):
            return await staging_page(front, show, done.message, 409)
        # The outbox does it too; the page that comes next shows it done.
        await desk.office.wait_followed(event_id)
        return redirect(f"/organise/{event_id}", 303)

    return routes.blueprint


async def organise_page(
    front: Front, values: Mapping[str, str], said: str = "", status: int = 200
) -> ResponseReturnValue:
    await front.caught_up(front.events, Shows.category)
    mine = f"in/owner/{person(str(signed_in().user_id))}/"
    found = await front.events.named(mine, "events", EventRow, limit=SHOWS_LISTED)
    rows = [replace(row_of(row), path=f"/organise/{row.id}") for row in found]
    show = values.get("show", "")
    fields = [replace(field, value=values.get(field.name, "")) for field in _FIELDS]
    form = words.PlanForm(show if ID.fullmatch(show) else front.new_id(), fields)
    return await front.page(_ORGANISE, "Organise", status=status, said=said, rows=rows, form=form)


async def staging_page(
    front: Front, show: Show, said: str = "", status: int = 200
) -> ResponseReturnValue:
    plan = words.planned(show)
    page = words.StagingPage(
        f"/organise/{plan.show}",
        f"/events/{plan.show}",
        f"/gate/{plan.show}",
        plan.title,
        plan.description,
        plan.venue_name,
        words.moment(plan.starts_at),
        words.STATUS_WORDS[show.status],
        show.status == "SalesOpen",
        show.status not in ("Cancelled", "Completed"),
        _STEPS.get(show.status, ()),
    )
    panels = [f"stand:{plan.show}"]
    return await front.page(
        _STAGING, plan.title, panels=panels, status=status, said=said, page=page
    )


def first_values(now: datetime) -> Mapping[str, str]:
    """Call this for what stands in an empty form."""
    begins = (now.astimezone(UTC) + _WEEKS).replace(hour=19, minute=30)
    ends = begins + timedelta(hours=2)
    times = {"starts_at": f"{begins:%Y-%m-%dT%H:%M}", "ends_at": f"{ends:%Y-%m-%dT%H:%M}"}
    return {**_FIRST, **times}


def plan_of(form: Mapping[str, str], owner: str) -> Plan | Refusal:
    """Call this for the plan that a form asks for."""
    show = form.get("show", "")
    if ID.fullmatch(show) is None:
        return Refusal(INVALID, OLD_FORM)
    times = [_time(form.get(name, "")) for name in ("starts_at", "ends_at")]
    starts_at, ends_at = times
    if starts_at is None or ends_at is None:
        return Refusal(INVALID, "Write a time as 2030-12-31T19:30.")
    sections = sections_in(form.get("sections", ""))
    if isinstance(sections, Refusal):
        return sections
    return Plan(
        form.get("title", "").strip(),
        _lines(form.get("description", "")),
        starts_at,
        ends_at,
        form.get("venue_name", "").strip(),
        form.get("venue_address", "").strip(),
        sum(len(one.seats) for one in sections),
        min(one.price_cents for one in sections),
        owner,
        tuple(sections),
        show,
    )


def sections_in(text: str) -> Sequence[Section] | Refusal:
    """Call this for sections as an organiser writes them, one a line."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not 1 <= len(lines) <= SECTIONS_MAX:
        return Refusal(INVALID, f"An event has 1 to {SECTIONS_MAX} sections, each a line.")
    found = list[Section]()
    for line in lines:
        parts = [part.strip() for part in line.split(";")]
        seats = _seats(parts[1]) if len(parts) == 3 else ()
        cents = _cents(parts[2]) if len(parts) == 3 else None
        if not seats or cents is None:
            return Refusal(INVALID, f"This is no section: {line[:60]}. {_SECTIONS_HINT}.")
        found.append(Section(parts[0], seats, cents))
    return found


def _seats(text: str) -> tuple[str, ...]:
    """40 seats as 1 to 40; `A 1-12, B 1-10` as A1 to B10; nothing for what is neither."""
    if _is_number(text):
        return numbered(int(text)) if 1 <= int(text) <= SECTION_SEATS_MAX else ()
    names = list[str]()
    for row in text.split(","):
        letter, _, span = row.strip().rpartition(" ")
        first, _, last = span.partition("-")
        if not letter or not (_is_number(first) and _is_number(last)):
            return ()
        if not 0 <= int(last) - int(first) < SECTION_SEATS_MAX:
            return ()
        names += [f"{letter}{number}" for number in range(int(first), int(last) + 1)]
        if len(names) > SECTION_SEATS_MAX:
            return ()
    return tuple(names)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(SECTION_SEATS_MAX))


def _cents(text: str) -> int | None:
    try:
        cents = cents_of(Decimal(text)) if len(text) <= 20 else None
    except InvalidOperation:
        return None
    return None if isinstance(cents, Refusal) else cents


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text[:40])
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _lines(text: str) -> str:
    """As a browser sends them, lines end with two signs."""
    return text.replace("\r\n", "\n").strip()
