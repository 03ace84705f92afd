"""The Python of every page runs as it stands there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, programs
from tests.patience import PATIENCE_S
from tests.processes.forked import run

PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if blocks(page.read_text())]


def ran(page: Path) -> subprocess.CompletedProcess[str]:
    return run("tests.docs.pages", [str(page)], flags=("-W", "error"))


def test_there_is_something_to_run() -> None:
    # DOC-1
    assert len(PAGES) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_python_of_a_page_runs(page: Path) -> None:
    # DOC-1
    done = ran(page)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_blocks_share_their_names_and_a_traceback_names_the_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\nx = 1\n```\n\n1. In a list:\n\n   ```python\n   x += 1\n   ```\n\n"
        "```python no-run\nexit(3)\n```\n\n```python\nprint(x)\nraise ValueError(x)\n```\n"
    )
    done = ran(page)
    assert (done.returncode, done.stdout) == (1, "2\n")
    assert f'"{page}", line 19' in done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_the_python_of_the_pages_passes_the_type_checker(tmp_path: Path) -> None:
    # DOC-1: in a project of its own, with no settings of ours
    for page in PAGES:
        for number, program in enumerate(programs(page.read_text())):
            (tmp_path / f"page_{page.stem.replace('-', '_')}_{number}.py").write_text(program)
    # What it knows of our own modules is kept beside what `make check` knows of them: it looks for
    # itself which of that still holds, and reading all anew takes a quarter of a minute.
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'pages'}"
    command = ("mypy", "--strict", "--config-file=", "--no-error-summary", cache)
    done = subprocess.run(
        [sys.executable, "-m", *command, *(path.name for path in sorted(tmp_path.glob("*.py")))],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert len(list(tmp_path.glob("*.py"))) >= len(PAGES)
    # Only of the pages: our own files, found by a path here, have our settings.
    told = [line for line in done.stdout.splitlines() if line.startswith("page_")]
    assert told == [], done.stdout + done.stderr
    assert done.returncode in (0, 1), done.stderr


def test_a_page_is_one_program_unless_it_defines_something_twice() -> None:
    page = "```python\nx = 1\n```\n\n```python\ndef f() -> int:\n    return x\n```\n"
    assert programs(page) == ["\nx = 1\n\n\n\ndef f() -> int:\n    return x\n"]
    assert len(programs(page + page)) == 4


def test_a_word_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1: a block is `python` or"):
        blocks("```python norun\nexit(3)\n```\n")
