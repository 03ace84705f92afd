"""A list of who is in which team, made of events.

Write `apply`. The list has one document a person, by the id of the stream, with the fields `name`
and `team`. Who joined has no team yet: None. Who left has no document any more. The same event may
come again after a crash, so write what holds then, and count nothing up.
"""

from dataclasses import dataclass

from actors.persistence import Projection, ProjectionTx, StoredEvent, event


@event()
@dataclass(frozen=True)
class Joined:
    name: str


@event()
@dataclass(frozen=True)
class Moved:
    team: str


@event()
@dataclass(frozen=True)
class Left:
    pass


class Roster(Projection):
    name, handles = "roster", (Joined, Moved, Left)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        raise NotImplementedError
