"""The list of orders: a row for each, filled from the store, and what may be asked of it."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
import trio

from actors.persistence import begin_rebuild, live_collection
from docs.examples.orders.listing import NAME, OrderList, OrderProjection, OrderRow, micros
from tests.examples.orders.orders_kit import ORDER, ORDERS, Keeping, ask, placed, text, told
from tests.patience import PATIENCE_S
from tests.web.server.edge_kit import Reply

LISTED = "/api/v1/listed-orders"


async def after(port: int, path: str, seen: Reply) -> Reply:
    """Read the list as somebody who has seen an answer."""
    position = seen.headers["x-greenroom-position"]
    with trio.fail_after(PATIENCE_S):
        while True:
            reply = await ask(port, f"GET {LISTED}{path}", headers={"X-Greenroom-After": position})
            assert reply.status == 200, reply.body
            # It is waited for a second; then the rows as they are are given, and said to be so.
            if "x-greenroom-stale" not in reply.headers:
                return reply


def rows(reply: Reply) -> list[OrderRow]:
    return msgspec.json.decode(reply.body, type=dict[str, list[OrderRow]])["orders"]


async def test_a_row_follows_its_order(port: int) -> None:
    # EX-20, PROJ-6
    reply = await ask(port, f"POST {ORDERS}", ORDER)
    id_, at = text(told(reply), "order_id"), text(told(reply), "placed_at")
    seen = await after(port, f"/{id_}", reply)
    assert "x-greenroom-stale" not in seen.headers
    assert told(seen) == {
        "id": id_,
        "customer_id": "cust-123",
        "item_count": 1,
        "total_cents": 2000,
        "status": "placed",
        "placed_at": at,
        "updated_at": at,
        "tracking": None,
        "cancellation_reason": None,
    }
    shipped = await ask(port, f"POST {ORDERS}/{id_}/ship", {"tracking": "T1"})
    row = told(await after(port, f"/{id_}", shipped))
    # The time of the event, not of whoever wrote the row.
    assert row["updated_at"] == told(shipped)["shipped_at"]
    assert (row["placed_at"], row["status"], row["tracking"]) == (at, "shipped", "T1")
    other = await placed(port)
    gone = await ask(port, f"POST {ORDERS}/{other}/cancel", {"reason": "no"})
    row = told(await after(port, f"/{other}", gone))
    assert (row["status"], row["cancellation_reason"]) == ("cancelled", "no")
    counts = told(await after(port, "/counts", gone))
    assert counts == {"placed": 0, "cancelled": 1, "shipped": 1}


async def test_orders_are_listed_newest_first(port: int) -> None:
    # EX-20
    ids = [await placed(port, customer_id=f"c/{number % 2}") for number in range(6)]
    last = await ask(port, f"POST {ORDERS}/{ids[0]}/ship", {"tracking": "T"})
    assert [row.id for row in rows(await after(port, "", last))] == ids[::-1]
    assert [row.id for row in rows(await after(port, "?limit=2", last))] == ids[:3:-1]
    mine = rows(await after(port, "?customer_id=c/1", last))
    assert [row.id for row in mine] == ids[5::-2]
    assert all(row.customer_id == "c/1" for row in mine)
    assert rows(await after(port, "?customer_id=c", last)) == []
    assert rows(await after(port, "?customer_id=c/", last)) == []


async def test_a_customer_has_at_most_a_hundred_in_the_list(port: int) -> None:
    # EX-20
    async with trio.open_nursery() as nursery:
        for _ in range(105):
            nursery.start_soon(ask, port, f"POST {ORDERS}", ORDER)
    last = await ask(port, f"POST {ORDERS}", ORDER)
    listed = rows(await after(port, "?customer_id=cust-123", last))
    assert len(listed) == 100
    assert listed[0].id == told(last)["order_id"]
    times = [row.placed_at for row in listed]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "", "9" * 5000, "%C2%B2"])
async def test_a_limit_is_one_to_a_hundred(limit: str, memory_port: int) -> None:
    # EX-20
    reply = await ask(memory_port, f"GET {LISTED}?limit={limit}")
    assert (reply.status, told(reply)["code"]) == (422, "VALIDATION_ERROR")
    for fits in ("1", "100"):
        assert (await ask(memory_port, f"GET {LISTED}?limit={fits}")).status == 200


async def test_an_order_that_is_not_in_the_list_is_not_found(memory_port: int) -> None:
    # EX-20
    reply = await ask(memory_port, f"GET {LISTED}/order-none")
    assert (reply.status, told(reply)["message"]) == (404, "Order with id order-none not found")


async def test_a_read_that_cannot_catch_up_says_so(memory_port: int) -> None:
    # PROJ-6
    reply = await ask(memory_port, f"POST {ORDERS}", ORDER)
    position = reply.headers["x-greenroom-position"]
    txid, _, _ = position.partition(".")
    ahead = {"X-Greenroom-After": f"{int(txid) + 1000}.0"}
    stale = await ask(memory_port, f"GET {LISTED}", headers=ahead)
    assert (stale.status, stale.headers["x-greenroom-stale"]) == (200, "true")
    for nonsense in ("", "1", "1.2.3", "a.b", "-1.0", "1" * 5000):
        wrong = await ask(memory_port, f"GET {LISTED}", headers={"X-Greenroom-After": nonsense})
        assert (wrong.status, told(wrong)["code"]) == (400, "BAD_REQUEST")
    refused = await ask(memory_port, f"POST {ORDERS}", {**ORDER, "items": []})
    assert "x-greenroom-position" not in refused.headers


async def test_the_list_is_the_same_after_a_restart(keeping: Keeping) -> None:
    # EX-20
    async with keeping.open() as site:
        first = await ask(site.port, f"POST {ORDERS}", ORDER)
        before = rows(await after(site.port, "", first))
    async with keeping.open() as site:
        assert rows(await ask(site.port, f"GET {LISTED}")) == before
        second = await ask(site.port, f"POST {ORDERS}", ORDER)
        assert [row.id for row in rows(await after(site.port, "", second))][1:] == [before[0].id]
        assert told(await after(site.port, "/counts", second))["placed"] == 2


async def test_it_is_built_anew_while_orders_arrive(keeping: Keeping) -> None:
    # EX-20, PROJ-8
    async with keeping.open() as site:
        orders, store = OrderList(site.beside.projections), site.beside.projections
        last = await ask(site.port, f"POST {ORDERS}", ORDER)
        for _ in range(20):
            last = await ask(site.port, f"POST {ORDERS}", ORDER)
        await after(site.port, "", last)
        former = await live_collection(store, NAME)
        generation = await begin_rebuild(store, OrderProjection())
        with trio.fail_after(PATIENCE_S):
            while await live_collection(store, NAME) == former:
                # The old list serves meanwhile, and has what is placed now. In the moment of the
                # swap the new one may be some events behind it.
                last = await ask(site.port, f"POST {ORDERS}", ORDER)
                newest = rows(await after(site.port, "?limit=1", last))[0].id
                if await live_collection(store, NAME) == former:
                    assert newest == told(last)["order_id"]
        assert await live_collection(store, NAME) == f"{NAME}__g{generation}"
        counts = told(await after(site.port, "/counts", last))
        events = await site.store.count(types=["Order.Placed"])
        assert counts == {"placed": events.events, "cancelled": 0, "shipped": 0}
        assert len(await orders.recent(100)) == min(100, events.events)


def test_a_moment_sorts_behind_a_later_one() -> None:
    # EX-20
    moments = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.999999Z"]
    numbers = [micros(datetime.fromisoformat(one)) for one in moments]
    assert numbers == sorted(set(numbers))
    assert numbers[1] == numbers[0] + 1
