"""The disk under the site's own database fills up, and has room again: what visitors notice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.chat.chat_log import HISTORY_LIMIT
from storage.postgres.embedded.disk import FREE_BYTES_MIN, free_bytes
from tests.journeys.kinds import StartSite
from tests.journeys.test_process import MANY, history, post_until_acknowledged
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.slow

# The data of a new server takes about 80 MB with its log and the room kept aside, and writing
# begins again with 128 MB free.
_DISK_MB = 320


class Filler:
    """Somebody else's file on the same disk."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "filler"

    def leave(self, free: int) -> None:
        """Grow until only so many bytes are free."""
        size = self._path.stat().st_size if self._path.exists() else 0
        with self._path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, size + free_bytes(self._folder) - free)

    def fill(self) -> None:
        """Take the last byte, whoever writes beside it; not what is given free meanwhile."""
        left = free_bytes(self._folder)
        with self._path.open("ab") as file, contextlib.suppress(OSError):
            while left > 0:
                left -= file.write(bytes(2**16))
                file.flush()

    def go(self) -> None:
        self._path.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own where `start_site` keeps the state of its first site."""
    folder = tmp_path / "state-0"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=0700", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("THE FULL DISK WAS NOT TRIED: there is no command mount")
    if made.returncode != 0:
        pytest.skip(f"THE FULL DISK WAS NOT TRIED: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        # Other processes set no event for us; and of few posts a page shows all.
        time.sleep(0.1)


def _is_told(visitor: Visitor) -> bool:
    return "the disk of STATE_DIR" in visitor.get("/ready").text


def _server(state: Path) -> int | None:
    """The process of the server that takes connections; None while there is none."""
    try:
        words = (state / "postgres" / "postmaster.pid").read_text().split()
    except FileNotFoundError:
        return None
    return int(words[0]) if words[-1:] == ["ready"] else None


# Before `start_site`, and so unmounted after the site has ended.
def test_a_full_disk_ends_writing_and_nothing_else(small_disk: Path, start_site: StartSite) -> None:
    """REL-89: posts are 503, reads go on, `/ready` names it; with room again all is as before."""
    site, filler = start_site(**MANY), Filler(small_disk)
    visitor = Visitor(site.url)
    visitor.open_lab()
    drafts: list[tuple[str, str]] = []

    def is_refused() -> bool:
        """Post one more; each is kept by its author, and is posted again when it was refused."""
        drafts.append((f"message {len(drafts)}", str(uuid.uuid4())))
        answer = visitor.post(*drafts[-1])
        if answer.status == 202:
            return False
        assert (answer.status, answer.body) == (503, b"")
        return True

    def has_answers() -> bool:
        paths = ("/", "/lab", "/health", "/health/live")
        return [visitor.get(path).status for path in paths] == [200] * len(paths)

    def check_reads(acknowledged: list[str]) -> None:
        # A server that has just started is slow, and may be asked again in a moment only.
        _until(has_answers, "the pages are not there")
        newcomer = Visitor(site.url)
        newcomer.open_lab()
        assert history(newcomer) == acknowledged[-HISTORY_LIMIT:]

    def texts(count: int) -> list[str]:
        return [text for text, _ in drafts[:count]]

    with visitor.open_stream() as stream:
        assert not is_refused()
        filler.leave(FREE_BYTES_MIN - 2**20)
        _until(is_refused, "nothing was refused")
        acknowledged = texts(len(drafts) - 1)
        stream.read_until(acknowledged[-1].encode())
        check_reads(acknowledged)
        _until(lambda: _is_told(visitor), "it was never told")
        # Not even room for what a server needs to start: it has some of its own.
        filler.fill()
        killed = _server(small_disk)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        # A page may be there for a moment yet of what was read before.
        _until(lambda: _server(small_disk) not in (killed, None), "it was never started again")
        _until(has_answers, "the database never came back")
        _until(lambda: _is_told(visitor), "it was never told")
        check_reads(acknowledged)
        assert is_refused()
        filler.go()
        for text, client_id in drafts[len(acknowledged) :]:
            post_until_acknowledged(visitor, text, client_id)
        stream.read_until(drafts[-1][0].encode())
        _until(lambda: not _is_told(visitor), "it is still told")
        _until(lambda: visitor.get("/ready").status == 200, "it is not ready")
    check_reads(texts(len(drafts)))
    assert site.process.poll() is None
