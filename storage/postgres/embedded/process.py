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
from pathlib import Path

from storage.errors import EmbeddedFailed

# A start after a crash replays the log.
START_S_MAX = 30.0
IMMEDIATE_S_MAX = 2.0
POLL_S = 0.01
LEAVING_S = 0.1

LOG_NAME = "server.log"
LOG_TAIL_LINES = 15

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


def launch(command: list[str], data: Path) -> subprocess.Popen[bytes]:
    """Call this to start the server under its guard; returns when it is ready.

    Tries again while the last one is still leaving. Raises `EmbeddedFailed`; then no
    process is left.
    """
    deadline = time.monotonic() + START_S_MAX
    while True:
        before = pid_lines(data)
        guard = _spawn(command, data / LOG_NAME)
        while guard.poll() is None and time.monotonic() < deadline:
            if _is_ready(data, before):
                return guard
            time.sleep(POLL_S)
        why = "it ended at once" if guard.poll() is not None else "it was not ready in time"
        end(data, guard, IMMEDIATE_S_MAX)
        tail = tail_of((data / LOG_NAME).read_bytes())
        # Backends of a killed server take a moment to notice, and hold its shared memory.
        if "still in use" not in tail or time.monotonic() > deadline:
            raise EmbeddedFailed(why, tail)
        time.sleep(LEAVING_S)


def _spawn(command: list[str], log_path: Path) -> subprocess.Popen[bytes]:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "greenroom-postgres", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)


def end(data: Path, guard: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Shut down fast; when that takes too long, at once; when even that does, by force."""
    # The end of file that the guard's reader waits for, as if we had died.
    if guard.stdin is not None:
        guard.stdin.close()
    if not _ended(guard, timeout_s):
        send(data, signal.SIGQUIT)
        if not _ended(guard, IMMEDIATE_S_MAX):
            send(data, signal.SIGKILL)
            guard.kill()
            guard.wait()


def _is_ready(data: Path, before: list[str]) -> bool:
    lines = pid_lines(data)
    # Not the file that a killed server left, which says "ready" too.
    return lines != before and len(lines) >= 8 and lines[7].strip() == "ready"


def pid_lines(data: Path) -> list[str]:
    """What the server says of itself, a line a thing; the first is its process id."""
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def read_pid(data: Path) -> int | None:
    """The process id in `postmaster.pid`, whether that process lives or not."""
    lines = pid_lines(data)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def is_postgres(pid: int) -> bool:
    """Whether a process lives and is a PostgreSQL server; without /proc any living one is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives and belongs to another user
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return Path("/proc/self").exists() is False
    return bool(words) and words[0].endswith(b"postgres")


def send(data: Path, word: signal.Signals) -> None:
    """Send a signal to the server itself, past its guard."""
    pid = read_pid(data)
    if pid is not None and is_postgres(pid):
        try:
            os.kill(pid, word)
        except ProcessLookupError:
            pass  # it ended meanwhile


def _ended(guard: subprocess.Popen[bytes], timeout_s: float) -> bool:
    try:
        guard.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def tail_of(text: bytes) -> str:
    """The last lines of a log, for an error."""
    return "\n".join(text.decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:])
