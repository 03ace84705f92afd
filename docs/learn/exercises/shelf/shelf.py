"""A shelf: several people put things on it, and take from it.

Write the two handlers. `Put` adds to what lies there, and nobody waits for it. `Take` gives how
many were taken: as many as are asked for, or what there is, and they are gone from the shelf.
"""

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
    def on_put(self, message: Put) -> None:
        raise NotImplementedError

    def on_take(self, message: Take) -> int:
        raise NotImplementedError
