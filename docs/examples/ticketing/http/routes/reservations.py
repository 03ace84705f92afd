"""Reservations: begun, looked at and cancelled by their customer."""

from __future__ import annotations

from datetime import datetime

import msgspec
from quart import Blueprint, Response

from actors.persistence import Idempotent, Refusal
from actors.sagas import SagaCompleted, SagaId, SagaState
from docs.examples.ticketing.http.desk import RESERVATION_REFUSALS, Desk, desk_of, signed_in
from docs.examples.ticketing.http.feed import Stands, stands_on
from docs.examples.ticketing.http.shapes import (
    ReasonBody,
    ReservationShown,
    ReserveBody,
    reservation_status,
    units,
)
from docs.examples.ticketing.reservations import Held, Reservation, Reserve
from docs.examples.ticketing.sections import HoldSeats, quantity_refusal
from docs.examples.ticketing.shows import sections_of
from web.api import (
    IdempotencyKeys,
    accepted,
    body,
    conflict,
    created,
    effect_key,
    not_found,
    ok,
    wait_milestone,
)
from web.app import OwnSite

RESERVATIONS = "/api/reservations"
# Not decided yet.
_OPEN = ("Initiated", "SeatsReserved")


def reservation_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes of one reservation."""
    routes, desk = Blueprint("reservations", __name__), desk_of(site)
    keys = IdempotencyKeys(site.idempotency, site.ring)

    @routes.post(RESERVATIONS)
    @keys.once()
    async def reserve() -> Response:
        await desk.count_attempt("reserve")
        asked = await body(ReserveBody)
        show = await desk.look_at_show(asked.event_id)
        assert show.plan is not None
        if asked.section not in (one.name for one in sections_of(show.plan)):
            raise not_found("Section", asked.section)
        return await begin(desk, asked, effect_key())

    @routes.get(f"{RESERVATIONS}/<reservation_id>")
    async def look(reservation_id: str) -> Response:
        return ok(await shown(desk, reservation_id))

    @routes.post(f"{RESERVATIONS}/<reservation_id>/cancel")
    @keys.once()
    async def cancel(reservation_id: str) -> Response:
        asked = await body(ReasonBody, when_empty=ReasonBody())
        await desk.look_at_reservation(reservation_id)
        by = str(signed_in().user_id)
        refused = await desk.office.cancel(reservation_id, by, asked.reason or "no reason given")
        if refused is not None:
            raise RESERVATION_REFUSALS.answer(refused)
        message = "The reservation is cancelled; its seats are free for others."
        return ok({"reservation_id": reservation_id, "status": "Cancelled", "message": message})

    return routes


async def begin(desk: Desk, asked: ReserveBody, key: Idempotent | None) -> Response:
    """Begin a reservation, and wait until its seats are held or refused."""
    name, customer = desk.new_id(key), str(signed_in().user_id)
    saga = SagaId.of(Reservation.kind, name)

    async def start() -> None:
        hold = HoldSeats(
            name, asked.event_id, asked.section, asked.quantity, tuple(asked.specific_seats)
        )
        refused = quantity_refusal(asked.quantity, asked.specific_seats)
        # One that comes again with its key may hold the very seats that are taken.
        refused = refused or (await desk.office.why_not(hold) if key is None else None)
        if refused is not None:
            raise RESERVATION_REFUSALS.answer(refused)
        begun = await desk.office.reserve(
            name, asked.event_id, asked.section, customer, asked.quantity, asked.specific_seats
        )
        if isinstance(begun, Refusal):
            raise RESERVATION_REFUSALS.answer(begun)

    def decided(told: object) -> Stands | None:
        return told if isinstance(told, Stands) and told.word not in _OPEN else None

    topics = desk.site.system.topics
    found = await wait_milestone(topics, stands_on(name), start, decided)
    state = await desk.office.sagas.query(saga)
    word = await desk.office.status(saga) if found is None else found.word
    expires_at = msgspec.convert(state.data, Reserve, str_keys=True).expires_at
    told = {"reservation_id": name, "status": word, "expires_at": expires_at}
    at = f"{RESERVATIONS}/{name}"
    if word in _OPEN:
        message = "It is not decided yet; look again in a moment."
        return accepted({**told, "status": "Initiated", "message": message}, at=at)
    if word == "Failed":
        raise conflict(why(state))
    message = "The seats are held for you; pay before they are given to others."
    return created({**told, "message": message}, at=at)


def why(state: SagaState) -> str:
    """What stopped a reservation, without the step that did."""
    _, _, reason = state.reason.partition(": ")
    return reason or state.reason


async def shown(desk: Desk, reservation_id: str) -> ReservationShown:
    """A reservation as its log tells it; raises the answer 404."""
    await desk.look_at_reservation(reservation_id)
    saga = SagaId.of(Reservation.kind, reservation_id)
    history = await desk.office.sagas.history(saga)
    state = history.state
    asked: Reserve = msgspec.convert(state.data, Reserve, str_keys=True)
    held = state.step("hold")
    cents = None
    if held.phase == "done":
        cents = msgspec.convert(held.result, Held, str_keys=True).cents
    done: list[datetime] = [at for at, one in history.events if isinstance(one, SagaCompleted)]
    assert state.started_at is not None
    return ReservationShown(
        reservation_id,
        asked.show,
        asked.customer,
        asked.section,
        asked.quantity,
        reservation_status(await desk.office.status(saga), why(state)),
        None if cents is None else units(cents),
        asked.expires_at,
        state.started_at,
        done[0] if done else None,
    )
