"""A child that somebody is starting when a group restart comes over it.

Found by playing the same steps on Erlang's supervisor.
"""

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import NoProc
from supervision import (
    Backoff,
    ChildSpec,
    Flags,
    StartFailed,
    SupervisionError,
    open_system,
)
from tests.supervision.puppets import Kit, Troupe, crash


class Caller:
    """Starts a child and keeps the answer."""

    def __init__(self, sup: Troupe, spec: ChildSpec) -> None:
        self._sup, self._spec = sup, spec
        self.ref: object = None
        self.error: Exception | None = None

    @property
    def is_answered(self) -> bool:
        return self.ref is not None or self.error is not None

    async def call(self) -> None:
        try:
            self.ref = (await self._sup.start_child(self._spec)).ref
        except (SupervisionError, NoProc) as error:
            self.error = error


# SUP-13, SUP-31: the start is cut off, but the child stays and comes up: its caller is told that.
async def test_a_start_cut_off_by_its_group_is_answered_when_the_group_has_started_it(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    kit = async_kit
    async with open_system(Troupe, Flags("one_for_all", 9), [kit.spec("a"), kit.spec("b")]) as sup:
        kit.stage.will_start("c", 1.0)
        caller = Caller(sup, kit.spec("c", shutdown="kill"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.call)
            await trio.sleep(0.5)
            await crash(sup, "a")
        assert trio.current_time() < 0.6
        assert caller.error is None
        assert caller.ref == (await sup.which_child("c")).ref
        assert await sup.statuses() == {"a": "running", "b": "running", "c": "running"}
        assert kit.stage.log.count("start c") == 2


async def test_it_is_discarded_when_the_start_of_the_group_fails_too(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-13
    kit = async_kit
    async with open_system(Troupe, Flags("one_for_all", 9), [kit.spec("a"), kit.spec("b")]) as sup:
        kit.stage.will_start("c", 1.0, OSError("no"))
        caller = Caller(sup, kit.spec("c", shutdown="kill"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.call)
            await trio.sleep(0.5)
            await crash(sup, "a")
        assert isinstance(caller.error, StartFailed)
        assert isinstance(caller.error.cause, OSError)
        assert await sup.statuses() == {"a": "running", "b": "running"}


async def test_a_temporary_one_is_gone_with_its_group(
    async_kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-13, SUP-30
    kit = async_kit
    async with open_system(Troupe, Flags("one_for_all", 9), [kit.spec("a")]) as sup:
        kit.stage.will_start("c", 1.0)
        caller = Caller(sup, kit.spec("c", shutdown="kill", restart="temporary"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.call)
            await trio.sleep(0.5)
            await crash(sup, "a")
        assert isinstance(caller.error, StartFailed)
        assert await sup.statuses() == {"a": "running"}


@pytest.mark.parametrize("how", ["terminated", "stopped"])
async def test_its_caller_is_answered_when_no_start_follows(
    async_kit: Kit, how: str, autojump_clock: MockClock
) -> None:
    # SUP-13, SUP-43
    kit = async_kit
    slow = Backoff(10.0, 10.0, jitter=0.0)
    async with open_system(Troupe, Flags("one_for_all", 9), [kit.spec("a", backoff=slow)]) as sup:
        kit.stage.will_start("c", 1.0)
        caller = Caller(sup, kit.spec("c", shutdown="kill"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.call)
            await trio.sleep(0.5)
            await crash(sup, "a")
            assert not caller.is_answered
            if how == "terminated":
                await sup.terminate_child("c")
            else:
                await sup.ref.stop()
        assert isinstance(caller.error, StartFailed if how == "terminated" else NoProc)
        assert trio.current_time() < 1.0
