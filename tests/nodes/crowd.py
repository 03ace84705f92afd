"""Many visitors of nodes behind a balancer: pages that come back, programs, and posts at a pace.

A page does what the browser's does: when its stream ends it tries again after a
second, give or take a fifth, then after twice as long. A post is tried, under one client id, until
it was accepted. All that is needed to judge it is kept in `Figures`.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from urllib.parse import quote

import trio

from tests.patience import PATIENCE_S
from web.client import ClientSettings, Gap, TopicEvent, connect

LOBBY = "room:lobby"
# What the page waits at first and at most, and by how much that is spread.
AGAIN_S, AGAIN_S_MAX, SPREAD = 1.0, 30.0, 0.2
# What a caller of a site that is away waits until it says so again: doubled with each try. A
# thousand that came every 0.1 s had this process for themselves: answers lay unread in sockets that
# the balancer had closed, and the lines of the nodes, which are of this process, stood still too.
POST_AGAIN_S, POST_AGAIN_S_MAX = 0.1, 2.0
# No more posts are open at once; those that would begin beside them are held back, and counted.
POSTS_OPEN_MAX = 100
# For the page, a stream that lived so long was a good one; the next wait is the first again.
STEADY_S = 2.0
_FILES = Path("/proc/self/fd")
_CHUNK = 64 * 1024


class Refused(Exception):
    """Raised for an answer that is none of use; `status` is the server's or the balancer's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answered {status}")
        self.status = status


@dataclass
class Figures:
    """What a crowd has seen; times in seconds."""

    # By client id: from the first try until it was accepted.
    accepted: dict[str, float] = field(default_factory=dict)
    # How often a try was answered with something else; 0 for a lost connection.
    refused: Counter[int] = field(default_factory=Counter)
    # How often a stream was; by the status, 0 for a lost connection.
    streams_refused: Counter[int] = field(default_factory=Counter)
    # How long pages were without a stream, from its end until the next one said something.
    away_s: list[float] = field(default_factory=list)
    # How long an open page that was told things all the time heard nothing.
    silent_s: list[float] = field(default_factory=list)
    pages: int = 0
    gaps: int = 0
    # Pages that had to be loaded anew to post on.
    reloads: int = 0
    # Posts that did not begin, as too many were open.
    held: int = 0

    def post_s(self, share: float) -> float:
        """The time within which that share of the posts was accepted."""
        took = sorted(self.accepted.values()) or [0.0]
        return took[min(len(took) - 1, int(len(took) * share))]


@dataclass
class Crowd:
    """Visitors of the site at `port`; `last` is the last word, once it was said."""

    port: int
    figures: Figures
    random: Random
    said: set[str] = field(default_factory=set)
    last: str = ""
    # Posts that have begun and are not accepted.
    posts_open: int = 0
    pages: list[Page] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)

    @property
    def hearers(self) -> Sequence[Page | Program]:
        """All that hear what is said."""
        return [*self.pages, *self.programs]

    def progress(self) -> str:
        """How it is just now, in a line; any thread may ask."""
        figures, heard = self.figures, [len(one.places) for one in self.programs]
        return (
            f"{len(figures.accepted)} of {len(self.said)} posts accepted, {self.posts_open} open, "
            f"{figures.held} held back; tries refused {dict(sorted(figures.refused.items()))}; "
            f"{sum(one.is_listening for one in self.pages)} of {len(self.pages)} pages listen; "
            f"programs have heard {min(heard, default=0)} to {max(heard, default=0)}, "
            f"{figures.gaps} gaps; {len(list(_FILES.iterdir()))} files open"
        )

    async def come(self, pages: int, programs: int, nursery: trio.Nursery) -> None:
        """Open pages and programs; returns when all have heard something."""
        self.pages = [Page(self, number) for number in range(pages)]
        self.programs = [Program(self) for _ in range(programs)]
        for one in self.hearers:
            nursery.start_soon(one.run)
        for one in self.hearers:
            with trio.fail_after(PATIENCE_S):
                await one.is_live.wait()

    async def post(self, per_s: float, nursery: trio.Nursery, until: trio.Event) -> None:
        """Have posts begin at a pace, each in a task of its own, until the event is set."""
        began, count = trio.current_time(), 0
        while not until.is_set():
            if self.posts_open < POSTS_OPEN_MAX:
                nursery.start_soon(self.random.choice(self.pages).post, uuid.uuid4().hex)
            else:
                self.figures.held += 1
            count += 1
            await trio.sleep_until(began + count / per_s)

    async def end(self) -> None:
        """Say the last word, and wait until all have heard it; `deaf` is who did not."""
        self.last = uuid.uuid4().hex
        with trio.move_on_after(PATIENCE_S):
            await self.pages[0].post(self.last)
        with trio.move_on_after(PATIENCE_S):
            for one in self.hearers:
                await one.has_heard_last.wait()

    def deaf(self) -> Sequence[str]:
        """Who has not heard the last word."""
        pages = [
            f"page {at}" for at, one in enumerate(self.pages) if not one.has_heard_last.is_set()
        ]
        return pages + [
            f"program {at}"
            for at, one in enumerate(self.programs)
            if not one.has_heard_last.is_set()
        ]


