"""The kit for cases of projections: what it accepts, what it finds, and what it says then."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio

from actors.persistence import EventTypes, Projection, ProjectionTx, StoredEvent
from actors.testing import ProjectionTest
from actors.testing.cases.telling import take_unfinished

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class Filled:
    liters: int


@TYPES.event()
@dataclass(frozen=True)
class Emptied:
    pass


@TYPES.event()
@dataclass(frozen=True)
class Painted:
    colour: str


class Levels(Projection):
    """Says how full each barrel is: the same, however often it is told."""

    name, types, handles = "levels", TYPES, (Filled, Emptied)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        match TYPES.decode(event):
            case Filled(liters):
                tx.put(event.stream_id, {"liters": liters, "at": event.version})
            case Emptied():
                tx.delete(event.stream_id)


class Sums(Projection):
    """Counts, so what comes twice counts twice."""

    name, types, handles = "sums", TYPES, (Filled,)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        filled = TYPES.decode(event)
        assert isinstance(filled, Filled)
        row = await tx.get("all") or {"liters": 0}
        liters = row["liters"]
        assert isinstance(liters, int)
        tx.put("all", {"liters": liters + filled.liters})


class Newest(Projection):
    """Minds in which order streams come."""

    name, types, handles = "newest", TYPES, (Filled,)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        tx.put("newest", {"barrel": event.stream_id})


class Waits(Projection):
    name, types, handles = "waits", TYPES, (Filled,)

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        await trio.lowlevel.checkpoint()


def test_events_make_rows() -> None:  # TEST-6
    (
        ProjectionTest(Levels())
        .given(Filled(5), Painted("red"), Filled(7), stream="barrel-1")
        .given(Filled(1), Emptied(), stream="barrel-2")
        .then_row("barrel-1", liters=7)
        .then_row("barrel-1", liters=7, at=3)
        .then_no_row("barrel-2")
        .then_count(1)
        .shuffle_duplicates()
    )
    ProjectionTest(Sums()).given(Filled(1), Filled(2)).then_row("all", liters=3)


def test_what_is_not_as_expected_is_told_field_by_field() -> None:  # TEST-6
    case = ProjectionTest(Levels()).given(Filled(5), stream="barrel-1")
    with pytest.raises(AssertionError, match=r"barrel-1\.liters: expected 6, got 5"):
        case.then_row("barrel-1", at=1, liters=6)
    with pytest.raises(AssertionError, match=r"barrel-1\.owner: expected 'Ann', got no such"):
        case.then_row("barrel-1", owner="Ann")
    with pytest.raises(AssertionError, match=r"no row 'barrel-2', only \['barrel-1'\]"):
        case.then_row("barrel-2")
    with pytest.raises(AssertionError, match="there is a row 'barrel-1'"):
        case.then_no_row("barrel-1")
    with pytest.raises(AssertionError, match="expected 2 rows, got 1"):
        case.then_count(2)


@pytest.mark.parametrize("projection", [Sums(), Newest()])
def test_a_shuffle_finds_what_minds_repeats_or_the_order_of_streams(
    projection: Projection,
) -> None:  # TEST-6
    case = ProjectionTest(projection)
    for number in range(6):
        case.given(Filled(number + 1), stream=f"barrel-{number}")
    with pytest.raises(AssertionError, match=r"round \d+ of seed 3 made other rows") as found:
        case.shuffle_duplicates(seed=3)
    with pytest.raises(AssertionError) as again:
        case.shuffle_duplicates(seed=3)
    # The same seed finds the same, and says what was delivered.
    assert str(found.value) == str(again.value)
    assert "barrel-0@1" in str(found.value)


def test_each_stream_keeps_its_order_and_every_event_comes() -> None:  # TEST-6
    heard: list[tuple[str, int]] = []

    class Hears(Projection):
        name, types, handles = "hears", TYPES, (Filled,)

        async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
            heard.append((event.stream_id, event.version))

    case = ProjectionTest(Hears())
    for stream in ("a-1", "b-1", "c-1"):
        case.given(*(Filled(number) for number in range(4)), stream=stream)
    everything, orders = set(heard), set[tuple[tuple[str, int], ...]]()
    for seed in range(20):
        heard.clear()
        case.shuffle_duplicates(rounds=1, seed=seed)
        assert set(heard) == everything
        for stream in ("a-1", "b-1", "c-1"):
            versions = [version for name, version in heard if name == stream]
            # One step on, or back to one that came before.
            assert versions[0] == 1
            assert all(
                later <= max(versions[:at]) + 1 for at, later in enumerate(versions[1:], start=1)
            )
        orders.add(tuple(heard))
    assert len(orders) == 20
    assert any(len(order) > len(everything) for order in orders)
    case.then_count(0)


def test_what_cannot_be_a_case_is_told() -> None:  # TEST-6
    with pytest.raises(TypeError, match="waits for something else than its documents"):
        ProjectionTest(Waits()).given(Filled(1))
    with pytest.raises(ValueError, match=r"call given\(\.\.\.\) before"):
        ProjectionTest(Sums()).shuffle_duplicates()
    with pytest.raises(ValueError, match="a shuffle has one or more"):
        ProjectionTest(Sums()).shuffle_duplicates(rounds=0)
    take_unfinished()


def test_a_case_that_expects_nothing_is_found() -> None:  # TEST-6
    ProjectionTest(Sums()).given(Filled(1))
    (told,) = take_unfinished()
    assert "ProjectionTest(sums) has no then" in told
    assert "test_projection_cases.py" in told
