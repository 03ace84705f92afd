"""`greenroom new`: what it makes is formatted and its tests pass, whatever it is called."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.processes.forked import run
from tests.web.cli.making.programs import (
    EVERYTHING,
    LONG,
    SHORT,
    files_of,
    make,
    typed,
)
from web.cli.making import filling, recording
from web.cli.making.naming import NAME_CHARS_MAX
from web.cli.making.words import KINDS, Part, Recipe

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs with all and with nothing; with the shortest names and the longest."""
    folder = tmp_path_factory.mktemp("made")
    make(folder, "demo", *EVERYTHING, parts=SHORT)
    make(folder, "w" * NAME_CHARS_MAX, *EVERYTHING, parts=LONG)
    make(folder, "Q", parts={"aggregate": "ticket", "projection": "ticket_list"})
    return folder


@pytest.mark.slow
def test_what_is_made_is_as_the_formatter_and_the_linter_want_it(made: Path) -> None:
    # CLI-1, CLI-5
    for words in ("format --check --diff", "check"):
        for program in made.iterdir():
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *words.split(), "--no-cache", "."],
                cwd=program, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
            )  # fmt: skip
            assert done.returncode == 0, f"{program.name}: {done.stdout}{done.stderr}"


@pytest.mark.slow
def test_the_tests_of_what_is_made_pass(made: Path) -> None:
    # CLI-1: with all options, and parts of each kind twice, with different names
    done = run(
        "tests.web.cli.making.tested",
        ["-q", "-p", "no:cacheprovider"],
        environment={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=made / "demo",
        patience_s=4 * PATIENCE_S,  # fifty tests, and what they import
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "51 passed" in done.stdout


def test_a_list_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    # CLI-5
    assert typed(ROOT, "new", "--list", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["kind"] for row in rows] == list(KINDS)
    folders = {one.name for one in filling.TEMPLATES.iterdir() if one.is_dir()}
    assert folders == set(KINDS)
    for kind in KINDS:
        named = {f"{one.from_}.jinja" for one in filling.read_manifest(kind).file}
        there = {one.name for one in (filling.TEMPLATES / kind).iterdir()}
        assert there == {*named, "manifest.toml"}, kind


def test_a_word_that_a_template_does_not_know_is_an_error(tmp_path: Path) -> None:
    # CLI-5
    (tmp_path / "actor").mkdir()
    (tmp_path / "actor" / "manifest.toml").write_text(
        'words = "x"\n[[file]]\nfrom = "a.py"\nto = "{{ nobody }}.py"\n'
    )
    (tmp_path / "actor" / "a.py.jinja").write_text("")
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="nobody"):
        filling.with_part(Recipe("demo"), Part("actor", "x"), {}, tmp_path)


def test_a_dry_run_shows_tree_and_difference_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-5
    assert typed(tmp_path, "new", "app", "demo", "--web", "--dry-run") == 0
    told = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert "demo/demo/pages.py\n" in told
    assert "+++ b/demo/pages.py\n" in told
    program = make(tmp_path, "demo")
    before = files_of(program)
    capsys.readouterr()
    assert typed(program, "new", "aggregate", "ticket", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "--- a/demo/tree.py\n+++ b/demo/tree.py\n" in told
    assert "+    def ticket(self, key: str) -> TicketActor:\n" in told
    assert files_of(program) == before
    assert typed(program, "new", "aggregate", "ticket") == 0
    assert typed(program / "tests", "new", "actor", "greeter") == 0, "from a folder within, too"


def test_a_program_names_the_greenroom_that_made_it(tmp_path: Path) -> None:
    # CLI-4
    program = make(tmp_path, "Big_Shop", "--bus", "kafka")
    told = tomllib.loads((program / "pyproject.toml").read_text())
    assert told["project"]["name"] == "big-shop"
    (needed,) = told["project"]["dependencies"]
    assert needed == f"greenroom[kafka] @ {ROOT.as_uri()}"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("app", "json"), 2, "standard library"),
        (("app", "x-y"), 2, "no Python identifier"),
        (("app",), 2, "NAME is missing"),
        ((), 2, "what to make is missing"),
        (("app", "demo", "--of", "x"), 2, "--of is not for app"),
        (("actor", "demo", "--web"), 2, "are not for actor"),
        (("saga", "demo", "--of", "x"), 2, "--of is not for saga"),
        (("actor", "demo"), 3, "is in no program"),
        (("projection", "demo"), 3, "is in no program"),
    ],
)
def test_what_cannot_be_made_is_told_and_nothing_is_written(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-1, CLI-4
    assert typed(tmp_path, "new", *words) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-1
    program = make(tmp_path, "demo")
    (program / "demo" / "desk.py").touch()
    (program / "tests" / "greeter").mkdir()
    (program / "tests" / "test_greeter.py").symlink_to("nowhere")
    before = files_of(program)
    for words, code, said in (
        (("app", "demo"), 4, "demo/Makefile"),
        (("aggregate", "note"), 4, "demo/note/words.py, demo/note/deciding.py"),
        (("aggregate", "Note"), 4, "demo/note/words.py"),
        (("saga", "desk"), 4, "demo/desk.py is there already"),
        (("actor", "greeter"), 4, "tests/test_greeter.py is there already"),
        (("actor", "tree"), 4, "demo/tree.py is there already"),
        (("actor", "relay"), 2, "'relay' would be two things in demo/tree.py"),
        (("actor", "conftest"), 2, "pytest takes for its own"),
        (("aggregate", "test_tree"), 4, "tests/test_tree.py is there already"),
        (("actor", "desk_"), 2, "more than letters"),
        (("actor", "Class"), 2, "keyword"),
        (("projection", "other", "--of", "nobody"), 3, "There is note"),
    ):
        assert typed(tmp_path if words[0] == "app" else program, "new", *words) == code, words
        assert said in capsys.readouterr().err
        assert files_of(program) == before


def test_where_a_part_is_registered_may_be_changed_but_not_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-1
    program = make(tmp_path, "demo")
    tree = program / "demo" / "tree.py"
    tree.write_text(tree.read_text().replace("# The", "# My own words. The"))
    assert typed(program, "new", "actor", "greeter") == 0
    assert "def greeter(self) -> Greeter:" in tree.read_text()
    tree.write_text(tree.read_text().replace("# greenroom new: children", "# mine"))
    before = files_of(program)
    assert typed(program, "new", "actor", "waiter") == 4
    assert "no line '# greenroom new: children' any more" in capsys.readouterr().err
    record = program / recording.RECORD
    record.write_text(record.read_text().replace("\nneeds ", "\n<<<<<<< mine\nneeds "))
    assert typed(program, "new", "actor", "waiter") == 4
    assert "cannot be read at line 4" in capsys.readouterr().err
    assert files_of(program) == {**before, recording.RECORD: record.read_bytes()}


def _as_of_somebody(text: str) -> str:
    """A tree as people write it: a name of their own in letters of theirs, and their line ends."""
    text = text.replace("from demo.note_list import NoteList", "from .note_list import NoteList")
    text = text.replace(
        "from demo.note.doing import NoteActor",
        "from demo.note.doing import (  # as it was\n    NoteActor,\n)",
    )
    return text.replace("Every part", "Jeder Teil für sich").replace("\n", "\r\n")


def test_a_part_goes_into_a_tree_as_somebody_has_written_it(tmp_path: Path) -> None:
    # CLI-1: whatever the locale says of texts, and with no import that stands as it was made
    program = make(tmp_path, "demo")
    tree = program / "demo" / "tree.py"
    tree.write_bytes(_as_of_somebody(tree.read_text("utf-8")).encode())
    before = tree.read_bytes()
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(
        "web.cli", ["new", "saga", "purchase"], cwd=program,
        environment={**os.environ, **locale, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = tree.read_bytes()
    assert made.count(b"\r\n") == made.count(b"\n"), "lines end as they did"
    lines = made.decode().splitlines()
    assert [line for line in before.decode().splitlines() if line not in lines] == []
    assert "from demo.purchase.steps import Purchase" in lines
    compile(made, "tree.py", "exec")


def test_a_file_with_no_import_of_its_own_program_gets_the_first() -> None:
    # CLI-1: behind what must come first
    text = '"""Mine."""\n\nfrom __future__ import annotations\n\nfrom .ports import Ports\n'
    after = filling.with_part(
        Recipe("demo"),
        Part("actor", "bell"),
        {"demo/tree.py": f"{text}\n# greenroom new: children\n"},
    )["demo/tree.py"]
    assert after.startswith(f"{text}\nfrom demo.bell import Bell\n")
    compile(after, "tree.py", "exec")


@pytest.mark.parametrize("what", ["no Python at line 1", "no text in UTF-8", "is a link"])
def test_where_no_part_can_be_registered_nothing_is_written(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-1
    program = make(tmp_path, "demo")
    tree = program / "demo" / "tree.py"
    if what == "is a link":
        tree.rename(tmp_path / "tree.py")
        tree.symlink_to(tmp_path / "tree.py")
    else:
        tree.write_bytes(b"def (\n" if "Python" in what else b"# \xe9\n" + tree.read_bytes())
    before = files_of(program)
    assert typed(program, "new", "actor", "bell") == 4
    assert f"nothing was written: demo/tree.py is {what}".replace("is is", "is") in (
        capsys.readouterr().err
    )
    assert files_of(program) == before


def test_an_upgrade_is_a_patch_of_what_the_templates_changed_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # CLI-5
    program = make(tmp_path, "demo", parts={"aggregate": "ticket"})
    assert typed(program, "upgrade") == 0
    assert "these are the newest templates" in capsys.readouterr().err
    # As older templates had it; somebody has changed other lines since, and removed a file.
    old, new = "Ticket: what is asked of it", "Ticket: what it is asked"
    words, record = program / "demo" / "ticket" / "words.py", program / recording.RECORD
    for file in (words, record):
        assert new in file.read_text()
        file.write_text(file.read_text().replace(new, old))
    words.write_text(words.read_text().replace("is_closed", "is_over"))
    (program / "compose.yaml").unlink()
    # What has tabs, and a file that no template makes any more.
    make_file = program / "Makefile"
    for file in (make_file, record):
        assert "## run the tests" in file.read_text()
        file.write_text(file.read_text().replace("## run the tests", "## tests run"))
    (program / "old.py").write_text("gone = 1\n")
    record.write_text(f"{record.read_text()}file old.py\n gone = 1\n")
    before = files_of(program)
    assert typed(program, "upgrade") == 0
    told = capsys.readouterr()
    assert files_of(program) == before
    assert "changed here too, look at these by hand: demo/ticket/words.py" in told.err
    assert "compose.yaml" not in told.out.partition(f"--- a/{recording.RECORD}")[0]
    patch = tmp_path / "patch"
    patch.write_text(told.out)
    subprocess.run(["git", "apply", str(patch)], cwd=program, check=True, timeout=PATIENCE_S)
    assert not (program / "old.py").exists()
    assert "## run the tests" in make_file.read_text()
    assert new in words.read_text()
    assert "is_over" in words.read_text()
    assert typed(program, "upgrade") == 0
    assert "these are the newest templates" in capsys.readouterr().err


def _all_shown(person: int) -> str:
    """What a program that has ended had shown; a terminal gives it in pieces, and then an error."""
    shown = b""
    with suppress(OSError):
        while piece := os.read(person, 65536):
            shown += piece
    return shown.decode()


@pytest.mark.slow
def test_on_a_terminal_it_asks_for_what_is_missing(tmp_path: Path) -> None:
    # CLI-1
    program = make(tmp_path, "demo", parts={"aggregate": "ticket"})
    person, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "web.cli", "new"],
        cwd=program, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    try:
        os.write(person, b"projection\nticket_list\nticket\n")
        assert process.wait(PATIENCE_S) == 0
        said = _all_shown(person)
    finally:
        process.kill()
        process.wait()
        os.close(person)
    assert "What is the projection called?" in said
    assert "Of which aggregate (note, ticket)?" in said
    assert (program / "demo" / "ticket_list.py").is_file()
