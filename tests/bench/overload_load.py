"""The load generator of bench_overload: many kept connections, each asking at its own even pace.

    python -m tests.bench.overload_load PORT PID PATH

Prints `ready` once all connections stand. Then, for each line on standard input, one of JSON:

- `peak SECONDS`: a few connections ask again as soon as they are answered
- `steady RATE SECONDS`: all of the many together ask so often in a second, whatever comes back

Seconds are those that the server `PID` works, by the clock of its processor time: what it can do in
one is the same whatever else the machine does meanwhile, and so is what it is asked for. Told is
what was served and refused in one, the p99 of both in milliseconds of everybody's time, how often a
connection could not ask because its answer was not there, and how much of a processor the server
had. The connections are of a few hundred visitors, each with an address of its own.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import statistics
import sys
import time
from heapq import heapify, heapreplace
from http import HTTPStatus

# As many are served by 8 as by 128. By few a turn is short, so that on a machine with other work it
# is not late, and none of them is turned away.
PEAK_CONNECTIONS, VISITORS = 16, 200
# Each asks every one to two seconds. The server takes 11,000 and resets what is more.
CONNECTIONS = 8000
# So many come at once, and the next when these were answered: a server accepts one after the other.
OPENED_AT_ONCE = 200
# What came before is forgotten: for a second a server remembers that it had too much to do, and of
# a crowd that comes in one moment each is new to it once, which takes two or three.
WARM_UP_S, WARM_UP_WALL_S = 3.0, 4.5
# Asked at once where the pace is behind, before answers are read again.
ASKED_AT_ONCE = 32
# A server with nothing to do does not work, and would be asked for nothing any more: so much of
# everybody's time counts then.
OF_IDLE = 0.02
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
    # As clock_getcpuclockid(3) of Linux makes the number of that clock.
    return time.clock_gettime((~pid << 3) | 2)


class Counts:
    """What came of a run, once it is warm."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._warm_at = used_s(pid) + WARM_UP_S, time.perf_counter() + WARM_UP_WALL_S
        self.began: tuple[float, float] | None = None
        self.held = 0
        self._took: dict[int, list[float]] = {200: [], 503: []}

    def look(self) -> float:
        """Tell for how long it has run, warm, in the server's time."""
        now = used_s(self._pid), time.perf_counter()
        if self.began is None and now[0] >= self._warm_at[0] and now[1] >= self._warm_at[1]:
            self.began = now
        return 0.0 if self.began is None else now[0] - self.began[0]

    def note(self, status: int, seconds: float) -> None:
        """Count an answer."""
        if self.began is not None and status is not UNASKED:
            self._took[status].append(seconds)

    def told(self) -> dict[str, float]:
        """Tell all of it, at the end."""
        assert self.began is not None
        used, took = used_s(self._pid) - self.began[0], time.perf_counter() - self.began[1]
        return {
            "served": len(self._took[200]) / used,
            "served_p99_ms": p99(self._took[200]) * 1000,
            "refused": len(self._took[503]) / used,
            "refused_p99_ms": p99(self._took[503]) * 1000,
            "held": self.held / used,
            "of_a_processor": used / took,
        }


class Crowd:
    """All connections to one server."""

    def __init__(self, port: int, pid: int, path: str) -> None:
        self._pid, self._chooser = pid, selectors.DefaultSelector()
        cookies = known(port, path)
        self._few = [Client(port, path, number, cookies) for number in range(PEAK_CONNECTIONS)]
        self._many: list[Client] = []
        for at in range(0, CONNECTIONS, OPENED_AT_ONCE):
            numbers = range(at, at + OPENED_AT_ONCE)
            new = [Client(port, path, number, cookies) for number in numbers]
            for client in new if at else [*self._few, *new]:
                self._chooser.register(client.socket, selectors.EVENT_READ, client)
                client.ask()
            self._many += new
            self._read_all()

    def peak(self, seconds: float) -> dict[str, float]:
        """Ask as fast as answers come; what came of it."""
        counts = Counts(self._pid)
        for client in self._few:
            client.ask()
        while counts.look() < seconds:
            for client in self._read(1, counts):
                client.ask()
        told = counts.told()
        self._read_all()
        return told

    def steady(self, rate: float, seconds: float) -> dict[str, float]:
        """Ask at an even pace; what came of it."""
        counts, pace_s = Counts(self._pid), CONNECTIONS / rate
        at, was, idle_s = used_s(self._pid), time.perf_counter(), 0.0
        due = [(at + number / rate, number) for number in range(CONNECTIONS)]
        heapify(due)
        while counts.look() < seconds:
            before, (at, was) = (at, was), (used_s(self._pid), time.perf_counter())
            rest_s = OF_IDLE * (was - before[1])
            idle_s += rest_s if at - before[0] < rest_s else 0.0
            for _ in range(ASKED_AT_ONCE):
                when, number = due[0]
                if when > at + idle_s:
                    break
                heapreplace(due, (when + pace_s, number))
                if self._many[number].asked_at is None:
                    self._many[number].ask()
                else:
                    counts.held += counts.began is not None
            self._read(0.002 if due[0][0] > at + idle_s else 0, counts)
        told = counts.told()
        self._read_all()
        return told

    def _read(self, timeout: float, counts: Counts | None = None) -> list[Client]:
        """Read what is there; who was answered."""
        answered = []
        for key, _ in self._chooser.select(timeout):
            client: Client = key.data
            answer = client.read()
            if answer is None:
                continue
            status, seconds, ends = answer
            if counts is not None:
                counts.note(status, seconds)
            if ends:
                self._chooser.unregister(client.socket)
                client.socket.close()
                client.connect()
                self._chooser.register(client.socket, selectors.EVENT_READ, client)
            answered.append(client)
        return answered

    def _read_all(self) -> None:
        """Wait for every answer that is due."""
        while any(client.asked_at is not None for client in (*self._few, *self._many)):
            self._read(1)


def p99(values: list[float]) -> float:
    """The value that 99 % stay under; 0 of nothing."""
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else 0.0


def main() -> None:
    crowd = Crowd(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    print("ready", flush=True)
    for line in sys.stdin:
        what, *words = line.split()
        numbers = [float(word) for word in words]
        told = crowd.peak(*numbers) if what == "peak" else crowd.steady(*numbers)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
