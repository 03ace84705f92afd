"""A class's own start limit, and senders that wait at a mailbox with a fault rule."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor, StartTimeout, message, open_actors
from actors.runtime.life.cell import cell_of
from actors.testing.faults import Gate, Rule


@message
class Go:
    """Does nothing."""


class Hasty(Actor[Go]):
    start_timeout = 0.1

    async def on_start(self) -> None:
        await trio.sleep(1)

    def on_go(self, message: Go) -> None:
        """Never comes this far."""


class Narrow(Actor[Go]):
    capacity = 1

    def on_go(self, message: Go) -> None:
        """Takes one at a time."""


async def test_a_class_may_set_its_own_start_timeout(autojump_clock: MockClock) -> None:
    # ACT-47, SUP-155
    async with open_actors() as system:
        with pytest.raises(StartTimeout):
            await system.start(Hasty)
        assert trio.current_time() == pytest.approx(0.1, abs=0.02)
        assert not list(system.cells())


async def test_a_full_mailbox_behind_a_gate_makes_a_sender_wait(autojump_clock: MockClock) -> None:
    # ACT-24, ACT-122: a fault rule does not turn a waiting send into a lost one
    async with open_actors() as system:
        narrow = await system.start(Narrow)
        Gate(cell_of(narrow)).rules.append(Rule("nobody", None, None))
        await system.suspend(narrow)
        narrow.tell(Go())
        with trio.move_on_after(1) as scope:
            await narrow.send(Go())
        assert scope.cancelled_caught
        assert not list(system.dead_letters)
