"""What the outside programs left is judged as a whole, and never better than it is (REL-40)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conformance.outside import autobahn, collector, newcomer
from tests.conformance.outside.lines import Verdict
from tests.docs.learning.walker import Run

# How many cases each group of the suite has.
GROUPS = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1}
DEFLATED = {"12": 5, "13": 7}


def leave_reports(home: Path) -> None:
    """Leave what a run without a fault leaves."""
    cases = [f"{group}.{one}" for group, count in GROUPS.items() for one in range(count)]
    cases += [
        f"{group}.{part}.{one}"
        for group, parts in DEFLATED.items()
        for part in range(1, parts + 1)
        for one in range(18)
    ]
    for patterns in autobahn.PARTS:
        beginnings = tuple(pattern.removesuffix("*") for pattern in patterns)
        found = [case for case in cases if case.startswith(beginnings)]
        write(home / patterns[0].rstrip(".*"), dict.fromkeys(found, ("OK", "OK")))


def write(folder: Path, cases: dict[str, tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = {case: {"behavior": one, "behaviorClose": other} for case, (one, other) in cases.items()}
    (folder / "index.json").write_text(json.dumps({autobahn.AGENT: told}))


def test_the_parts_are_the_whole_suite(tmp_path: Path) -> None:
    leave_reports(tmp_path)
    line = autobahn.judge(tmp_path)
    assert line.verdict is Verdict.PASSED
    assert line.words == "517 cases: 517 OK"


def test_a_part_that_left_nothing_is_no_pass(tmp_path: Path) -> None:
    leave_reports(tmp_path)
    (tmp_path / "13.7" / "index.json").unlink()
    line = autobahn.judge(tmp_path)
    assert line.verdict is Verdict.FAILED
    assert "13.7" in line.words
    assert "499 of 517" in line.words


def test_a_wrong_close_or_too_much_leniency_is_no_pass(tmp_path: Path) -> None:
    leave_reports(tmp_path)
    write(tmp_path / "9", {f"9.{one}": ("OK", "OK") for one in range(53)} | {"9.x": ("OK", "BAD")})
    assert "9.x OK, close BAD" in autobahn.judge(tmp_path).words
    write(tmp_path / "9", {f"9.{one}": ("NON-STRICT", "OK") for one in range(54)})
    assert "54 cases are NON-STRICT" in autobahn.judge(tmp_path).words


def test_what_a_collector_tells_is_read_by_its_ids() -> None:
    # OBS-9
    of = {"refType": "CHILD_OF", "traceID": "a", "spanID": "1"}
    spans = [
        {"spanID": "1", "operationName": "http.request", "references": []},
        {"spanID": "2", "operationName": "store.append", "references": [of]},
    ]
    found = collector.read({"data": [{"traceID": "a", "spans": spans}]})
    assert found == {"1": ("http.request", ""), "2": ("store.append", "1")}
    assert collector.read({"data": None}) == collector.read(None) == {}


def test_a_walk_that_goes_otherwise_is_no_pass_and_one_without_an_index_not_run() -> None:
    # DOC-7
    def without_index(folder: Path) -> Run:
        raise subprocess.CalledProcessError(1, "pip")

    assert newcomer.walk_all(without_index, ["first-steps"]).verdict is Verdict.NOT_RUN
    line = newcomer.walk_all(lambda _: lambda words, folder: (1, "broken"), ["first-steps"])
    assert line.verdict is Verdict.FAILED
    assert "docs/learn/first-steps.md" in line.words
    assert newcomer.walk_all(lambda _: lambda words, folder: (0, ""), []).verdict is Verdict.PASSED
