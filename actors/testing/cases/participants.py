"""Whoever the commands of a saga go to, played: a payment gateway, a warehouse, a mail provider."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

import trio

from actors.sagas import Outcome, Refused, SagaCommand, Succeeded

# A story of one test sends a few; a saga of 64 steps tried five times each fits.
COMMANDS_MAX: Final = 10_000


def accepts(command: SagaCommand) -> Outcome:
    """Call this to do whatever is asked, with no result."""
    return Succeeded()


class ParticipantTwin:
    """A participant in memory that keeps its promise, and fails as it is told.

    What is to be done once (`SagaCommand.work`) is done once: a repeat gets the first answer, an
    undo of what never came makes what comes late a refusal. `answer` says what becomes of a command
    that is new; it gives `Succeeded` or `Refused`.

    ```python
    gateway = ParticipantTwin()
    gateway.lose_answer()                # it charges, and nobody hears of it
    async with open_shop(ports, {"payments": gateway}) as (shop, sagas):
        ...
    assert gateway.standing == ["checkout-1:pay"]
    ```

    `asked` has every command that came, in order. RuntimeError past `COMMANDS_MAX`.
    """

    def __init__(self, answer: Callable[[SagaCommand], Outcome] = accepts) -> None:
        self._answer = answer
        self.reset()

    def reset(self) -> None:
        """Call this to begin anew: nothing done, no faults."""
        self.asked: list[SagaCommand] = []
        # By what was to be done: what was answered.
        self.answers: dict[str, Outcome] = {}
        self._error: BaseException = ConnectionError()
        self._times, self._lost, self._refusals = 0, 0, list[Refused]()
        self._delay_s = 0.0

    def fail_next(self, error: Exception | None = None, times: int = 1) -> None:
        """Call this to make the next commands raise before anything is done; 0 times ends it.

        Without an error it is a `ConnectionError`, which a saga tries again.
        """
        if error is not None and not isinstance(error, Exception):
            raise TypeError(f"{error!r} is no error that a participant could raise")
        self._times = _times(times)
        self._error = ConnectionError("made to fail by a test") if error is None else error

    def lose_connection(self) -> None:
        """Call this to fail the next command before it arrives."""
        self.fail_next(ConnectionError("the connection was lost by a test"))

    def lose_answer(self, times: int = 1) -> None:
        """Call this to lose what is answered next: the command is done, and its sender not told."""
        self._lost = _times(times)

    def refuse_next(self, reason: str = "refused by a test") -> None:
        """Call this to have the next new command refused for good; twice for the next two."""
        self._refusals.append(Refused(reason))

    def slow(self, seconds: float) -> None:
        """Call this to make every command take so long; 0 ends it."""
        if not 0 <= seconds < inf:
            raise ValueError(f"seconds is {seconds!r}; so long it takes, 0 or more")
        self._delay_s = seconds

    @property
    def standing(self) -> list[str]:
        """Call this for what was done and is not undone, in the order it was done."""
        return [
            work
            for work, outcome in self.answers.items()
            if isinstance(outcome, Succeeded)
            and not work.endswith(_UNDO)
            and f"{work}{_UNDO}" not in self.answers
        ]

    async def __call__(self, command: SagaCommand) -> Outcome:
        """Take a command, as a `Participant` does."""
        if len(self.asked) == COMMANDS_MAX:
            raise RuntimeError(f"{COMMANDS_MAX} commands came; reset the twin between stories")
        self.asked.append(command)
        await trio.sleep(self._delay_s)
        if self._times:
            self._times -= 1
            raise self._error
        outcome = self._done(command)
        if self._lost:
            self._lost -= 1
            raise ConnectionError("the answer was lost by a test")
        return outcome

    def _done(self, command: SagaCommand) -> Outcome:
        known = self.answers.get(command.work)
        if known is not None:
            return known
        if not command.is_undo and f"{command.work}{_UNDO}" in self.answers:
            outcome: Outcome = Refused("it was undone before it came")
        elif self._refusals:
            outcome = self._refusals.pop(0)
        else:
            outcome = self._answer(command)
        if not isinstance(outcome, Succeeded | Refused):
            raise TypeError(f"the answer to {command.work} is {outcome!r}; give Succeeded, Refused")
        self.answers[command.work] = outcome
        return outcome


def _times(given: object) -> int:
    # One that never comes proves nothing.
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ValueError(f"times is {given!r}; so often it happens, 0 or more")
    return given


_UNDO: Final = ":undo"
