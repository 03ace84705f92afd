"""What readers see of events that were renamed or split, as tests. Fixture `kept`, with `INLINE`.

Its event store must be made with `event_types=TYPES`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import pytest
import trio

from actors.persistence import (
    AskStatus,
    Condition,
    ConditionFailed,
    DeadLetterStatus,
    EventTypes,
    NewEvent,
    Projection,
    ProjectionRunner,
    ProjectionTx,
    ReplayParked,
    StoredEvent,
    StreamId,
    Tagged,
    inline_collection,
    wait_until,
)
from actors.runtime import open_actors
from storage.testing.event_store import following
from storage.testing.kept import Kept
from storage.testing.samples import PATIENCE_S, new_event

TYPES = EventTypes()
A, B = StreamId("shelf-a"), StreamId("shelf-b")


@TYPES.event(aliases=["Shelved"])
@dataclass(frozen=True)
class Filled:
    item: str


@TYPES.event()
@dataclass(frozen=True)
class Counted:
    count: int


@TYPES.splitter("Delivered.v1", "Filled.v1", "Counted.v1")
def _apart(fields: dict[str, object]) -> Iterable[tuple[str, dict[str, object]]]:
    items = str(fields["items"]).split()
    for item in items:
        yield "Filled.v1", {"item": item}
    yield "Counted.v1", {"count": len(items)}


class Shelves(Projection):
    """What lies on each shelf, in the order in which it came; breaks on what is broken."""

    name = "shelves"
    handles = (Filled,)
    types = TYPES
    is_strict = True

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        filled = self.types.decode(event)
        assert isinstance(filled, Filled)
        kept = await tx.get(event.stream_id) or {"items": []}
        items = kept["items"]
        assert isinstance(items, list)
        text = f"{filled.item}{event.version}.{event.part}"
        tx.put(event.stream_id, {"items": [*items, text]})
        if filled.item == "broken" and self.is_strict:
            raise ValueError("broken")


class InlineShelves(Shelves):
    """The same in the append itself."""

    name = "inline_shelves"
    inline = True
    is_strict = False


INLINE_SHELVES = InlineShelves()
INLINE: list[Projection] = [INLINE_SHELVES]


def filled(item: str) -> NewEvent:
    """Call this for an event as it is stored today."""
    return new_event(b'{"item": "%s"}' % item.encode(), type="Filled")


def shelved(item: str) -> NewEvent:
    """Call this for one as it was stored before it was renamed."""
    return new_event(b'{"item": "%s"}' % item.encode(), type="Shelved")


def delivered(items: str) -> NewEvent:
    """Call this for one that is several today."""
    return new_event(b'{"items": "%s"}' % items.encode(), type="Delivered")


async def _items(kept: Kept, collection: str) -> dict[str, object]:
    return {key: found["items"] for key, found in await kept.projections.query(collection)}


class EvolvingSuite:
    """The conformance suite of reading events that were renamed or split."""

    async def test_a_filter_finds_the_names_of_before(self, kept: Kept) -> None:
        # STORE-41
        other = new_event(type="Other")
        events = [filled("a"), shelved("b"), delivered("c d"), other]
        last = await kept.events.append(A, events)
        for names, expected in (
            (["Filled"], ["Filled", "Shelved", "Delivered"]),
            (["Counted"], ["Delivered"]),
            (["Shelved", "Other"], ["Shelved", "Other"]),
            ([], []),
        ):
            page = await kept.events.read_all(types=names)
            assert [event.type for event in page.events] == expected
            assert page.next == last.cursor
            back = await kept.events.read_backwards(types=names)
            assert [event.type for event in back.events] == expected[::-1]
            counted = await kept.events.count(stream_id=A, types=names)
            assert counted.events == len(expected)
        seen: list[StoredEvent] = []
        with trio.fail_after(PATIENCE_S):
            async with following(kept.events, types=["Filled"]) as pages:
                async for page in pages:
                    seen += page.events
                    if len(seen) == 3:
                        break
        # What is stored is given as it is stored.
        assert [event.data for event in seen] == [event.data for event in events[:3]]

    async def test_a_query_and_a_condition_find_them_too(self, kept: Kept) -> None:
        # STORE-41, STORE-7, STORE-8
        tags = {"tags": ("shelf",)}
        events = [msgspec.structs.replace(one, **tags) for one in (shelved("a"), delivered("b c"))]
        await kept.events.append(A, events)
        page = await kept.events.read_tagged([Tagged(("shelf",), ("Counted",))])
        assert [event.type for event in page.events] == ["Delivered"]
        parts = TYPES.parts(page.events[0])
        assert [part.tags for part in parts] == [("shelf",)] * 3
        filled_ones = [Tagged(("shelf",), ("Filled",))]
        assert len((await kept.events.read_tagged(filled_ones)).events) == 2
        with pytest.raises(ConditionFailed):
            await kept.events.append(B, [filled("d")], condition=Condition(filled_ones))
        await kept.events.append(B, [filled("d")], condition=Condition(filled_ones, page.next))

    async def test_a_projection_gets_each_part_once_and_in_order(self, kept: Kept) -> None:
        # STORE-41, PROJ-2
        await kept.events.append(A, [delivered("a b"), shelved("c"), filled("d")])
        await kept.events.append(B, [delivered("")])
        last = await kept.events.append(B, [delivered("e f g")])
        async with open_actors() as system:
            await system.start(lambda: ProjectionRunner(Shelves(), kept.events, kept.projections))
            await wait_until(kept.projections, "shelves", last.cursor, timeout_s=PATIENCE_S)
        assert await _items(kept, "shelves__g1") == {
            A: ["a1.0", "b1.1", "c2.0", "d3.0"],
            B: ["e2.0", "f2.1", "g2.2"],
        }

    async def test_an_event_is_applied_with_all_its_parts_or_parked(self, kept: Kept) -> None:
        # STORE-41, PROJ-7: no checkpoint is between two parts
        projection = Shelves()
        await kept.events.append(A, [filled("a"), delivered("b broken c")])
        last = await kept.events.append(A, [shelved("d")])
        async with open_actors() as system:
            runner = await system.start(
                lambda: ProjectionRunner(projection, kept.events, kept.projections)
            )
            await wait_until(kept.projections, "shelves", last.cursor, timeout_s=PATIENCE_S)
            assert await _items(kept, "shelves__g1") == {A: ["a1.0"]}
            letters = await kept.dead_letters.list(status=DeadLetterStatus.PENDING)
            assert {(one.letter.event_type, one.letter.stream_version) for one in letters} == {
                ("Delivered", 2),
                ("Shelved", 3),
            }
            projection.is_strict = False
            assert await runner.ask(ReplayParked(A), timeout=PATIENCE_S) == 2
            status = await runner.ask(AskStatus(), timeout=PATIENCE_S)
        assert status.parked_streams == 0
        assert await _items(kept, "shelves__g1") == {
            A: ["a1.0", "b2.0", "broken2.1", "c2.2", "d3.0"]
        }

    async def test_an_inline_projection_gets_them_too(self, kept: Kept) -> None:
        # STORE-41, PROJ-9
        await kept.events.append(A, [shelved("a"), delivered("b c"), new_event(type="Other")])
        assert await _items(kept, inline_collection(INLINE_SHELVES)) == {
            A: ["a1.0", "b2.0", "c2.1"]
        }
