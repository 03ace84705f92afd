"""A large state: copied in slices, while the actor stands still."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import NoProc, Ref, System
from actors.runtime.delivery.dispatcher import CHORE_STEPS
from actors.runtime.life.cell import cell_of
from actors.runtime.watching.copying import BYTES_A_STEP, THINGS_A_STEP
from actors.testing import AnyPuppet, AsyncPuppet, Call, Note, Puppet, PuppetMessage
from tests.actors.runtime.test_slices import longest

MANY = 20_000


class Copied:
    """Counts how many copies of its kind were made."""

    made = 0

    def __deepcopy__(self, _: object) -> Copied:
        Copied.made += 1
        return self


async def begin_copying(
    system: System, ref: Ref[PuppetMessage], nursery: trio.Nursery
) -> trio.CancelScope:
    """Have a state of MANY things copied, until some of them are."""
    await ref.ask(Call(lambda me: me.__dict__.update(state=[Copied() for _ in range(MANY)])))
    Copied.made, scope = 0, trio.CancelScope()

    async def copy() -> None:
        with scope:
            await system.get_state(ref)

    nursery.start_soon(copy)
    while not Copied.made:
        await trio.lowlevel.checkpoint()
    assert Copied.made < MANY
    return scope


async def test_a_large_state_is_copied_in_slices_between_two_messages(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-29, ACT-100
    ref: Ref[PuppetMessage] = await system.start(puppet)
    other: Ref[PuppetMessage] = await system.start(puppet)
    async with trio.open_nursery() as nursery:
        with longest(lambda: Copied.made) as turn:
            await begin_copying(system, ref, nursery)
            for number in range(3):
                ref.tell(Note(number))
            states: list[object] = []

            async def look() -> None:
                states.append((await system.get_state(ref))["log"])

            nursery.start_soon(look)
            nursery.start_soon(system.suspend, ref)
            assert await other.ask(Call(lambda me: 1)) == 1
            assert Copied.made < MANY
            assert cell_of(ref).mailbox.queued == 3
            await trio.testing.wait_all_tasks_blocked()
        assert 0 < turn.rise <= CHORE_STEPS * THINGS_A_STEP
    # One after the other, before all messages; then the third one acted.
    assert Copied.made == 2 * MANY
    assert states == [[]]
    assert system.status(ref).status == "suspended"
    await system.resume(ref)
    assert await ref.ask(Call(lambda me: list(me.log))) == [0, 1, 2]


@pytest.mark.parametrize("how", ["stop", "kill", "crash", "cancel"])
async def test_nothing_is_waited_for_when_a_copy_has_no_use_any_more(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], how: str
) -> None:
    # ACT-100
    ref: Ref[PuppetMessage] = await system.start(puppet)
    told: list[str] = []
    try:
        async with trio.open_nursery() as nursery:
            scope = await begin_copying(system, ref, nursery)
            if how == "cancel":
                scope.cancel()
            elif how == "crash":
                cell_of(ref).failed(OSError("of its mailbox"))
            else:
                await (ref.stop() if how == "stop" else killed(ref))
    except* NoProc as group:
        told = [type(error).__name__ for error in group.exceptions]
    assert told == ([] if how == "cancel" else ["NoProc"])
    await trio.testing.wait_all_tasks_blocked()
    assert Copied.made < MANY
    if how == "cancel":
        assert await ref.ask(Call(lambda me: len(me.state))) == MANY


async def killed(ref: Ref[PuppetMessage]) -> None:
    ref.kill()


async def test_what_a_child_task_changes_meanwhile_is_copied_in_one_go(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-100
    ref = await system.start(AsyncPuppet)
    grown = trio.Event()

    async def grow(me: AnyPuppet) -> None:
        await grown.wait()
        me.state["new"] = Copied()

    def fill(me: AnyPuppet) -> None:
        me.state = {str(number): Copied() for number in range(MANY)}
        me.start_soon(grow, me)

    await ref.ask(Call(fill))
    Copied.made = 0
    async with trio.open_nursery() as nursery:
        states: list[dict[str, object]] = []

        async def copy() -> None:
            states.append(await system.get_state(ref))

        nursery.start_soon(copy)
        while not Copied.made:
            await trio.lowlevel.checkpoint()
        grown.set()
    assert len(states[0]["state"]) == MANY + 1  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, BYTES_A_STEP, 3 * BYTES_A_STEP + 1])
async def test_a_large_state_is_replaced_whole(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], size: int
) -> None:
    # ACT-29, ACT-100: what it was before is freed in slices
    ref: Ref[PuppetMessage] = await system.start(puppet)

    def fill(me: AnyPuppet) -> None:
        me.state = {
            "bytes": bytearray(b"x") * size,
            "rows": {number: [number] for number in range(size // 100)},
        }

    await ref.ask(Call(fill))
    before = await system.get_state(ref)

    def turned_round(state: dict[str, object]) -> dict[str, object]:
        assert state == before
        return {**state, "state": [state["state"]]}

    await system.replace_state(ref, turned_round)
    after = await system.get_state(ref)
    assert after == {**before, "state": [before["state"]]}
    await trio.testing.wait_all_tasks_blocked()
    assert await system.get_state(ref) == after
