"""The stock of the checkout example: whatever comes in whatever order, nothing is sold twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from actors.persistence import Decision, Refusal, Reply
from actors.testing import fixed_environment
from docs.examples.checkout import (
    Inventory,
    ReleaseInventory,
    ReserveInventory,
    Stock,
    StockCame,
    StockEvent,
)
from tests.machines import machine_settings

_ORDERS = st.sampled_from(["1", "2", "3", "4", "5"])
_ITEMS = st.dictionaries(st.sampled_from(["chair", "lamp"]), st.integers(0, 3), max_size=2)


class InventoryMachine(RuleBasedStateMachine):
    """Goods come, are reserved and released; a crash makes all anew from events."""

    inventory = Inventory()

    def __init__(self) -> None:
        super().__init__()
        self.env = fixed_environment()
        self.events: list[StockEvent] = []
        self.state = self.inventory.initial()
        self.came: dict[str, int] = {}
        self.answers: dict[str, bool] = {}

    @initialize(chairs=st.integers(0, 3), lamps=st.integers(0, 3))
    def goods_are_there(self, chairs: int, lamps: int) -> None:
        self.goods_come({"chair": chairs, "lamp": lamps})

    @rule(items=_ITEMS)
    def goods_come(self, items: dict[str, int]) -> None:
        self._decide(StockCame(items))
        for name, count in items.items():
            self.came[name] = self.came.get(name, 0) + count

    @rule(order=_ORDERS, items=_ITEMS)
    def reserved(self, order: str, items: dict[str, int]) -> None:
        before = self.state
        self._decide(ReserveInventory(order, items))
        fits = all(before.items.get(name, 0) >= count for name, count in items.items())
        # What was answered once is answered so for ever, until it is released.
        wanted = self.answers.setdefault(order, fits)
        assert (order in self.state.reserved) == wanted

    @rule(order=_ORDERS, items=_ITEMS, is_order=st.booleans())
    def less_than_nothing(self, order: str, items: dict[str, int], is_order: bool) -> None:
        wrong = {**items, "chair": -1}
        command = ReserveInventory(order, wrong) if is_order else StockCame(wrong)
        assert isinstance(self._decide(command), Refusal)

    @rule(order=_ORDERS)
    def released(self, order: str) -> None:
        self._decide(ReleaseInventory(order))
        assert order not in self.state.reserved
        self.answers[order] = False

    @rule()
    def crash(self) -> None:
        state = self.inventory.initial()
        for event in self.events:
            state = self.inventory.apply(state, event)
        assert state == self.state

    @invariant()
    def nothing_is_sold_twice(self) -> None:
        state: Stock = self.state
        assert min(state.items.values(), default=0) >= 0
        held: Mapping[str, int] = {
            name: sum(items.get(name, 0) for items in state.reserved.values()) for name in self.came
        }
        assert {name: state.items.get(name, 0) + held[name] for name in self.came} == self.came
        assert not set(state.reserved) & state.released

    def _decide(
        self, command: StockCame | ReserveInventory | ReleaseInventory
    ) -> Decision[StockEvent]:
        decided = self.inventory.decide(self.state, command, self.env)
        if not isinstance(decided, Refusal | Reply):
            for event in decided:
                self.events.append(event)
                self.state = self.inventory.apply(self.state, event)
        return decided


def test_nothing_is_sold_twice_whatever_comes_in_whatever_order() -> None:
    # TEST-9, EX-30
    run_state_machine_as_test(InventoryMachine, settings=machine_settings(80, steps=25))


class KeepsReservations(Inventory):
    """What was given back stays reserved as well."""

    def apply(self, state: Stock, event: StockEvent) -> Stock:
        after = super().apply(state, event)
        return replace(after, reserved={**after.reserved, **state.reserved})


def test_goods_that_are_given_back_and_kept_are_found() -> None:
    # TEST-9
    class Machine(InventoryMachine):
        inventory = KeepsReservations()

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=machine_settings(80, steps=25, is_planted=True))
