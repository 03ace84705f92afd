"""Whoever reads the log may go, and the disk it lies on fill up: the site goes on.

A log line, a greeting or a report that cannot be written is no reason to stop.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.journeys.site_process import ROOT, SiteProcess
from tests.journeys.visitor import OpenStream, Visitor
from tests.patience import PATIENCE_S
from tests.processes.prepared import lay_out

pytestmark = pytest.mark.slow

Break = Callable[[], None]
MANY = {"CHAT_POSTS_PER_AUTHOR_MAX": "1000", "CHAT_POSTS_PER_ADDRESS_MAX": "1000"}


@contextmanager
def reader_that_goes() -> Iterator[tuple[int, Break]]:
    """A pipe whose reader leaves, as a log collector does that is restarted."""
    reading, writing = os.pipe()
    with ExitStack() as at_end:
        at_end.callback(os.close, writing)
        closing = at_end.enter_context(os.fdopen(reading, "rb"))
        yield writing, closing.close


@contextmanager
def reader_that_stops() -> Iterator[tuple[int, Break]]:
    """A pipe that is full, because its reader does not read any more."""
    reading, writing = os.pipe()

    def fill() -> None:
        os.set_blocking(writing, False)
        try:
            while True:
                os.write(writing, b"x" * 4096)
        except BlockingIOError:
            # The flag belongs to the pipe: the site shall have one that waits.
            os.set_blocking(writing, True)

    with ExitStack() as at_end:
        at_end.callback(os.close, writing)
        at_end.callback(os.close, reading)
        yield writing, fill


@contextmanager
def full_disk() -> Iterator[tuple[int, Break]]:
    """A disk without room for a single byte."""
    with Path("/dev/full").open("wb") as full:
        yield full.fileno(), lambda: None


def target_of(page: str) -> str:
    """Find the actor that the lab's button crashes."""
    found = re.search(r"/api/lab/actors/([^/]+)/crash", page)
    assert found, page[:500]
    return found.group(1)


def crash(visitor: Visitor, target: str) -> None:
    """Press the button; the visitor's stream is open."""
    values: dict[str, object] = {"commandId": str(uuid.uuid4()), "sseTabId": visitor.tab}
    answer = visitor.command(f"/api/lab/actors/{target}/crash", values)
    assert answer.status == 202, answer


def say_until_heard(visitor: Visitor, stream: OpenStream, text: str) -> None:
    """Post; a room that has just crashed may ask for a little patience."""
    while (answer := visitor.post(text)).status != 202:
        assert answer.status in {412, 503}, answer
    stream.read_until(text.encode())


@pytest.mark.parametrize("broken_log", [reader_that_goes, reader_that_stops, full_disk])
def test_a_site_whose_log_is_broken_serves_and_drains(
    broken_log: Callable[[], AbstractContextManager[tuple[int, Break]]], tmp_path: Path
) -> None:
    """REL-20 REL-21 SITE-132: crashes are survived, tabs are told of the end, exit 0."""
    with broken_log() as (log, break_it):
        site = SiteProcess(tmp_path / "state", log, **MANY)
        try:
            visitor = Visitor(site.url)
            target = target_of(visitor.open_lab().text)
            with visitor.open_stream() as stream:
                break_it()
                for number in range(3):
                    crash(visitor, target)
                    say_until_heard(visitor, stream, f"after crash {number}")
                    assert site.process.poll() is None
                code = site.stop()
                rest = stream.response.read()
            assert b"serverConnected" in rest
            assert code == 0
        finally:
            site.end()


@pytest.mark.parametrize("streams", [">&-", ">/dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_site_that_cannot_greet_starts_and_ends_as_any_other(
    streams: str, tmp_path: Path
) -> None:
    """SITE-185: nobody has to hear where it is."""
    lay_out(tmp_path / "state")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$0" -m web.cli serve {streams}', sys.executable],
        cwd=ROOT,
        env={**kept, "PORT": str(port), "STATE_DIR": str(tmp_path / "state")},
    )
    try:
        visitor = Visitor(f"http://127.0.0.1:{port}")
        wait_until_up(process, visitor)
        target = target_of(visitor.open_lab().text)
        with visitor.open_stream() as stream:
            crash(visitor, target)
            say_until_heard(visitor, stream, "after the crash")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def wait_until_up(process: subprocess.Popen[bytes], visitor: Visitor) -> None:
    """Ask until it answers; where it is it cannot tell."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if visitor.get("/ready").status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"it did not start: exit {process.poll()}")


@pytest.mark.parametrize("streams", [">&- 2>&-", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize(("setting", "code"), [("PORT=x", 2), ("PORT=0", 2)])
def test_a_refused_start_has_its_code_also_unheard(
    streams: str, setting: str, code: int, tmp_path: Path
) -> None:
    """SITE-180: PORT=x is no number; with PORT=0 the folder is what cannot be."""
    (tmp_path / "state").write_text("a file")
    name, _, value = setting.partition("=")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m web.cli serve {streams}', sys.executable],
        cwd=ROOT,
        env={**kept, name: value, "STATE_DIR": str(tmp_path / "state")},
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == code
