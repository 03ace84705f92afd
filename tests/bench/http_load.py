"""The load generator of bench_http: a few kept connections that ask for one thing again and again.

    python -m tests.bench.http_load PORT PATH SECONDS [p95]

Prints the answers a second, and if asked the milliseconds in which 95 of 100 came. All answers must
be as long as the first one.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

# Enough that a server on one core never waits for its clients.
CONNECTIONS = 8
LAST = b"connection: close\r\n"


def first_answer(port: int, request: bytes) -> int:
    """Ask once, to learn how many bytes an answer has."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request)
        got = client.recv(65_536)
        while b"\r\n\r\n" not in got:
            got += client.recv(65_536)
        assert got.startswith(b"HTTP/1.1 200 "), got[:200]
        head, _, _ = got.partition(b"\r\n\r\n")
        if b"chunked" in head.lower():
            while not got.endswith(b"0\r\n\r\n"):
                got += client.recv(65_536)
            return len(got)
        lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        return len(head) + 4 + int(lines[0].partition(b":")[2])


def connect(port: int) -> socket.socket:
    """Open a connection that waits for nothing before it sends."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def run(port: int, path: str, seconds: float) -> tuple[float, float]:
    """Ask for `seconds`; answers a second, and the milliseconds in which 95 of 100 came."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    size = first_answer(port, request)
    chooser = selectors.DefaultSelector()
    missing: dict[socket.socket, int] = {}
    ending: set[socket.socket] = set()
    asked: dict[socket.socket, float] = {}
    waits: list[float] = []

    def begin() -> None:
        client = connect(port)
        chooser.register(client, selectors.EVENT_READ)
        client.sendall(request)
        missing[client], asked[client] = size, time.perf_counter()

    for _ in range(CONNECTIONS):
        begin()
    began, answers = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for key, _ in chooser.select(1):
            found = key.fileobj
            assert isinstance(found, socket.socket)
            got = found.recv(262_144)
            if LAST in got:
                # A server ends a connection after so many requests; then the next one is opened.
                ending.add(found)
                missing[found] += len(LAST)
            missing[found] -= len(got)
            if missing[found] > 0:
                continue
            assert missing[found] == 0, "an answer has another length than the first"
            answers += 1
            waits.append(time.perf_counter() - asked[found])
            if found in ending:
                chooser.unregister(found)
                ending.remove(found)
                del missing[found], asked[found]
                found.close()
                begin()
            else:
                missing[found], asked[found] = size, time.perf_counter()
                found.sendall(request)
    took = time.perf_counter() - began
    for client in missing:
        client.close()
    waits.sort()
    return answers / took, waits[len(waits) * 95 // 100] * 1e3


if __name__ == "__main__":
    rate, slow_ms = run(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
    print(rate, slow_ms) if "p95" in sys.argv[4:] else print(rate)
