"""Playing scenarios on both sides, and what differed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.conformance.differences import first_difference
from tests.conformance.erlang_side import Erlang
from tests.conformance.minimal import smallest
from tests.conformance.observation import Observation
from tests.conformance.ours import play
from tests.conformance.scenario import Scenario
from tests.conformance.trace import trace

# In a timed scenario Erlang's seconds are real ones. A machine that holds it up for longer than a
# window shows a difference once; a supervisor that does something else shows it each time.
TRIES_TIMED = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """A scenario, what each side saw, and the step after which they differ."""

    scenario: Scenario
    erlang: list[Observation]
    ours: list[Observation]
    step: int

    def __str__(self) -> str:
        return trace(self.scenario, self.erlang, self.ours, self.step)


def differences(erlang: Erlang, scenarios: Iterable[Scenario]) -> Iterator[Difference]:
    """Call this to play scenarios on both sides; nothing comes for those that agree."""
    doubtful: list[Difference] = []
    for scenario, theirs in erlang.play(scenarios):
        found = _difference(scenario, theirs)
        if found is None:
            continue
        if scenario.is_timed:
            doubtful.append(found)  # played again later: now Erlang is busy with the others
        else:
            yield found
    for found in doubtful:
        if _is_repeated(erlang, found.scenario):
            yield found


def _difference(scenario: Scenario, theirs: list[Observation]) -> Difference | None:
    mine = _played(scenario)
    step = first_difference(scenario, theirs, mine)
    return None if step is None else Difference(scenario, theirs, mine, step)


def _is_repeated(erlang: Erlang, scenario: Scenario) -> bool:
    for _ in range(TRIES_TIMED - 1):
        [(_, theirs)] = erlang.play([scenario])
        if _difference(scenario, theirs) is None:
            return False
    return True


def minimal_trace(erlang: Erlang, found: Difference) -> str:
    """Call this for the trace of the smallest scenario that still differs."""

    def differs(scenario: Scenario) -> bool:
        return any(True for _ in differences(erlang, [scenario]))

    small = smallest(found.scenario, differs)
    return "\n".join(str(one) for one in differences(erlang, [small]))


def _played(scenario: Scenario) -> list[Observation]:
    try:
        return play(scenario)
    except Exception as error:  # noqa: BLE001  a player that breaks is a difference to report
        return [Observation(f"broke with {error!r}", (), (), (), (), "broken")]
