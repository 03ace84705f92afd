"""What the type checkers have to accept. Run by test_exits.py, never imported."""

from __future__ import annotations

from typing import assert_never

from actors.runtime import (
    Actor,
    Ask,
    Crashed,
    Exit,
    Killed,
    Later,
    Normal,
    Ref,
    Shutdown,
    System,
    message,
)


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
