"""`make conformance`: play random scenarios on the real Erlang supervisor and on ours.

`python -m tests.conformance` plays the default number of scenarios, `COUNT=n` so many;
`SEED=n` plays one, and prints what both sides saw at each step.
"""

import os
import sys

from tests.conformance.erlang_side import open_erlang
from tests.conformance.generate import generate
from tests.conformance.ours import play, quiet
from tests.conformance.run import differences, minimal_trace
from tests.conformance.trace import trace
from tests.erlang import is_installed

# Some twenty seconds, most of them ours: Erlang plays all at once.
COUNT_DEFAULT = 2000
SHOWN_MAX = 3


def main() -> int:
    """Run what the environment asks for; returns the exit code."""
    if not is_installed():
        print("not run: erl is not installed")
        return 0
    seed = os.environ.get("SEED")
    if seed is not None:
        return _show(int(seed))
    count = int(os.environ.get("COUNT", COUNT_DEFAULT))
    with open_erlang() as erlang, quiet():
        found = sorted(
            differences(erlang, (generate(one) for one in range(count))),
            key=lambda difference: difference.scenario.seed,
        )
        for difference in found[:SHOWN_MAX]:
            print(minimal_trace(erlang, difference), end="\n\n")
    print(f"{count} scenarios, {len(found)} differences")
    if found:
        seeds = ", ".join(str(difference.scenario.seed) for difference in found)
        print(f"repeat one with SEED=n; the seeds: {seeds}")
    return 1 if found else 0


def _show(seed: int) -> int:
    scenario = generate(seed)
    with open_erlang() as erlang, quiet():
        found = list(differences(erlang, [scenario]))
        [(_, theirs)] = erlang.play([scenario])
        print(trace(scenario, theirs, play(scenario), len(scenario.steps) - 1))
    print(f"1 scenario, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
