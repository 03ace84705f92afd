"""The static supervisor's decisions under any order of events, against what must always hold."""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actors.runtime import Crashed, Exit, Killed, Normal, Shutdown
from supervision.deciding.slots import LIVE, WAITING
from supervision.specs.errors import IntensityReached
from supervision.specs.specs import Backoff, Flags
from supervision.specs.words import RestartType, Strategy
from tests.supervision.paper import Bench, Unwanted, spec

IDS = ("a", "b", "c", "d", "e")
RESTARTS: list[RestartType] = ["permanent", "permanent", "transient", "temporary"]
STRATEGIES: list[Strategy] = ["one_for_one", "one_for_all", "rest_for_one"]
# REL-103: 200 in the suite; a long run sets SUPERVISION_EXAMPLES=20000.
EXAMPLES = int(os.environ.get("SUPERVISION_EXAMPLES", "200"))
INTENSITY, PERIOD = 2, 5.0

ids = st.sampled_from(IDS)
picks = st.integers(0, 9)
exits = st.sampled_from([Normal(), Shutdown("x"), Killed(), Crashed(ValueError("boom"))])
outcomes = st.sampled_from(["ok", "fail", "ignore", "hang"])
restarts = st.sampled_from(RESTARTS)
backoffs = st.sampled_from([None, None, Backoff(0.5, jitter=0.0)])


