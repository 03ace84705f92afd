"""The orders example as a process of its own: its JavaScript clients, its kills, its history."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
import trio
from playwright.sync_api import expect

from tests.examples.orders.orders_kit import listening
from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import ExampleProcess
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S
from tests.processes.forked import run

pytestmark = pytest.mark.slow

CLIENT = (Path(__file__).parent / "orders_client.js").read_text()
# Node has a WebSocket of its own from 22 on, and behind this word from 20.10 on.
NODE_WORDS = ("--experimental-websocket",)
ORDERS = "/api/v1/orders"
JSON = {"content-type": "application/json"}
ORDER = {
    "customer_id": "cust-123",
    "items": [{"product_id": "p", "name": "Pen", "quantity": 2, "unit_price_cents": 150}],
}


@pytest.fixture(params=["memory", "postgres"])
def orders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExampleProcess]:
    running = ExampleProcess("orders", request.param, tmp_path / "state")
    yield running
    running.end()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[ExampleProcess]:
    running = ExampleProcess("orders", "postgres", tmp_path / "state")
    yield running
    running.end()


def post(
    site: ExampleProcess, path: str, body: object, headers: Mapping[str, str] | None = None
) -> Answer:
    return Visitor(site.url).request(
        "POST", path, json.dumps(body).encode(), {**JSON, **(headers or {})}
    )


def told(answer: Answer) -> dict[str, object]:
    return msgspec.json.decode(answer.body, type=dict[str, object])


def node_with_sockets() -> str | None:
    node = shutil.which("node")
    if node is None:
        return None
    known = subprocess.run([node, *NODE_WORDS, "-e", "new WebSocket('ws://[::1]:1').onerror=()=>0"],
                           capture_output=True, check=False, timeout=PATIENCE_S)  # fmt: skip
    return node if known.returncode == 0 else None


def check_seen(seen: dict[str, object]) -> None:
    """What the client has seen is what such clients count on."""
    status, placed = msgspec.convert(seen["placed"], tuple[int, dict[str, object]])
    id_ = placed["order_id"]
    assert (status, placed["status"], placed["total_cents"]) == (201, "Placed", 10000)
    status, order = msgspec.convert(seen["order"], tuple[int, dict[str, object]])
    assert (status, order["status"], order["total_cents"]) == (200, "Placed", 10000)
    message = "Order with id order-unknown not found"
    assert seen["unknown"] == [404, {"code": "NOT_FOUND", "message": message}]
    status, shipped = msgspec.convert(seen["shipped"], tuple[int, dict[str, object]])
    assert (status, shipped["status"], shipped["tracking"]) == (200, "Shipped", "TRACK123456")
    message = "Order in status 'Shipped' cannot be cancelled"
    assert seen["refused"] == [400, {"code": "BAD_REQUEST", "message": message}]
    feeds = msgspec.convert(seen["feeds"], list[list[dict[str, object]]])
    assert feeds[0] == feeds[1]
    actions = [msgspec.convert(one["action"], dict[str, dict[str, object]]) for one in feeds[0]]
    assert [[*one] for one in actions] == [["OrderPlaced"], ["OrderShipped"], ["OrderPlaced"]]
    assert (actions[0]["OrderPlaced"]["order_id"], actions[0]["OrderPlaced"]["total"]) == (
        id_,
        10000,
    )
    assert seen["failed"] == {
        "type": "event",
        "action": {"ValidationFailed": {"error": message}},
        "topic": "default",
    }
    status, bare = msgspec.convert(seen["bare"], tuple[int, dict[str, object]])
    assert (status, bare["reason"]) == (200, "Cancelled by customer")


def test_a_client_in_node_works_unchanged(orders: ExampleProcess) -> None:
    # EX-13
    node = node_with_sockets()
    if node is None:
        pytest.skip("NODE WITH A WEBSOCKET IS MISSING: the client runs in Chromium alone")
    program = f"({CLIENT.split(chr(10), 1)[1]})(process.argv[1])"
    program += ".then((seen) => console.log(JSON.stringify(seen)))"
    ran = subprocess.run(
        [node, *NODE_WORDS, "-e", program, orders.url],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert ran.returncode == 0, ran.stderr
    check_seen(json.loads(ran.stdout))


@pytest.mark.browser
def test_a_client_in_a_page_works_unchanged(orders: ExampleProcess, new_page: OpenPage) -> None:
    # EX-13
    page = new_page()
    page.goto(orders.url)
    check_seen(page.evaluate(CLIENT.split("\n", 1)[1], orders.url))


@pytest.mark.browser
def test_the_page_follows_the_list(orders: ExampleProcess, new_page: OpenPage) -> None:
    # EX-20
    page = new_page()
    with page.expect_response(lambda response: "/live" in response.url):
        page.goto(orders.url)
    expect(page.locator("#panel-orders")).to_contain_text("placed: 0")
    first = told(post(orders, ORDERS, {**ORDER, "customer_id": "<b>Ann</b>"}))["order_id"]
    expect(page.locator("#panel-orders tr")).to_have_count(2)
    expect(page.locator("#panel-orders")).to_contain_text("<b>Ann</b>")
    page.get_by_label("Customer").fill("Bob")
    page.get_by_role("button").click()
    expect(page.locator("#panel-orders tr")).to_have_count(3)
    assert post(orders, f"{ORDERS}/{first}/ship", {"tracking": "T"}).status == 200
    expect(page.locator("#panel-orders")).to_contain_text("placed: 1. cancelled: 0. shipped: 1.")


def test_a_key_outlives_a_process_that_was_killed(kept: ExampleProcess) -> None:
    # WEB-14
    key = {"Idempotency-Key": "a-key-that-outlives-a-process"}
    first = post(kept, ORDERS, ORDER, key)
    assert first.status == 201
    kept.kill()
    kept.restart()
    again = post(kept, ORDERS, ORDER, key)
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    other = post(kept, ORDERS, {**ORDER, "customer_id": "other"}, key)
    assert (other.status, told(other)["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    after = {"x-greenroom-after": first.headers["x-greenroom-position"]}
    listed = Visitor(kept.url).request("GET", "/api/v1/listed-orders/counts", headers=after)
    assert told(listed) == {"placed": 1, "cancelled": 0, "shipped": 0}


def test_a_kill_in_the_middle_of_many_orders_loses_and_doubles_none(kept: ExampleProcess) -> None:
    # WEB-14, EX-13
    answers: dict[int, bytes] = {}
    begun = threading.Semaphore(0)

    def place_some(numbers: range) -> None:
        for number in numbers:
            begun.release()
            try:
                answer = post(kept, ORDERS, ORDER, {"Idempotency-Key": f"order-{number:020}"})
            except OSError:
                return
            if answer.status == 201:
                answers[number] = answer.body

    threads = [threading.Thread(target=place_some, args=(range(at, 400, 4),)) for at in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        begun.acquire()
    kept.kill()
    for thread in threads:
        thread.join(PATIENCE_S)
    kept.restart()
    before = dict(answers)
    assert before
    assert len(before) < 400
    for number, body in before.items():
        again = post(kept, ORDERS, ORDER, {"Idempotency-Key": f"order-{number:020}"})
        assert (again.status, again.body) == (201, body)
        looked = Visitor(kept.url).get(f"{ORDERS}/{told(again)['order_id']}")
        assert (looked.status, told(looked)["total_cents"]) == (200, 300)
    # Of those that were cut off some were stored; the list has them once it has this one.
    last = post(kept, ORDERS, ORDER)
    after = {"x-greenroom-after": last.headers["x-greenroom-position"]}
    listed = Visitor(kept.url).request("GET", "/api/v1/listed-orders/counts", headers=after)
    placed = msgspec.convert(told(listed)["placed"], int)
    assert len(before) < placed <= len(before) + 1 + len(threads)


def test_a_command_of_a_socket_outlives_a_process_that_was_killed(kept: ExampleProcess) -> None:
    # WEB-41
    client = "7f1fd7d0-4a3e-4bb9-9c0e-0f9a1f9a1f9a"
    item = {"product_id": "p", "name": "Pen", "quantity": 1, "unit_price": 150}
    action = {"PlaceOrder": {"customer_id": "c", "items": [item]}}

    async def place() -> object:
        path = f"/ws?client={client}"
        async with listening(kept.port, path, "greenroom.v1") as socket:
            await socket.command(action, id="one")
            return await socket.read()

    first = trio.run(place)
    kept.kill()
    kept.restart()
    assert trio.run(place) == first
    assert '"type": "ack"' in json.dumps(first)


def test_the_history_of_an_order_is_printed_event_by_event(kept: ExampleProcess) -> None:
    # EX-14
    id_ = told(post(kept, ORDERS, ORDER))["order_id"]
    assert post(kept, f"{ORDERS}/{id_}/ship", {"tracking": "T1"}).status == 200

    def greenroom(*words: str) -> subprocess.CompletedProcess[str]:
        module, *rest = words
        environment = {"STATE_DIR": str(kept.state_dir)}
        return run(module, [*rest, "--order-id", str(id_)], environment=environment)

    example = ("web.cli", "example", "orders", "--store", "postgres")
    # While it is served, and when it is not.
    for is_served in (True, False):
        if not is_served:
            assert kept.stop() == 0
        for words in (example, ("docs.examples.orders",)):
            ran = greenroom(*words)
            assert ran.returncode == 0, ran.stderr
            head, placed, shipped = ran.stdout.splitlines()
            assert head.split() == ["VERSION", "AT", "STATUS", "WHAT"]
            assert placed.split()[0] == "1"
            assert "Placed   300 cents for cust-123: 2 x Pen" in placed
            assert shipped.endswith("Shipped  as T1")
    rows = [json.loads(line) for line in greenroom(*example, "--json").stdout.splitlines()]
    assert [row["version"] for row in rows] == [1, 2]
    id_ = "order-unknown"
    unknown = greenroom(*example)
    assert unknown.returncode == 3
    assert unknown.stderr.startswith("greenroom: Order with id order-unknown not found")
    assert unknown.stdout == ""
