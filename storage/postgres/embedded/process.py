"""The processes of the embedded server: the guard, the server, and how each is ended.

The guard is a shell that starts the server and waits on a pipe for the end of its keeper.
What the server says of itself stands in `postmaster.pid`: its number, and `ready`.

Why a process of its own: a keeper that is killed runs no code, so the last word must be
somebody else's. The kernel closes the only writing end of the pipe whatever way the keeper
ended, and the end of file wakes whoever reads. A server has no such switch, and signals at a
parent's death (`PR_SET_PDEATHSIG`) follow the thread that forked, not the process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from storage.errors import EmbeddedFailed
from storage.postgres.embedded.account import give_to_folder, open_own

# A start after a crash replays the log.
START_S_MAX = 30.0
IMMEDIATE_S_MAX = 2.0
POLL_S = 0.01
# How soon the end of a process is noticed where the kernel does not tell it. The clients of a
# server notice at once; this only brings it back.
WATCH_S = 0.1
LEAVING_S = 0.1

LOG_NAME = "server.log"
LOG_TAIL_LINES = 15
# This many servers' logs are kept, the running one's included: who is brought back must not
# destroy what the crash before had to say.
LOGS_KEPT = 3

# Line by line:
# - the signals of a terminal or a supervisor's group are left to the keeper's own drain (the
#   server takes them back: PostgreSQL sets handlers of its own);
# - the pipe moves to descriptor 3, which the server is started without;
# - a reader of its own waits for the end of file, and asks for a fast shutdown. It outlives
#   a guard that is killed, so that even then the server does not stay;
# - the guard keeps no copy of the pipe, and ends as the server ended;
# - a reader that still waits would kill a stranger with the same number some day.
_GUARD = """
trap '' INT TERM HUP
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
( read -r _ <&3; kill -INT "$server" ) 2>/dev/null &
exec 3<&-
wait "$server"
code=$?
kill $! 2>/dev/null
exit "$code"
"""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a start may take, and what is called meanwhile; what that raises ends the start."""

    start_s_max: float = START_S_MAX
    meanwhile: Callable[[], object] = bool


async def wait_ended(process: subprocess.Popen[bytes]) -> None:
    """Call this to wait until a child has ended; a checkpoint, and safe to cancel.

    Linux tells it; elsewhere, and where a sandbox forbids to ask, it is looked at now and then:
    ten times a second for months is most of what an idle program would do.
    """
    if process.poll() is not None:
        await trio.lowlevel.checkpoint()
        return
    try:
        # Of a child that was not waited for, and so its number is no stranger's.
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while process.poll() is None:  # noqa: ASYNC110 - nobody tells of it here
            await trio.sleep(WATCH_S)
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        trio.lowlevel.notify_closing(descriptor)
        os.close(descriptor)


def launch(
    command: list[str],
    data: Path,
    patience: Patience,
) -> subprocess.Popen[bytes]:
    """Call this to start the server under its guard; returns when it is ready.


    Tries again while the last one is still leaving. Raises `EmbeddedFailed`; then no
    process is left. Logs of servers that ran are kept, newest first in `server.log`,
    `server.log.1` and so on; that of a start that failed is `server.log.failed`.
    """
    deadline = time.monotonic() + patience.start_s_max
    log = data / LOG_NAME
    _keep_logs(log)
    while True:
        before = pid_lines(data)
        guard = _spawn(command, log)
        while guard.poll() is None and time.monotonic() < deadline:
            if _is_ready(data, before):
                return guard
            _attend(patience, data, guard)
            time.sleep(POLL_S)
        why = "it ended at once" if guard.poll() is not None else "it was not ready in time"
        end(data, guard, IMMEDIATE_S_MAX)
        tail = tail_of(log.read_bytes())
        # Backends of a killed server take a moment to notice, and hold its shared memory.
        if "still in use" not in tail or time.monotonic() > deadline:
            log.rename(log.with_name(f"{LOG_NAME}.failed"))
            raise EmbeddedFailed(why, tail)
        time.sleep(LEAVING_S)


def _attend(patience: Patience, data: Path, guard: subprocess.Popen[bytes]) -> None:
    try:
        patience.meanwhile()
    except BaseException:
        end(data, guard, IMMEDIATE_S_MAX)
        raise


