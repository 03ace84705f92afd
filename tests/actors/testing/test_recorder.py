"""The recorder notes what is called of a port, and is otherwise not there."""

from contextlib import aclosing

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import ConcurrencyConflict, EventStore, Snapshots, StreamId
from actors.testing import Ended, Recorder, recorder
from storage.memory import MemoryEventStore, MemorySnapshots
from storage.testing import EventStoreSuite
from storage.testing.event_store import following
from storage.testing.samples import new_events

A = StreamId("order-a")


class TestRecordedStore(EventStoreSuite):
    """A port that is recorded passes the suite of its port: nothing is changed on the way."""

    # TEST-10
    @pytest.fixture
    def store(self) -> EventStore:
        return Recorder[EventStore](MemoryEventStore()).port


async def test_what_is_called_is_noted_in_its_order() -> None:
    # TEST-10
    recorded = Recorder[EventStore](MemoryEventStore())
    store, events = recorded.port, new_events(3)
    appended = await store.append(A, events, expected=0)
    assert [event.version async for event in store.load(A, from_version=2)] == [2, 3]
    with pytest.raises(ConcurrencyConflict):
        await store.append(A, new_events(1), expected=7)
    assert store.tenant is None
    assert recorded.names == ["append", "load", "append"]
    first, read, second = recorded.operations
    assert (first.args, first.kwargs, first.result) == ((A, events), {"expected": 0}, appended)
    assert (first.ended, read.ended, second.ended) == (
        Ended.RETURNED,
        Ended.RETURNED,
        Ended.RAISED,
    )
    assert read.items == 2
    assert isinstance(second.error, ConcurrencyConflict)
    assert str(read) == "load('order-a', from_version=2) returned"
    assert recorded.of("append") == [first, second]
    recorded.clear()
    assert recorded.operations == []


async def test_views_of_a_port_are_noted_too() -> None:
    # TEST-10
    recorded = Recorder[EventStore](MemoryEventStore())
    view = recorded.port.for_tenant("acme")
    await view.append(A, new_events(1))
    assert recorded.names == ["append"]
    assert view.tenant == "acme"
    assert (await recorded.port.head(A), await view.head(A)) == (0, 1)


async def test_an_operation_under_way_and_a_cancelled_one_can_be_told(
    autojump_clock: MockClock,
) -> None:
    # TEST-10
    twin = MemorySnapshots()
    recorded = Recorder[Snapshots](twin)
    twin.slow(5.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorded.port.latest, A)
        await trio.sleep(1.0)
        assert [one.ended for one in recorded.operations] == [Ended.NOT_YET]
        nursery.cancel_scope.cancel()
    assert [one.ended for one in recorded.operations] == [Ended.CANCELLED]


async def test_one_that_is_left_in_the_middle_is_closed_at_once() -> None:
    # TEST-10
    recorded = Recorder[EventStore](MemoryEventStore())
    await recorded.port.append(A, new_events(3))
    async with aclosing(recorded.port.load(A)) as events:  # type: ignore[type-var]
        await anext(events)
    async with following(recorded.port) as pages:
        await anext(pages)
    assert [(one.name, one.ended, one.items) for one in recorded.operations] == [
        ("append", Ended.RETURNED, 0),
        ("load", Ended.CLOSED, 1),
        ("follow", Ended.CLOSED, 1),
    ]


async def test_it_keeps_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "OPERATIONS_MAX", 2)
    recorded = Recorder[Snapshots](MemorySnapshots())
    for _ in range(5):
        await recorded.port.latest(A)
    assert (len(recorded.operations), recorded.missed) == (2, 3)
