"""The worked examples by their names: each starts, says where it is, and drains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.journeys.site_process import ExampleProcess
from tests.journeys.visitor import Visitor
from tests.processes.forked import run
from web.cli.commands import main
from web.cli.parser import build_parser
from web.cli.running import examples
from web.cli.running.examples import EXAMPLES, settings_of

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "docs" / "examples"
SITES = sorted(name for name, example in EXAMPLES.items() if example.is_site)
PROGRAMS = sorted(set(EXAMPLES) - set(SITES))
# What examples have in common is none by itself.
SHARED = {"asked_words", "store_feed"}


def test_every_module_of_the_folder_has_its_name_and_its_words() -> None:
    found = {path.relative_to(FOLDER).parts[0] for path in FOLDER.rglob("*.py")}
    named = {example.module.partition(".")[0] for example in EXAMPLES.values()}
    assert named | SHARED == {name.removesuffix(".py") for name in found}
    page = (ROOT / "docs" / "start" / "examples.md").read_text()
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert headings == list(EXAMPLES)
    for name, section in zip(EXAMPLES, page.split("\n## ")[1:], strict=True):
        module = EXAMPLES[name].module.split(".", maxsplit=1)[0]
        # What it is, how it is started, what is seen, what to try, and what to read.
        assert f"\ngreenroom example {name}" in section
        for word in ("\nYou see ", " Try ", f"](../examples/{module}", "Read"):
            assert word.lower() in section.lower(), (name, word)


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example", "--list"]) == 0
    told = capsys.readouterr().out
    assert all(f"{name} " in told and one.shows in told for name, one in EXAMPLES.items())
    assert main(["example", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == list(EXAMPLES)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["vote"], 3, "there is no example 'vote'. There is votes."),
        (["zzz"], 3, f"There is {', '.join(EXAMPLES)}."),
        (["votes", "--database-url", "postgres://h/d"], 2, "is for --store postgres"),
        (["counter", "--store", "postgres"], 2, "or example counter-page, which has both"),
        (["counter", "--port", "0"], 2, "a program without pages or data"),
        (["orders", "--order-id", "order-1"], 2, "is for example orders --store postgres"),
        (["votes", "--store", "postgres", "--order-id", "order-1"], 2, "is for example orders"),
    ],
)
def test_what_cannot_be_run_is_told_and_nothing_is_started(
    words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["example", *words]) == code
    said = capsys.readouterr()
    assert told in said.err
    assert (said.out, len(said.err.splitlines())) == ("", 1)


def test_a_folder_that_did_not_come_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {"votes": examples.Example("went_away", "nothing")}
    monkeypatch.setattr(examples, "EXAMPLES", gone)
    assert main(["example", "votes"]) == 3
    assert "docs/examples/went_away.py did not come" in capsys.readouterr().err


def test_each_has_a_folder_of_its_own_unless_one_is_named() -> None:
    parsed = build_parser().parse_args(["example", "votes", "--port", "8123"])
    own = settings_of("votes", parsed, {"PORT": "1"})
    assert own == {"PORT": "8123", "STATE_DIR": ".greenroom/examples/votes"}
    parsed = build_parser().parse_args(["example", "votes"])
    named = {"STATE_DIR": "x", "PORT": "1"}
    assert settings_of("votes", parsed, named) == named


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_to_its_end(name: str, tmp_path: Path) -> None:
    ran = run("web.cli", ["example", name], cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory", "postgres"])
@pytest.mark.parametrize("name", SITES)
def test_a_site_starts_on_both_stores_answers_and_drains(
    name: str, store: str, tmp_path: Path, database_url: str
) -> None:
    server = {"DATABASE_URL": database_url} if store == "postgres" else {}
    example = ExampleProcess(name, store, tmp_path / "state", **server)
    try:
        visitor = Visitor(example.url)
        assert visitor.get("/health").status == 200
        assert visitor.page("/ready").status == 200
        assert example.stop() == 0
    finally:
        example.end()
    assert (store == "memory") == any(
        "in memory; gone when it stops" in one for one in example.lines
    )
    assert (store == "memory") != (tmp_path / "state").exists()
