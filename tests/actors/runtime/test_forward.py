"""Passing the message in hand on: who answers, who owes, and what travels with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    ActorCrashed,
    AnyRef,
    Ask,
    AskTimeout,
    BadReply,
    ByName,
    Context,
    Crashed,
    DeadlockError,
    Down,
    Killed,
    Later,
    NoProc,
    Ref,
    System,
    UnhandledMessage,
    current_context,
    edge_context,
    message,
    open_actors,
)
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, raising, sleeping
from actors.testing.faults import Gate, Rule
from tests.actors.runtime.kit import Stranger

What = Callable[[AnyPuppet], object]


def passing(to: AnyRef, then: What, first: What | None = None) -> What:
    """Give what to run twice: an actor passes it on to `to`, and `to` itself does `then`."""

    def what(me: AnyPuppet) -> object:
        if me.ref is to:
            return then(me)
        if first is not None:
            first(me)
        return me.forward(to)

    return what


@message
class Count(Ask[int]):
    pass


class Counter(Actor[Count]):
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def on_count(self, message: Count) -> int:
        return self.answer  # type: ignore[return-value]  # wrong where a test wants it


class Front(Actor[Count | Note]):
    """As an author writes it, with the types that a checker wants to see."""

    def __init__(self, back: Ref[Count]) -> None:
        self.back = back

    def on_count(self, message: Count) -> Later[int]:
        return self.forward(self.back, message)

    def on_note(self, message: Note) -> None: ...


async def test_the_asker_gets_the_answer_straight(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-58
    log: list[object] = []
    front, back = await system.start(puppet, log), await system.start(AsyncPuppet)

    async def slow(me: AnyPuppet) -> str:
        await trio.sleep(2)
        return me.path

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def asks() -> None:
            assert await front.ask(Call(passing(back, slow))) == back.path
            log.append(trio.current_time())

        await trio.testing.wait_all_tasks_blocked()
        # Who has passed it on owes nothing, and goes on at once.
        assert await front.ask(Call(lambda me: 1)) == 1
        front.tell(Note("between"))
    assert log == ["between", 2.0]
    life = cell_of(front).life
    assert life is not None
    assert life.passed_on is None
    assert system.totals().asks_open == 0
    assert [system.stats(ref).late_replies for ref in (front, back)] == [0, 0]


@pytest.mark.parametrize("check_replies", [True, False])
async def test_types_and_checked_replies(autojump_clock: MockClock, *, check_replies: bool) -> None:
    # ACT-45, ACT-58
    async with open_actors(check_replies=check_replies) as system:
        back = await system.start(Counter, 5)
        front = await system.start(Front, back)
        assert await front.ask(Count()) == 5
        assert await (await system.start(Front, front)).ask(Count()) == 5
        if check_replies:
            wrong = await system.start(Counter, "five")
            front = await system.start(Front, wrong)
            with pytest.raises(BadReply) as caught:
                await front.ask(Count())
            assert caught.value.path == wrong.path


async def test_it_travels_with_all_its_papers(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-58
    front, back = await system.start(puppet), await system.start(puppet)
    seen: list[object] = []

    def look(me: AnyPuppet) -> None:
        envelope = cell_of(me.ref).life.activity.envelope  # type: ignore[union-attr]
        assert envelope is not None
        seen.append((envelope[1], me.deadline, envelope[5], current_context()))

    edge = Context("c-1", 7, "00-trace", None, "ann", "shop")
    with edge_context(edge):
        await front.ask(Call(passing(back, look, look)), timeout=3)
        front.tell(Do(passing(back, look, look)), deadline=50)
    await trio.testing.wait_all_tasks_blocked()
    for first, then in (seen[:2], seen[2:]):
        assert isinstance(first, tuple)
        assert isinstance(then, tuple)
        assert first[:2] == then[:2]
        assert then[2] == Context("c-1", 7, "00-trace", front.path, "ann", "shop", front.id)
        assert (then[3].causation_id, then[3].sender) == (first[0], back.path)
    # Without an edge a message is the beginning of its own correlation, passed on or not.
    seen.clear()
    await front.ask(Call(passing(back, look, look)))
    first, then = seen
    assert isinstance(first, tuple)
    assert isinstance(then, tuple)
    assert (first[3].correlation_id, first[3].causation_id) == (
        then[3].correlation_id,
        then[3].causation_id,
    )
    assert edge == Context("c-1", 7, "00-trace", None, "ann", "shop")


async def test_an_end_is_told_behind_what_was_passed_on(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-22, ACT-58
    log: list[object] = []
    front, back = await system.start(puppet), await system.start(AsyncPuppet, log)
    back.tell(Do(lambda me: me.monitor(front)))
    back.tell(Do(sleeping(1)))
    front.tell(Do(passing(back, lambda me: me.log.append("passed on"))))
    await trio.testing.wait_all_tasks_blocked()
    await front.stop()
    await trio.sleep(2)
    assert [type(one) for one in log] == [str, Down]


async def test_a_fault_between_two_actors_meets_what_is_passed_on(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-58
    log: list[object] = []
    front, back = await system.start(puppet), await system.start(puppet, log)
    mailbox = cell_of(back).mailbox
    gate = Gate(cell_of(back), lambda *_: None)
    gate.rules.append(Rule(front.path, None, None))
    mailbox.gate = gate.take
    mailbox.renew_limit()
    front.tell(Do(passing(back, lambda me: me.log.append("lost"))))
    with pytest.raises(AskTimeout):
        await front.ask(Call(passing(back, lambda me: 1)), timeout=1)
    back.tell(Note("from outside"))
    gate.rules.clear()
    front.tell(Do(passing(back, lambda me: me.log.append("healed"))))
    await trio.sleep(1)
    assert log == ["from outside", "healed"]


async def test_a_full_mailbox_drops_a_tell_and_holds_an_ask_back(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-58
    class Tight(AsyncPuppet):
        capacity = 1

    front, back = await system.start(puppet), await system.start(Tight)
    back.tell(Do(sleeping(5)))
    await trio.testing.wait_all_tasks_blocked()
    back.tell(Note("fills it"))
    front.tell(Do(passing(back, lambda me: None)))
    await trio.testing.wait_all_tasks_blocked()
    assert (system.stats(back).overflowed, system.stats(front).overflowed) == (1, 0)
    with pytest.raises(AskTimeout) as caught:
        await front.ask(Call(passing(back, lambda me: 1)), timeout=1)
    assert (caught.value.path, caught.value.stage) == (back.path, "mailbox")
    with trio.move_on_after(1):
        await front.ask(Call(passing(back, lambda me: 1)), timeout=9)
    assert cell_of(back).mailbox.waiting_senders == 0
    began = trio.current_time()
    assert await front.ask(Call(passing(back, lambda me: 2)), timeout=9) == 2
    assert began < trio.current_time() <= 5


async def test_nobody_there(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-58
    front, dead = await system.start(puppet), await system.start(puppet)
    await dead.stop()
    with pytest.raises(NoProc) as caught:
        await front.ask(Call(passing(dead, lambda me: 1)))
    assert caught.value.path == dead.path
    with pytest.raises(NoProc) as caught:
        await front.ask(Call(lambda me: me.forward(ByName("nobody", system=system))))
    assert caught.value.path == "nobody"
    front.tell(Do(passing(dead, lambda me: None)))
    await trio.testing.wait_all_tasks_blocked()
    (letter,) = system.dead_letters
    assert (letter.path, letter.reason) == (dead.path, "no_such_actor")


async def test_a_stranger_to_the_other_is_unhandled_there(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-58
    back = await system.start(Puppet)

    class Gate(Actor[Stranger]):
        def on_stranger(self, message: Stranger) -> Later[int]:
            return self.forward(back)

    gate = await system.start(Gate)
    with pytest.raises(UnhandledMessage) as caught:
        await gate.ask(Stranger())
    assert caught.value.path == back.path


async def test_rings_are_seen_through_who_has_passed_it_on(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-35, ACT-58
    asker, front = await system.start(AsyncPuppet), await system.start(puppet)
    back = await system.start(AsyncPuppet)

    async def asks(me: AnyPuppet, to: AnyRef, then: What) -> object:
        return await front.ask(Call(passing(to, then)))

    with pytest.raises(ActorCrashed) as crashed:
        await asker.ask(Call(partial(asks, to=asker, then=lambda me: 1)))
    error = crashed.value.error
    assert isinstance(error, DeadlockError)
    assert error.cycle == (asker.path, asker.path)

    asker = await system.start(AsyncPuppet)

    async def asks_back(me: AnyPuppet) -> object:
        with pytest.raises(DeadlockError) as caught:
            await asker.ask(Call(lambda me: 1))
        return caught.value.cycle

    cycle = await asker.ask(Call(partial(asks, to=back, then=asks_back)))
    assert cycle == (back.path, asker.path, back.path)
    # No edge is left behind.
    assert cell_of(asker).waiting_on is None
    assert await back.ask(Call(lambda me: 3)) == 3


@pytest.mark.parametrize("end", ["raise", "kill", "stop"])
async def test_the_end_of_who_has_passed_it_on_is_no_end_of_the_ask(
    autojump_clock: MockClock, system: System, puppet: type[Puppet], end: str
) -> None:
    # ACT-31, ACT-58
    log: list[object] = []
    front, back = await system.start(puppet), await system.start(AsyncPuppet, log)

    async def slow(me: AnyPuppet) -> str:
        await trio.sleep(2)
        return "answered"

    def ends(me: AnyPuppet) -> object:
        if me.ref is back:
            return slow(me)
        me.reply_later()  # Forgiven with the passing on.
        later = me.forward(back)
        if end == "raise":
            raise OSError
        if end == "kill":
            me.ref.kill()
        me.stop()
        return later

    def told(me: AnyPuppet) -> None:
        if me.ref is back:
            log.append("told")
        else:
            me.forward(back)
            raise OSError

    assert await front.ask(Call(ends)) == "answered"
    exit_ = await system.wait_down(front)
    assert isinstance(exit_, NoProc | Crashed | Killed) or exit_.clean
    front = await system.start(puppet)
    front.tell(Do(told))
    await trio.sleep(1)
    assert log == ["told"]
    assert not len(system.dead_letters)


async def test_a_message_nobody_waits_for_ends_where_it_is(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-58
    log: list[object] = []
    front, back = await system.start(AsyncPuppet), await system.start(Puppet, log)

    async def late(me: AnyPuppet) -> object:
        if me.ref is back:
            log.append("never")
            return None
        await trio.sleep(2)
        return me.forward(back)

    with pytest.raises(AskTimeout):
        await front.ask(Call(late), timeout=1)
    await trio.sleep(5)
    with trio.move_on_after(1):
        await front.ask(Call(late))
    await trio.sleep(5)
    stats = system.stats(front)
    assert (stats.expired, stats.withdrawn, log) == (1, 1, [])
    assert [letter.reason for letter in system.dead_letters] == ["expired"]
    # A tell whose time has passed meanwhile is dropped by whoever reads it.
    front.tell(Do(late), deadline=trio.current_time() + 1)
    await trio.sleep(5)
    assert (system.stats(back).expired, log) == (1, [])


async def test_it_may_be_set_aside_before_and_after(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-58
    front, back = await system.start(puppet), await system.start(puppet)

    def what(me: AnyPuppet) -> object:
        if not me.state.get("open"):
            return me.stash()
        return me.path if me.ref is back else me.forward(back)

    def opens(me: AnyPuppet) -> None:
        me.state["open"] = True
        me.unstash_all()

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def asks() -> None:
            assert await front.ask(Call(what), timeout=9) == back.path

        for ref in (front, back):
            await trio.sleep(1)
            ref.tell(Do(opens))


async def test_it_may_be_answered_later_by_the_other(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-44, ACT-58
    front, back = await system.start(puppet), await system.start(puppet)
    kept: list[Later[object]] = []

    def keeps(me: AnyPuppet) -> None:
        kept.append(me.reply_later())

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def asks() -> None:
            with pytest.raises(ActorCrashed) as caught:
                await front.ask(Call(passing(back, keeps)))
            assert caught.value.path == back.path

        await trio.testing.wait_all_tasks_blocked()
        assert not kept[0].asker_gone
        # The debt is the other's.
        await front.stop()
        back.tell(Do(raising(OSError())))


async def test_a_message_is_passed_on_once_and_not_otherwise_settled(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-58
    front, back = await system.start(puppet), await system.start(puppet)
    errors: list[str] = []

    def refused(act: Callable[[], object]) -> None:
        with pytest.raises(RuntimeError) as caught:
            act()
        errors.append(str(caught.value))

    def twice(me: AnyPuppet) -> object:
        if me.ref is back:
            return "once"
        later = me.forward(back)
        refused(lambda: me.forward(back))
        refused(me.stash)
        refused(me.reply_later)
        return later

    def answered(me: AnyPuppet) -> object:
        me.reply_later().reply("here")
        refused(lambda: me.forward(back))
        return None

    def stashed(me: AnyPuppet) -> None:
        me.stash()
        refused(lambda: me.forward(back))

    def other(me: AnyPuppet) -> str:
        refused(lambda: me.forward(back, Note("another")))
        return "kept"

    assert await front.ask(Call(twice)) == "once"
    assert await front.ask(Call(answered)) == "here"
    assert await front.ask(Call(other)) == "kept"
    front.tell(Do(stashed))
    await trio.testing.wait_all_tasks_blocked()
    assert len(errors) == 6
    outside = await system.start(puppet, None, lambda me: refused(lambda: me.forward(back)))
    assert await outside.ask(Call(lambda me: len(errors))) == 7


async def test_a_value_beside_passing_on_is_a_bad_reply_of_who_returned_it(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-45, ACT-58
    front, back = await system.start(puppet), await system.start(puppet)

    def both(me: AnyPuppet) -> str:
        if me.ref is not back:
            me.forward(back)
        return me.path

    assert await front.ask(Call(both)) == back.path
    assert isinstance(cell_of(front).last_exits[0], Crashed)
