"""The load script of the orders: what it places is there, and what it tells is what came of it."""

from __future__ import annotations

import pytest
import trio

from docs.examples.orders.load import Tally, load, main, run
from tests.examples.orders.orders_kit import ask, placed, told


@pytest.mark.parametrize("over", ["http", "socket"])
async def test_it_places_orders_and_tells_how_long_they_took(over: str, memory_port: int) -> None:
    # EX-14
    url = f"http://127.0.0.1:{memory_port}"
    tally = await load(url, over=over, connections=2, rate=50, seconds=0.4)
    told_of = tally.report()
    assert (told_of["placed"], told_of["failed"]) == (20, 0)
    assert 0 < told_of["p50_ms"] <= told_of["p95_ms"] <= told_of["p99_ms"] <= told_of["max_ms"]
    await placed(memory_port)
    order = await ask(memory_port, "GET /api/v1/listed-orders?limit=100")
    assert order.status == 200
    assert b'"customer_id":"load"' in order.body


async def test_what_had_to_wait_counts_from_when_it_was_due(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # EX-14
    answers = iter([True, True, False, True])

    async def slow() -> bool:
        await trio.sleep(2)
        return next(answers)

    tally = await run([slow], rate=1, seconds=4)
    # Due at 0, 1, 2 and 3; done at 2, 4, 6 and 8; the third failed.
    assert tally.took == [2, 3, 5]
    assert tally.report() == {
        "placed": 3,
        "failed": 1,
        "per_s": round(3 / 8, 1),
        "p50_ms": 3000.0,
        "p95_ms": 5000.0,
        "p99_ms": 5000.0,
        "max_ms": 5000.0,
    }


def test_nothing_is_no_load() -> None:
    assert Tally().report()["per_s"] == 0.0
    for words in (["--rate", "0"], ["--connections", "0"], ["--seconds", "-1"]):
        with pytest.raises(SystemExit):
            main(words)


async def test_a_site_that_is_away_is_a_failure(memory_port: int) -> None:
    # EX-14
    async with trio.open_nursery() as nursery:
        listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener[0].socket.getsockname()[1]
        await listener[0].aclose()
        tally = await load(
            f"http://127.0.0.1:{port}", over="http", connections=1, rate=50, seconds=0.1
        )
        nursery.cancel_scope.cancel()
    assert (tally.failed, tally.took) == (5, [])
    assert told(await ask(memory_port, "GET /api/v1/listed-orders")) == {"orders": []}
