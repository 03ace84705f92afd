"""What private fields and their keys must do, as tests. Fixture `place`, empty."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from actors.persistence import (
    ERASED,
    PRIVATE_CODEC,
    Aggregate,
    AggregateActor,
    AggregateContractError,
    AppendRequest,
    CodecError,
    Decision,
    Done,
    DuplicateEventId,
    EventStore,
    EventTypes,
    GenerationState,
    InvalidField,
    KeyringMissing,
    NewEvent,
    Private,
    Projection,
    ProjectionBatch,
    ProjectionRunner,
    ProjectionStore,
    ProjectionTx,
    Snapshot,
    Snapshots,
    StoredDataError,
    StoredEvent,
    StreamId,
    SubjectForgotten,
    SubjectKey,
    SubjectKeys,
    ask_state,
    begin_rebuild,
    execute,
    live_collection,
    wait_until,
)
from actors.reducers import Environment
from actors.runtime import Secret, System, open_actors
from storage.keyring import SubjectKeyring
from storage.memory import (
    MemoryDatabase,
    MemoryEventStore,
    MemoryProjections,
    MemorySnapshots,
    MemorySubjectKeys,
)
from storage.postgres import (
    Connection,
    Database,
    PostgresEventStore,
    PostgresProjections,
    PostgresSnapshots,
    PostgresSubjectKeys,
)
from storage.testing.samples import PATIENCE_S

TYPES = EventTypes()
MASTER = Secret(b"m" * 32)
OTHER = Secret(b"o" * 32)


@TYPES.event(subject="customer:{customer}")
@dataclass(frozen=True)
class Named:
    customer: str
    name: Private[str]
    number: int = 0
    note: Private[str] | None = None


@TYPES.event()
@dataclass(frozen=True)
class Counted:
    number: int


@TYPES.event(subject=("customer:{customer}", "day:{day}"))
@dataclass(frozen=True)
class Said:
    customer: str
    day: str
    text: Private[str]


@dataclass
class Place:
    """The ports of one database that private fields concern; `dump` gives all that is stored."""

    keys: SubjectKeys
    events: Callable[[SubjectKeyring | None], EventStore]
    snapshots: Callable[[SubjectKeyring | None], Snapshots]
    projections: ProjectionStore
    dump: Callable[[], Awaitable[bytes]]
    audited: Callable[[], Awaitable[list[tuple[str, str, str]]]]

    def ring(self, *, fresh_s: float = 0.0) -> SubjectKeyring:
        """A keyring as another process would have one; by default it asks each time."""
        return SubjectKeyring(self.keys, MASTER, fresh_s=fresh_s)


def place_in_memory() -> Place:
    """Call this for the twins on one new database."""
    database = MemoryDatabase()
    keys = MemorySubjectKeys(database)

    async def dump() -> bytes:
        return _shown(database)

    async def audited() -> list[tuple[str, str, str]]:
        return [(one.by, one.action, one.subject) for one in database.subject_audit]

    return Place(
        keys,
        lambda ring: MemoryEventStore(database, keyring=ring),
        lambda ring: MemorySnapshots(database, keyring=ring),
        MemoryProjections(database),
        dump,
        audited,
    )


def _shown(database: MemoryDatabase) -> bytes:
    # Its repr hides a snapshot's data; what is stored must be looked at.
    return repr((database, [one.data for one in database.snapshots.values()])).encode()


def place_in_postgres(database: Database) -> Place:
    """Call this for the adapters on a fresh database."""

    async def all_rows(connection: Connection) -> bytes:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        rows = [
            tuple(row)
            for table in tables
            for row in await connection.fetch(f"SELECT * FROM {table['table_name']}")  # noqa: S608  (the database's own names)
        ]
        return repr(rows).encode()

    async def audit(connection: Connection) -> list[tuple[str, str, str]]:
        rows = await connection.fetch(
            "SELECT actor, action, resource FROM audit_log WHERE event_type = 'privacy' ORDER BY id"
        )
        return [tuple(row) for row in rows]

    async def dump() -> bytes:
        return await database.run(all_rows)

    async def audited() -> list[tuple[str, str, str]]:
        return await database.run(audit)

    return Place(
        PostgresSubjectKeys(database),
        lambda ring: PostgresEventStore(database, keyring=ring),
        lambda ring: PostgresSnapshots(database, keyring=ring),
        PostgresProjections(database),
        dump,
        audited,
    )


ANN = StreamId("customer-ann")


def encoded(fact: object, event_id: UUID | None = None) -> NewEvent:
    """Call this for an event with a new id."""
    return TYPES.encode(fact, event_id=event_id or uuid4())


async def read(store: EventStore, stream_id: StreamId = ANN) -> list[object]:
    """Call this for a stream's events as their classes."""
    return [TYPES.decode(event) for event in [one async for one in store.load(stream_id)]]


