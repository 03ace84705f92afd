"""Children for the tests, of both kinds, that do at each step what a `Stage` tells them.

Everything they live through is written to `stage.log`: `start a`, `stop a shutdown`. A stage
belongs to one test.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import pytest
import trio

from actors.runtime import Actor, AnyRef, Ask, Exit, Ref, System, message
from supervision import REPORTS, AnyChild, ChildSpec, Flags, Plan, Report, Supervisor
from supervision.specs.words import Strategy


@message
class Crash:
    error: BaseException


@message
class End:
    """End by yourself, so."""

    exit: Exit


@message
class Sleep:
    seconds: float


@message
class Shield:
    """Wait where no kill can reach."""

    seconds: float


@message
class Number(Ask[int]):
    """Which incarnation answers?"""


@message
class Note:
    text: str


BOOM = ValueError("boom")
MANY = Flags(intensity=100)

Word: TypeAlias = Crash | End | Sleep | Shield | Number | Note
# What a start does: raise an error, return a value, or wait some seconds first.
StartStep: TypeAlias = Exception | float | object


class Stage:
    """What the children of one test do, and what they did."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.starts: dict[str, deque[StartStep]] = {}
        self.stops: dict[str, float | Exception] = {}
        self.reports: list[Report] = []

    def will_start(self, child_id: str, *steps: StartStep) -> None:
        """The next starts of a child do this; later ones just succeed."""
        self.starts.setdefault(child_id, deque()).extend(steps)

    def next_start(self, child_id: str) -> StartStep:
        self.log.append(f"start {child_id}")
        steps = self.starts.get(child_id)
        return steps.popleft() if steps else None

    def cleared(self) -> list[str]:
        log, self.log = self.log, []
        return log

    def deliver(self, report: object, /) -> None:
        assert isinstance(report, Report)
        self.reports.append(report)

    def follow(self, system: System) -> None:
        """Collect the reports of a system."""
        system.topics.subscribe(REPORTS, self)

    def contexts(self) -> list[str]:
        return [report.context for report in self.reports]


class DefPuppet(Actor[Word]):
    """A child without a task of its own."""

    def __init__(self, stage: Stage, child_id: str, *_: object) -> None:
        self.stage, self.child_id = stage, child_id

    def on_start(self) -> object:
        step = self.stage.next_start(self.child_id)
        if isinstance(step, Exception):
            raise step
        assert not isinstance(step, float), "a def child cannot wait in its start"
        return step

    def on_stop(self, exit: Exit) -> object:  # noqa: A002
        self.stage.log.append(f"stop {self.child_id} {type(exit).__name__.lower()}")
        step = self.stage.stops.get(self.child_id)
        if isinstance(step, Exception):
            raise step
        return None

    def on_crash(self, message: Crash) -> None:
        raise message.error.with_traceback(None)

    def on_end(self, message: End) -> None:
        self.stop(message.exit)

    def on_wait(self, message: Sleep | Shield) -> None:
        raise AssertionError("a def child cannot wait")

    def on_number(self, message: Number) -> int:
        return self.incarnation

    def on_note(self, message: Note) -> None:
        self.stage.log.append(f"{self.child_id} {message.text}")


class AsyncPuppet(Actor[Word]):
    """A child in a task of its own."""

    def __init__(self, stage: Stage, child_id: str, *_: object) -> None:
        self.stage, self.child_id = stage, child_id

    async def on_start(self) -> object:
        step = self.stage.next_start(self.child_id)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            await trio.sleep(step)
            return None
        return step

    async def on_stop(self, exit: Exit) -> object:  # noqa: A002
        step = self.stage.stops.get(self.child_id)
        if isinstance(step, float):
            await trio.sleep(step)
        self.stage.log.append(f"stop {self.child_id} {type(exit).__name__.lower()}")
        if isinstance(step, Exception):
            raise step
        return None

    async def on_crash(self, message: Crash) -> None:
        raise message.error.with_traceback(None)

    async def on_end(self, message: End) -> None:
        self.stop(message.exit)

    async def on_sleep(self, message: Sleep) -> None:
        await trio.sleep(message.seconds)

    async def on_shield(self, message: Shield) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(message.seconds)

    async def on_number(self, message: Number) -> int:
        return self.incarnation

    async def on_note(self, message: Note) -> None:
        self.stage.log.append(f"{self.child_id} {message.text}")


Puppet: TypeAlias = type[DefPuppet] | type[AsyncPuppet]


class Kit:
    """One kind of children and their stage: `kit.spec("a")`."""

    def __init__(self, puppet: Puppet) -> None:
        self.puppet = puppet
        self.stage = Stage()

    @property
    def is_async(self) -> bool:
        return self.puppet is AsyncPuppet

    def maker(self, child_id: str) -> Callable[[], Actor[Word]]:
        return partial(self.puppet, self.stage, child_id)

    def spec(self, child_id: str, **options: object) -> ChildSpec:
        return ChildSpec.parse({"id": child_id, "start": self.maker(child_id), **options})


class Troupe(Supervisor):
    """A supervisor whose plan is handed in; `plans` may change between two incarnations."""

    def __init__(self, flags: Flags, specs: list[ChildSpec]) -> None:
        self._flags, self._specs = flags, specs

    def plan(self) -> Plan:
        return Plan(self._flags, self._specs)

    def jitter(self) -> float:
        return 0.5

    async def refs(self) -> dict[str, Ref[Word]]:
        """The refs of the children that run, by id."""
        found: dict[str, Ref[Word]] = {}
        for one in await self.which_children():
            if one.ref is not None and one.id is not None:
                found[one.id] = one.ref  # type: ignore[assignment]  # AnyRef: we know what they are
        return found

    async def statuses(self) -> dict[str, str]:
        return {one.id or "": one.status for one in await self.which_children()}

    async def numbers(self) -> dict[str, int]:
        """The incarnations of the children that run, by id."""
        return {one.id or "": one.incarnation for one in await self.which_children() if one.ref}

    async def counted(self) -> list[int]:
        counts = await self.count_children()
        return [counts.specs, counts.active, counts.supervisors, counts.workers]


def flags(strategy: Strategy, intensity: int = 100) -> Flags:
    return Flags(strategy, intensity)


async def crash(sup: Troupe, child_id: str) -> None:
    (await sup.refs())[child_id].tell(Crash(BOOM))
    await settle()


def ref_of(child: AnyChild) -> AnyRef:
    """The ref of a child that runs."""
    assert child.ref is not None
    return child.ref


async def settle() -> None:
    """Let everything happen that needs no time."""
    await trio.testing.wait_all_tasks_blocked()


async def failure_of(scenario: Callable[[], Awaitable[None]]) -> BaseExceptionGroup:
    """Run a scenario that must end in a group of errors."""
    with pytest.raises(BaseExceptionGroup) as caught:
        await scenario()
    return caught.value
