"""Event classes that are renamed, raised or split: what old rows are read as, what is refused."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, make_dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest

from actors.persistence import (
    Aggregate,
    AggregateActor,
    AggregateContractError,
    CodecError,
    Cursor,
    Decision,
    EventTypes,
    NewEvent,
    Projection,
    ProjectionRunner,
    StoredEvent,
    StreamId,
    UnknownEventType,
    ask_state,
)
from actors.persistence.aggregate import check_aggregate, schema_tag
from actors.reducers import Environment
from actors.runtime import open_actors
from storage.memory import MemoryEventStore, MemoryProjections, MemorySnapshots
from tests.actors.persistence.accounts import environment

Fields = dict[str, object]


@dataclass(frozen=True)
class Opened:
    customer: str


@dataclass(frozen=True)
class Added:
    item: str
    count: int = 1


@dataclass(frozen=True)
class Closed:
    pass


def stored(type_: str, version: int, data: bytes, at: int = 7) -> StoredEvent:
    """An event as it came from a store."""
    now = datetime(2025, 1, 1, tzinfo=UTC)
    return StoredEvent(
        "order-1", at, Cursor(1, at), UUID(int=at), type_, version, "json", data, {}, None, now
    )


def types_of_today() -> EventTypes:
    """`Opened` was `Begun`; `Placed` is split, and its v1 was called something else."""
    types = EventTypes()
    types.event(version=2, aliases=["Begun"])(Opened)
    types.event()(Added)
    types.event()(Closed)

    @types.upcaster("Begun.v1", "Opened.v2")
    def named(fields: Fields) -> Fields:
        return {"customer": str(fields["name"])}

    @types.upcaster("Ordered.v1", "Placed.v2")
    def listed(fields: Fields) -> Fields:
        return {**fields, "items": [fields["item"]]}

    @types.splitter("Placed.v2", "Begun.v1", "Added.v1", "Closed.v1")
    def apart(fields: Fields) -> Iterable[tuple[str, Fields]]:
        yield "Begun.v1", {"name": fields["customer"]}
        items = fields["items"]
        assert isinstance(items, list)
        for item in items:
            yield "Added.v1", {"item": item}
        if fields.get("is_closed"):
            yield "Closed.v1", {}

    @types.splitter("Beaten.v1")
    def nothing(fields: Fields) -> Iterable[tuple[str, Fields]]:
        return []

    types.check()
    return types


def test_a_former_name_is_read_as_the_class_of_today() -> None:
    # STORE-41
    types = types_of_today()
    assert types.decode(stored("Begun", 1, b'{"name": "ann"}')) == Opened("ann")
    assert types.decode(stored("Begun", 2, b'{"customer": "ann"}')) == Opened("ann")
    assert types.decode(stored("Opened", 1, b'{"name": "ann"}')) == Opened("ann")
    assert types.encode(Opened("ann"), event_id=UUID(int=1)).type == "Opened"
    assert types.knows(stored("Begun", 1, b"{}"))
    assert not types.knows(stored("Elsewhere", 1, b"{}"))


def test_one_stored_event_is_read_as_several_in_order_or_as_none() -> None:
    # STORE-41
    types = types_of_today()
    old = b'{"customer": "ann", "items": ["tea", "jam"], "is_closed": true}'
    assert types.decode_all(stored("Placed", 2, old)) == [
        Opened("ann"),
        Added("tea"),
        Added("jam"),
        Closed(),
    ]
    older = b'{"customer": "bob", "item": "tea"}'
    assert types.decode_all(stored("Ordered", 1, older)) == [Opened("bob"), Added("tea")]
    assert types.decode_all(stored("Beaten", 1, b"{}")) == []
    assert types.decode_all(stored("Added", 1, b'{"item": "x"}')) == (Added("x"),)
    for name, version, data, count in (("Placed", 2, old, 4), ("Beaten", 1, b"{}", 0)):
        with pytest.raises(CodecError, match=f"as {count} events today"):
            types.decode(stored(name, version, data))


def test_parts_stand_where_their_event_stands() -> None:
    # STORE-41: their order is that of `part`, whichever of them are wanted
    types = types_of_today()
    event = stored("Placed", 2, b'{"customer": "ann", "items": ["tea", "jam"]}')
    parts = types.parts(event)
    assert [(one.type, one.schema_version, one.part) for one in parts] == [
        ("Opened", 2, 0),
        ("Added", 1, 1),
        ("Added", 1, 2),
    ]
    places = {(one.event_id, one.version, one.cursor) for one in parts}
    assert places == {(event.event_id, event.version, event.cursor)}
    assert [types.decode(one) for one in parts] == [Opened("ann"), Added("tea"), Added("jam")]
    assert [one.part for one in types.parts(event, [Added])] == [1, 2]
    assert types.parts(event, [Closed]) == []
    # What is not split is given as it is stored, and what is not wanted is not given.
    for name, version in (("Begun", 1), ("Opened", 2)):
        same = stored(name, version, b"{}")
        assert types.parts(same, [Opened]) == (same,)
        assert types.parts(same, [Added]) == ()
    assert types.parts(stored("Beaten", 1, b"{}")) == []
    # One that no road leads on from is told by `decode`, to whom it concerns.
    unread = stored("Opened", 9, b"{}")
    assert (types.parts(unread, [Opened]), types.parts(unread, [Added])) == ((unread,), ())


def test_what_is_declared_later_counts_from_then_on() -> None:
    # STORE-41: modules are imported one after the other
    types = EventTypes()
    types.event()(Added)
    types.event()(Closed)
    old = stored("Old", 1, b'{"item": "x"}')
    renamed = stored("Put", 1, b'{"item": "x"}')
    unknown = [types.parts(one, [Added]) for one in (old, renamed)]
    assert unknown == [(), ()]
    types.event(aliases=["Put"])(Added)
    assert types.parts(renamed, [Added]) == (renamed,)
    types.splitter("Old.v1", "Added.v1", "Closed.v1")(lambda fields: [("Added.v1", fields)])
    assert [types.decode(one) for one in types.parts(old, [Added])] == [Added("x")]
    assert types.stored_as(Added) == ["Added", "Old", "Put"]


def test_filters_know_the_names_of_before() -> None:
    # STORE-41
    types = types_of_today()
    assert types.stored_as(Opened) == ["Begun", "Opened", "Ordered", "Placed"]
    assert types.stored_as(Added) == ["Added", "Ordered", "Placed"]
    assert types.widened(["Added", "Elsewhere"]) == ["Added", "Elsewhere", "Ordered", "Placed"]
    # A name of before is looked for as it is: only rows stored under it.
    assert types.widened(["Begun"]) == ["Begun"]
    assert types.widened([]) == []
    assert types.widened(None) is None


def _step(fields: Fields) -> Fields:
    return fields


def _none(fields: Fields) -> Iterable[tuple[str, Fields]]:
    return []


def _missing(types: EventTypes) -> None:
    types.upcaster("Opened.v1", "Opened.v2")(_step)


def _classless(types: EventTypes) -> None:
    types.upcaster("Gone.v1", "GoneToo.v1")(_step)


def _circle(types: EventTypes) -> None:
    types.upcaster("A.v1", "B.v1")(_step)
    types.splitter("B.v1", "Added.v1", "A.v1")(_none)


def _twice(types: EventTypes) -> None:
    types.upcaster("Opened.v2", "Opened.v3")(_step)
    types.upcaster("Opened.v2", "Added.v1")(_step)


def _twice_by_alias(types: EventTypes) -> None:
    types.event(aliases=["Shut"], version=2)(Closed)
    types.upcaster("Closed.v1", "Closed.v2")(_step)
    types.upcaster("Shut.v1", "Shut.v2")(_step)


def _live_alias(types: EventTypes) -> None:
    types.event(aliases=["Added"])(Closed)


def _alias_made_live(types: EventTypes) -> None:
    types.event(aliases=["Late"])(Closed)
    types.event(name="Late")(Opened)


def _alias_of_two(types: EventTypes) -> None:
    types.event(aliases=["Same"])(Closed)
    types.event(name="Other", aliases=["Same"])(Opened)


def _alias_of_itself(types: EventTypes) -> None:
    types.event(aliases=["Closed"])(Closed)


def _one_text(types: EventTypes) -> None:
    types.event(aliases="Shut")(Closed)


def _with_version(types: EventTypes) -> None:
    types.event(aliases=["Shut.v1"])(Closed)


def _from_today(types: EventTypes) -> None:
    types.upcaster("Added.v1", "Opened.v3")(_step)


def _downwards(types: EventTypes) -> None:
    types.splitter("Opened.v2", "Added.v1", "Opened.v1")(_none)


@pytest.mark.parametrize(
    ("declare", "word"),
    [
        (_missing, r"from Opened\.v2 is missing"),
        (_classless, "no class: there is no GoneToo"),
        (_circle, r"circle: A\.v1 to B\.v1 to A\.v1"),
        (_twice, "already"),
        (_twice_by_alias, "one place"),
        (_live_alias, "Added is the name of an event and an alias of Closed"),
        (_alias_made_live, "Late is the name of an event and an alias of Closed"),
        (_alias_of_two, "Same is an alias of Closed and of Other"),
        (_alias_of_itself, "Closed is the name of an event and an alias"),
        (_one_text, "one text"),
        (_with_version, "no plain name"),
        (_from_today, r"Added\.v1 has an upcaster, the class is v1"),
        (_downwards, "versions go up"),
    ],
)
def test_roads_that_lead_nowhere_are_refused_at_start(
    declare: Callable[[EventTypes], None], word: str
) -> None:
    # STORE-41
    types = EventTypes()
    types.event(version=3)(Opened)
    types.event()(Added)
    types.check()

    def declare_and_check() -> None:
        declare(types)
        types.check()

    with pytest.raises(TypeError, match=word):
        declare_and_check()


def _not_declared(fields: Fields) -> Iterable[tuple[str, Fields]]:
    yield "Closed.v1", {}


def _no_pairs(fields: Fields) -> Iterable[tuple[str, Fields]]:
    return ["Added.v1"]  # type: ignore[list-item]  # what is tested


def _no_iterable(fields: Fields) -> Iterable[tuple[str, Fields]]:
    return 7  # type: ignore[return-value]  # what is tested


def _half_way(fields: Fields) -> Iterable[tuple[str, Fields]]:
    yield "Added.v1", {"item": "x"}
    raise KeyError("secret of a customer")


def _for_ever(fields: Fields) -> Iterable[tuple[str, Fields]]:
    while True:
        yield "Added.v1", {"item": "x"}


def _no_json(fields: Fields) -> Iterable[tuple[str, Fields]]:
    yield "Added.v1", {"item": object()}


def _no_fields(fields: Fields) -> Iterable[tuple[str, Fields]]:
    yield "Added.v1", {"item": 5}


@pytest.mark.parametrize(
    ("split", "type_", "field", "word"),
    [
        (_not_declared, "Old.v1", "$", r"gave Closed\.v1, not declared"),
        (_no_pairs, "Old.v1", "$", "raised ValueError"),
        (_no_iterable, "Old.v1", "$", "raised TypeError"),
        (_half_way, "Old.v1", "$", "_half_way raised KeyError"),
        (_for_ever, "Old.v1", "$", "more than 1000 events"),
        (_no_json, "Added.v1", "$", "JSON cannot hold"),
        (_no_fields, "Old", "$.item", "Expected `str`"),
    ],
)
def test_a_splitter_that_fails_is_a_codec_error(
    split: Callable[[Fields], Iterable[tuple[str, Fields]]], type_: str, field: str, word: str
) -> None:
    # STORE-42: with type, version, field and reason, and without what is stored
    types = EventTypes()
    types.event()(Added)
    types.event()(Closed)
    types.splitter("Old.v1", "Added.v1")(split)
    with pytest.raises(CodecError, match=word) as caught:
        types.decode_all(stored("Old", 1, b"{}"))
    error = caught.value
    assert (error.event_type, error.version, error.field) == (type_, 7, field)
    assert "secret" not in str(error)


def test_what_no_road_leads_on_from_says_so() -> None:
    # STORE-42
    types = types_of_today()
    with pytest.raises(UnknownEventType):
        types.decode_all(stored("Elsewhere", 1, b"{}"))
    with pytest.raises(CodecError, match="no upcaster leads to v2"):
        types.decode_all(stored("Begun", 9, b"{}"))
    with pytest.raises(CodecError, match="no upcaster leads on"):
        types.decode_all(stored("Placed", 1, b"{}"))
    with pytest.raises(CodecError):
        types.decode_all(stored("Placed", 2, b"\xff"))
    circle = EventTypes()
    circle.upcaster("A.v1", "B.v1")(_step)
    circle.upcaster("B.v1", "A.v1")(_step)
    with pytest.raises(CodecError, match="no end"):
        circle.decode_all(stored("A", 1, b"{}"))


def _drawn(drawn: random.Random) -> tuple[EventTypes, list[type], list[str]]:
    """Some classes with some aliases, and some steps between any names; mostly nonsense."""
    types, classes, places = EventTypes(), list[type](), list[str]()

    def place() -> str:
        return f"{drawn.choice('ABCXY')}.v{drawn.randint(1, 3)}"

    for name in "ABC":
        if drawn.random() < 0.8:
            aliases = [one for one in "XYZ" if drawn.random() < 0.15]
            classes.append(make_dataclass(name, [], frozen=True))
            types.event(version=drawn.randint(1, 3), aliases=aliases)(classes[-1])
    for _ in range(drawn.randint(0, 5)):
        old, new = place(), [place() for _ in range(drawn.randint(0, 3))]
        places.append(old)
        if len(new) == 1:
            types.upcaster(old, new[0])(_step)
        else:
            types.splitter(old, *new)(lambda fields, new=new: [(one, fields) for one in new])  # type: ignore[misc]
    types.check()
    return types, classes, places


def test_what_the_check_lets_through_is_read_to_its_end() -> None:
    # STORE-41: by all readers alike, and found by every filter
    let_through = 0
    for seed in range(1000):
        try:
            types, classes, places = _drawn(random.Random(seed))
        except TypeError:
            continue
        let_through += bool(places)
        for name, _, version in (one.partition(".v") for one in places):
            event = stored(name, int(version), b"{}")
            whole = types.decode_all(event)
            assert [types.decode(part) for part in types.parts(event)] == whole
            for cls in classes:
                mine = [one for one in whole if type(one) is cls]
                assert [types.decode(part) for part in types.parts(event, [cls])] == mine
                assert not mine or name in types.stored_as(cls)
    assert let_through > 20


class Orders(Aggregate[int, int, Opened | Added | Closed]):
    """Counts items, and a hundred for each opening."""

    category, state_type = "order", int
    types = types_of_today()

    def initial(self) -> int:
        return 0

    def decide(self, state: int, command: int, env: Environment) -> Decision[Added]:
        return []

    def apply(self, state: int, event: Opened | Added | Closed) -> int:
        match event:
            case Opened():
                return state + 100
            case Added():
                return state + event.count
            case Closed():
                return -state


async def test_an_aggregate_applies_all_parts_of_a_version() -> None:
    # STORE-41: versions are those of what is stored
    store = MemoryEventStore()
    data = b'{"customer": "ann", "items": ["tea", "jam"]}'
    events = [
        NewEvent(event_id=UUID(int=1), type="Begun", data=b'{"name": "ann"}'),
        NewEvent(event_id=UUID(int=2), type="Placed", schema_version=2, data=data),
        NewEvent(event_id=UUID(int=3), type="Beaten", data=b"{}"),
    ]
    await store.append(StreamId("order-1"), events)
    async with open_actors() as system:
        ref = await system.start(lambda: AggregateActor(Orders(), "1", store, environment()))
        assert await ask_state(ref) == (3, 202)


def test_other_upcasters_are_another_state() -> None:
    # STORE-40: a snapshot of before is not what a replay comes to now
    class Raised(Orders):
        types = EventTypes()

    Raised.types.event(version=2)(Opened)
    Raised.types.event()(Added)
    Raised.types.event(version=2)(Closed)
    bare = schema_tag(Raised())
    Raised.types.upcaster("Closed.v1", "Closed.v2")(_step)
    raised = schema_tag(Raised())
    Raised.types.splitter("Elsewhere.v1")(_none)
    assert bare != raised == schema_tag(Raised())
    Raised.types.event(aliases=["Shut"], version=2)(Closed)
    assert raised == schema_tag(Raised())  # another name is the same state


def test_who_starts_with_roads_that_lead_nowhere_is_refused() -> None:
    # STORE-41
    class Lost(Orders):
        types = EventTypes()

    class Apart(Orders):
        types = EventTypes()

        def apply(self, state: int, event: Added) -> int:  # type: ignore[override]  # what is tested
            return state

    class Seen(Projection):
        name, handles = "seen", (Added,)
        types = Lost.types

    for types in (Lost.types, Apart.types):
        for cls in (Opened, Added, Closed):
            types.event()(cls)
    Apart.types.splitter("Old.v1", "Opened.v1", "Added.v1")(_none)
    with pytest.raises(AggregateContractError, match="has Opened too"):
        check_aggregate(Apart())
    Lost.types.upcaster("Gone.v1", "Gone.v2")(_step)
    with pytest.raises(AggregateContractError, match="no Gone"):
        AggregateActor(Lost(), "1", MemoryEventStore(), environment(), snapshots=MemorySnapshots())
    with pytest.raises(TypeError, match="no Gone"):
        ProjectionRunner(Seen(), MemoryEventStore(), MemoryProjections())
