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
from storage.postgres.embedded import server as server_module
from storage.postgres.embedded.process import (
    LOG_NAME,
    LOGS_KEPT,
    Patience,
    is_postgres,
    launch,
    wait_ended,
)
from storage.postgres.embedded.server import SOCKET_NAME, EmbeddedServer, start
from storage.testing import TemporaryServer
from storage.testing.samples import PATIENCE_S
from tests.patience import PATIENT_POOL, until
from tests.processes.prepared import start_prepared

pytestmark = pytest.mark.slow

_KEEPER = """
import pathlib, sys
from storage.postgres.embedded.server import start
print(start(pathlib.Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    made = start_prepared(tmp_path / "state", extra=())
    yield made
    made.stop()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """One that has made its data itself."""
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


def _descriptors() -> set[str]:
    return {one.name for one in Path("/proc/self/fd").iterdir()}


async def _gone(pid: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while is_postgres(pid):  # noqa: ASYNC110  (another process has no event for us)
            await trio.sleep(0.01)


def test_only_its_user_reaches_it_and_by_no_address(new_server: EmbeddedServer) -> None:
    # SEC-125
    server = new_server
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
def test_another_user_is_refused(new_server: EmbeddedServer) -> None:
    # SEC-125
    path = new_server.sockets / ".s.PGSQL.5432"
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
    first = start_prepared(tmp_path)
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
    # DOC-4, REL-25
    with pytest.raises(EmbeddedFailed) as caught:
        start(tmp_path, extra=("shared_buffers=nonsense",))
    assert "shared_buffers" in caught.value.log_tail
    server = start(tmp_path)
    server.stop()


def test_a_stale_number_of_another_process_is_no_hindrance(tmp_path: Path) -> None:
    server = start_prepared(tmp_path)
    kept = (server.data / "postmaster.pid").read_text().splitlines()
    server.stop()
    kept[0] = str(os.getpid())
    (server.data / "postmaster.pid").write_text("\n".join([*kept, ""]))
    start(tmp_path).stop()


def test_a_power_cut_whose_numbers_mean_others_now_is_no_hindrance(tmp_path: Path) -> None:
    # REL-91: nobody removes the files then, and their numbers are given out again after the boot
    server = start_prepared(tmp_path)
    names = ("postmaster.pid", f"{SOCKET_NAME}.lock")
    kept = {name: (server.data / name).read_text().splitlines() for name in names}
    owner = server.data.stat().st_uid
    server.stop()
    # Of the same user: only then PostgreSQL takes it for a server of its own.
    with subprocess.Popen(["sleep", "900"], user=owner) as other:
        for name, lines in kept.items():
            (server.data / name).write_text("\n".join([str(other.pid), *lines[1:], ""]))
            os.chown(server.data / name, owner, -1)
        try:
            start(tmp_path).stop()
        finally:
            other.kill()


@pytest.mark.parametrize("text", ["", "\n", "nonsense", "12\nhalf a file"])
def test_a_file_of_numbers_that_was_half_written_is_no_hindrance(tmp_path: Path, text: str) -> None:
    # REL-89, REL-91: a full disk and a power cut leave such
    server = start_prepared(tmp_path)
    server.stop()
    (server.data / "postmaster.pid").write_text(text)
    start(tmp_path).stop()


def test_another_server_that_has_the_number_now_is_left_alone(
    tmp_path: Path, postgres_server: TemporaryServer
) -> None:
    # REL-91
    server = start_prepared(tmp_path)
    kept = (server.data / "postmaster.pid").read_text().splitlines()
    server.stop()
    other = postgres_server.server.pid
    assert other is not None
    (server.data / "postmaster.pid").write_text("\n".join([str(other), *kept[1:], ""]))
    start(tmp_path).stop()
    assert is_postgres(other)
    postgres_server.execute("SELECT 1")


def test_a_guard_that_is_killed_alone_takes_nothing_along(server: EmbeddedServer) -> None:
    # REL-81: the old server is leaving for a while, and holds the folder until it is gone
    left = server.pid
    assert left is not None
    server._guard.kill()
    server._guard.wait()
    server.restart()
    assert server.is_running
    assert server.pid != left
    assert not is_postgres(left)


async def test_one_that_cannot_be_brought_back_is_tried_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # REL-89: the program goes on, says why, and needs no restart
    tries = 0

    def fail_twice(command: list[str], data: Path, patience: Patience) -> subprocess.Popen[bytes]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise EmbeddedFailed("it ended at once", "FATAL: No space left on device")
        troubles.append(server.trouble)
        return launch(command, data, patience)

    troubles: list[str] = []
    async with (
        open_embedded(tmp_path) as server,
        open_database(server.url, settings=PATIENT_POOL) as database,
    ):
        pid = server.pid
        assert pid is not None
        monkeypatch.setattr(server_module, "launch", fail_twice)
        monkeypatch.setattr(server_module, "RETRY_S_MIN", 0.01)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.pid != pid and server.is_running and tries == 3)
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    assert await database.run(_one) == 1
                    break
                except StoreUnavailable:
                    await trio.sleep(0.02)
        assert server.trouble == ""
    assert len(troubles) == 1
    assert "the disk of STATE_DIR is full" in troubles[0]


@pytest.mark.parametrize("kernel", ["tells", "forbids to ask", "knows no way"])
async def test_the_end_of_a_process_is_waited_for_and_the_wait_may_be_given_up(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # REL-81, REL-110: without a look at it ten times a second, where the kernel tells
    def forbid(pid: int, flags: int = 0) -> int:
        raise PermissionError

    if kernel == "forbids to ask":
        monkeypatch.setattr(os, "pidfd_open", forbid, raising=False)
    elif kernel == "knows no way":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen(["sleep", "60"]) as process:  # noqa: ASYNC220 - as the guard is started
        before = _descriptors()
        with trio.move_on_after(0.05) as scope:
            await wait_ended(process)
        assert scope.cancelled_caught
        assert _descriptors() == before
        process.kill()
        with trio.fail_after(PATIENCE_S):
            await wait_ended(process)
            assert process.poll() == -signal.SIGKILL
            await wait_ended(process)
        assert _descriptors() == before


def test_logs_of_earlier_servers_are_kept(server: EmbeddedServer) -> None:
    # REL-81: what a crash had to say is not destroyed by whoever is brought back
    for number in range(LOGS_KEPT):
        pid = server.pid
        assert pid is not None
        with (server.data / LOG_NAME).open("a") as log:
            log.write(f"server number {number}\n")
        os.kill(pid, signal.SIGKILL)
        server._guard.wait()
        server.restart()
    found = sorted(path.name for path in server.data.glob(f"{LOG_NAME}*"))
    assert found == ["server.log", "server.log.1", "server.log.2"]
    assert "server number 2" in (server.data / "server.log.1").read_text()
    assert "server number 1" in (server.data / "server.log.2").read_text()


def test_a_place_that_holds_something_else_is_refused_untouched(tmp_path: Path) -> None:
    mine = tmp_path / "postgres" / "letters.txt"
    mine.parent.mkdir(mode=0o755)
    mine.write_text("mine")
    with pytest.raises(EmbeddedFailed, match="nothing was touched"):
        start(tmp_path)
    assert mine.read_text() == "mine"
    assert stat.S_IMODE(mine.parent.stat().st_mode) == 0o755
    assert not (tmp_path / "postgres.new").exists()


def test_what_the_system_refuses_is_said_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedFailed, match="Not a directory"):
        start(tmp_path / "file" / "state")


async def test_a_shell_full_of_variables_for_other_servers_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "PGHOST": "192.0.2.1",
        "PGUSER": "nobody_knows",
        "PGOPTIONS": "-c nonsense=1",
        "PGPASSFILE": str(tmp_path),
        "PGSSLMODE": "verify-full",
        "PGSSLNEGOTIATION": "direct",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCLIENTENCODING": "LATIN1",
    }.items():
        monkeypatch.setenv(name, value)
    async with (
        open_embedded(tmp_path / "state") as server,
        open_database(server.url, settings=PATIENT_POOL) as database,
    ):
        assert await database.run(_one) == 1


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a'b c%20?x#y&z=1+2", "é "])
async def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    async with (
        open_embedded(tmp_path / name) as server,
        open_database(server.url, settings=PATIENT_POOL) as database,
    ):
        assert await database.run(_one) == 1
