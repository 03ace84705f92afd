"""Those who carry the steps of a checkout out: orders, stock, payments, parcels.

Rule: each decides from its own log, one stream for each step of each checkout. So a command that
comes twice is done once, and one that comes behind its undo is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from actors.persistence import (
    Aggregate,
    AggregateRef,
    Decision,
    Refusal,
    event,
    execute,
)
from actors.reducers import Environment
from actors.sagas import Outcome, Participant, Refused, SagaCommand, SagaId, Succeeded
from web.lab.demos.checkout.steps import Pay, PlaceOrder, Reserve, Send

# The first word of their streams' names; they are ended with those of sandboxes.
CATEGORY = "lab_step"
CARD_REFUSED = "the card was refused"


@dataclass(frozen=True)
class Do:
    """Do it, or refuse it with this reason."""

    refusal: str = ""


@dataclass(frozen=True)
class Undo:
    """Take it back; harmless where it was not done."""


@event(name="LabStepDone")
@dataclass(frozen=True)
class StepDone:
    """It was done."""


@event(name="LabStepRefused")
@dataclass(frozen=True)
class StepRefused:
    """It was not done, and will not be."""

    reason: str


@event(name="LabStepUndone")
@dataclass(frozen=True)
class StepUndone:
    """It is as if it had not been done; and will not be done any more."""


StepCommand: TypeAlias = Do | Undo
StepEvent: TypeAlias = StepDone | StepRefused | StepUndone
Stage: TypeAlias = Literal["new", "done", "undone"]


@dataclass(frozen=True)
class StepLog:
    """Where one step of one checkout is, with whoever carries it out."""

    stage: Stage = "new"
    refusal: str = ""


class LabStep(Aggregate[StepLog, StepCommand, StepEvent]):
    """One step as its counterpart knows it."""

    category, state_type = CATEGORY, StepLog

    def initial(self) -> StepLog:
        """See `Aggregate.initial`."""
        return StepLog()

    def decide(
        self, state: StepLog, command: StepCommand, env: Environment
    ) -> Decision[StepDone | StepRefused | StepUndone]:
        """See `Aggregate.decide`."""
        match command:
            case Undo():
                return [] if state.stage == "undone" else [StepUndone()]
            case Do() if state.stage == "undone":
                return Refusal("undone", "it was taken back before")
            case Do() if state.refusal:
                return Refusal("refused", state.refusal)
            case Do() if state.stage == "done":
                return []  # whatever is wanted now: it is done
            case Do(refusal):
                return [StepRefused(refusal)] if refusal else [StepDone()]

    def apply(self, state: StepLog, event: StepDone | StepRefused | StepUndone) -> StepLog:
        """See `Aggregate.apply`."""
        match event:
            case StepDone():
                return StepLog("done")
            case StepRefused(reason):
                return StepLog("new", reason)
            case StepUndone():
                return StepLog("undone", state.refusal)


class Counterparts:
    """Carries commands out; `find` gives the actor of a step, by its stream's own name."""

    def __init__(self, find: Callable[[str], AggregateRef]) -> None:
        self._find = find

    @property
    def participants(self) -> Mapping[str, Participant]:
        """Call this for who carries out what is said to whom."""
        return dict.fromkeys(("orders", "stock", "payments", "parcels"), self._carry_out)

    async def _carry_out(self, command: SagaCommand) -> Outcome | None:
        told = command.opened()
        choice = told.choice if isinstance(told, PlaceOrder | Reserve | Pay | Send) else "well"
        if choice == "hand":
            return None  # until its visitor answers
        saga, is_pay = SagaId.parse(command.saga), isinstance(told, Pay)
        if is_pay and choice == "silent":
            return None  # and nobody will: its time is over then
        if command.is_undo:
            return await self.carry_out(saga, command.step, Undo())
        refusal = CARD_REFUSED if is_pay and choice == "refused" else ""
        return await self.carry_out(saga, command.step, Do(refusal))

    async def carry_out(self, saga: SagaId, step: str, wanted: StepCommand) -> Outcome:
        """Call this for what came of a step; what was decided of it once is answered again."""
        done = await execute(self._find(f"{saga.name}.{step}"), wanted)
        if isinstance(done, Refusal):
            return Refused(done.message)
        refused = [one.reason for one in done.events if isinstance(one, StepRefused)]
        return Refused(refused[0]) if refused else Succeeded()
