"""What a state that is folded on request is made of, as tests. Fixture `kept`, empty.

Its event store must be made with `event_types=TYPES`.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

import msgspec
import pytest

from actors.persistence import (
    START,
    Aggregate,
    Condition,
    ConditionFailed,
    CursorOutdated,
    Decision,
    EventStore,
    EventTypes,
    InvalidField,
    NewEvent,
    Snapshot,
    StoredEvent,
    StreamId,
    Tagged,
    UnknownEventType,
    View,
    state_of,
    view_log,
    view_streams,
    view_tagged,
)
from actors.persistence.aggregate import schema_tag
from actors.reducers import Environment
from storage.testing.kept import Kept
from storage.testing.samples import new_event

TYPES = EventTypes()
A, B, C = StreamId("purse-a"), StreamId("purse-b"), StreamId("chest-c")


@TYPES.event(aliases=["Given"])
@dataclass(frozen=True)
class Added:
    amount: int


@TYPES.event()
@dataclass(frozen=True)
class Emptied:
    pass


@TYPES.splitter("Refilled.v1", "Emptied.v1", "Added.v1")
def _apart(fields: dict[str, object]) -> Iterable[tuple[str, dict[str, object]]]:
    yield "Emptied.v1", {}
    yield "Added.v1", {"amount": fields["amount"]}


class Purse(Aggregate[tuple[int, ...], int, Added | Emptied]):
    """What was added since it was emptied."""

    category, state_type, types = "purse", tuple[int, ...], TYPES

    def initial(self) -> tuple[int, ...]:
        return ()

    def decide(
        self, state: tuple[int, ...], command: int, env: Environment
    ) -> Decision[Added | Emptied]:
        return [Added(command)]

    def apply(self, state: tuple[int, ...], event: Added | Emptied) -> tuple[int, ...]:
        return (*state, event.amount) if isinstance(event, Added) else ()


class Additions(View[tuple[str, ...]]):
    """Where how much was added, in order."""

    handles, types = (Added,), TYPES

    def initial(self) -> tuple[str, ...]:
        return ()

    def apply(self, state: tuple[str, ...], event: StoredEvent) -> tuple[str, ...]:
        added = self.types.decode(event)
        assert isinstance(added, Added)
        return (*state, f"{event.stream_id[-1]}{added.amount}")


@dataclass
class Counting:
    """A store that counts what is loaded of it."""

    store: EventStore
    loaded: int = 0

    async def load(
        self, stream_id: StreamId, *, from_version: int = 1, to_version: int | None = None
    ) -> AsyncIterator[StoredEvent]:
        found = self.store.load(stream_id, from_version=from_version, to_version=to_version)
        async for event in found:
            self.loaded += 1
            yield event


def added(amount: int, name: str = "Added", *tags: str) -> NewEvent:
    """Call this for an event of an amount."""
    return new_event(b'{"amount": %d}' % amount, type=name, tags=tags)


PURSE = Purse()


async def _fill(kept: Kept) -> list[StoredEvent]:
    """Six events of a purse, each a second later than the one before by the clock of the twin."""
    emptied = new_event(b"{}", type="Emptied")
    for event in (added(1), added(2, "Given"), emptied, added(3), added(4, "Refilled"), added(5)):
        await kept.events.append(A, [event])
        await kept.pass_time(1)
    return [event async for event in kept.events.load(A)]


STATES = [(), (1,), (1, 2), (), (3,), (4,), (4, 5)]


class FoldingSuite:
    """The conformance suite of states and views on request."""

    async def test_a_state_is_that_of_a_version(self, kept: Kept) -> None:
        # STORE-45
        events = await _fill(kept)
        for version, state in enumerate(STATES):
            found = await state_of(PURSE, "a", kept.events, version=version)
            assert (found.state, found.version) == (state, version)
            assert found.cursor == (events[version - 1].cursor if version else START)
        latest = await state_of(PURSE, "a", kept.events)
        assert (latest.state, latest.version) == ((4, 5), 6)
        assert latest.recorded_at == events[-1].recorded_at
        assert await state_of(PURSE, "a", kept.events, version=99) == latest
        nothing = await state_of(PURSE, "nobody", kept.events)
        assert (nothing.state, nothing.version, nothing.recorded_at) == ((), 0, None)

    async def test_a_state_is_that_of_a_time(self, kept: Kept) -> None:
        # STORE-45: all before the first that was recorded later
        events = await _fill(kept)
        moment = timedelta(microseconds=1)
        for version, event in enumerate(events, start=1):
            found = await state_of(PURSE, "a", kept.events, at=event.recorded_at)
            assert (found.state, found.version) == (STATES[version], version)
            before = await state_of(PURSE, "a", kept.events, at=event.recorded_at - moment)
            assert before.version == version - 1
        both = await state_of(PURSE, "a", kept.events, at=events[4].recorded_at, version=2)
        assert both.version == 2

    async def test_a_snapshot_shortens_it_and_changes_nothing(self, kept: Kept) -> None:
        # STORE-45, STORE-40
        events = await _fill(kept)
        tag = schema_tag(PURSE)
        asked = [
            (version, at)
            for version in (None, 0, 3, 6)
            for at in (None, *(events[number].recorded_at for number in (0, 2, 5)))
        ]
        bare = [
            await state_of(PURSE, "a", kept.events, version=version, at=at) for version, at in asked
        ]
        for kept_at in (1, 3, 6):
            await kept.snapshots.discard(A)
            data = msgspec.json.encode(STATES[kept_at])
            await kept.snapshots.save(Snapshot(A, kept_at, tag, data))
            found = [
                await state_of(
                    PURSE, "a", kept.events, version=version, at=at, snapshots=kept.snapshots
                )
                for version, at in asked
            ]
            assert found == bare
        store = Counting(kept.events)
        await state_of(PURSE, "a", store, snapshots=kept.snapshots)  # type: ignore[arg-type]
        assert store.loaded == 1  # where the snapshot stands; not the five before it

    async def test_a_snapshot_of_something_else_is_not_used(self, kept: Kept) -> None:
        # STORE-45, STORE-40: other fields, no state, beyond the stream
        await _fill(kept)
        tag = schema_tag(PURSE)
        for version, schema, data in ((3, "other", b"[99]"), (3, tag, b"none"), (9, tag, b"[99]")):
            await kept.snapshots.discard(A)
            await kept.snapshots.save(Snapshot(A, version, schema, data))
            found = await state_of(PURSE, "a", kept.events, snapshots=kept.snapshots)
            assert (found.state, found.version) == ((4, 5), 6)

    async def test_what_cannot_be_read_is_no_state(self, kept: Kept) -> None:
        # STORE-45, STORE-42
        await kept.events.append(A, [added(1), new_event(type="Unheard")])
        with pytest.raises(UnknownEventType):
            await state_of(PURSE, "a", kept.events)
        assert (await state_of(PURSE, "a", kept.events, version=1)).state == (1,)

    async def test_several_streams_are_read_in_the_order_of_the_log(self, kept: Kept) -> None:
        # STORE-45
        for stream, amount in ((A, 1), (C, 2), (B, 3), (A, 4), (B, 5), (A, 6), (C, 7)):
            await kept.events.append(stream, [added(amount), added(-amount, "Refilled")])
            await kept.pass_time(1)
        view = Additions()
        found = await view_streams(view, [B, A, A], kept.events)
        assert found.state == tuple("a1 a-1 b3 b-3 a4 a-4 b5 b-5 a6 a-6".split())
        events = [event async for event in kept.events.load(A)]
        assert found.cursor == events[-1].cursor
        early = await view_streams(view, [A, B], kept.events, at=events[1].recorded_at)
        assert early.state == ("a1", "a-1")
        with pytest.raises(InvalidField):
            await view_streams(view, [], kept.events)
        with pytest.raises(InvalidField):
            await view_streams(view, [StreamId(f"purse-{n}") for n in range(101)], kept.events)

    async def test_a_category_is_read_and_read_on(self, kept: Kept) -> None:
        # STORE-45
        view = Additions()
        await kept.events.append(A, [added(n) for n in range(600)])
        await kept.events.append(C, [added(1)])
        await kept.events.append(B, [added(2, "Given"), new_event(type="Unheard")])
        first = await view_log(view, kept.events, categories=["purse"])
        assert first.state == (*(f"a{n}" for n in range(600)), "b2")
        whole = await view_log(view, kept.events)
        assert len(whole.state) == 602
        (last,) = [event async for event in kept.events.load(C)]
        assert (await view_log(view, kept.events, at=last.recorded_at)).state[:601] == (
            *first.state[:600],
            "c1",
        )
        await kept.events.append(B, [added(3), new_event(type="Unheard")])
        more = await view_log(view, kept.events, categories=["purse"], since=first)
        assert more.state == (*first.state, "b3")
        assert more == await view_log(view, kept.events, categories=["purse"])

    async def test_what_is_read_by_tags_can_be_decided_on(self, kept: Kept) -> None:
        # STORE-45, STORE-8
        view, query = Additions(), [Tagged(("ann",)), Tagged(("bob",), ("Added",))]
        await kept.events.append(A, [added(n, "Given", "ann") for n in range(510)])
        await kept.events.append(B, [added(7, "Added", "bob", "ann"), added(8)])
        first = await view_tagged(view, query, kept.events)
        assert first.state == (*(f"a{n}" for n in range(510)), "b7")
        mine = Condition(query, first.cursor)
        await kept.events.append(A, [added(9, "Added", "ann")], condition=mine)
        with pytest.raises(ConditionFailed):
            await kept.events.append(A, [added(9, "Added", "ann")], condition=mine)
        more = await view_tagged(view, query, kept.events, since=first)
        assert more.state == (*first.state, "a9")
        elsewhere = replace(more, lineage="other")
        with pytest.raises(CursorOutdated):
            await view_tagged(view, query, kept.events, since=elsewhere)
        with pytest.raises(CursorOutdated):
            await view_log(view, kept.events, since=elsewhere)
        again = Condition(query, more.cursor)
        await kept.events.append(A, [added(10, "Added", "ann")], condition=again)
