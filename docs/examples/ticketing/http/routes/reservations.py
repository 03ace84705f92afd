"""Reservations: begun, looked at and cancelled by their customer."""

from __future__ import annotations

from datetime import datetime

import msgspec
import trio
from quart import Blueprint, Response

from actors.persistence import Idempotent, Refusal
from actors.sagas import SagaCompleted, SagaId, UnknownSaga
from docs.examples.ticketing.http.desk import RESERVATION_REFUSALS, Desk, desk_of, signed_in
from docs.examples.ticketing.http.feed import Stands, stands, stands_on, why
from docs.examples.ticketing.http.shapes import (
    ReasonBody,
    ReservationShown,
    ReserveBody,
    reservation_status,
    units,
)
from docs.examples.ticketing.reading.halls import SectionRow, section_key
from docs.examples.ticketing.reading.rows import Rows
from docs.examples.ticketing.reservations import Held, Reservation, Reserve
from docs.examples.ticketing.sections import HoldSeats, quantity_refusal
from web.api import (
    IdempotencyKeys,
    accepted,
    body,
    conflict,
    created,
    effect_key,
    not_found,
    ok,
    timeout,
    unavailable,
    wait_milestone,
)
from web.app import OwnSite

RESERVATIONS = "/api/reservations"
# Not decided yet.
_OPEN = ("Initiated", "SeatsReserved")
# Of a request's ten seconds half stays for the reservation itself.
DOOR_S_MAX = 4.0


def reservation_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes of one reservation."""
    routes, desk = Blueprint("reservations", __name__), desk_of(site)
    keys = IdempotencyKeys(site.idempotency, site.ring)

    @routes.post(RESERVATIONS)
    @keys.once()
    async def reserve() -> Response:
        await desk.count_attempt("reserve")
        asked = await body(ReserveBody)
        if asked.section not in await desk.sections(asked.event_id):
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


async def _seems_full(rows: Rows, hold: HoldSeats) -> bool:
    """Whether it is worth asking before a saga is begun: by rows, so the hall has nothing to do.

    Not for one that comes again with its key: it may hold the very seats that are taken.
    """
    row = await rows.one(section_key(hold.show, hold.section), SectionRow)
    return row is not None and row.available < hold.quantity


async def begin(desk: Desk, asked: ReserveBody, key: Idempotent | None) -> Response:
    """Begin a reservation, and wait until its seats are held or refused."""
    rows = desk.seats
    name, customer = desk.new_id(key), str(signed_in().user_id)
    saga = SagaId.of(Reservation.kind, name)

    async def start() -> None:
        hold = HoldSeats(
            name, asked.event_id, asked.section, asked.quantity, tuple(asked.specific_seats)
        )
        refused = quantity_refusal(asked.quantity, asked.specific_seats)
        if refused is None and key is None and (has_waited or await _seems_full(rows, hold)):
            refused = await desk.office.why_not(hold)
        if refused is not None:
            raise RESERVATION_REFUSALS.answer(refused)
        begun = await desk.office.reserve(
            name, asked.event_id, asked.section, customer, asked.quantity, asked.specific_seats
        )
        if isinstance(begun, Refusal):
            raise RESERVATION_REFUSALS.answer(begun)

    def decided(told: object) -> Stands | None:
        return told if isinstance(told, Stands) and told.word not in _OPEN else None

    # A crowd before one section: a few at a time begin, and the others see what came of it.
    door, topics = desk.door(asked.event_id, asked.section), desk.site.system.topics
    has_waited = door.available_tokens < 1
    with trio.move_on_after(DOOR_S_MAX) as waiting:
        await door.acquire()
    if waiting.cancelled_caught:
        raise unavailable("Too many want seats here just now; nothing was begun.", 1.0)
    try:
        found = await wait_milestone(topics, stands_on(name), start, decided)
    finally:
        door.release()
    if found is None:
        try:
            found = stands(name, await desk.office.sagas.query(saga))
        except UnknownSaga:
            # Not even its beginning was kept in time; it may be, or not.
            raise timeout() from None
    word = found.word
    told = {"reservation_id": name, "status": word, "expires_at": found.expires_at}
    at = f"{RESERVATIONS}/{name}"
    if word in _OPEN:
        message = "It is not decided yet; look again in a moment."
        return accepted({**told, "status": "Initiated", "message": message}, at=at)
    if word == "Failed":
        raise conflict(found.reason)
    message = "The seats are held for you; pay before they are given to others."
    return created({**told, "message": message}, at=at)


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
