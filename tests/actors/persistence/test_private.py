"""Private fields of event classes: what they show, how they are taken apart, what is refused."""

import copy
import pickle
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
import trio

from actors.persistence import (
    ERASED,
    PRIVATE_CODEC,
    CodecError,
    EventTypes,
    InvalidField,
    KeyringMissing,
    NewEvent,
    Opened,
    Private,
    StoredEvent,
    StreamId,
)
from actors.runtime import Actor, Secret, message, open_actors
from storage.keyring import SubjectKeyring
from storage.memory import MemoryDatabase, MemoryEventStore, MemorySubjectKeys

TYPES = EventTypes()
_GOLDEN = Path(__file__).parent / "golden"


@TYPES.event(version=2, subject="customer:{customer}")
@dataclass(frozen=True)
class Moved:
    customer: str
    street: Private[str]
    at: datetime
    former: Private[tuple[str, ...]] | None = None


@TYPES.upcaster("Moved.v1", "Moved.v2")
def _street_was_address(fields: dict[str, object]) -> dict[str, object]:
    address = fields.pop("address")
    if address == "poison":
        raise ValueError(f"no street in {address}")
    return {**fields, "street": address if address is ERASED else f"{address} Street"}


@TYPES.event(subject="who")
class Tagged(msgspec.Struct, frozen=True, tag="t", rename="camel"):
    who: int
    the_text: Private[str]


_AT = datetime(2026, 1, 1, tzinfo=UTC)
MOVED = Moved("ann", Private("High Street"), _AT, Private(("Low Street", "Mid Street")))


def encoded(fact: object, types: EventTypes = TYPES) -> NewEvent:
    return types.encode(fact, event_id=UUID(int=1))


def stored(new: NewEvent, opened: Opened | None) -> StoredEvent:
    return StoredEvent(
        "customer-ann",
        1,
        (1, 1),  # type: ignore[arg-type]
        new.event_id,
        new.type,
        new.schema_version,
        new.codec,
        new.data,
        {},
        None,
        _AT,
        private=opened,
    )


def opened_of(new: NewEvent) -> Opened:
    assert new.private is not None
    return Opened(new.private.subjects, new.private.fields())


def test_a_private_value_shows_nothing() -> None:
    # STORE-44, SEC-131
    value = Private("High Street")
    for shown in (repr(value), str(value), f"{value:>30}", repr(MOVED), repr([value])):
        assert "High" not in shown
    assert repr(value) == "Private(***)"
    assert (value.reveal(), value.or_else("-"), value.is_erased) == (
        "High Street",
        "High Street",
        0,
    )
    assert copy.deepcopy(value) is value
    assert copy.copy(value) is value
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(value)
    new = encoded(MOVED)
    for held in (new, stored(new, opened_of(new)), new.private, opened_of(new)):
        assert "High" not in repr(held)
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(new.private)


def test_an_erased_value_is_told_from_its_letters() -> None:
    # STORE-44
    erased = Private[str](ERASED)
    assert (str(erased), repr(erased), erased.or_else("-")) == ("ERASED", "Private(ERASED)", "-")
    assert erased == Private(ERASED)
    assert erased != Private("ERASED")
    assert Private("ERASED") == Private("ERASED")
    assert len({erased, Private("ERASED"), Private(ERASED), Private("a")}) == 3
    assert Private("a") != "a"


def test_what_is_private_stands_beside_the_bytes() -> None:
    # STORE-43, STORE-44: the golden bytes are those of the rest
    new = encoded(MOVED)
    assert new.data == (_GOLDEN / "Moved.v2.json").read_bytes().rstrip(b"\n")
    assert new.codec == PRIVATE_CODEC
    assert new.private is not None
    assert new.private.subjects == ("customer:ann",)
    assert new.private.fields() == {
        "street": b'"High Street"',
        "former": b'["Low Street","Mid Street"]',
    }
    assert TYPES.decode(stored(new, opened_of(new))) == MOVED
    with pytest.raises(KeyringMissing):
        TYPES.decode(stored(new, None))


def test_a_struct_with_names_of_its_own_goes_through() -> None:
    # STORE-44
    fact = Tagged(7, Private("ü \n"))
    new = encoded(fact)
    assert msgspec.json.decode(new.data) == {"type": "t", "who": 7}
    assert new.private is not None
    assert new.private.subjects == ("7",)
    assert list(new.private.fields()) == ["theText"]
    assert TYPES.decode(stored(new, opened_of(new))) == fact


