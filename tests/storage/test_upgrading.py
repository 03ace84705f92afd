"""Data of PostgreSQL 16, whose programs the package brings too, brought up to what runs today."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from actors.persistence import Cursor, StreamId
from storage.errors import BackupRefused, EmbeddedOutdated
from storage.postgres import PostgresEventStore, check_store, migrate, open_database
from storage.postgres.embedded import upgrading
from storage.postgres.embedded.account import Account, choose_account
from storage.postgres.embedded.process import Patience, end, launch
from storage.postgres.embedded.server import MAJOR, UPGRADED, find_programs, start
from storage.postgres.embedded.upgrading import upgrade
from storage.testing.samples import new_events
from tests.patience import PATIENT_POOL
from web.cli.commands import main

pytestmark = pytest.mark.slow

STREAM = StreamId("order-a")
OLD = 16


@dataclass(frozen=True)
class Old:
    """A state folder as a program of before has left it, whose server was killed."""

    state: Path
    after: Cursor

    def copied(self, to: Path) -> Path:
        subprocess.run(["cp", "-a", str(self.state), str(to)], check=True)
        return to


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    state = tmp_path_factory.mktemp("old")
    programs = find_programs(OLD)
    assert programs is not None
    data = state / "postgres"
    account = choose_account(data, programs)
    data.mkdir(mode=0o700)
    os.chown(data, account.uid, account.gid)
    words = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
    _run(account, programs / "initdb", "-D", str(data), *words)
    options = ("-c", f"unix_socket_directories={data}", "-c", "listen_addresses=")
    command = [*account.prefix, str(programs / "postgres"), "-D", str(data), *options]
    guard = launch(command, data, Patience())
    try:
        after = trio.run(_fill, f"postgresql://postgres@/postgres?host={data}&port=5432")
    finally:
        end(data, guard, timeout_s=0)
    return Old(state, after)


def _run(account: Account, *words: str | Path) -> None:
    command = [*account.prefix, *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, cwd="/")


async def _fill(url: str) -> Cursor:
    async with open_database(url, settings=PATIENT_POOL) as database:
        await migrate(database)
        store = PostgresEventStore(database)
        await store.append(STREAM, new_events(3))
        kept = (await store.append(STREAM, new_events(2))).cursor
        await store.append(STREAM, new_events(4))
        return kept


async def _goes_on(url: str, after: Cursor) -> None:
    async with open_database(url, settings=PATIENT_POOL) as database:
        # Neither moved nor rewound: its numbers go on, and so does whoever has kept a cursor.
        assert await migrate(database) == 0
        found = await check_store(database)
        assert (found.events, found.problems) == (9, ())
        store = PostgresEventStore(database)
        page = await store.read_all(after=after)
        assert [event.version for event in page.events] == [6, 7, 8, 9]
        appended = await store.append(STREAM, new_events(1), expected=9)
        assert appended.cursor > page.next
        page = await store.read_all(after=page.next)
        assert [event.version for event in page.events] == [10]


def _serves(state: Path, after: Cursor) -> None:
    server = start(state, extra=("fsync=off",))
    try:
        trio.run(_goes_on, server.url, after)
    finally:
        server.stop()


def test_data_of_before_are_refused_then_brought_up_and_kept(
    old: Old, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # OPS-6
    state = old.copied(tmp_path / "state")
    before = sorted(path.name for path in (state / "postgres").iterdir())
    with pytest.raises(EmbeddedOutdated, match=r"of PostgreSQL 16.*greenroom db upgrade"):
        start(state)
    assert sorted(path.name for path in (state / "postgres").iterdir()) == before
    upgrading_it = ("db", "upgrade", "--state-dir", str(state), "--json")
    assert main(upgrading_it) == 2
    assert "--yes" in capsys.readouterr().err
    assert main([*upgrading_it, "--yes", "--reason", "the new program"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["from"], told["to"]) == (OLD, MAJOR)
    assert (state / "postgres.old-16" / "PG_VERSION").read_text().strip() == str(OLD)
    _serves(state, old.after)
    assert main([*upgrading_it, "--yes"]) == 0
    assert capsys.readouterr().out == ""
    server = start(state)
    try:
        told_by = trio.run(_audited, server.url)
    finally:
        server.stop()
    assert told_by == [("db upgrade", "PostgreSQL 16 to 18", True, "on")]


async def _audited(url: str) -> list[tuple[object, ...]]:
    async with open_database(url, settings=PATIENT_POOL) as database:
        rows = await database.run(
            lambda connection: connection.fetch(
                "SELECT action, resource, success, current_setting('data_checksums')"
                " FROM audit_log ORDER BY id"
            )
        )
        return [tuple(row) for row in rows]


def test_what_cannot_be_brought_up_stays_as_it_is(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OPS-6
    state = old.copied(tmp_path / "state")
    data, version = state / "postgres", state / "postgres" / "PG_VERSION"
    version.write_text("15\n")
    with pytest.raises(BackupRefused, match="no programs of PostgreSQL 15"):
        upgrade(state, bool)
    version.write_text("99\n")
    for work in (lambda: upgrade(state, bool), lambda: start(state)):
        with pytest.raises(EmbeddedOutdated, match="Start the newer program"):
            work()
    version.write_text("16\n")
    monkeypatch.setattr(upgrading, "free_bytes", lambda _folder: 1)
    with pytest.raises(BackupRefused, match="0 MB left; nothing was done"):
        upgrade(state, bool)
    monkeypatch.undo()
    (state / "postgres.old-16").mkdir()
    with pytest.raises(BackupRefused, match="from an earlier upgrade"):
        upgrade(state, bool)
    (state / "postgres.old-16").rmdir()

    def give_up() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        upgrade(state, bool, give_up)
    found = {path.name for path in state.iterdir()}
    assert found - {"postgres.spare"} == {"postgres", "postgres.lock"}
    assert data.is_dir()


_KILLED = """
import os, signal, sys
from pathlib import Path
from storage.postgres.embedded import upgrading as module
real = module.{step}
def die(*args, **named):
    real(*args, **named)
    os.kill(os.getpid(), signal.SIGKILL)
module.{step} = die
module.upgrade(Path(sys.argv[1]), bool)
"""


@pytest.mark.parametrize("step", ["make_data", "_copy"])
def test_an_upgrade_that_is_killed_is_begun_anew(step: str, old: Old, tmp_path: Path) -> None:
    # OPS-6
    state = old.copied(tmp_path / "state")
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED.format(step=step), str(state)],
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    with pytest.raises(EmbeddedOutdated):
        start(state)
    if step == "_copy":
        # Killed amid the two names: the data have none, and the next start takes the copy.
        (state / "postgres").rename(state / "postgres.old-16")
        assert (state / UPGRADED).exists()
        assert upgrade(state, bool) is None
    else:
        assert upgrade(state, bool) is not None
    shutil.rmtree(state / "postgres.old-16")
    _serves(state, old.after)
