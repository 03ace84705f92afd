"""Random scenarios for a supervisor, and how this project's decisions answer them.

A scenario is what both a real Erlang supervisor (`record.erl`) and `StaticMachine` on paper can
play; after each event the state is one line of text in the same words.
"""

from dataclasses import asdict, dataclass
from random import Random
from typing import Final

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.deciding.slots import Slot
from supervision.specs.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotFound,
    SpecError,
    StartFailed,
    StillRestarting,
    StillRunning,
)
from supervision.specs.specs import ChildSpec, Flags
from supervision.specs.words import AutoShutdownMode, RestartType, Strategy
from tests.supervision.paper import Bench

IDS: Final = "abcd"
STRATEGIES: Final[tuple[Strategy, ...]] = ("one_for_one", "one_for_all", "rest_for_one")
MODES: Final[tuple[AutoShutdownMode, ...]] = ("never", "never", "any", "all")
RESTARTS: Final[tuple[RestartType, ...]] = ("permanent", "permanent", "transient", "temporary")
EXITS: Final[dict[str, Exit]] = {
    "normal": Normal(),
    "shutdown": Shutdown(),
    "shutdown_info": Shutdown("x"),
    "boom": Crashed(ValueError("boom")),
    "kill": Killed(),
}
# An hour: no scenario takes as long, so only the number of restarts counts.
PERIOD: Final = 3600.0
WORDS: Final[dict[type, str]] = {
    AlreadyStarted: "already_started",
    AlreadyPresent: "already_present",
    NotFound: "not_found",
    StillRunning: "running",
    StillRestarting: "restarting",
    StartFailed: "failed",
    SpecError: "spec_error",
}
SHOWN: Final = {"running": "up", "stopped": "down", "restarting": "restarting"}


@dataclass(frozen=True)
class Child:
    """A child of a scenario."""

    id: str
    restart: RestartType
    significant: bool


@dataclass(frozen=True)
class Event:
    """One thing that happens: `end`, `fails`, `start`, `terminate`, `restart` or `delete`."""

    kind: str
    id: str
    exit: str = ""
    starts: tuple[str, ...] = ()
    child: Child | None = None


@dataclass(frozen=True)
class Scenario:
    """A supervisor and what happens to it."""

    strategy: Strategy
    auto_shutdown: AutoShutdownMode
    intensity: int
    children: tuple[Child, ...]
    events: tuple[Event, ...]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def make(random: Random) -> Scenario:
    """Make one scenario."""
    mode = random.choice(MODES)

    def child(child_id: str) -> Child:
        restart = random.choice(RESTARTS)
        may_be = mode != "never" and restart != "permanent"
        return Child(child_id, restart, may_be and random.random() < 0.5)

    def event() -> Event:
        kinds = ["end"] * 9 + ["fails"] * 3 + ["start"] * 2 + ["terminate"] * 2
        kind = random.choice([*kinds, "restart", "restart", "delete", "delete"])
        child_id = random.choice(IDS)
        starts = tuple(
            random.choice(["fail", "fail", "ignore"]) for _ in range(random.randint(1, 3))
        )
        return Event(
            kind,
            child_id,
            exit=random.choice(list(EXITS)) if kind == "end" else "",
            starts=starts if kind == "fails" else (),
            child=child(child_id) if kind == "start" else None,
        )

    return Scenario(
        random.choice(STRATEGIES),
        mode,
        random.choice([1, 3, 8]),
        tuple(child(one) for one in random.sample(IDS, random.randint(1, 4))),
        tuple(event() for _ in range(random.randint(3, 14))),
    )


class CountingBench(Bench):
    """A bench that counts the successful starts of each id, as the Erlang side does."""

    def __init__(self, scenario: Scenario) -> None:
        self.starts: dict[str, int] = {}
        flags = Flags(scenario.strategy, scenario.intensity, PERIOD, scenario.auto_shutdown)
        super().__init__(flags, [spec_of(one) for one in scenario.children])

    def _begin_incarnation(self, slot: Slot) -> None:
        super()._begin_incarnation(slot)
        child_id = slot.id or ""
        self.starts[child_id] = self.starts.get(child_id, 0) + 1


def spec_of(child: Child) -> ChildSpec:
    return ChildSpec(child.id, dict, restart=child.restart, significant=child.significant)


def play(scenario: Scenario) -> list[str]:
    """Give the state after each event, up to the end of the supervisor."""
    bench = CountingBench(scenario)
    states: list[str] = []
    for event in scenario.events:
        answer = _do(bench, event)
        bench.advance(0.0)
        bench.advance(0.01)
        if bench.final is not None:
            return [*states, "dead"]
        children = ",".join(
            f"{one.id}:{SHOWN[one.status]}:{bench.starts.get(one.id or '', 0)}"
            for one in bench.machine.which_children()
        )
        states.append(f"{answer} {children}")
    return states


def _do(bench: CountingBench, event: Event) -> str:
    match event.kind:
        case "end":
            slot = bench.machine.slots.get(event.id)
            if slot in bench.alive:
                bench.end(event.id, EXITS[event.exit])
            return "none"
        case "fails":
            script = bench.script(event.id)
            script.starts.clear()
            script.starts.extend(event.starts)
            return "none"
        case "start":
            assert event.child is not None
            return _word(bench.call("start_child", spec_of(event.child)))
        case kind:
            return _word(bench.call(f"{kind}_child", event.id))


def _word(answer: object) -> str:
    for kind, word in WORDS.items():
        if isinstance(answer, kind):
            return word
    return "none" if answer == "ended" else str(answer)