def test_a_field_that_was_not_private_before_is_read() -> None:
    # STORE-44: what stands in clear from before is read, and cannot be forgotten
    old = NewEvent(UUID(int=1), "Tagged", b'{"type":"t","who":7,"theText":"x"}')
    assert TYPES.decode(stored(old, None)) == Tagged(7, Private("x"))


def test_upcasters_see_values_and_erased_ones() -> None:
    # STORE-41, STORE-44
    old = NewEvent(
        UUID(int=1),
        "Moved",
        b'{"customer":"ann","at":"2026-01-01T00:00:00Z","$private":{"keys":{},"fields":{}}}',
        codec=PRIVATE_CODEC,
    )
    high = stored(old, Opened(("customer:ann",), {"address": b'"High"'}))
    assert TYPES.decode(high) == replace(MOVED, former=None)
    gone = stored(old, Opened(("customer:ann",), {"address": None}))
    assert TYPES.decode(gone) == Moved("ann", Private(ERASED), _AT)
    poison = stored(old, Opened(("customer:ann",), {"address": b'"poison"'}))
    with pytest.raises(CodecError) as caught:
        TYPES.decode(poison)
    assert "in poison" not in "".join(traceback.format_exception(caught.value))


@TYPES.event(subject="customer")
@dataclass(frozen=True)
class Left:
    customer: str
    street: Private[str]


@TYPES.event()
@dataclass(frozen=True)
class Counted:
    customer: str


@TYPES.splitter("Relocated.v1", "Left.v1", "Counted.v1", "Left.v1")
def _both(fields: dict[str, object]) -> Iterable[tuple[str, dict[str, object]]]:
    customer = fields["customer"]
    yield "Left.v1", {"customer": customer, "street": fields["from"]}
    yield "Counted.v1", {"customer": customer}
    yield "Left.v1", {"customer": customer, "street": fields["to"]}


def test_a_split_event_keeps_what_is_private_beside_its_parts() -> None:
    # STORE-41, STORE-44: also the part that an erased text becomes
    old = NewEvent(UUID(int=1), "Relocated", b'{"customer":"ann"}', codec=PRIVATE_CODEC)
    event = stored(old, Opened(("ann",), {"from": b'"High"', "to": None}, forgets=3))
    facts = [Left("ann", Private("High")), Counted("ann"), Left("ann", Private(ERASED))]
    assert TYPES.decode_all(event) == facts
    parts = TYPES.parts(event)
    assert [TYPES.decode(part) for part in parts] == facts
    assert "High" not in repr(parts)
    assert all(part.private is not None and part.private.forgets == 3 for part in parts)


def test_a_value_of_another_kind_is_told_without_it() -> None:
    # STORE-42, STORE-44
    new = encoded(MOVED)
    wrong = stored(new, Opened(("customer:ann",), {"street": b'{"secret": "High"}'}))
    with pytest.raises(CodecError) as caught:
        TYPES.decode(wrong)
    assert caught.value.field == "$.street"
    assert "High" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("customer", ["", None])
def test_a_subject_needs_a_name(customer: str) -> None:
    # STORE-44
    with pytest.raises(InvalidField, match="customer of Moved"):
        encoded(replace(MOVED, customer=customer))
    with pytest.raises(InvalidField, match=r"Moved\.v2"):
        encoded(replace(MOVED, street=Private("\ud800")))


def test_a_subject_may_be_left_out() -> None:
    # STORE-44: of several one must remain
    types = EventTypes()

    @types.event(subject=("room:{room}?", "user:{user}?"))
    @dataclass(frozen=True)
    class Spoken:
        room: str | None
        user: int | None
        text: Private[str]

    for room, user, subjects in (("a", 1, ("room:a", "user:1")), ("", 0, ("user:0",))):
        new = encoded(Spoken(room, user, Private("x")), types)
        assert new.private is not None
        assert new.private.subjects == subjects
    with pytest.raises(InvalidField, match="nobody's"):
        encoded(Spoken(None, None, Private("x")), types)


