"""Comparing two sides, and the known differences between them.

Rule: nothing is left out of a comparison but by a line of `KNOWN_DIFFERENCES` with its reason.
What can not be rewritten is not generated: `generate.py` says so where it happens.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.conformance.observation import Level, Observation
from tests.conformance.scenario import DynamicTree, Scenario, StaticTree

SERIAL = re.compile(r"#\d+")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a known difference may depend on: which supervisors are dynamic, and the step."""

    dynamic: frozenset[str]
    is_loose: bool
    is_striking: bool


Change = Callable[[Observation, Facts], Observation]


@dataclass(frozen=True, slots=True)
class Known:
    """A difference that is meant: why, and how each side is rewritten so that it vanishes."""

    why: str
    erlang: Change | None = None
    ours: Change | None = None


def _lists_turned(seen: Observation, facts: Facts) -> Observation:
    tree = tuple(dataclasses.replace(one, children=one.children[::-1]) for one in seen.tree)
    answers = tuple(_turned(answer) for answer in seen.answers)
    return dataclasses.replace(seen, tree=tree, answers=answers, result=_turned(seen.result))


def _turned(answer: str) -> str:
    return ",".join(answer.split(",")[::-1]) if ":" in answer else answer


def _levels_sorted(seen: Observation, facts: Facts) -> Observation:
    tree = tuple(sorted(seen.tree, key=lambda level: level.name))
    return dataclasses.replace(seen, tree=tree)


def _only_what_came_of_it(seen: Observation, facts: Facts) -> Observation:
    if not facts.is_striking:
        return seen
    tree = tuple(
        dataclasses.replace(one, children=tuple(SERIAL.sub("", child) for child in one.children))
        for one in seen.tree
    )
    result = SERIAL.sub("", seen.result)
    return dataclasses.replace(seen, log=(), ends=(), tree=tree, result=result)


def _dynamic_sorted(seen: Observation, facts: Facts) -> Observation:
    tree = tuple(
        dataclasses.replace(one, children=tuple(sorted(one.children)))
        if one.name in facts.dynamic
        else one
        for one in seen.tree
    )
    answers = tuple(_list_sorted(answer) for answer in seen.answers)
    return dataclasses.replace(seen, tree=tree, answers=answers, result=_list_sorted(seen.result))


def _list_sorted(answer: str) -> str:
    return ",".join(sorted(answer.split(","))) if answer.startswith("-:") else answer


def _loose_sorted(seen: Observation, facts: Facts) -> Observation:
    return dataclasses.replace(seen, log=tuple(sorted(seen.log))) if facts.is_loose else seen


def _active_recounted(seen: Observation, facts: Facts) -> Observation:
    tree = tuple(_recounted(one) if one.name in facts.dynamic else one for one in seen.tree)
    return dataclasses.replace(seen, tree=tree)


def _recounted(level: Level) -> Level:
    specs, _, supervisors, workers = level.counts.split(".")
    return dataclasses.replace(
        level, counts=f"{specs}.{len(level.children)}.{supervisors}.{workers}"
    )


def _waiting_is_down(seen: Observation, facts: Facts) -> Observation:
    answers = tuple(
        one.replace(":restarting", ":down").replace(":none", ":down") for one in seen.answers
    )
    return dataclasses.replace(seen, answers=answers)


def _parallel_stops_sorted(seen: Observation, facts: Facts) -> Observation:
    log: list[str] = []
    run: list[str] = []
    for line in (*seen.log, ""):
        word, _, name = line.partition(" ")
        if word == "stop" and name.startswith("d"):
            run.append(line)
        else:
            log += [*sorted(run), line]
            run.clear()
    return dataclasses.replace(seen, log=tuple(log[:-1]))


def _ends_sorted(seen: Observation, facts: Facts) -> Observation:
    return dataclasses.replace(seen, ends=tuple(sorted(seen.ends)))


KNOWN_DIFFERENCES: tuple[Known, ...] = (
    Known("SUP-95: our lists are in start order, Erlang's in its reverse", erlang=_lists_turned),
    Known(
        "nested supervisors are looked at in the order of the lists",
        erlang=_levels_sorted,
        ours=_levels_sorted,
    ),
    Known(
        "Erlang keeps dynamic children in a map: their list has no order",
        erlang=_dynamic_sorted,
        ours=_dynamic_sorted,
    ),
    Known(
        "SUP-20: dynamic children stop in parallel on both sides: in no order",
        erlang=_parallel_stops_sorted,
        ours=_parallel_stops_sorted,
    ),
    Known(
        "ACT-53: members of a group that wait to be started keep their refs and mailboxes, so "
        "they are listed restarting; Erlang lists them as stopped",
        erlang=_waiting_is_down,
        ours=_waiting_is_down,
    ),
    Known(
        "SUP-95: neither a starting nor a stopping child blocks its supervisor, so what a caller "
        "starts or stops between two attempts goes on beside them",
        erlang=_loose_sorted,
        ours=_loose_sorted,
    ),
    Known(
        "Erlang 25 counts one active child too few for each dynamic one whose restart loop was "
        "ended by terminate_child; its list, which is right, is what ours is held to",
        erlang=_active_recounted,
    ),
    Known(
        "SUP-95: an end during a group start is answered at once, by Erlang when the group is up; "
        "what came of it is the same, with fewer incarnations on the way",
        erlang=_only_what_came_of_it,
        ours=_only_what_came_of_it,
    ),
    Known(
        "Erlang delivers the news of several ends in no particular order to an onlooker; the "
        "order of stops is compared by the log",
        erlang=_ends_sorted,
        ours=_ends_sorted,
    ),
)


def settled(seen: Observation, scenario: Scenario, number: int, side: str) -> Observation:
    """Call this to take the known differences out of what one side saw after a step."""
    dynamic = frozenset(_dynamic_names("root", scenario.tree))
    facts = Facts(dynamic, scenario.steps[number].is_loose, scenario.is_striking)
    for known in KNOWN_DIFFERENCES:
        change = known.erlang if side == "erlang" else known.ours
        if change is not None:
            seen = change(seen, facts)
    return seen


def _dynamic_names(name: str, body: object) -> list[str]:
    match body:
        case DynamicTree():
            return [name]
        case StaticTree(kids=kids):
            return [found for kid in kids for found in _dynamic_names(kid.id, kid.body)]
        case _:
            return []


def first_difference(
    scenario: Scenario, erlang: Sequence[Observation], ours: Sequence[Observation]
) -> int | None:
    """Call this for the number of the first step after which the two sides differ."""
    for number, (theirs, mine) in enumerate(zip(erlang, ours, strict=False)):
        expected = settled(theirs, scenario, number, "erlang")
        if expected != settled(mine, scenario, number, "ours"):
            return number
    return None if len(erlang) == len(ours) else min(len(erlang), len(ours))
