"""From the words behind the program's name to an exit code.

Each command imports what it needs when it is called: `greenroom --help` loads nothing of it.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from web.cli.parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Call this with the words behind the program's name; returns the exit code."""
    try:
        parsed = build_parser().parse_args(arguments)
    except SystemExit:
        _flush()
        raise
    from web.observability import let_go_of_streams, open_missing_streams

    open_missing_streams()
    try:
        return _run(parsed, _environment(parsed))
    finally:
        let_go_of_streams()


def _flush() -> None:
    """Write what is left of a help text; who read it may be gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            from web.observability import let_go_of_streams

            let_go_of_streams()


def _environment(parsed: argparse.Namespace) -> dict[str, str]:
    environment = dict(os.environ)
    if parsed.state_dir is not None:
        environment["STATE_DIR"] = parsed.state_dir
    if parsed.database_url is not None:
        environment["DATABASE_URL"] = parsed.database_url
    return environment


def _run(parsed: argparse.Namespace, environment: dict[str, str]) -> int:
    if parsed.command == "serve":
        from web.cli import serving

        return serving.serve(environment)
    from web.cli import beside_log, projections, store
    from web.cli.answering import answer

    match parsed.command:
        case "migrate" | "store":
            command = store.command
        case "projection":
            command = projections.command
        case _:
            command = beside_log.command
    return answer(command, parsed, environment)
