"""Each kind of dead letter has its runbook, whose commands there are and whose tests there are."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from actors.persistence.beside_log.dead_letters import KINDS, OUTBOX, PROJECTION, TIMERS
from tests.docs.pages import ROOT
from web.cli.parser import build_parser

PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
MAP = (ROOT / "docs" / "how_to" / "dead-letters.md").read_text()
# What a page is about where it is not called as the kind is.
OTHERS = {"message": TIMERS, "effect": "programs", "event": "programs"}
# Whose words stand for something: a number, a name, a file.
_COMMAND = re.compile(r"(?:^\$ |`)greenroom ([^`\n]+)", re.MULTILINE)
_TEST = re.compile(r"^- `([\w/]+\.py)`, (test_\w+)$", re.MULTILINE)


def test_each_kind_has_its_page_and_the_page_of_all_leads_there() -> None:
    # RES-12
    names = {page.stem for page in PAGES}
    assert {OTHERS.get(kind, kind) for kind in KINDS} == names
    assert {OUTBOX, PROJECTION, TIMERS} <= names
    for name in names:
        assert f"(../runbooks/{name}.md)" in MAP, name


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_what_a_runbook_says_can_be_done_and_was_tried(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # RES-12
    text = page.read_text()
    for heading in ("What you see", "First look", "Mend it", "It is over when"):
        assert f"\n## {heading}\n" in text, heading
    commands = _COMMAND.findall(text)
    assert len(commands) >= 3
    for command in commands:
        assert problem_of(command, capsys) == "", command
    tests = _TEST.findall(text)
    assert tests
    for path, name in tests:
        assert name in names_in(path), f"{path} has no {name}"


def problem_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Why the parser does not take it. A sentence may name a command without all its words."""
    words = [word.replace("...", "because") for word in shlex.split(command)]
    try:
        build_parser().parse_args(words)
    except SystemExit:
        told = capsys.readouterr().err.splitlines()[-1]
        return "" if "the following arguments are required" in told else told
    return ""


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    }


def test_a_command_that_is_not_there_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized arguments: --stuck" in problem_of("saga list --stuck", capsys)
    assert "invalid choice: 'repeat'" in problem_of("saga repeat", capsys)
    assert problem_of("saga show", capsys) == ""
