"""One way to write the tower."""

from actors.runtime import Actor, Ask, message
from supervision import Supervisor, child


@message
class Crash:
    pass


@message
class Life(Ask[int]):
    """How many messages it has had since it began."""


class Part(Actor[Crash | Life]):
    def __init__(self) -> None:
        self.had = 0

    def on_crash(self, message: Crash) -> None:
        raise ValueError("as told")

    def on_life(self, message: Life) -> int:
        self.had += 1
        return self.had


class Tower(Supervisor, strategy="rest_for_one", intensity=2, period=10.0):
    log = child(Part)
    cache = child(Part)
    desk = child(Part)
