"""How long one turn of the loop is at most, whatever is queued, held or sent (ACT-29, PERF-17).

Processor time of the loop's thread, so what else the machine does is not counted; nor is the
garbage collector, which goes through all objects of the program when it likes to. The tasks that a
turn wakes belong to it, and here they are the program's: small ones.
"""

from __future__ import annotations

import gc
from collections import UserList
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import thread_time

import structlog
import trio
import trio.testing

from actors.runtime import (
    UNBOUNDED,
    Actor,
    Ask,
    AskError,
    Ref,
    System,
    latest,
    message,
    open_actors,
)
from tests.bench.rows import Benchmark, Row, row

RUNS = 3
MANY = 50_000
# Actors, and tasks that wait: each is some kilobytes.
FEWER = 20_000
ENTRIES = 100_000
# Writing down is the terminal's speed, not ours.
LOG_NOTHING = structlog.make_filtering_bound_logger(50)
TARGET = "<= 5 ms"


@message
class Note:
    number: int


@message
class Get(Ask[int]):
    pass


@message
class Fail:
    pass


class Holder(Actor[Note | Get | Fail]):
    """Holds what it is given."""

    capacity = UNBOUNDED

    def __init__(self, held: object = None, peer: Ref[Note] | None = None) -> None:
        self.held, self.peer = held, peer

    def on_start(self) -> None:
        pass

    def on_note(self, message: Note) -> None:
        pass

    def on_get(self, message: Get) -> int:
        return 1

    def on_fail(self, message: Fail) -> None:
        raise RuntimeError("on purpose")


class Timed(Holder):
    def on_start(self) -> None:
        for number in range(MANY):
            self.after(1000.0 + number, Note(number))


class Watching(Holder):
    def on_start(self) -> None:
        assert self.peer is not None
        self.monitor(self.peer)


class Linked(Holder):
    def on_start(self) -> None:
        assert self.peer is not None
        self.link(self.peer)


class Narrow(Holder):
    capacity = 1


class Newest(Holder):
    capacity = MANY
    overflow = latest(lambda message: message.number)  # type: ignore[attr-defined]


