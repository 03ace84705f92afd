"""Who should run and does not: what a supervisor that gave up leaves behind, and for how long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor
from supervision import (
    Absent,
    Backoff,
    ChildSpec,
    Dynamic,
    DynamicFlags,
    Flags,
    Plan,
    Supervisor,
    handle_of,
    open_system,
    tree_of,
)
from supervision.specs.words import RestartType
from tests.logged import captured

QUICK = Backoff(first=10.0, max=10.0)


class Fragile(Actor[str]):
    def on_message(self, message: str) -> None:
        raise RuntimeError(message)


class Shop(Supervisor):
    """Gives up at the first crash of its clerk."""

    def plan(self) -> Plan:
        return Plan(Flags(intensity=0), [ChildSpec("clerk", Fragile, name="clerk")])


class Root(Supervisor):
    def __init__(self, *specs: ChildSpec) -> None:
        self._specs = specs

    def plan(self) -> Plan:
        return Plan(Flags(intensity=100, period=1.0), self._specs)


async def crash(root: Root) -> None:
    clerk = root.system.whereis("clerk", Fragile)
    assert clerk is not None
    clerk.tell("crash")
    await trio.testing.wait_all_tasks_blocked()


async def test_nobody_is_absent_from_a_tree_that_runs() -> None:
    async with open_system(Root, ChildSpec("shop", Shop)) as root:
        assert tree_of(root.system).absent() == Absent()


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_a_supervisor_that_gave_up_is_absent_until_it_runs(
    restart: RestartType, autojump_clock: MockClock
) -> None:
    # RES-40: whether it is started again, ever later, or left alone
    spec = ChildSpec("shop", Shop, restart=restart, backoff=QUICK)
    async with open_system(Root, spec) as root:
        tree = tree_of(root.system)
        await crash(root)
        assert tree.absent() == Absent(gave_up=("root/shop",))
        if restart == "transient":
            await trio.sleep(1000)
            assert tree.absent() == Absent(gave_up=("root/shop",))
            await root.restart_child("shop")
        else:
            await trio.sleep(100)
        assert tree.absent() == Absent()
        # Once more, and then somebody decides that it shall not run.
        await crash(root)
        await root.terminate_child("shop")
        assert tree.absent() == Absent()


async def test_who_waits_to_be_restarted_is_told_apart(autojump_clock: MockClock) -> None:
    # RES-40: a worker that crashed has not given up
    spec = ChildSpec("clerk", Fragile, name="clerk", backoff=QUICK)
    async with open_system(Root, spec) as root:
        await crash(root)
        assert tree_of(root.system).absent() == Absent(waiting=("root/clerk",))
        await trio.sleep(100)
        assert tree_of(root.system).absent() == Absent()


async def test_below_a_dynamic_supervisor_nobody_is_looked_at(autojump_clock: MockClock) -> None:
    # RES-40: of a crowd one is missed by whoever asked for it
    template = ChildSpec("one", Root, type="supervisor")
    crowd = ChildSpec(
        "crowd", lambda: Dynamic(DynamicFlags(), template), type="supervisor", name="crowd"
    )
    async with open_system(Root, crowd) as root:
        found = root.system.whereis("crowd", Dynamic)
        assert found is not None
        await handle_of(Dynamic, found).start_child(ChildSpec("shop", Shop, restart="transient"))
        await crash(root)
        assert tree_of(root.system).absent() == Absent()


async def test_what_is_deep_below_is_seen(autojump_clock: MockClock) -> None:
    # RES-40
    inner = ChildSpec("inner", lambda: Root(ChildSpec("shop", Shop, restart="transient")))
    async with open_system(Root, inner) as root:
        await crash(root)
        assert tree_of(root.system).absent() == Absent(gave_up=("root/inner/shop",))


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_that_a_supervisor_gave_up_is_an_error_in_the_log(
    restart: RestartType, autojump_clock: MockClock
) -> None:
    # OBS-5: a human should look, also when it is started again; one line beside that of the crash
    spec = ChildSpec("shop", Shop, restart=restart, backoff=QUICK)
    with captured() as lines:
        async with open_system(Root, spec) as root:
            await crash(root)
    told = [(line["event"], line["log_level"]) for line in lines]
    assert told == [("actor_crashed", "error"), ("supervision_report", "error")]
    assert (lines[1]["supervisor"], lines[1]["offender"]) == ("root/shop", "root/shop/clerk")
    assert lines[1]["reason"] == "reached_max_restart_intensity"
