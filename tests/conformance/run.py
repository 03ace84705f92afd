"""Playing scenarios on both sides, and what differed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .differences import first_difference
from .erlang_side import Erlang
from .minimal import smallest
from .observation import Observation
from .ours import play
from .scenario import Scenario
from .trace import trace

__all__ = ["Difference", "differences", "minimal_trace"]


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
    for scenario, theirs in erlang.play(scenarios):
        mine = _played(scenario)
        step = first_difference(scenario, theirs, mine)
        if step is not None:
            yield Difference(scenario, theirs, mine, step)


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
