"""Fan-out: deliveries a second to 300 and 2000 readers, ours beside its peers in the same run.

    make bench ONLY=fanout

SSE and WebSocket, each by the site as it is (the lab page's room stream; `greenroom.v1` and the
Lobby), and SSE by a bare route of ours with small events. Peers send events of the same size:
Node's `http` and `ws`, FastAPI on uvicorn where it is installed, and the stock framework ours is
built on.

Each server and the load generator is a process of its own. Beside the rate stands the processor
time of the server for a delivery, which other programs of the machine disturb less.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.bench.rows import RUNS_MIN, Row, row

HERE = Path(__file__).parent
# Packages of Node that no lock names: `npm install --prefix build/bench-node ws`.
NODE_PACKAGES = HERE.parents[1] / "build" / "bench-node" / "node_modules"
ROOM, CROWD = 300, 2000
# Two ends of a connection are in two processes; each needs its descriptors and some more.
DESCRIPTORS = CROWD + 200
# About a second or two each on a small machine.
EVENTS = {ROOM: 640, CROWD: 96}
# The framework ours is built on is many times slower.
EVENTS_STOCK = 96
# A chat message, and what a small event of a program is.
LINE, SMALL = 60, 200
# PERF-4: a load generator that is busier than this measures itself.
BUSY_MAX = 0.9


class Server:
    """A server in a process of its own that was told to run until its input ends."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe, packages = subprocess.PIPE, os.environ.get("NODE_PATH", str(NODE_PACKAGES))
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, "NODE_PATH": packages}
        )
        self.port = self._output.readline().strip()

    @property
    def pid(self) -> int:
        """Tell which process it is."""
        return self._process.pid

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def ask(self, line: str) -> dict[str, float]:
        """Say a line and wait for its answer."""
        self.say(line)
        return self.answer()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, float]:
        return dict(json.loads(self._output.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


@contextmanager
def opened(command: Sequence[str]) -> Iterator[Server]:
    """Run a server for a while."""
    server = Server(command)
    try:
        yield server
    finally:
        server.close()


def module(name: str, *arguments: str) -> list[str]:
    """Tell how a program of this folder is started."""
    return [sys.executable, "-m", f"tests.bench.{name}", *arguments]


@dataclass
class Contender:
    """One server under load, and what its runs gave."""

    name: str
    kind: str
    command: list[str]
    size: int
    events: int | None = None
    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)
    # Of the last run.
    event_bytes: int = 0
    generator_busy: float = 0.0


def measure(one: Contender, server: Server, readers: int, together: int) -> None:
    """Run one contender once, with connections of its own."""
    count = one.events or EVENTS[readers]
    load = module("fanout_load", one.kind, server.port, str(readers), "rate", str(count))
    with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline().strip() == "ready"
        verb = "publish " if one.kind.startswith("site") else ""
        told = server.ask(f"{verb}{count} {together} {one.size}")
        came = json.loads(client.stdout.readline())
    assert not told.get("resyncs"), "a reader fell behind: windows were measured"
    deliveries = count * readers
    lacking = came["wrong"]
    assert not lacking, f"{one.name}: {lacking} readers had not each event once and in order"
    one.rates.append(deliveries / came["seconds"])
    one.microseconds.append(told["cpu"] / deliveries * 1e6)
    one.event_bytes = round(came["bytes"] / deliveries)
    one.generator_busy = max(one.generator_busy, came["cpu"] / came["seconds"])


def compare(
    what: str, ours: Contender, peers: Sequence[Contender], readers: int, together: int, target: str
) -> list[Row]:
    """Measure all by turns, so that a busy moment strikes all of them; ours goes first."""
    with ExitStack() as stack:
        servers = [stack.enter_context(opened(one.command)) for one in (ours, *peers)]
        for run in range(RUNS_MIN + 1):
            for one, server in zip((ours, *peers), servers, strict=True):
                if one is not ours and not one.size:
                    # The same bytes to each, so the body is what is left without the framing.
                    one.size = ours.event_bytes - (20 if ours.kind.endswith("sse") else 4)
                measure(one, server, readers, together)
                if not run:  # it warmed the caches
                    one.rates.clear()
                    one.microseconds.clear()
    for one in (ours, *peers):
        if one.generator_busy > BUSY_MAX:
            print(
                f"{what}: the load generator was {one.generator_busy:.0%} busy with {one.name}",
                file=sys.stderr,
            )
    rates = {one.name: statistics.median(one.rates) for one in peers}
    used = {one.name: statistics.median(one.microseconds) for one in peers}
    name = f"{what}, {ours.event_bytes} bytes"
    cpu = row(f"{name}: server", "us/delivery", ours.microseconds, peers=used, is_lower_better=True)
    return [row(name, "events/s", ours.rates, peers=rates, target=target), cpu]


def peers_of(kind: str, readers: int, size: int = 0) -> list[Contender]:
    """Tell who is installed and plays in this league."""
    peers = []
    node = shutil.which("node")
    if node is not None and (kind == "sse" or has_ws(node)):
        script = [node, str(HERE / "fanout_node.js"), "http" if kind == "sse" else "ws"]
        peers.append(Contender(f"Node {script[-1]}", kind, script, size))
    if readers == CROWD and all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "uvloop"))):
        own = module("fanout_servers", "fastapi")
        peers.append(Contender("FastAPI on uvicorn", kind, own, size))
    return peers


def has_ws(node: str) -> bool:
    """Tell whether Node finds the package `ws`."""
    packages = os.environ.get("NODE_PATH", str(NODE_PACKAGES))
    found = subprocess.run(
        [node, "-e", "require('ws')"],
        env={**os.environ, "NODE_PATH": packages},
        capture_output=True,
        check=False,
    )
    return found.returncode == 0


def crowds() -> list[int]:
    """Tell how many readers this machine lets two processes have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [ROOM, CROWD] if limit >= DESCRIPTORS else [ROOM]


def small_events() -> list[Row]:
    """Measure a bare route of ours with events of 200 bytes, each in a turn of its own."""
    ours = Contender("ours", "sse", module("fanout_servers", "ours"), SMALL)
    stock = Contender(
        "quart-trio on hypercorn", "sse", module("fanout_servers", "stock"), SMALL, EVENTS_STOCK
    )
    peers = [*peers_of("sse", ROOM, SMALL), stock]
    return compare(f"SSE, {ROOM} readers, bare route", ours, peers, ROOM, 1, "")


def site_streams() -> list[Row]:
    """Measure the site's room stream and its WebSocket; one event a turn, and sixteen."""
    rows: list[Row] = []
    for kind, target in (("sse", "PERF-20"), ("ws", "PERF-21")):
        for readers in crowds():
            for together in (1, 16):
                ours = Contender("site", f"site-{kind}", module("site_server"), LINE)
                peers = peers_of(kind, readers)
                what = f"{kind.upper()}, {readers} readers, {together} a turn"
                rows += compare(what, ours, peers, readers, together, target)
    return rows


benchmarks = [small_events, site_streams]
