"""The page of the command line: its list of commands, written from the parser.

    python -m tests.docs.command_line

writes everything below the line that says so; what stands above is written by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from web.cli.parser import build_parser

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command_line.md"
COMMAND = "python -m tests.docs.command_line"
LINE = f"<!-- Below: written by `{COMMAND}`. -->"


def leaves(
    parser: argparse.ArgumentParser, name: str = "greenroom"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Call this for every command that does something, with its parser."""
    groups = [
        action.choices
        for action in parser._actions  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction)
    ]
    if not groups:
        yield name, parser
    for group in groups:
        for word, below in group.items():
            yield from leaves(below, f"{name} {word}")


def written(parser: argparse.ArgumentParser) -> str:
    """Call this for what stands below the line."""
    return "\n".join(line for name, leaf in leaves(parser) for line in _section(name, leaf))


def _section(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"\n### `{name}`\n"
    words = parser.description or ""
    yield f"{words[0].upper()}{words[1:]}{'' if words.endswith('.') else '.'}\n"
    yield "| | |\n|---|---|"
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            yield f"| `{_spelt(action)}` | {action.help}{_said(action)} |"


def _spelt(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest.upper() if action.nargs != "?" else f"[{action.dest.upper()}]"
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    return f"{name} {action.metavar or action.dest.upper()}"


def _said(action: argparse.Action) -> str:
    said = f": {', '.join(action.choices)}" if action.choices else ""
    return f"{said}; required" if action.required and action.option_strings else said


def page() -> str:
    """Call this for the page as it should be."""
    return f"{PAGE.read_text().partition(LINE)[0]}{LINE}\n{written(build_parser())}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
