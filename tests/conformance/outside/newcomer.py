"""The learning paths, walked as `make walk` does: on a clean environment, by what the pages say.

Without an index of packages no such environment can be made; then it is not run.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from tests.conformance.outside.lines import BUILD, Line, Verdict, judged
from tests.docs.learning.walker import PATHS, Run, WentOtherwise, make_clean, walked

NAME = "learning paths"


async def run() -> Line:
    """Call this to make an environment and walk all paths in it."""
    return await trio.to_thread.run_sync(walk_all, make_clean)


def walk_all(make: Callable[[Path], Run], paths: Sequence[str] = PATHS) -> Line:
    """Call this with what makes an environment in a folder; blocking."""
    log = BUILD / "newcomer.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    told: list[str] = []
    with tempfile.TemporaryDirectory(prefix="greenroom-") as folder:
        try:
            there = make(Path(folder))
        except subprocess.CalledProcessError as failed:
            return Line(NAME, Verdict.NOT_RUN, f"no environment could be made: {failed}")
        made_s = time.monotonic() - began
        try:
            told.extend(walked(paths, there))
        except WentOtherwise as otherwise:
            log.write_text("\n".join([*told, str(otherwise)]))
            return judged(NAME, [f"{str(otherwise).splitlines()[0]}; see {log}"], "")
    log.write_text("\n".join(told))
    took_s = time.monotonic() - began - made_s
    return judged(NAME, [], f"{len(told)} walked in {took_s:.0f} s, after {made_s:.0f} s to set up")
