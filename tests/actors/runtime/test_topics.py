"""Topics: one message for all, in order, and nobody slowed by another."""

from __future__ import annotations

from typing import ClassVar

import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import AnyRef, Ref, Sink, System
from actors.runtime.life.cell import cell_of
from actors.testing import AsyncPuppet, Do, Note, Puppet, PuppetMessage, sleeping
from actors.testing.faults import Gate
from supervision import Supervisor, dynamic, open_system
from tests.actors.runtime.kit import Recorder


class Narrow(Puppet):
    capacity = 1


class Late(Puppet):
    logs: ClassVar[dict[str, list[object]]] = {}

    def __init__(self, key: str) -> None:
        super().__init__(self.logs[key])


class Keyed(Supervisor):
    logs = Late.logs
    many = dynamic(Late, key="key", restart="temporary")


async def test_publish_reaches_all_with_one_object(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-80, ACT-145
    logs: list[list[object]] = [[], []]
    refs = [await system.start(puppet, log) for log in logs]
    sink = Recorder()
    subscribers: list[AnyRef | Sink] = [*refs, sink, sink, refs[0]]
    for subscriber in subscribers:
        system.topics.subscribe("t", subscriber)
    assert system.topics.subscribers("t") == 3
    news = object()
    assert system.topics.publish("t", Note(news)) == 3
    await trio.testing.wait_all_tasks_blocked()
    assert logs == [[news], [news]]
    assert len(sink.got) == 1
    assert system.stats(refs[0]).topics == ("t",)
    system.topics.unsubscribe("t", refs[0])
    system.topics.unsubscribe("t", sink)
    system.topics.unsubscribe("t", sink)
    assert system.topics.publish("t", Note(1)) == 1
    system.topics.unsubscribe("t", refs[1])
    assert system.topics.publish("t", Note(1)) == 0
    assert system.topics.topics() == []


async def test_each_sees_the_order_and_a_stalled_one_slows_nobody(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-81
    class Small(AsyncPuppet):
        capacity = 3

    stalled: list[object] = []
    fast: list[object] = []
    slow_ref, fast_ref = await system.start(Small, stalled), await system.start(Puppet, fast)
    slow_ref.tell(Do(sleeping(1)))
    await trio.testing.wait_all_tasks_blocked()
    for ref in (slow_ref, fast_ref):
        system.topics.subscribe("t", ref)
    reached = [system.topics.publish("t", Note(n)) for n in range(5)]
    assert reached == [2, 2, 2, 1, 1]
    await trio.sleep(2)
    assert fast == [0, 1, 2, 3, 4]
    assert stalled == [0, 1, 2]
    assert system.stats(slow_ref).overflowed == 2


async def test_a_failing_sink_is_removed_and_gone_actors_are_unsubscribed(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-82
    bad, good = Recorder(), Recorder()
    bad.fails = True
    ref = await system.start(puppet)
    for subscriber in (bad, ref, good):
        system.topics.subscribe("t", subscriber)
    assert system.topics.publish("t", Note(1)) == 2
    assert good.got == [Note(1)]
    assert system.topics.failed_sinks == 1
    await ref.stop()
    assert system.topics.subscribers("t") == 1
    system.topics.subscribe("t", ref)
    assert system.topics.subscribers("t") == 1


async def test_subscribers_of_every_condition_get_it_once_and_before_a_later_tell(
    autojump_clock: MockClock,
) -> None:
    # ACT-80, ACT-81, ACT-28: parked in a task or without one, asleep, standing still, not started,
    # at work, full, and behind a gate
    logs: dict[str, list[object]] = {}
    async with open_system(Keyed) as root:
        system = root.system

        async def start(name: str, kind: type[Puppet]) -> Ref[PuppetMessage]:
            return await system.start(kind, logs.setdefault(name, []), name=name)

        refs = [await start("turns", Puppet), await start("task", AsyncPuppet)]  # type: ignore[arg-type]
        refs.append(await start("asleep", AsyncPuppet))  # type: ignore[arg-type]
        refs[-1].tell(Do(lambda me: me.hibernate()))
        refs.append(await start("gated", Puppet))
        passed: list[str] = []
        gate = Gate(cell_of(refs[-1]), lambda at, path, envelope: passed.append(path))
        gated = cell_of(refs[-1]).mailbox
        gated.gate = gate.take
        gated.renew_limit()
        refs += [await start("still", Puppet), await start("busy", AsyncPuppet)]  # type: ignore[arg-type]
        await system.suspend(refs[-2])
        refs[-1].tell(Do(sleeping(1)))
        refs.append(await start("narrow", Narrow))
        root.logs["late"] = logs["late"] = []
        refs.append(root.many["late"])
        await trio.testing.wait_all_tasks_blocked()
        for ref in refs:
            system.topics.subscribe("t", ref)
        assert system.topics.publish("t", Note("news")) == len(refs)
        assert system.topics.publish("t", Note("more")) == len(refs) - 1
        for ref in refs:
            ref.tell(Note("told"))
        await system.resume(refs[4])
        await trio.sleep(2)
        narrow = logs.pop("narrow")
        assert narrow == ["news"]
        assert logs == {name: ["news", "more", "told"] for name in logs}
        assert len(logs) == 7
        assert passed == ["gated"] * 3
        assert system.dead_letters.by_reason == {"overflow": 2}
