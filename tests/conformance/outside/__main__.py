"""`make conformance`: outside programs against our server; `ONLY=nginx` runs one of them.

One line each: passed, FAILED, or not run where the program is not installed. Not run is no pass,
and no failure either: the exit code is 1 only when something failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from tests.conformance.outside import (
    autobahn,
    collector,
    h2,
    newcomer,
    nodes,
    oidc,
    proxies,
    stranger,
)
from tests.conformance.outside.lines import Line, Verdict

RUNS: Mapping[str, Callable[[], Awaitable[Line]]] = {
    **{name: partial(proxies.run, name) for name in proxies.PROXIES},
    **{nodes.name_of(name): partial(nodes.run, name) for name in proxies.PROXIES},
    h2.NAME: h2.run,
    oidc.NAME: oidc.run,
    collector.NAME: collector.run,
    stranger.NAME: stranger.run,
    newcomer.NAME: newcomer.run,
    # Last: it takes the longest.
    autobahn.NAME: autobahn.run,
}


def main() -> int:
    """Run what the environment asks for; returns the exit code."""
    only = os.environ.get("ONLY")
    if only is not None and only not in RUNS:
        print(f"ONLY={only} is none of {', '.join(RUNS)}")
        return 2
    is_red = False
    for name, run in RUNS.items():
        if only in (None, name):
            line = trio.run(run)
            print(line, flush=True)
            is_red = is_red or line.verdict is Verdict.FAILED
    return 1 if is_red else 0


if __name__ == "__main__":
    sys.exit(main())
