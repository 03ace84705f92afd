"""The load generator of the fan-out: opens streams or sockets and reads as fast as it can.

    python -m tests.bench.fanout_load KIND PORT COUNT TASK

KIND is `sse` or `ws` for the bare servers and the peers, `site-sse` or `site-ws` for the site.
Prints `ready` once everybody is live. Then, by TASK, one line of JSON:

- `rate EVENTS`: bytes, seconds from the first of them to the moment everybody has had the event
  with `LAST` in it, and the processor time of this process in between; then it is judged how many
  readers had not each of the events once and in order, by the numbers in them
- `latency [STALLED]`: microseconds from the stamp in an event to its arrival, for every event and
  reader; so many more are connected and never read
- `rounds`: for each line on standard input, until it ends, a run of events; how many of them the
  reader had who had the least, told apart by their stamps
- `numbered COUNT`: for each line on standard input, until it ends, a run of so many events that
  have numbers; says `null` when every reader has had as many more
- `posts COUNT`: milliseconds from a post's first byte to its arrival at the last reader
- `reconnect`: a line on standard input cuts everybody off and connects them anew, all at once; the
  seconds until all are live, and how a visitor's posts were answered meanwhile
- `idle`: nothing, until standard input ends
"""

from __future__ import annotations

import array
import http.client
import json
import re
import select
import socket
import struct
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from urllib.parse import quote

CHUNK = 262_144
# In the body of the last event of a run.
LAST = b"the-last-of-this-run"
# A stamp of `time.monotonic_ns`, which all processes of a machine share.
STAMP = re.compile(rb"at=(\d+);")
# The number of an event. What a page is sent beside the events of a run has none.
NUMBER = re.compile(rb"n=(\d{7});")
# A page of the lab shows each in two lists.
SHOWN = {"site-sse": 2}
# A marker or stamp may be cut in two by a read: so much is kept of the read before.
TAIL = 64
# A server's queue of connections that it has not accepted yet is far longer.
OPENED_AT_ONCE = 100
# A visitor who posts while others come back; one address has 20 posts in 10 s.
POST_EVERY_S = 0.1
# For what is still on its way when everybody has had the last event for the first time.
REST_S = 5
# The least the kernel gives; a reader that stalls fills it at once.
STALLED_BYTES = 4096


@dataclass(frozen=True)
class Kind:
    """How a stream of a kind begins: what is sent, what shows that it is live, and what then."""

    request: bytes
    live: bytes
    then: bytes = b""


def numbered(number: int, size: int, *, is_last: bool) -> str:
    """Make the body of an event; the last of a run says that it is."""
    return f"n={number:07};{LAST.decode() if is_last else ''}".ljust(size, "x")


def has_all(text: bytes, count: int, times: int) -> bool:
    """Tell whether a reader had the newest `count` events, each in order and `times` times.

    The first showings of all of them are held against the order, then the second ones. What is
    older came with the window that a page begins with.
    """
    numbers = [int(number) for number in NUMBER.findall(text)]
    newest = max(numbers, default=0)
    wanted = [*range(newest - count + 1, newest + 1)]
    shown: list[list[int]] = [[] for _ in range(times)]
    seen = dict.fromkeys(wanted, 0)
    for number in numbers:
        if number in seen:
            if seen[number] == times:
                return False
            shown[seen[number]].append(number)
            seen[number] += 1
    return all(one == wanted for one in shown)


def masked(text: bytes) -> bytes:
    """Wrap a short text as a client's WebSocket frame."""
    assert len(text) < 126
    return struct.pack("!BB4s", 0x81, 0x80 | len(text), b"\0\0\0\0") + text