class LongestTurn(trio.abc.Instrument):
    """The longest turn so far, in milliseconds."""

    def __init__(self) -> None:
        self._began = thread_time()
        self.ms = 0.0

    def after_io_wait(self, timeout: float) -> None:
        """Called by trio as a turn begins."""
        self._began = thread_time()

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio as a turn ends."""
        self.ms = max(self.ms, (thread_time() - self._began) * 1e3)


async def longest_turn(system: System, work: Callable[[], Awaitable[object]]) -> float:
    """The longest turn while `work` goes on, and until nothing is left to do."""
    gc.collect()
    gc.disable()
    turns = LongestTurn()
    await trio.lowlevel.checkpoint()
    trio.lowlevel.add_instrument(turns)
    try:
        await work()
        await system.dispatcher.finish_chores()
        await trio.lowlevel.checkpoint()
    finally:
        trio.lowlevel.remove_instrument(turns)
        gc.enable()
    return turns.ms


Found = Callable[[System], Awaitable[float]]


async def crash(system: System, ref: Ref[Note | Get | Fail]) -> float:
    async def work() -> None:
        ref.tell(Fail())
        await system.wait_down(ref)

    return await longest_turn(system, work)


async def crash_holding(held: Callable[[], object], system: System) -> float:
    return await crash(system, await system.start(Holder, held()))


async def look_at(held: Callable[[], object], system: System) -> float:
    ref = await system.start(Holder, held())
    kept: list[object] = []

    async def work() -> None:
        kept.append(system.status(ref))

    return await longest_turn(system, work)


async def copy_of(held: Callable[[], object], system: System) -> float:
    ref = await system.start(Holder, held())
    kept: list[object] = []

    async def work() -> None:
        kept.append(await system.get_state(ref))

    return await longest_turn(system, work)


async def bury(system: System) -> float:
    ref = await system.start(Holder)
    await system.suspend(ref)
    for number in range(MANY):
        ref.tell(Note(number))
    return await longest_turn(system, ref.stop)


async def end_timed(system: System) -> float:
    ref = await system.start(Timed)
    return await longest_turn(system, ref.stop)


async def end_known(kind: type[Holder], system: System) -> float:
    peer = await system.start(Holder)
    for _ in range(FEWER):
        await system.start(kind, None, peer)
    return await crash(system, peer)


async def end_subscribed(system: System) -> float:
    ref = await system.start(Holder)
    for number in range(MANY):
        system.topics.subscribe(str(number), ref)
    return await longest_turn(system, ref.stop)


async def until_all_end(
    system: System, wait: Callable[[], Awaitable[object]], how: Callable[[], None]
) -> float:
    """The longest turn from `how` until FEWER tasks that wait have ended."""
    left, ended = FEWER, trio.Event()

    async def one() -> None:
        nonlocal left
        with suppress(AskError):
            await wait()
        left -= 1
        if not left:
            ended.set()

    async with trio.open_nursery() as nursery:
        for _ in range(FEWER):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()

        async def work() -> None:
            how()
            await ended.wait()

        return await longest_turn(system, work)


async def asks_end(is_killed: bool, system: System) -> float:
    ref = await system.start(Holder)
    await system.suspend(ref)
    wait = partial(ref.ask, Get(), timeout=30.0)
    return await until_all_end(system, wait, ref.kill if is_killed else lambda: None)


async def sends_end(is_killed: bool, system: System) -> float:
    ref = await system.start(Narrow)
    await system.suspend(ref)
    ref.tell(Note(0))
    async with trio.open_nursery() as nursery:
        resume = partial(nursery.start_soon, system.resume, ref)
        return await until_all_end(
            system, partial(ref.send, Note(1)), ref.kill if is_killed else resume
        )


async def overflow(system: System) -> float:
    ref = await system.start(Newest)
    await system.suspend(ref)

    async def work() -> None:
        for number in range(MANY + 1000):
            ref.tell(Note(-number))
            if number % 100 == 0:
                await trio.lowlevel.checkpoint()

    return await longest_turn(system, work)


async def publish(system: System) -> float:
    for _ in range(FEWER):
        system.topics.subscribe("news", await system.start(Holder))

    async def work() -> None:
        system.topics.publish("news", Note(1))
        await trio.testing.wait_all_tasks_blocked()

    return await longest_turn(system, work)


def rows_of(count: int) -> dict[str, object]:
    return {f"r{n}": {"members": [n, n + 1], "n": n} for n in range(count)}


def table() -> object:
    return rows_of(ENTRIES)


def wrapped() -> object:
    return UserList(rows_of(ENTRIES).values())


def nested() -> object:
    return {"all": [(tuple(rows_of(ENTRIES).values()),)]}


def wide() -> object:
    return [rows_of(100) for _ in range(ENTRIES // 100)]


FOUND: dict[str, Found] = {
    f"burial of {MANY} messages": bury,
    f"end of one with {MANY} timers": end_timed,
    f"end of one with {MANY} subscriptions": end_subscribed,
    f"crash of one that {FEWER} watch": partial(end_known, Watching),
    f"crash of one that {FEWER} are linked to": partial(end_known, Linked),
    f"{FEWER} asks that are due at once": partial(asks_end, False),
    f"{FEWER} asks of one that is killed": partial(asks_end, True),
    f"{FEWER} senders of one that is killed": partial(sends_end, True),
    f"{FEWER} senders that get room": partial(sends_end, False),
    f"tells to a full mailbox of {MANY}, latest(key)": overflow,
    f"publish to {FEWER}": publish,
    **{
        f"{what}, {ENTRIES} entries {how}": partial(work, held)
        for what, work in (("crash", crash_holding), ("status", look_at), ("get_state", copy_of))
        for how, held in (
            ("in a dictionary", table),
            ("in a UserList", wrapped),
            ("in a tuple, deep", nested),
            ("in a thousand", wide),
        )
    },
}


def measured(found: Found) -> float:
    async def main() -> float:
        async with open_actors() as system:
            return await found(system)

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))


def turns() -> list[Row]:
    """One row for each; the first run is a warm-up."""
    structlog.configure(wrapper_class=LOG_NOTHING)
    made: list[Row] = []
    for name, found in FOUND.items():
        runs = [measured(found) for _ in range(RUNS + 1)][1:]
        made.append(row(name, "ms", runs, target=TARGET, is_lower_better=True))
    return made


benchmarks: list[Benchmark] = [turns]
