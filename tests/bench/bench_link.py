"""The link over NATS: how soon it is back, how soon a dead server is noticed, and what it costs.

Real servers on loopback, with the documented file. A message there and back stands beside the
library's own request, in the same run and one by one: what the hand-over between trio and the
library's loop costs.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import nats
import trio
from nats.aio.msg import Msg

from actors.cluster.link import Delivery, NoLink
from storage.link.nats import NatsLink, open_nats_link
from storage.link.nats_words import NatsCredentials, NatsSettings
from tests.bench.rows import Row, row
from tests.nats_server import PASSWORD, USER, NatsServer, missing, three

_RUNS = 5
_ROUNDS, _BURST, _BYTES = 500, 2000, 200
_TOPICS = 5000
_PAUSE_S = 0.002
N_A, N_B = "gr.bench.n.a", "gr.bench.n.b"


def _settings(servers: Sequence[NatsServer], folder: Path) -> NatsSettings:
    password = folder / "password"
    password.write_text(PASSWORD)
    return NatsSettings(
        tuple(server.url for server in servers),
        "bench",
        "gr.bench",
        NatsCredentials(user=USER, password_file=password),
    )


async def _wait(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110
        await trio.sleep(_PAUSE_S)


async def _usable_s(a: NatsLink, b: NatsLink, since: float) -> float:
    """Seconds from `since` until what A says is heard by B again."""
    heard: list[float] = []
    subject = f"{N_B}.{since}"
    await _wait(lambda: b.status().is_up)
    await b.subscribe(subject, lambda _: heard.append(time.monotonic()))
    while not heard:
        try:
            await a.publish(subject, b"x")
        except NoLink:
            pass
        await trio.sleep(_PAUSE_S)
    return heard[0] - since


async def _back_s(server: NatsServer, folder: Path) -> float:
    """The server is killed, and starts after a second."""
    of = _settings([server], folder)
    async with open_nats_link(of) as a, open_nats_link(of) as b:
        server.kill()
        await trio.sleep(1)
        await trio.to_thread.run_sync(server.start)
        return await _usable_s(a, b, time.monotonic())


async def _elsewhere_s(servers: Sequence[NatsServer], folder: Path) -> float:
    """Of three servers the one of A is killed."""
    of = _settings(servers, folder)
    async with open_nats_link(of) as a, open_nats_link(of) as b:
        place = a.status().server
        left = next(one for one in servers if place.endswith(f":{one.port}"))
        began = time.monotonic()
        left.kill()
        await _wait(lambda: not a.status().is_up or a.status().server != place)
        took = await _usable_s(a, b, began)
    left.start()
    return took


async def _noticed_s(server: NatsServer, folder: Path) -> float:
    async with open_nats_link(_settings([server], folder)) as a:
        began = time.monotonic()
        server.hang()
        await _wait(lambda: not a.status().is_up)
        took = time.monotonic() - began
        server.go_on()
        await _wait(lambda: a.status().is_up)
        return took


async def _round_trip_ms(server: NatsServer, folder: Path) -> float:
    of, waiting = _settings([server], folder), [trio.Event()]
    async with open_nats_link(of) as a, open_nats_link(of) as b, trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[bytes](_BURST)

        async def answer() -> None:
            async for data in receive:
                await b.publish(N_A, data)

        nursery.start_soon(answer)
        await b.subscribe(N_B, lambda one: send.send_nowait(one.data))
        await a.subscribe(N_A, lambda _: waiting[0].set())
        took: list[float] = []
        for _ in range(_ROUNDS):
            waiting[0] = trio.Event()
            began = time.perf_counter()
            await a.publish(N_B, bytes(_BYTES))
            await waiting[0].wait()
            took.append((time.perf_counter() - began) * 1000)
        nursery.cancel_scope.cancel()
    return statistics.median(took)


async def _heard_per_s(server: NatsServer, folder: Path) -> float:
    """How many messages of their own A gets to B: frames hold up to 256 envelopes each."""
    of, count, over = _settings([server], folder), 0, trio.Event()

    def hear(_: Delivery) -> None:
        nonlocal count
        count += 1
        if count == _BURST:
            over.set()

    async with open_nats_link(of) as a, open_nats_link(of) as b:
        await b.subscribe(N_B, hear)
        began = time.perf_counter()
        for _ in range(_BURST):
            await a.publish(N_B, bytes(_BYTES))
        await over.wait()
        return _BURST / (time.perf_counter() - began)


def _request_ms(server: NatsServer) -> float:
    """The library alone, one request after the other."""

    async def measure() -> float:
        ask, reply = [
            await nats.connect(
                server.url, user=USER, password=PASSWORD, inbox_prefix="gr.bench.inbox"
            )
            for _ in range(2)
        ]

        async def answer(message: Msg) -> None:
            await message.respond(message.data)

        await reply.subscribe(N_B, cb=answer)
        await reply.flush()
        took: list[float] = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            await ask.request(N_B, bytes(_BYTES), timeout=10)
            took.append((time.perf_counter() - began) * 1000)
        await ask.close()
        await reply.close()
        return statistics.median(took)

    return asyncio.run(measure())


def _memory_mib(server: NatsServer, folder: Path) -> float:
    _settings([server], folder)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.bench.link_memory"),
            *(server.url, str(folder / "password"), str(_TOPICS)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def run() -> Sequence[Row]:
    """Call this for the rows of the link; none without a server."""
    if missing():
        print(missing(), file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with NatsServer(folder / "one") as server:
            back = [trio.run(_back_s, server, folder) * 1000 for _ in range(_RUNS)]
            noticed = [trio.run(_noticed_s, server, folder) for _ in range(_RUNS)]
            trips = [trio.run(_round_trip_ms, server, folder) for _ in range(_RUNS)]
            requests = [_request_ms(server) for _ in range(_RUNS)]
            rates = [trio.run(_heard_per_s, server, folder) for _ in range(_RUNS)]
            memory = [_memory_mib(server, folder) for _ in range(3)]
        servers = three(folder)
        try:
            for one in servers:
                one.start()
            time.sleep(1)  # they find each other
            elsewhere = [
                trio.run(partial(_elsewhere_s, servers, folder)) * 1000 for _ in range(_RUNS)
            ]
        finally:
            for one in servers:
                one.kill()
    lower = partial(row, is_lower_better=True)
    return [
        lower("link: usable after its server is back", "ms", back, target="CLU-54: <= 500"),
        lower("link: usable, its server of three killed", "ms", elsewhere, target="CLU-54: <= 500"),
        lower("link: a stopped server is noticed", "s", noticed, target="CLU-54: <= 4.5"),
        lower(
            "link: 200 B there and back, alone",
            "ms",
            trips,
            peers={"nats-py request": statistics.median(requests)},
        ),
        row("link: messages of 200 B, one by one", "1/s", rates),
        lower("link: memory at 5000 topics, idle", "MiB", memory, target="PERF-79: <= 40"),
    ]


benchmarks = [run]
