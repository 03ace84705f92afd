"""Event classes and their stored form: names, versions, upcasters, golden bytes, refusals."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
import pytest

from actors.persistence import (
    CodecError,
    Cursor,
    EventTooLarge,
    EventTypes,
    InvalidField,
    NewEvent,
    StoredEvent,
    UnknownEventType,
    event,
)
from actors.reducers import event_type
from actors.runtime import message
from tests.actors.persistence.accounts import TYPES, Deposited, Withdrawn

_GOLDEN = Path(__file__).parent / "golden"


def _stored(type_: str, version: int, data: bytes) -> StoredEvent:
    return StoredEvent(
        "account-1",
        7,
        Cursor(1, 1),
        UUID(int=1),
        type_,
        version,
        "json",
        data,
        {},
        None,
        datetime(2025, 1, 1, tzinfo=UTC),
    )


def _as_stored(new: NewEvent) -> StoredEvent:
    return _stored(new.type, new.schema_version, new.data)


@pytest.mark.parametrize("event", [Deposited(5), Withdrawn(3, "rent")], ids=str)
def test_an_event_comes_back_as_it_was_and_looks_as_ever(event: object) -> None:
    # STORE-43: a changed shape without a new version fails on the golden bytes
    new = TYPES.encode(event, event_id=UUID(int=1), metadata={"correlation_id": "c"})
    assert TYPES.decode(_as_stored(new)) == event
    golden = _GOLDEN / f"{TYPES.name_of(type(event))}.json"
    assert new.data == golden.read_bytes().rstrip(b"\n"), (
        f"{golden.name} changed: add a version and an upcaster, and a golden file for it"
    )


def test_an_old_event_is_read_through_its_upcasters() -> None:
    # STORE-41: stored bytes never change
    old = (_GOLDEN / "MoneyWithdrawn.v1.json").read_bytes()
    assert TYPES.decode(_stored("MoneyWithdrawn", 1, old)) == Withdrawn(3)


def test_unknown_fields_are_ignored_and_missing_ones_filled() -> None:
    # STORE-4
    data = b'{"amount": 3, "later": true}'
    assert TYPES.decode(_stored("MoneyWithdrawn", 2, data)) == Withdrawn(3, "")


def test_what_cannot_be_read_says_where() -> None:
    # STORE-42
    with pytest.raises(UnknownEventType) as unknown:
        TYPES.decode(_stored("Vanished", 1, b"{}"))
    assert (unknown.value.event_type, unknown.value.version) == ("Vanished", 7)
    with pytest.raises(CodecError) as wrong:
        TYPES.decode(_stored("Deposited", 1, b'{"amount": "x"}'))
    assert (wrong.value.field, wrong.value.version) == ("$.amount", 7)
    with pytest.raises(CodecError):
        TYPES.decode(_stored("Deposited", 1, b"\xff"))
    with pytest.raises(CodecError, match="upcaster"):
        TYPES.decode(_stored("Deposited", 9, b'{"amount": 1}'))


def test_chains_of_upcasters_are_followed_and_checked() -> None:
    # STORE-41
    types = EventTypes()

    @types.event(version=3)
    @dataclass(frozen=True)
    class Named:
        first: str
        last: str

    @types.upcaster("Named.v1", "Named.v2")
    def split(fields: dict[str, object]) -> dict[str, object]:
        first, _, last = str(fields["name"]).partition(" ")
        return {"first": first, "surname": last}

    with pytest.raises(TypeError, match=r"from Named\.v2 is missing"):
        types.check()

    @types.upcaster("Named.v2", "Named.v3")
    def rename(fields: dict[str, object]) -> dict[str, object]:
        return {"first": fields["first"], "last": fields["surname"]}

    types.check()
    assert types.decode(_stored("Named", 1, b'{"name": "Ada L"}')) == Named("Ada", "L")
    with pytest.raises(TypeError, match="already"):
        types.upcaster("Named.v1", "Named.v2")(split)
    with pytest.raises(TypeError, match="one version up"):
        types.upcaster("Named.v1", "Named.v3")
    with pytest.raises(TypeError, match="form"):
        types.upcaster("Named", "Named.v2")


@event
class Banked:
    cents: int
    note: str = ""


@event(name="Bank.Taken", version=2)
class Taken(Banked):
    by: str = "cash"


def test_a_plain_class_becomes_a_frozen_one() -> None:  # CORE-4
    assert (event_type(Banked(3)), event_type(Taken)) == ("Banked.v1", "Bank.Taken.v2")
    assert Taken(3, by="card") == Taken(3, "", "card") != Taken(3)
    assert {Banked(1), Banked(1)} == {Banked(1)}
    with pytest.raises(FrozenInstanceError):
        Banked(1).cents = 2  # type: ignore[misc]


class _Kinds(Enum):
    ONE = 1


class _Pair(NamedTuple):
    n: int


class _Loud(Exception):
    n: int = 1


@message
class _Told:
    n: int


@pytest.mark.parametrize("cls", [_Kinds, _Pair, _Loud, _Told])
def test_what_has_a_nature_of_its_own_stays_what_it_is(cls: type) -> None:  # CORE-4
    with pytest.raises(TypeError, match="no frozen dataclass"):
        EventTypes().event()(cls)


def test_a_name_by_itself_is_no_event() -> None:  # CORE-4
    with pytest.raises(TypeError, match=r"not 'Placed'; a name is given by `name=`"):
        event("Placed")  # type: ignore[call-overload]


def test_what_cannot_be_an_event_is_refused_when_defined() -> None:
    # CORE-4: mutable, secret, taken
    types = EventTypes()

    @dataclass
    class Loose:
        n: int

    @dataclass(frozen=True)
    class Listed:
        items: list[int]

    @dataclass(frozen=True)
    class Perhaps:
        fields: dict[str, int] | None = None

    @dataclass(frozen=True)
    class Inside:
        rows: tuple[list[int], ...] = ()

    @dataclass(frozen=True)
    class Registered:
        access_token: str

    refused = [(Listed, "mutable"), (Perhaps, "mutable"), (Inside, "mutable")]
    here = r"\(.*test_events\.py:\d+\)"
    for cls, word in [(Loose, "frozen"), *refused, (Registered, "secret")]:
        with pytest.raises(TypeError, match=rf"{word}.*{here}"):
            types.event()(cls)
    types.event(allow=["access_token"])(Registered)
    types.event(name="Same")(Deposited)
    with pytest.raises(TypeError, match=rf"Deposited.*Withdrawn {here}"):
        types.event(name="Same")(Withdrawn)
    with pytest.raises(TypeError, match=rf"versions count from 1, got 0 {here}"):
        types.event(version=0)(Withdrawn)
    for name in ("", "Withdrawn.v2", 5):
        with pytest.raises(TypeError, match=rf"is no plain name, such as OrderPlaced {here}"):
            types.event(name=name)(Withdrawn)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no event"):
        types.name_of(Loose)


def test_structs_are_events_too() -> None:
    types = EventTypes()

    class Seen(msgspec.Struct, frozen=True):
        at: datetime

    class Soft(msgspec.Struct):
        n: int

    types.event()(Seen)
    seen = Seen(datetime(2025, 1, 1, tzinfo=UTC))
    assert types.decode(_as_stored(types.encode(seen, event_id=UUID(int=1)))) == seen
    assert types.is_event(seen)
    with pytest.raises(TypeError, match="frozen"):
        types.event()(Soft)


def test_a_large_event_is_refused() -> None:
    # STORE-4
    types = EventTypes()

    @types.event()
    @dataclass(frozen=True)
    class Said:
        text: str

    assert len(types.encode(Said("x" * 60_000), event_id=UUID(int=1)).data) > 60_000
    with pytest.raises(EventTooLarge) as caught:
        types.encode(Said("x" * 70_000), event_id=UUID(int=1))
    assert (caught.value.event_type, caught.value.limit) == ("Said", 65536)


def test_an_upcaster_that_raises_is_a_codec_error() -> None:
    # STORE-42
    types = EventTypes()

    @types.event(name="Odd", version=2)
    @dataclass(frozen=True)
    class Odd:
        n: int

    @types.upcaster("Odd.v1", "Odd.v2")
    def up(fields: dict[str, object]) -> dict[str, object]:
        return {"n": fields["missing"]}

    stored = StoredEvent(
        "a-1", 7, Cursor(1, 1), UUID(int=1), "Odd", 1, "json", b"{}", {}, None, datetime.now(UTC)
    )
    with pytest.raises(CodecError, match="upcaster") as caught:
        types.decode(stored)
    assert (caught.value.event_type, caught.value.version) == ("Odd.v1", 7)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("cls", "fields", "why"),
    [
        (Deposited, {"amount": float("nan")}, "Expected `int`, got `null` - at `$.amount`"),
        (Deposited, {"amount": "5"}, "Expected `int`, got `str` - at `$.amount`"),
        (Withdrawn, {"amount": 3, "reason": None}, "Expected `str`, got `null` - at `$.reason`"),
    ],
    ids=["no number", "a text", "nothing"],
)
def test_an_event_that_could_not_be_read_back_is_never_written(
    cls: type[Deposited | Withdrawn], fields: Mapping[str, object], why: str
) -> None:
    # STORE-43: it would end its stream, for every reader and for good
    with pytest.raises(InvalidField) as caught:
        TYPES.encode(cls(**fields), event_id=UUID(int=1))  # type: ignore[arg-type]
    assert caught.value.why == f"cannot be read back: {why}"


@pytest.mark.parametrize("value", ["\ud800", {(1, 2): 3}, object()])
def test_an_event_that_json_cannot_hold_is_refused(value: object) -> None:
    # STORE-4
    types = EventTypes()

    @types.event(name="Odd")
    @dataclass(frozen=True)
    class Odd:
        value: object

    with pytest.raises(InvalidField) as caught:
        types.encode(Odd(value), event_id=UUID(int=1))
    assert caught.value.field == "Odd.v1"
