"""What the site has survived, over all its runs: counted from stored events (LAB-75)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.chat import LOBBY, ROOM_NAMES, CrashRoom
from actors.persistence import (
    EVENTS,
    START,
    Appended,
    AppendRequest,
    ConcurrencyConflict,
    EventStore,
    NewEvent,
    OutboxMessage,
    StoreUnavailable,
)
from actors.persistence.bus import BusCodecError, Received, Record
from actors.runtime import Actor, Ref, System
from storage.memory import MemoryEventStore
from supervision import ChildSpec, Flags, Plan, Supervisor, open_system
from tests.web.whole_site import in_thread, open_whole_site
from web.lab.lasting import (
    AWAITED_MAX,
    AWAITED_S,
    DELIVERED_PERIOD_S,
    PERIOD_S,
    STREAM,
    Lasted,
    SiteSurvived,
    Survivals,
    SurvivalsActor,
)
from web.wiring.environment import SystemIds

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Work:
    """A letter that takes as long as it says, or crashes whoever takes it."""

    takes_s: float = 0.0
    fails: bool = False


class Room(Actor[Work | CrashRoom]):
    """Stands where a room stands, and crashes when told to."""

    def on_crash(self, _: CrashRoom) -> None:
        raise RuntimeError("on purpose")

    async def on_work(self, work: Work) -> None:
        await trio.sleep(work.takes_s)
        if work.fails:
            raise RuntimeError("it fails")


class Store(MemoryEventStore):
    """A store that can be away, also after it has written."""

    is_away = False
    answers = True

    async def append_request(self, request: AppendRequest) -> Appended:
        if self.is_away:
            raise StoreUnavailable("it is away")
        done = await super().append_request(request)
        if not self.answers:
            raise StoreUnavailable("it went away")
        return done


class Rooms(Supervisor):
    def plan(self) -> Plan:
        names = [room.lower() for room in ROOM_NAMES]
        return Plan(Flags(intensity=100), [ChildSpec(one, Room) for one in names])


class Site(Supervisor):
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def plan(self) -> Plan:
        kit = self._kit
        kit.systems.append(self.system)
        specs = [
            ChildSpec("rooms", Rooms),
            ChildSpec("other", Room),
            ChildSpec("survivals", lambda: SurvivalsActor(kit.survivals, kit.store)),
        ]
        return Plan(Flags(intensity=100, period=5.0), specs)


@dataclass
class Kit:
    store: Store
    delivered: int = 0
    systems: list[System] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.survivals = Survivals(SystemIds(), lambda: NOW, lambda: self.delivered)

    def tell(self, path: str, message: Work | CrashRoom) -> None:
        cell = self.systems[-1].at(path)
        assert cell is not None
        cast("Ref[Work | CrashRoom]", cell.ref).tell(message)

    async def crash(self, path: str) -> None:
        self.tell(path, CrashRoom("the test"))
        await wait_all_tasks_blocked()

    async def counted(self) -> Lasted:
        return await counted(self.store)


async def counted(store: EventStore) -> Lasted:
    """All that was ever added, by the stored events alone."""
    total, version = Lasted(), 0
    async for stored in store.load(STREAM):
        survived = EVENTS.decode(stored)
        assert isinstance(survived, SiteSurvived)
        total, version = total.plus(survived.added), version + 1
        assert survived.so_far == total
        assert stored.version == version
    return total


@asynccontextmanager
async def open_kit(store: Store | None = None) -> AsyncIterator[Kit]:
    kit = Kit(store or Store())
    async with open_system(Site, kit, name="site"):
        await wait_all_tasks_blocked()
        yield kit


async def test_the_count_goes_on_where_the_run_before_has_ended(
    autojump_clock: MockClock,
) -> None:
    # LAB-75: it equals a count over the store, and a stop stores what was not stored yet.
    store, expected = Store(), Lasted()
    for _ in range(3):
        async with open_kit(store) as kit:
            assert kit.survivals.total() == expected
            for _ in range(3):
                await kit.crash("site/rooms/lobby")
            await kit.crash("site/other")
            await trio.sleep(2 * PERIOD_S)
            expected = expected.plus(Lasted(rooms=3, others=1))
            assert kit.survivals.total() == await kit.counted() == expected
            # Now at the end of the run.
            await kit.crash("site/rooms/demo")
            kit.delivered += 10
            expected = expected.plus(Lasted(rooms=1, delivered=10))
            assert await kit.counted() != expected
        assert await counted(store) == expected


async def test_a_letter_that_a_room_has_taken_and_nobody_handles_is_lost(
    autojump_clock: MockClock,
) -> None:
    # LAB-75: in hand at a crash; those that waited are handled by the next incarnation.
    async with open_kit() as kit:
        kit.tell("site/rooms/lobby", Work(fails=True))
        for _ in range(5):
            kit.tell("site/rooms/lobby", Work())
        kit.tell("site/other", Work(fails=True))
        await trio.sleep(2 * PERIOD_S)
        assert await kit.counted() == Lasted(rooms=1, others=1, lost=1)


async def test_what_was_delivered_alone_is_stored_now_and_then(autojump_clock: MockClock) -> None:
    # LAB-75
    async with open_kit() as kit:
        for number in range(1, 2 + 3 * int(DELIVERED_PERIOD_S)):
            kit.delivered = number
            await trio.sleep(1)
        assert kit.survivals.total() == Lasted(delivered=number)
        assert 3 <= await kit.store.head(STREAM) <= 4
        await trio.sleep(2 * DELIVERED_PERIOD_S)
        # And then there is nothing to tell.
        before = await kit.store.head(STREAM)
        await trio.sleep(10 * DELIVERED_PERIOD_S)
        assert await kit.store.head(STREAM) == before
    assert await kit.counted() == Lasted(delivered=number)


async def test_what_others_have_survived_is_shown_when_it_is_heard_of(
    autojump_clock: MockClock,
) -> None:
    # LAB-75, BUS-4: a record comes twice, late, or is none
    store = Store()
    async with open_kit(store) as kit:
        for _ in range(2):
            await kit.crash("site/rooms/lobby")
            await trio.sleep(2 * PERIOD_S)
        first, second = store.database.outbox.values()
        other = Survivals(SystemIds(), lambda: NOW, lambda: 0)
        other.stored = Lasted()
        for row, total in ((second, 2), (first, 2), (second, 2)):
            await other.hear(_received(row.message))
            assert other.total() == Lasted(rooms=total)
        assert other.version == 2
        for broken in (
            replace(second.message, payload=b"{}"),
            replace(second.message, payload=b"[" * 100_000),
            replace(second.message, headers={"version": "x"}),
            replace(second.message, headers={}),
        ):
            with pytest.raises(BusCodecError):
                await other.hear(_received(broken))
        # Its own comes back to who wrote it, and changes nothing.
        before = kit.survivals.total()
        await kit.survivals.hear(_received(second.message))
        assert kit.survivals.total() == before


def _received(out: OutboxMessage) -> Received:
    record = Record(out.message_id, out.key, out.payload, out.headers)
    return Received(out.target, 0, START, record, NOW)


async def test_a_store_that_is_away_counts_nothing_twice(autojump_clock: MockClock) -> None:
    # LAB-75: an outcome that is not known is settled by writing the same again.
    async with open_kit() as kit:
        kit.store.answers = False
        await kit.crash("site/rooms/lobby")
        await trio.sleep(3 * PERIOD_S)
        assert await kit.counted() == Lasted(rooms=1)
        kit.store.is_away = True
        await kit.crash("site/rooms/lobby")
        await trio.sleep(20 * PERIOD_S)
        # What is not known to be stored is not shown.
        assert kit.survivals.total() == Lasted()
        kit.store.is_away, kit.store.answers = False, True
        await trio.sleep(3 * PERIOD_S)
        assert await kit.counted() == kit.survivals.total() == Lasted(rooms=2)


async def test_two_processes_count_each_crash_once(autojump_clock: MockClock) -> None:
    # LAB-75: as while one server takes over from another.
    store = Store()
    async with open_kit(store) as one, open_kit(store) as other:
        for kit, rooms in ((one, 1), (other, 2), (one, 3), (other, 4)):
            for _ in range(rooms):
                await kit.crash("site/rooms/lobby")
            await trio.sleep(3 * PERIOD_S)
        assert other.survivals.total() == await counted(store) == Lasted(rooms=10)
        with pytest.raises(ConcurrencyConflict):
            await store.append(STREAM, [_survived()], expected=1)
    assert await counted(store) == Lasted(rooms=10)


def _survived() -> NewEvent:
    return EVENTS.encode(SiteSurvived(Lasted(), Lasted(), NOW), event_id=SystemIds().new_id())


async def test_who_does_not_come_back_has_not_survived(autojump_clock: MockClock) -> None:
    # LAB-75
    async with open_kit() as kit:
        report_of = kit.survivals
        await kit.crash("site/rooms/lobby")
        report_of.look(lambda path: None)
        assert report_of.fresh == Lasted()
        await trio.sleep(AWAITED_S + 1)
        # By then the feed's own look has found it, and nothing waits any more.
        assert await kit.counted() == Lasted(rooms=1)
        for _ in range(AWAITED_MAX + 10):
            report_of.note("site/gone", 1, trio.current_time())
        report_of.look(lambda path: None)
        assert report_of.awaited == AWAITED_MAX
        await trio.sleep(AWAITED_S + 2)
        assert report_of.awaited == 0
    assert await kit.counted() == Lasted(rooms=1)


@pytest.mark.slow
async def test_the_site_shows_what_is_stored() -> None:
    # LAB-75: on the home page and beside the button that crashes the Lobby.
    async with open_whole_site() as site:
        visitor = site.visitor()
        lobby = site.directory.maybe_room(LOBBY)
        assert lobby is not None

        def read(stream_word: bytes) -> str:
            visitor.open_lab()
            visitor.panel = "site"
            with visitor.open_stream() as stream:
                site.system.portal.tell(lobby, CrashRoom("the test"))
                return stream.read_until(stream_word).decode()

        told = await in_thread(lambda: read(b"survived <b>1</b> crash, <b>0</b> messages lost"))
        assert 'id="lasted"' in told
        page = (await in_thread(lambda: visitor.get("/lab"))).text
        assert "The rooms survived <b>1</b> crash, <b>0</b> messages lost." in page
        page = (await in_thread(lambda: visitor.get("/"))).text
        assert "The rooms survived <b>1</b> crash, <b>0</b> messages lost;" in page