def _keep_logs(log: Path) -> None:
    """Move the logs of earlier servers up by one."""
    if not log.exists():
        return
    for number in range(LOGS_KEPT - 1, 0, -1):
        newer = log.with_name(f"{LOG_NAME}.{number - 1}") if number > 1 else log
        if newer.exists():
            give_to_folder(newer)  # of a version that kept it for root
            newer.rename(log.with_name(f"{LOG_NAME}.{number}"))


def own_environment() -> dict[str, str]:
    """The environment of our processes: what the shell sets for other servers is not for ours."""
    # PGPORT, PGDATA and PGOPTIONS among others; none of them is a wish of whoever starts us.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _spawn(command: list[str], log_path: Path) -> subprocess.Popen[bytes]:
    # At its end, whoever else writes there: guard and server share it, and a tool may cut it.
    log = open_own(log_path, os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "greenroom-postgres", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            env=own_environment(),
            start_new_session=True,
        )
    finally:
        os.close(log)


def end(data: Path, guard: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Shut down fast; when that takes too long, at once; when even that does, by force.

    Returns when guard and server are gone: a guard that was killed leaves the server to itself.
    """
    server = read_pid(data)
    # The end of file that the guard's reader waits for, as if we had died.
    if guard.stdin is not None:
        guard.stdin.close()
    if guard.poll() is not None:
        # With it the reader may have been killed.
        send(data, signal.SIGINT)
    if not _ended(guard, server, data, timeout_s):
        send(data, signal.SIGQUIT)
        if not _ended(guard, server, data, IMMEDIATE_S_MAX):
            send(data, signal.SIGKILL)
            guard.kill()
            guard.wait()
            _ended(guard, server, data, IMMEDIATE_S_MAX)


def _is_ready(data: Path, before: list[str]) -> bool:
    lines = pid_lines(data)
    # Not the file that a killed server left, which says "ready" too.
    return lines != before and len(lines) >= 8 and lines[7].strip() == "ready"


def pid_lines(data: Path) -> list[str]:
    """What the server says of itself, a line a thing; the first is its process id."""
    try:
        # A folder's name, which is among it, is any bytes.
        text = (data / "postmaster.pid").read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return text.splitlines()


def read_pid(data: Path) -> int | None:
    """The process id in `postmaster.pid`, whether that process lives or not."""
    lines = pid_lines(data)
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else None


def is_postgres(pid: int) -> bool:
    """Whether a process lives and is a PostgreSQL server; without /proc any living one is."""
    words = _words_of(pid)
    return words is None or words[0].endswith(b"postgres")


def is_server_of(data: Path, pid: int) -> bool:
    """Whether a process is the server of this folder, not another one that has its number now."""
    words = _words_of(pid)
    # As we started it. Where it works (`cwd`) a container's root may not see.
    return words is None or (words[0].endswith(b"postgres") and os.fsencode(data) in words)


def _words_of(pid: int) -> list[bytes] | None:
    """The command of a process; one empty word when it is gone, None where nothing tells."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return [b""]
    except PermissionError:
        pass  # it lives and belongs to another user
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""] if Path("/proc/self").exists() else None


def find_server(data: Path) -> int | None:
    """The server that runs on a folder, whatever its own file says; by that file without /proc."""
    said = read_pid(data)
    if said is not None and is_server_of(data, said):
        return said
    names = Path("/proc").glob("[0-9]*")
    return next(
        (pid for pid in (int(entry.name) for entry in names) if is_server_of(data, pid)), None
    )


def send(data: Path, word: signal.Signals) -> None:
    """Send a signal to the server itself, past its guard."""
    pid = read_pid(data)
    if pid is not None and is_server_of(data, pid):
        try:
            os.kill(pid, word)
        except ProcessLookupError:
            pass  # it ended meanwhile


def _ended(
    guard: subprocess.Popen[bytes], server: int | None, data: Path, timeout_s: float
) -> bool:
    deadline = time.monotonic() + timeout_s
    while guard.poll() is None or (server is not None and is_server_of(data, server)):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def tail_of(text: bytes) -> str:
    """The last lines of a log, for an error."""
    return "\n".join(text.decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:])
