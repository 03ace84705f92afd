"""PostgreSQL is killed under a running site, and comes back: what visitors notice (SITE-155)."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.postgres.embedded.server import EmbeddedServer
from tests.journeys.kinds import StartSite
from tests.journeys.test_process import MANY, history, post_until_acknowledged
from tests.journeys.visitor import Visitor
from tests.nodes.lines import Line, Lines
from tests.patience import PATIENCE_S
from tests.processes.prepared import start_prepared
from tests.storage.test_database import signal_all

pytestmark = pytest.mark.slow


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of the test's own, which nobody brings back but the test."""
    server = start_prepared(tmp_path / "database")
    yield server
    server.stop()


def kill(server: EmbeddedServer) -> None:
    """End the server as a crash of the machine would; returns when it is gone."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while server.is_running and time.monotonic() < deadline:
        time.sleep(0.02)  # the kernel sets no event for us
    assert not server.is_running


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    """All processes of the server stand still, and its sockets take what they are sent."""
    assert server.pid is not None
    signal_all(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(server.pid, signal.SIGCONT)


@contextmanager
def bad_line(to: Path) -> Iterator[Line]:
    with Lines() as lines:
        yield lines.to_socket(to)


def wait_ready(visitor: Visitor) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while visitor.get("/ready").status != 200:
        assert time.monotonic() < deadline, "the site did not heal"
        time.sleep(0.1)


def test_pages_streams_and_drafts_survive_a_lost_database(
    start_site: StartSite, postgres: EmbeddedServer
) -> None:
    """SITE-155 SITE-183: what needs no database stays, the rest is 503 meanwhile, all heals."""
    site = start_site(DATABASE_URL=postgres.url, **MANY)
    visitor = Visitor(site.url)
    page = visitor.open_lab()
    style = page.text.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    with visitor.open_stream() as stream:
        assert visitor.post("before").status == 202
        stream.read_until(b"before")
        kill(postgres)
        for path in ("/", "/health", "/health/live", style):
            assert visitor.get(path).status == 200, path
        draft = str(uuid.uuid4())
        for _ in range(3):
            refused = visitor.post("kept by its author", draft)
            assert (refused.status, refused.body) == (503, b"")
            assert "retry-after" in refused.headers
            assert visitor.get("/lab").status == 503
        assert visitor.get("/ready").status == 503
        stream.read_until(b'"transportErrorStatus":503')
        postgres.restart()
        wait_ready(visitor)
        post_until_acknowledged(visitor, "kept by its author", draft)
        stream.read_until(b"kept by its author")
    assert history(visitor) == ["before", "kept by its author"]


def test_a_database_that_stands_still_holds_nobody_up(
    start_site: StartSite, postgres: EmbeddedServer
) -> None:
    """REL-82: 503 for what needs it, all else and the streams go on; then all is as before."""
    site = start_site(DATABASE_URL=postgres.url, **MANY)
    visitor, asked = Visitor(site.url), [Visitor(site.url) for _ in range(8)]
    visitor.open_lab()
    for one in asked:
        one.open_lab()
    with visitor.open_stream() as stream, ThreadPoolExecutor(len(asked) + 1) as threads:
        assert visitor.post("before").status == 202
        stream.read_until(b"before")
        draft = str(uuid.uuid4())
        with frozen(postgres):
            # More than there are connections in the pool; none waits for the server.
            waiting = [threads.submit(one.post, "of another") for one in asked]
            waiting.append(threads.submit(visitor.post, "kept by its author", draft))
            for path in ("/", "/health/live"):
                assert visitor.get(path).status == 200, path
            answers = [one.result(PATIENCE_S) for one in waiting]
            assert {(one.status, "retry-after" in one.headers) for one in answers} == {(503, True)}
            # The stream lives: a beat or the word of a refused post comes while nothing is stored.
            stream.read_until(b'"transportErrorStatus":503')
        wait_ready(visitor)
        post_until_acknowledged(visitor, "kept by its author", draft)
        stream.read_until(b"kept by its author")
    assert history(visitor).count("kept by its author") == 1


@dataclass(frozen=True)
class Form:
    """For how long the line is bad; in the suite only until somebody has noticed."""

    cut_s: float
    refused_s: float
    round_trip_s: float


_FORMS = {"short": Form(0.0, 0.0, 0.01), "long": Form(10.0, 10.0, 0.2)}


def test_a_site_that_is_cut_off_from_its_database_recovers_by_itself(
    start_site: StartSite, postgres: EmbeddedServer
) -> None:
    """REL-84: silent, refused and slow; what was acknowledged is there once, and in order."""
    form = _FORMS[os.environ.get("FORM", "short")]
    texts = [f"message number {number:02}" for number in range(12)]
    posted = list[str]()

    def post_all(writer: Visitor) -> None:
        for text in texts:
            post_until_acknowledged(writer, text, str(uuid.uuid4()))
            posted.append(text)

    def until_posted(count: int) -> None:
        while len(posted) < count:
            assert writing.running(), "who posts has given up"
            time.sleep(0.01)  # posts of another thread, and of a process that tells nobody

    with bad_line(postgres.sockets / ".s.PGSQL.5432") as line, ThreadPoolExecutor(1) as threads:
        url = f"postgresql://postgres@127.0.0.1:{line.port}/postgres"
        site = start_site(DATABASE_URL=url, DB_MAX_CONNECTIONS="4", **MANY)
        reader, writer = Visitor(site.url), Visitor(site.url)
        reader.open_lab()
        writer.open_lab()
        with reader.open_stream() as stream:
            writing = threads.submit(post_all, writer)
            until_posted(3)
            if form.cut_s:
                line.cut()
                time.sleep(form.cut_s)
                line.mend()
                until_posted(len(posted) + 2)
            began, before = time.monotonic(), line.proxy.connects
            line.refuse(True)
            refused = reader.post("of nobody", str(uuid.uuid4()))
            assert (refused.status, "retry-after" in refused.headers) == (503, True)
            for path in ("/", "/health/live"):
                assert reader.get(path).status == 200, path
            time.sleep(form.refused_s)
            # A connection is tried for once a second at most, and not by everybody who asks.
            tries = line.proxy.connects - before
            assert tries <= 4 * (time.monotonic() - began + 1)
            line.refuse(False)
            line.slow_down(form.round_trip_s)
            wait_ready(reader)
            until_posted(len(texts))
            stream.read_until(texts[-1].encode())
        line.slow_down(0.0)
        kept = [text for text in history(writer) if text != "of nobody"]
        site.end()
    assert kept == texts


def test_nothing_acknowledged_is_lost_or_doubled(
    start_site: StartSite, postgres: EmbeddedServer
) -> None:
    """SITE-155: PostgreSQL restarted under load; an open page shows each message once."""
    site = start_site(DATABASE_URL=postgres.url, **MANY)
    writer, reader = Visitor(site.url), Visitor(site.url)
    writer.open_lab()
    reader.open_lab()
    texts = [f"message number {number:02}" for number in range(40)]

    is_time = threading.Event()

    def crash_and_restart() -> None:
        is_time.wait(PATIENCE_S)
        kill(postgres)
        postgres.restart()

    with reader.open_stream() as stream:
        killer = threading.Thread(target=crash_and_restart, daemon=True)
        killer.start()
        for number, text in enumerate(texts):
            if number == len(texts) // 4:
                is_time.set()
            post_until_acknowledged(writer, text, str(uuid.uuid4()))
        killer.join()
        stream.read_until(texts[-1].encode())
    assert history(reader) == texts
