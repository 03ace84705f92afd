"""The exercises by their names: each is written whole into a folder that was not there, or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from web.cli.commands import main
from web.cli.running import exercises
from web.cli.running.exercises import EXERCISES

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "docs" / "learn" / "exercises"


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:  # DOC-5
    assert main(["exercise", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == list(EXERCISES)
    assert main(["exercise"]) == 0
    assert all(name in capsys.readouterr().out for name in ["tower"])


@pytest.mark.parametrize("name", EXERCISES)
def test_one_is_written_as_it_lies_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # DOC-5
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", name]) == 0
    told = capsys.readouterr().out
    for file in (f"{name}.py", f"check_{name}.py"):
        assert (tmp_path / name / file).read_text() == (FOLDER / name / file).read_text()
        assert f"{name}/{file}\n" in told
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "shelf" / "shelf.py"
    work.parent.mkdir()
    work.write_text("mine\n")
    assert main(["exercise", "shelf", "--dir", str(work.parent)]) == 4
    assert "exists; nothing was written" in capsys.readouterr().err
    assert [one.name for one in work.parent.iterdir()] == ["shelf.py"]
    assert work.read_text() == "mine\n"


def test_who_dies_half_way_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert main(["exercise", "shelf", "--dir", str(tmp_path / "here")]) == 1
    assert "No space left on device; nothing is there" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["exercise", "shelv"]) == 3
    assert "there is no exercise 'shelv'. There is shelf." in capsys.readouterr().err
    monkeypatch.setattr(exercises, "FOLDER", "docs.went_away")
    assert main(["exercise", "shelf"]) == 3
    assert "did not come with this program" in capsys.readouterr().err