class SupervisorMachine(RuleBasedStateMachine):
    """REL-103: supervisor decisions (budget, order)."""

    bench: Bench
    restart_types: dict[str, RestartType]

    @initialize(
        strategy=st.sampled_from(STRATEGIES),
        kinds=st.lists(st.tuples(restarts, backoffs), min_size=2, max_size=4),
    )
    def open(self, strategy: Strategy, kinds: list[tuple[RestartType, Backoff | None]]) -> None:
        specs = [spec(IDS[i], kind, backoff=wait) for i, (kind, wait) in enumerate(kinds)]
        self.bench = Bench(Flags(strategy, INTENSITY, PERIOD), specs)
        self.is_stopped_by_hand = False

    @property
    def is_open(self) -> bool:
        return self.bench.final is None

    @rule(pick=picks, exit_=exits)
    def ends(self, pick: int, exit_: Exit) -> None:
        living = sorted(slot.id or "" for slot in self.bench.alive)
        if living:
            self.bench.end(living[pick % len(living)], exit_)

    @rule(pick=picks, error=st.booleans())
    def crashes_and_fails_to_start(self, pick: int, error: bool) -> None:
        living = sorted(slot.id or "" for slot in self.bench.alive)
        if living:
            child_id = living[pick % len(living)]
            self.bench.script(child_id).starts.extend(["fail"] if error else ["hang"])
            self.bench.crash(child_id)

    @rule(child_id=ids, steps=st.lists(outcomes, max_size=3))
    def will_start(self, child_id: str, steps: list[str]) -> None:
        self.bench.script(child_id).starts.extend(steps)

    @rule(child_id=ids)
    def will_not_stop(self, child_id: str) -> None:
        self.bench.script(child_id).on_stop = None

    @rule(child_id=ids)
    def stops_again(self, child_id: str) -> None:
        self.bench.script(child_id).on_stop = Shutdown

    @rule(child_id=ids, kind=restarts, wait=backoffs)
    def start_child(self, child_id: str, kind: RestartType, wait: Backoff | None) -> None:
        self.bench.call("start_child", spec(child_id, kind, backoff=wait))

    @rule(
        child_id=ids,
        name=st.sampled_from(["terminate_child", "restart_child", "delete_child", "restart_now"]),
    )
    def call(self, child_id: str, name: str) -> None:
        self.bench.call(name, child_id)

    @rule(child_id=ids, exit_=st.sampled_from([Normal(), Shutdown("x"), Killed()]))
    def is_stopped_by_its_ref(self, child_id: str, exit_: Exit) -> None:
        self.bench.stopped_by_ref(child_id, exit_)

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.5, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.advance(seconds)

    @rule(child_id=ids)
    def a_hanging_start_succeeds(self, child_id: str) -> None:
        slot = self.bench.machine.slots.get(child_id)
        if slot is not None and slot.status == "starting" and slot not in self.bench.alive:
            self.bench.started(child_id)

    @precondition(lambda self: self.is_open)
    @rule(kinds=st.lists(st.tuples(ids, restarts), max_size=4, unique_by=lambda one: one[0]))
    def reconfigure(self, kinds: list[tuple[str, RestartType]]) -> None:
        flags = self.bench.machine.flags
        self.bench.reconfigure(flags, [spec(child_id, kind) for child_id, kind in kinds])

    @precondition(lambda self: self.is_open)
    @rule(really=picks)
    def stop(self, really: int) -> None:
        if really == 9:
            self.is_stopped_by_hand = True
            self.bench.stop()

    # -- what must always hold -----------------------------------------------------------

    @invariant()
    def a_status_agrees_with_what_exists(self) -> None:
        for slot in self.bench.machine.slots.values():
            if slot in self.bench.alive:
                assert slot.status in LIVE
            if slot.status in WAITING:
                assert slot.has_cell
            if slot.status == "stopped":
                assert not slot.has_cell
                assert slot.cell is None

    @invariant()
    def nobody_lives_who_is_not_listed(self) -> None:
        assert self.bench.alive <= set(self.bench.machine.slots.values())

    @invariant()
    def an_ended_supervisor_has_nobody(self) -> None:
        if self.bench.final is not None:
            assert not self.bench.alive
            assert self.bench.log[-1] == "finish"

    @invariant()
    def who_waits_in_an_ending_has_a_cell_to_let_go(self) -> None:
        """That nothing starts in an ending is looked at by the bench, move by move."""
        if self.bench.machine.phase == "ending":
            assert all(
                slot.status not in WAITING or slot.has_cell
                for slot in self.bench.machine.slots.values()
            )

    @invariant()
    def the_budget_is_kept(self) -> None:
        """SUP-40, SUP-41: each crash that calls for a restart and each failed attempt counts."""
        bench = self.bench
        needs = [
            report.at
            for report in bench.reports
            if (report.context == "start_error" and not isinstance(report.reason, Unwanted))
            or (report.context == "child_terminated" and report.offender.restart != "temporary")
        ]
        worst = max(
            (sum(1 for at in needs if 0 <= last - at <= PERIOD) for last in needs), default=0
        )
        gave_up = any(report.context == "shutdown" for report in bench.reports)
        if worst > INTENSITY:
            assert gave_up or self.is_stopped_by_hand
        if gave_up:
            assert worst > INTENSITY
            if bench.final is not None:
                assert isinstance(bench.final, Shutdown)
                assert isinstance(bench.final.info, IntensityReached) or self.is_stopped_by_hand

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """SUP-43: who is restarting has an attempt coming, by a wake or by its group."""
        machine = self.bench.machine
        if machine.phase != "running":
            return
        for slot in machine.slots.values():
            if slot.status in WAITING:
                assert slot.wake is not None or machine.group is not None

    def teardown(self) -> None:
        """Whatever happened, a stop ends it, last started first."""
        if not hasattr(self, "bench"):
            return
        bench = self.bench
        for script in bench.scripts.values():
            script.on_stop = Shutdown
        for child_id in list(bench.machine.slots):
            bench.release(child_id)
        if self.is_open:
            live = [slot.id for slot in bench.machine.slots.values() if slot.status in LIVE]
            bench.log.clear()
            bench.stop()
            assert bench.log[-1] == "finish"
            stops = [line.split()[1] for line in bench.log if line.startswith("stop")]
            assert stops == [child_id for child_id in reversed(live) if child_id in stops]


@pytest.mark.slow
def test_decisions_hold_under_any_order_of_events() -> None:
    # REL-103
    run_state_machine_as_test(
        SupervisorMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
