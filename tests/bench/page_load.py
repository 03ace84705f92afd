"""The load generator of bench_pages: a known visitor who asks for whole pages.

    python -m tests.bench.page_load PORT PATH SECONDS [COOKIES]
    python -m tests.bench.page_load PORT PATH burst COUNT
    python -m tests.bench.page_load PORT PATH others
    python -m tests.bench.page_load PORT PATH posts

The first prints how many pages came in that time, over a few kept connections, to a guest or to
whom the cookies are; `burst` asks for so
many as fast as it can, over as many connections as a browser would never open, and prints how many
were turned away; `others` asks for one after the other with a pause between, until standard input
ends, and prints the milliseconds of each, and how many were turned away; `posts` writes into the
Lobby instead, and prints how long each took to be on the open page of its author.
"""

from __future__ import annotations

import json
import re
import select
import selectors
import socket
import sys
import time
import uuid
from urllib.parse import urlencode

from tests.journeys.visitor import Visitor

# A browser opens six; a script that wants to harm opens more, but for one address 100 are plenty.
CONNECTIONS, BURST_CONNECTIONS = 4, 100
PAUSE_S = 0.02


class Asker:
    """One kept connection, opened anew when the server ends it."""

    def __init__(self, port: int, path: str, cookie: str) -> None:
        self._port = port
        # Of its requests, by a server that had too much to do.
        self.refused = 0
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nSec-Fetch-Site: none\r\n{cookie}\r\n"
        ).encode()
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def ask(self) -> None:
        self.socket.sendall(self._request)

    def read(self) -> bytes:
        """Read a whole answer; returns its head."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._some()
        head, _, body = got.partition(b"\r\n\r\n")
        # A probe of a burst is answered bare: it has no length.
        status = head[9:12]
        assert status in (b"200", b"204", b"503"), head
        self.refused += status == b"503"
        found = re.search(rb"content-length: (\d+)", head)
        missing = (int(found[1]) if found else 0) - len(body)
        while missing > 0:
            missing -= len(self._some())
        if b"connection: close" in head:
            self.socket.close()
            self.socket = self._connect()
        return head

    def _some(self) -> bytes:
        got = self.socket.recv(262_144)
        assert got, "the connection ended within an answer"
        return got


def cookie_of(port: int, path: str) -> str:
    """Come as somebody new, and stay the same from then on."""
    asker = Asker(port, path, "")
    asker.ask()
    found = re.search(rb"set-cookie: ([^;]+)", asker.read())
    asker.socket.close()
    return f"Cookie: {found[1].decode()}\r\n" if found else ""


def member_cookies(port: int) -> str:
    """Register as people do, which one address may only a few times; the member's cookies."""
    visitor, name = Visitor(f"http://127.0.0.1:{port}"), f"m{uuid.uuid4().hex[:12]}"
    typed = {"username": name, "email": f"{name}@example.org", "password": "x9 qv, tz!"}
    form = {
        "content-type": "application/x-www-form-urlencoded",
        "sec-fetch-site": "same-origin",
    }
    answer = visitor.request("POST", "/register", urlencode(typed).encode(), form)
    assert answer.status == 303, answer.text
    home = visitor.get("/").text
    assert name in home, home
    return "; ".join(f"{key}={value}" for key, value in visitor.cookies.items())


def steady(port: int, path: str, seconds: float, cookies: str = "") -> int:
    """Ask over a few connections by turns; how many came."""
    cookie, count = f"Cookie: {cookies}\r\n" if cookies else cookie_of(port, path), 0
    askers = [Asker(port, path, cookie) for _ in range(CONNECTIONS)]
    for asker in askers:
        asker.ask()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for asker in askers:
            asker.read()
            asker.ask()
            count += 1
    return count


def burst(port: int, path: str, count: int) -> int:
    """Ask for `count` as fast as they come; how many were turned away."""
    cookie, left, due, refused = cookie_of(port, path), count, count, 0
    chooser = selectors.DefaultSelector()
    for _ in range(BURST_CONNECTIONS):
        asker = Asker(port, path, cookie)
        chooser.register(asker.socket, selectors.EVENT_READ, asker)
        asker.ask()
        due -= 1
    while left:
        for key, _ in chooser.select(10):
            asker = key.data
            before = asker.socket
            chooser.unregister(before)
            asker.read()
            left -= 1
            refused, asker.refused = refused + asker.refused, 0
            if due:
                asker.ask()
                due -= 1
                chooser.register(asker.socket, selectors.EVENT_READ, asker)
    return refused


def others(port: int, path: str) -> dict[str, object]:
    """Ask as people do, until standard input ends; the milliseconds of each."""
    asker, took = Asker(port, path, cookie_of(port, path)), list[float]()
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        began = time.perf_counter()
        asker.ask()
        asker.read()
        took.append((time.perf_counter() - began) * 1000)
    return {"took": took, "refused": asker.refused}


def posts(port: int) -> dict[str, object]:
    """Post as people do, until standard input ends; the milliseconds until each is delivered."""
    visitor, took, refused = Visitor(f"http://127.0.0.1:{port}"), list[float](), 0
    visitor.open_lab()
    with visitor.open_stream() as stream:
        stream.read_until(b"sseConnected")
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            word = f"word {len(took)} of many"
            began = time.perf_counter()
            status = visitor.post(word).status
            if status == 503:
                refused += 1
                continue
            assert status == 202, status
            stream.read_until(word.encode())
            took.append((time.perf_counter() - began) * 1000)
    return {"took": took, "refused": refused}


def main(port: int, path: str, what: str, *more: str) -> None:
    if what == "burst":
        print(burst(port, path, int(more[0])))
    elif what == "others":
        print(json.dumps(others(port, path)))
    elif what == "posts":
        print(json.dumps(posts(port)))
    else:
        print(steady(port, path, float(what), *more))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
