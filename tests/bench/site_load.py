"""The load generator of bench_site: pages of the lab that only count, and one that posts.

    python -m tests.bench.site_load PORT SUBSCRIBERS POSTS

Prints the milliseconds from each post's first byte to its arrival at the last subscriber, one
line; then `ready`; then, once the server closed every stream, the seconds the last events took.
"""

from __future__ import annotations

import http.client
import json
import re
import selectors
import socket
import sys
import time
import uuid
from urllib.parse import quote

CHUNK = 262_144
# A marker may be cut in two by a read: what is kept of the read before.
TAIL = 64
# Ends the answer; the connection itself would be kept for the next request.
LAST_CHUNK = b"0\r\n\r\n"


class Page:
    """A visitor of the lab who posts by one kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.request("GET", "/lab")
        answer = self._connection.getresponse()
        self.cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        found = re.search(rb'name="sseTabId" value="([0-9a-f-]+)"', answer.read())
        assert found
        self.tab = found.group(1).decode()

    def send(self, body: str) -> None:
        """Send a post; `finish` reads its answer."""
        values = {"chatDraftBody": body, "clientId": str(uuid.uuid4()), "sseTabId": self.tab}
        headers = {
            "content-type": "application/json",
            "datastar-request": "true",
            "sec-fetch-site": "same-origin",
            "cookie": self.cookie,
        }
        self._connection.request("POST", "/demo/chat/messages", json.dumps(values), headers)

    def finish(self) -> None:
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 202, answer.status


class Subscribers:
    """Open streams of one more visitor, read as fast as this process can."""

    def __init__(self, port: int, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._tails: dict[socket.socket, bytes] = {}
        cookie = Page(port).cookie
        for _ in range(count):
            self._open(port, cookie)

    def _open(self, port: int, cookie: str) -> None:
        signals = {"sseTabId": str(uuid.uuid4()), "ssePage": "lab", "roomName": "Lobby"}
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(
            f"GET /events?datastar={quote(json.dumps(signals))} HTTP/1.1\r\n"
            f"host: 127.0.0.1:{port}\r\ncookie: {cookie}\r\ndatastar-request: true\r\n\r\n".encode()
        )
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ)
        self._tails[client] = b""

    def read_until_all_have(self, marker: bytes) -> float:
        """Read until every stream has shown `marker`; gives the moment of the last."""
        waiting = set(self._tails)
        at = time.perf_counter()
        while waiting:
            for client, data in self._read():
                assert data, "a stream ended"
                if client in waiting and marker in self._tails[client] + data:
                    waiting.discard(client)
                    at = time.perf_counter()
                self._tails[client] = data[-TAIL:]
        return at

    def read_to_end(self) -> float:
        """Read until the server closed all streams; gives the seconds from first to last."""
        began, last = 0.0, 0.0
        while self._selector.get_map():
            for client, data in self._read():
                last = time.perf_counter()
                began = began or last
                if not data or data.endswith(LAST_CHUNK):
                    self._selector.unregister(client)
                    client.close()
        return last - began

    def _read(self) -> list[tuple[socket.socket, bytes]]:
        came = []
        for key, _ in self._selector.select():
            assert isinstance(key.fileobj, socket.socket)
            came.append((key.fileobj, key.fileobj.recv(CHUNK)))
        return came


def main() -> None:
    port, count, posts = (int(argument) for argument in sys.argv[1:])
    poster, subscribers = Page(port), Subscribers(port, count)
    subscribers.read_until_all_have(b'id="tree"')
    took: list[float] = []
    for number in range(posts):
        began = time.perf_counter()
        poster.send(f"post-{number}-of-many")
        took.append((subscribers.read_until_all_have(b"post-%d-of" % number) - began) * 1000)
        poster.finish()
    print(" ".join(f"{one:.3f}" for one in took), flush=True)
    print("ready", flush=True)
    print(subscribers.read_to_end(), flush=True)


if __name__ == "__main__":
    main()
