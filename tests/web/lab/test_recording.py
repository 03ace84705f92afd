"""What visitors do in the lab is recorded as events, and goes with their sandbox (LAB-6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import (
    EVENTS,
    Appended,
    AppendRequest,
    EventStore,
    StoreError,
    StoreUnavailable,
    StreamId,
)
from actors.runtime import Ref, System
from actors.timeline import Timeline
from storage.memory import MemoryEventStore
from supervision import ChildSpec, Flags, Plan, Supervisor, open_system
from tests.patience import until
from web.lab.sandbox.recording import (
    OVER_MAX,
    WAITING_MAX,
    Deed,
    LabActed,
    Ledger,
    Recorder,
    Write,
    end_left_streams,
)
from web.wiring.environment import SystemIds

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CRASH = Deed("crash", "feed-sink", 1)


class Away(MemoryEventStore):
    """A store that can be away."""

    is_away = False
    asked = 0

    async def append_batch(
        self, requests: Sequence[AppendRequest], *, atomic: bool = False
    ) -> list[Appended | StoreError]:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("it is away")
        return await super().append_batch(requests, atomic=atomic)


class Site(Supervisor):
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def plan(self) -> Plan:
        self._kit.systems.append(self.system)
        spec = ChildSpec("recorder", self._kit.recorder, name="recorder")
        return Plan(Flags(intensity=1, period=5.0), [spec])


@dataclass
class Kit:
    systems: list[System] = field(default_factory=list)
    store: Away = field(default_factory=Away)

    def __post_init__(self) -> None:
        self.ledger = Ledger(SystemIds(), lambda: NOW, self.wake)

    def recorder(self) -> Recorder:
        return Recorder(self.ledger, self.store, Timeline(trio.current_time))

    @property
    def ref(self) -> Ref[Write]:
        found = self.systems[0].whereis("recorder", Recorder)
        assert found is not None
        return found

    def wake(self) -> None:
        self.ref.tell(Write())

    async def acted(self, record: str) -> list[LabActed]:
        return await acted(self.store, record)


async def acted(store: EventStore, record: str) -> list[LabActed]:
    found = [one async for one in store.load(StreamId(f"lab-{record}"))]
    events = [EVENTS.decode(one) for one in found]
    return [one for one in events if isinstance(one, LabActed)]


@asynccontextmanager
async def open_kit() -> AsyncIterator[Kit]:
    kit = Kit()
    async with open_system(Site, kit, name="site"):
        yield kit


async def test_who_did_what_when_and_what_came_of_it(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        session, user = uuid4(), uuid4()
        kit.ledger.note("one", session, None, Deed("flood", "feed-sink", 500), "done")
        kit.ledger.note("one", session, user, CRASH, "over_quota")
        kit.ledger.note("two", uuid4(), None, CRASH, "done")
        await until(lambda: not kit.ledger.waiting)
        assert await kit.acted("one") == [
            LabActed(session, None, "flood", "feed-sink", 500, "done", NOW),
            LabActed(session, user, "crash", "feed-sink", 1, "over_quota", NOW),
        ]
        assert len(await kit.acted("two")) == 1
        assert kit.store.asked == 1, "what is noted together is stored together"


async def test_a_store_that_is_away_loses_nothing(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        kit.store.is_away = True
        kit.ledger.note("one", uuid4(), None, CRASH, "done")
        await trio.sleep(600)
        assert 15 < kit.store.asked < 40
        kit.ref.kill()
        await trio.sleep(1)
        kit.store.is_away = False
        kit.ledger.note("one", uuid4(), None, CRASH, "done")
        await until(lambda: not kit.ledger.waiting)
        assert len(await kit.acted("one")) == 2


async def test_of_too_many_the_oldest_are_lost_and_counted(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        kit.store.is_away = True
        for number in range(WAITING_MAX + 5):
            kit.ledger.note("one", uuid4(), None, Deed("flood", "feed-sink", number + 1), "done")
        assert (len(kit.ledger.waiting), kit.ledger.lost) == (WAITING_MAX, 5)
        kit.store.is_away = False
        await until(lambda: not kit.ledger.waiting)
        counts = [one.count for one in await kit.acted("one")]
        assert counts == list(range(6, WAITING_MAX + 6))


async def test_what_is_noted_by_the_stop_is_stored(autojump_clock: MockClock) -> None:
    async with open_kit() as kit:
        await until(lambda: bool(kit.systems))
        kit.ledger.note("one", uuid4(), None, CRASH, "done")
    assert len(await kit.acted("one")) == 1


async def test_a_record_ends_with_its_sandbox(autojump_clock: MockClock) -> None:  # LAB-94
    async with open_kit() as kit:
        kit.ledger.note("one", uuid4(), None, CRASH, "done")
        kit.ledger.end("one")
        kit.ledger.end("never acted in")
        await until(lambda: not kit.ledger.over)
        assert await kit.acted("one") == []
        assert await kit.store.list_streams(category="lab") == []
        assert (kit.ledger.written, kit.ledger.waiting) == (set(), type(kit.ledger.waiting)())
        # A last action that comes too late has no stream any more, and holds nobody up.
        kit.ledger.note("one", uuid4(), None, CRASH, "done")
        kit.ledger.note("two", uuid4(), None, CRASH, "done")
        await until(lambda: not kit.ledger.waiting)
        assert len(await kit.acted("two")) == 1
        assert kit.ledger.written == {"lab-two"}


async def test_of_too_many_records_that_end_meanwhile_the_oldest_are_left_to_their_age(
    autojump_clock: MockClock,
) -> None:
    # REL-71: the store is away for long, and sandboxes come and go
    async with open_kit() as kit:
        kit.ledger.note("0", uuid4(), None, CRASH, "done")
        await until(lambda: kit.ledger.written == {"lab-0"})
        kit.store.is_away = True
        kit.ledger.note("late", uuid4(), None, CRASH, "done")
        for number in range(OVER_MAX + 5):
            kit.ledger.end(str(number))
        assert (len(kit.ledger.over), kit.ledger.written) == (OVER_MAX, set())
        kit.store.is_away = False
        await until(lambda: not kit.ledger.over)
        (left, late) = await kit.store.list_streams(category="lab")
        assert (left.stream_id, late.stream_id) == ("lab-0", "lab-late")
        assert await end_left_streams(kit.store, late.last_recorded_at + timedelta(1), 100) == 2


@pytest.mark.parametrize("limit", [2, 100])
async def test_records_of_a_killed_process_are_found_by_their_age(
    limit: int, autojump_clock: MockClock
) -> None:  # LAB-94
    async with open_kit() as kit:
        for number in range(3):
            kit.ledger.note(f"left-{number}", uuid4(), None, CRASH, "done")
        await until(lambda: not kit.ledger.waiting)
        (first, *_) = await kit.store.list_streams(category="lab")
        before = first.last_recorded_at
        assert await end_left_streams(kit.store, before, limit) == 0
        later = before + timedelta(days=1)
        assert await end_left_streams(kit.store, later, limit) == min(3, limit)
        assert len(await kit.store.list_streams(category="lab")) == max(0, 3 - limit)
