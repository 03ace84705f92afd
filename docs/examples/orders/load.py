"""How fast orders are placed: `python -m docs.examples.orders.load --rate 1000 --seconds 60`.

Run it beside a site of its own; it places an order for each tick of a clock, over kept HTTP
connections or on WebSockets (`--over socket`), and prints the rate and percentiles. A command's
time counts from when it was due, so one that had to wait for those before it is as slow as it was.

The site's limits hold for a load too: raise `REQUESTS_PER_ADDRESS` and `SOCKETS_PER_ADDRESS_MAX`
to the number of connections. On a WebSocket 20 commands a second are taken of each.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import trio

from web.client import CommandOverdue, CommandRefused, connect

ITEMS = [{"product_id": "prod-1", "name": "Widget", "quantity": 2, "unit_price_cents": 1000}]
BODY = json.dumps({"customer_id": "load", "items": ITEMS}).encode()
COMMAND = {"PlaceOrder": {"customer_id": "load", "items": ITEMS}}
# Longer than the site itself waits for an outcome.
ANSWER_S_MAX = 15.0
READ_BYTES = 65536

# Places one order; False when it was not placed.
PlaceOne = Callable[[], Awaitable[bool]]


@dataclass(slots=True)
class Tally:
    """What came of the commands; times in seconds."""

    took: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    def report(self) -> dict[str, float]:
        """Call this at the end: commands a second that were carried out, and milliseconds."""
        times = sorted(self.took)
        return {
            "placed": len(times),
            "failed": self.failed,
            "per_s": round(len(times) / self.seconds, 1) if self.seconds else 0.0,
            "p50_ms": _at(times, 0.50),
            "p95_ms": _at(times, 0.95),
            "p99_ms": _at(times, 0.99),
            "max_ms": _at(times, 1.0),
        }


async def run(places: Sequence[PlaceOne], rate: float, seconds: float) -> Tally:
    """Call this to place orders at a rate for a while, each by whoever is free."""
    tally, count = Tally(), round(rate * seconds)
    due = iter(range(count))
    began = trio.current_time()

    async def one(place: PlaceOne) -> None:
        for number in due:
            at = began + number / rate
            await trio.sleep_until(at)
            if await place():
                tally.took.append(trio.current_time() - at)
            else:
                tally.failed += 1

    async with trio.open_nursery() as nursery:
        for place in places:
            nursery.start_soon(one, place)
    tally.seconds = trio.current_time() - began
    return tally


@asynccontextmanager
async def over_http(url: str) -> AsyncIterator[PlaceOne]:
    """Have one connection that is kept; it is opened again when it broke."""
    host, port = _place(url)
    head = (
        f"POST /api/v1/orders HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    request = head.encode() + BODY
    streams: list[trio.SocketStream] = []

    async def place() -> bool:
        with trio.move_on_after(ANSWER_S_MAX):
            try:
                if not streams:
                    streams.append(await trio.open_tcp_stream(host, port))
                await streams[0].send_all(request)
                return await _status(streams[0]) == b"201"
            except (trio.BrokenResourceError, OSError):
                pass
        for broken in streams:
            await trio.aclose_forcefully(broken)
        streams.clear()
        return False

    try:
        yield place
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def over_socket(url: str) -> AsyncIterator[PlaceOne]:
    """Have one WebSocket, whose commands are acknowledged."""
    host, port = _place(url)
    async with connect(f"ws://{host}:{port}/ws") as client:

        async def place() -> bool:
            try:
                await client.command(COMMAND, timeout_s=ANSWER_S_MAX)
            except (CommandRefused, CommandOverdue):
                return False
            return True

        yield place


async def load(url: str, *, over: str, connections: int, rate: float, seconds: float) -> Tally:
    """Call this to have a load run; `over` is `http` or `socket`."""
    opening = over_http if over == "http" else over_socket
    async with AsyncExitStack() as stack:
        places = [await stack.enter_async_context(opening(url)) for _ in range(connections)]
        # The first of each opens its connection, and is not counted.
        await run(places, rate, len(places) / rate)
        return await run(places, rate, seconds)


async def _status(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _some(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(body)
    while left > 0:
        left -= len(await _some(stream))
    return head[9:12]


async def _some(stream: trio.SocketStream) -> bytes:
    got = await stream.receive_some(READ_BYTES)
    if not got:
        raise trio.BrokenResourceError("the site closed the connection")
    return bytes(got)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def _at(times: list[float], part: float) -> float:
    """A percentile of sorted seconds, in milliseconds."""
    if not times:
        return 0.0
    return round(times[min(len(times) - 1, int(part * len(times)))] * 1000, 2)


def main(arguments: Sequence[str]) -> int:
    """Call this with what was typed; 1 when a command failed."""
    parser = argparse.ArgumentParser(prog="orders.load", description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--over", choices=("http", "socket"), default="http")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1000.0, help="commands a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args(arguments)
    if given.connections < 1 or given.rate <= 0 or given.seconds <= 0:
        parser.error("connections, rate and seconds are more than nothing")
    tally = trio.run(
        partial(
            load,
            given.url,
            over=given.over,
            connections=given.connections,
            rate=given.rate,
            seconds=given.seconds,
        )
    )
    print(json.dumps(tally.report()))
    return 1 if tally.failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
