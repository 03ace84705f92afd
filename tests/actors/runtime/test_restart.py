"""What a restart keeps and drops, seen through the port that supervisors use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    ActorCrashed,
    ActorExited,
    Cell,
    Crashed,
    Down,
    Exit,
    Failed,
    Killed,
    NoProc,
    Normal,
    Ready,
    Ref,
    StartOutcome,
    System,
    running,
)
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    raising,
    sleeping,
)
from actors.testing.puppet import PuppetMessage
from supervision import Supervisor, child, open_system


class Restarter:
    """An owner that restarts its one child at once, `budget` times."""

    def __init__(self, system: System, nursery: trio.Nursery, budget: int) -> None:
        self.system, self._nursery, self.budget = system, nursery, budget
        self.told: list[object] = []
        self.cell: Cell | None = None

    @property
    def nursery(self) -> trio.Nursery:
        return self._nursery

    def start(self, make: Callable[[], AnyPuppet], *, shutdown: float = 5) -> Ref[PuppetMessage]:
        self.cell = self.system.new_cell(
            self, make, key="child", parent_path="root", name="child", shutdown=shutdown
        )
        self.cell.begin_incarnation()
        return self.cell.ref  # type: ignore[return-value]

    def child_started(self, cell: Cell, outcome: StartOutcome) -> None:
        self.told.append(outcome)
        if isinstance(outcome, Failed):
            self._again(cell, Crashed(outcome.error))

    def child_exited(self, cell: Cell, exit_: Exit) -> None:
        self.told.append(exit_)
        self._again(cell, exit_)

    def _again(self, cell: Cell, exit_: Exit) -> None:
        if self.budget:
            self.budget -= 1
            cell.begin_incarnation("crashed")
        else:
            cell.retire(exit_)

    def child_unkillable(self, cell: Cell, stack: str) -> None:
        self.told.append("unkillable")

    def child_wanted(self, cell: Cell) -> None:
        self.told.append("wanted")
        cell.begin_incarnation()

    def child_unwanted(self, cell: Cell, exit_: Exit) -> None:
        self.told.append(("unwanted", exit_))
        cell.retire(exit_)


async def test_a_ref_works_across_restarts(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-53, ACT-51, SUP-187
    owner = Restarter(system, nursery, 1)
    ref = owner.start(puppet)
    error = OSError()
    assert await ref.ask(Call(lambda me: me.incarnation)) == 1
    ref.tell(Do(raising(error)))
    assert await ref.ask(Call(lambda me: me.incarnation)) == 2
    assert system.whereis("child") is ref
    assert owner.told == [Ready(), Crashed(error), Ready()]
    assert system.stats(ref).restarts == 1
    await ref.stop()
    assert system.whereis("child") is None


async def test_queue_order_is_kept_and_m1_is_one_dead_letter(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-53, SUP-185
    log: list[object] = []
    ref = Restarter(system, nursery, 1).start(partial(puppet, log))

    async def asks() -> None:
        with pytest.raises(ActorCrashed):
            await ref.ask(Call(raising(KeyError("m1"))))

    await ref.ask(Call(lambda me: None))
    await system.suspend(ref)
    nursery.start_soon(asks)
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Note("m2"))
    ref.tell(Do(lambda me: me.log.append(me.incarnation)))
    await system.resume(ref)
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["m2", 2]
    (letter,) = system.dead_letters
    assert (letter.reason, letter.was_ask) == ("crashed", True)
    assert isinstance(letter.exit, Crashed)


async def test_without_budget_the_queue_is_dead_letters_and_failed_asks(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-54, SUP-186
    ref = Restarter(system, nursery, 0).start(puppet)
    await ref.ask(Call(lambda me: None))
    ref.tell(Do(raising(OSError())))
    ref.tell(Note("one"))
    ref.tell(Note("two"))
    with pytest.raises(ActorExited):
        await ref.ask(Call(lambda me: None))
    assert system.dead_letters.by_reason == {"crashed": 1, "stopped": 3}
    assert trio.current_time() == 0
    with pytest.raises(NoProc):
        await ref.ask(Call(lambda me: None))


async def test_incarnations_never_overlap(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery
) -> None:
    # ACT-52, SUP-182
    log: list[object] = []

    async def slow_stop(me: AnyPuppet, _: Exit) -> None:
        await trio.sleep(3)
        log.append(("stopped", trio.current_time()))

    def start(me: AnyPuppet) -> None:
        log.append(("started", trio.current_time()))

    ref = Restarter(system, nursery, 1).start(partial(AsyncPuppet, log, start, slow_stop))
    ref.tell(Do(raising(OSError())))
    await trio.sleep(4)
    assert log == [("started", 0), ("stopped", 3), ("started", 3)]


async def test_stashed_messages_come_back_to_the_front(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-53, ACT-74, SUP-188
    log: list[object] = []

    def stashes(name: str) -> Callable[[AnyPuppet], object]:
        def stash(me: AnyPuppet) -> None:
            log.append((me.incarnation, name))
            me.stash()

        return stash

    ref = Restarter(system, nursery, 2).start(partial(puppet, log))
    ref.tell(Do(stashes("s1")))
    ref.tell(Do(stashes("s2")))
    for _ in range(3):
        ref.tell(Do(raising(OSError())))
    await trio.testing.wait_all_tasks_blocked()
    assert log == [(n, s) for n in (1, 2, 3) for s in ("s1", "s2")]
    assert system.dead_letters.by_reason == {"crashed": 3, "stopped": 2}


async def test_timers_and_monitors_end_with_their_incarnation(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-53, ACT-71
    log: list[object] = []
    other = await system.start(Puppet)
    ref = Restarter(system, nursery, 1).start(partial(puppet, log))

    def sets(me: AnyPuppet) -> None:
        me.after(1, Note("tick"))
        me.every(1, Note("ticks"))
        me.monitor(other)

    await ref.ask(Call(sets))
    ref.tell(Do(raising(OSError())))
    await trio.testing.wait_all_tasks_blocked()
    await other.stop()
    await trio.sleep(5)
    assert log == []
    assert system.stats(ref).timers == ()


async def test_final_monitors_wait_for_the_actor_others_for_the_incarnation(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-62, ACT-53
    log: list[object] = []
    ref = Restarter(system, nursery, 1).start(puppet)
    watcher = await system.start(puppet, log)
    await watcher.ask(Call(lambda me: me.monitor(ref)))
    await watcher.ask(Call(lambda me: me.monitor(ref, final=True)))
    first, second = OSError(1), OSError(2)
    ref.tell(Do(raising(first)))
    await trio.testing.wait_all_tasks_blocked()
    assert log == [Down(ref, 1, Crashed(first))]
    ref.tell(Do(raising(second)))
    await trio.testing.wait_all_tasks_blocked()
    assert log[1:] == [Down(ref, 2, Crashed(second))]


async def test_asks_of_an_incarnation_are_withdrawn_with_it(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery
) -> None:
    # ACT-53
    slow = await system.start(AsyncPuppet)
    slow.tell(Do(sleeping(5)))
    ref = Restarter(system, nursery, 1).start(AsyncPuppet)

    async def asks(_: AnyPuppet) -> None:
        await slow.ask(Call(lambda me: None), timeout=60)

    ref.tell(Do(asks))
    await trio.testing.wait_all_tasks_blocked()
    ref.kill()
    await trio.sleep(6)
    assert system.stats(slow).withdrawn == 1
    assert await ref.ask(Call(lambda me: me.incarnation)) == 2
    assert system.totals().asks_open == 0


async def test_subscriptions_survive(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-53
    log: list[object] = []
    ref = Restarter(system, nursery, 1).start(partial(puppet, log))
    system.topics.subscribe("t", ref)
    ref.tell(Do(raising(OSError())))
    await trio.testing.wait_all_tasks_blocked()
    assert system.topics.publish("t", Note("news")) == 1
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["news"]


async def test_a_failed_restart_can_be_tried_again(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-54
    attempts: list[int] = []

    def start(me: AnyPuppet) -> None:
        attempts.append(me.incarnation)
        if len(attempts) in (2, 3):
            raise OSError(len(attempts))

    owner = Restarter(system, nursery, 3)
    ref = owner.start(partial(puppet, None, start))
    ref.tell(Do(raising(OSError())))
    assert await ref.ask(Call(lambda me: me.incarnation)) == 2
    assert attempts == [1, 2, 2, 2]


async def test_a_kill_while_starting_is_a_failed_start(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery
) -> None:
    # ACT-54
    owner = Restarter(system, nursery, 0)
    ref = owner.start(partial(AsyncPuppet, None, sleeping(9)))
    await trio.testing.wait_all_tasks_blocked()
    ref.kill()
    assert await system.wait_down(ref) != Normal()
    (outcome,) = owner.told
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ActorExited)
    assert outcome.error.exit == Killed()


async def test_a_dormant_cell_wants_to_start_with_its_first_message(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-54
    log: list[object] = []
    owner = Restarter(system, nursery, 0)
    cell = system.new_cell(owner, partial(puppet, log), key="lazy")
    cell.await_first_message()
    for n in range(3):
        cell.ref.tell(Note(n))  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()
    assert owner.told == ["wanted", Ready()]
    assert log == [0, 1, 2]
    other = system.new_cell(owner, puppet, key="refused")
    other.refuse("max_children=1")
    with pytest.raises(NoProc, match="max_children"):
        await other.ref.send(Note(1))  # type: ignore[arg-type]
    cell.kill()


async def test_no_incarnation_starts_after_cancellation(
    autojump_clock: MockClock, puppet: type[Puppet]
) -> None:
    # ACT-5, SUP-179
    starts: list[object] = []
    with trio.move_on_after(1):
        system = System()
        async with running(system), trio.open_nursery() as nursery:
            owner = Restarter(system, nursery, 100)
            ref = owner.start(partial(puppet, None, lambda me: starts.append(1)))
            try:
                await trio.sleep_forever()
            finally:
                ref.tell(Do(raising(OSError())))
    assert starts == [1]


async def test_five_crashes_are_five_reports(
    autojump_clock: MockClock, system: System, nursery: trio.Nursery, puppet: type[Puppet]
) -> None:
    # ACT-49, SUP-184
    ref = Restarter(system, nursery, 5).start(puppet)
    for n in range(5):
        ref.tell(Do(raising(OSError(n))))
    assert await ref.ask(Call(lambda me: me.incarnation)) == 6
    assert [report.incarnation for report in system.reports.kept] == [1, 2, 3, 4, 5]


class Root(Supervisor, intensity=10, period=5.0):
    first = child(AsyncPuppet, restart="permanent")


@pytest.mark.parametrize("crash", [False, True])
async def test_a_drained_mailbox_is_open_again_after_a_restart(
    autojump_clock: MockClock, crash: bool
) -> None:  # ACT-57, ACT-53
    async with open_system(Root) as root:
        root.first.tell(Do(sleeping(1)))
        if crash:
            root.first.tell(Do(raising(OSError())))
        await root.first.stop(drain=True)
        await trio.sleep(1)
        assert await root.first.ask(Call(lambda me: me.incarnation)) == 2
