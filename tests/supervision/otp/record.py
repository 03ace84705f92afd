"""Record what a real Erlang supervisor does: `python -m tests.supervision.otp.record`.

Needs `erl` and `erlc` in the path. Writes recorded.jsonl beside this file: a scenario a line, with
the state after each event. `test_otp.py` plays them again without Erlang.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Final

from tests.supervision.otp.scenarios import Child, Event, Scenario, make

HERE: Final = Path(__file__).parent
COUNT: Final = 200
SEED: Final = 20_261_121

MODES: Final = {"never": "never", "any": "any_significant", "all": "all_significant"}
EXITS: Final = {"shutdown_info": "{shutdown,x}"}


def term_of_child(child: Child) -> str:
    return f"{{{child.id},{child.restart},{str(child.significant).lower()}}}"


def term_of_event(event: Event) -> str:
    match event.kind:
        case "end":
            return f"{{'end',{event.id},{EXITS.get(event.exit, event.exit)}}}"
        case "fails":
            return f"{{fails,{event.id},[{','.join(event.starts)}]}}"
        case "start":
            assert event.child is not None
            return f"{{start,{term_of_child(event.child)}}}"
        case kind:
            return f"{{{kind},{event.id}}}"


def term_of(scenario: Scenario) -> str:
    children = ",".join(term_of_child(one) for one in scenario.children)
    events = ",".join(term_of_event(one) for one in scenario.events)
    mode = MODES[scenario.auto_shutdown]
    return f"{{{scenario.strategy},{mode},{scenario.intensity},[{children}],[{events}]}}."


def short(value: object) -> object:
    """Leave out what is empty: most fields of most events are."""
    if isinstance(value, dict):
        return {key: short(one) for key, one in value.items() if one or one is False}
    if isinstance(value, (list, tuple)):
        return [short(one) for one in value]
    return value


def main() -> int:
    """Record, and write the file; returns the exit code."""
    if shutil.which("erlc") is None:
        sys.stderr.write("erlc is not installed; nothing was recorded\n")
        return 1
    random = Random(SEED)
    scenarios = [make(random) for _ in range(COUNT)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "scenarios.txt").write_text("\n".join(map(term_of, scenarios)) + "\n")
        subprocess.run(["erlc", str(HERE / "record.erl")], cwd=folder, check=True)
        subprocess.run(["erl", "-noshell", "-s", "record", "main"], cwd=folder, check=True)
        lines = Path(folder, "states.txt").read_text().splitlines()
    assert len(lines) == COUNT, "Erlang did not play every scenario"
    with (HERE / "recorded.jsonl").open("w") as out:
        for scenario, line in zip(scenarios, lines, strict=True):
            played = {**scenario.to_json(), "states": line.split("|")}
            out.write(json.dumps(short(played), separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
