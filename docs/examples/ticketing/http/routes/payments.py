"""Payments: made by the customer of a reservation, given back to them or by an admin."""

from __future__ import annotations

from hashlib import sha256

from quart import Blueprint, Response, request

from actors.persistence import Refusal
from docs.examples.ticketing.http.desk import (
    PAYMENT_REFUSALS,
    Desk,
    desk_of,
    is_admin,
    signed_in,
)
from docs.examples.ticketing.http.shapes import (
    PayBody,
    RefundBody,
    cents,
    method_of,
    payment_shown,
    units,
)
from docs.examples.ticketing.payments import Refund
from web.api import (
    IdempotencyKeys,
    accepted,
    body,
    conflict,
    created,
    not_found,
    ok,
    payment_failed,
)
from web.app import OwnSite

PAYMENTS = "/api/payments"


def payment_routes(site: OwnSite) -> Blueprint:
    """Call this for the routes of one payment. A payment has the id of its reservation."""
    routes, desk = Blueprint("payments", __name__), desk_of(site)
    keys = IdempotencyKeys(site.idempotency, site.ring)

    @routes.post(PAYMENTS)
    @keys.once(required=True)
    async def pay() -> Response:
        await desk.count_attempt("pay")
        return await paid(desk, await body(PayBody))

    @routes.get(f"{PAYMENTS}/<payment_id>")
    async def look(payment_id: str) -> Response:
        return ok(payment_shown(payment_id, await desk.look_at_payment(payment_id)))

    @routes.post(f"{PAYMENTS}/<payment_id>/refund")
    @keys.once(required=True)
    async def refund(payment_id: str) -> Response:
        asked = await body(RefundBody)
        return await given_back(desk, payment_id, asked)

    return routes


def key_name() -> str:
    """The request's own key as the name of an attempt or a refund."""
    key = request.headers.get("idempotency-key", "")
    return sha256(key.encode()).hexdigest()[:32]


async def paid(desk: Desk, asked: PayBody) -> Response:
    """Take money for a reservation of who asks."""
    name = asked.reservation_id
    state = await desk.look_at_reservation(name)
    if state.data.get("customer") != str(signed_in().user_id):
        raise not_found("Reservation", name)
    if state.step("bill").phase != "done" and not state.is_over:
        raise conflict("The seats are not held yet; pay in a moment.")
    token, method = method_of(asked.payment_method)
    attempt = await desk.office.pay(name, key_name(), token, method)
    if isinstance(attempt, Refusal):
        raise PAYMENT_REFUSALS.answer(attempt)
    if attempt.status == "Failed":
        raise payment_failed(f"The card was not charged: {attempt.reason}.")
    payment = await desk.look_at_payment(name)
    assert payment.opened is not None
    told = {
        "payment_id": name,
        "reservation_id": name,
        "status": attempt.status,
        "amount": units(payment.opened.cents),
        "transaction_id": attempt.transaction or None,
    }
    at = f"{PAYMENTS}/{name}"
    if attempt.status != "Captured":
        # With the same key it is the same attempt, and tells what became of it.
        message = "The bank has not answered; ask again with the same key."
        response = accepted({**told, "message": message}, at=at)
        response.headers["retry-after"] = "1"
        return response
    return created({**told, "message": "Paid; the tickets are on their way."}, at=at)


async def given_back(desk: Desk, payment_id: str, asked: RefundBody) -> Response:
    """Give money back: all that is left, or the part that is asked for."""
    payment, who = await desk.look_at_payment(payment_id), signed_in()
    state = await desk.look_at_reservation(payment_id)
    show = await desk.look_at_show(str(state.data["show"]))
    assert show.plan is not None
    wanted = Refund(
        key_name(),
        asked.reason,
        show.plan.starts_at,
        None if asked.amount is None else cents(asked.amount, "amount"),
        by_admin=is_admin(who),
    )
    done = await desk.office.refund(payment_id, wanted)
    if isinstance(done, Refusal):
        raise PAYMENT_REFUSALS.answer(done)
    payment = await desk.look_at_payment(payment_id)
    message = "All of the money goes back; the tickets are void."
    if payment.money_kept:
        message = "A part of the money goes back; the tickets stay good."
    return ok(
        {
            "payment_id": payment_id,
            "refund_amount": units(done.cents),
            "status": {"Refunded": {"amount": done.cents}},
            "message": message,
        }
    )
