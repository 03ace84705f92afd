"""Check-in at a gate, on a telephone or with a reader that types: green, red, or already in."""

from __future__ import annotations

from quart import Blueprint, request
from quart.typing import ResponseReturnValue

from actors.persistence import Refusal, execute
from docs.examples.ticketing import tickets
from docs.examples.ticketing.pages import words
from docs.examples.ticketing.pages.front import (
    Front,
    PageRoutes,
    maybe_who,
    page_template,
    to_sign_in,
)
from docs.examples.ticketing.shows import Show
from docs.examples.ticketing.tickets import CheckIn

_GATE = page_template("gate")


def gate_routes(front: Front) -> Blueprint:
    """Call this for the pages of who stands at a gate: the organiser of the event."""
    routes = PageRoutes(front, "gates")

    @routes.get("/gate/<event_id>")
    async def gate(event_id: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in()
        show = await front.desk.look_at_show(event_id)
        if not runs(show):
            return await front.nothing_here()
        return await gate_page(front, show, request.args.get("gate", ""))

    @routes.post("/gate/<event_id>")
    async def check(event_id: str) -> ResponseReturnValue:
        if maybe_who() is None:
            return to_sign_in()
        show, form = await front.desk.look_at_show(event_id), await request.form
        if not runs(show):
            return await front.nothing_here()
        name = form.get("gate", "").strip()
        verdict = await checked(front, show, form.get("code", "").strip(), name)
        return await gate_page(front, show, name, verdict)

    return routes.blueprint


def runs(show: Show) -> bool:
    """Call this for whether who asks has planned the event."""
    who = maybe_who()
    return who is not None and words.planned(show).owner == str(who.user_id)


async def gate_page(
    front: Front, show: Show, gate: str, verdict: words.VerdictView | None = None
) -> ResponseReturnValue:
    plan = words.planned(show)
    page = words.GatePage(f"/gate/{plan.show}", plan.title, gate[: tickets.GATE_CHARS_MAX], verdict)
    title = f"{verdict.word}: check-in" if verdict is not None else "Check-in"
    return await front.page(_GATE, title, uses_camera=True, page=page)


async def checked(front: Front, show: Show, code: str, gate: str) -> words.VerdictView:
    """Let one in, or say why not; of two gates at once one lets them in."""
    claims = front.desk.options.tickets.read(code)
    if claims is None:
        return words.VerdictView("bad", "No", "This is no ticket of ours.")
    if claims.show != words.planned(show).show:
        return words.VerdictView("bad", "No", "This ticket is for another event.")
    ref = front.desk.office.find().tickets[claims.ticket]
    done = await execute(ref, CheckIn(claims, gate))
    if not isinstance(done, Refusal):
        return words.VerdictView("good", "Welcome", f"Seat {claims.seat}")
    if done.code == tickets.USED:
        return words.VerdictView("used", "Already in", done.message)
    return words.VerdictView("bad", "No", done.message)
