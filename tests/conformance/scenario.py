"""The nouns of a conformance run: a tree of supervisors, and what is done to it step by step.

Frozen data, the same for both players. `generate.py` makes scenarios; `terms.py` writes them
for Erlang, `ours.py` plays them here. `str` of each is what a person reads in a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from supervision.specs.words import AutoShutdownMode, RestartType, ShutdownTime, Strategy

# How a worker answers a stop: at once, with an error, or never.
Manner: TypeAlias = Literal["quick", "crash", "hang"]
How: TypeAlias = Literal["normal", "shutdown", "crash", "kill"]
CallName: TypeAlias = Literal[
    "start_child",
    "start_dynamic",
    "terminate_child",
    "restart_child",
    "delete_child",
    "get_childspec",
    "which_children",
    "count_children",
]


@dataclass(frozen=True, slots=True)
class StaticTree:
    """A supervisor of named children."""

    strategy: Strategy
    intensity: int
    period: int
    auto: AutoShutdownMode
    kids: tuple[Kid, ...]

    def __str__(self) -> str:
        limit = f"{self.intensity} in {self.period} s"
        return f"{self.strategy}, {limit}, auto_shutdown {self.auto}"


@dataclass(frozen=True, slots=True)
class DynamicTree:
    """A supervisor of any number of children of one template."""

    intensity: int
    period: int
    template: Kid

    def __str__(self) -> str:
        return f"dynamic, {self.intensity} in {self.period} s, of {self.template}"


@dataclass(frozen=True, slots=True)
class Kid:
    """One child: a worker with its manner, or a supervisor with its tree."""

    id: str
    restart: RestartType
    shutdown: ShutdownTime
    significant: bool
    body: Manner | StaticTree | DynamicTree

    def __str__(self) -> str:
        manner = self.body if isinstance(self.body, str) else "supervisor"
        significant = ", significant" if self.significant else ""
        return f"{self.id}: {self.restart}, shutdown {self.shutdown}, {manner}{significant}"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of administration; `by_ref` names a child by its ref or pid instead of its id."""

    name: CallName
    target: str = ""
    kid: Kid | None = None
    by_ref: bool = False

    def __str__(self) -> str:
        target = self.target if self.kid is None else self.kid
        return f"{self.name}({'ref of ' if self.by_ref else ''}{target})"


@dataclass(frozen=True, slots=True)
class Between:
    """A start that fails, and the call that is served before the next attempt."""

    call: Call

    def __str__(self) -> str:
        return f"fail, then {self.call}"


@dataclass(frozen=True, slots=True)
class Strike:
    """A start during which another child is killed; then it succeeds or fails."""

    victim: str
    then: Literal["ok", "fail"]

    def __str__(self) -> str:
        return f"kill {self.victim} and {self.then}"


StartStep: TypeAlias = Literal["ok", "fail", "ignore"] | Between | Strike


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the tree."""

    def __str__(self) -> str:
        return "start"


@dataclass(frozen=True, slots=True)
class End:
    """Ask the tree to stop."""

    def __str__(self) -> str:
        return "stop"


@dataclass(frozen=True, slots=True)
class Finish:
    """A child ends by itself, so; a supervisor can only be killed."""

    name: str
    how: How

    def __str__(self) -> str:
        return f"{self.name} ends: {self.how}"


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds} s go by"


@dataclass(frozen=True, slots=True)
class On:
    """Make a call on the supervisor of this name."""

    supervisor: str
    call: Call

    def __str__(self) -> str:
        return f"{self.supervisor}.{self.call}"


Action: TypeAlias = Begin | End | Finish | Pause | On


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done; `script` says what the next starts of some children come to.

    With `is_loose` a call between two attempts starts or stops another child: the order of
    what follows is not fixed.
    """

    action: Action
    script: Mapping[str, tuple[StartStep, ...]] = field(default_factory=dict)
    is_loose: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """A tree and the steps; `seed` makes it again.

    With `is_timed` its windows run out; with `is_striking` children end while others start.
    """

    seed: int
    tree: StaticTree | DynamicTree
    steps: tuple[Step, ...]
    is_timed: bool = False
    is_striking: bool = False
