"""Event-sourced reducers, in memory and on PostgreSQL: what is stored is the state."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, assert_never, cast
from uuid import UUID

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.persistence import (
    EventSourcedReducerActor,
    EventStore,
    EventTypes,
    Idempotent,
    NotKept,
    OutboxMessage,
    Private,
    Record,
    Snapshots,
    StoreUnavailable,
    StreamId,
)
from actors.persistence.reducing.recording import environment_of
from actors.reducers import (
    Applied,
    Case,
    Environment,
    Future,
    Next,
    Reducer,
    ReducerActor,
    ReducerContractError,
    ReducerRef,
    Refusal,
    Reply,
    Sequential,
    check_pure,
    command,
    reducer,
    scope,
    start_reducer,
)
from actors.runtime import ActorCrashed, Ask, StartError, System, open_actors
from actors.testing import ReducerTest
from actors.testing.cases.fixed import fixed_environment
from storage.memory import MemoryDatabase, MemoryEventStore, MemorySnapshots
from storage.postgres import Database, PostgresEventStore, PostgresSnapshots
from tests.logged import captured
from tests.patience import PATIENCE_S
from tests.processes.forked import start

TYPES = EventTypes()


@TYPES.event()
@dataclass(frozen=True)
class Paid:
    cents: int


@TYPES.event()
@dataclass(frozen=True)
class Numbered:
    """Takes a number, and the time, out of the environment."""


@TYPES.event()
@dataclass(frozen=True)
class Broken:
    """One that the reducer falls over."""


@TYPES.event()
@dataclass(frozen=True)
class Stray:
    """One that the reducer does not take."""


@command
class Pay(Ask[int | Refusal]):
    cents: int


@command
class PayLater:
    cents: int


@command
class Twice:
    """Records two events at once, and one thing that leaves."""

    outbox: tuple[OutboxMessage, ...] = ()


@command
class Once:
    key: str


@command
class Cheat:
    """Changes the state without an event."""


@command
class Nested:
    """Records what nobody reduces."""


@dataclass(frozen=True, slots=True)
class Purse:
    cents: int = 0
    count: int = 0
    last: str = ""


Action: TypeAlias = Paid | Numbered | Broken | Pay | PayLater | Twice | Once | Cheat | Nested


@dataclass(frozen=True)
class Collect:
    cents: int

    async def run(self, env: Environment) -> Paid:
        await trio.lowlevel.checkpoint()
        return Paid(self.cents)


@reducer
def purse(state: Purse, action: Action, env: Environment) -> Next[Purse]:
    match action:
        case Paid(cents):
            return Next(Purse(state.cents + cents, state.count + 1, state.last))
        case Numbered():
            text = f"{env.ids.new_id()} {env.clock.now().isoformat()} {env.random.random()}"
            return Next(Purse(state.cents, state.count + 1, text))
        case Broken():
            raise OSError("the purse is broken")
        case Pay(cents) if cents <= 0:
            return Next(state, Reply(Refusal("nothing", "there is nothing to pay")))
        case Pay(cents):
            return Next(state, Record(Paid(cents)), Reply(state.cents + cents))
        case PayLater(cents):
            return Next(state, Future(Collect(cents)))
        case Twice(outbox):
            return Next(state, Record(Paid(1), Paid(2), outbox=outbox))
        case Once(key):
            return Next(state, Record(Paid(5), idempotency=Idempotent("purse", key, b"same")))
        case Cheat():
            return Next(Purse(state.cents + 1000))
        case Nested():
            return Next(state, Record(Stray()))
    assert_never(action)


class PurseActor(EventSourcedReducerActor[Purse, Action]):
    reducer = purse
    category = "purse"
    types = TYPES
    snapshot_every = 5

    def initial(self) -> Purse:
        return Purse()


@dataclass
class Changing:
    """A state that its reducer changes."""

    cents: int = 0


@reducer(in_place=True)
def changing(state: Changing, action: Paid | Broken, env: Environment) -> Next[Changing]:
    if isinstance(action, Paid):
        state.cents += action.cents
        return Next(state)
    state.cents = -1
    raise OSError("half-way")


class ChangingActor(EventSourcedReducerActor[Changing, Paid | Broken]):
    reducer = changing
    category = "purse"
    types = TYPES

    def initial(self) -> Changing:
        return Changing()


PurseRef: TypeAlias = ReducerRef[Purse, Action]
ONE = StreamId("purse-1")


@dataclass
class Shelf:
    """A store, and snapshots of it; `open` gives an actor on them, in the system."""

    store: EventStore
    snapshots: Snapshots
    env: Environment

    async def open(self, system: System, *, is_plain: bool = False) -> PurseRef:
        snapshots = None if is_plain else self.snapshots
        return await start_reducer(
            system, PurseActor, self.env, "1", self.store, snapshots=snapshots
        )

    async def events(self) -> list[object]:
        return [TYPES.decode(one) async for one in self.store.load(ONE)]


@pytest.fixture(params=["memory", "postgres"])
async def shelf(request: pytest.FixtureRequest, database: Database) -> Shelf:
    env = fixed_environment()
    if request.param == "memory":
        store = MemoryEventStore(event_types=TYPES)
        return Shelf(store, MemorySnapshots(store.database), env)
    return Shelf(PostgresEventStore(database, event_types=TYPES), PostgresSnapshots(database), env)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_actors() as system:
        yield system


async def test_its_state_is_there_again_after_its_end(shelf: Shelf, system: System) -> None:
    # CORE-8
    ref = await shelf.open(system)
    assert await ref.ask(Pay(5)) == 5
    assert await ref.ask(Pay(0)) == Refusal("nothing", "there is nothing to pay")
    await ref.run(Paid(7))
    assert (await ref.ask_for(PayLater(9), Paid)).cents == 9
    assert await ref.state() == Purse(21, 3)
    await ref.stop()
    again = await shelf.open(system)
    assert await again.state() == Purse(21, 3)
    assert await shelf.events() == [Paid(5), Paid(7), Paid(9)]


async def test_a_crash_rebuilds_the_state_and_stores_nothing_of_it(
    shelf: Shelf, system: System
) -> None:  # CORE-8
    ref = await shelf.open(system)
    await ref.run(Paid(5))
    with captured(), pytest.raises(ActorCrashed):
        await ref.run(Broken())
    again = await shelf.open(system)
    assert await again.state() == Purse(5, 1)
    assert await shelf.events() == [Paid(5)]


async def test_a_state_that_is_changed_in_place_is_never_used_half_changed(
    shelf: Shelf, system: System
) -> None:  # CORE-8
    ref = await start_reducer(system, ChangingActor, shelf.env, "1", shelf.store)
    await ref.run(Paid(5))
    found = await ref.state()
    found.cents = 99
    assert (await ref.state()).cents == 5
    with captured(), pytest.raises(ActorCrashed):
        await ref.run(Broken())
    again = await start_reducer(system, ChangingActor, shelf.env, "1", shelf.store)
    assert (await again.state()).cents == 5


async def test_a_trial_in_place_whose_append_failed_is_undone(system: System) -> None:
    # CORE-8
    store = MemoryEventStore(event_types=TYPES)
    ref = await start_reducer(system, ChangingActor, fixed_environment(), "1", store)
    await ref.run(Paid(5))
    store.fail_next(StoreUnavailable("a test", nothing_written=True))
    with pytest.raises(NotKept):
        await ref.run(Paid(100))
    assert (await ref.state()).cents == 5


async def test_what_an_event_took_out_of_its_environment_is_the_same_in_a_replay(
    shelf: Shelf, system: System
) -> None:
    ref = await shelf.open(system, is_plain=True)
    await ref.run(Numbered())
    live = await ref.state()
    await ref.stop()
    again = await shelf.open(system, is_plain=True)
    assert await again.state() == live
    assert live.last.split()[1] == "2025-01-01T00:00:00+00:00"


def test_ids_of_a_replay_rise_and_are_version_seven() -> None:
    env = environment_of(
        fixed_environment(), fixed_environment().ids.new_id(), fixed_environment().clock.now()
    )
    made = [env.ids.new_id() for _ in range(5000)]
    assert made[:4095] == sorted(set(made[:4095]))
    assert {one.version for one in made} == {7}
    assert len(set(made)) == 5000


async def test_events_of_one_command_are_stored_together_and_seen_behind_the_commit(
    shelf: Shelf, system: System
) -> None:  # CORE-22
    leaves = OutboxMessage(UUID(int=1), "bus", "purses", "purse-1", b"{}")
    ref = await shelf.open(system)
    seen: list[tuple[object, int]] = []
    async with ref.subscribe(100) as applied:
        handle = await ref.run(Twice((leaves,)))
        assert (handle.pending, handle.completed) == (0, 1)
        for _ in range(3):
            one = await anext(applied)
            assert isinstance(one, Applied)
            # Whoever sees it can read it.
            seen.append((one.action, len(await shelf.events())))
    assert seen == [(Twice((leaves,)), 2), (Paid(1), 2), (Paid(2), 2)]


async def test_what_was_recorded_was_caused_by_its_command(shelf: Shelf, system: System) -> None:
    # CORE-23
    ref = await shelf.open(system)
    found = await ref.ask_for(Twice(), lambda one: one == Paid(2))
    assert found == Paid(2)


async def test_a_key_stores_once_and_reads_the_rest(shelf: Shelf, system: System) -> None:
    ref = await shelf.open(system)
    await ref.run(Once("a"))
    await ref.run(Once("a"))
    await ref.run(Once("b"))
    assert await ref.state() == Purse(10, 2)
    assert len(await shelf.events()) == 2


async def test_two_that_write_one_stream_take_turns(shelf: Shelf, system: System) -> None:
    first, second = await shelf.open(system), await shelf.open(system)
    async with trio.open_nursery() as nursery:
        for ref in (first, second):
            nursery.start_soon(_pay_often, ref)
    await first.ask(Pay(1))
    assert (await first.state()).count == 11
    await second.ask(Pay(1))
    assert (await second.state()) == Purse(12, 12)


async def _pay_often(ref: PurseRef) -> None:
    for _ in range(5):
        # More conflicts in a row than are tried are the caller's.
        while True:
            try:
                await ref.ask(Pay(1))
                break
            except NotKept:
                continue


async def test_a_snapshot_saves_reading_and_changes_nothing(shelf: Shelf, system: System) -> None:
    ref = await shelf.open(system)
    for _ in range(7):
        await ref.run(Paid(1))
    await ref.stop()
    kept = await shelf.snapshots.latest(ONE)
    assert kept is not None
    assert kept.version == 5
    again = await shelf.open(system)
    assert await again.state() == Purse(7, 7)
    plain = await shelf.open(system, is_plain=True)
    assert await plain.state() == Purse(7, 7)


async def test_a_store_that_is_away_is_an_answer_and_no_crash(system: System) -> None:
    store = MemoryEventStore(event_types=TYPES)
    ref = await start_reducer(system, PurseActor, fixed_environment(), "1", store)
    for ask in _asks(ref):
        store.fail_next(StoreUnavailable("a test", nothing_written=True))
        with pytest.raises(NotKept) as caught:
            await ask()
        assert isinstance(caught.value.error, StoreUnavailable)
    assert system.dead_letters.total == 0
    store.fail_next(StoreUnavailable("a test", nothing_written=True))
    ref.tell(Paid(3))
    assert await ref.state() == Purse()
    [letter] = system.dead_letters
    assert letter.reason == "crashed"
    store.fail_next(StoreUnavailable("a test", nothing_written=True))
    handle = await ref.run(PayLater(4))
    assert await handle.wait()
    assert isinstance(handle.errors[0], StoreUnavailable)
    assert system.dead_letters.total == 2
    await ref.ask(Pay(1))
    assert await ref.state() == Purse(1, 1)


def _asks(ref: PurseRef) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: ref.ask(Pay(1)),
        lambda: ref.run(Paid(1)),
        lambda: ref.ask_for(Paid(1), Paid),
    ]


async def test_it_starts_while_its_store_is_away(system: System) -> None:
    store = MemoryEventStore(event_types=TYPES)
    store.fail_next(StoreUnavailable("a test"), times=2)
    with captured() as lines:
        ref = await start_reducer(system, PurseActor, fixed_environment(), "1", store)
    assert [one["event"] for one in lines] == ["persistence.reducer_waits"]
    with pytest.raises(NotKept):
        await ref.state()
    await ref.ask(Pay(1))
    assert await ref.state() == Purse(1, 1)


async def test_feedback_of_a_stop_is_stored_too(shelf: Shelf, system: System) -> None:
    # CORE-15
    ref = await shelf.open(system)
    await ref.run(PayLater(1))
    await ref.run(PayLater(2))
    await ref.stop()
    assert sorted(one.cents for one in await shelf.events() if isinstance(one, Paid)) == [1, 2]


async def test_a_command_that_changes_the_state_is_a_bug(shelf: Shelf, system: System) -> None:
    for action, why in ((Cheat(), "only events change"), (Nested(), "events that it reduces")):
        ref = await shelf.open(system)
        with captured(), pytest.raises(ActorCrashed) as caught:
            await ref.run(action)
        assert why in str(caught.value)
        assert isinstance(caught.value.__cause__, ReducerContractError | None)
    assert await shelf.events() == []


async def test_a_tenant_has_a_purse_of_its_own(shelf: Shelf, system: System) -> None:
    theirs = Shelf(shelf.store.for_tenant("t1"), shelf.snapshots, shelf.env)
    ours, other = await shelf.open(system), await theirs.open(system)
    for _ in range(6):
        await other.ask(Pay(1))
    await ours.ask(Pay(100))
    await other.stop()
    assert await ours.state() == Purse(100, 1)
    assert await (await theirs.open(system)).state() == Purse(6, 6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([Pay(1), Paid(2), Numbered(), PayLater(3), Twice()])))
def test_any_history_is_the_same_state_live_replayed_and_from_a_snapshot(
    history: list[Action],
) -> None:
    async def main() -> None:
        database = MemoryDatabase()
        store = MemoryEventStore(database, event_types=TYPES)
        shelf = Shelf(store, MemorySnapshots(database), fixed_environment())
        async with open_actors() as system:
            ref = await shelf.open(system)
            for action in history:
                handle = await ref.run(action, track="cascade")
                assert await handle.wait()
            live = await ref.state()
            await ref.stop()
            for is_plain in (True, False):
                again = await shelf.open(system, is_plain=is_plain)
                assert await again.state() == live

    trio.run(main)


# Refused when a class is made


def test_its_reducer_is_tested_as_every_other() -> None:
    ReducerTest(purse).given_state(Purse(3)).when(Pay(2)).then_effects(
        lambda effects: effects == (Record(Paid(2)), Reply(5))
    ).run()
    assert check_pure(purse, [Case(Purse(), Paid(1), fixed_environment())]) == 1
    assert Record(Paid(1)) == Record(Paid(1)) != Record(Paid(2))
    assert repr(Record(Paid(1))) == "Record(Paid(cents=1))"


def test_a_part_of_a_larger_state_records_what_it_is_wrapped_in() -> None:
    assert Record(Paid(1)).map(_doubled) == Record(Paid(2))
    scoped: Reducer[Purse, Pay, Environment] = scope(
        purse,
        get=_whole,
        put=_put,
        wrap=_wrapped,
        unwrap=_unwrapped,
        handled=[Pay],
    )
    assert scoped(Purse(), Pay(2), fixed_environment()).effects[0] == Record(Paid(4))


def _whole(state: Purse) -> Purse:
    return state


def _put(state: Purse, part: Purse) -> Purse:
    return part


def _wrapped(action: Action) -> Pay:
    # Of events it makes what is stored: here another event, which no type of this test tells.
    return cast("Pay", _doubled(action))


def _unwrapped(action: Pay) -> Action:
    return action


def _doubled(action: object) -> object:
    return Paid(action.cents * 2) if isinstance(action, Paid) else action


def test_a_record_stands_beside_others_never_within() -> None:
    with pytest.raises(TypeError, match=r"Sequential takes no Record.*test_event_sourced"):
        Sequential(Record(Paid(1)))
    with pytest.raises(TypeError, match=r"at least one event \(.*test_event_sourced"):
        Record()
    with pytest.raises(ValueError, match="1000"):
        Record(*[Paid(1)] * 1001)
    for wrong in (5, Pay(1), Paid):
        with pytest.raises(TypeError, match=r"takes events, not .*test_event_sourced"):
            Record(wrong)


def test_an_actor_that_keeps_nothing_or_what_it_cannot_is_no_class() -> None:
    @reducer
    def deaf(state: Purse, action: Pay, env: Environment) -> Next[Purse]:
        return Next(state)

    with pytest.raises(TypeError, match=r"Deaf \(.*test_event_.*no event among its actions"):

        class Deaf(EventSourcedReducerActor[Purse, Pay]):
            reducer = deaf
            category = "purse"
            types = TYPES

    with pytest.raises(TypeError, match="has no category"):

        class Nowhere(EventSourcedReducerActor[Changing, Paid | Broken]):
            reducer = changing
            types = TYPES

    with pytest.raises(TypeError, match="is no event"):

        class Foreign(EventSourcedReducerActor[Changing, Paid | Broken]):
            reducer = changing
            category = "purse"

    with pytest.raises(TypeError, match="snapshot_every"):

        class Never(EventSourcedReducerActor[Changing, Paid | Broken]):
            reducer = changing
            category = "purse"
            types = TYPES
            snapshot_every = 0


SECRETS = EventTypes()


@SECRETS.event(subject="person:{subject}")
@dataclass(frozen=True)
class Named:
    subject: str
    name: Private[str]


@reducer
def named(state: Purse, action: Named, env: Environment) -> Next[Purse]:
    return Next(state)


def test_private_fields_need_an_aggregate() -> None:
    with pytest.raises(TypeError, match="Named, which has private fields"):

        class Secret(EventSourcedReducerActor[Purse, Named]):
            reducer = named
            category = "purse"
            types = SECRETS


async def test_a_plain_actor_records_nothing(system: System) -> None:
    @reducer(effects=[Record])
    def plain(state: Purse, action: Pay, env: Environment) -> Next[Purse]:
        return Next(state, Record(Paid(1)))

    class Plain(ReducerActor[Purse, Pay]):
        reducer = plain

        def initial(self) -> Purse:
            return Purse()

    with pytest.raises(StartError, match="Record, which nobody interprets"):
        await start_reducer(system, Plain, fixed_environment())


@pytest.mark.slow
@pytest.mark.parametrize(("place", "stored"), [("before", 2), ("behind", 3)])
async def test_a_process_killed_around_a_commit_has_told_nothing_that_is_not_stored(
    database: Database, database_url: str, system: System, place: str, stored: int
) -> None:  # CORE-22
    told = await trio.to_thread.run_sync(_killed, database_url, place)
    # Of the third one nobody was told, in either case; what was told is there.
    assert told == ["told 1", "seen Pay", "seen Paid", "told 3", "seen Pay", "seen Paid"]
    store = PostgresEventStore(database, event_types=TYPES)
    again = await start_reducer(system, PurseActor, fixed_environment(), "1", store)
    assert (await again.state()).count == stored


def _killed(url: str, place: str) -> list[str]:
    """What a process has told until it came to its place, where it was killed."""
    told: list[str] = []
    process, output = start("tests.actors.persistence.purse_program", [url, place])
    with output:
        for line in output:
            if line.strip() == "here":
                os.kill(process.pid, signal.SIGKILL)
            else:
                told.append(line.strip())
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
    return told
