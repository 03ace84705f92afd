"""One way to write the shelf."""

from actors.runtime import Actor, Ask, message


@message
class Put:
    item: str
    count: int = 1


@message
class Take(Ask[int]):
    item: str
    count: int


class Shelf(Actor[Put | Take]):
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def on_put(self, message: Put) -> None:
        self.counts[message.item] = self.counts.get(message.item, 0) + message.count

    def on_take(self, message: Take) -> int:
        there = self.counts.get(message.item, 0)
        taken = min(there, message.count)
        self.counts[message.item] = there - taken
        return taken
