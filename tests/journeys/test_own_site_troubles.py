"""The example of a site of one's own, in trouble: its database dies, it dies, its clients leave."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.postgres.embedded.server import EmbeddedServer
from tests.journeys.site_process import OwnProcess
from tests.journeys.test_database_away import kill, wait_ready
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S
from tests.processes.prepared import start_prepared

pytestmark = pytest.mark.slow


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of the test's own, which nobody brings back but the test."""
    server = start_prepared(tmp_path / "database")
    yield server
    server.stop()


@pytest.fixture
def own(tmp_path: Path, postgres: EmbeddedServer) -> Iterator[OwnProcess]:
    running = OwnProcess(tmp_path / "state", DATABASE_URL=postgres.url)
    yield running
    running.end()


def live_path(page: str) -> str:
    found = re.search(r"@get\('([^']+)'", page)
    assert found, page
    return found[1].replace("&amp;", "&")


def vote_until_counted(own: OwnProcess) -> None:
    """Each of another browser, as a crowd does; one that was not counted may be cast again."""
    deadline = time.monotonic() + PATIENCE_S
    visitor = Visitor(own.url)
    while time.monotonic() < deadline:
        try:
            status = visitor.form("/", {"drink": "tea"}).status
        except OSError:
            status = 0  # no process is there; the next one comes in real time
        if status == 303:
            return
        assert status in (0, 503), status
        time.sleep(0.05)
    raise AssertionError("never counted")


def test_a_lost_database_is_503_and_heals_by_itself(
    own: OwnProcess, postgres: EmbeddedServer
) -> None:
    # SITE-155, SITE-183
    visitor = Visitor(own.url)
    page = visitor.page("/").text
    with visitor.open_stream_at(live_path(page)) as stream:
        stream.read_until(b"tea: 0")
        kill(postgres)
        # The aggregate knows what was counted, until a vote whose fate nobody knows.
        assert "<li>tea: 0</li>" in Visitor(own.url).get("/").text
        assert visitor.form("/", {"drink": "tea"}).status == 503
        assert visitor.get("/").status == 503
        assert visitor.get("/health").status == 200
        postgres.restart()
        wait_ready(visitor)
        vote_until_counted(own)
        # The page that stayed open is told by the same stream.
        stream.read_until(b"tea: 1")
    assert own.stop() == 0


def test_what_was_counted_survives_kill_9(own: OwnProcess) -> None:
    for _ in range(5):
        vote_until_counted(own)
    own.kill()
    own.restart()
    vote_until_counted(own)
    assert "<li>tea: 6</li>" in Visitor(own.url).page("/").text


def test_nonsense_is_answered_and_costs_nobody_else(own: OwnProcess) -> None:
    visitor = Visitor(own.url)
    page = visitor.page("/").text
    with visitor.open_stream_at(live_path(page)) as stream:
        stream.read_until(b"tea: 0")
        for drink in ("", "beer", "tea\0", "x" * 100_000, "<script>", "\u202e"):
            status = Visitor(own.url).form("/", {"drink": drink}).status
            assert status in (413, 422), (drink[:10], status)
        for path in (
            "/live?panel=votes&panel=votes&tab=" + str(uuid.uuid4()).upper(),
            "/live?panel=%00&tab=" + str(uuid.uuid4()),
            "/live?tab=" + str(uuid.uuid4()),
            "/live?panel=votes",
        ):
            assert visitor.get(path).status == 400, path
        for path in ("/../etc/passwd", "/static/../own_site.py", "/lab", "/login"):
            assert visitor.get(path).status in (400, 404), path
        vote_until_counted(own)
        stream.read_until(b"tea: 1")
    assert own.stop() == 0