class SubjectKeysSuite:
    """The conformance suite of `SubjectKeys`."""

    async def test_the_first_key_of_a_subject_stays(self, place: Place) -> None:
        # STORE-44
        one, other = SubjectKey("a", 1, "m", b"1"), SubjectKey("a", 1, "m", b"2")
        assert await place.keys.find(["a"]) == {}
        assert await place.keys.add([one]) == {"a": one}
        assert await place.keys.add([other, SubjectKey("b", 1, "m", b"3")]) == {
            "a": one,
            "b": SubjectKey("b", 1, "m", b"3"),
        }
        assert await place.keys.masters() == {"m": 2}

    async def test_a_forgotten_subject_stays_without_a_key(self, place: Place) -> None:
        # STORE-44: also one that never had any; audited once
        await place.keys.add([SubjectKey("a", 1, "m", b"1")])
        assert await place.keys.forgets() == (0, ())
        assert await place.keys.forget("a", by="ann")
        assert not await place.keys.forget("a", by="bob")
        assert await place.keys.forget("b", by="bob")
        kept = await place.keys.add([SubjectKey("a", 1, "m", b"2"), SubjectKey("b", 1, "m", b"2")])
        assert all(one.is_forgotten for one in kept.values())
        count, subjects = await place.keys.forgets(0)
        assert (count, list(subjects)) == (2, ["a", "b"])
        count, subjects = await place.keys.forgets(1)
        assert (count, list(subjects)) == (2, ["b"])
        assert await place.audited() == [
            ("ann", "subject.forget", "a"),
            ("bob", "subject.forget", "b"),
        ]
        assert await place.keys.masters() == {}

    async def test_a_new_key_only_on_wish(self, place: Place) -> None:
        # STORE-44
        await place.keys.add([SubjectKey("a", 1, "m", b"1")])
        assert not await place.keys.readmit(SubjectKey("a", 2, "m", b"2"), by="ann")
        await place.keys.forget("a", by="ann")
        assert not await place.keys.readmit(SubjectKey("a", 3, "m", b"2"), by="ann")
        assert await place.keys.readmit(SubjectKey("a", 2, "m", b"2"), by="ann")
        assert await place.keys.find(["a"]) == {"a": SubjectKey("a", 2, "m", b"2")}
        assert await place.keys.forget("a", by="ann")
        assert (await place.keys.forgets())[0] == 2

    async def test_what_no_store_can_keep_is_refused(self, place: Place) -> None:
        # STORE-44: alike everywhere, and nothing is forgotten
        for subject in ("", "a\x00", "\ud800", "x" * 256):
            with pytest.raises(InvalidField):
                await place.keys.find(["a", subject])
            with pytest.raises(InvalidField):
                await place.keys.forget(subject, by="ann")
            with pytest.raises(InvalidField):
                SubjectKey(subject, 1, "m", b"1")
            with pytest.raises(InvalidField):
                await place.ring().forget(subject, by="ann")
        with pytest.raises(InvalidField):
            await place.keys.forget("a", by="\x00")
        assert (await place.keys.forgets())[0] == 0

    async def test_a_wrapping_is_replaced_only_as_it_was(self, place: Place) -> None:
        # STORE-44
        old = SubjectKey("a", 1, "m", b"1")
        await place.keys.add([old, SubjectKey("b", 1, "n", b"2")])
        assert await place.keys.wrapped_by_others("n") == [old]
        new = SubjectKey("a", 1, "n", b"3")
        assert await place.keys.rewrap(old, new)
        assert not await place.keys.rewrap(old, new)
        assert await place.keys.wrapped_by_others("n") == []
        await place.keys.forget("b", by="ann")
        assert not await place.keys.rewrap(
            SubjectKey("b", 1, "n", b"2"), SubjectKey("b", 1, "m", b"")
        )


