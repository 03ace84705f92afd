"""What the composition root does before anything is opened, and what readiness says."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from storage.postgres import Database
from web.app import COLLECTED_AFTER, CannotStart, check_store, prepare_state_dir
from web.settings import Settings


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_state_folder_is_made_for_its_owner(tmp_path: Path) -> None:
    # SEC-125
    folder = tmp_path / "new" / "state"
    prepare_state_dir(Settings(state_dir=folder))
    assert _mode(folder) == 0o700


@pytest.mark.parametrize("kept", [(), ("lost+found",), ("session-secret",), ("postgres", "mine")])
def test_an_empty_folder_or_one_of_ours_is_taken(tmp_path: Path, kept: tuple[str, ...]) -> None:
    # SEC-125
    tmp_path.chmod(0o755)
    for name in kept:
        (tmp_path / name).touch()
    prepare_state_dir(Settings(state_dir=tmp_path))
    assert _mode(tmp_path) == 0o700


@pytest.mark.parametrize(
    ("mode", "names", "why"),
    [
        (0o1777, (), "everybody may write"),
        (0o777, (), "everybody may write"),
        (0o1777, ("postgres.lock",), "everybody may write"),
        (0o755, ("letters.txt",), "holds other things"),
    ],
)
def test_a_folder_of_somebody_else_is_refused_and_stays_as_it_is(
    tmp_path: Path, mode: int, names: tuple[str, ...], why: str
) -> None:
    # SEC-125: closing /tmp would be the end of much else
    for name in names:
        (tmp_path / name).touch()
    tmp_path.chmod(mode)
    with pytest.raises(CannotStart, match=why):
        prepare_state_dir(Settings(state_dir=tmp_path))
    assert _mode(tmp_path) == mode


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="is no folder"):
        prepare_state_dir(Settings(state_dir=tmp_path / "file"))


def test_a_folder_of_another_user_is_refused_unless_one_is_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(CannotStart, match="belongs to another user"):
        prepare_state_dir(Settings(state_dir=tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    prepare_state_dir(Settings(state_dir=tmp_path))


def test_what_was_made_at_the_start_is_walked_by_no_later_collection() -> None:
    # PERF-42
    code = (
        "import gc, web.app as app; before = len(gc.get_objects()); app.spare_what_stays();"
        "print(before, len(gc.get_objects()), gc.get_freeze_count(), *gc.get_threshold())"
    )
    # In a process of its own: this one goes on with what its other tests leave.
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    before, walked, spared, *after = map(int, told.stdout.split())
    assert tuple(after) == COLLECTED_AFTER
    assert walked < before / 100
    assert spared > before / 2


async def test_readiness_names_what_keeps_the_embedded_server_away() -> None:
    # REL-89
    database = Database("postgresql://a@/b?host=/nowhere", patience_s=0.0)
    found = await check_store(database)
    assert (found.status, found.message) == ("unhealthy", "the database does not answer")
    found = await check_store(database, lambda: "the disk of STATE_DIR is full")
    assert found.status == "unhealthy"
    assert "the disk of STATE_DIR is full" in found.message
