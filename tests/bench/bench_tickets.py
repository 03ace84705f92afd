"""Seats over HTTP and PostgreSQL: a hundred buyers for one, and fifty who buy for a while.

    python -m tests.bench tickets

The example is a process of its own on an embedded server with fsync on, its gateway answers after
100 ms as ever. Each buyer is a new customer, for one alone may try ten times a minute: they sign
in, look at the seats, reserve one and pay, one purchase every four seconds. `SECONDS` says for how
long, 20 unless told.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from docs.examples.ticketing.http.options import LINKS, SENDS
from tests.bench.rows import Row, row
from tests.examples.orders.orders_kit import text, told
from tests.examples.ticketing.http.ticketing_kit import User, planned, sign_in
from tests.journeys.site_process import ExampleProcess
from tests.web.server.edge_kit import Reply

RUNS = 3
CROWD, BUYERS = 100, 50
SECONDS = float(os.environ.get("SECONDS", "20"))
SIGNING_IN = 8
# Each of fifty buys once in so many seconds: twelve purchases a second in all.
PACE_S = 4.0
HALL = 3_000


@dataclass
class Load:
    """What came of the requests: seconds each, and how many were no answer to be had."""

    took: list[float] = field(default_factory=list)
    reserved: int = 0
    failed: int = 0

    def at(self, share: float) -> float:
        """Call this for a percentile, in milliseconds."""
        times = sorted(self.took)
        return times[math.ceil(share * len(times)) - 1] * 1000


def started(folder: str) -> ExampleProcess:
    more = {LINKS: "on", SENDS: "off", "MAIL_SENDER": "off", "REQUESTS_PER_ADDRESS": "1000"}
    return ExampleProcess("ticketing", "postgres", Path(folder) / "state", **more)


async def crowd(port: int, run: int) -> float:
    """Let a hundred want one seat; gives the seconds until the last of them was answered."""
    owner = await sign_in(port, "owner@example.com")
    event = await planned(owner, 1)
    buyers: list[User] = []
    few = trio.CapacityLimiter(SIGNING_IN)

    async def enter(number: int) -> None:
        async with few:
            buyers.append(await sign_in(port, f"crowd-{run}-{number}@example.com"))

    async with trio.open_nursery() as nursery:
        for number in range(CROWD):
            nursery.start_soon(enter, number)
    statuses: list[int] = []

    async def reserve(buyer: User) -> None:
        statuses.append((await buyer.reserve(event)).status)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for buyer in buyers:
            nursery.start_soon(reserve, buyer)
    took = time.perf_counter() - began
    if sorted(statuses) != [201] + [409] * (CROWD - 1):
        raise RuntimeError(f"one of {CROWD} wins, and the others are told: {sorted(statuses)}")
    return took


async def buy(port: int, run: int) -> Load:
    """Let fifty buy for a while."""
    load = Load()
    owner = await sign_in(port, "owner@example.com")
    event = await planned(owner, HALL)
    ends_at = time.monotonic() + SECONDS

    async def timed(user: User, line: str, *rest: object) -> Reply:
        began = time.perf_counter()
        reply = await user.ask(line, *rest)  # type: ignore[arg-type]
        load.took.append(time.perf_counter() - began)
        return reply

    async def buyer(number: int) -> None:
        turn, due = 0, time.monotonic() + PACE_S * number / BUYERS
        while due < ends_at:
            turn += 1
            await trio.sleep(due - time.monotonic() if due > time.monotonic() else 0)
            due += PACE_S
            began = time.perf_counter()
            user = await sign_in(port, f"buyer-{run}-{number}-{turn}@example.com")
            # Two requests.
            load.took += [(time.perf_counter() - began) / 2] * 2
            seats = await timed(user, f"GET /api/events/{event}/availability")
            wanted = {"event_id": event, "section": "General", "quantity": 1}
            held = await timed(user, "POST /api/reservations", wanted)
            load.failed += (seats.status != 200) + (held.status != 201)
            if held.status != 201:
                continue
            load.reserved += 1
            name = text(told(held), "reservation_id")
            began = time.perf_counter()
            paid = await user.pay(name)
            # The bank's own tenth of a second is none of ours.
            load.took.append(time.perf_counter() - began - 0.1)
            load.failed += paid.status != 201

    async with trio.open_nursery() as nursery:
        for number in range(BUYERS):
            nursery.start_soon(buyer, number)
    return load


def tickets() -> Sequence[Row]:
    """Measure with the example in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        site = started(folder)
        try:
            crowds = [trio.run(crowd, site.port, run) * 1000 for run in range(RUNS)]
            loads = [trio.run(buy, site.port, run) for run in range(RUNS)]
        finally:
            site.end()
    asked = f"{BUYERS} buyers"
    return [
        row(
            f"{CROWD} buyers, 1 seat: until the last is answered", "ms", crowds,
            target="2000 (PERF-61)", is_lower_better=True,
        ),
        row(
            f"{asked}: a request, p95", "ms", [one.at(0.95) for one in loads],
            target="500 (PERF-62)", is_lower_better=True,
        ),
        row(
            f"{asked}: a request, p99", "ms", [one.at(0.99) for one in loads],
            target="1000 (PERF-62)", is_lower_better=True,
        ),
        row(
            f"{asked}: requests that failed", "%",
            [100 * one.failed / len(one.took) for one in loads],
            target="1 (PERF-62)", is_lower_better=True,
        ),
        row(
            f"{asked}: reservations", "/s", [one.reserved / SECONDS for one in loads],
            target="10 (PERF-62)",
        ),
    ]  # fmt: skip


benchmarks = [tickets]