class PrivateFieldsSuite:
    """Sealing and opening, on every engine."""

    async def test_what_is_private_is_stored_sealed_and_read_in_clear(self, place: Place) -> None:
        # STORE-44
        store = place.events(place.ring())
        facts = [
            Named("ann", Private("Ann Clear"), 7),
            Counted(1),
            Named("ann", Private("x"), note=Private("Note Clear")),
        ]
        await store.append(ANN, [encoded(one) for one in facts])
        assert await read(store) == facts
        page = await place.events(place.ring()).read_all()
        assert [TYPES.decode(event) for event in page.events] == facts
        assert [event.codec for event in page.events] == [PRIVATE_CODEC, "json", PRIVATE_CODEC]
        stored = await place.dump()
        assert b"Clear" not in stored
        assert b'"number":7' in stored or b'\\"number\\":7' in stored
        for shown in (repr(page.events), repr(facts), str(facts[0]), f"{facts}"):
            assert "Clear" not in shown

    async def test_an_append_that_is_repeated_is_a_repeat(self, place: Place) -> None:
        # STORE-12, STORE-44: another process seals the same event to the same bytes
        one = encoded(Named("ann", Private("Ann")))
        first = await place.events(place.ring()).append(ANN, [one])
        again = await place.events(place.ring()).append(ANN, [one])
        assert again.replayed
        assert again.cursor == first.cursor
        batch = [AppendRequest(ANN, [one]), AppendRequest(ANN, [encoded(Counted(1))])]
        outcomes = await place.events(place.ring()).append_batch(batch)
        assert [getattr(one, "replayed", None) for one in outcomes] == [True, False]
        other = encoded(Named("ann", Private("Bob")), one.event_id)
        with pytest.raises(DuplicateEventId):
            await place.events(place.ring()).append(ANN, [other])

    async def test_a_store_without_keys_takes_nothing_private(self, place: Place) -> None:
        # STORE-44
        bare = place.events(None)
        one = encoded(Named("ann", Private("Ann Clear")))
        with pytest.raises(KeyringMissing):
            await bare.append(ANN, [one])
        with pytest.raises(KeyringMissing):
            await bare.append_batch([AppendRequest(ANN, [one])])
        with pytest.raises(KeyringMissing):
            await place.snapshots(None).save(
                Snapshot(ANN, 1, "s", b"{}", frozenset({"customer:ann"}))
            )
        assert await bare.head(ANN) == 0
        await place.events(place.ring()).append(ANN, [one, encoded(Counted(1))])
        with pytest.raises(KeyringMissing):
            await read(bare)
        assert TYPES.decode((await bare.read_all()).events[1]) == Counted(1)

    async def test_a_sealed_field_opens_in_its_own_place_only(self, place: Place) -> None:
        # STORE-44: moved to another event, stream, type or field it is an error, never a text
        ring = place.ring()
        store = place.events(ring)
        await store.append(ANN, [encoded(Named("ann", Private("Ann"), note=Private("N")))])
        (stored,) = (await store.read_all()).events
        fields = msgspec.json.decode(stored.data)
        swapped = msgspec.json.decode(stored.data)
        sealed = swapped["$private"]["fields"]
        sealed["name"], sealed["note"] = sealed["note"], sealed["name"]
        moved = [
            msgspec.structs.replace(stored, stream_id="customer-bob"),
            msgspec.structs.replace(stored, event_id=uuid4()),
            msgspec.structs.replace(stored, schema_version=2),
            msgspec.structs.replace(stored, data=msgspec.json.encode(swapped)),
        ]
        for event in await ring.open(moved[:2] + moved[3:]):
            with pytest.raises(CodecError, match="changed, or moved"):
                TYPES.decode(event)
        (other,) = await ring.open(moved[2:3])
        assert other.private is not None
        assert other.private.broken == {"name", "note"}
        # And in its place it does, in whatever order the database gives the JSON.
        turned = msgspec.json.encode(dict(reversed(fields.items())))
        (same,) = await ring.open([msgspec.structs.replace(stored, data=turned)])
        assert TYPES.decode(same) == Named("ann", Private("Ann"), note=Private("N"))

    async def test_a_row_of_nonsense_keeps_nobody_from_the_others(self, place: Place) -> None:
        # STORE-42, STORE-44: written by hand; it is an error of its own when it is decoded
        ring = place.ring()
        store = place.events(ring)
        await store.append(ANN, [encoded(Named("ann", Private("Ann")))])
        for data in (
            b"{}",
            b"[]",
            b"\xff",
            b'{"$private":7}',
            b'{"$private":{"keys":{"a\\u0000":1},"fields":{"name":"AAAA"}}}',
            b'{"$private":{"keys":{"customer:ann":1},"fields":{"name":"AAAA"}}}',
            b'{"$private":{"keys":{"customer:ann":"x"},"fields":{}}}',
            b'{"$private":{"keys":{"customer:nobody":1},"fields":{"name":"AAAA"}}}',
        ):
            await store.append(ANN, [NewEvent(uuid4(), "Named", data, codec=PRIVATE_CODEC)])
        first, *others = (await place.events(place.ring()).read_all()).events
        assert TYPES.decode(first) == Named("ann", Private("Ann"))
        assert len(others) == 8
        for event in others:
            with pytest.raises(CodecError):
                TYPES.decode(event)

    async def test_a_damaged_key_is_told_and_erases_nothing(self, place: Place) -> None:
        # STORE-44: other subjects are read all the same
        store = place.events(place.ring())
        await store.append(ANN, [encoded(Named(who, Private(who))) for who in ("ann", "bob")])
        kept = (await place.keys.find(["customer:ann"]))["customer:ann"]
        assert await place.keys.rewrap(kept, replace(kept, wrapped=b"x" * 60))
        late = place.events(place.ring())
        ann, bob = (await late.read_all()).events
        assert TYPES.decode(bob) == Named("bob", Private("bob"))
        with pytest.raises(CodecError, match="its key is damaged"):
            TYPES.decode(ann)
        with pytest.raises(StoredDataError):
            await late.append(ANN, [encoded(Named("ann", Private("more")))])
        assert await place.ring().rewrap() == 0

    async def test_of_two_who_make_a_key_one_wins(self, place: Place) -> None:
        # STORE-44: the texts of both can be read
        stores = [place.events(place.ring()) for _ in range(4)]

        async def append(number: int) -> None:
            name = Private(str(number))
            await stores[number].append(ANN, [encoded(Named("ann", name, number))])

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(append, number)
        found = await read(place.events(place.ring()))
        assert len(found) == 4
        for one in found:
            assert isinstance(one, Named)
            assert one.name == Private(str(one.number))

    async def test_another_master_key_is_named_as_missing(self, place: Place) -> None:
        # STORE-44: nothing is lost, and a former key is enough; then all are moved to the first
        await place.events(place.ring()).append(ANN, [encoded(Named("ann", Private("Ann")))])
        wrong = SubjectKeyring(place.keys, OTHER)
        for attempt in (wrong.check_masters(), read(place.events(wrong))):
            with pytest.raises(Exception, match="master key") as caught:
                await attempt
            assert caught.type.__name__ == "MasterKeyMissing"
        both = SubjectKeyring(place.keys, OTHER, MASTER)
        await both.check_masters()
        assert await read(place.events(both)) == [Named("ann", Private("Ann"))]
        assert await both.rewrap() == 1
        assert await both.rewrap() == 0
        alone = SubjectKeyring(place.keys, OTHER)
        await alone.check_masters()
        assert await read(place.events(alone)) == [Named("ann", Private("Ann"))]


