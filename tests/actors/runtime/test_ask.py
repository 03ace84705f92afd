"""How an ask can end: exactly one way, at once where it can be known."""

from __future__ import annotations

import math
from typing import cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    ActorCrashed,
    ActorExited,
    AskError,
    AskTimeout,
    Crashed,
    DeadlockError,
    Killed,
    MailboxFull,
    NoProc,
    Normal,
    Ref,
    StartError,
    StopActor,
    System,
    UnhandledMessage,
)
from actors.runtime.life.cell import cell_of
from actors.testing import AnyPuppet, AsyncPuppet, Call, Do, Note, Puppet, raising, sleeping
from tests.actors.runtime.kit import Stranger


async def test_the_reply_is_what_the_handler_returns(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, ACT-44, SUP-158
    ref = await system.start(puppet)
    assert await ref.ask(Call(lambda me: 5)) == 5


async def test_a_slow_handler_times_out_its_asker_and_goes_on(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-31, ACT-33, SUP-159
    ref = await system.start(AsyncPuppet)

    async def slow(me: AnyPuppet) -> int:
        await trio.sleep(2)
        return 1

    with pytest.raises(AskTimeout) as caught:
        await ref.ask(Call(slow), timeout=1)
    assert (caught.value.stage, caught.value.waited) == ("handling", 1.0)
    assert caught.value.path == ref.path
    assert caught.value.message_type is Call
    assert await ref.ask(Call(lambda me: me.cell.counts.late_replies)) == 1


async def test_a_queued_ask_times_out_as_queued(autojump_clock: MockClock, system: System) -> None:
    # ACT-31
    ref = await system.start(AsyncPuppet)
    ref.tell(Do(sleeping(3)))
    with pytest.raises(AskTimeout) as caught:
        await ref.ask(Call(lambda me: 1), timeout=1)
    assert caught.value.stage == "queued"


async def test_an_ask_without_room_times_out_in_the_mailbox(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-24, ACT-31
    class Small(AsyncPuppet):
        capacity = 1

    ref = await system.start(Small)
    ref.tell(Do(sleeping(3)))
    await trio.testing.wait_all_tasks_blocked()
    ref.tell(Note("fills it"))
    with pytest.raises(AskTimeout) as caught:
        await ref.ask(Call(lambda me: 1), timeout=1)
    assert caught.value.stage == "mailbox"
    cell = cell_of(ref)
    assert cell.mailbox.waiting_senders == 0


async def test_a_crash_reaches_its_asker_at_once(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, SUP-160
    ref = await system.start(puppet)
    error = KeyError("x")
    with pytest.raises(ActorCrashed) as caught:
        await ref.ask(Call(raising(error)))
    assert caught.value.error is error
    assert trio.current_time() == 0


async def test_who_is_queued_behind_a_crash_hears_of_the_exit(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, ACT-54, SUP-186
    ref = await system.start(puppet)
    ref.tell(Do(raising(OSError())))
    with pytest.raises(ActorExited) as caught:
        await ref.ask(Call(lambda me: 1))
    assert isinstance(caught.value.exit, Crashed)


async def test_a_kill_ends_an_ask_in_hand(autojump_clock: MockClock, system: System) -> None:
    # ACT-31
    ref = await system.start(AsyncPuppet)
    ref.tell(Note("first"))
    async with trio.open_nursery() as nursery:

        async def asks() -> None:
            with pytest.raises(ActorExited) as caught:
                await ref.ask(Call(sleeping(9)))
            assert caught.value.exit == Killed()

        nursery.start_soon(asks)
        await trio.testing.wait_all_tasks_blocked()
        ref.kill()


async def test_a_clean_end_by_stopactor_reaches_the_asker(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, ACT-49
    ref = await system.start(puppet)
    with pytest.raises(ActorExited) as caught:
        await ref.ask(Call(raising(StopActor())))
    assert caught.value.exit == Normal()
    assert not system.reports.kept
    assert not len(system.dead_letters)


async def test_an_unknown_class_does_not_disturb_the_actor(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, ACT-46
    ref = await system.start(puppet)
    with pytest.raises(UnhandledMessage) as caught:
        await ref.ask(Stranger())
    assert caught.value.message_type is Stranger
    assert await ref.ask(Call(lambda me: 5)) == 5
    assert [letter.reason for letter in system.dead_letters] == ["unhandled"]


async def test_the_dead_and_the_unknown_are_no_proc(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-31, SUP-154
    ref = await system.start(puppet)
    assert await ref.ask(Call(lambda me: 5)) == 5
    await ref.stop()
    with pytest.raises(NoProc):
        await ref.ask(Call(lambda me: 5))
    with pytest.raises(NoProc):
        await ref.send(Note("x"))
    with pytest.raises(NoProc):
        await ref.stop()
    ref.kill()


@pytest.mark.parametrize("timeout", [-1, math.nan, "1", True, 10**400])
async def test_a_bad_timeout_hurts_only_the_caller(
    autojump_clock: MockClock, system: System, timeout: float
) -> None:
    # ACT-32
    ref = await system.start(Puppet)
    with pytest.raises(ValueError, match="timeout"):
        await ref.ask(Call(lambda me: 1), timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        await ref.stop(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        await ref.send(Note(1), timeout)
    with pytest.raises(ValueError, match="timeout"):
        await system.ask_all([ref], Call(lambda me: 1), timeout)
    assert await ref.ask(Call(lambda me: 1)) == 1
    assert system.stats(ref).handled == 1


@pytest.mark.parametrize("timeout", [1e15, 1e306, 1.7e308, math.inf, None])
async def test_a_timeout_may_be_longer_than_time(
    autojump_clock: MockClock, system: System, timeout: float | None
) -> None:
    # ACT-32, ACT-37
    ref = await system.start(AsyncPuppet)
    ref.tell(Do(sleeping(1)))
    assert await ref.ask(Call(lambda me: 1), timeout) == 1
    ref.tell(Do(sleeping(1)))
    assert await system.ask_all([ref], Call(lambda me: 1), timeout) == ({ref: 1}, [])
    assert system.totals().asks_open == 0


async def test_all_ask_errors_name_path_and_class(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-32
    for error in (
        AskTimeout("p", Call(lambda me: 1), 1.0, "queued"),
        ActorCrashed("p", OSError(), Call),
        ActorExited("p", Normal(), Call),
        UnhandledMessage("p", Call),
        NoProc("p", Call),
        DeadlockError(["q", "p"], Call),
    ):
        assert isinstance(error, AskError)
        assert error.path == "p"
        assert error.message_type is Call
        assert "Call" in str(error)


async def test_a_cancelled_asker_withdraws(autojump_clock: MockClock, system: System) -> None:
    # ACT-34
    log: list[object] = []
    ref = await system.start(AsyncPuppet, log)

    async def slow(me: AnyPuppet) -> None:
        await trio.sleep(2)
        me.log.append(me.asker_gone)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.ask, Call(slow))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ref.ask, Call(lambda me: log.append("never")))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await ref.ask(Call(lambda me: me.cell.counts.withdrawn)) == 1
    assert log == [True]
    assert not len(system.dead_letters)


async def test_replies_do_not_pass_the_askers_mailbox(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-33
    log: list[object] = []
    answerer = await system.start(Puppet)
    asker = await system.start(AsyncPuppet, log)

    async def asks(me: AnyPuppet) -> None:
        for n in range(100):
            me.ref.tell(Note(n))
        me.log.append(await answerer.ask(Call(lambda me: "reply")))

    await asker.ask(Call(asks))
    assert log[0] == "reply"


async def test_a_ring_of_asks_fails_where_it_closes(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35
    a = await system.start(AsyncPuppet, name="a")
    b = await system.start(AsyncPuppet, name="b")
    c = await system.start(AsyncPuppet, name="c")

    async def closes(me: AnyPuppet) -> object:
        try:
            return await a.ask(Call(lambda me: 1), timeout=60)
        except DeadlockError as error:
            return error.cycle

    def forwards(to: object, what: object) -> Call:
        return Call(lambda me: to.ask(what, timeout=60))  # type: ignore[attr-defined]

    cycle = await a.ask(forwards(b, forwards(c, Call(closes))))
    assert cycle == ("c", "a", "b", "c")
    assert trio.current_time() == 0
    assert [cell.waiting_on for cell in system.cells()] == [None, None, None]


async def test_an_actor_cannot_ask_itself(autojump_clock: MockClock, system: System) -> None:
    # ACT-35, SUP-176
    ref = await system.start(AsyncPuppet)

    async def asks_itself(me: AnyPuppet) -> object:
        with pytest.raises(DeadlockError):
            await me.ref.ask(Call(lambda me: 1), timeout=60)
        return "lives"

    assert await ref.ask(Call(asks_itself)) == "lives"
    assert trio.current_time() == 0


async def test_a_ring_through_on_start_fails_where_it_closes(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35: the classical deadlock of two actors that need each other to begin.
    server = await system.start(AsyncPuppet, name="server")

    async def asks_back(_: AnyPuppet) -> object:
        starting = system.whereis("starting")
        assert starting is not None
        try:
            return await cast("Ref[Call]", starting).ask(Call(lambda me: 1), timeout=60)
        except DeadlockError as error:
            return error.cycle

    async def on_start(me: AnyPuppet) -> None:
        cycles.append(await server.ask(Call(asks_back), timeout=60))

    cycles: list[object] = []
    await system.start(AsyncPuppet, None, on_start, name="starting")
    assert cycles == [("server", "starting", "server")]
    assert trio.current_time() == 0
    assert [cell.waiting_on for cell in system.cells()] == [None, None]


async def test_an_on_start_that_asks_whoever_starts_it_fails_at_once(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35: who waits for a start waits for it as for a reply.
    parent = await system.start(AsyncPuppet, name="parent")

    async def asks_back(_: AnyPuppet) -> None:
        await parent.ask(Call(lambda me: 1), timeout=60)

    async def starts(me: AnyPuppet) -> object:
        with pytest.raises(StartError) as caught:
            await me.system.start(AsyncPuppet, None, asks_back, name="child")
        assert me.cell.waiting_on is None
        return caught.value.cause

    error = await parent.ask(Call(starts), timeout=60)
    assert isinstance(error, DeadlockError)
    assert error.cycle == ("child", "parent", "child")
    assert trio.current_time() == 0


async def test_a_start_is_seen_while_a_handler_waits_for_it(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35, ACT-104
    parent = await system.start(AsyncPuppet)

    async def starts(me: AnyPuppet) -> None:
        with trio.move_on_after(1):
            await me.system.start(AsyncPuppet, None, sleeping(5), name="given up")
        await me.system.start(AsyncPuppet, None, sleeping(1), name="child")
        await trio.sleep(1)

    parent.tell(Do(starts))
    seen: list[object] = []
    for _ in range(3):
        await trio.sleep(0.9)
        seen.append(system.stats(parent).waiting_on)
    assert seen == ["given up", "child", None]


@pytest.mark.parametrize("stops", [False, True])
async def test_a_hook_cannot_wait_for_its_own_actor(
    autojump_clock: MockClock, system: System, stops: bool
) -> None:
    # ACT-35
    refused: list[tuple[str, ...]] = []

    async def waits_for_itself(me: AnyPuppet, _: object = None) -> None:
        with pytest.raises(DeadlockError) as caught:
            await (me.ref.stop(timeout=60) if stops else me.ref.ask(Call(raising(OSError())), 60))
        refused.append(caught.value.cycle)

    ref = await system.start(AsyncPuppet, None, waits_for_itself, waits_for_itself, name="a")
    await ref.stop()
    assert refused == [("a", "a")] * 2
    assert trio.current_time() == 0


async def test_the_ask_of_a_hook_is_seen_while_it_waits(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35, ACT-104
    server = await system.start(AsyncPuppet, name="server")
    server.tell(Do(sleeping(1)))

    async def asks(me: AnyPuppet, _: object = None) -> None:
        await server.ask(Call(lambda me: 1))

    ref = system.begin(AsyncPuppet, None, asks, asks)
    await trio.testing.wait_all_tasks_blocked()
    assert system.stats(ref).waiting_on == "server"
    await trio.sleep(2)
    assert system.stats(ref).waiting_on is None
    server.tell(Do(sleeping(1)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ref.stop)
        await trio.testing.wait_all_tasks_blocked()
        assert system.stats(ref).waiting_on == "server"


async def test_a_ring_through_an_ask_of_several_fails_where_it_closes(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35: each of them is waited for, as long as it has not replied.
    a = await system.start(AsyncPuppet, name="a")
    others = [await system.start(AsyncPuppet, name=name) for name in ("b", "c")]
    log: list[object] = []

    async def closes(me: AnyPuppet) -> object:
        await trio.sleep(1)
        try:
            return await a.ask(Call(lambda me: "late"), timeout=60)
        except DeadlockError as error:
            return error.cycle

    async def asks_all(me: AnyPuppet) -> object:
        replies, without = await me.system.ask_all(others, Call(closes), timeout=60)
        assert not without
        return list(replies.values())

    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            log.append(await a.ask(Call(asks_all), timeout=60))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert system.stats(a).waiting_on == "b, c"
    assert log == [[("b", "a", "b"), ("c", "a", "c")]]
    assert trio.current_time() == 1
    assert [cell.waiting_on for cell in system.cells()] == [None] * 3


async def test_one_of_several_that_has_replied_may_ask_back(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35
    a = await system.start(AsyncPuppet, name="a")
    quick, slow = await system.start(AsyncPuppet), await system.start(AsyncPuppet)
    slow.tell(Do(sleeping(2)))
    log: list[object] = []

    async def asks_back(me: AnyPuppet) -> None:
        log.append(await a.ask(Call(lambda me: "answered"), timeout=60))

    async def asks_all(me: AnyPuppet) -> None:
        with trio.move_on_after(1):
            await me.system.ask_all([slow], Call(lambda me: 1), timeout=60)
        # Cancelled: the edge has gone.
        assert me.cell.waiting_on is None
        await me.system.ask_all([quick, slow], Call(lambda me: 1), timeout=60)

    a.tell(Do(asks_all))
    await trio.sleep(1.5)
    assert system.stats(a).waiting_on == slow.path
    quick.tell(Do(asks_back))
    await trio.sleep(2)
    assert log == ["answered"]
    assert not system.reports.kept


class Narrow(AsyncPuppet):
    """Has room for one message."""

    capacity = 1


async def test_a_send_that_waits_for_room_is_seen(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35, ACT-104
    full, sender = await system.start(Narrow, name="full"), await system.start(AsyncPuppet)
    full.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    full.tell(Note("fills it"))

    def waiting_on() -> object:
        return system.stats(sender).waiting_on

    async def sends(_: AnyPuppet) -> None:
        await full.send(Note("waits"))
        # Let in: the edge has gone with the wait, before this task has run again.
        assert waiting_on() is None
        full.tell(Do(sleeping(5)))
        await trio.testing.wait_all_tasks_blocked()
        full.tell(Note("fills it again"))
        with pytest.raises(MailboxFull):
            await full.send(Note("waits again"), timeout=1)
        assert waiting_on() is None

    sender.tell(Do(sends))
    await trio.testing.wait_all_tasks_blocked()
    assert waiting_on() == "full"
    await trio.sleep(30)
    assert waiting_on() is None
    assert not system.reports.kept


@pytest.mark.parametrize("closed_by", ["send", "ask"])
async def test_a_ring_through_a_send_that_waits_fails_where_it_closes(
    autojump_clock: MockClock, system: System, closed_by: str
) -> None:
    # ACT-35: two actors with full lanes that send to each other would wait for ever, unseen.
    a, b = await system.start(Narrow, name="a"), await system.start(Narrow, name="b")
    cycles: list[tuple[str, ...]] = []

    async def sends_on(_: AnyPuppet) -> None:
        b.tell(Note("fills it"))
        await b.send(Note("from a"))

    async def closes(_: AnyPuppet) -> None:
        await trio.sleep(1)
        a.tell(Note("fills it"))
        try:
            if closed_by == "send":
                await a.send(Note("from b"))
            else:
                await a.ask(Call(lambda me: 1), timeout=60)
        except DeadlockError as error:
            cycles.append(error.cycle)

    b.tell(Do(closes))
    await trio.testing.wait_all_tasks_blocked()
    a.tell(Do(sends_on))
    await trio.sleep(2)
    assert cycles == [("b", "a", "b")]
    assert [cell.waiting_on for cell in system.cells()] == [None, None]
    assert [system.stats(ref).waiting_senders for ref in (a, b)] == [0, 0]
    assert not system.reports.kept
    assert not system.dead_letters.by_reason


async def test_a_handler_cannot_wait_for_room_in_its_own_mailbox(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35
    log: list[object] = []

    async def sends(me: AnyPuppet) -> None:
        await me.ref.send(Note("first"))
        with pytest.raises(DeadlockError):
            await me.ref.send(Note("second"))

    ref = await system.start(Narrow, log)
    await ref.ask(Call(sends), timeout=60)
    await trio.testing.wait_all_tasks_blocked()
    assert log == ["first"]
    assert trio.current_time() == 0


async def test_a_child_task_may_ask_its_own_actor(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35
    log: list[object] = []
    ref = await system.start(AsyncPuppet, log)

    async def child_task() -> None:
        log.append(await ref.ask(Call(lambda me: "answered")))

    ref.tell(Do(lambda me: me.start_soon(child_task)))
    await trio.sleep(1)
    assert log == ["answered"]


async def test_the_deadline_is_the_earliest_of_three(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-11, ACT-14
    back = await system.start(AsyncPuppet)
    front = await system.start(AsyncPuppet)
    seen: list[object] = []

    async def front_work(me: AnyPuppet) -> None:
        await trio.sleep(0.5)
        await back.ask(Call(lambda me: seen.append((me.deadline, me.remaining()))), timeout=60)

    await front.ask(Call(front_work), timeout=2)
    with trio.move_on_after(1):
        await back.ask(Call(lambda me: seen.append(me.deadline)), timeout=60)
    await back.ask(Call(lambda me: seen.append(me.deadline)), timeout=None)
    assert seen == [(2.0, 1.5), 1.5, math.inf]


async def test_an_expired_ask_is_never_handled(autojump_clock: MockClock, system: System) -> None:
    # ACT-13
    log: list[object] = []
    ref = await system.start(AsyncPuppet, log)
    ref.tell(Do(sleeping(1)))
    failures: list[object] = []

    async def asks() -> None:
        try:
            await ref.ask(Call(lambda me: log.append("ran")), timeout=0.1)
        except AskTimeout as error:
            failures.append(error.stage)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(asks)
    assert trio.current_time() == pytest.approx(0.1, abs=0.011)
    await trio.sleep(2)
    assert failures == ["queued"] * 100
    assert log == []
    assert system.dead_letters.by_reason["expired"] == 100


async def test_asks_never_fail_early_and_hardly_late(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-37
    ref = await system.start(AsyncPuppet)
    ref.tell(Do(sleeping(50)))
    lateness: list[float] = []

    async def asks(timeout: float) -> None:
        due = trio.current_time() + timeout
        with pytest.raises(AskTimeout):
            await ref.ask(Call(lambda me: 1), timeout=timeout)
        lateness.append(trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(asks, 0.5 + n * 0.0037)
    assert len(lateness) == 200
    assert min(lateness) >= 0
    assert max(lateness) <= 0.0101


@pytest.mark.parametrize("later", [False, True])
async def test_the_edge_goes_with_the_ask(
    autojump_clock: MockClock, system: System, later: bool
) -> None:
    # ACT-35: the asker has its reply, though its task has not run again.
    first, second = await system.start(AsyncPuppet), await system.start(AsyncPuppet)
    refused: list[DeadlockError] = []

    async def ask_back(me: AnyPuppet) -> None:
        try:
            await first.ask(Call(lambda me: 2))
        except DeadlockError as error:
            refused.append(error)

    async def reply_and_ask_back(me: AnyPuppet) -> object:
        owed = me.reply_later()
        owed.reply(1)
        await ask_back(me)
        return owed

    async def ask(me: AnyPuppet) -> object:
        return await second.ask(Call(reply_and_ask_back if later else lambda me: 1))

    second.tell(Do(sleeping(1)))
    first.tell(Do(ask))
    await trio.testing.wait_all_tasks_blocked()
    second.tell(Do(ask_back))
    await trio.sleep(5)
    assert refused == []


async def test_the_error_of_a_ring_tells_it_once_and_names_who_was_in_it(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-35: and gives no advice that would end in the same way
    refs = [await system.start(AsyncPuppet, name=name) for name in "abc"]

    def asking(number: int) -> Call:
        async def ask(_: AnyPuppet) -> object:
            return await refs[number % 3].ask(asking(number + 1))

        return Call(ask)

    with pytest.raises(ActorCrashed) as caught:
        await refs[0].ask(asking(1))
    text = str(caught.value)
    assert text.startswith("a crashed while it owed a reply to Call, as b, c did before it: ")
    assert text.count("DeadlockError: sending Call would wait for ever: c -> a -> b -> c.") == 1
    assert text.count("The message is lost") == 1
    assert "in ask). " in text
    assert "ask again" not in text
