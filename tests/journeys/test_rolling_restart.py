"""The next process takes the port while the one before it still stops, and nobody loses a word."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from asyncpg import Connection

from storage.postgres import open_database
from tests.journeys.site_process import SiteProcess
from tests.journeys.test_process import MANY, post_until_acknowledged
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S
from tests.processes.prepared import start_prepared

pytestmark = pytest.mark.slow

CLIENTS = int(os.environ.get("CLIENTS", "20"))
ROUNDS = int(os.environ.get("ROUNDS", "1"))
POSTS = 5
LAST = "the last word"


class Client:
    """Somebody who posts until each post is accepted, beside a page that stays open."""

    def __init__(self, url: str) -> None:
        self.visitor = Visitor(url)
        self.visitor.open_lab_until_shown()
        self.accepted: list[str] = []
        self.is_live, self.has_heard_last = threading.Event(), threading.Event()
        self.streams = 0
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def post(self, accepted: threading.Semaphore) -> None:
        for _ in range(POSTS):
            one = str(uuid.uuid4())
            post_until_acknowledged(self.visitor, f"post {one}", one)
            self.accepted.append(one)
            accepted.release()

    def _read(self) -> None:
        """As a page does: when its stream ends, another one is opened, for the same tab."""
        page = Visitor(self.visitor.url, dict(self.visitor.cookies), self.visitor.tab)
        while not self.has_heard_last.is_set():
            try:
                with page.open_stream() as stream:
                    if stream.status == 200:
                        self.streams += 1
                        self._listen(stream.response.readline)
            except OSError:
                pass
            time.sleep(0.05)  # nobody is there yet; the next process comes in real time

    def _listen(self, read_line: Callable[[], bytes]) -> None:
        while line := read_line():
            self.is_live.set()
            if LAST.encode() in line:
                self.has_heard_last.set()
                return


def wait_until_refused(port: int) -> None:
    """The listeners close with the first step of a stop; until then the port is not free."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.005)  # the kernel sets no event for us
    raise AssertionError("it listens on")


def stored(url: str) -> list[str]:
    async def read(connection: Connection) -> list[str]:
        return [row[0] for row in await connection.fetch("SELECT client_id FROM chat_messages")]

    async def run() -> list[str]:
        async with open_database(url) as database:
            return await database.run(read)

    return trio.run(run)


def test_a_rolling_restart_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """REL-24: clients post, pages are open; the next process starts while the first one stops."""
    server = start_prepared(tmp_path / "database")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "DATABASE_URL": server.url,
        "PORT": str(port),
        **MANY,
        # All are of one address; streams of the process before may be counted beside theirs.
        "STREAMS_PER_ADDRESS_MAX": str(2 * CLIENTS),
    }
    sites = [SiteProcess(tmp_path / "state", **settings)]
    try:
        clients = [Client(sites[0].url) for _ in range(CLIENTS)]
        for client in clients:
            assert client.is_live.wait(PATIENCE_S)
        for _ in range(ROUNDS):
            accepted = threading.Semaphore(0)
            posting = [
                threading.Thread(target=one.post, args=(accepted,), daemon=True) for one in clients
            ]
            for thread in posting:
                thread.start()
            for _ in range(CLIENTS):
                assert accepted.acquire(timeout=PATIENCE_S)
            old = sites[-1]
            old.process.send_signal(signal.SIGTERM)
            wait_until_refused(port)
            sites.append(SiteProcess(tmp_path / "state", **settings))
            assert old.wait_ended() == 0, old.last_words()
            for thread in posting:
                thread.join()
        post_until_acknowledged(clients[0].visitor, LAST, str(uuid.uuid4()))
        for client in clients:
            assert client.has_heard_last.wait(PATIENCE_S)
            assert client.streams > ROUNDS
        expected = sorted(one for client in clients for one in client.accepted)
        assert len(expected) == CLIENTS * POSTS * ROUNDS
        found = stored(server.url)
        assert len(found) == len(expected) + 1
        assert set(expected) <= set(found)
    finally:
        for site in sites:
            site.end()
        server.stop()
