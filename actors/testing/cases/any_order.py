"""A machine that makes up stories of a saga: answers, time-outs, crashes and cancels in any order.

A state machine of hypothesis, which must be installed for it. A failing example is printed as a
program, a line a call, as short as was found; it runs as it stands where the class is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.sagas import Refused, Saga, SagaCommand, Status, Succeeded, Unavailable
from actors.testing.cases.sagas import SagaTest

D = TypeVar("D")

# Longer than any saga takes when nobody answers: deadline, undos, each tried as often as may be.
SILENCE_S = 100_000.0
_WHICH = st.integers(0, 99)


class SagaMachine(RuleBasedStateMachine, Generic[D]):
    """Any answers, time-outs, crashes and cancels of a saga that is begun with `data`.

    `results` has what a step gives when it is done; others give None. Whatever is answered, late or
    twice, however long it takes and wherever the process dies: nothing is told twice, a step that
    was done is undone or stays done for good, and in the end the saga is over or is stuck and says
    so. A saga with signals or a child needs rules of its own beside these.

    ```python
    class CheckoutMachine(SagaMachine[InitiateCheckout]):
        kind, data = Checkout, ORDER
        results = {"pay": PaymentCompleted("p-1", 500)}


    TestCheckout = CheckoutMachine.TestCase
    ```
    """

    kind: type[Saga[D]]
    data: D
    results: Mapping[str, object] = {}

    def __init__(self) -> None:
        super().__init__()
        self.case = SagaTest(self.kind).start(self.data)

    @rule()
    def done(self) -> None:
        """The newest command is done."""
        self._done(self.case.sent[-1])

    @rule(which=_WHICH)
    def done_late(self, which: int) -> None:
        """Any command is done, perhaps once more."""
        self._done(self._sent(which))

    @rule(which=_WHICH)
    def refused(self, which: int) -> None:
        """Any command will never be done."""
        self.case.reply_to(self._sent(which), Refused("no"))

    @rule(which=_WHICH)
    def unavailable(self, which: int) -> None:
        """Any command could not be done now."""
        self.case.reply_to(self._sent(which), Unavailable("busy"))

    @rule(seconds=st.sampled_from([0.1, 7.0, 31.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        """Nobody answers for so long."""
        self.case.advance(seconds)

    @rule(appends=st.integers(1, 3))
    def crash(self, appends: int) -> None:
        """The process dies behind an append that comes."""
        self.case.crash_after(appends)

    @rule()
    def cancelled(self) -> None:
        """Its owner does not want it any more."""
        self.case.cancel()

    @invariant()
    def nothing_is_told_twice(self) -> None:
        """Each attempt of each step is one command."""
        told = [(one.step, one.is_undo, one.attempt) for one in self.case.sent]
        assert len(set(told)) == len(told), f"told twice: {told}"

    @invariant()
    def what_is_over_is_told_rightly(self) -> None:
        """A failed saga has taken back what was done, a completed one nothing."""
        state = self.case.state
        undone = {name for name, one in state.steps.items() if one.undo == "done"}
        if state.status is Status.FAILED:
            done = {name for name, one in state.steps.items() if one.phase == "done"}
            assert done <= undone, f"failed, and not taken back: {sorted(done - undone)}"
        if state.status is Status.COMPLETED:
            assert not undone, f"completed, and taken back: {sorted(undone)}"

    def teardown(self) -> None:
        """Nobody answers any more: time alone brings it to an end."""
        self.case.advance(SILENCE_S).no_crash()
        state = self.case.state
        assert state.is_over or state.stuck, f"it waits for ever, {state.status}"

    def _sent(self, which: int) -> SagaCommand:
        return self.case.sent[which % len(self.case.sent)]

    def _done(self, command: SagaCommand) -> None:
        result = None if command.is_undo else self.results.get(command.step)
        self.case.reply_to(command, Succeeded(result))