class Names(Projection):
    """A read model that has private texts in clear."""

    name = "names"
    handles = (Named, Counted)
    types = TYPES

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        fact = self.types.decode(event)
        if isinstance(fact, Named):
            if fact.number < 0:
                raise ValueError(f"no name: {fact.name.reveal()}")
            tx.put(fact.customer, {"name": fact.name.reveal()})


@dataclass(frozen=True)
class Customer:
    """The state of an aggregate with a private value."""

    name: Private[str]
    changes: int = 0


class Customers(Aggregate[Customer, Named, Named]):
    category = "customer"
    state_type = Customer
    snapshot_every = 2
    types = TYPES

    def initial(self) -> Customer:
        return Customer(Private(""))

    def decide(self, state: Customer, command: Named, env: Environment) -> Decision[Named]:
        return [command]

    def apply(self, state: Customer, event: Named) -> Customer:
        return Customer(event.name, state.changes + 1)


class _World:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def new_id(self) -> UUID:
        return uuid4()


_ENV = Environment(_World(), _World())


class _SlowKeys:
    """A table of keys whose answers may be held up on their way."""

    def __init__(self, keys: SubjectKeys) -> None:
        self._keys = keys
        self._held: dict[str, tuple[trio.Event, trio.Event]] = {}

    def __getattr__(self, name: str) -> object:
        call = getattr(self._keys, name)

        async def answer(*args: object, **options: object) -> object:
            found = await call(*args, **options)
            if name in self._held:
                is_there, go_on = self._held.pop(name)
                is_there.set()
                await go_on.wait()
            return found

        return answer

    async def hold(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        task_status: trio.TaskStatus[trio.Event],
    ) -> None:
        """Call this in a nursery: started when the answer to the work's call is held up."""
        is_there, go_on = self._held[name] = (trio.Event(), trio.Event())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await is_there.wait()
            task_status.started(go_on)


