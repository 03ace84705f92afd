"""The Python of every page runs as it stands there."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, programs
from tests.patience import PATIENCE_S
from tests.processes.forked import run
from tests.web.cli.making.programs import EVERYTHING, make

# Of the switches of ours these are no rules for a program.
_STRICT = ("strict", "explicit_package_bases")
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
    # DOC-1: strict, and with no further rule of ours
    names = []
    for page in PAGES:
        for number, program in enumerate(programs(page.read_text())):
            names.append(f"page_{page.stem.replace('-', '_')}_{number}")
            (tmp_path / f"{names[-1]}.py").write_text(program)
    assert len(names) >= len(PAGES)
    # CLI-1: and of what `greenroom new` makes, with everything there is
    parts = {"aggregate": "ticket", "saga": "purchase", "projection": "all_tickets", "actor": "b"}
    shop = make(tmp_path, "made_shop", *EVERYTHING, parts=parts)
    (shop / "tests").rename(shop / "made_tests")
    names += ["made_shop.*", "made_tests.*"]
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--no-error-summary",
            f"--config-file={_settings(tmp_path, names)}",
            *(f"{tmp_path / one}.py" for one in names if "*" not in one),
            *map(str, shop.rglob("*.py")),
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": f"{tmp_path}:{shop}"},
        capture_output=True,
        text=True,
        check=False,
        # Where the gate has kept nothing, all of the project is read.
        timeout=4 * PATIENCE_S,
    )  # fmt: skip
    # Only of the pages: our own files are the gate's.
    told = [line for line in done.stdout.splitlines() if "page_" in line or "made_" in line]
    assert told == [], done.stdout + done.stderr
    assert done.returncode in (0, 1), done.stderr


def _settings(folder: Path, names: list[str]) -> Path:
    """Write settings by which our own modules are read as the gate reads them: it has kept that.

    Reading all of them anew for other settings takes half a minute.
    """
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    codes = ours["enable_error_code"]
    lines = ["[mypy]", f"enable_error_code = {', '.join(codes)}"]
    lines += [f"{key} = {value}" for key, value in ours.items() if isinstance(value, bool)]
    lines += [f"python_version = {ours['python_version']}"]
    for override in ours["overrides"]:
        modules = override["module"]
        lines.append(f"[mypy-{','.join([modules] if isinstance(modules, str) else modules)}]")
        lines += [f"{key} = {value}" for key, value in override.items() if key != "module"]
    more = [key for key, value in ours.items() if value is True and key not in _STRICT]
    lines += [f"[mypy-{','.join(names)}]", f"disable_error_code = {', '.join(codes)}"]
    lines += [f"{key} = false" for key in more]
    path = folder / "mypy.ini"
    path.write_text("\n".join(lines))
    return path


def test_a_page_is_one_program_unless_it_defines_something_twice() -> None:
    page = "```python\nx = 1\n```\n\n```python\ndef f() -> int:\n    return x\n```\n"
    assert programs(page) == ["\nx = 1\n\n\n\ndef f() -> int:\n    return x\n"]
    assert len(programs(page + page)) == 4


def test_a_word_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1: a block is `python` or"):
        blocks("```python norun\nexit(3)\n```\n")
