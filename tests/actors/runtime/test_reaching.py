"""Ways to actors beside a plain ref: many at once, and from other threads."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    System,
)
from actors.testing import (
    AnyPuppet,
    AsyncPuppet,
    Call,
    Do,
    Note,
    Puppet,
    sleeping,
)


async def test_ask_all_gives_replies_and_who_gave_none(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, SUP-168
    good, dead = await system.start(puppet), await system.start(puppet)
    slow = await system.start(AsyncPuppet)
    await dead.stop()
    slow.tell(Do(sleeping(3)))
    replies, without = await system.ask_all([good, dead, slow], Call(lambda me: me.path), timeout=1)
    assert (replies, without) == ({good: good.path}, [dead, slow])
    assert trio.current_time() == 1
    await trio.sleep(5)
    assert system.stats(slow)["late_replies"] == 0
    system.tell_all([good, slow], Note("all"))
    with trio.move_on_after(1):
        slow.tell(Do(sleeping(3)))
        await system.ask_all([slow], Call(lambda me: 1), timeout=9)
    await trio.sleep(5)
    assert system.stats(slow)["withdrawn"] == 1
    assert await system.ask_all([], Call(lambda me: 1), timeout=1) == ({}, [])


async def test_asking_all_leaves_out_who_would_wait_for_itself(
    autojump_clock: MockClock, system: System
) -> None:  # ACT-35
    other = await system.start(Puppet)

    async def ask(me: AnyPuppet) -> tuple[int, bool, float]:
        began = trio.current_time()
        replies, none = await system.ask_all([me.ref, other], Call(lambda me: 1), 3)
        return len(replies), none == [me.ref], trio.current_time() - began

    assert await (await system.start(AsyncPuppet)).ask(Call(ask)) == (1, True, 0.0)


async def test_off_the_trio_thread_refs_refuse_and_the_portal_serves(
    system: System,
) -> None:
    # ACT-30
    log: list[object] = []
    ref = await system.start(Puppet, log)

    def in_thread() -> object:
        with pytest.raises(RuntimeError, match=r"system\.portal"):
            ref.tell(Note("x"))
        with pytest.raises(RuntimeError, match=r"system\.portal"):
            ref.kill()
        system.portal.tell(ref, Note("by portal"))
        return system.portal.ask(ref, Call(lambda me: 5))

    assert await trio.to_thread.run_sync(in_thread) == 5
    assert log == ["by portal"]
