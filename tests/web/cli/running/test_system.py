"""`greenroom run`: a system by its name, until a signal; with `--dev` anew when a file changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.signals import as_a_person_starts_it
from web.cli.commands import main
from web.cli.running.system import stamps

ROOT = Path(__file__).parents[4]

PROGRAM = """
from actors.runtime import Actor, message
from supervision import Supervisor, child

@message
class Never:
    pass

class Clerk(Actor[Never]):
    def on_start(self):
        print("{word}", flush=True)
    def on_never(self, message: Never) -> None: ...
    def on_stop(self, reason):
        print("stopped", flush=True)

class Shop(Supervisor):
    clerk = child(Clerk)
"""


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        ("shop", 2, "names no system"),
        ("shop:", 2, "names no system"),
        ("../shop:Shop", 2, "names no system"),
        ("no.such.module:Shop", 3, "there is no module"),
        ("docs.examples.first_actor:Desks", 3, "There is Desk"),
        ("docs.examples.first_actor:Divider", 3, "has no system"),
    ],
)
def test_what_is_no_system_is_told(
    target: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", target]) == code
    assert words in capsys.readouterr().err


def test_files_that_are_made_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", ".venv/c.py", "build/d.py", "shop/e.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert {str(path.relative_to(tmp_path)) for path in stamps(tmp_path)} == {"a.py", "shop/e.py"}


def develop(folder: Path) -> subprocess.Popen[str]:
    """Start the command that reloads, in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "web.cli", "run", "shop:Shop", "--dev"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=as_a_person_starts_it,  # noqa: PLW1509  (it only resets two signals)
    )  # fmt: skip


@pytest.mark.slow
def test_a_system_ends_with_whoever_reloads_it_also_by_a_kill(tmp_path: Path) -> None:
    # CLI-6
    (tmp_path / "shop.py").write_text(PROGRAM.format(word="first"))
    process = develop(tmp_path)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "first\n"
        process.kill()
        # Its end is read, and then nobody holds the other end any more.
        assert said.read() == "stopped\n"
    process.wait()


@pytest.mark.slow
def test_a_system_runs_and_starts_anew_when_its_file_changes(tmp_path: Path) -> None:
    # CLI-6
    file = tmp_path / "shop.py"
    file.write_text(PROGRAM.format(word="first"))
    process = develop(tmp_path)
    assert process.stdout is not None
    try:
        with process.stdout as said:
            assert said.readline() == "first\n"
            file.write_text("this is no Python")
            lines = [said.readline(), said.readline()]
            assert lines == ["stopped\n", "greenroom: shop.py changed; shop:Shop starts anew\n"]
            while "it has ended with" not in lines[-1]:
                lines.append(said.readline())
            file.write_text(PROGRAM.format(word="mended"))
            lines = [said.readline(), said.readline()]
            assert lines[1] == "mended\n"
            process.send_signal(signal.SIGINT)
            assert said.read() == "stopped\n"
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