class ForgettingSuite:
    """What remains of a forgotten subject, and what does not, on every engine."""

    async def test_later_reads_give_erased_and_the_rest_stays(self, place: Place) -> None:
        # STORE-44, SEC-136
        ring = place.ring()
        store = place.events(ring)
        await store.append(
            ANN, [encoded(Named("ann", Private("Ann"), 7)), encoded(Named("bob", Private("Bob")))]
        )
        assert await ring.forget("customer:ann", by="admin")
        assert not await ring.forget("customer:ann", by="admin")
        first, second = await read(store)
        assert first == Named("ann", Private(ERASED), 7)
        assert second == Named("bob", Private("Bob"))
        elsewhere = place.events(place.ring())
        assert await read(elsewhere) == [first, second]
        backwards = [TYPES.decode(event) async for event in elsewhere.load_backwards(ANN)]
        assert backwards == [second, first]
        page = await elsewhere.read_backwards()
        assert [TYPES.decode(event) for event in page.events] == [second, first]
        assert isinstance(first, Named)
        assert first.name.reveal() is ERASED
        assert (str(first.name), msgspec.json.encode(first.name.reveal())) == (
            "ERASED",
            b'"ERASED"',
        )

    async def test_what_this_process_forgot_is_known_at_once(self, place: Place) -> None:
        # STORE-44: also by whoever has asked before, and hears the answer only afterwards
        moment = 0.0
        await place.events(place.ring()).append(ANN, [encoded(Named("ann", Private("Ann")))])
        table = _SlowKeys(place.keys)
        ring = SubjectKeyring(cast("SubjectKeys", table), MASTER, fresh_s=10.0, now=lambda: moment)
        store, ann = place.events(ring), frozenset({"customer:ann"})
        has_read = trio.Event()

        async def read_once() -> None:
            await read(store)
            has_read.set()

        async with trio.open_nursery() as nursery:
            go_on_reading = await nursery.start(table.hold, "find", read_once)
            moment = 100.0
            go_on_asking = await nursery.start(table.hold, "forgets", ring.forgets)
            await ring.forget("customer:ann", by="admin")
            assert ring.has_forgotten(ann, 0)
            go_on_reading.set()
            await has_read.wait()
            go_on_asking.set()
        assert ring.has_forgotten(ann, 0)
        assert await read(store) == [Named("ann", Private(ERASED))]
        assert await ring.forgets() == 1
        assert (ring.has_forgotten(ann, 0), ring.has_forgotten(ann, 1)) == (True, False)

    async def test_a_later_append_makes_no_key_in_silence(self, place: Place) -> None:
        # STORE-44: nor one of a process that had the key, once it has heard
        ring, other = place.ring(), place.ring(fresh_s=PATIENCE_S)
        store, late = place.events(ring), place.events(other)
        await late.append(ANN, [encoded(Named("ann", Private("one")))])
        await ring.forget("customer:ann", by="admin")
        with pytest.raises(SubjectForgotten):
            await store.append(ANN, [encoded(Named("ann", Private("two")))])
        # It has not heard yet: stored, as if it had come before, and read by nobody who has.
        await late.append(ANN, [encoded(Named("ann", Private("three")))])
        assert await read(store) == [Named("ann", Private(ERASED))] * 2
        await other.forget("customer:ann", by="admin")
        with pytest.raises(SubjectForgotten):
            await late.append(ANN, [encoded(Named("ann", Private("four")))])
        assert await read(late) == [Named("ann", Private(ERASED))] * 2
        # On wish there is a new key, which opens nothing of before.
        assert await ring.readmit("customer:ann", by="admin")
        await store.append(ANN, [encoded(Named("ann", Private("five")))])
        assert await read(place.events(place.ring())) == [
            *[Named("ann", Private(ERASED))] * 2,
            Named("ann", Private("five")),
        ]

    async def test_of_several_subjects_each_takes_the_field_along(self, place: Place) -> None:
        # STORE-44: a text of a person and of a day ends with either
        ring = place.ring()
        store = place.events(ring)
        facts = [
            Said(who, day, Private(f"{who} {day}"))
            for who in ("ann", "bob")
            for day in ("mo", "tu")
        ]
        await store.append(ANN, [encoded(one) for one in facts])
        await ring.forget("day:mo", by="purge")
        await ring.forget("customer:ann", by="admin")
        texts = [one.text.reveal() for one in await read(store) if isinstance(one, Said)]
        assert texts == [ERASED, ERASED, ERASED, "bob tu"]
        assert await read(place.events(place.ring())) == await read(store)

    async def test_a_living_aggregate_and_its_snapshot_forget(self, place: Place) -> None:
        # STORE-44: the state is made anew from what can be read, and a snapshot is no way back
        ring = place.ring()
        store, snapshots = place.events(ring), place.snapshots(ring)
        async with open_actors() as system:

            def make() -> AggregateActor[Customer, Named, Named]:
                return AggregateActor(
                    Customers(), "ann", store, _ENV, snapshots=snapshots, keyring=ring
                )

            first = await system.start(make)
            for number in range(3):
                assert isinstance(
                    await execute(first, Named("ann", Private("Ann Clear"), number)), Done
                )
            with trio.fail_after(PATIENCE_S):
                while (kept := await snapshots.latest(ANN)) is None:
                    await trio.lowlevel.checkpoint()
            assert kept.subjects == {"customer:ann"}
            assert b"Ann Clear" in kept.data
            assert "Clear" not in repr(kept)
            assert b"Clear" not in await place.dump()
            second = await system.start(make)
            assert await ask_state(second) == (3, Customer(Private("Ann Clear"), 3))
            await ring.forget("customer:ann", by="admin")
            erased = (3, Customer(Private(ERASED), 3))
            assert await ask_state(first) == erased
            assert await snapshots.latest(ANN) is None
            assert await ask_state(await system.start(make)) == erased
            # What a process that has not heard would write is read by nobody.
            with pytest.raises(SubjectForgotten):
                await snapshots.save(Snapshot(ANN, 9, "s", b"{}", frozenset({"customer:ann"})))
            # A snapshot of the erased state is one like any other.
            await execute(second, Named("bob", Private("Bob"), 1))
            assert await ask_state(second) == (4, Customer(Private("Bob"), 4))
        with pytest.raises(AggregateContractError, match="keyring"):
            AggregateActor(Customers(), "ann", store, _ENV)

    async def test_read_models_are_built_anew(self, place: Place) -> None:
        # STORE-44, SEC-136: no clear text in any table afterwards
        ring = place.ring()
        store = place.events(ring)
        await store.append(ANN, [encoded(Named("ann", Private("Ann Clear")))])
        last = await store.append(ANN, [encoded(Named("bob", Private("Bob Open")))])
        async with open_actors() as system:
            await start_runner(system, place, store)
            await wait_until(place.projections, "names", last.cursor, timeout_s=PATIENCE_S)
            assert b"Ann Clear" in await place.dump()
            await ring.forget("customer:ann", by="admin")
            await wait_forgotten(place, b"Ann Clear")
            collection = await live_collection(place.projections, "names")
            assert collection == "names__g2"
            assert dict(await place.projections.query(collection)) == {
                "ann": {"name": "ERASED"},
                "bob": {"name": "Bob Open"},
            }
            # And goes on, and again.
            last = await store.append(ANN, [encoded(Named("eve", Private("Eve Open")))])
            await wait_until(place.projections, "names", last.cursor, timeout_s=PATIENCE_S)
            await ring.forget("customer:bob", by="admin")
            await wait_forgotten(place, b"Bob Open")
            assert await live_collection(place.projections, "names") == "names__g3"
            # One of whom it has read nothing outdates nothing.
            await ring.forget("customer:unknown", by="admin")
            known = await place.projections.checkpoints("names")
            assert [one.is_outdated for one in known] == [True, True, False]
        assert b"Eve Open" in await place.dump()

    async def test_what_is_being_built_begins_anew_only_when_it_must(self, place: Place) -> None:
        # STORE-44: also one that is kept for going back is no way back
        ring = place.ring()
        store = place.events(ring)
        last = await store.append(ANN, [encoded(Named("ann", Private("Ann Clear")))])
        async with open_actors() as system:
            await start_runner(system, place, store)
            await wait_until(place.projections, "names", last.cursor, timeout_s=PATIENCE_S)
        await begin_rebuild(place.projections, Names())
        await ring.forget("customer:bob", by="admin")
        known = await place.projections.checkpoints("names")
        assert [one.state for one in known] == [GenerationState.LIVE, GenerationState.BUILDING]
        async with open_actors() as system:
            await system.start(
                lambda: ProjectionRunner(Names(), store, place.projections, rebuild=True)
            )
            with trio.fail_after(PATIENCE_S):
                while await live_collection(place.projections, "names") != "names__g2":
                    await place.projections.changed(0.05)
        assert await place.projections.get("names__g1", "ann") == {"name": "Ann Clear"}
        await ring.forget("customer:ann", by="admin")
        assert await place.projections.get("names__g1", "ann") is None
        await place.projections.swap("names", 1)
        known = await place.projections.checkpoints("names")
        assert [one.state for one in known] == [GenerationState.RETIRED, GenerationState.LIVE]
        assert [one.is_outdated for one in known] == [True, True]
        # Found by the next start, too.
        async with open_actors() as system:
            await start_runner(system, place, store)
            await wait_forgotten(place, b"Ann Clear")
        assert await live_collection(place.projections, "names") == "names__g3"

    async def test_what_is_being_removed_says_nothing_of_who_is_forgotten(
        self, place: Place
    ) -> None:
        # STORE-44, PROJ-8: nor does forgetting somebody else remove it at once, however large
        store, ring = place.projections, place.ring()
        begun = await store.open("names", 1, 1, GenerationState.LIVE)
        names = {str(number): {"name": "Ann Clear"} for number in range(3)}
        subjects = frozenset({"customer:ann", "customer:eve"})
        batch = ProjectionBatch(begun, begun.cursor, names, forgets=0, subjects=subjects)
        assert await store.commit(batch)
        await store.open("names", 2, 2, GenerationState.LIVE)
        await store.swap("names", 2)
        assert await store.purge(1, older_than=timedelta(0)) == 1
        await ring.forget("customer:bob", by="admin")
        assert len(await store.query("names__g1")) == 2
        await ring.forget("customer:ann", by="admin")
        assert await store.query("names__g1") == []
        assert await store.purge(older_than=timedelta(0)) == 1

    async def test_a_process_that_has_not_heard_writes_nothing_down(self, place: Place) -> None:
        # STORE-44: its keys still open the text, and its commits are refused until it asks
        deaf, ring = place.ring(fresh_s=0.5), place.ring()
        store = place.events(deaf)
        await store.append(ANN, [encoded(Named("ann", Private("Ann Clear")))])
        await read(store)
        await ring.forget("customer:ann", by="admin")
        assert await read(store) == [Named("ann", Private("Ann Clear"))]
        async with open_actors() as system:
            await start_runner(system, place, store)
            with trio.fail_after(PATIENCE_S):
                while await place.projections.get("names__g1", "ann") is None:
                    assert b"Ann Clear" not in await place.dump()
                    await place.projections.changed(0.05)
        assert await place.projections.get("names__g1", "ann") == {"name": "ERASED"}

    async def test_what_a_poison_says_is_not_kept(self, place: Place) -> None:
        # STORE-44: the letter has the event sealed, and not the words of its error
        store = place.events(place.ring())
        one = Named("ann", Private("Ann Clear"), -1)
        await store.append(ANN, [encoded(one)])
        async with open_actors() as system:
            await start_runner(system, place, store)
            with trio.fail_after(PATIENCE_S):
                while not await place.projections.parked_streams("names__g1"):
                    await place.projections.changed(0.05)
        stored = await place.dump()
        assert b"ValueError" in stored
        assert b"Clear" not in stored


async def start_runner(system: System, place: Place, store: EventStore) -> None:
    """Call this to start the runner of `Names`."""
    await system.start(lambda: ProjectionRunner(Names(), store, place.projections))


async def wait_forgotten(place: Place, text: bytes) -> None:
    """Call this to wait until no table has a text."""
    with trio.fail_after(PATIENCE_S):
        while text in await place.dump():
            await place.projections.changed(0.05)
