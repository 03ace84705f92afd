"""What can be called: `greenroom serve`.

Exit codes: 0 done and clean, 1 failed or something had to be cut, 2 usage or settings.
"""

import argparse
import os
from collections.abc import Mapping, Sequence

import trio

from actors.runtime import Log, Secret
from actors.runtime.words.showing import shown
from web.app import CannotStart, first_leaf, run_site
from web.observability import (
    complain,
    configure_logging,
    let_go_of_streams,
    open_missing_streams,
)
from web.settings import BadSettings, read_settings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

log = Log(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Call this with the words behind the program's name; returns the exit code."""
    open_missing_streams()
    try:
        parsed = _parser().parse_args(arguments)
        environment = dict(os.environ)
        if parsed.state_dir is not None:
            environment["STATE_DIR"] = parsed.state_dir
        if parsed.database_url is not None:
            environment["DATABASE_URL"] = parsed.database_url.reveal()
        return serve(environment)
    finally:
        let_go_of_streams()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="greenroom", description="An actor runtime and the site that proves it live."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve_parser = commands.add_parser(
        "serve",
        help="run the site; settings come from the environment",
        description="Run the site until Ctrl-C, SIGTERM or SIGHUP. Settings come from the "
        "environment; docs/reference/settings.md lists them.",
    )
    serve_parser.add_argument("--state-dir", help="where the data lie (STATE_DIR)")
    serve_parser.add_argument(
        "--database-url", type=Secret, help="a PostgreSQL server (DATABASE_URL)"
    )
    return parser


def serve(environment: Mapping[str, str]) -> int:
    """Call this to run the site until a signal; returns the exit code."""
    try:
        settings = read_settings(environment)
    except BadSettings as error:
        return _refuse(error.problems)
    configure_logging(settings.log_format, settings.log_level)
    code = EXIT_USAGE
    try:
        code = trio.run(run_site, settings)
    except* CannotStart as group:
        _refuse([str(first_leaf(group))])
    except* KeyboardInterrupt:
        # Ctrl-C before the tree was up: what was opened has been closed on the way here.
        code = EXIT_INTERRUPTED
    except* Exception as group:
        code = EXIT_FAILED
        log.error("site.failed", exc_info=group)
        complain(
            f"greenroom: the site ended because of {shown(first_leaf(group))}; the log above has "
            "the cause. Nothing that was acknowledged is lost; start it again."
        )
    return code


def _refuse(problems: Sequence[str]) -> int:
    for line in problems:
        complain(line)
    return EXIT_USAGE
