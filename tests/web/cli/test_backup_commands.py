"""`greenroom backup` as a person types it: codes, words, what a program reads, what is left."""

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from actors.persistence import StreamId
from storage.errors import StoreRewound
from storage.postgres import PostgresEventStore, check_migrations, migrate, open_database
from storage.testing.samples import new_events
from tests.patience import PATIENT_POOL
from tests.processes.prepared import start_prepared
from web.app import CannotStart
from web.app.running import open_server
from web.cli.commands import main
from web.settings import read_settings

pytestmark = pytest.mark.slow


class Backups:
    """Runs commands on one STATE_DIR, and keeps what the last one said."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state, self.kept, self._capsys = folder / "state", folder / "kept", capsys
        self.out = self.err = ""

    def __call__(self, *words: str, state: Path | None = None) -> int:
        code = main(["backup", *words, "--state-dir", str(state or self.state)])
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.err
        return code

    def one(self, *words: str, code: int = 0) -> dict[str, object]:
        assert self(*words, "--json") == code, self.err
        (found,) = [json.loads(line) for line in self.out.splitlines()]
        assert isinstance(found, dict)
        return found


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Backups:
    made = Backups(tmp_path, capsys)
    server = start_prepared(made.state)
    try:
        trio.run(_fill, server.url)
    finally:
        server.stop()
    return made


async def _fill(url: str) -> None:
    async with open_database(url, settings=PATIENT_POOL) as database:
        await migrate(database)
        await PostgresEventStore(database).append(StreamId("order-a"), new_events(7))


def test_backups_of_a_stopped_site_are_made_listed_tried_and_restored(
    run: Backups, tmp_path: Path
) -> None:
    # OPS-1
    assert run("base") == 2
    assert "Give BACKUP_DIR" in run.err
    assert run("list", "--backup-dir", str(run.kept)) == 4
    base = run.one("base", "--backup-dir", str(run.kept))
    assert (base["backup"], base["timeline"]) == ("0001-base", 1)
    # From here on it is known where they lie.
    assert run("incremental") == 0
    assert "0002-incremental" in run.out
    assert "on the disk of the data" in run.err
    listed = run.one("list")
    assert [row["backup"] for row in _rows(listed["backups"])] == ["0001-base", "0002-incremental"]
    assert listed["missing"] == []
    (span,) = _rows(listed["restorable"])
    assert run("list") == 0
    assert f"can be restored: {span['from']} to {span['to']}".replace("Z", "+00:00") in run.out
    found = run.one("verify")
    assert (found["events"], found["streams"], found["problems"]) == (7, 1, [])
    assert _number(found["recovered_in_s"]) <= _number(found["took_s"])
    restored = tmp_path / "restored"
    assert run("restore", "--dir", str(restored), "--to", str(span["to"])) == 0
    assert "greenroom store rewound" in run.err
    assert run("restore", "--dir", str(restored)) == 4
    assert "is not empty; nothing was done" in run.err
    trio.run(_served, restored)


def _rows(found: object) -> Sequence[dict[str, object]]:
    assert isinstance(found, list)
    return found


def _number(found: object) -> float:
    assert isinstance(found, float)
    return found


async def _served(state: Path) -> None:
    """A site on what was restored, which goes on archiving to the same place."""
    settings = read_settings({"STATE_DIR": str(state), "BACKUP_DIR": str(state.parent / "kept")})
    async with (
        open_server(settings) as (url, _),
        open_database(url.reveal(), settings=PATIENT_POOL) as database,
    ):
        with pytest.raises(StoreRewound):
            await check_migrations(database)


def test_what_cannot_be_done_is_said_with_a_code(
    run: Backups, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # OPS-1
    assert run("base", "--backup-dir", str(run.kept)) == 0
    target = ("restore", "--dir", str(tmp_path / "restored"))
    for moment in ("2020-01-01", (datetime.now(UTC) + timedelta(days=1)).isoformat()):
        assert run(*target, "--to", moment) == 2
        assert "cannot be restored; what can is from 20" in run.err
    assert run(*target, "--to", "noon") == 2
    assert run("base", "--database-url", "postgres://db/x") == 4
    assert "production_database.md" in run.err
    assert run("base", state=tmp_path / "nobody") == 2
    assert run("base", "--backup-dir", str(run.kept), state=tmp_path / "nobody") == 3
    assert run("prune", "--keep", "1") == 2
    assert "Say --yes" in run.err
    # CLI-20: with a row in the store that it is the backup of, which is started for it.
    assert run.one("prune", "--keep", "1", "--yes", "--reason", "room") == {
        "removed": [], "files_of_the_log": 0,
    }  # fmt: skip
    assert main(["audit", "search", "--json", "--state-dir", str(run.state)]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (row["act"], row["subject"], row["why"]) == ("backup prune", str(run.kept), "room")
    # What is left of a lost site still fills its disk.
    lost = ("--backup-dir", str(run.kept))
    assert run("prune", "--keep", "1", "--yes", *lost, state=tmp_path / "nobody") == 0
    assert "there is no store" in run.err
    assert "is not noted in the audit" in run.err
    # A file of a backup that is gone is named, and a hole in the archive is an alarm.
    control = run.kept / "backups" / "0001-base" / "data" / "global" / "pg_control"
    control.rename(control.with_name("moved"))
    assert run(*target) == 1
    assert f"{control} is missing" in run.err
    assert not (tmp_path / "restored").exists()


def test_a_hole_in_the_archive_ends_the_list_with_1(run: Backups) -> None:
    # OPS-1
    for _ in range(2):
        assert run("base", "--backup-dir", str(run.kept)) == 0
    first = str(_rows(run.one("list")["backups"])[0]["backup"])
    assert first == "0001-base"
    segments = sorted(
        path for path in (run.kept / "archive").glob("*.gz") if len(path.name) == 24 + len(".gz")
    )
    segments[-2].unlink()
    assert run.one("list", code=1)["missing"] == [segments[-2].name[:-3]]
    assert run("list") == 1
    assert "make a new base" in run.out


async def test_a_start_refuses_backups_that_are_not_its_own(tmp_path: Path) -> None:
    # OPS-1
    other = tmp_path / "other"
    other.mkdir()
    (other / "letters.txt").write_text("mine")
    settings = read_settings({"STATE_DIR": str(tmp_path / "state"), "BACKUP_DIR": str(other)})
    with pytest.raises(CannotStart, match=r"BACKUP_DIR: .* no backup of ours; name another"):
        async with open_server(settings):
            pass
    assert [path.name for path in other.iterdir()] == ["letters.txt"]


def test_a_backup_is_for_nobody_elses_eyes(run: Backups) -> None:
    # OPS-1: it holds all that the database does
    assert run("base", "--backup-dir", str(run.kept)) == 0
    found = subprocess.run(
        ["find", str(run.kept), "-perm", "/077"], capture_output=True, text=True, check=True
    )
    assert found.stdout == ""