def get(port: int, target: str, *headers: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def upgrade(port: int, *headers: str) -> bytes:
    return get(
        port, "/ws", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers,
    )  # fmt: skip


def kind_of(name: str, port: int, cookie: str) -> Kind:
    """Tell how one stream of a kind begins; each of the site's pages is a tab of its own."""
    match name:
        case "sse":
            return Kind(get(port, f"/events?tab={uuid.uuid4()}"), b": open\n\n")
        case "ws":
            return Kind(upgrade(port), b"open now")
        case "site-sse":
            signals = {"sseTabId": str(uuid.uuid4()), "ssePage": "lab", "roomName": "Lobby"}
            target = f"/events?datastar={quote(json.dumps(signals))}"
            head = get(port, target, f"cookie: {cookie}", "datastar-request: true")
            return Kind(head, b'id="chat-demo-list"')
        case "site-ws":
            wish = masked(b'{"type":"subscribe","topics":["room:lobby"]}')
            origin = f"Origin: http://127.0.0.1:{port}"
            head = upgrade(port, "Sec-WebSocket-Protocol: greenroom.v1", origin)
            return Kind(head, b'"subscribed"', wish)
    raise SystemExit(f"there is no kind {name!r}")


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
        values = {
            "chatDemoDraftBody": body,
            "demoClientId": str(uuid.uuid4()),
            "sseTabId": self.tab,
        }
        headers = {
            "content-type": "application/json",
            "datastar-request": "true",
            "sec-fetch-site": "same-origin",
            "cookie": self.cookie,
        }
        self._connection.request("POST", "/demo/chat/messages/demo", json.dumps(values), headers)

    def finish(self) -> int:
        """Give the answer's status."""
        answer = self._connection.getresponse()
        answer.read()
        return answer.status


class Client:
    """One open connection, and the end of what it read."""

    __slots__ = ("is_asked", "kind", "pieces", "socket", "stamp", "tail")

    def __init__(self, opened: socket.socket, kind: Kind) -> None:
        self.socket, self.kind, self.tail = opened, kind, b""
        # What is judged when the clock has stopped.
        self.pieces: list[bytes] = []
        self.is_asked, self.stamp = True, 0


def shown(client: Client, data: bytes, pattern: re.Pattern[bytes]) -> tuple[bytes, int, list[int]]:
    """What a stream shows now, where the last number in it ends, and those not shown before.

    A page shows an event in two panels, and in a window again: the first counts.
    """
    seen, end, new = client.tail + data, 0, list[int]()
    for found in pattern.finditer(seen):
        end, number = found.end(), int(found.group(1))
        if number > client.stamp:
            client.stamp = number
            new.append(number)
    return seen, end, new


class Crowd:
    """Open connections, read as fast as this process can."""

    def __init__(self, name: str, port: int) -> None:
        self._name, self._port = name, port
        self._cookie = Page(port).cookie if name == "site-sse" else ""
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def open(self, count: int, *, receive_bytes: int | None = None) -> list[Client]:
        """Connect so many; `receive_bytes` makes the kernel's room for each small."""
        opened: list[Client] = []
        for _ in range(count):
            kind = kind_of(self._name, self._port, self._cookie)
            client = socket.socket()
            if receive_bytes is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            client.connect(("127.0.0.1", self._port))
            client.sendall(kind.request)
            client.setblocking(False)
            one = self._clients[client.fileno()] = Client(client, kind)
            opened.append(one)
            self._epoll.register(client.fileno(), select.EPOLLIN)
        return opened

    def open_until_live(self, count: int) -> None:
        """Connect so many, not too many at the same time."""
        for at in range(0, count, OPENED_AT_ONCE):
            self.read_until_live(self.open(min(OPENED_AT_ONCE, count - at)))

    def read_until_live(self, opened: list[Client]) -> None:
        waiting = {client.socket.fileno() for client in opened}
        upgraded: set[int] = set()
        while waiting:
            for number, client, data in self.read():
                assert data, "a stream ended"
                seen = client.tail + data
                if client.kind.then and number not in upgraded and b"\r\n\r\n" in seen:
                    upgraded.add(number)
                    client.socket.sendall(client.kind.then)
                if client.kind.live in seen:
                    waiting.discard(number)
                client.tail = data[-TAIL:]

    def reconnect(self) -> float:
        """Cut everybody off and connect them anew in one moment; gives the seconds it took."""
        before = [*self._clients.values()]
        for client in before:
            self._epoll.unregister(client.socket.fileno())
            client.socket.close()
        self._clients.clear()
        began = time.perf_counter()
        opened = [self._begin(client.kind) for client in before]
        self.read_until_live(opened)
        return time.perf_counter() - began

    def _begin(self, kind: Kind) -> Client:
        """Connect without waiting; the request follows when the connection stands."""
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", self._port))
        one = self._clients[client.fileno()] = Client(client, kind)
        one.is_asked = False
        self._epoll.register(client.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return one

    def stop_reading(self, clients: list[Client]) -> None:
        """Leave these connected and read them no more."""
        for client in clients:
            self._epoll.unregister(client.socket.fileno())
            del self._clients[client.socket.fileno()]

    def read_until_all_have(self, marker: bytes) -> float:
        """Read until every stream has shown `marker`; gives the moment of the last."""
        waiting, at = set(self._clients), 0.0
        while waiting:
            for number, client, data in self.read():
                assert data, "a stream ended"
                client.pieces.append(data)
                if marker in data or (client.tail and marker in client.tail + data[:TAIL]):
                    waiting.discard(number)
                    at = time.perf_counter()
                client.tail = data[-TAIL:]
        return at

    def read_stamps_until_all_have(self, marker: bytes) -> array.array[float]:
        """Read until every stream has shown `marker`; gives every event's microseconds."""
        waiting, took = set(self._clients), array.array("f")
        while waiting:
            for number, client, data in self.read():
                assert data, "a stream ended"
                now = time.monotonic_ns()
                seen, end, new = shown(client, data, STAMP)
                took.extend((now - stamp) / 1000 for stamp in new)
                if marker in seen:
                    waiting.discard(number)
                client.tail = seen[max(end, len(seen) - TAIL) :]
        return took

    def read_round(self, marker: bytes) -> int:
        """Read until every stream has shown `marker`; gives the least events that one has had."""
        waiting = set(self._clients)
        heard = dict.fromkeys(waiting, 0)
        while waiting:
            for number, client, data in self.read():
                assert data, "a stream ended"
                seen, end, new = shown(client, data, STAMP)
                heard[number] += len(new)
                if marker in seen:
                    waiting.discard(number)
                    end = max(end, seen.rindex(marker) + len(marker))
                client.tail = seen[max(end, len(seen) - TAIL) :]
        return min(heard.values())

    def read_numbered(self, count: int) -> None:
        """Read until every stream has shown so many events more than before.

        What shows them again is read with what comes next, and changes nothing.
        """
        left = dict.fromkeys(self._clients, count)
        while left:
            for number, client, data in self.read():
                assert data, "a stream ended"
                seen, end, new = shown(client, data, NUMBER)
                if new:
                    left[number] -= len(new)
                if left.get(number) == 0:
                    del left[number]
                client.tail = seen[max(end, len(seen) - TAIL) :]

    def read(self) -> list[tuple[int, Client, bytes]]:
        """Wait for bytes and give what came."""
        clients = self._clients
        came = []
        for number, _ in self._epoll.poll():
            client = clients[number]
            if not client.is_asked:
                client.socket.sendall(client.kind.request)
                client.is_asked = True
                self._epoll.modify(number, select.EPOLLIN)
                continue
            came.append((number, client, client.socket.recv(CHUNK)))
        return came

    def rate(self, events: int) -> dict[str, float]:
        """Read a run of so many events."""
        first = self.read()
        began, used = time.perf_counter(), time.process_time()
        for _, client, data in first:
            client.pieces.append(data)
            client.tail = data[-TAIL:]
        at = self.read_until_all_have(LAST)
        told = {"seconds": at - began, "cpu": time.process_time() - used}
        held = [sum(map(len, client.pieces)) for client in self._clients.values()]
        return {**told, "bytes": sum(held), "wrong": self._judge(events)}

    def _judge(self, events: int) -> int:
        """Count the readers who had not everything, once and in order; the rest may be late."""
        times, until = SHOWN.get(self._name, 1), time.monotonic() + REST_S
        wrong = self._clients
        while True:
            texts = {number: b"".join(client.pieces) for number, client in wrong.items()}
            wrong = {
                number: self._clients[number]
                for number, text in texts.items()
                if not has_all(text, events, times)
            }
            if not wrong or time.monotonic() > until:
                return len(wrong)
            if self._epoll.poll(0.1):
                for _, client, data in self.read():
                    client.pieces.append(data)


class Poster:
    """Posts as a visitor, one after the other, in a thread of its own until it is told to stop."""

    def __init__(self, port: int) -> None:
        self._page, self.statuses = Page(port), list[int]()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """Tell how many were sent, and how many were answered by anything but 202."""
        self._is_over.set()
        self._thread.join()
        refused = [status for status in self.statuses if status != 202]
        return {"posts": len(self.statuses), "refused": len(refused)}

    def _run(self) -> None:
        while not self._is_over.wait(POST_EVERY_S):
            self._page.send("a word in between")
            self.statuses.append(self._page.finish())


def posts(crowd: Crowd, port: int, count: int) -> list[float]:
    """Post and wait until everybody has it, again and again; gives the milliseconds."""
    page, took = Page(port), list[float]()
    for number in range(count):
        began = time.perf_counter()
        page.send(f"post-{number}-of-many")
        took.append((crowd.read_until_all_have(b"post-%d-of" % number) - began) * 1000)
        assert page.finish() == 202
    return took


def do(task: str, numbers: list[int], crowd: Crowd, port: int) -> object:
    """Do what the command line says; gives what is told of it."""
    match task:
        case "rate":
            return crowd.rate(*numbers)
        case "latency":
            return [round(one) for one in crowd.read_stamps_until_all_have(LAST)]
        case "rounds":
            while sys.stdin.readline():
                print(json.dumps([crowd.read_round(LAST)]), flush=True)
            return None
        case "numbered":
            while sys.stdin.readline():
                crowd.read_numbered(*numbers)
                print("null", flush=True)
            return None
        case "posts":
            return posts(crowd, port, *numbers)
        case "reconnect":
            sys.stdin.readline()
            poster = Poster(port)
            seconds = crowd.reconnect()
            return {"seconds": seconds, **poster.stop()}
        case "idle":
            sys.stdin.readline()
            return None
    raise SystemExit(f"there is no task {task!r}")


def main() -> None:
    name, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    task, *rest = sys.argv[4:]
    numbers = [int(one) for one in rest]
    crowd = Crowd(name, port)
    if task == "latency" and numbers:
        stalled = crowd.open(numbers[0], receive_bytes=STALLED_BYTES)
        crowd.read_until_live(stalled)
        crowd.stop_reading(stalled)
    crowd.open_until_live(count)
    print("ready", flush=True)
    told = do(task, numbers, crowd, port)
    if told is not None:
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
