"""What a stranger does first: `greenroom new app demo && cd demo && make test`, on a clean machine.

A program with everything, and its greenroom in it, in an environment of its own from the index;
then one with the longest names. The first is checked again with the network
cut. Then the page of the first service is walked, each command of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.conformance.outside.lines import BUILD, ROOT, Line, judged
from tests.web.cli.making.programs import LONG
from web.cli.making.naming import NAME_CHARS_MAX

NAME = "greenroom new"
# CLI-1: with a warm cache of packages.
FIRST_S_MAX = 180.0
STEP_S_MAX = 1200
# A network of its own has nobody in it; its own address is up, as a test of a socket needs.
CUT = "unshare --map-root-user --net sh -c 'ip link set lo up && {}'"
MAKE = [sys.executable, "-m", "web.cli", "new"]


async def run() -> Line:
    """Call this to do all of it."""
    return await trio.to_thread.run_sync(_do)


def _do() -> Line:
    log = BUILD / "stranger.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="greenroom-") as scratch, log.open("wb") as output:
        folder = Path(scratch)

        def did(*words: str, cwd: Path = folder, **more: str) -> bool:
            environment = {**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            return _ended_well(words, cwd, {**environment, **more}, output.fileno())

        def typed(*words: str, cwd: Path = folder) -> bool:
            return did(*MAKE, *words, cwd=cwd, PYTHONPATH=str(ROOT))

        began = time.monotonic()
        problems = []
        everything = ("--saga", "--web", "--bus", "kafka")
        if not typed("app", "demo", *everything, "--vendor") or not did(
            "make", "test", cwd=folder / "demo"
        ):
            problems.append("make test of a new program failed")
        first_s = time.monotonic() - began
        # A machine that does other things says nothing of a time.
        load = os.getloadavg()[0]
        if first_s > FIRST_S_MAX and load <= (os.cpu_count() or 1):
            problems.append(f"it took {first_s:.0f} s, over {FIRST_S_MAX:.0f}, at load {load:.0f}")
        if not did("make", "check", cwd=folder / "demo"):
            problems.append("make check failed")
        cut = shutil.which("unshare") and shutil.which("ip")
        if cut and not did("sh", "-c", CUT.format("make test"), cwd=folder / "demo"):
            problems.append("make test without network failed")
        name = "w" * NAME_CHARS_MAX
        made = typed("app", name, *everything, "--vendor") and all(
            typed(kind, part, *(("--of", LONG["aggregate"]) if kind == "projection" else ()),
                  cwd=folder / name)
            for kind, part in LONG.items()
        )  # fmt: skip
        if not made or not did("make", "check", cwd=folder / name):
            problems.append("a program with long names is not green")
        walk = [sys.executable, "-m", "pytest", "-q", "tests/docs/test_first_service.py"]
        if not did(*walk, cwd=ROOT, WALK="whole"):
            problems.append("the page of the first service says what is not so")
        cut_words = "tried without network" if cut else "NOT tried without network"
        words = f"tested in {first_s:.0f} s at load {load:.0f}, {cut_words}"
        return judged(NAME, [f"{one}; see {log}" for one in problems], words)


def _ended_well(
    words: tuple[str, ...], cwd: Path, environment: dict[str, str], output: int
) -> bool:
    done = subprocess.run(
        words, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output,
        stderr=subprocess.STDOUT, check=False, timeout=STEP_S_MAX,
    )  # fmt: skip
    return done.returncode == 0