def _cls(annotations: dict[str, object], subject: str | Sequence[str] | None) -> type:
    made: type = dataclass(frozen=True)(type("Made", (), {"__annotations__": annotations}))
    return EventTypes().event(subject=subject)(made)


@pytest.mark.parametrize(
    ("annotations", "subject", "reason"),
    [
        ({"a": Private[str]}, None, "does not say whose"),
        ({"a": str}, "a", "no field that is Private"),
        ({"a": Private[str], "b": str}, "c:{d}", "must name fields"),
        ({"a": Private[str], "b": str}, "{a}", "must name fields"),
        ({"a": Private[str], "b": str}, "b:{b!r}", "must name fields"),
        ({"a": Private[str], "b": str}, "b:{b.x}", "must name fields"),
        ({"a": Private[str], "b": str}, "everybody", "must name fields"),
        ({"a": Private[list[str]], "b": str}, "b", "mutable"),
        ({"a": Private[dict[str, int] | None] | None, "b": str}, "b", "mutable"),
        ({"a": tuple[Private[str], ...], "b": str}, "b", "something private inside"),
        ({"a": Private[str], "m": Moved, "b": str}, "b", "something private inside"),
    ],
)
def test_what_cannot_be_forgotten_is_refused_at_import(
    annotations: dict[str, object], subject: str | None, reason: str
) -> None:
    # STORE-44
    with pytest.raises(TypeError, match=reason):
        _cls(annotations, subject)


def test_an_array_has_no_room_for_private_fields() -> None:
    # STORE-44
    with pytest.raises(TypeError, match="array"):

        @EventTypes().event(subject="a")
        class Listed(msgspec.Struct, frozen=True, array_like=True):
            a: str
            b: Private[str]


@message
class _Keep:
    fact: Moved


class _Holder(Actor[_Keep]):
    def __init__(self) -> None:
        self.facts: list[Moved] = []

    def on_keep(self, message: _Keep) -> None:
        self.facts.append(message.fact)
        if len(self.facts) == 2:
            raise ValueError("for the report")


async def test_reports_and_inspection_show_nothing_private() -> None:
    # STORE-44, SEC-131: the state, the message in hand and the dead letter
    reports: list[str] = []
    async with open_actors() as system:
        ref = await system.start(_Holder)
        await ref.send(_Keep(MOVED))
        seen = await system.get_state(ref)
        await ref.send(_Keep(MOVED))
        await system.wait_down(ref)
        reports += [repr(one) for one in system.dead_letters]
    assert "High" not in repr(seen)
    assert reports
    assert not any("High" in one for one in reports)


async def test_a_key_of_another_length_is_no_master_key() -> None:
    # STORE-44
    keys = MemorySubjectKeys(MemoryDatabase())
    with pytest.raises(ValueError, match="32 bytes"):
        SubjectKeyring(keys, Secret(b"short"))
    assert "m" * 8 not in repr(SubjectKeyring(keys, Secret(b"m" * 32)))


async def test_a_ring_asks_no_more_than_it_must() -> None:
    # STORE-44: for a key once, for what was forgotten once a second
    database, asked = MemoryDatabase(), list[str]()

    class Counted(MemorySubjectKeys):
        async def find(self, subjects):  # type: ignore[no-untyped-def]
            asked.append("find")
            return await super().find(subjects)

        async def forgets(self, since=None, *, limit=1000):  # type: ignore[no-untyped-def]
            asked.append("forgets")
            return await super().forgets(since, limit=limit)

    now = [0.0]
    ring = SubjectKeyring(Counted(database), Secret(b"m" * 32), now=lambda: now[0], keys_max=2)
    store = MemoryEventStore(database, keyring=ring)
    for number in range(5):
        now[0] += 0.3
        await store.append(
            StreamId("customer-ann"), [TYPES.encode(MOVED, event_id=UUID(int=number))]
        )
    assert asked == ["forgets", "find", "forgets"]
    # No more keys are held than it is told; those that were let go are asked for again.
    for name in ("bob", "eve", "ann"):
        id_ = UUID(bytes=name.ljust(16).encode())
        one = TYPES.encode(replace(MOVED, customer=name), event_id=id_)
        await store.append(StreamId("customer-x"), [one])
    assert repr(ring).endswith("2 keys>")
    assert asked.count("find") == 4
    await trio.lowlevel.checkpoint()