class Page:
    """One browser with one tab: its stream, and its posts."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd = crowd
        # The balancer is trusted, so this is who it is.
        self._address = f"10.1.{number // 250}.{number % 250 + 1}"
        self._cookies: dict[str, str] = {}
        self._tab = ""
        self.is_listening = False
        self.is_live, self.has_heard_last = trio.Event(), trio.Event()

    async def run(self) -> None:
        """Load the page, and keep its stream open."""
        random = self._crowd.random
        await self._until(self.load)
        lost_at: float | None = None
        attempt = 0
        while True:
            opened_at = trio.current_time()
            was_told = await self._listen(lost_at)
            if was_told or lost_at is None:
                lost_at = trio.current_time()
            attempt = 0 if was_told and trio.current_time() - opened_at >= STEADY_S else attempt
            wait_s = min(AGAIN_S_MAX, AGAIN_S * 2**attempt)
            attempt += 1
            await trio.sleep(wait_s * random.uniform(1 - SPREAD, 1 + SPREAD))

    async def load(self) -> None:
        """Load the page anew; raises `Refused`."""
        status, body = await self._request("GET", "/lab")
        if status != 200:
            raise Refused(status)
        _, _, rest = body.partition(b'name="sseTabId" value="')
        self._tab = rest.partition(b'"')[0].decode()

    async def post(self, client_id: str) -> None:
        """Post until it was accepted."""
        self._crowd.posts_open += 1
        try:
            await self._post(client_id)
        finally:
            self._crowd.posts_open -= 1

    async def _post(self, client_id: str) -> None:
        figures, random = self._crowd.figures, self._crowd.random
        values = {"chatDemoDraftBody": f"post {client_id}", "demoClientId": client_id}
        values["roomName"] = "Lobby"
        began, unbound_at = trio.current_time(), None
        again_s = POST_AGAIN_S
        self._crowd.said.add(client_id)
        while True:
            body = json.dumps({**values, "sseTabId": self._tab}).encode()
            status = 0
            try:
                status, _ = await self._request("POST", "/demo/chat/messages/demo", body)
            except (OSError, trio.BrokenResourceError):
                pass
            if status == 202:
                figures.accepted[client_id] = trio.current_time() - began
                return
            figures.refused[status] += 1
            if status == 412:
                unbound_at = unbound_at or trio.current_time()
                # Its stream comes back by itself; a person would load the page after a while.
                if trio.current_time() - unbound_at > 5 * AGAIN_S:
                    figures.reloads += 1
                    await self._until(self.load)
            await trio.sleep(again_s * random.uniform(1 - SPREAD, 1 + SPREAD))
            again_s = min(POST_AGAIN_S_MAX, 2 * again_s)

    async def _listen(self, lost_at: float | None) -> bool:
        """Read one stream to its end; whether it said anything."""
        figures = self._crowd.figures
        signals = {"sseTabId": self._tab, "ssePage": "lab", "roomName": "Lobby"}
        path = f"/events?datastar={quote(json.dumps(signals))}"
        heard_at: float | None = None
        tail = b""
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self._crowd.port) as stream:
                await stream.send_all(self._head("GET", path, accept="text/event-stream") + b"\r\n")
                while data := await stream.receive_some(_CHUNK):
                    now = trio.current_time()
                    if heard_at is None:
                        status = int((data.split(maxsplit=2)[1:2] or [b"0"])[0])
                        if status != 200:
                            figures.streams_refused[status] += 1
                            return False
                        figures.pages += 1
                        if lost_at is not None:
                            figures.away_s.append(now - lost_at)
                        self.is_live.set()
                        self.is_listening = True
                    else:
                        figures.silent_s.append(now - heard_at)
                    heard_at = now
                    self._look_for_last(tail + data)
                    tail = data[-64:]
        except (OSError, trio.BrokenResourceError):
            pass
        finally:
            self.is_listening = False
        if heard_at is None:
            figures.streams_refused[0] += 1
        return heard_at is not None

    def _look_for_last(self, data: bytes) -> None:
        if self._crowd.last and self._crowd.last.encode() in data:
            self.has_heard_last.set()

    async def _until(self, load: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await load()
            except (OSError, trio.BrokenResourceError, Refused):
                await trio.sleep(POST_AGAIN_S)

    def _head(self, method: str, path: str, **more: str) -> bytes:
        # HTTP/1.0: an answer ends with its connection, and comes as it is.
        lines = {
            "host": f"127.0.0.1:{self._crowd.port}",
            "x-forwarded-for": self._address,
            "datastar-request": "true",
            "sec-fetch-site": "same-origin",
            **more,
        }
        if self._cookies:
            lines["cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.0\r\n{head}".encode()

    async def _request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        more = {"content-type": "application/json"} if body else {}
        head = self._head(method, path, **{"content-length": str(len(body)), **more})
        answer = b""
        async with await trio.open_tcp_stream("127.0.0.1", self._crowd.port) as stream:
            await stream.send_all(head + b"\r\n" + body)
            with trio.move_on_after(AGAIN_S_MAX):
                while data := await stream.receive_some(_CHUNK):
                    answer += data
        lines, _, content = answer.partition(b"\r\n\r\n")
        first, *headers = lines.decode("latin-1").split("\r\n")
        for one in headers:
            name, _, value = one.partition(":")
            if name.lower() == "set-cookie":
                key, _, rest = value.strip().partition("=")
                self._cookies[key] = rest.partition(";")[0]
        words = first.split()
        return (int(words[1]) if len(words) > 1 else 0), content


class Program:
    """A client program that hears the lobby through all of it; `places` are those it was given."""

    settings = ClientSettings(delay_s_first=0.5, delay_s_max=2.0, restart_spread_s=2.0)

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self.places: list[tuple[str | None, int | None]] = []
        self.is_live, self.has_heard_last = trio.Event(), trio.Event()

    async def run(self) -> None:
        """Listen for good."""
        address = f"ws://127.0.0.1:{self._crowd.port}/ws"
        async with (
            connect(address, settings=self.settings) as client,
            client.subscribe(LOBBY) as heard,
        ):
            await client.wait_open()
            self.is_live.set()
            async for one in heard:
                self._take(one)

    def missed(self) -> list[int]:
        """Places between those that it was given, in one life of the room."""
        seqs = [seq for _, seq in self.places if seq is not None]
        if not seqs:
            return []
        return sorted(set(range(seqs[0], seqs[-1] + 1)) - set(seqs))

    def is_in_order(self) -> bool:
        """Whether each place was given once, in order."""
        seqs = [seq for _, seq in self.places if seq is not None]
        return all(one < two for one, two in pairwise(seqs))

    def _take(self, one: TopicEvent | Gap) -> None:
        if isinstance(one, Gap):
            self._crowd.figures.gaps += 1
            return
        self.places.append((one.epoch, one.seq))
        last = self._crowd.last
        if last and last in str(one.fields):
            self.has_heard_last.set()


def gather(
    port: int,
    sizes: tuple[int, int, float],
    seed: int,
    work: Callable[[Crowd], None],
) -> Crowd:
    """Have a crowd of (pages, programs, posts a second) around `work`, which runs in a thread.

    Returns when all that was said has been accepted and all have heard the last word, or when
    patience is over: `judge_crowd` says what is missing then.
    """
    pages, programs, per_s = sizes
    crowd = Crowd(port, Figures(), Random(seed))

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await crowd.come(pages, programs, nursery)
            is_done = trio.Event()
            async with trio.open_nursery() as posting:
                posting.start_soon(partial(crowd.post, per_s, posting, is_done))
                try:
                    await trio.to_thread.run_sync(work, crowd)
                finally:
                    is_done.set()
                    posting.cancel_scope.deadline = trio.current_time() + PATIENCE_S
            await crowd.end()
            nursery.cancel_scope.cancel()

    trio.run(run)
    return crowd
