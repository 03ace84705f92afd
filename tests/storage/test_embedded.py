"""The embedded server: started, kept to its user, brought back, and never left behind."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from storage.errors import EmbeddedFailed, StateDirInUse, StoreUnavailable
from storage.postgres import Connection, open_database, open_embedded
from storage.postgres.embedded.process import is_postgres
from storage.postgres.embedded.server import EmbeddedServer, start
from storage.testing.samples import PATIENCE_S
from tests.patience import PATIENT_POOL

pytestmark = pytest.mark.slow

_KEEPER = """
import pathlib, sys
from storage.postgres.embedded.server import start
print(start(pathlib.Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    made = start(tmp_path / "state")
    yield made
    made.stop()


def _keeper(state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _KEEPER, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def _one(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT 1"))


async def _gone(pid: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while is_postgres(pid):  # noqa: ASYNC110  (another process has no event for us)
            await trio.sleep(0.01)


def test_only_its_user_reaches_it_and_by_no_address(server: EmbeddedServer) -> None:
    # SEC-125
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.data.parent.stat().st_mode) == 0o700
    found = subprocess.run(
        ["sh", "-c", f"cat /proc/{server.pid}/net/tcp /proc/{server.pid}/net/tcp6"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f":{5432:04X} " not in found.stdout
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("127.0.0.1", 5432))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")
def test_another_user_is_refused(server: EmbeddedServer) -> None:
    # SEC-125
    path = server.sockets / ".s.PGSQL.5432"
    attempt = (
        "import os, socket, sys\nos.setgid(54321); os.setuid(54321)\n"
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    )
    tried = subprocess.run(
        [sys.executable, "-c", attempt, str(path)], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in tried.stderr


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    # SEC-125; the same data from two servers would be the end of it
    with _keeper(tmp_path) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        with pytest.raises(StateDirInUse) as caught:
            start(tmp_path)
        assert caught.value.pid == other.pid
        other.kill()


async def test_a_killed_process_leaves_no_server_and_the_next_starts(tmp_path: Path) -> None:
    # REL-91
    with _keeper(tmp_path) as other:
        assert other.stdout is not None
        pid = int(await trio.to_thread.run_sync(other.stdout.readline))
        other.kill()
    server = await trio.to_thread.run_sync(start, tmp_path)
    try:
        assert server.pid != pid
        await _gone(pid)
    finally:
        await trio.to_thread.run_sync(server.stop)


def test_a_server_that_outlived_its_guard_is_stopped(tmp_path: Path) -> None:
    # REL-91
    first = start(tmp_path)
    left = first.pid
    assert left is not None
    guard = first._guard
    os.kill(guard.pid, signal.SIGKILL)
    guard.wait()
    os.close(first._lock)
    assert is_postgres(left)
    second = start(tmp_path)
    assert second.pid != left
    assert not is_postgres(left)
    second.stop()
    assert guard.stdin is not None
    guard.stdin.close()


async def test_a_dead_server_is_brought_back(tmp_path: Path) -> None:
    # REL-81: what was committed is there again
    async def write(connection: Connection) -> None:
        await connection.execute("CREATE TABLE t AS SELECT 7 AS n")

    async def read(connection: Connection) -> int:
        return int(await connection.fetchval("SELECT n FROM t"))

    async with (
        open_embedded(tmp_path) as server,
        open_database(server.url, settings=PATIENT_POOL) as database,
    ):
        await database.run(write)
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    assert await database.run(read) == 7
                    if server.pid != pid:
                        break
                except StoreUnavailable:
                    await trio.sleep(0.02)


async def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    # 107 bytes is all that a socket's address can hold
    state = tmp_path / ("x" * 100)
    async with (
        open_embedded(state) as server,
        open_database(server.url, settings=PATIENT_POOL) as database,
    ):
        assert server.sockets != server.data
        assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
        assert await database.run(_one) == 1
    assert not server.sockets.exists()


async def test_closing_leaves_no_process(tmp_path: Path) -> None:
    # REL-25
    async with open_embedded(tmp_path) as server:
        pid = server.pid
    assert pid is not None
    assert not is_postgres(pid)
    assert not (server.data / "postmaster.pid").exists()
    server.stop()
    with pytest.raises(EmbeddedFailed):
        server.restart()


def test_a_start_that_fails_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    # REL-25
    with pytest.raises(EmbeddedFailed) as caught:
        start(tmp_path, extra=("shared_buffers=nonsense",))
    assert "shared_buffers" in caught.value.log_tail
    server = start(tmp_path)
    server.stop()


def test_a_stale_number_of_another_process_is_no_hindrance(tmp_path: Path) -> None:
    server = start(tmp_path)
    kept = (server.data / "postmaster.pid").read_text().splitlines()
    server.stop()
    kept[0] = str(os.getpid())
    (server.data / "postmaster.pid").write_text("\n".join([*kept, ""]))
    start(tmp_path).stop()
