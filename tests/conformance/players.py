"""The children of our side: they do what their stage says, and write down what they lived through.

The twins of `erlang/conf_child.erl`, `erlang/conf_sup.erl` and `erlang/conf_stage.erl`. How a
scenario is played with them stands in `ours.py`.
"""

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import assert_never

import trio

from actors.runtime import (
    IGNORE,
    Actor,
    AnyRef,
    Ask,
    Exit,
    Ignore,
    Normal,
    Shutdown,
    message,
)
from supervision import (
    Backoff,
    ChildSpec,
    Dynamic,
    DynamicFlags,
    Flags,
    Plan,
    Supervisor,
    TreeChange,
)
from supervision.specs.specs import Maker
from tests.conformance.scenario import (
    Between,
    Call,
    DynamicTree,
    How,
    Kid,
    Manner,
    StartStep,
    StaticTree,
    Strike,
)

# As good as none: our dynamic supervisors always wait a little, Erlang's never.
NO_WAIT = Backoff(1e-9, 1e-9, factor=1.0, jitter=0.0)


class PlannedError(Exception):
    """An end or a failed start that the scenario asked for."""


@message
class FinishNow:
    """End by yourself, so."""

    how: How


@message
class Who(Ask[str]):
    """Which incarnation of whom answers?"""


def label(name: str, serial: int) -> str:
    """Call this for the word by which one incarnation is known to both sides."""
    return f"{name}#{serial}"


