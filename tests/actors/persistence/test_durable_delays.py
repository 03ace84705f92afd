"""Delays that outlive their actor and their process, in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeAlias, assert_never, cast

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import (
    DeadLetterStatus,
    DelayDelivery,
    DueTimer,
    DurableTimers,
    EventSourcedReducerActor,
    EventStore,
    EventTypes,
    InvalidField,
    NobodyThere,
    SetTimer,
    StoreUnavailable,
    StreamId,
    TimerDelays,
    TimerService,
)
from actors.persistence.beside_log.timers import CLAIM
from actors.persistence.reducing.delays import PREFIX
from actors.reducers import (
    Cancel,
    Delay,
    Effect,
    Environment,
    Next,
    Parallel,
    ReducerActor,
    ReducerRef,
    Sequential,
    as_reducer,
    command,
    reducer,
    start_reducer,
)
from actors.runtime import (
    ActorCrashed,
    AnyRef,
    Context,
    StartError,
    System,
    current_context,
    edge_context,
    open_actors,
)
from actors.runtime.telling.spans import SpanRead
from actors.testing import ReducerTest, StepStore
from actors.testing.cases.fixed import FixedClock, FixedIds, fixed_environment
from storage.memory import MemoryDatabase, MemoryDeadLetters, MemoryEventStore, MemoryTimers
from storage.postgres import Database, PostgresEventStore, PostgresTimers
from tests.actors.persistence.accounts import TYPES as ACCOUNT_TYPES
from tests.logged import captured

TYPES = EventTypes()


@command
class Do:
    effects: tuple[Effect, ...] = ()


@command
class Rang:
    text: str


@TYPES.event()
@dataclass(frozen=True)
class Expired:
    text: str


@command
class Crash:
    """Makes the actor crash."""


Rung = tuple[str, ...]
Action: TypeAlias = Do | Rang | Expired | Crash


@reducer
def bell(state: Rung, action: Action, env: Environment) -> Next[Rung]:
    match action:
        case Do(effects):
            return Next(state, *effects)
        case Rang(text) | Expired(text):
            return Next((*state, text))
        case Crash():
            raise OSError("the bell is broken")
    assert_never(action)


class Bell(ReducerActor[Rung, Action]):
    reducer = bell

    def initial(self) -> Rung:
        return ()


Kept: TypeAlias = Do | Expired


@reducer
def kept_bell(state: Rung, action: Kept, env: Environment) -> Next[Rung]:
    if isinstance(action, Do):
        return Next(state, *action.effects)
    return Next((*state, action.text))


class KeptBell(EventSourcedReducerActor[Rung, Kept]):
    reducer = kept_bell
    category = "bell"
    types = TYPES

    def initial(self) -> Rung:
        return ()


BellRef: TypeAlias = ReducerRef[Rung, Action]


def ring(seconds: float, text: str, key: str | None = None) -> Delay:
    return Delay(seconds, Rang(text), key, durable=True)


@dataclass
class World:
    """Timers on one engine, and what delivers them."""

    timers: DurableTimers
    store: EventStore
    env: Environment
    clock: FixedClock

    async def bell(self, system: System) -> BellRef:
        delays = TimerDelays(self.timers, self.env)
        ref = await system.start(partial(Bell, self.env, delays=delays), name="bell")
        return as_reducer(Bell, ref)

    async def kept_bell(self, system: System, delays: TimerDelays) -> ReducerRef[Rung, Kept]:
        made = partial(KeptBell, self.env, "1", self.store, delays=delays)
        return as_reducer(KeptBell, await system.start(made, name="kept"))

    async def serve(self, system: System, letters: MemoryDeadLetters | None = None) -> AnyRef:
        deliver = DelayDelivery(system).deliver
        return await system.start(
            TimerService, self.timers, deliver, self.env, "one", dead_letters=letters
        )

    async def deliver_due(self, system: System) -> list[bool]:
        """What a service does, once and by hand: whether each of those due is done with."""
        due = await self.timers.claim_due("hand", self.clock.now())
        found = []
        for timer in due:
            is_done = await DelayDelivery(system).deliver(timer)
            if is_done:
                await self.timers.close(timer.timer_id)
            found.append(is_done)
        return found


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest, database: Database) -> World:
    clock = FixedClock()
    env = Environment(clock, FixedIds())
    if request.param == "memory":
        memory = MemoryDatabase()
        return World(MemoryTimers(memory), MemoryEventStore(memory, event_types=TYPES), env, clock)
    store = PostgresEventStore(database, event_types=TYPES)
    return World(PostgresTimers(database), store, env, clock)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_actors() as system:
        yield system


async def run(ref: BellRef, *effects: Effect) -> None:
    """Have effects carried out: of durable ones that they are written."""
    handle = await ref.run(Do(effects))
    assert await handle.wait()
    assert handle.errors == ()


async def test_it_comes_to_the_actor_that_is_there_then(world: World) -> None:
    # CORE-16
    async with open_actors() as system:
        ref = await world.bell(system)
        await run(ref, ring(60, "b"), ring(30, "a"))
        assert await world.timers.pending() == 2
    # All of that process is gone.
    async with open_actors() as system:
        ref = await world.bell(system)
        world.clock.advance(29)
        assert await world.deliver_due(system) == []
        world.clock.advance(31)
        assert await world.deliver_due(system) == [True, True]
        assert await ref.state() == ("a", "b")
        assert await world.timers.pending() == 0


async def test_cancel_reaches_delays_of_a_former_life(world: World, system: System) -> None:
    ref = await world.bell(system)
    await run(ref, ring(5, "never", "k"), ring(5, "never", "k"), ring(5, "other"))
    await ref.stop()
    again = await world.bell(system)
    await run(again, Cancel("k"))
    world.clock.advance(10)
    assert await world.deliver_due(system) == [True]
    assert await again.state() == ("other",)
    assert again.board.counts.unknown_keys == 0
    await run(again, Cancel("k"), Cancel("nobody"))
    assert again.board.counts.unknown_keys == 2


async def test_writes_go_in_the_order_of_the_effects(world: World, system: System) -> None:
    ref = await world.bell(system)
    # The last one alone is left, whatever the tasks of trio run like.
    for number in range(5):
        await run(ref, ring(5, "no", "k"), Cancel("k"), ring(5, f"yes {number}", "k"))
    world.clock.advance(5)
    assert await world.deliver_due(system) == [True]
    assert await ref.state() == ("yes 4",)


async def test_a_delay_that_is_cancelled_on_its_way_is_not_reduced(
    world: World, system: System
) -> None:
    ref = await world.bell(system)
    await run(ref, ring(5, "never", "k"))
    world.clock.advance(5)
    [timer] = await world.timers.claim_due("hand", world.clock.now())
    await run(ref, Cancel("k"))
    assert await DelayDelivery(system).deliver(timer)
    assert await ref.state() == ()
    assert ref.board.counts.stale_delays == 1
    # The next one under the same key is another one.
    await run(ref, ring(5, "a", "k"))
    world.clock.advance(5)
    assert await world.deliver_due(system) == [True]
    assert await ref.state() == ("a",)


async def test_what_was_handled_is_not_reduced_again(world: World, system: System) -> None:
    ref = await world.bell(system)
    await run(ref, ring(0, "a"))
    [timer] = await world.timers.claim_due("hand", world.clock.now())
    assert await DelayDelivery(system).deliver(timer)
    assert await world.timers.close(timer.timer_id)
    # A second service, whose claim had ended meanwhile.
    assert await DelayDelivery(system).deliver(timer)
    assert await ref.state() == ("a",)


async def test_the_events_of_a_delay_close_it_in_their_transaction(
    world: World, system: System
) -> None:
    ref = await world.kept_bell(system, TimerDelays(world.timers, world.env))
    handle = await ref.run(Do((Delay(5, Expired("a"), "k", durable=True),)))
    assert await handle.wait()
    world.clock.advance(5)
    [timer] = await world.timers.claim_due("hand", world.clock.now())
    # False: its handler has closed it.
    assert not await DelayDelivery(system).deliver(timer)
    assert not await world.timers.close(timer.timer_id)
    assert await DelayDelivery(system).deliver(timer)
    assert await ref.state() == ("a",)
    assert [one.version async for one in world.store.load(StreamId("bell-1"))] == [1]


async def test_of_a_race_of_cancelling_and_storing_one_is_stored(
    world: World, system: System
) -> None:
    ref = await world.kept_bell(system, Racing(world.timers, world.env))
    handle = await ref.run(Do((Delay(5, Expired("a"), "k", durable=True),)))
    assert await handle.wait()
    world.clock.advance(5)
    [timer] = await world.timers.claim_due("hand", world.clock.now())
    assert await DelayDelivery(system).deliver(timer)
    assert await ref.state() == ()
    assert ref.board.counts.stale_delays == 1


class Racing(TimerDelays):
    """Timers in which another process cancels behind each look."""

    async def is_open(self, path: str, due: object) -> bool:
        is_open = await super().is_open(path, due)  # type: ignore[arg-type]
        await self.cancel(path, "k")
        return is_open


async def test_a_delay_acts_in_the_name_of_who_asked_for_it(world: World, system: System) -> None:
    # CORE-31
    ref = await world.bell(system)
    with edge_context(Context("corr-7", traceparent="00-1-2-01", user_id="ada", tenant="t1")):
        await run(ref, ring(5, "a"))
    world.clock.advance(5)
    seen: list[Context | None] = []
    async with ref.subscribe() as applied:
        assert await world.deliver_due(system) == [True]
        one = await anext(applied)
        seen.append(getattr(one, "metadata", None))
    [context] = seen
    assert context is not None
    found = (context.correlation_id, context.traceparent, context.user_id, context.tenant)
    assert found == ("corr-7", "00-1-2-01", "ada", "t1")
    assert context.causation_id is not None
    assert current_context() is None


async def test_a_delay_is_below_what_has_asked_for_it_in_its_trace(world: World) -> None:
    # OBS-3: and another system delivers it, as another process would
    trace, above = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    found: list[SpanRead] = []
    for number in range(2):
        async with open_actors() as system:
            spans, ref = system.trace(), await world.bell(system)
            if number == 0:
                with edge_context(Context("c-1", traceparent=f"00-{trace}-{above}-01")):
                    await run(ref, ring(5, "a"))
            else:
                world.clock.advance(5)
                assert await world.deliver_due(system) == [True]
            found += [spans.read(one) for one in spans.ring]
    assert {one.trace for one in found} == {trace}
    assert {one.correlation_id for one in found} == {"c-1"}
    by_id = {one.span: one for one in found}
    road = [found[-1]]
    while (over := by_id.get(road[-1].parent)) is not None:
        road.append(over)
    names = [one.name for one in reversed(road)]
    assert road[-1].parent == above
    assert names[:3] == ["actor.handle", "effect.Delay", "actor.handle"], names


async def test_within_others_it_is_over_when_it_is_written(world: World, system: System) -> None:
    ref = await world.bell(system)
    chain = Sequential(ring(5, "a", "k"), Cancel("k"), Parallel(ring(6, "b"), ring(5, "c", "l")))
    await run(ref, chain, ring(7, "d"))
    world.clock.advance(10)
    assert await world.deliver_due(system) == [True, True, True]
    assert await ref.state() == ("c", "b", "d")


async def test_a_stop_writes_what_was_begun(world: World, system: System) -> None:
    ref = await world.bell(system)
    for number in range(100):
        ref.tell(Do((ring(3600, str(number)),)))
    await ref.state()
    await ref.stop()
    assert await world.timers.pending() == 100


# On a virtual clock, with the service that delivers


@dataclass
class Virtual:
    """Timers in memory under a virtual clock, and their service."""

    world: World
    letters: MemoryDeadLetters


@pytest.fixture
def virtual(autojump_clock: MockClock) -> Virtual:
    database = MemoryDatabase()
    return _virtual(database)


def _virtual(database: MemoryDatabase) -> Virtual:
    # Made when the clock of trio runs: it follows that one.
    clock = FixedClock()
    env = Environment(clock, FixedIds())
    store = MemoryEventStore(database, event_types=ACCOUNT_TYPES)
    return Virtual(World(MemoryTimers(database), store, env, clock), MemoryDeadLetters(database))


async def test_to_advance_the_clock_drives_durable_delays(mock_clock: MockClock) -> None:
    # TEST-4
    world = _virtual(MemoryDatabase()).world
    async with open_actors() as system:
        ref = await world.bell(system)
        await world.serve(system)
        await run(ref, ring(30, "a"), ring(3600, "b"))
        await _settle()
        world.clock.advance(29)
        await _settle()
        assert await ref.state() == ()
        world.clock.advance(1)
        await _settle()
        assert await ref.state() == ("a",)
        world.clock.advance(timedelta(hours=1))
        await _settle()
        assert await ref.state() == ("a", "b")


async def _settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_to_advance_the_clock_drives_backoff_and_claims(mock_clock: MockClock) -> None:
    # TEST-4
    found = _virtual(MemoryDatabase())
    async with open_actors() as system:
        await found.world.serve(system, found.letters)
        await found.world.timers.set(_timer(found.world, "/nobody"))
        with captured():
            failures = []
            for _ in range(8):
                found.world.clock.advance(1)
                await _settle()
                [timer] = await found.world.timers.open_timers()
                failures.append(timer.failures)
        # Tried at once, then after 0.5 to 1 s, 1 to 2 s, 2 to 4 s, by looks of a second.
        assert failures == sorted(failures)
        assert 3 <= failures[-1] <= 5
        # A service that dies keeps its claim for so long, and no longer.
        await found.world.timers.set(_timer(found.world, "/other"))
        now = found.world.clock.now()
        claimed = await found.world.timers.claim_due("dead", now, busy=("/nobody",))
        assert len(claimed) == 1
        assert await found.world.timers.claim_due("hand", now, busy=("/nobody",)) == []
        found.world.clock.advance(CLAIM)
        after = found.world.clock.now()
        assert len(await found.world.timers.claim_due("hand", after, busy=("/nobody",))) == 1


def _timer(world: World, address: str) -> SetTimer:
    id_ = world.env.ids.new_id()
    return SetTimer(id_, address, PREFIX, str(id_), world.clock.now(), b"{}")


async def test_a_delay_whose_actor_never_comes_is_a_dead_letter(
    autojump_clock: MockClock,
) -> None:
    found = _virtual(MemoryDatabase())
    async with open_actors() as system:
        await found.world.serve(system, found.letters)
        await found.world.timers.set(_timer(found.world, "/nobody"))
        with captured():
            while not await found.letters.list(status=DeadLetterStatus.PENDING):  # noqa: ASYNC110
                await trio.sleep(60)
        [letter] = await found.letters.list(status=DeadLetterStatus.PENDING)
        assert "/nobody is not there" in letter.letter.error_message
        assert await found.world.timers.open_timers() == []


async def test_an_actor_that_is_not_there_is_started(world: World, system: System) -> None:
    ref = await world.bell(system)
    await run(ref, ring(0, "a"))
    path = ref.path
    await ref.stop()
    started: list[BellRef] = []

    async def start(address: str) -> AnyRef | None:
        assert address == path
        started.append(await world.bell(system))
        return started[0]

    [timer] = await world.timers.claim_due("hand", world.clock.now())
    with pytest.raises(NobodyThere):
        await DelayDelivery(system).deliver(timer)
    assert await DelayDelivery(system, start).deliver(timer)
    assert await started[0].state() == ("a",)


async def test_a_crash_of_the_reducer_leaves_the_delay_where_it_is(
    world: World, system: System
) -> None:
    ref = await world.bell(system)
    await run(ref, Delay(0, Crash(), durable=True))
    with captured(), pytest.raises(ActorCrashed):
        await world.deliver_due(system)
    assert await world.timers.pending() == 1


# Nonsense


async def test_an_action_that_is_gone_or_has_other_fields_is_told(
    world: World, system: System
) -> None:
    ref = await world.bell(system)
    delays = TimerDelays(world.timers, world.env)
    await delays.set(ref.path, Delay(0, Gone("x"), durable=True), str(world.env.ids.new_id()))
    for why in ("Gone is no action of its reducer",):
        with pytest.raises(Exception, match=why):
            await world.deliver_due(system)
    [timer] = await world.timers.open_timers()
    other = DueTimer(
        timer.timer_id, ref.path, PREFIX, timer.token, timer.due_at, b"nonsense", {}, 1
    )
    with pytest.raises(Exception, match="cannot be read"):
        await DelayDelivery(system).deliver(other)
    # It lives on.
    assert await ref.state() == ()


@command
class Gone:
    text: str


async def test_what_cannot_be_kept_is_an_effect_that_has_failed(
    world: World, system: System
) -> None:
    ref = await world.bell(system)
    handle = await ref.run(Do((Delay(0, Unwritable(lambda: None), durable=True),)))
    with captured():
        assert await handle.wait()
    assert isinstance(handle.errors[0], InvalidField)
    await run(ref, ring(0, "a"))
    assert await world.deliver_due(system) == [True]


@command
class Unwritable:
    call: Callable[[], None]


async def test_a_store_that_is_away_fails_the_effect_and_not_the_actor(
    autojump_clock: MockClock,
) -> None:
    found = _virtual(MemoryDatabase())
    timers = cast("MemoryTimers", found.world.timers)
    async with open_actors() as system:
        ref = await found.world.bell(system)
        timers.fail_next(StoreUnavailable("a test"))
        handle = await ref.run(Do((ring(5, "a"),)))
        with captured():
            assert await handle.wait()
        assert isinstance(handle.errors[0], StoreUnavailable)
        # It is a dead letter, and can be sent again.
        [letter] = system.dead_letters
        system.dead_letters.resend(letter.id)
        await ref.state()
        await ref.drain()
        assert await timers.pending() == 1


async def test_an_actor_without_timers_returns_no_durable_delay(system: System) -> None:
    ref = await start_reducer(system, Bell, fixed_environment())
    with captured(), pytest.raises(ActorCrashed, match="durable Delay"):
        await ref.run(Do((Sequential(ring(5, "a")),)))


async def test_two_actions_of_one_name_are_refused_at_the_start(
    world: World, system: System
) -> None:
    twin: type = command(type("Rang", (), {}))
    union = Rang | twin

    def both(state: Rung, action: object, env: Environment) -> Next[Rung]:
        return Next(state)

    both.__annotations__["action"] = union

    class Both(ReducerActor[Rung, union]):  # type: ignore[valid-type]
        reducer = reducer(both)

        def initial(self) -> Rung:
            return ()

    delays = TimerDelays(world.timers, world.env)
    with captured(), pytest.raises(StartError, match="two actions named Rang"):
        await system.start(partial(Both, world.env, delays=delays), name="both")


async def test_an_actor_without_a_name_has_no_path_to_come_back_to(
    world: World, system: System
) -> None:
    delays = TimerDelays(world.timers, world.env)
    with captured(), pytest.raises(StartError, match="it needs a name"):
        await start_reducer(system, Bell, world.env, delays=delays)


@pytest.mark.parametrize("key", ["", 7, ("a", "b"), "x" * 101, "a\x00b"])
def test_a_key_that_cannot_be_kept_is_refused_when_the_delay_is_made(key: str) -> None:
    with pytest.raises(ValueError, match=r"Delay\.key is .*test_durable_delays"):
        Delay(1, Rang("a"), key, durable=True)
    if key:
        assert Delay(1, Rang("a"), key).key == key


def test_a_durable_delay_is_a_value_as_every_effect() -> None:
    assert ring(5, "a", "k") == ring(5, "a", "k") != Delay(5, Rang("a"), "k")
    assert ring(5, "a").map(_loud) == ring(5, "A")
    ReducerTest(bell).given_state(()).when(Do((ring(5, "a"),))).then_effects(
        lambda effects: effects == (ring(5, "a"),)
    ).run()


def _loud(action: object) -> object:
    return Rang(action.text.upper()) if isinstance(action, Rang) else action


async def test_step_by_step_it_waits_as_a_plain_one(autojump_clock: MockClock) -> None:
    async with StepStore(bell, fixed_environment(), ()) as store:
        handle = await store.send(Do((ring(25, "a"), ring(30, "b", "k"))))
        await store.receive_after(Rang("a"), handle)
        await store.send(Do((Cancel("k"),)))
        assert store.state() == ("a",)
