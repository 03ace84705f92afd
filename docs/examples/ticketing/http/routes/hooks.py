"""Where the gateway says by itself what became of a payment: before its answer, after, or twice."""

from __future__ import annotations

from hashlib import sha256

from quart import Blueprint, Response, request

from actors.persistence import Idempotent, Refusal
from docs.examples.ticketing.http.desk import ID, PAYMENT_REFUSALS, Desk, desk_of
from docs.examples.ticketing.http.hooks import HEADER, PATH, Hook, is_signed
from docs.examples.ticketing.payments import NoteAuthorized, NoteCaptured, NoteDeclined
from web.api import body, not_found, ok, unauthorized
from web.api.reading import raw_body
from web.app import OwnSite


def hook_routes(site: OwnSite) -> Blueprint:
    """Call this for the one route there is."""
    routes, desk = Blueprint("hooks", __name__), desk_of(site)

    @routes.post(PATH)
    async def hear() -> Response:
        data, given = await raw_body(), request.headers.get(HEADER, "")
        if not is_signed(desk.options.hooks, given, data, desk.now().timestamp()):
            raise unauthorized("The signature is none of ours, or older than five minutes.")
        await heard(desk, await body(Hook), sha256(data).digest())
        return ok({"received": True})

    return routes


async def heard(desk: Desk, hook: Hook, digest: bytes) -> None:
    """Note what is said; raises the answer 404 for a charge that nobody has asked for."""
    reservation, _, attempt = hook.charge.partition(" ")
    if ID.fullmatch(reservation) is None:
        raise not_found("Charge", hook.charge)
    note: NoteAuthorized | NoteCaptured | NoteDeclined = NoteAuthorized(attempt)
    if hook.type == "payment.captured":
        note = NoteCaptured(attempt, hook.transaction)
    elif hook.type == "payment.declined":
        note = NoteDeclined(attempt, hook.reason or "declined")
    # The id of an event is kept in the append of what it led to: heard once, whoever dies when.
    key = Idempotent("ticketing hook", hook.id, digest)
    refused = await desk.office.hear(reservation, note, key)
    if isinstance(refused, Refusal):
        raise PAYMENT_REFUSALS.answer(refused)
