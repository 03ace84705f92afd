"""All or nothing: also on a full disk, and when the process is killed at whatever step."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.web.cli.making.programs import files_of
from web.cli.making import writing
from web.cli.making.words import Files

ROOT = Path(__file__).parents[4]
NEW: Files = {"a/one.py": "1\n", "a/two.py": "2\n", "three": b"\0"}
INSTEAD = {"list": "new\n", "deep/list": "newer\n"}
BEFORE = {"list": "old\n", "deep/list": "older\n"}
UNTOUCHED = {"list": b"old\n", "deep/list": b"older\n"}
WHOLE = {"list": b"new\n", "deep/list": b"newer\n", "a/one.py": b"1\n", "a/two.py": b"2\n"}
WHOLE |= {"three": b"\0"}

# Does it once for each step of it, in a process that dies there; says how each left its folder.
KILLED = """
import os, sys
from pathlib import Path
from web.cli.making import writing
from tests.web.cli.making.test_writing import change, lay_out, program

folder, number = Path(sys.argv[1]), 0
while True:
    number += 1
    own = folder / str(number)
    own.mkdir()
    lay_out(own)
    child = os.fork()
    if child == 0:
        left = [number]
        def dying(call):
            def step(*given, **named):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
                return call(*given, **named)
            return step
        for name in ("fsync", "link", "mkdir", "rename", "replace", "unlink", "rmdir", "open"):
            setattr(os, name, dying(getattr(os, name)))
        globals()[sys.argv[2]](own)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        print(number - 1)
        break
"""


def lay_out(folder: Path) -> None:
    for path, text in BEFORE.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)


def change(folder: Path) -> None:
    writing.change_program(folder, NEW, INSTEAD, BEFORE)


def program(folder: Path) -> None:
    writing.make_program(folder / "made", {**NEW, **INSTEAD})


def _killed(folder: Path, what: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), what],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_a_part_is_there_as_a_whole_or_not_at_all_wherever_it_is_killed(tmp_path: Path) -> None:
    # CLI-1
    steps = _killed(tmp_path, "change")
    assert steps > 15
    finished = 0
    for number in range(1, steps + 1):
        folder = tmp_path / str(number)
        finished += writing.finish(folder)
        left = files_of(folder)
        assert left in (UNTOUCHED, WHOLE), f"killed at step {number}"
        assert not writing.finish(folder)
        if left == UNTOUCHED:
            change(folder)
        assert files_of(folder) == WHOLE
    assert 0 < finished < steps


@pytest.mark.slow
def test_a_program_is_there_as_a_whole_or_not_at_all_wherever_it_is_killed(tmp_path: Path) -> None:
    # CLI-1
    steps = _killed(tmp_path, "program")
    assert steps > 10
    for number in range(1, steps + 1):
        folder = tmp_path / str(number)
        there = files_of(folder / "made")
        assert there in ({}, WHOLE), f"killed at step {number}"
        if not there:
            program(folder)
        assert files_of(folder / "made") == WHOLE
        assert {one.name for one in folder.iterdir()} - {"made", "list", "deep"} <= set(
            () if not there else [one.name for one in folder.glob(".made.*")]
        )


@pytest.mark.parametrize("work", [change, program])
def test_a_full_disk_leaves_nothing(
    work: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CLI-1
    assert callable(work)
    lay_out(tmp_path)
    calls, left, whole = 0, 0, os.fsync

    def full(handle: int) -> None:
        nonlocal left, calls
        calls += 1
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(handle)

    monkeypatch.setattr(os, "fsync", full)
    for number in range(1, 6):
        left = number
        with pytest.raises(OSError, match="No space left"):
            work(tmp_path)
        assert files_of(tmp_path) == UNTOUCHED
        assert {one.name for one in tmp_path.iterdir()} == {"list", "deep"}
    assert calls == 15


def test_what_somebody_else_has_put_there_stays(tmp_path: Path) -> None:
    # CLI-1
    lay_out(tmp_path)
    (tmp_path / "list").write_text("mine\n")
    with pytest.raises(writing.Changed):
        change(tmp_path)
    lay_out(tmp_path)
    (tmp_path / "three").write_text("mine")
    with pytest.raises(writing.Exists) as refused:
        change(tmp_path)
    assert refused.value.files == ["three"]
    with pytest.raises(writing.Exists):
        writing.make_program(tmp_path, NEW)
    (tmp_path / "made").symlink_to("nowhere")
    with pytest.raises(writing.Exists):
        program(tmp_path)
    assert (tmp_path / "three").read_text() == "mine"


def test_two_at_once_make_one_program(tmp_path: Path) -> None:
    # CLI-1
    (tmp_path / "made").mkdir()
    (tmp_path / ".made.greenroom-new-left").mkdir()
    program(tmp_path)
    with pytest.raises(writing.Exists):
        program(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["made"]
    assert files_of(tmp_path / "made") == WHOLE
