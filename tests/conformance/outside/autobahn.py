"""The public Autobahn suite on our sockets, deflate on (REL-40).

It is a program for Python 2.7; `make conformance` brings it where there is such a one.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TypedDict

import trio

from tests.conformance.outside.echo import serving
from tests.conformance.outside.lines import BUILD, Line, find, judged, not_run

NAME = "autobahn"
CASES = 517
NON_STRICT_MAX = 6
# It takes some minutes, most of them for large and compressed messages.
RUN_S_MAX = 3600.0
AGENT = "greenroom"
RIGHT = frozenset({"OK", "INFORMATIONAL", "NON-STRICT"})


class Case(TypedDict):
    """What the report holds of a case."""

    behavior: str
    behaviorClose: str


async def run(cases: list[str]) -> Line:
    """Call this to run cases, such as `["*"]`."""
    program = find("wstest", "WSTEST")
    if program is None:
        return not_run(NAME, "wstest (Autobahn|Testsuite)")
    folder = BUILD / "autobahn"
    folder.mkdir(parents=True, exist_ok=True)
    async with serving() as server:
        spec = {
            "outdir": str(folder),
            "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{server.port}/ws"}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        (folder / "index.json").unlink(missing_ok=True)
        command = [program, "-m", "fuzzingclient", "-s", str(folder / "spec.json")]
        with (folder / "log").open("wb") as log, trio.move_on_after(RUN_S_MAX):
            await trio.run_process(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    return await trio.to_thread.run_sync(partial(read, folder, is_whole=cases == ["*"]))


def read(folder: Path, *, is_whole: bool) -> Line:
    """Call this to judge the report that it left."""
    index = folder / "index.json"
    if not index.is_file():
        return judged(NAME, [f"it left no report; see {folder / 'log'}"], "")
    found: dict[str, Case] = json.loads(index.read_text())[AGENT]
    counts = Counter(one["behavior"] for one in found.values())
    problems = [
        f"{case} {one['behavior']}, close {one['behaviorClose']}"
        for case, one in sorted(found.items())
        if not {one["behavior"], one["behaviorClose"]} <= RIGHT
    ]
    if is_whole and len(found) != CASES:
        problems.append(f"{len(found)} of {CASES} cases were run")
    if counts["NON-STRICT"] > NON_STRICT_MAX:
        problems.append(f"{counts['NON-STRICT']} cases are NON-STRICT")
    words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return judged(NAME, problems, f"{len(found)} cases: {words}")
