"""What the type checkers have to accept of the runtime. Run by test_surface.py, never imported."""

from __future__ import annotations

from functools import partial
from typing import Generic, TypeVar, assert_never

from actors.runtime import (
    Actor,
    AnyRef,
    Ask,
    Batch,
    ByName,
    Crashed,
    Exit,
    Killed,
    Later,
    Normal,
    Ref,
    Shutdown,
    System,
    message,
    narrow,
)
from actors.testing import Simulation


@message
class Add:
    item: str
    count: int = 1


@message
class Total(Ask[int]):
    item: str


class Stock(Actor[Add | Total]):
    def __init__(self, shelf: str) -> None:
        self.shelf = shelf
        self.counts: dict[str, int] = {}

    def on_add(self, message: Add) -> None:
        self.counts[message.item] = self.counts.get(message.item, 0) + message.count
        self.ref.tell(Add("x"))
        self.after(1.0, Add("y"))

    def on_total(self, message: Total) -> int | Later[int]:
        if not self.counts:
            return self.reply_later(message)
        return self.counts.get(message.item, 0)


def name_of(exit_: Exit) -> str:
    match exit_:
        case Normal():
            return "normal"
        case Shutdown(info):
            return f"shutdown {info}"
        case Killed():
            return "killed"
        case Crashed(error):
            return f"crashed {error}"
    assert_never(exit_)


async def use(system: System) -> int:
    stock = await system.start(Stock, "front", name="stock")
    stock.tell(Add("chair", 2))
    await stock.send(Add("chair"))
    narrow: Ref[Add] = stock
    narrow.tell(Add("table"))
    chairs = await stock.ask(Total("chair"), timeout=1.0)
    return chairs + 1


# Arguments by name, and options


class Shelf(Actor[Add]):
    def __init__(self, label: str, size: int = 1, *, name: str = "") -> None: ...

    def on_add(self, message: Add) -> None: ...


async def start(system: System) -> None:
    refs: list[Ref[Add]] = [
        await system.start(Shelf, "oak", 2, name="x"),
        await system.start(Shelf, label="oak", size=2),
        await system.start(Shelf, "oak", size=2),
        await system.start(partial(Shelf, "oak", size=2), name="x"),
        await system.start(partial(Shelf, "oak", name="y"), name="x"),
        system.begin(Shelf, label="oak"),
        await system.start(lambda: Shelf("oak")),
    ]
    maybe = await system.maybe_start(Shelf, label="oak")
    if maybe is not None:
        maybe.tell(Add("x"))
    print(refs)


async def simulate(sim: Simulation) -> None:
    refs: list[Ref[Add]] = [
        await sim.start(Shelf, "oak", name="x"),
        await sim.start(Shelf, label="oak", size=2),
        await sim.start(partial(Shelf, label="oak"), name="y"),
    ]
    sim.crash(refs[0], OSError())


# Refs found by name


async def find(system: System) -> None:
    found = system.whereis("stock", Stock)
    if found is not None:
        found.tell(Add("chair"))
    unknown: AnyRef | None = system.whereis("stock")
    if unknown is not None:
        narrow(unknown, Stock).tell(Add("chair"))
        await unknown.stop()
    ByName("stock", Stock).tell(Add("chair"))
    by_name: Ref[Add] = ByName("stock", Stock, system=system)
    print(by_name, await by_name.ask(Total("chair")) + 1)


# Figures


def figures(system: System, ref: AnyRef) -> int:
    stats = system.stats(ref)
    current = "" if stats.current is None else stats.current.message
    window = stats.restart_window
    used = 0 if window is None else window.used
    print(current, [timer.due for timer in stats.timers], [one.kind for one in stats.last_exits])
    print(stats.class_name, stats.to_json()["class"], system.status(ref).state)
    return used + stats.queued + system.totals().actors


# A base with handlers, to be extended

M = TypeVar("M")


class Adding(Actor[Add | M], Generic[M]):
    def on_add(self, message: Add) -> None: ...


class Counting(Adding[Total]):
    def on_total(self, message: Total) -> int:
        return 1


async def extended(system: System) -> int:
    ref = await system.start(Counting)
    ref.tell(Add("x"))
    both: Ref[Add | Total] = ref
    return await both.ask(Total("x"))


# Several at once


class Gathering(Actor[Add | Total]):
    async def on_total(self, totals: Batch[Total]) -> None:
        print([total.message.item for total in totals], len(totals), totals[0].deadline)
        for total in totals:
            with total as message:
                print(message.item)
            total.reply(1)

    def on_add(self, adds: Batch[Add]) -> None:
        for add in adds:
            add.done()
