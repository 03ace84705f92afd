"""A program whose streams are read in these tests: shelves with books, lent to people."""

from __future__ import annotations

from dataclasses import dataclass, replace

from actors.persistence import (
    Aggregate,
    Decision,
    EventSourcedReducerActor,
    EventTypes,
    Private,
    Record,
)
from actors.reducers import Environment, Next, command, reducer

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class BookPlaced:
    title: str


@command
class PlaceBook:
    title: str


@TYPES.event(subject="reader:{reader}")
@dataclass(frozen=True)
class BookLent:
    title: str
    reader: str
    name: Private[str]


@TYPES.event()
@dataclass(frozen=True)
class ShelfBroke:
    """One that `apply` cannot bear."""


@dataclass(frozen=True)
class Books:
    titles: tuple[str, ...] = ()
    lent: int = 0
    last: Private[str] | None = None


class Shelf(Aggregate[Books, object, BookPlaced | BookLent | ShelfBroke]):
    category, state_type, types = "shelf", Books, TYPES

    def initial(self) -> Books:
        return Books()

    def decide(
        self, state: Books, command: object, env: Environment
    ) -> Decision[BookPlaced | BookLent | ShelfBroke]:
        return []

    def apply(self, state: Books, event: BookPlaced | BookLent | ShelfBroke) -> Books:
        match event:
            case BookPlaced(title):
                return replace(state, titles=(*state.titles, title))
            case BookLent(title):
                left = tuple(one for one in state.titles if one != title)
                return replace(state, titles=left, lent=state.lent + 1, last=event.name)
            case ShelfBroke():
                raise ValueError("nobody can know this shelf")


class OtherShelf(Shelf):
    category = "other"


@dataclass(frozen=True)
class Register:
    """What a reducer has made of books: the time and the ids of then are in it."""

    lines: tuple[str, ...] = ()


@reducer
def register(state: Register, action: BookPlaced | PlaceBook, env: Environment) -> Next[Register]:
    match action:
        case PlaceBook(title):
            return Next(state, Record(BookPlaced(title)))
        case BookPlaced(title):
            line = f"{title} {env.ids.new_id()} {env.clock.now().isoformat()}"
            return Next(Register((*state.lines, line)))


class RegisterActor(EventSourcedReducerActor[Register, BookPlaced | PlaceBook]):
    reducer = register
    category, types = "register", TYPES

    def initial(self) -> Register:
        return Register()
