"""What a restart must not inherit: a closed mailbox, a forgotten crash; and rings of many asks."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import Crashed, Exit, NoProc, System
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Puppet,
    Simulation,
    SimulationLeak,
    raising,
    sleeping,
)
from supervision import Supervisor, child, open_system


class Root(Supervisor, intensity=10, period=5.0):
    first = child(AsyncPuppet, restart="permanent")
    second = child(AsyncPuppet, restart="temporary")


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


async def test_a_new_link_does_not_hide_how_the_last_one_ended(
    autojump_clock: MockClock,
) -> None:  # ACT-64
    async with open_system(Root) as root, trio.open_nursery() as nursery:
        first, second = root.first, root.second
        ended: list[Exit | NoProc] = []

        def block(me: AnyPuppet) -> None:
            # Between two messages of `second`: its peer crashes, comes back and links again.
            me.link(second)

        async def wait() -> None:
            ended.append(await root.system.wait_down(second))

        nursery.start_soon(wait)
        await first.ask(Call(block))
        second.tell(Do(sleeping(3)))
        await trio.sleep(1)
        first.tell(Do(raising(OSError())))
        first.tell(Do(block))
        await trio.sleep(5)
        assert [type(exit_) for exit_ in ended] == [Crashed]


async def test_asking_all_leaves_out_who_would_wait_for_itself(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-35
    other = await system.start(Puppet)

    async def ask(me: AnyPuppet) -> tuple[int, bool, float]:
        began = trio.current_time()
        replies, none = await system.ask_all([me.ref, other], Call(lambda me: 1), 3)
        return len(replies), none == [me.ref], trio.current_time() - began

    assert await (await system.start(AsyncPuppet)).ask(Call(ask)) == (1, True, 0.0)


def test_sockets_and_threads_of_trio_are_real_too() -> None:  # ACT-123
    async def scenario(sim: Simulation) -> None:
        with pytest.raises(SimulationLeak, match="socket"):
            await trio.open_tcp_listeners(0, host="127.0.0.1")
        with pytest.raises(SimulationLeak, match="thread"):
            await trio.to_thread.run_sync(len, "x")

    Simulation(1).run(scenario)