class Stage:
    """What the children of one scenario are to do, and what they did."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.ends: list[str] = []
        self.live: set[str] = set()
        self.refs: dict[str, AnyRef] = {}
        # The calls to be served between two attempts, in the order of their failed starts.
        self.between: deque[Call] = deque()
        self._scripts: dict[str, deque[StartStep]] = {}
        self._serials: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def prepare(self, script: Mapping[str, tuple[StartStep, ...]]) -> None:
        """Call this for a new step; what an earlier script left over is void."""
        self._scripts = {name: deque(starts) for name, starts in script.items()}

    def start(self, name: str) -> bool:
        """Call this when a child begins to start; False when it shall ignore."""
        self.log.append(f"start {name}")
        steps = self._scripts.get(name)
        return self._do(steps.popleft() if steps else "ok")

    def _do(self, step: StartStep) -> bool:
        match step:
            case Strike():
                if step.victim in self.live:
                    self.refs[step.victim].kill()
                return self._do(step.then)
            case "ok":
                return True
            case "ignore":
                return False
            case "fail":
                raise PlannedError("start")
            case Between(call=call):
                self.between.append(call)
                raise PlannedError("start")
            case other:
                assert_never(other)

    def up(self, name: str, ref: AnyRef) -> str:
        """Call this when a child exists; returns its label."""
        serial = self._serials[name] = self._serials.get(name, 0) + 1
        self.refs[name] = ref
        self._names[ref.path] = name
        return label(name, serial)

    def label_of(self, ref: AnyRef) -> str:
        """Call this for the label of the newest incarnation behind a ref."""
        name = self._names.get(ref.path)
        return "stranger" if name is None else label(name, self._serials[name])

    def changed(self, change: TreeChange) -> None:
        """Called by the tree for each change: who is there, and who ended."""
        name = self._names.get(change.path)
        if name is not None and change.kind == "started":
            self.live.add(name)
        elif name in self.live and change.kind == "exited" and change.exit is not None:
            self.live.discard(name)
            self.ends.append(f"{name} {change.exit.kind}")


class DefWorker(Actor[FinishNow | Who]):
    """A worker without a task of its own."""

    def __init__(self, stage: Stage, manner: Manner, name: str) -> None:
        self.stage, self.manner, self.name = stage, manner, name
        self.has_finished = False
        self.label = ""

    def on_start(self) -> object:
        if not self.stage.start(self.name):
            return IGNORE
        self.label = self.stage.up(self.name, self.ref)
        return None

    def on_finish_now(self, message: FinishNow) -> None:
        self.has_finished = True
        if message.how == "crash":
            raise PlannedError("crash")
        self.stop(Normal() if message.how == "normal" else Shutdown("x"))

    def on_who(self, message: Who) -> str:
        return self.label

    def on_stop(self, exit: Exit) -> None:  # noqa: A002
        if self.has_finished:
            return
        self.stage.log.append(f"stop {self.name}")
        if self.manner == "crash":
            raise PlannedError("stop")


class AsyncWorker(Actor[FinishNow | Who]):
    """A worker in a task of its own; it can hang in its stop."""

    def __init__(self, stage: Stage, manner: Manner, name: str) -> None:
        self.stage, self.manner, self.name = stage, manner, name
        self.has_finished = False
        self.label = ""

    async def on_start(self) -> object:
        await trio.lowlevel.checkpoint()
        if not self.stage.start(self.name):
            return IGNORE
        self.label = self.stage.up(self.name, self.ref)
        return None

    async def on_finish_now(self, message: FinishNow) -> None:
        self.has_finished = True
        if message.how == "crash":
            raise PlannedError("crash")
        self.stop(Normal() if message.how == "normal" else Shutdown("x"))

    async def on_who(self, message: Who) -> str:
        return self.label

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002
        if self.has_finished:
            return
        self.stage.log.append(f"stop {self.name}")
        if self.manner == "crash":
            raise PlannedError("stop")
        if self.manner == "hang":
            await trio.sleep_forever()


class StaticPlayer(Supervisor):
    """A supervisor of the scenario, with children that have names."""

    def __init__(self, stage: Stage, name: str, tree: StaticTree) -> None:
        self.stage, self.name, self.tree_of = stage, name, tree

    def plan(self) -> Plan | Ignore:
        if not self.stage.start(self.name):
            return IGNORE
        self.stage.up(self.name, self.ref)
        tree = self.tree_of
        flags = Flags(tree.strategy, tree.intensity, tree.period, tree.auto)
        return Plan(flags, [kid_spec(self.stage, kid) for kid in tree.kids])


class DynamicPlayer(Dynamic[FinishNow | Who]):
    """A supervisor of the scenario, with children of one template."""

    def __init__(self, stage: Stage, name: str, tree: DynamicTree) -> None:
        self.stage, self.name = stage, name
        flags = DynamicFlags(tree.intensity, tree.period, budget="shared")
        super().__init__(flags, kid_spec(stage, tree.template, is_template=True))

    def plan(self) -> Plan | Ignore:
        if not self.stage.start(self.name):
            return IGNORE
        self.stage.up(self.name, self.ref)
        return super().plan()


def tree_maker(stage: Stage, name: str, tree: StaticTree | DynamicTree) -> Maker:
    """Call this for what makes a supervisor of the scenario."""
    if isinstance(tree, StaticTree):
        return partial(StaticPlayer, stage, name, tree)
    return partial(DynamicPlayer, stage, name, tree)


def kid_spec(stage: Stage, kid: Kid, *, is_template: bool = False) -> ChildSpec:
    """Call this for the spec of a child; a template gets the child's name when it starts."""
    return ChildSpec(
        kid.id,
        _start_of(stage, kid, is_template=is_template),
        restart=kid.restart,
        shutdown=kid.shutdown,
        significant=kid.significant,
        backoff=NO_WAIT if is_template else None,
    )


def _start_of(stage: Stage, kid: Kid, *, is_template: bool) -> Maker:
    body = kid.body
    if isinstance(body, StaticTree | DynamicTree):
        return tree_maker(stage, kid.id, body)
    # Both kinds of actors come up, the same ones at each run.
    worker = AsyncWorker if body == "hang" or ord(kid.id[-1]) % 2 else DefWorker
    return partial(worker, stage, body, *([] if is_template else [kid.id]))
