"""One way to write the list."""

from dataclasses import dataclass

from actors.persistence import EVENTS, Projection, ProjectionTx, StoredEvent, event


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
        match EVENTS.decode(event):
            case Joined(name):
                tx.put(event.stream_id, {"name": name, "team": None})
            case Moved(team):
                person = await tx.get(event.stream_id)
                assert person is not None  # who moves has joined
                tx.put(event.stream_id, {**person, "team": team})
            case Left():
                tx.delete(event.stream_id)
