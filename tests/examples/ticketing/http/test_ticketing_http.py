"""The HTTP API of ticketing: a sale from the plan to the gate, and every no on the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from docs.examples.ticketing.shows import SECTION_SEATS_MAX
from tests.examples.orders.orders_kit import ask, fields_at, text, told
from tests.examples.ticketing.http.ticketing_kit import (
    CARD,
    User,
    event_body,
    planned,
    sign_in,
)

NOWHERE = str(uuid4())


async def test_a_sale_from_the_plan_to_the_gate(port: int) -> None:
    # EX-40, EX-42, EX-44, EX-50
    owner, ann, bob = [await sign_in(port, f"{who}@example.com") for who in ("o", "ann", "bob")]
    event = await planned(owner)
    shown = await ann.get(f"/api/events/{event}")
    assert (shown["title"], shown["status"]) == ("Jazz", "SalesOpen")
    name = await ann.bought(event, 2)
    # 40 days before: an early price.
    reservation = await ann.get(f"/api/reservations/{name}")
    assert (reservation["total_amount"], reservation["section"]) == (80.0, "General")
    assert reservation["completed_at"] is not None
    payment = await ann.get(f"/api/payments/{name}")
    assert (payment["status"], payment["payment_method"]) == ("Captured", "Credit Card (****4242)")
    refused = await bob.reserve(event, 2)
    assert refused.status == 409
    assert told(refused)["message"] == "Sold out: there are 1 of 2 seats."
    # Nobody learns what others have.
    for path in (f"reservations/{name}", f"payments/{name}", f"tickets/{name}-1"):
        assert (await bob.ask(f"GET /api/{path}")).status == 404
    ticket = await ann.get(f"/api/tickets/{name}-1")
    gate = {"code": ticket["code"], "gate": "B"}
    assert (await ann.ask(f"POST /api/tickets/{name}-1/check-in", gate)).status == 403
    assert (await owner.ask(f"POST /api/tickets/{name}-1/check-in", gate)).status == 200
    again = await owner.ask(f"POST /api/tickets/{name}-1/check-in", gate)
    assert again.status == 409
    assert "gate B" in text(told(again), "message")
    forged = {**gate, "code": text(ticket, "code")[:-1] + "_"}
    assert (await owner.ask(f"POST /api/tickets/{name}-1/check-in", forged)).status == 404
    # The other one is Bob's from now on; Ann's code of it lets nobody in.
    former = await ann.get(f"/api/tickets/{name}-2")
    passed = await ann.ask(f"POST /api/tickets/{name}-2/pass-on", {"email": "bob@example.com"})
    assert passed.status == 200, passed.body
    assert (await ann.ask(f"GET /api/tickets/{name}-2")).status == 404
    stale = {"code": former["code"], "gate": "B"}
    assert (await owner.ask(f"POST /api/tickets/{name}-2/check-in", stale)).status == 409
    assert (await bob.get(f"/api/tickets/{name}-2"))["code"] != former["code"]


async def test_an_event_that_is_called_off_gives_all_money_back(port: int) -> None:
    # EX-40, EX-44
    owner, ann, bob = [await sign_in(port, f"{who}@example.com") for who in ("o", "ann", "bob")]
    event = await planned(owner)
    paid, held = await ann.bought(event, 2), await bob.reserved(event)
    assert (await ann.ask(f"DELETE /api/events/{event}")).status == 403
    assert (await owner.ask(f"DELETE /api/events/{event}")).status == 204
    await ann.until(f"/api/reservations/{paid}", "status", "Cancelled")
    await ann.until(f"/api/payments/{paid}", "status", {"Refunded": {"amount": 8000}})
    await ann.until(f"/api/tickets/{paid}-1", "status", "Void")
    await bob.until(f"/api/reservations/{held}", "status", "Cancelled")
    assert (await bob.pay(held)).status == 409
    assert (await bob.reserve(event)).status == 409
    assert (await bob.get(f"/api/events/{event}"))["status"] == "Cancelled"


async def test_refunds_are_for_captured_money_once_and_in_time(memory_port: int) -> None:
    # EX-44
    owner, ann = [await sign_in(memory_port, f"{who}@example.com") for who in ("o", "ann")]
    soon, later = await planned(owner, days=6), await planned(owner)
    late, name = await ann.bought(soon), await ann.bought(later, 2)

    async def refund(payment: str, key: str, **body: object) -> tuple[int, dict[str, object]]:
        keys = {"Idempotency-Key": key}
        reply = await ann.ask(f"POST /api/payments/{payment}/refund", body, keys)
        return reply.status, told(reply)

    assert (await refund(late, "k" * 16, reason="ill"))[0] == 400
    assert (await refund(name, "a" * 16))[0] == 400
    assert (await refund(name, "b" * 16, reason="ill", amount=80.01))[0] == 400
    assert (await refund(name, "c" * 16, reason="ill", amount=0))[0] == 400
    assert (await refund(name, "d" * 16, reason="ill", amount=1.005))[0] == 422
    for _ in range(2):
        status, part = await refund(name, "e" * 16, reason="one is ill", amount=30)
        assert (status, part["refund_amount"]) == (200, 30.0)
    assert (await ann.get(f"/api/payments/{name}"))["status"] == "Captured"
    assert (await ann.get(f"/api/tickets/{name}-1"))["status"] == "Valid"
    status, rest = await refund(name, "f" * 16, reason="all are ill")
    assert (status, rest["status"]) == (200, {"Refunded": {"amount": 5000}})
    await ann.until(f"/api/tickets/{name}-2", "status", "Void")
    await ann.until(f"/api/reservations/{name}", "status", "Cancelled")
    bare = await ann.ask(f"POST /api/payments/{name}/refund", {"reason": "ill"})
    assert bare.status == 400, "a refund has a key"


async def test_cards_are_declined_and_answers_are_lost(memory_port: int) -> None:
    # EX-42
    owner, ann = [await sign_in(memory_port, f"{who}@example.com") for who in ("o", "ann")]
    event = await planned(owner, 2)
    first = await ann.reserved(event)
    lost = await ann.pay(first, "tok_timeout", "k" * 16)
    assert (lost.status, told(lost)["status"]) == (202, "Pending")
    found = await ann.pay(first, "tok_timeout", "k" * 16)
    assert (found.status, told(found)["status"]) == (201, "Captured")
    assert (await ann.pay(first)).status == 409, "it is paid already"
    second = await ann.reserved(event)
    for card in ("tok_declined", "tok_insufficient", "tok_invalid"):
        declined = await ann.pay(second, card)
        assert (declined.status, told(declined)["code"]) == (402, "PAYMENT_FAILED")
    await ann.until(f"/api/reservations/{second}", "status", "Compensated")
    assert (await ann.pay(second)).status == 409
    assert fields_at((await ann.get(f"/api/payments/{second}"))["status"], "Failed")


async def test_a_customer_holds_little_and_cancels_what_they_hold(memory_port: int) -> None:
    # EX-48
    owner, ann = [await sign_in(memory_port, f"{who}@example.com") for who in ("o", "ann")]
    event = await planned(owner, 20)
    first, _ = await ann.reserved(event), await ann.reserved(event)
    third = await ann.reserve(event)
    assert (third.status, "at most 2 pending" in text(told(third), "message")) == (409, True)
    cancelled = await ann.ask(f"POST /api/reservations/{first}/cancel", {"reason": "no time"})
    assert (cancelled.status, told(cancelled)["status"]) == (200, "Cancelled")
    await ann.until(f"/api/reservations/{first}", "status", "Cancelled")
    assert (await ann.ask(f"POST /api/reservations/{first}/cancel")).status == 409
    many = await ann.reserve(event, 8)
    assert "at most 8 seats" in text(told(many), "message")
    # Four were tried; six more are, and the next one waits.
    statuses = [(await ann.reserve(event, 9)).status for _ in range(7)]
    assert statuses == [400] * 6 + [429]


async def test_what_is_no_request_is_refused(memory_port: int) -> None:
    # EX-40, EX-41
    owner, ann = [await sign_in(memory_port, f"{who}@example.com") for who in ("o", "ann")]
    past = datetime.now(UTC) - timedelta(days=1)
    wrong: list[dict[str, object]] = [
        {"title": " "},
        {"title": "x" * 201},
        {"capacity": 0},
        {"price": 0},
        {"price": 1.005},
        {"price": -1},
        {"start_time": past.isoformat()},
        {"end_time": past.isoformat()},
        {"start_time": "2099-01-01T00:00:00"},
        {"sections": [{"name": "A", "capacity": 2}]},
        {"sections": [{"name": "A", "capacity": 3, "seats": ["1"]}]},
        {"more": 1},
    ]
    for changed in wrong:
        reply = await owner.ask("POST /api/events", event_body() | changed)
        assert reply.status == 422, (changed, reply.status)
    event = await planned(owner)
    path = f"/api/events/{event}"
    assert (await owner.ask(f"PUT {path}", {})).status == 400
    assert (await ann.ask(f"PUT {path}", {"title": "Blues"})).status == 403
    assert told(await owner.ask(f"PUT {path}", {"title": "Blues"}))["title"] == "Blues"
    assert (await owner.ask(f"POST {path}/publish")).status == 409
    assert told(await owner.ask(f"POST {path}/close-sales"))["status"] == "SalesClosed"
    assert (await ann.reserve(event)).status == 409
    assert told(await owner.ask(f"POST {path}/open-sales"))["status"] == "SalesOpen"
    near = await planned(owner, days=0.5)
    assert (await owner.ask(f"DELETE /api/events/{near}")).status == 409
    assert (await ann.reserve(event, 1, section="Nowhere")).status == 404
    assert (await ann.reserve(NOWHERE)).status == 404
    taken = await ann.reserve(event, 2, specific_seats=["2", "99"])
    assert (taken.status, "99" in text(told(taken), "message")) == (409, True)
    assert (await ann.reserve(event, 2, specific_seats=["2"])).status == 400


async def test_guests_look_and_do_nothing(memory_port: int) -> None:
    owner = await sign_in(memory_port, "o@example.com")
    event, guest = await planned(owner), User(memory_port, "x" * 43, "")
    assert (await ask(memory_port, f"GET /api/events/{event}")).status == 200
    for line in (
        "POST /api/events",
        f"DELETE /api/events/{event}",
        "POST /api/reservations",
        f"GET /api/reservations/{NOWHERE}",
        f"GET /api/payments/{NOWHERE}",
        f"GET /api/tickets/{NOWHERE}-1",
    ):
        assert (await ask(memory_port, line, {})).status == 401, line
        assert (await guest.ask(line, {})).status == 401, line


async def test_a_link_is_good_once(memory_port: int) -> None:
    asked = told(
        await ask(memory_port, "POST /auth/magic-link/request", {"email": "Ann@Example.com"})
    )
    assert asked["message"] == "Magic link sent. Check your email."
    token = {"token": asked["magic_link_token"]}
    assert (await ask(memory_port, "POST /auth/magic-link/verify", token)).status == 200
    for wrong in (token, {"token": "é"}, {"token": ""}, {"token": "x" * 43}):
        reply = await ask(memory_port, "POST /auth/magic-link/verify", wrong)
        assert (reply.status, told(reply)["message"]) == (401, "Invalid or expired link")
    nobody = await ask(memory_port, "POST /auth/magic-link/request", {"email": "nobody"})
    assert nobody.status == 422


async def test_ways_to_pay(memory_port: int) -> None:
    owner, ann = [await sign_in(memory_port, f"{who}@example.com") for who in ("o", "ann")]
    name = await ann.reserved(await planned(owner))
    bare = await ann.ask("POST /api/payments", {"reservation_id": name, "payment_method": CARD})
    assert bare.status == 400, "a payment has a key"
    for method, status in (({"type": "cash"}, 422), ({"type": "pay_pal", "email": "a@b.c"}, 201)):
        body = {"reservation_id": name, "payment_method": method}
        key = {"Idempotency-Key": str(uuid4())}
        assert (await ann.ask("POST /api/payments", body, key)).status == status, method
    assert (await ann.get(f"/api/payments/{name}"))["payment_method"] == "PayPal"


async def test_the_largest_hall_is_sold(memory_port: int) -> None:
    # EX-41: what a plan may have fits the events it leads to
    owner, ann = [await sign_in(memory_port, f"{who}@example.com") for who in ("o", "ann")]
    plain = await planned(owner, SECTION_SEATS_MAX)
    assert (await ann.reserve(plain, 8)).status == 201
    seats = [f"Row {row:04} Seat {seat:02}"[:16] for row in range(30) for seat in range(50)]
    named = [f"{number:05}-{'x' * 10}" for number in range(SECTION_SEATS_MAX)]
    assert len(seats) == 1500
    for names, status in ((named[:2_900], 201), (named + seats, 422)):
        sections = [{"name": "A", "capacity": len(names), "seats": names}]
        body = event_body() | {"capacity": len(names), "sections": sections}
        assert (await owner.ask("POST /api/events", body)).status == status
