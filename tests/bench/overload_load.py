"""The load generator of bench_overload: many kept connections, each asking at its own even pace.

    python -m tests.bench.overload_load PORT PID PATH peak SECONDS
    python -m tests.bench.overload_load PORT PID PATH RATE SECONDS

`peak` asks over a few connections as fast as answers come. A rate is what all connections ask for
in a second together, whatever comes back. Printed is JSON of what was served and refused in a
second, and in a second of the processor that the server `PID` used; the p99 of both in
milliseconds; and how often a connection could not ask because its answer was not there. The
connections are of a few hundred visitors, each with an address of its own.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import statistics
import sys
import time
from heapq import heapify, heapreplace
from http import HTTPStatus
from pathlib import Path

PEAK_CONNECTIONS, VISITORS = 64, 200
# Each asks so often: what takes longer holds the next one up, and is told.
PACE_S = 2.0
# At a high rate they ask more often: the server takes 11,000 connections and resets what is more.
CONNECTIONS_MAX = 8000
# What a server learns in its first seconds is not measured; nor how long those waited who asked in
# them: thousands of connections come at once then, and a server accepts them one after the other.
WARM_UP_S = 6.0
# Of an answer to nobody's question.
UNASKED = HTTPStatus.REQUEST_TIMEOUT
_LENGTH = re.compile(rb"content-length: (\d+)")


class Client:
    """One kept connection and its visitor; opened anew when the server ends it."""

    def __init__(self, port: int, path: str, number: int, cookies: list[bytes]) -> None:
        self._port, self._path = port, path
        self._address = f"127.0.1.{1 + number % VISITORS}"
        self._cookie = cookies[number % VISITORS] if cookies else b""
        self.asked_at: float | None = None
        self._got = b""
        self.connect()

    def connect(self) -> None:
        """Open the connection."""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind((self._address, 0))
        self.socket.connect(("127.0.0.1", self._port))

    def ask(self) -> None:
        """Send the request."""
        self.asked_at = time.perf_counter()
        self.socket.sendall(
            b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nSec-Fetch-Site: none\r\n%b\r\n"
            % (self._path.encode(), self._port, self._cookie)
        )

    def read(self) -> tuple[int, float, bool] | None:
        """Read once; status, seconds, and whether the connection ended, of a whole answer."""
        data = self.socket.recv(262_144)
        assert data, "the connection ended within an answer"
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or length is None or len(body) < int(length[1]):
            return None
        if self.asked_at is None:
            # Its time was over before its turn to ask had come: where thousands are opened slowly.
            self._got = b""
            return UNASKED, 0.0, True
        took, self.asked_at, self._got = time.perf_counter() - self.asked_at, None, b""
        return int(head[9:12]), took, b"connection: close" in head

    def cookie(self) -> bytes:
        """Ask as somebody new; the header that makes a known visitor."""
        self.ask()
        found = re.search(rb"set-cookie: ([^;]+)", self.socket.recv(262_144))
        self.socket.close()
        return b"Cookie: %b\r\n" % found[1] if found else b""


def known(port: int, path: str) -> list[bytes]:
    """Come as so many visitors, once each; the cookie headers of all."""
    return [Client(port, path, number, []).cookie() for number in range(VISITORS)]


def used_s(pid: int) -> float:
    """Tell the processor time that a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(port: int, pid: int, path: str, seconds: float) -> dict[str, float]:
    """Ask as fast as answers come; what came of it."""
    chooser, cookies = selectors.DefaultSelector(), known(port, path)
    for number in range(PEAK_CONNECTIONS):
        client = Client(port, path, number, cookies)
        chooser.register(client.socket, selectors.EVENT_READ, client)
        client.ask()
    began, count, used = time.perf_counter() + WARM_UP_S, 0, 0.0
    while time.perf_counter() < began + seconds:
        for key, _ in chooser.select(1):
            client = key.data
            answer = client.read()
            if answer is None:
                continue
            if time.perf_counter() >= began:
                used, count = used or used_s(pid), count + (answer[0] == 200)
            if answer[2]:
                chooser.unregister(client.socket)
                client.socket.close()
                client.connect()
                chooser.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
    return {"served": count / seconds, "served_a_cpu_s": count / (used_s(pid) - used)}


def steady(port: int, pid: int, path: str, rate: float, seconds: float) -> dict[str, float]:
    """Ask at an even pace; what came of it."""
    chooser, cookies = selectors.DefaultSelector(), known(port, path)
    pace_s = min(PACE_S, CONNECTIONS_MAX / rate)
    connections = round(rate * pace_s)
    clients = []
    for number in range(connections):
        client = Client(port, path, number, cookies)
        clients.append(client)
        chooser.register(client.socket, selectors.EVENT_READ, client)
    now = time.perf_counter()
    due = [(now + number / rate, number) for number in range(connections)]
    heapify(due)
    began, held, slipped, used = now + WARM_UP_S, 0, 0.0, 0.0
    took: dict[int, list[float]] = {200: [], 503: []}
    counts = dict.fromkeys(took, 0)
    while (now := time.perf_counter()) < began + seconds:
        while due[0][0] <= now:
            at, number = due[0]
            heapreplace(due, (at + pace_s, number))
            slipped = max(slipped, now - at) if at >= began else 0.0
            if clients[number].asked_at is None:
                clients[number].ask()
            else:
                held += at >= began
        for key, _ in chooser.select(max(0.0, due[0][0] - now)):
            client = key.data
            answer = client.read()
            if answer is None:
                continue
            status, seconds_taken, ends = answer
            if (now := time.perf_counter()) >= began and status is not UNASKED:
                used, counts[status] = used or used_s(pid), counts[status] + 1
                if now - seconds_taken >= began:
                    took[status].append(seconds_taken)
            if ends:
                chooser.unregister(client.socket)
                client.socket.close()
                client.connect()
                chooser.register(client.socket, selectors.EVENT_READ, client)
    return {
        "served": counts[200] / seconds,
        "served_a_cpu_s": counts[200] / (used_s(pid) - used),
        "served_p99_ms": p99(took[200]) * 1000,
        "refused": counts[503] / seconds,
        "refused_p99_ms": p99(took[503]) * 1000,
        "held": held / seconds,
        "slipped_ms": slipped * 1000,
    }


def p99(values: list[float]) -> float:
    """The value that 99 % stay under; 0 of nothing."""
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else 0.0


if __name__ == "__main__":
    port, pid, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[5])
    path, what = sys.argv[3:5]
    if what == "peak":
        print(json.dumps(peak(port, pid, path, seconds)))
    else:
        print(json.dumps(steady(port, pid, path, float(what), seconds)))
