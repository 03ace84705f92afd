"""Every command with its options, and nothing else: a call for help must not load a database.

`docs/reference/command_line.md` tells the same; a test compares the two.
"""

import argparse
from collections.abc import Callable
from typing import TypeAlias

# Text, as the class takes a parameter for type checkers only. It has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def build_parser() -> argparse.ArgumentParser:
    """Call this for the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="greenroom",
        description="An actor runtime and the site that proves it live.",
        epilog="Exit codes: 0 done, 1 failed or something is wrong, 2 usage or settings, 3 not "
        "found, 4 refused, 5 not reachable. Settings come from the environment, too.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the site; settings come from the environment",
        description="Run the site until Ctrl-C, SIGTERM or SIGHUP. Settings come from the "
        "environment; docs/reference/settings.md lists them.",
    )
    _add_store(serve)
    _add_migrate(commands)
    _add_store_commands(commands)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state-dir", help="where the data lie (STATE_DIR)")
    parser.add_argument("--database-url", help="a PostgreSQL server (DATABASE_URL)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _reading(commands: Commands, name: str, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words)
    _add_common(parser)
    return parser


def _changing(
    commands: Commands, name: str, words: str, *, needs_reason: bool = False
) -> argparse.ArgumentParser:
    parser = _reading(commands, name, words)
    parser.add_argument("--yes", action="store_true", help="do not ask first")
    parser.add_argument(
        "--reason",
        required=needs_reason,
        default="",
        help="why, for the audit" + ("" if needs_reason else " (optional)"),
    )
    return parser


def _group(commands: Commands, name: str, words: str) -> Commands:
    parser = commands.add_parser(name, help=words, description=words)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 19:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}")
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, got {text}")
        return int(text)

    return parse


def _add_migrate(commands: Commands) -> None:
    parser = _changing(commands, "migrate", "bring the schema up, or only look at it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="tell what would be applied")
    what.add_argument("--check", action="store_true", help="end with 4 when something would be")
    what.add_argument(
        "--to",
        type=_number(0, 9999),
        metavar="N",
        help="go to this version, down too; nobody may be connected then",
    )


def _add_store_commands(commands: Commands) -> None:
    actions = _group(
        commands, "store", "look whether a store is whole; make a moved one serve again"
    )
    check = _reading(
        actions, "check", "look at all that is stored; ends with 1 when it is not whole"
    )
    check.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module with event classes, so that its events are decoded too; may be repeated",
    )
    _changing(actions, "renumber", "give events a new order, after a restore into another cluster")
    rewound = _changing(actions, "rewound", "serve a store that went back in time, as it is")
    rewound.add_argument(
        "--lossless",
        action="store_true",
        help="nothing acknowledged is missing: lineage and cursors stay",
    )
    rewound.add_argument(
        "--written-to",
        metavar="LSN",
        help="how far the former server had written (pg_current_wal_lsn), with --lossless",
    )
