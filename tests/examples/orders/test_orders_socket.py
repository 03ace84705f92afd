"""Orders over the WebSocket: the plain form their clients speak, and `greenroom.v1`."""

from __future__ import annotations

import pytest
import trio

from docs.examples.orders.commands import DESK
from docs.examples.orders.desk import OrderDesk
from supervision import handle_of
from tests.examples.orders.orders_kit import (
    ORDERS,
    WIDGETS,
    Keeping,
    Socket,
    ask,
    fields_at,
    listening,
    placed,
    text,
    told,
)

PEN: dict[str, object] = {"product_id": "p1", "name": "Pen", "quantity": 3, "unit_price": 150}
PLACE: dict[str, object] = {"customer_id": "c1", "items": [PEN]}


async def refusal(socket: Socket) -> str:
    """What the sender of a command is told that it may not have."""
    found = await socket.read()
    assert list(found) == ["type", "action", "topic"]
    assert (found["type"], found["topic"]) == ("event", "default")
    [(name, fields)] = fields_at(found, "action").items()
    assert (name, list(fields_at(fields))) == ("ValidationFailed", ["error"])
    return text(fields_at(fields), "error")


@pytest.mark.parametrize("path", ["/api/v1/ws", "/ws"])
async def test_every_client_hears_what_http_changes_once(path: str, port: int) -> None:
    # EX-12
    async with listening(port, path) as one, listening(port, path) as other:
        first = await placed(port)
        second = await placed(port)
        await ask(port, f"POST {ORDERS}/{first}/cancel", {"reason": "no"})
        await ask(port, f"POST {ORDERS}/{second}/ship", {"tracking": "T1"})
        for socket in (one, other):
            found = await socket.read()
            assert (found["type"], found["topic"]) == ("event", "default")
            fields = fields_at(found, "action", "OrderPlaced")
            assert str(fields.pop("timestamp")).endswith("Z")
            item = {**WIDGETS, "unit_price": 1000}
            assert fields == {
                "order_id": first,
                "customer_id": "cust-123",
                "items": [item],
                "total": 2000,
                "total_cents": 2000,
            }
            assert list(fields_at(fields, "items", 0))[:4] == [
                "product_id",
                "name",
                "quantity",
                "unit_price",
            ]
            assert (await socket.event())[1]["order_id"] == second
            name, fields = await socket.event()
            assert (name, list(fields)) == ("OrderCancelled", ["order_id", "reason", "timestamp"])
            assert (fields["order_id"], fields["reason"]) == (first, "no")
            name, fields = await socket.event()
            assert (name, list(fields)) == ("OrderShipped", ["order_id", "tracking", "timestamp"])
            assert (fields["order_id"], fields["tracking"]) == (second, "T1")
            assert await socket.is_quiet()


async def test_a_command_is_told_to_everybody_once(port: int) -> None:
    # EX-12, WEB-32
    async with listening(port) as sender, listening(port) as other:
        await sender.command({"PlaceOrder": PLACE}, topic=None)
        name, fields = await sender.event()
        assert (name, fields["total"], fields["customer_id"]) == ("OrderPlaced", 450, "c1")
        item = fields_at(fields, "items", 0)
        assert item["unit_price"] == item["unit_price_cents"] == 150
        id_ = fields["order_id"]
        assert (await other.event())[1] == fields
        assert told(await ask(port, f"GET {ORDERS}/{id_}"))["total_cents"] == 450

        await other.command({"ShipOrder": {"order_id": id_, "tracking": "T"}}, topic="default")
        assert (await other.event())[0] == (await sender.event())[0] == "OrderShipped"

        cents = [{**WIDGETS, "quantity": 1}]
        named = {"customer_id": "c2", "items": cents, "order_id": "order-mine_1"}
        await sender.command({"PlaceOrder": named})
        assert (await sender.event())[1]["order_id"] == "order-mine_1"
        assert (await other.event())[1]["total_cents"] == 1000
        await other.command({"CancelOrder": {"order_id": "order-mine_1", "reason": "r"}})
        assert (await other.event())[1]["reason"] == "r"
        assert (await sender.event())[0] == "OrderCancelled"
        assert await sender.is_quiet()
        assert await other.is_quiet()


