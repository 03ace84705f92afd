"""Three nodes behind nginx and HAProxy, as docs/how_to/deploy-nodes.md says, renewed in turn.

Under open pages, programs and posts: `tests/nodes/test_rolling.py` says what must hold, and judges.
"""

from __future__ import annotations

import os
import sys

import trio

from tests.conformance.outside.lines import ROOT, Line, Verdict, judged
from tests.nodes import Setup, missing

CROWD = {"PAGES": "20", "PROGRAMS": "5", "POSTS_PER_S": "5"}


def name_of(balancer: str) -> str:
    """Call this for what the report calls nodes behind a balancer."""
    return f"nodes behind {balancer}"


async def run(balancer: str) -> Line:
    """Call this to try one of the balancers."""
    name, lacking = name_of(balancer), missing(Setup(balancer=balancer))
    if lacking:
        return Line(name, Verdict.NOT_RUN, lacking.removeprefix("not run: "))
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/nodes/test_rolling.py"]
    done = await trio.run_process(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **CROWD, "BALANCER": balancer},
        capture_stdout=True,
        check=False,
    )
    said = done.stdout.decode(errors="replace").splitlines()
    problems = [] if done.returncode == 0 else said[-5:]
    return judged(name, problems, "renewed in turn: nothing lost, doubled or missed")
