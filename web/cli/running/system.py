"""`greenroom run MODULE:SYSTEM`: any supervised system, as its program's last line would serve it.

With `--dev` a process runs it that is ended and started anew when a Python file of the working
folder changes: nothing of what was loaded before is left, which no reload of modules can say.

Rule 1: the process gets one signal and its time to stop in order; then it is killed. It has a
session of its own, so that Ctrl-C of the terminal is not its second signal, which would end it at
once.
Rule 2: it never outlives us, whatever ends us: it has the end of a line that only we hold the other
end of.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import trio

from supervision import Supervisor, serve
from web.cli.opening import import_modules
from web.observability import Code, CommandFailed, complain

LOOK_S = 0.5
# As long as the site has to drain.
STOP_S_MAX = 30.0
# A folder of more is no program of somebody who edits it.
FILES_MAX = 20_000
_SKIPPED = frozenset({"__pycache__", "node_modules", "build", "dist"})
# Without the command line, which takes longer to load than most systems.
_PROGRAM = f"""
import os, signal, sys, threading, time

def follow(line):
    os.read(line, 1)  # nothing comes: it ends with who holds the other end
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep({STOP_S_MAX})
    os.kill(os.getpid(), signal.SIGKILL)

_, module, name, line = sys.argv
threading.Thread(target=follow, args=(int(line),), daemon=True).start()
del sys.argv[1:]

from importlib import import_module
from supervision import serve
serve(getattr(import_module(module), name), development=True)
"""


def command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Call this with what was parsed; returns the exit code."""
    os.environ.update(environment)  # the options stand before it, for the program too
    try:
        system = find_system(parsed.system)
        if parsed.dev:
            return trio.run(_develop, parsed.system)
        serve(system)
    except CommandFailed as error:
        complain(f"greenroom: {error}")
        return error.code
    except SystemExit as ended:
        return int(ended.code or 0)
    return Code.DONE


def find_system(target: str) -> Callable[[], Supervisor]:
    """Call this for what `MODULE:NAME` names; raises `CommandFailed`."""
    module, colon, name = target.partition(":")
    if not (colon and name.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        hint = "Name a module and what is in it, such as shop.system:Shop"
        raise CommandFailed(Code.USAGE, f"{target!r:.80} names no system", hint)
    (found,) = import_modules([module])
    system = getattr(found, name, None)
    if isinstance(system, type) and issubclass(system, Supervisor):
        return cast("Callable[[], Supervisor]", system)
    there = [one for one, value in vars(found).items() if _is_system(value)]
    near = get_close_matches(name, there, cutoff=0.3)
    hint = f"There is {', '.join(near)}" if near else "A system is a class of Supervisor"
    raise CommandFailed(Code.UNKNOWN, f"{module} has no system {name!r:.80}", hint)


def _is_system(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Supervisor) and value is not Supervisor


# With --dev.


async def _develop(target: str) -> int:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_and_reload, target, Path.cwd())
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
    return Code.DONE


async def _run_and_reload(target: str, folder: Path) -> None:
    while True:
        before = await trio.to_thread.run_sync(stamps, folder)
        line, ours = os.pipe()
        words = [sys.executable, "-c", _PROGRAM, *target.split(":"), str(line)]
        try:
            # Popen, and not an async process: it is stopped while this is cancelled.
            process = subprocess.Popen(words, start_new_session=True, pass_fds=(line,))  # noqa: ASYNC220
            try:
                changed = await _wait_for_change(folder, before, process)
            finally:
                with trio.move_on_after(2 * STOP_S_MAX, shield=True):
                    await trio.to_thread.run_sync(_stop, process)
        finally:
            os.close(line)
            os.close(ours)  # behind its end: this too would be a signal
        complain(f"greenroom: {changed} changed; {target} starts anew")


async def _wait_for_change(
    folder: Path, before: Mapping[Path, int], process: subprocess.Popen[bytes]
) -> Path:
    is_told = False
    while True:
        now = await trio.to_thread.run_sync(stamps, folder)
        for path in (*now, *before):
            if now.get(path) != before.get(path):
                return path.relative_to(folder)
        if process.poll() is not None and not is_told:
            is_told = True
            complain(f"greenroom: it has ended with {process.returncode}; a change starts it anew")
        await trio.sleep(LOOK_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it in order, or at all: before its own handler is there this ends it at once."""
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stamps(folder: Path) -> Mapping[Path, int]:
    """Call this for when each Python file of a folder was changed; no hidden or made ones."""
    return dict(_stamps(folder))


def _stamps(folder: Path) -> Iterator[tuple[Path, int]]:
    left = FILES_MAX
    for place, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".") and one not in _SKIPPED]
        for name in files:
            if name.endswith(".py") and left:
                left -= 1
                path = Path(place, name)
                try:
                    yield path, path.stat().st_mtime_ns
                except OSError:
                    continue  # it was removed meanwhile
