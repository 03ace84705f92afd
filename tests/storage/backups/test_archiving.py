"""What the server runs for each file of its log: done is done, and nothing is ever overwritten."""

import gzip
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from storage.postgres.embedded import archiving
from storage.postgres.embedded.archiving import (
    BROKEN,
    FAILED,
    NOT_THERE,
    SEGMENT_BYTES,
    ArchiveTrouble,
    fetch,
    keep,
)
from tests.storage.backups.kit import names

NAME, SYSTEM = "000000010000000000000001", "7000000000000000001"
HISTORY = "00000002.history"


def _segment(path: Path, *, filler: bytes = b"\0", system: str = SYSTEM) -> Path:
    head = b"\0" * 24 + int(system).to_bytes(8, sys.byteorder)
    path.write_bytes(head + os.urandom(4000) + filler * (SEGMENT_BYTES - len(head) - 4000))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


def test_a_file_is_kept_packed_and_comes_back_whole(archive: Path, tmp_path: Path) -> None:
    # OPS-1
    segment, back = _segment(tmp_path / NAME), tmp_path / "back"
    keep(archive, segment, NAME, SYSTEM)
    assert names(archive) == [f"{NAME}.gz"]
    assert (archive / f"{NAME}.gz").stat().st_size < SEGMENT_BYTES // 100
    assert fetch(archive, back, NAME)
    assert back.read_bytes() == segment.read_bytes()
    assert not fetch(archive, back, HISTORY)
    # As the server asks again that was killed before it heard the answer.
    keep(archive, segment, NAME, SYSTEM)
    assert names(archive) == [f"{NAME}.gz"]


def test_an_archive_that_is_away_is_not_one_that_ends(archive: Path, tmp_path: Path) -> None:
    # OPS-1: with "no such file" the server would end its recovery in peace, without the rest
    words = [sys.executable, "-I", "-S", archiving.__file__, "fetch"]
    back = str(tmp_path / "back")
    ended = [
        subprocess.run([*words, str(one), back, NAME], capture_output=True, check=False).returncode
        for one in (archive, tmp_path / "away")
    ]
    assert ended == [NOT_THERE, BROKEN]


def test_another_content_is_refused_and_what_is_there_stays(archive: Path, tmp_path: Path) -> None:
    # OPS-1
    keep(archive, _segment(tmp_path / "one"), NAME, SYSTEM)
    before = (archive / f"{NAME}.gz").read_bytes()
    with pytest.raises(ArchiveTrouble, match="another content; it was not overwritten"):
        keep(archive, _segment(tmp_path / "two"), NAME, SYSTEM)
    with pytest.raises(ArchiveTrouble, match="of another server"):
        keep(archive, _segment(tmp_path / "alien", system="5"), NAME[:-1] + "2", SYSTEM)
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(ArchiveTrouble, match="no whole file"):
        keep(archive, tmp_path / "short", NAME[:-1] + "2", SYSTEM)
    assert names(archive) == [f"{NAME}.gz"]
    assert (archive / f"{NAME}.gz").read_bytes() == before


def test_who_comes_first_keeps_the_name(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OPS-1: two servers restored from one backup, which both believe the name to be free
    mine = tmp_path / HISTORY
    mine.write_text("mine")

    def come_between(content: bytes, *args: int, **named: int) -> bytes:
        (archive / f"{HISTORY}.gz").write_bytes(b"theirs")
        return content

    monkeypatch.setattr(gzip, "compress", come_between)
    with pytest.raises(ArchiveTrouble, match="came from elsewhere"):
        keep(archive, mine, HISTORY, SYSTEM)
    assert names(archive) == [f"{HISTORY}.gz"]
    assert (archive / f"{HISTORY}.gz").read_bytes() == b"theirs"


@pytest.mark.parametrize("damage", ["cut", "turned", "empty", "short"])
def test_what_was_damaged_is_never_given_back(damage: str, archive: Path, tmp_path: Path) -> None:
    # OPS-1: nor taken for the end of the archive
    keep(archive, _segment(tmp_path / NAME), NAME, SYSTEM)
    kept = archive / f"{NAME}.gz"
    content = bytearray(kept.read_bytes())
    match damage:
        case "cut":
            del content[len(content) // 2 :]
        case "turned":
            content[2000] ^= 1  # amid what cannot be packed: a run of zeros is said in many ways
        case "empty":
            content.clear()
        case "short":
            content = bytearray(gzip.compress(b"a whole pack of less"))
    kept.write_bytes(content)
    with pytest.raises(ArchiveTrouble, match=NAME):
        fetch(archive, tmp_path / "back", NAME)
    if damage == "empty":
        (archive / f"{HISTORY}.gz").write_bytes(b"")
        with pytest.raises(ArchiveTrouble, match="it is empty"):
            fetch(archive, tmp_path / "back", HISTORY)
    assert not (tmp_path / "back").exists()


def _run(*words: str, bytes_max: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))

    return subprocess.run(
        [sys.executable, "-I", "-S", archiving.__file__, *words],
        capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip


def test_as_a_program_it_says_how_it_ended(archive: Path, tmp_path: Path) -> None:
    # OPS-1
    segment = str(_segment(tmp_path / NAME))
    keeping, fetching = ("keep", str(archive), segment, NAME, SYSTEM), ("fetch", str(archive))
    # A disk that is full in the middle of the file.
    full = _run(*keeping, bytes_max=1000)
    assert full.returncode == FAILED
    assert full.stderr.startswith(f"greenroom: {NAME} was not archived; it is kept and tried again")
    assert names(archive) == []
    # What a killed one left is no hindrance.
    (archive / f".{NAME}.1.new").write_bytes(b"half")
    assert _run(*keeping).returncode == 0
    assert names(archive) == [f"{NAME}.gz"]
    back = str(tmp_path / "back")
    assert _run(*fetching, back, NAME).returncode == 0
    assert _run(*fetching, back, HISTORY).returncode == NOT_THERE
    (archive / f"{NAME}.gz").write_bytes(b"")
    broken = _run(*fetching, back, NAME)
    assert (broken.returncode, NAME in broken.stderr) == (BROKEN, True)
    away = _run("keep", str(tmp_path / "gone"), segment, NAME, SYSTEM)
    assert (away.returncode, "No such file" in away.stderr) == (FAILED, True)
