"""Two processes have actors of the same sagas: whatever comes to whichever, none is done wrong."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import pytest
import trio
from trio.testing import MockClock

from actors.sagas import (
    InvalidSagaTransition,
    Outcome,
    Refused,
    SagaCommand,
    SagaId,
    SagaState,
    Status,
    StepFailed,
    Succeeded,
    Unavailable,
    Wake,
)
from docs.examples.checkout import ended
from tests.actors.sagas.checkouts import Basket, Paid, Placed, Purchase
from tests.actors.sagas.desks import Desk, Player, open_desk
from tests.actors.sagas.shops import memory_world

# Ten times as long as any of them may take, of virtual time.
WHOLE_S = 9000.0
GOOD = {"place": Succeeded(Placed(1)), "pay": Succeeded(Paid("p")), "reserve": Succeeded()}
COUNT = 6
ANSWERED_S_MAX = 3.0


@dataclass
class Answers:
    """Answers each command within its time, the same whoever hears it, at one desk or at both."""

    chance: Random
    desks: tuple[Desk, Desk]
    decided: dict[str, Outcome] = field(default_factory=dict)

    async def give(self, command: SagaCommand) -> None:
        await trio.sleep(self.chance.uniform(0, ANSWERED_S_MAX))
        is_good = command.is_undo or self.chance.random() < 0.85
        outcome: Outcome = GOOD[command.step] if is_good else Refused("no")
        if command.is_undo:
            outcome = Succeeded()
        elif self.chance.random() < 0.1:
            outcome = Unavailable("busy")
        if not isinstance(outcome, Unavailable):
            outcome = self.decided.setdefault(command.work, outcome)
        for desk in self.chance.sample(self.desks, self.chance.choice((1, 1, 2))):
            await desk.sagas.reply(command, outcome)

    async def interfere(self, sagas: list[SagaId]) -> None:
        """Cancel one now and then, and have either process know of it by then."""
        while True:
            await trio.sleep(self.chance.uniform(0.2, 2))
            desk, saga = self.chance.choice(self.desks), self.chance.choice(sagas)
            with suppress(InvalidSagaTransition):
                if self.chance.random() < 0.1:
                    await desk.sagas.cancel(saga, "its owner", "no more")
                else:
                    await desk.sagas.tell(saga, Wake())


def is_undone(state: SagaState) -> bool:
    """Whether nothing of it is left but what has no undo."""
    done = [one for one in state.steps.values() if one.phase in ("done", "unknown")]
    return all(one.undo in ("done", "skipped") for one in done)


@pytest.mark.parametrize("seed", range(5))
async def test_every_answer_counts_wherever_it_comes(seed: int, autojump_clock: MockClock) -> None:
    # SAGA-2, SAGA-3, SAGA-4, SAGA-7, SAGA-17: nobody answers late, so nothing may time out
    world, player = memory_world(), Player()
    async with (
        open_desk(world, player, Purchase) as one,
        open_desk(world, player, Purchase, owner="another") as other,
        trio.open_nursery() as nursery,
    ):
        answers = Answers(Random(seed), (one, other))

        def later(command: SagaCommand) -> None:
            nursery.start_soon(answers.give, command)

        for name in GOOD:
            player.rules[name] = player.rules[f"undo {name}"] = later
        sagas = [
            await answers.chance.choice(answers.desks).sagas.start(
                Purchase, Basket("o-1", "c-1", 500), name=str(number)
            )
            for number in range(COUNT)
        ]
        nursery.start_soon(answers.interfere, sagas)
        for saga in sagas:
            with trio.fail_after(WHOLE_S):
                status = await ended(answers.chance.choice(answers.desks).sagas, saga)
            history = await one.sagas.history(saga)
            failures = [event for _, event in history.events if isinstance(event, StepFailed)]
            assert "timeout" not in [event.kind for event in failures]
            assert status is Status.COMPLETED or is_undone(history.state)
        nursery.cancel_scope.cancel()
