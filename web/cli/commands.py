"""From the words behind the program's name to an exit code.

Each command imports what it needs when it is called: `greenroom --help` loads nothing of it.

Rule 1: Ctrl-C ends a command with 130 and no traceback, in whatever moment. While nothing is open,
which is while modules are loaded and after the command has ended, it ends the process at once; in
between it is a `KeyboardInterrupt` that closes what was opened.
Rule 2: before that holds nothing is imported here that takes time.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Call this with the words behind the program's name; returns the exit code.

    Without them it is the program: what follows in its process is only its end.
    """
    is_set = _leave_at_once()
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        if is_set and arguments is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave_at_once() -> bool:
    """Let Ctrl-C end the process; not where it is ignored, or another's, or of another thread."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    try:
        signal.signal(signal.SIGINT, _leave)
    except ValueError:
        return False  # not the main thread
    return True


def _leave(_number: int, _frame: object) -> None:
    os._exit(EXIT_INTERRUPTED)


def _main(arguments: Sequence[str] | None) -> int:
    from web.cli.parser import build_parser, environment_of

    try:
        parsed = build_parser().parse_args(arguments)
    except SystemExit:
        _flush()
        raise
    if parsed.command == "completion":
        return _complete(parsed.shell)
    from web.observability import let_go_of_streams, open_missing_streams

    open_missing_streams()
    try:
        environment = environment_of(parsed)
        # What is imported is no garbage: to look for some meanwhile is a tenth of a start.
        was_on = gc.isenabled()
        gc.disable()
        try:
            run = _command(parsed, environment)
        finally:
            if was_on:
                gc.enable()
        return run()
    finally:
        let_go_of_streams()


def _complete(shell: str) -> int:
    """Print what a shell reads when it starts: nothing is loaded for it (rule 2)."""
    from pathlib import Path

    sys.stdout.write((Path(__file__).parent / "completion" / f"greenroom.{shell}").read_text())
    _flush()
    return 0


# Where each command is carried out. A module is loaded when its command is given, and no other.
_MODULES = {
    "new": "making.command",
    "upgrade": "making.command",
    "mail": "mail",
    "lab": "live.lab",
    "tree": "live.showing",
    "breakers": "live.showing",
    "top": "live.showing",
    "diagnose": "live.diagnosing",
    "doctor": "live.doctor",
    "bench": "running.measuring.command",
    "streams": "reading.log",
    "events": "reading.log",
    "follow": "reading.log",
    "replay": "reading.replay",
    "migrate": "store",
    "store": "store",
    "roles": "people.roles",
    "sessions": "people.members",
    "audit": "people.members",
    "risk": "people.members",
    "tokens": "people.members",
    "saga": "sagas",
    "cluster": "cluster",
    "projection": "projections",
    "bus": "bus",
    "backup": "backup",
    "db": "backup",
    "dlq": "beside_log",
    "outbox": "beside_log",
    "timers": "beside_log",
}


def _command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> Callable[[], int]:
    """Import what a command needs, and nothing else, and give it to be run."""
    if parsed.command == "serve":
        from web.cli.running import serving

        return lambda: _interruptibly(lambda: serving.serve(environment))
    if parsed.command == "run":
        from web.cli.running import system

        return lambda: _interruptibly(lambda: system.command(parsed, environment))
    if parsed.command == "example":
        from web.cli.running import examples

        return lambda: _interruptibly(lambda: examples.command(parsed, environment))
    if parsed.command == "exercise":
        from web.cli.running import exercises

        return lambda: exercises.command(parsed)
    from importlib import import_module

    from web.cli.answering import answer

    command = import_module(f"web.cli.{_MODULES[parsed.command]}").command
    return lambda: _interruptibly(lambda: answer(command, parsed, environment))


def _interruptibly(run: Callable[[], int]) -> int:
    """Run a command; Ctrl-C is an exception meanwhile, for trio too, which looks for it."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        return run()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run()
    finally:
        signal.signal(signal.SIGINT, _leave)


def _flush() -> None:
    """Write what is left of a help text; who read it may be gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            from web.observability import let_go_of_streams

            let_go_of_streams()