async def test_who_does_not_listen_is_told_what_became_of_its_command(port: int) -> None:
    # EX-12, WEB-32
    async with listening(port) as sender:
        await sender.send({"type": "unsubscribe", "topics": ["default"]})
        assert (await sender.read())["type"] == "unsubscribed"
        await sender.command({"PlaceOrder": PLACE})
        assert (await sender.event())[0] == "OrderPlaced"
        await placed(port)
        assert await sender.is_quiet()


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ({"PlaceOrder": {**PLACE, "items": []}}, "Order must contain at least one item"),
        (
            {"PlaceOrder": {**PLACE, "items": [{**PEN, "quantity": 0}]}},
            "Item 'Pen' has zero quantity",
        ),
        (
            {"PlaceOrder": {**PLACE, "items": [{**PEN, "unit_price": 0}]}},
            "Item 'Pen' has invalid price",
        ),
        ({"PlaceOrder": {**PLACE, "order_id": "order-taken"}}, "Order already placed"),
        (
            {"CancelOrder": {"order_id": "order-none", "reason": "r"}},
            "Order with id order-none not found",
        ),
        (
            {"ShipOrder": {"order_id": "none", "tracking": "T"}},
            "Order with id none not found",
        ),
        (
            {"ShipOrder": {"order_id": "order-taken", "tracking": " "}},
            "Tracking number cannot be empty",
        ),
    ],
)
async def test_a_refusal_goes_to_the_sender_alone(
    action: object, error: str, memory_port: int
) -> None:
    # EX-12, EX-10
    async with listening(memory_port) as sender, listening(memory_port) as other:
        await sender.command({"PlaceOrder": {**PLACE, "order_id": "order-taken"}})
        for socket in (sender, other):
            assert (await socket.event())[0] == "OrderPlaced"
        await sender.command(action, topic=None)
        assert await refusal(sender) == error
        assert await sender.is_quiet()
        assert await other.is_quiet()

    async with listening(memory_port, subprotocol="greenroom.v1") as v1:
        await v1.command(action, id="c1")
        found = await v1.read()
        assert (found["type"], found["code"], found["id"]) == ("error", "REFUSED", "c1")
        assert found["message"] == error


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"PlaceOrder": {"customer_id": "c"}}, "items"),
        ({"PlaceOrder": {**PLACE, "items": [{"product_id": "p"}]}}, "name"),
        ({"PlaceOrder": {**PLACE, "order_id": "mine"}}, "order_id"),
        (
            {"PlaceOrder": {**PLACE, "items": [{**PEN, "quantity": -1}]}},
            "quantity",
        ),
        (
            {"PlaceOrder": {**PLACE, "items": [{"product_id": "p", "name": "n", "quantity": 1}]}},
            "unit_price",
        ),
        ({"ShipOrder": {"order_id": "order-1"}}, "tracking"),
        ({"OrderPlaced": {"order_id": "order-1"}}, "OrderPlaced is an event"),
        ({"ValidationFailed": {"error": "x"}}, "ValidationFailed is an event"),
        ("Increment", "There is no command 'Increment' here"),
    ],
)
async def test_what_is_no_command_is_an_error_and_does_nothing(
    action: object, said: str, memory_port: int
) -> None:
    # EX-12, WEB-32
    async with listening(memory_port) as sender, listening(memory_port) as other:
        await sender.command(action)
        found = await sender.read()
        assert found["type"] == "error"
        assert said in text(found, "message")
        assert await sender.is_quiet()
        assert await other.is_quiet()


async def test_commands_are_taken_with_what_older_clients_send_beside(port: int) -> None:
    # EX-11
    both = {**PEN, "unit_price_cents": 150, "color": "red"}
    async with listening(port) as sender:
        await sender.command({"PlaceOrder": {**PLACE, "items": [both], "total": 3}})
        name, fields = await sender.event()
        assert (name, fields["total"]) == ("OrderPlaced", 450)
        await sender.command({"CancelOrder": {"order_id": fields["order_id"]}})
        assert (await sender.event())[1]["reason"] == "Cancelled by customer"


async def test_an_id_is_carried_out_once_also_by_the_next_process(keeping: Keeping) -> None:
    # EX-12, WEB-41
    path = "/ws?client=7f1fd7d0-4a3e-4bb9-9c0e-0f9a1f9a1f9a"
    asks: list[tuple[str, object]] = [("c1", {"PlaceOrder": PLACE})]
    answers: list[list[dict[str, object]]] = []
    for _ in range(2):
        async with keeping.open() as site, listening(site.port, path, "greenroom.v1") as client:
            heard = []
            for id_, action in asks:
                await client.command(action, id=id_)
                heard.append(await client.read())
            answers.append(heard)
            if len(asks) == 1:
                order_id = fields_at(heard[0], "result")["order_id"]
                asks.append(("c2", {"CancelOrder": {"order_id": order_id, "reason": "r"}}))
                await client.command(asks[1][1], id="c2")
                answers[0].append(await client.read())
    assert [one["type"] for one in answers[0]] == ["ack", "ack"]
    assert answers[0] == answers[1]


async def test_a_feed_that_crashes_skips_nothing(keeping: Keeping) -> None:
    # EX-12
    async with keeping.open() as site, listening(site.port) as socket:
        for _ in range(3):
            first = await placed(site.port)
            handle_of(OrderDesk, site.ref(DESK, OrderDesk)).feed.kill()
            second = await placed(site.port)
            assert [(await socket.event())[1]["order_id"] for _ in range(2)] == [first, second]
        assert await socket.is_quiet()


async def test_two_servers_tell_what_happens_at_either(keeping: Keeping) -> None:
    # EX-12
    async with (
        keeping.open() as one,
        keeping.open() as other,
        listening(one.port) as here,
        listening(other.port) as there,
    ):
        id_ = await placed(one.port)
        async with trio.open_nursery() as nursery:
            for port in (one.port, other.port):
                nursery.start_soon(ask, port, f"POST {ORDERS}/{id_}/cancel", {"reason": "r"})
        for socket in (here, there):
            names = [(await socket.event())[0] for _ in range(2)]
            assert names == ["OrderPlaced", "OrderCancelled"]
            assert await socket.is_quiet()
