"""The public Autobahn suite on our sockets, deflate on (REL-40).

It is a program for Python 2.7; `make conformance` brings it where there is such a one. Nearly all
of its time goes into the compressed messages of groups 12 and 13, 216,000 of them in up to 512
pieces each, and it uses one core. So it runs in parts, `PARTS_AT_ONCE` beside each other, and each
leaves a report of its own: `RESUME=1` goes on behind the parts that an ended run had finished.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import trio

from tests.conformance.outside.echo import serving
from tests.conformance.outside.lines import BUILD, Line, find, judged, not_run

NAME = "autobahn"
CASES = 517
# The long ones first, so that the last to end is a short one.
PARTS: Sequence[Sequence[str]] = (
    *([f"12.{number}.*"] for number in range(1, 6)),
    *([f"13.{number}.*"] for number in range(1, 8)),
    ["9.*"],
    [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)],
)
# The program is the busier of the two, our server the other half of a second core.
PARTS_AT_ONCE = 2
NON_STRICT_MAX = 6
# A part has 54 cases at most; each has 8 minutes by the suite itself.
PART_S_MAX = 3600.0
AGENT = "greenroom"
RIGHT = frozenset({"OK", "INFORMATIONAL", "NON-STRICT"})


class Case(TypedDict):
    """What the report holds of a case."""

    behavior: str
    behaviorClose: str


async def run() -> Line:
    """Call this to run all cases."""
    program = find("wstest", "WSTEST")
    if program is None:
        return not_run(NAME, "wstest (Autobahn|Testsuite)")
    home = BUILD / "autobahn"
    if "RESUME" not in os.environ:
        await trio.to_thread.run_sync(partial(shutil.rmtree, home, ignore_errors=True))
    at_once = trio.CapacityLimiter(PARTS_AT_ONCE)
    async with serving() as server, trio.open_nursery() as nursery:
        for cases in PARTS:
            # In their order, which tasks would not keep.
            await at_once.acquire_on_behalf_of(cases[0])
            nursery.start_soon(_run_part, program, server.port, home, cases, at_once)
    return await trio.to_thread.run_sync(judge, home)


async def _run_part(
    program: str, port: int, home: Path, cases: Sequence[str], at_once: trio.CapacityLimiter
) -> None:
    folder = _folder(home, cases)
    try:
        if not (folder / "index.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            spec = {
                "outdir": str(folder),
                "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}/ws"}],
                "cases": cases,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            (folder / "spec.json").write_text(json.dumps(spec))
            command = [program, "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
            with (folder / "log").open("wb") as log, trio.move_on_after(PART_S_MAX):
                await trio.run_process(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    finally:
        at_once.release_on_behalf_of(cases[0])


def judge(home: Path) -> Line:
    """Call this to judge the reports that the parts left."""
    found: dict[str, Case] = {}
    problems: list[str] = []
    for cases in PARTS:
        index = _folder(home, cases) / "index.json"
        if index.is_file():
            found |= json.loads(index.read_text())[AGENT]
        else:
            problems.append(f"{' '.join(cases)} left no report; see {index.with_name('log')}")
    counts = Counter(one["behavior"] for one in found.values())
    problems += [
        f"{case} {one['behavior']}, close {one['behaviorClose']}"
        for case, one in sorted(found.items())
        if not {one["behavior"], one["behaviorClose"]} <= RIGHT
    ]
    if len(found) != CASES:
        problems.append(f"{len(found)} of {CASES} cases were run")
    if counts["NON-STRICT"] > NON_STRICT_MAX:
        problems.append(f"{counts['NON-STRICT']} cases are NON-STRICT")
    words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return judged(NAME, problems, f"{len(found)} cases: {words}")


def _folder(home: Path, cases: Sequence[str]) -> Path:
    return home / cases[0].rstrip(".*")
