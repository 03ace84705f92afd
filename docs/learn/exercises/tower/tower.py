"""A tower of three: a log, a cache that is filled from it, and a desk that looks into the cache.

Write `Tower`, a supervisor with the children `log`, `cache` and `desk`, each a `Part`. When the
cache crashes, the desk behind it begins anew too, and the log stays as it is; a desk that crashes
is restarted alone. More than 2 crashes within 10 seconds are too many: then the tower gives up.
"""

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


class Tower(Supervisor):
    desk = child(Part)
