"""Effects of reducers on a store, in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Never, cast
from uuid import UUID

import pytest
import trio

from actors.persistence import (
    Append,
    Idempotent,
    Load,
    LoadSnapshot,
    OutboxMessage,
    SaveSnapshot,
    StoreUnavailable,
    StreamId,
    store_effects,
)
from actors.persistence.reducing.effects import LOADED_EVENTS_MAX
from actors.reducers import (
    Applied,
    Effect,
    Environment,
    Interpreter,
    Next,
    ReducerActor,
    ReducerRef,
    Sequential,
    command,
    reducer,
    start_reducer,
)
from actors.runtime import ActorExited, Context, StartError, edge_context, open_actors
from actors.testing.cases.fixed import TEST_EPOCH, fixed_environment
from storage.memory import MemoryDatabase, MemoryEventStore, MemoryOutbox, MemorySnapshots
from storage.postgres import Database, PostgresEventStore, PostgresSnapshots
from tests.actors.persistence.accounts import TYPES, Deposited, Withdrawn

Log = tuple[str, ...]


@command
class Do:
    effects: tuple[Effect, ...]


@command
class Stored:
    version: int


@command
class Loaded:
    events: tuple[object, ...]


@command
class Kept:
    found: object


@command
class Refused:
    error: str


Action = Do | Stored | Loaded | Kept | Refused


@reducer
def ledger(state: Log, action: Action, env: Environment) -> Next[Log]:
    match action:
        case Do(effects):
            return Next(state, *effects)
        case Stored(version):
            return Next((*state, f"stored {version}"))
        case Loaded(events):
            return Next((*state, f"loaded {len(events)}"))
        case Kept(found):
            return Next((*state, f"kept {found}"))
        case Refused(error):
            return Next((*state, f"refused {error}"))


class Ledger(ReducerActor[Log, Action]):
    reducer = ledger
    interpreted = (Append, Load)

    def initial(self) -> Log:
        return ()


LedgerRef = ReducerRef[Log, Action]


def refused(error: Exception) -> Refused:
    return Refused(type(error).__name__)


@dataclass(frozen=True)
class Till:
    cents: int


@dataclass(frozen=True)
class Wider:
    cents: int
    name: str = ""


@pytest.fixture(params=["memory", "postgres"])
async def ref(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[LedgerRef]:
    async with open_actors() as system:
        yield await start_reducer(
            system, Ledger, fixed_environment(), interpreters=_on(request.param, database)
        )


def _on(engine: str, database: Database) -> dict[type[Effect], Interpreter]:
    if engine == "memory":
        made = MemoryEventStore(event_types=TYPES)
        return store_effects(made, snapshots=MemorySnapshots(made.database), types=TYPES)
    store = PostgresEventStore(database, event_types=TYPES)
    return store_effects(store, snapshots=PostgresSnapshots(database), types=TYPES)


async def done_of(ref: LedgerRef, *effects: Effect) -> Log:
    handle = await ref.run(Do(effects))
    assert await handle.wait()
    return await ref.state()


def append(expected: int, *events: object) -> Append:
    return Append("account-1", expected, events or (Deposited(1),), Stored, refused)


async def test_an_append_stores_all_or_nothing_and_says_the_version(ref: LedgerRef) -> None:
    assert await done_of(ref, append(0, Deposited(3), Withdrawn(1))) == ("stored 2",)
    # Another one is there already: nothing of this is stored.
    assert await done_of(ref, append(0, Deposited(9))) == (
        "stored 2",
        "refused ConcurrencyConflict",
    )
    got = await ref.ask_for(Do((Load("account-1", Loaded, refused),)), Loaded)
    assert got.events == (Deposited(3), Withdrawn(1))


async def test_steps_in_turn_see_what_was_stored_before(ref: LedgerRef) -> None:
    chain = Sequential(
        append(0, Deposited(1)),
        append(1, Deposited(2)),
        append(7, Deposited(3)),
        append(2, Deposited(4)),
    )
    assert await done_of(ref, chain) == ("stored 1", "stored 2", "refused ConcurrencyConflict")


async def test_a_stream_is_loaded_from_a_version_and_up_to_a_limit(ref: LedgerRef) -> None:
    await done_of(ref, append(0, *(Deposited(number) for number in range(1, 6))))
    for load, amounts in (
        (Load("account-1", Loaded, refused, from_version=2, limit=2), (2, 3)),
        (Load("account-1", Loaded, refused, from_version=5), (5,)),
        (Load("account-1", Loaded, refused, from_version=6), ()),
        (Load("account-2", Loaded, refused), ()),
    ):
        got = await ref.ask_for(Do((load,)), Loaded)
        assert got.events == tuple(Deposited(one) for one in amounts)


async def test_a_snapshot_is_kept_and_one_of_another_shape_is_none(ref: LedgerRef) -> None:
    await done_of(ref, append(0))
    load = LoadSnapshot("account-1", Till, Kept, refused)
    assert (await ref.ask_for(Do((load,)), Kept)).found is None
    save = SaveSnapshot("account-1", 1, Till(5), Stored, refused)
    assert (await ref.ask_for(Do((save,)), Stored)).version == 1
    assert (await ref.ask_for(Do((load,)), Kept)).found == (1, Till(5))
    wider = LoadSnapshot("account-1", Wider, Kept, refused)
    assert (await ref.ask_for(Do((wider,)), Kept)).found is None


async def test_an_event_says_what_has_caused_it(ref: LedgerRef, database: Database) -> None:
    async with ref.subscribe() as applied:
        with edge_context(Context("corr-7", user_id="ada", tenant="t1")):
            await ref.run(Do((append(0),)))
        asked, stored = await anext(applied), await anext(applied)
    assert isinstance(asked, Applied)
    assert isinstance(stored, Applied)
    # Behind the commit: who sees that it is stored can read it.  # CORE-22
    assert stored.action == Stored(1)
    assert stored.metadata.correlation_id == "corr-7"
    assert stored.metadata.user_id == "ada"


async def test_metadata_and_what_goes_along_are_stored_with_the_events() -> None:
    # CORE-31
    database = MemoryDatabase()
    store, outbox = MemoryEventStore(database, event_types=TYPES), MemoryOutbox(database)
    env = fixed_environment()
    leaves = OutboxMessage(UUID(int=1), "bus", "orders", "account-1", b"{}")
    key = Idempotent("accounts", "key-1", b"fingerprint")
    whole = Append(
        "account-1", 0, (Deposited(1),), Stored, refused, outbox=(leaves,), idempotency=key
    )
    async with open_actors() as system:
        effects = store_effects(store, types=TYPES)
        ref = await start_reducer(system, Ledger, env, interpreters=effects)
        with edge_context(Context("corr-7", traceparent="00-1-2-01", user_id="ada")):
            assert await done_of(ref, whole) == ("stored 1",)
        [event] = [one async for one in store.load(StreamId("account-1"))]
        assert event.metadata["correlation_id"] == "corr-7"
        assert event.metadata["user_id"] == "ada"
        assert event.metadata["traceparent"] == "00-1-2-01"
        assert event.metadata["timestamp"] == TEST_EPOCH.isoformat()
        assert event.metadata["causation_id"]
        [waiting] = await outbox.waiting()
        assert (waiting.kind, waiting.target, waiting.key) == ("bus", "orders", "account-1")
        # Of the key: nothing is stored twice.
        assert await done_of(ref, whole) == ("stored 1", "stored 1")
        assert len([one async for one in store.load(StreamId("account-1"))]) == 1


async def test_a_store_that_is_away_is_an_action(ref: LedgerRef) -> None:
    store = MemoryEventStore(event_types=TYPES)
    async with open_actors() as system:
        effects = store_effects(store, types=TYPES)
        other = await start_reducer(system, Ledger, fixed_environment(), interpreters=effects)
        store.fail_next(StoreUnavailable("a test"), times=2)
        assert await done_of(other, append(0)) == ("refused StoreUnavailable",)
        load = Load("account-1", Loaded, refused)
        assert len(await done_of(other, load, append(0))) == 3


async def test_an_actor_without_a_store_is_not_started() -> None:
    async with open_actors() as system:
        with pytest.raises(StartError, match="Append, which nobody interprets"):
            await start_reducer(system, Ledger, fixed_environment())


@pytest.mark.parametrize("stream_id", ["", "a" * 300, "a\x00b"])
def test_a_stream_that_cannot_be_is_refused_when_the_effect_is_made(stream_id: str) -> None:
    for make in (
        lambda: Append(stream_id, 0, (Deposited(1),), Stored, refused),
        lambda: Load(stream_id, Loaded, refused),
        lambda: SaveSnapshot(stream_id, 1, Till(1), Stored, refused),
        lambda: LoadSnapshot(stream_id, Till, Kept, refused),
    ):
        with pytest.raises(ValueError, match="stream"):
            make()


def test_nonsense_in_an_effect_is_refused_when_it_is_made() -> None:
    with pytest.raises(TypeError, match=r"Append\.events is \(\); it must be a tuple of events"):
        Append("a-1", 0, (), Stored, refused)
    with pytest.raises(TypeError, match=r"Append\.events"):
        Append("a-1", 0, [Deposited(1)], Stored, refused)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Append\.ok is .*<lambda>"):
        Append("a-1", 0, (Deposited(1),), lambda version: None, refused)
    with pytest.raises(ValueError, match="versions count from 1"):
        Load("a-1", Loaded, refused, from_version=0)
    for limit in (0, -1, LOADED_EVENTS_MAX + 1):
        with pytest.raises(ValueError, match=r"Load\.limit"):
            Load("a-1", Loaded, refused, limit=limit)
    here = r"\(.*test_store_effects\.py:\d+\)"
    for event in (5, Do(()), Deposited):
        with pytest.raises(TypeError, match=rf"Append\.events takes events, not .*{here}"):
            Append("a-1", 0, (event,), Stored, refused)
    for expected in (-1, "any", True, None):
        with pytest.raises(ValueError, match=rf"Append\.expected is .*{here}"):
            Append("a-1", expected, (Deposited(1),), Stored, refused)  # type: ignore[arg-type]
    for version in (0, -1, "1"):
        with pytest.raises(ValueError, match=rf"SaveSnapshot\.version is .*{here}"):
            SaveSnapshot("a-1", version, Till(1), Stored, refused)  # type: ignore[arg-type]
    assert append(0) == append(0)
    assert hash(append(0)) == hash(append(0))


async def test_who_is_killed_behind_the_commit_has_stored_and_said_nothing() -> None:  # CORE-22
    store = MemoryEventStore(event_types=TYPES)
    committed = trio.Event()
    effects = store_effects(store, types=TYPES)
    append_it = effects[Append]

    async def cut_behind_the_commit(wanted: Append, env: Environment) -> object:
        await append_it(cast("Never", wanted), cast("Never", env))
        committed.set()
        await trio.sleep_forever()

    async with open_actors() as system:
        cut = effects | {Append: cut_behind_the_commit}
        ref = await start_reducer(system, Ledger, fixed_environment(), interpreters=cut)
        async with ref.subscribe() as applied, trio.open_nursery() as nursery:
            nursery.start_soon(_not_answered, ref)
            await committed.wait()
            ref.kill()
        seen = [getattr(one, "action", one) async for one in applied]
        # The reply is missing, and the event is there.
        assert seen == [Do((append(0),))]
        other = await start_reducer(system, Ledger, fixed_environment(), interpreters=effects)
        load = Load("account-1", Loaded, refused)
        assert (await other.ask_for(Do((load,)), Loaded)).events == (Deposited(1),)


async def _not_answered(ref: LedgerRef) -> None:
    with pytest.raises(ActorExited):
        await ref.ask_for(Do((append(0),)), Stored)
