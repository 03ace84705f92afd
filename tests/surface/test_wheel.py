"""What is installed from a wheel: the program, all its files, and the examples."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "supervision", "storage", "web", "docs")
# What the build reads beside them.
BESIDE = ("pyproject.toml", "README.md", "LICENSE")
PROGRAM = "from web.cli.commands import main; main"
NEVER = shutil.ignore_patterns("__pycache__")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.fixture
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build one from a copy of the sources: a build leaves folders where it was made."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=NEVER)
    for name in BESIDE:
        shutil.copy(ROOT / name, folder / name)
    words = "-m pip wheel . --no-deps --no-build-isolation -q -w made"
    done = run(sys.executable, *words.split(), cwd=folder)
    assert done.returncode == 0, done.stderr
    (made,) = (folder / "made").glob("*.whl")
    return made


def install(wheel: Path, folder: Path) -> Path:
    """Unpack it into an environment that borrows the libraries of this one; gives its program."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    with ZipFile(wheel) as opened:
        opened.extractall(packages)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    (scripts,) = packages.glob("*.dist-info/entry_points.txt")
    assert "greenroom = web.cli.commands:main" in scripts.read_text()
    return folder / "bin" / "python"


@pytest.mark.slow
def test_a_wheel_is_the_whole_program(wheel: Path, tmp_path: Path) -> None:
    # EX-1, CLI-20: with its examples, its pages and all that it serves, from any folder
    with ZipFile(wheel) as opened:
        inside = set(opened.namelist())
    files = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert len(files) > 500
    assert files - inside == set()
    assert {name.partition("/")[0] for name in inside} == {*PACKAGES, "greenroom-0.1.0.dist-info"}

    python, folder = install(wheel, tmp_path / "environment"), tmp_path / "elsewhere"
    folder.mkdir()
    told = run(python, "-c", f"{PROGRAM}(['--help'])", cwd=folder)
    assert "example" in told.stdout, told.stderr
    counted = run(python, "-c", f"{PROGRAM}(['example', 'counter'])", cwd=folder)
    assert "Increment(by=5) -> Count(value=5)" in counted.stdout, counted.stderr
    where = run(python, "-c", "import web; print(web.__file__)", cwd=folder)
    assert where.stdout.startswith(str(tmp_path)), "else it is this checkout that was run"
    assert list(folder.iterdir()) == []

    # CLI-1, CLI-4: a program that it makes has it as a wheel again, and needs no other
    new = ["new", "app", "demo", "--vendor", "--web"]
    made = run(python, "-c", f"{PROGRAM}({new})", cwd=folder)
    assert "demo/vendor/greenroom-0.1.0-py3-none-any.whl" in made.stdout, made.stderr
    project = tomllib.loads((folder / "demo" / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == ["greenroom==0.1.0"]
    with ZipFile(wheel) as ours, ZipFile(folder / "demo" / "vendor" / wheel.name) as theirs:
        assert {
            name: ours.read(name) for name in sorted(inside) if not name.endswith("RECORD")
        } == {
            name: theirs.read(name)
            for name in sorted(theirs.namelist())
            if not name.endswith("RECORD")
        }
