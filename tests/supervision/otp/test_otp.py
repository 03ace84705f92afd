"""The decisions are those of a real Erlang supervisor: 200 recorded scenarios, played again.

Recorded with Erlang/OTP 25 by `record.py`; Erlang is not needed to run this.
"""

import json
from pathlib import Path

import pytest

from tests.supervision.otp.scenarios import Child, Event, Scenario, play

RECORDED = [
    json.loads(line) for line in Path(__file__).with_name("recorded.jsonl").read_text().splitlines()
]


def read(line: dict[str, object]) -> Scenario:
    children = line["children"]
    events = line["events"]
    assert isinstance(children, list)
    assert isinstance(events, list)
    return Scenario(
        strategy=line["strategy"],  # type: ignore[arg-type]  # our own file
        auto_shutdown=line["auto_shutdown"],  # type: ignore[arg-type]  # as above
        intensity=int(str(line["intensity"])),
        children=tuple(Child(**one) for one in children),
        events=tuple(
            Event(
                one["kind"],
                one["id"],
                one.get("exit", ""),
                tuple(one.get("starts", ())),
                Child(**one["child"]) if "child" in one else None,
            )
            for one in events
        ),
    )


def test_there_are_recordings() -> None:
    assert len(RECORDED) == 200


@pytest.mark.parametrize("number", range(0, 200, 20))
def test_the_same_as_erlang(number: int) -> None:
    # SUP-30, SUP-31, SUP-32, SUP-33, SUP-34, SUP-40, SUP-41, SUP-42, SUP-43, SUP-65,
    # SUP-117, SUP-118, SUP-119, SUP-125, SUP-126, SUP-127, SUP-128, SUP-129, SUP-130,
    # SUP-131, SUP-132, SUP-133, SUP-134, SUP-135, SUP-136, SUP-137, SUP-147
    for line in RECORDED[number : number + 20]:
        scenario = read(line)
        assert play(scenario) == line["states"], scenario
