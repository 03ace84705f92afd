"""What shells complete: the files are the parser's, and the shells themselves offer it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs.completion import COMMAND, FOLDER, files
from tests.patience import PATIENCE_S
from web.cli.commands import main

BASH = """
source "$1"; shift
COMP_WORDS=(greenroom "$@"); COMP_CWORD=$#
_greenroom
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not here")


def _run(*words: str) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_files_and_the_parser_agree(capsys: pytest.CaptureFixture[str]) -> None:
    # CLI-6
    for file, text in files().items():
        assert file.read_text() == text, f"run {COMMAND}"
        assert main(["completion", file.suffix[1:]]) == 0
        assert capsys.readouterr().out == text
    assert sorted(FOLDER.iterdir()) == sorted(files())


def test_a_shell_that_starts_loads_nothing_for_it() -> None:
    # CLI-6
    program = (
        "import sys\nfrom web.cli.commands import main\nmain(['completion', 'bash'])\n"
        "assert not {'trio', 'actors', 'structlog', 'storage'} & set(sys.modules)\n"
    )
    assert "complete -o default -F _greenroom greenroom" in _run(sys.executable, "-c", program)


CASES = [
    (["sto"], {"store"}),
    (["store", "re"], {"remove-tombstoned", "renumber", "rewound"}),
    (["dlq", "list", "--status", ""], {"pending", "processing", "resolved", "discarded"}),
    (["dlq", "list", "--kind", "message", "--so"], {"--source"}),
    (["roles", "grant", "m"], {"moderator"}),
    (["completion", ""], {"bash", "zsh", "fish"}),
    (["replay", "order-1", "--as"], {"--as-of"}),
    (["bench", "--only", "ask"], {"ask"}),
    (["exercise", "sh"], {"shelf"}),
    (["example", "tick"], {"ticketing"}),
]


@_needs("bash")
def test_bash_offers_values_behind_an_equals_sign() -> None:
    # CLI-6: it takes such a word apart
    file = str(FOLDER / "greenroom.bash")
    told = _run("bash", "--norc", "-c", BASH, "bash", file, "dlq", "list", "--status", "=", "re")
    assert told == ["resolved"]
    told = _run("bash", "--norc", "-c", BASH, "bash", file, "dlq", "list", "--status", "=")
    assert set(told) == {"pending", "processing", "resolved", "discarded"}


@_needs("bash")
@pytest.mark.parametrize(("words", "offered"), CASES)
def test_bash_offers_what_may_come(words: list[str], offered: set[str]) -> None:
    # CLI-6
    found = set(_run("bash", "--norc", "-c", BASH, "bash", str(FOLDER / "greenroom.bash"), *words))
    assert offered <= found
    assert all(one.startswith(words[-1]) for one in found)


@pytest.mark.slow
@_needs("fish")
def test_fish_offers_what_may_come(tmp_path: Path) -> None:
    # CLI-6
    lines = [f"complete -C 'greenroom {' '.join(words)}'; echo --" for words, _ in CASES]
    script = "\n".join([f"source {FOLDER / 'greenroom.fish'}", *lines])
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        env=os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
    )  # fmt: skip
    told = done.stdout.split("--\n")
    for (words, offered), found in zip(CASES, told, strict=False):
        assert offered <= {line.split("\t")[0] for line in found.splitlines()}, words


@pytest.mark.slow
@_needs("zsh")
def test_zsh_completes_what_is_typed(tmp_path: Path) -> None:
    # CLI-6
    person, shell = pty.openpty()
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "TERM": "dumb"}
    process = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=shell, stdout=shell, stderr=shell, env=environment,
        cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    os.close(shell)
    try:
        begin = f"PS1='> '; autoload -U compinit; compinit -u -D; source {FOLDER}/greenroom.zsh"
        os.write(
            person, f"{begin}; greenroom() {{ print -r -- \"got($*)\" }}; print rea''dy\n".encode()
        )
        _read_to(person, b"ready\r\n")
        for typed, got in (
            (b"sto\tche\t", b"got(store check)"),
            (b"dlq list --status disc\t", b"got(dlq list --status discarded)"),
            (b"replay order-1 --as\t x", b"got(replay order-1 --as-of x)"),
        ):
            os.write(person, b"greenroom " + typed + b"\n")
            assert got in _read_to(person, b")\r\n")
    finally:
        process.kill()
        process.wait()
        os.close(person)


def _read_to(person: int, end: bytes) -> bytes:
    """All that is shown until something is; completions may stand in several pieces."""
    shown, until = b"", time.monotonic() + PATIENCE_S
    while end not in shown and time.monotonic() < until:
        if select.select([person], [], [], 1)[0]:
            shown += os.read(person, 65536)
    assert end in shown, shown
    return shown
