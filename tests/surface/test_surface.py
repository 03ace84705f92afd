"""What both type checkers accept and refuse, in a project as users have it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PROGRAM = ROOT / "docs" / "examples" / "crawler.py"
# What is refused is kept as text, out of sight of the project's own gate.
NAMES = ("runtime_accepted.py", "supervision_accepted.py")
REFUSED = ("runtime_refused.py.txt", "supervision_refused.py.txt")
# What their own rules ask of everybody, whatever is called: `@override` above each method that
# overrides one.
THEIR_OWN = {"reportImplicitOverride"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a folder of somebody who uses greenroom: these files, and no settings of ours."""
    for path in (PROGRAM, *(HERE / name for name in (*NAMES, *REFUSED))):
        (tmp_path / path.name.removesuffix(".txt")).write_text(path.read_text())
    settings = {"typeCheckingMode": "recommended", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    return tmp_path


def run_checker(project: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command, *(path.name for path in files(project))],
        cwd=project,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * PATIENCE_S,
    )
    return done.stdout


def files(project: Path) -> list[Path]:
    return sorted(project.glob("*.py"))


def marked(project: Path) -> set[tuple[str, int]]:
    """Give the lines that a checker has to refuse."""
    return {
        (path.name, number)
        for path in files(project)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.rstrip().endswith("# refused")
    }


@pytest.mark.slow
def test_mypy_refuses_what_it_must_and_nothing_else(project: Path) -> None:
    # ACT-1, ACT-39, ACT-60, ACT-130, SUP-2, SUP-15
    out = run_checker(project, "mypy", "--no-error-summary", "--cache-dir", str(project / "cache"))
    # Only of their own files: ours, found by a path here and installed there, have our settings.
    errors = re.findall(r"^([^/\s:]+):(\d+): error: (.*)$", out, re.MULTILINE)
    assert {(name, int(line)) for name, line, _ in errors} == marked(project), out
    # A slip in an argument or an option is told in a line, not with every overload there is.
    told = [text for name, _, text in errors if name.startswith("supervision")]
    assert sum("No overload variant" in text for text in told) <= len(told) // 4, out


@pytest.mark.slow
def test_pyright_refuses_what_it_must_and_nothing_else(project: Path) -> None:
    # ACT-1, ACT-39, ACT-60, ACT-130, SUP-2, SUP-15
    out = run_checker(project, "basedpyright", "--pythonpath", sys.executable, "--outputjson")
    told = [
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1, item["severity"], item)
        for item in json.loads(out)["generalDiagnostics"]
    ]
    found = {(name, line) for name, line, severity, _ in told if severity == "error"}
    assert found == marked(project), out
    # The program of the documents says nothing that a person would have to silence.
    noise = [
        (line, item["message"])
        for name, line, _, item in told
        if name == PROGRAM.name and item.get("rule") not in THEIR_OWN
    ]
    assert not noise


@pytest.mark.slow
def test_the_program_runs_and_survives_its_crash() -> None:
    # ACT-130, SUP-30
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "docs.examples.crawler"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "crawled: / /about /shop /shop/elm /shop/oak" in done.stdout
    assert "ConnectionError" in done.stdout + done.stderr


def test_the_packages_say_that_they_are_typed() -> None:
    # ACT-130: without it checkers do not look into an installed package at all
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    setuptools = project["tool"]["setuptools"]
    packages = [name.removesuffix("*") for name in setuptools["packages"]["find"]["include"]]
    packages.remove("docs")  # the pages of the site; nobody imports them
    assert packages
    for name in packages:
        assert (ROOT / name / "py.typed").is_file(), name
        assert "py.typed" in setuptools["package-data"][name], name
