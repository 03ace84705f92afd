"""Commands and events: what their classes must be."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Annotated, cast

import pytest

from actors.persistence import EventTypes
from actors.reducers import Refusal, command, event_type, is_command, is_event


@command
class Place:
    order: str
    count: int = 1


def test_a_command_is_a_frozen_dataclass_and_known_as_one() -> None:  # CORE-4
    assert Place("a") == Place("a", 1)
    assert hash(Place("a")) == hash(Place("a"))
    with pytest.raises(FrozenInstanceError):
        Place("a").count = 2  # type: ignore[misc]
    assert is_command(Place("a"))
    assert is_command(Place)
    assert not is_event(Place)
    assert not is_command("a")


def test_an_event_has_a_type_that_can_be_chosen() -> None:  # CORE-4
    types = EventTypes()

    @types.event()
    @dataclass(frozen=True)
    class Placed:
        order: str

    @types.event(name="OrderGone", version=2)
    @dataclass(frozen=True)
    class Gone:
        order: str

    assert event_type(Placed("a")) == "Placed.v1"
    assert event_type(Gone) == "OrderGone.v2"
    assert is_event(Placed)
    assert not is_command(Placed)
    with pytest.raises(TypeError, match="Place is no event"):
        event_type(Place("a"))


def test_one_class_is_not_both() -> None:  # CORE-4
    types = EventTypes()

    @types.event()
    @dataclass(frozen=True)
    class Placed:
        order: str

    with pytest.raises(TypeError, match=r"Placed is an event already, Placed\.v1.*test_messages"):
        command(Placed)
    with pytest.raises(TypeError, match=r"Place is a command already.*Place\.v1.*test_messages"):
        types.event()(Place)
    # Nothing of it was kept.
    assert not is_event(Place)


@pytest.mark.parametrize("mutable", [
    list, dict, set, list[int], dict[str, int], set[int], dict[str, int] | None,
    tuple[list[int], ...], Annotated[set[int], "few"],
])  # fmt: skip
def test_a_field_that_can_be_changed_is_refused_with_its_place(mutable: type) -> None:  # CORE-4
    class Loose:
        pass

    Loose.__annotations__ = {"items": mutable}
    with pytest.raises(TypeError, match=r"Loose\.items is mutable.*test_messages\.py:\d+"):
        command(Loose)


def test_a_command_is_a_class() -> None:  # CORE-4
    def place() -> None:
        """Is none."""

    with pytest.raises(TypeError, match=r"makes a class of commands, not .*test_messages\.py:\d+"):
        command(place)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "wrong"), [
    ("code", ""), ("code", 5), ("message", ""), ("message", None), ("detail", []),
])  # fmt: skip
def test_a_refusal_says_something(name: str, wrong: object) -> None:  # CORE-10
    given = {"code": "full", "message": "every seat is taken", "detail": {}} | {name: wrong}
    with pytest.raises(ValueError, match=rf"Refusal\.{name} is .*test_messages\.py:\d+"):
        Refusal(*cast("tuple[str, str]", tuple(given.values())))
