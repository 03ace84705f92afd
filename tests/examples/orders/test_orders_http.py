"""Orders over HTTP, as their clients know them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.persistence import StoreUnavailable
from docs.examples.orders.deciding import CENTS_MAX, QUANTITY_MAX
from docs.examples.orders.shapes import ITEMS_MAX
from storage.memory import MemoryEventStore
from tests.examples.orders.orders_kit import (
    ORDER,
    ORDERS,
    WIDGETS,
    Keeping,
    ask,
    fields_at,
    placed,
    text,
    told,
)

ID = re.compile(r"order-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def with_item(**changed: object) -> dict[str, object]:
    return {**ORDER, "items": [{**WIDGETS, **changed}]}


def refused(message: str) -> dict[str, str]:
    return {"code": "BAD_REQUEST", "message": message}


async def test_an_order_is_placed_looked_at_and_shipped(port: int) -> None:
    # EX-10
    health = await ask(port, "GET /health")
    assert (health.status, health.body) == (200, b"ok")
    assert health.headers["content-type"].startswith("text/plain")
    # RES-40: its list of orders is one of the components
    ready = await ask(port, "GET /ready")
    assert (ready.status, b'"projections":{"healthy":true' in ready.body) == (200, True)

    reply = await ask(port, f"POST {ORDERS}", ORDER)
    assert reply.status == 201
    order = told(reply)
    assert list(order) == ["order_id", "status", "total_cents", "placed_at"]
    assert ID.fullmatch(text(order, "order_id"))
    assert (order["status"], order["total_cents"]) == ("Placed", 2000)
    at = datetime.fromisoformat(text(order, "placed_at"))
    assert at.utcoffset() == timedelta(0)

    here = f"{ORDERS}/{order['order_id']}"
    look = await ask(port, f"GET {here}")
    assert look.status == 200
    assert told(look) == {
        "order_id": order["order_id"],
        "customer_id": "cust-123",
        "status": "Placed",
        "items": [WIDGETS],
        "total_cents": 2000,
    }
    ship = await ask(port, f"POST {here}/ship", {"tracking": "TRACK123456"})
    assert ship.status == 200
    shipped = told(ship)
    assert list(shipped) == ["order_id", "status", "tracking", "shipped_at"]
    assert (shipped["status"], shipped["tracking"]) == ("Shipped", "TRACK123456")
    assert told(await ask(port, f"GET {here}"))["status"] == "Shipped"


async def test_an_order_is_cancelled_with_its_reason(port: int) -> None:
    # EX-10
    here = f"{ORDERS}/{await placed(port)}"
    reply = await ask(port, f"POST {here}/cancel", {"reason": "changed my mind"})
    assert reply.status == 200
    found = told(reply)
    assert list(found) == ["order_id", "status", "reason", "cancelled_at"]
    assert (found["status"], found["reason"]) == ("Cancelled", "changed my mind")
    assert told(await ask(port, f"GET {here}"))["status"] == "Cancelled"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({**ORDER, "items": []}, "Order must contain at least one item"),
        (with_item(quantity=0), "Item 'Widget' has zero quantity"),
        (with_item(unit_price_cents=0), "Item 'Widget' has invalid price"),
        (with_item(unit_price_cents=-1), "Item 'Widget' has invalid price"),
    ],
)
async def test_what_is_no_order_is_refused_in_these_words(
    body: object, message: str, memory_port: int
) -> None:
    # EX-10
    reply = await ask(memory_port, f"POST {ORDERS}", body)
    assert (reply.status, told(reply)) == (400, refused(message))


@pytest.mark.parametrize(
    ("end", "status"), [("ship", "Shipped"), ("cancel", "Cancelled")], ids=["shipped", "cancelled"]
)
async def test_only_a_placed_order_is_cancelled_or_shipped(
    end: str, status: str, memory_port: int
) -> None:
    # EX-10
    here = f"{ORDERS}/{await placed(memory_port)}"
    assert (
        await ask(memory_port, f"POST {here}/{end}", {"tracking": "T1", "reason": "r"})
    ).status == 200
    reply = await ask(memory_port, f"POST {here}/cancel", {"reason": "late"})
    message = f"Order in status '{status}' cannot be cancelled"
    assert (reply.status, told(reply)) == (400, refused(message))
    reply = await ask(memory_port, f"POST {here}/ship", {"tracking": "T2"})
    message = f"Order in status '{status}' cannot be shipped"
    assert (reply.status, told(reply)) == (400, refused(message))


@pytest.mark.parametrize("blank", ["", "  ", "\t\n"])
async def test_a_tracking_number_is_no_blank(blank: str, memory_port: int) -> None:
    # EX-10
    reply = await ask(
        memory_port, f"POST {ORDERS}/{await placed(memory_port)}/ship", {"tracking": blank}
    )
    assert (reply.status, told(reply)) == (400, refused("Tracking number cannot be empty"))


@pytest.mark.parametrize("id_", ["order-unknown", "nothing", "order-", "order-%00", "a" * 200])
@pytest.mark.parametrize("what", ["GET", "cancel", "ship"])
async def test_an_unknown_order_is_not_found(id_: str, what: str, memory_port: int) -> None:
    # EX-10
    line = f"GET {ORDERS}/{id_}" if what == "GET" else f"POST {ORDERS}/{id_}/{what}"
    reply = await ask(
        memory_port, line, None if what == "GET" else {"tracking": "T", "reason": "r"}
    )
    assert (reply.status, told(reply)["code"]) == (404, "NOT_FOUND")
    if "%" not in id_:
        assert told(reply)["message"] == f"Order with id {id_} not found"


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in ORDER.items() if key != name}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (without("customer_id"), "customer_id"),
        (without("items"), "items"),
        ({**ORDER, "customer_id": 5}, "customer_id"),
        ({**ORDER, "customer_id": "c" * 201}, "customer_id"),
        ({**ORDER, "items": "none"}, "items"),
        ({**ORDER, "items": [WIDGETS] * (ITEMS_MAX + 1)}, "items"),
        (with_item(quantity=-1), "items[0].quantity"),
        (with_item(quantity=QUANTITY_MAX + 1), "items[0].quantity"),
        (with_item(quantity=1.5), "items[0].quantity"),
        (with_item(quantity="2"), "items[0].quantity"),
        (with_item(unit_price_cents=CENTS_MAX + 1), "items[0].unit_price_cents"),
        (with_item(name=None), "items[0].name"),
        ([], "body"),
    ],
)
async def test_a_missing_or_mistyped_field_is_named(
    body: object, field: str, memory_port: int
) -> None:
    # EX-10
    reply = await ask(memory_port, f"POST {ORDERS}", body)
    found = told(reply)
    assert (reply.status, found["code"]) == (422, "VALIDATION_ERROR")
    details = msgspec.convert(found["details"], list[dict[str, str]])
    assert field in [one["field"] for one in details]


async def test_the_largest_order_is_placed_and_one_cent_more_is_not(port: int) -> None:
    # EX-10
    cents = CENTS_MAX // QUANTITY_MAX
    most = with_item(quantity=QUANTITY_MAX, unit_price_cents=cents)
    reply = await ask(port, f"POST {ORDERS}", most)
    assert (reply.status, told(reply)["total_cents"]) == (201, QUANTITY_MAX * cents)
    reply = await ask(
        port, f"POST {ORDERS}", {**ORDER, "items": [{**WIDGETS, "quantity": 1,
        "unit_price_cents": CENTS_MAX}, {**WIDGETS, "quantity": 1, "unit_price_cents": 1}]},
    )  # fmt: skip
    assert (reply.status, told(reply)["code"]) == (422, "VALIDATION_ERROR")
    assert str(CENTS_MAX) in text(told(reply), "message")


@pytest.mark.parametrize("path", ["", "/{id}/cancel", "/{id}/ship"])
async def test_what_is_no_json_is_refused(path: str, memory_port: int) -> None:
    # EX-10
    line = f"POST {ORDERS}{path.format(id=await placed(memory_port))}"
    broken = await ask(memory_port, line, b'{"customer_id": ')
    assert (broken.status, told(broken)["code"]) == (400, "BAD_REQUEST")
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        other = await ask(memory_port, line, b"{}", {"Content-Type": kind})
        assert (other.status, told(other)["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.slow
async def test_a_decision_that_does_not_come_is_a_timeout(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    # EX-10
    async def pass_time() -> None:
        # In steps: of two limits the earlier one is reached first.
        while True:
            await wait_all_tasks_blocked(0.001)
            mock_clock.jump(0.1)

    mock_clock.rate = 1.0
    async with trio.open_nursery() as nursery:
        async with Keeping(None, tmp_path).open() as site:
            here = f"{ORDERS}/{await placed(site.port)}"
            store = site.store
            assert isinstance(store, MemoryEventStore)
            store.slow(60)
            nursery.start_soon(pass_time)
            late = await ask(site.port, f"POST {here}/ship", {"tracking": "T"})
            assert (late.status, told(late)["code"]) == (408, "TIMEOUT")
            store.slow(0)
        nursery.cancel_scope.cancel()


async def test_a_store_that_is_away_is_told_and_the_order_is_as_it_was(tmp_path: Path) -> None:
    # EX-10
    async with Keeping(None, tmp_path).open() as site:
        here = f"{ORDERS}/{await placed(site.port)}"
        store = site.store
        assert isinstance(store, MemoryEventStore)
        away_now = StoreUnavailable("away in a test")
        # The list and the feed ask as well, and wait until it is back.
        store.fail_next(away_now, times=1_000_000)
        away = await ask(site.port, f"POST {here}/ship", {"tracking": "T"})
        assert (away.status, told(away)["code"]) == (503, "SERVICE_UNAVAILABLE")
        store.fail_next(away_now, times=0)
        assert told(await ask(site.port, f"GET {here}"))["status"] == "Placed"


async def test_input_is_taken_as_older_clients_send_it(port: int) -> None:
    # EX-11
    more = {**ORDER, "items": [{**WIDGETS, "color": "red"}], "coupon": None, "status": "Shipped"}
    reply = await ask(port, f"POST {ORDERS}", more)
    assert (reply.status, told(reply)["status"]) == (201, "Placed")
    first = told(reply)["order_id"]

    # Without a body at all, and without a media type.
    bare = await ask(port, f"POST {ORDERS}/{first}/cancel")
    assert (bare.status, told(bare)["reason"]) == (200, "Cancelled by customer")
    empty = await ask(port, f"POST {ORDERS}/{await placed(port)}/cancel", {"by": "me"})
    assert (empty.status, told(empty)["reason"]) == (200, "Cancelled by customer")

    here = f"POST {ORDERS}/{await placed(port)}/ship"
    missing = await ask(port, here, {"carrier": "post"})
    assert missing.status == 422
    assert fields_at(told(missing), "details", 0)["field"] == "tracking"
    shipped = await ask(port, here, {"tracking_number": "T9", "carrier": "post"})
    assert (shipped.status, told(shipped)["tracking"]) == (200, "T9")


async def test_many_orders_are_placed_at_once_and_each_is_its_own(
    port: int, mock_clock: MockClock
) -> None:
    # EX-13: each request has its ten seconds, which last longer here than on a machine's clock
    mock_clock.rate = 0.1
    answers: dict[int, tuple[str, object]] = {}

    async def one(number: int) -> None:
        item = {**WIDGETS, "quantity": 1, "unit_price_cents": number + 1}
        reply = await ask(port, f"POST {ORDERS}", {"customer_id": f"c{number}", "items": [item]})
        assert reply.status == 201, reply.body
        answers[number] = (text(told(reply), "order_id"), told(reply)["total_cents"])

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(one, number)
    assert len({id_ for id_, _ in answers.values()}) == 200
    for number in range(0, 200, 20):
        id_, total = answers[number]
        assert total == number + 1
        assert told(await ask(port, f"GET {ORDERS}/{id_}"))["customer_id"] == f"c{number}"


async def test_of_two_that_race_one_wins(port: int) -> None:
    # EX-13
    for _ in range(5):
        here = f"{ORDERS}/{await placed(port)}"
        found: list[tuple[int, str]] = []

        async def race(what: str, here: str = here, found: list[tuple[int, str]] = found) -> None:
            reply = await ask(port, f"POST {here}/{what}", {"tracking": "T", "reason": "r"})
            found.append((reply.status, what))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(race, "cancel")
            nursery.start_soon(race, "ship")
        (won, what), (lost, _) = sorted(found)
        assert won == 200
        assert lost in (400, 409)
        status = {"cancel": "Cancelled", "ship": "Shipped"}[what]
        assert told(await ask(port, f"GET {here}"))["status"] == status


async def test_an_order_is_the_same_after_a_restart(keeping: Keeping) -> None:
    # EX-13
    async with keeping.open() as site:
        kept, gone = await placed(site.port), await placed(site.port)
        ended = await ask(site.port, f"POST {ORDERS}/{gone}/ship", {"tracking": "T1"})
        assert ended.status == 200
        before = [(await ask(site.port, f"GET {ORDERS}/{one}")).body for one in (kept, gone)]
    async with keeping.open() as site:
        after = [(await ask(site.port, f"GET {ORDERS}/{one}")).body for one in (kept, gone)]
        assert after == before
        late = await ask(site.port, f"POST {ORDERS}/{gone}/cancel")
        assert late.status == 400


async def test_a_key_makes_fifty_posts_one_order(port: int) -> None:
    # WEB-14
    bodies: list[bytes] = []
    positions: set[str] = set()

    async def one() -> None:
        key = {"Idempotency-Key": "one-order-of-fifty-posts"}
        reply = await ask(port, f"POST {ORDERS}", ORDER, key)
        assert reply.status == 201, reply.body
        bodies.append(reply.body)
        positions.add(reply.headers["x-greenroom-position"])

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert len(set(bodies)) == 1
    [position] = positions
    after = {"X-Greenroom-After": position}
    listed = await ask(port, "GET /api/v1/listed-orders/counts", headers=after)
    assert told(listed) == {"placed": 1, "cancelled": 0, "shipped": 0}
