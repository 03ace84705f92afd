"""The page of the command line tells what the parser takes, no more and no less."""

import argparse

from tests.docs.command_line import COMMAND, PAGE, leaves, page, written
from web.cli.parser import build_parser

# They run a program, write files to work on, or print what a shell reads: nothing of a site.
NO_ANSWERS = tuple(
    f"greenroom {name}" for name in ("serve", "run", "example", "exercise", "completion")
)


def test_the_page_and_the_parser_agree() -> None:
    # CLI-6
    assert PAGE.read_text() == page(), f"run {COMMAND}"


def test_every_command_answers_as_json_and_says_what_it_does() -> None:
    # CLI-6, CLI-20
    for name, parser in leaves(build_parser()):
        options = {option for action in parser._actions for option in action.option_strings}
        assert parser.description
        assert all(action.help for action in parser._actions)
        if name not in NO_ANSWERS:
            assert {"--json", "--debug", "--state-dir", "--database-url"} <= options
            assert ("--yes" in options) == ("--reason" in options)


def test_an_option_that_is_told_nowhere_is_found() -> None:
    parser = argparse.ArgumentParser(prog="greenroom", description="all")
    before = written(parser)
    parser.add_argument("--new", help="planted")
    assert "| `--new NEW` | planted |" in written(parser).replace(before, "")
