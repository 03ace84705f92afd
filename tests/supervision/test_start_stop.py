"""How a tree starts and stops, with real actors in virtual time."""

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import IGNORE, BadReturn, Shutdown, Started
from supervision import (
    ChildSpec,
    FailedToStart,
    Flags,
    Plan,
    StartFailed,
    StartResult,
    Supervisor,
    open_system,
)
from tests.supervision.puppets import (
    MANY,
    Kit,
    Troupe,
    ref_of,
    settle,
)


async def test_an_empty_supervisor_starts_and_stops(autojump_clock: MockClock) -> None:
    # SUP-101
    async with open_system(Troupe, Flags(), []) as sup:
        assert await sup.counted() == [0, 0, 0, 0]
        system = sup.system
    assert not list(system.cells())


async def test_children_start_in_order_and_stop_in_reverse(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-1, SUP-10, SUP-20, SUP-101
    async with open_system(Troupe, Flags(), [kit.spec(one) for one in "abc"]):
        assert kit.stage.cleared() == ["start a", "start b", "start c"]
    assert kit.stage.log == ["stop c shutdown", "stop b shutdown", "stop a shutdown"]


async def test_each_child_starts_when_the_one_before_is_ready(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-10: and the supervisor serves calls meanwhile
    async_kit.stage.will_start("a", 2.0)
    async_kit.stage.will_start("d", 3.0)
    began = trio.current_time()
    async with open_system(Troupe, Flags(), [async_kit.spec("a"), async_kit.spec("b")]) as sup:
        assert trio.current_time() - began == 2.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sup.start_child, async_kit.spec("d"))
            await settle()
            assert (await sup.which_child("d")).status == "starting"
            assert await sup.counted() == [3, 3, 0, 3]
            assert trio.current_time() - began == 2.0
        assert trio.current_time() - began == 5.0


class Ignoring(Supervisor):
    def plan(self) -> object:  # type: ignore[override]
        return IGNORE


class Seven(Supervisor):
    def plan(self) -> object:  # type: ignore[override]
        return 7


class Raising(Supervisor):
    def plan(self) -> Plan:
        raise LookupError("no plan")


async def test_ignore_from_a_plan_is_no_failure(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-11, SUP-102
    async with open_system(Troupe, Flags(), [ChildSpec("sub", Ignoring), kit.spec("a")]) as sup:
        kit.stage.follow(sup.system)
        assert await sup.statuses() == {"sub": "stopped", "a": "running"}
        assert kit.stage.reports == []


@pytest.mark.parametrize("kind", [Seven, Raising])
async def test_a_plan_that_is_none_fails_the_start(
    kind: type[Supervisor], autojump_clock: MockClock
) -> None:
    # SUP-12, SUP-106
    with pytest.raises(StartFailed) as caught:
        async with open_system(kind):
            pass
    expected = BadReturn if kind is Seven else LookupError
    assert isinstance(caught.value.cause, expected)
    async with open_system(Troupe, Flags(), []) as sup:
        with pytest.raises(StartFailed) as failed:
            await sup.start_child(ChildSpec("x", kind))
        assert isinstance(failed.value.cause, expected)
        assert await sup.counted() == [0, 0, 0, 0]
        assert [cell.path for cell in sup.system.cells()] == [sup.path]


async def test_a_failing_first_start_stops_those_already_up(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-12, SUP-107
    kit.stage.will_start("b", OSError("no disk"))
    with pytest.raises(StartFailed) as caught:
        async with open_system(Troupe, Flags(), [kit.spec("a"), kit.spec("b"), kit.spec("c")]):
            pass
    assert kit.stage.log == ["start a", "start b", "stop a shutdown"]
    exit_ = caught.value.cause.exit  # type: ignore[attr-defined]
    assert isinstance(exit_, Shutdown)
    assert isinstance(exit_.info, FailedToStart)
    assert exit_.info.id == "b"
    assert isinstance(exit_.info.cause, OSError)


async def test_a_failing_start_child_leaves_nothing(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-13, SUP-108
    async with open_system(Troupe, Flags(), []) as sup:
        kit.stage.will_start("a", OSError("no"), 7)
        with pytest.raises(StartFailed) as caught:
            await sup.start_child(kit.spec("a"))
        assert isinstance(caught.value.cause, OSError)
        assert isinstance(caught.value.spec, ChildSpec)
        with pytest.raises(StartFailed) as caught:
            await sup.start_child(kit.spec("a"))
        assert isinstance(caught.value.cause, BadReturn)
        assert caught.value.cause.value == 7
        assert await sup.which_children() == []
        result = await sup.start_child(kit.spec("a"))
        assert result.ref is not None


async def test_started_info_reaches_the_caller(kit: Kit, autojump_clock: MockClock) -> None:
    # SUP-15
    async with open_system(Troupe, Flags(), []) as sup:
        kit.stage.will_start("a", Started({"port": 80}), Started("again"))
        result = await sup.start_child(kit.spec("a"))
        assert result.info == {"port": 80}
        await sup.terminate_child("a")
        assert (await sup.restart_child("a")).info == "again"


# SUP-11, SUP-103, SUP-104
@pytest.mark.parametrize(
    ("restart", "counts"), [("permanent", [2, 1, 0, 2]), ("temporary", [1, 1, 0, 1])]
)
async def test_a_child_may_ignore_its_start(
    kit: Kit, restart: str, counts: list[int], autojump_clock: MockClock
) -> None:
    kit.stage.will_start("b", IGNORE)
    async with open_system(Troupe, Flags(), [kit.spec("a"), kit.spec("b", restart=restart)]) as sup:
        assert await sup.counted() == counts
        kit.stage.will_start("c", IGNORE)
        assert await sup.start_child(kit.spec("c")) == StartResult(None, None)
        assert (await sup.which_child("c")).ref is None


async def test_what_a_factory_makes_is_known_when_it_is_made(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-21, SUP-61: its default type and shutdown are those of what it is
    kit = async_kit
    kit.stage.stops["x"] = 30.0

    def make() -> Troupe:
        return Troupe(MANY, [kit.spec("x", shutdown=60.0)])

    hidden = ChildSpec("hidden", lambda: make())  # noqa: PLW0108 - it shows no class
    assert (hidden.type, hidden.shutdown) == ("worker", 5.0)
    limited = ChildSpec("limited", lambda: make(), shutdown=2.0)  # noqa: PLW0108 - as above
    worker = ChildSpec("worker", lambda: make(), type="worker")  # noqa: PLW0108 - as above
    async with open_system(Troupe, MANY, [hidden, limited, worker, kit.spec("a")]) as sup:
        found = {one.id: one.type for one in await sup.which_children()}
        assert found == {"hidden": "supervisor", "limited": "supervisor", "worker": "worker",
                         "a": "worker"}  # fmt: skip
        assert (await sup.get_spec("hidden")).shutdown == float("inf")
        assert (await sup.get_spec("limited")).shutdown == 2.0
        await sup.terminate_child("worker")
        await sup.terminate_child("limited")
        kit.stage.log.clear()
        began = trio.current_time()
        await sup.terminate_child("hidden")
        assert trio.current_time() - began == 30.0
        assert kit.stage.log == ["stop x shutdown"]
        # Stopped by its ref too it has all the time its children need.
        await sup.restart_child("hidden")
        began = trio.current_time()
        await ref_of(await sup.which_child("hidden")).stop(timeout=None)
        assert trio.current_time() - began == 30.0
