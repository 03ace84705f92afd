"""Machines find planted faults, and print a program that fails as they did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    run_state_machine_as_test,
)

from actors.persistence import (
    ANY,
    Appended,
    AppendRequest,
    EventStore,
    Projection,
    ProjectionTx,
    StoredEvent,
    StreamId,
    Version,
)
from actors.sagas import Status
from actors.testing.cases.any_order import SagaMachine
from storage.memory import MemoryEventStore
from storage.testing.machines import StoreMachine, projection_machine
from storage.testing.projections.filling import TYPES, Paid, Totals
from tests.actors.sagas.checkouts import Basket, Placed, Purchase
from tests.machines import machine_settings

_PAID = st.integers(1, 3).map(lambda amount: ("Paid", f'{{"amount": {amount}}}'))


def failure_of(machine: type[RuleBasedStateMachine], examples: int = 30) -> str:
    """What is printed of a machine's failure."""
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(machine, settings=machine_settings(examples, is_planted=True))
    return "\n".join([str(caught.value), *caught.value.__notes__])


def program_of(told: str) -> str:
    """The program in what was printed."""
    return "\n".join(line for line in told.splitlines() if line.startswith("state"))


def machine_of(store: type[MemoryEventStore]) -> type[StoreMachine]:
    class Machine(StoreMachine):
        def begin(self) -> None:
            self.store: EventStore = store()

    return Machine


class LosesConflicts(MemoryEventStore):
    async def append_request(self, request: AppendRequest) -> Appended:
        return await super().append_request(replace(request, expected=ANY))


class CountsFromZero(MemoryEventStore):
    async def load(
        self, stream_id: StreamId, *, from_version: Version = 1, to_version: Version | None = None
    ) -> AsyncIterator[StoredEvent]:
        async for event in super().load(stream_id, from_version=from_version):
            if to_version is None or event.version <= to_version:
                yield StoredEvent(
                    **{name: getattr(event, name) for name in event.__struct_fields__}
                    | {"version": event.version - 1}
                )


class ForgetsRepeats(MemoryEventStore):
    async def append_request(self, request: AppendRequest) -> Appended:
        self.database.by_id.clear()
        return await super().append_request(request)


@pytest.mark.parametrize("faulty", [LosesConflicts, CountsFromZero, ForgetsRepeats])
def test_a_failure_of_a_store_is_printed_as_a_program_that_fails(
    faulty: type[MemoryEventStore],
) -> None:
    # TEST-9
    machine = machine_of(faulty)
    program = program_of(failure_of(machine))
    assert program.startswith("state = Machine()")
    with pytest.raises(AssertionError):
        exec(program, {"Machine": machine})  # noqa: S102  (it is what was printed to be run)
    exec(program, {"Machine": machine_of(MemoryEventStore)})  # noqa: S102


def test_filled_in_any_pieces_a_projection_is_as_a_rebuild_makes_it() -> None:
    # TEST-9
    run_state_machine_as_test(
        projection_machine(Totals, _PAID), settings=machine_settings(10, steps=8)
    )


class CountsRuns(Projection):
    """Counts, beside what is paid, how often it was begun: no rebuild knows that."""

    name, handles, types = "runs", (Paid,), TYPES
    runs = 0

    def __init__(self) -> None:
        type(self).runs += 1

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        tx.put(event.stream_id, {"runs": self.runs})


def test_a_projection_that_a_rebuild_makes_otherwise_is_found() -> None:
    # TEST-9
    told = failure_of(projection_machine(CountsRuns, _PAID), examples=5)
    assert "state.append(" in told
    assert "a rebuild makes" in told


def test_a_fault_of_a_saga_is_printed_as_a_program_that_fails() -> None:
    # TEST-9
    class Strict(SagaMachine[Basket]):
        """Of which nothing may ever fail: so what fails it is found."""

        kind, data = Purchase, Basket("o-1", "c-1", 500)
        results = {"place": Placed(1)}  # noqa: RUF012  (as its users write it)

        @invariant()
        def nothing_fails(self) -> None:
            assert self.case.state.status is not Status.FAILED

    # Which thirty come first depends on what else the process has imported.
    program = program_of(failure_of(Strict, examples=300))
    assert program.startswith("state = Strict()")
    with pytest.raises(AssertionError):
        exec(program, {"Strict": Strict})  # noqa: S102  (it is what was printed to be run)
