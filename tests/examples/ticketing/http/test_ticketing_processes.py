"""Seats that many want at once, at several server processes on one database: each is sold once."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
import trio

from docs.examples.ticketing.http.options import LINKS, SENDS
from tests.examples.orders.orders_kit import ask, text, told
from tests.examples.ticketing.http.ticketing_kit import User, planned, sign_in
from tests.journeys.site_process import ExampleProcess
from tests.nodes.balancer import Balancer, program_of
from tests.patience import PATIENCE_S
from tests.processes.ports import free_ports
from tests.web.server.edge_kit import Reply

# All of them in one process of a test: the same for each, or a cookie of one is none at the other.
SECRET = base64.urlsafe_b64encode(b"s" * 64).decode().rstrip("=")
SIGNING_IN = 8
# The whole is run in a soak.
IS_WHOLE = os.environ.get("FORM") == "long"
CROWDS = [(100, 1), (50, 3)] if IS_WHOLE else [(8, 1), (6, 3)]
STRUCK = 50 if IS_WHOLE else 6


def started(folder: Path, database_url: str, **more: str) -> ExampleProcess:
    settings = {
        "DATABASE_URL": database_url,
        "SESSION_SECRET": SECRET,
        "MAIL_SENDER": "off",
        "REQUESTS_PER_ADDRESS": "1000",
        LINKS: "on",
        SENDS: "off",
        **more,
    }
    return ExampleProcess("ticketing", "postgres", folder, **settings)


@pytest.fixture
def pair(tmp_path: Path, database_url: str) -> Iterator[Sequence[int]]:
    with ExitStack() as stack:
        sites = [started(tmp_path / name, database_url) for name in ("one", "two")]
        for site in sites:
            stack.callback(site.end)
        yield [site.port for site in sites]


async def all_at_once(count: int, ports: Sequence[int]) -> list[User]:
    """Sign so many buyers in, shared out among servers."""
    found: list[User] = []
    few = trio.CapacityLimiter(SIGNING_IN)

    async def enter(number: int) -> None:
        async with few:
            port = ports[number % len(ports)]
            found.append(await sign_in(port, f"buyer-{number}@example.com"))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(enter, number)
    return found


async def reserve_all(buyers: Sequence[User], event: str) -> list[tuple[User, Reply]]:
    """Have each of them reserve one seat, all at once."""
    found: list[tuple[User, Reply]] = []

    async def reserve(buyer: User) -> None:
        found.append((buyer, await buyer.reserve(event)))

    async with trio.open_nursery() as nursery:
        for buyer in buyers:
            nursery.start_soon(reserve, buyer)
    return found


async def sell(ports: Sequence[int], buyers_count: int, seats: int) -> None:
    """Let many want few seats: so many have them, all others are told that there are none."""
    owner = await sign_in(ports[0], "owner@example.com")
    event = await planned(owner, seats)
    buyers = await all_at_once(buyers_count, ports)
    found = await reserve_all(buyers, event)
    # Told within five seconds, but on a machine that others load.
    ended = [
        (buyer, reply, reply.status if IS_WHOLE else await buyer.decided(reply))
        for buyer, reply in found
    ]
    statuses = Counter(status for _, _, status in ended)
    assert statuses == {201: seats, 409: buyers_count - seats}
    winner, reply = next((buyer, reply) for buyer, reply, status in ended if status == 201)
    name = text(told(reply), "reservation_id")
    path = f"/api/events/{event}/sections/General/availability"
    assert (await owner.until(path, "reserved", seats))["available"] == 0
    # Nobody pays for it, so it is sold to somebody who comes later.
    for _ in range(3):
        assert (await winner.pay(name, "tok_declined")).status == 402
    await winner.until(f"/api/reservations/{name}", "status", "Compensated")
    later = next(buyer for buyer, _, status in ended if status == 409)
    await later.bought(event)
    sold = await owner.until(path, "sold", 1)
    assert (sold["reserved"], sold["available"]) == (seats - 1, 0)


@pytest.mark.slow
def test_few_seats_that_many_want_are_sold_once(pair: Sequence[int]) -> None:
    # EX-45
    for buyers, seats in CROWDS:
        trio.run(sell, pair, buyers, seats)


@dataclass
class Standing:
    """Three servers behind a balancer, at its port."""

    port: int
    sites: Sequence[ExampleProcess]


@pytest.fixture
def three(tmp_path: Path, database_url: str) -> Iterator[Standing]:
    ports = free_ports(3)
    with ExitStack() as stack:
        balancer = Balancer("haproxy", tmp_path / "balancer", ports)
        stack.callback(balancer.end)
        sites = []
        for port in ports:
            at = {"PORT": str(port), "PUBLIC_ORIGIN": balancer.url}
            sites.append(started(tmp_path / str(port), database_url, **at))
            stack.callback(sites[-1].end)
        yield Standing(balancer.port, sites)


async def strike(standing: Standing) -> None:
    """Kill one of three servers while all buyers want the last seat."""
    # The balancer was there before they were, and looks for them now and then; it tells nobody.
    while (await ask(standing.port, "GET /health")).status == HTTPStatus.SERVICE_UNAVAILABLE:  # noqa: ASYNC110
        await trio.sleep(0.1)
    owner = await sign_in(standing.port, "owner@example.com")
    event = await planned(owner, 1)
    buyers = await all_at_once(STRUCK, [standing.port])
    answers: list[Reply] = []
    has_answered = trio.Event()

    async def reserve(buyer: User) -> None:
        # A server that is killed answers nothing, and the balancer says so in its own words.
        reply = None
        while reply is None or reply.status not in (201, 409):
            with suppress(OSError, ValueError, IndexError):
                reply = await buyer.reserve(event)
        answers.append(reply)
        has_answered.set()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for buyer in buyers:
                nursery.start_soon(reserve, buyer)
            await has_answered.wait()
            await trio.to_thread.run_sync(standing.sites[0].kill)
        for buyer in buyers:
            await all_decided(buyer)
    assert sum(reply.status == 201 for reply in answers) <= 1
    # The one who has it may never have heard so; nobody else does.
    path = f"/api/events/{event}/sections/General/availability"
    seats = await owner.until(path, "reserved", 1)
    assert (seats["available"], seats["sold"]) == (0, 0)


async def all_decided(buyer: User) -> None:
    """Wait until each reservation is held or refused, whoever had begun it."""
    while True:
        listed = msgspec.convert((await buyer.get("/api/reservations"))["reservations"], list[One])
        if all(one.status == "PaymentPending" or one.is_failed for one in listed):
            return
        await trio.sleep(0.1)


class One(msgspec.Struct):
    status: str | dict[str, object]

    @property
    def is_failed(self) -> bool:
        return isinstance(self.status, dict)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(program_of("haproxy") is None, reason="not run: haproxy is not installed")
@pytest.mark.skipif(not IS_WHOLE, reason="not run: `make soak` runs it")
def test_a_server_that_is_killed_sells_no_seat_twice_and_loses_none(three: Standing) -> None:
    # EX-51
    trio.run(strike, three)
