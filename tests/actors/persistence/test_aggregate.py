"""The event-sourced actor: decides on what is stored, and survives what may go wrong."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from dataclasses import field as dataclass_field
from functools import partial
from unittest.mock import ANY
from uuid import UUID

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.persistence import (
    Aggregate,
    AggregateActor,
    AggregateContractError,
    AggregateRef,
    Appended,
    AppendRequest,
    Beside,
    ConcurrencyConflict,
    Decision,
    Done,
    Fenced,
    ForeignTenant,
    Idempotent,
    InvalidField,
    LookAtOutbox,
    OutboxMessage,
    Refusal,
    SetTimer,
    Shard,
    StoredEvent,
    StoreUnavailable,
    StreamArchived,
    StreamGone,
    StreamId,
    Tagged,
    ask_state,
    execute,
)
from actors.persistence.aggregate import check_aggregate, schema_tag
from actors.reducers import Environment
from actors.runtime import Context, Shutdown, System, edge_context, open_actors
from storage.memory import MemoryEventStore, MemoryOutbox, MemorySnapshots, MemoryTimers
from storage.testing.samples import NOON
from tests.actors.persistence.accounts import (
    TYPES,
    Account,
    Balance,
    Command,
    Deposit,
    Deposited,
    HowMuch,
    Withdraw,
    Withdrawn,
    environment,
)
from tests.actors.runtime.kit import Recorder
from tests.tallied import numbers

ONE = StreamId("account-1")
Happened = Deposited | Withdrawn


async def _start(
    system: System,
    store: MemoryEventStore,
    snapshots: MemorySnapshots | None = None,
    shard: Shard | None = None,
    idle_s: float = 900.0,
    tenant: str | None = None,
    env: Environment | None = None,
) -> AggregateRef:
    def make() -> AggregateActor[Balance, Deposit | Withdraw | HowMuch, Deposited | Withdrawn]:
        return AggregateActor(
            Account(),
            "1",
            store,
            env or environment(),
            snapshots=snapshots,
            shard=shard,
            idle_s=idle_s,
            tenant=tenant,
        )

    return await system.start(make)


class Telling(Account):
    """An account that tells of each deposit, in the append of it."""

    def beside(
        self,
        before: Balance,
        events: Sequence[Deposited | Withdrawn],
        metadata: Mapping[str, str],
    ) -> Beside:
        told = f"{before}:{len(events)}".encode()
        message = OutboxMessage(UUID(int=7), "hook", "bank", "k", told, metadata)
        timer = SetTimer(UUID(int=8), "account-1", "review", "t", NOON)
        return Beside((message,), (timer,))


async def test_what_an_aggregate_says_goes_into_the_append_of_its_events() -> None:
    # SAGA-2: and with the events only, whole or not at all
    store = MemoryEventStore()
    outbox, timers = MemoryOutbox(store.database), MemoryTimers(store.database)
    async with open_actors() as system:

        def make() -> AggregateActor[Balance, Deposit | Withdraw | HowMuch, Deposited | Withdrawn]:
            return AggregateActor(Telling(), "1", store, environment())

        ref = await system.start(make)
        assert isinstance(await execute(ref, Withdraw(9)), Refusal)
        assert (await outbox.stats()).pending == await timers.pending() == 0
        store.fail_next(StoreUnavailable("away"))
        with pytest.raises(StoreUnavailable):
            await execute(ref, Deposit(5))
        assert (await outbox.stats()).pending == await timers.pending() == 0
        assert isinstance(await execute(ref, Deposit(5)), Done)
        assert (await outbox.stats()).pending == await timers.pending() == 1
        (row,) = store.database.outbox.values()
        assert "timestamp" in row.message.headers


async def test_who_sends_rings_and_shows_is_told_behind_the_append() -> None:
    # SAGA-15, EX-2: by the aggregate's own actor, and of what came to nothing by none
    store, told, shown = MemoryEventStore(), list[object](), Recorder()
    env = environment()
    async with open_actors() as system:

        def make(
            aggregate: Account, id_: str
        ) -> AggregateActor[Balance, Deposit | Withdraw | HowMuch, Deposited | Withdrawn]:
            return AggregateActor(
                aggregate,
                id_,
                store,
                env,
                look_at_outbox=told.append,
                look_for_timers=lambda: told.append("timers"),
                topic="accounts",
            )

        system.topics.subscribe("accounts", shown)
        ref = await system.start(partial(make, Telling(), "1"))
        assert isinstance(await execute(ref, Withdraw(9)), Refusal)
        assert (told, shown.got) == ([], [])
        done = await execute(ref, Deposit(5))
        assert (told, shown.got) == ([LookAtOutbox(), "timers"], [done])
        quiet = await system.start(partial(make, Account(), "2"))
        done = await execute(quiet, Deposit(5))
        assert (len(told), shown.got[1:]) == (2, [done])
        # Nobody knows what is stored: who shows it looks.
        store.fail_next(StoreUnavailable("away"))
        with pytest.raises(StoreUnavailable):
            await execute(ref, Deposit(5))
        assert (len(told), [type(one).__name__ for one in shown.got[2:]]) == (2, ["Failed"])


async def test_a_command_is_decided_stored_and_applied() -> None:
    # CORE-9, CORE-10
    store = MemoryEventStore()
    async with open_actors() as system:
        ref = await _start(system, store)
        done = await execute(ref, Deposit(5))
        assert isinstance(done, Done)
        assert (done.version, done.events) == (1, (Deposited(5),))
        assert done.cursor == store.database.events[0].cursor
        refused = await execute(ref, Withdraw(9))
        assert isinstance(refused, Refusal)
        assert refused.code == "too_little"
        answer = await execute(ref, HowMuch())
        assert isinstance(answer, Done)
        assert (answer.value, answer.cursor) == (5, None)
        assert await ask_state(ref) == (1, Balance(5, 1))
    assert store.event_count() == 1


async def test_the_context_is_stored_with_the_event() -> None:
    # CORE-31: in the stream of no tenant with the tenant that it was for, which it is not of
    store = MemoryEventStore()
    async with open_actors() as system:
        ref = await _start(system, store)
        with edge_context(Context("c-9", traceparent="t-9", user_id="u-9", tenant="acme")):
            await execute(ref, Deposit(5))
    stored = store.database.events[0]
    assert stored.tenant is None
    names = ("correlation_id", "traceparent", "user_id", "tenant")
    kept = {name: stored.metadata[name] for name in names}
    assert kept == {
        "correlation_id": "c-9",
        "traceparent": "t-9",
        "user_id": "u-9",
        "tenant": "acme",
    }
    assert stored.metadata["timestamp"] == "2025-01-01T00:00:00+00:00"
    assert "causation_id" in stored.metadata


async def test_an_aggregate_of_a_tenant_uses_its_view() -> None:
    # CORE-30: stream and snapshots; and it does nothing for another
    store, snapshots, env = MemoryEventStore(), MemorySnapshots(), environment()
    async with open_actors() as system:
        free = await _start(system, store, snapshots, env=env)
        await execute(free, Deposit(1))
        acme = await _start(system, store, snapshots, tenant="acme", env=env)
        for _ in range(5):
            with edge_context(Context("c-1", tenant="acme")):
                await execute(acme, Deposit(5))
        with edge_context(Context("c-1", tenant="globex")), pytest.raises(ForeignTenant):
            await execute(acme, HowMuch())
        with edge_context(Context("c-1", tenant="globex")), pytest.raises(ForeignTenant):
            await ask_state(acme)
        await execute(acme, Deposit(5))
        assert await ask_state(acme) == (6, Balance(30, 6))
        assert await ask_state(free) == (1, Balance(1, 1))
        await trio.testing.wait_all_tasks_blocked()
        # A view is enough: the snapshots follow it.
        again = await _start(system, store.for_tenant("acme"), snapshots)
        assert await ask_state(again) == (6, Balance(30, 6))
    assert await snapshots.latest(ONE) is None
    kept = await snapshots.for_tenant("acme").latest(ONE)
    assert kept is not None
    own = [event for event in store.database.events if event.tenant == "acme"]
    assert len(own) == 6
    assert all("tenant" not in event.metadata for event in own)


async def test_events_have_the_tags_that_the_aggregate_gives() -> None:
    # STORE-7
    class Marked(Account):
        def tags(self, event: Deposited | Withdrawn) -> Sequence[str]:
            return ("large",) if event.amount > 5 else ()

    store = MemoryEventStore()
    async with open_actors() as system:
        ref = await system.start(lambda: AggregateActor(Marked(), "1", store, environment()))
        await execute(ref, Deposit(5))
        await execute(ref, Deposit(6))
    page = await store.read_tagged([Tagged(("large",))])
    assert [event.version for event in page.events] == [2]


async def test_a_new_incarnation_reads_its_stream() -> None:
    store = MemoryEventStore()
    async with open_actors() as system:
        first = await _start(system, store)
        for amount in range(1, 8):
            await execute(first, Deposit(amount))
        await first.stop()
        second = await _start(system, store)
        assert await ask_state(second) == (7, Balance(28, 7))


async def test_a_snapshot_shortens_loading_and_changes_nothing() -> None:
    # STORE-40
    store, snapshots = MemoryEventStore(), MemorySnapshots()
    async with open_actors() as system:
        first = await _start(system, store, snapshots)
        for amount in range(1, 8):
            await execute(first, Deposit(amount))
        await trio.testing.wait_all_tasks_blocked()
        kept = await snapshots.latest(ONE)
        assert kept is not None
        assert kept.version == 5
        await first.stop()
        # Were these read, the balance would be another one.
        store.database.streams[ONE][0:5] = [store.database.streams[ONE][0]] * 5
        second = await _start(system, store, snapshots)
        assert await ask_state(second) == (7, Balance(28, 7))
        # OBS-1
        assert numbers(system, "store_snapshots_total") == {("stored",): 1, ("used",): 1}


@pytest.mark.parametrize("wrong", ["schema", "bytes"])
async def test_an_unreadable_snapshot_is_ignored(wrong: str) -> None:
    # STORE-40
    store, snapshots = MemoryEventStore(), MemorySnapshots()
    async with open_actors() as system:
        first = await _start(system, store, snapshots)
        for _ in range(5):
            await execute(first, Deposit(2))
        await trio.testing.wait_all_tasks_blocked()
        await first.stop()
        kept = snapshots.database.snapshots[ONE]
        changed = {"schema": ("other", b"{}"), "bytes": (kept.schema, b"nonsense")}[wrong]
        snapshots.database.snapshots[ONE] = type(kept)(ONE, 99, *changed)
        second = await _start(system, store, snapshots)
        assert await ask_state(second) == (5, Balance(10, 5))
        assert numbers(system, "store_snapshots_total")["ignored",] == 1


async def test_a_failing_snapshot_hurts_nobody() -> None:
    # STORE-40: outside the append
    store, snapshots = MemoryEventStore(), MemorySnapshots()
    async with open_actors() as system:
        ref = await _start(system, store, snapshots)
        snapshots.fail_next(StoreUnavailable("planted"), times=9)
        for _ in range(6):
            assert isinstance(await execute(ref, Deposit(1)), Done)
        await trio.testing.wait_all_tasks_blocked()
        assert numbers(system, "store_snapshots_total") == {("failed",): 1}


class _Interfering(MemoryEventStore):
    """Another writer comes first, so many times."""

    times = 0

    async def append_request(self, request: AppendRequest) -> Appended:
        if self.times:
            self.times -= 1
            other = TYPES.encode(Withdrawn(1), event_id=environment().ids.new_id())
            other = type(other)(
                event_id=type(other.event_id)(int=self.event_count() + 10**6),
                type=other.type,
                data=other.data,
                schema_version=other.schema_version,
            )
            await super().append_request(AppendRequest(request.stream_id, [other]))
        return await super().append_request(request)


async def test_a_conflict_is_decided_again(autojump_clock: trio.testing.MockClock) -> None:
    # STORE-14: with what is there by then
    store = _Interfering()
    async with open_actors() as system:
        ref = await _start(system, store)
        await execute(ref, Deposit(5))
        store.times = 2
        began = trio.current_time()
        assert isinstance(await execute(ref, Withdraw(3)), Done)
        assert 0.01 <= trio.current_time() - began <= 0.1
        assert await ask_state(ref) == (4, Balance(0, 4))
        await execute(ref, Deposit(3))
        store.times = 1
        # After the other writer's withdrawal too little is left: refused, not appended.
        assert isinstance(await execute(ref, Withdraw(3)), Refusal)


async def test_a_conflict_that_stays_is_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    # DOC-4, STORE-14
    store = _Interfering()
    async with open_actors() as system:
        ref = await _start(system, store)
        store.times = 99
        with pytest.raises(ConcurrencyConflict):
            await execute(ref, Deposit(3))
        assert store.times == 95
        store.times = 0
        done = await execute(ref, Deposit(3))
        assert isinstance(done, Done)
        assert done.version == 5


async def test_where_others_write_too_no_answer_is_given_without_a_look() -> None:
    # SAGA-7: a refusal stores nothing, so no append tells that the state was an old one
    store, env = MemoryEventStore(), environment()
    async with open_actors() as system:

        def make(is_shared: bool) -> AggregateActor[Balance, Command, Happened]:
            return AggregateActor(Account(), "1", store, env, is_shared=is_shared)

        alone, shared, other = [
            await system.start(partial(make, is_shared)) for is_shared in (False, True, False)
        ]
        for ref in (alone, shared):
            assert (await execute(ref, HowMuch())).value == 0  # type: ignore[union-attr]
        await execute(other, Deposit(50))
        # Each saw nothing, and one of them knows that this may not be all.
        assert isinstance(await execute(alone, Withdraw(50)), Refusal)
        assert (await execute(shared, HowMuch())).value == 50  # type: ignore[union-attr]
        await execute(other, Deposit(1))
        assert isinstance(await execute(shared, Withdraw(51)), Done)
        assert isinstance(await execute(shared, Withdraw(1)), Refusal)
        await execute(other, Deposit(7))
        assert [(await ask_state(ref))[0] for ref in (alone, shared)] == [0, 4]


async def test_an_unknown_outcome_is_read_before_deciding() -> None:
    # STORE-18
    class StoresAndLoses(MemoryEventStore):
        is_losing = False

        async def append_request(self, request: AppendRequest) -> Appended:
            appended = await super().append_request(request)
            if self.is_losing:
                raise StoreUnavailable("the answer was lost")
            return appended

    store = StoresAndLoses()
    async with open_actors() as system:
        ref = await _start(system, store)
        await execute(ref, Deposit(5))
        store.is_losing = True
        with pytest.raises(StoreUnavailable):
            await execute(ref, Withdraw(5))
        store.is_losing = False
        assert isinstance(await execute(ref, Withdraw(5)), Refusal)


async def test_a_repeat_with_its_key_has_one_effect() -> None:
    # STORE-55
    store = MemoryEventStore()
    key = Idempotent("accounts", "k-1", b"hash")
    async with open_actors() as system:
        ref = await _start(system, store)
        first = await execute(ref, Deposit(5), idempotency=key)
        again = await execute(ref, Deposit(5), idempotency=key)
        assert isinstance(first, Done)
        assert isinstance(again, Done)
        assert (again.version, again.cursor, again.replayed) == (1, first.cursor, True)
        assert await ask_state(ref) == (1, Balance(5, 1))


class Opening(Account):
    """An account that a deposit begins."""

    opens = (Deposit,)


class OpeningWithAll(Account):
    """An account that says of every command that it begins it."""

    opens = (Deposit, Withdraw, HowMuch)


class _Looked(MemoryEventStore):
    """Counts how often a stream was read; may take the answers of appends."""

    looks = 0
    is_losing = False

    def load(
        self, stream_id: StreamId, *, from_version: int = 1, to_version: int | None = None
    ) -> AsyncIterator[StoredEvent]:
        self.looks += 1
        return super().load(stream_id, from_version=from_version, to_version=to_version)

    async def append_request(self, request: AppendRequest) -> Appended:
        appended = await super().append_request(request)
        if self.is_losing:
            raise StoreUnavailable("the answer was lost")
        return appended


def _opening(
    store: MemoryEventStore, kind: type[Account] = Opening
) -> Callable[[], AggregateActor[Balance, Command, Happened]]:
    env = environment()
    return lambda: AggregateActor(kind(), "1", store, env)


async def test_a_command_that_begins_a_stream_does_not_look_for_it() -> None:
    # CORE-10, STORE-14
    store = _Looked()
    make = _opening(store)
    async with open_actors() as system:
        first = await system.start(make)
        assert await execute(first, Deposit(5)) == Done(1, (Deposited(5),), ANY)
        assert await ask_state(first) == (1, Balance(5, 1))
        assert isinstance(await execute(first, Withdraw(2)), Done)
        assert store.looks == 0
        # Where there is a stream, it is read, and decided again on what it says.
        second = await system.start(make)
        done = await execute(second, Deposit(5))
        assert isinstance(done, Done)
        assert (done.version, store.looks) == (3, 1)
        assert await ask_state(second) == (3, Balance(8, 3))
        assert store.looks == 1
    assert store.event_count() == 3


@pytest.mark.parametrize("command", [Withdraw(9), HowMuch(), None])
async def test_what_does_not_begin_a_stream_looks_first(command: object) -> None:
    # CORE-9: no answer and no refusal is of a state that was not read
    store = _Looked()
    await store.append(ONE, [TYPES.encode(Deposited(9), event_id=UUID(int=1))])
    async with open_actors() as system:
        ref = await system.start(_opening(store, OpeningWithAll))
        if command is None:
            assert await ask_state(ref) == (1, Balance(9, 1))
        else:
            assert isinstance(await execute(ref, command), Done)
        assert store.looks == 1


async def test_a_beginning_whose_answer_is_lost_happens_once() -> None:
    # STORE-18, STORE-55: with its key the repeat is answered, without one it is decided again
    store, key = _Looked(), Idempotent("accounts", "k-1", b"hash")
    async with open_actors() as system:
        ref = await system.start(_opening(store))
        store.is_losing = True
        with pytest.raises(StoreUnavailable):
            await execute(ref, Deposit(5), idempotency=key)
        store.is_losing = False
        again = await execute(ref, Deposit(5), idempotency=key)
        assert isinstance(again, Done)
        assert (again.version, again.replayed) == (1, True)
        assert await ask_state(ref) == (1, Balance(5, 1))
    assert store.event_count() == 1


async def test_an_idle_one_ends_and_a_fenced_one_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-16, CLU-14
    store = MemoryEventStore()
    async with open_actors() as system:
        ref = await _start(system, store, idle_s=60)
        await execute(ref, Deposit(5))
        began = trio.current_time()
        assert (await system.wait_down(ref)).clean  # type: ignore[union-attr]
        assert trio.current_time() - began == pytest.approx(60, abs=1)
        store.database.shards[3] = ("node-b", 2)
        fenced = await _start(system, store, shard=Shard(3, "node-a", 1))
        ends: list[object] = []

        async def watch() -> None:
            ends.append(await system.wait_down(fenced))

        async with trio.open_nursery() as nursery:
            # Watched before it is asked: once it has ended nobody can tell how.
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Fenced):
                await execute(fenced, Deposit(1))
        assert ends == [Shutdown("fenced")]
    assert store.event_count() == 1


def test_apply_must_take_what_decide_returns() -> None:
    # CORE-9
    here = r"\(.*test_aggregate\.py:\d+\)"
    with pytest.raises(AggregateContractError, match=rf"Forgetful.*Withdrawn, which.*{here}"):

        class Forgetful(Account):
            def apply(self, state: Balance, event: Deposited) -> Balance:  # type: ignore[override]
                return state

    with pytest.raises(AggregateContractError, match=rf"Later\.decide is no plain.*{here}"):

        class Later(Account):
            async def decide(  # type: ignore[override]
                self, state: Balance, command: Deposit | Withdraw, env: Environment
            ) -> Decision[Deposited | Withdrawn]:
                return []

    with pytest.raises(AggregateContractError, match=rf"Spaced\.category: .*{here}"):

        class Spaced(Account):
            category = "my account"

    class Half(Aggregate[int, int, Deposited]):
        """Has nothing yet: a base for others."""

    with pytest.raises(AggregateContractError, match=r"Half has no initial\(\)"):
        check_aggregate(Half())

    class Nameless(Half):
        def initial(self) -> int:
            return 0

        def decide(self, state: int, command: int, env: Environment) -> Decision[Deposited]:
            return ()

        def apply(self, state: int, event: Deposited) -> int:
            return state

    with pytest.raises(AggregateContractError, match="Nameless has no category"):
        check_aggregate(Nameless())

    @dataclass(frozen=True)
    class Unmarked:
        n: int

    class Unknown(Aggregate[int, int, Unmarked]):
        category, state_type, types = "unknown", int, TYPES

        def initial(self) -> int:
            return 0

        def decide(self, state: int, command: int, env: Environment) -> Decision["Unmarked"]:
            return ()

        def apply(self, state: int, event: "Unmarked") -> int:
            return state

    Unknown.apply.__annotations__["event"] = Unmarked
    Unknown.decide.__annotations__["return"] = Sequence[Unmarked]
    with pytest.raises(AggregateContractError, match="no event"):
        check_aggregate(Unknown())


@settings(max_examples=50)
@given(
    st.lists(
        st.one_of(st.builds(Deposit, st.integers(1, 9)), st.builds(Withdraw, st.integers(1, 9)))
    )
)
def test_snapshot_and_tail_equal_the_full_replay(commands: list[Deposit | Withdraw]) -> None:
    # STORE-40, for generated histories
    async def main() -> None:
        store, snapshots = MemoryEventStore(), MemorySnapshots()
        async with open_actors() as system:
            ref = await _start(system, store, snapshots)
            for command in commands:
                await execute(ref, command)
            await trio.testing.wait_all_tasks_blocked()
            live = await ask_state(ref)
            helped = await _start(system, store, snapshots)
            replayed = await _start(system, store)
            assert await ask_state(helped) == live == await ask_state(replayed)

    trio.run(main)


def _versions_of_a_state(inner: type, note: str) -> tuple[str, str]:
    """The tags of a state with a nested class, before and after its docstring changed."""

    @dataclass(frozen=True)
    class State:
        items: tuple[inner, ...] = ()  # type: ignore[valid-type]

    class Kept(Aggregate[State, Deposit, Deposited]):
        category, state_type, types = "kept", State, TYPES

    first = schema_tag(Kept())
    inner.__doc__ = note
    return first, schema_tag(Kept())


def test_the_snapshots_tag_sees_every_nested_class() -> None:
    # STORE-40
    before = make_dataclass("Item", [("amount", int, dataclass_field(default=0))], frozen=True)
    after = make_dataclass("Item", [("sum", int, dataclass_field(default=0))], frozen=True)
    first, described = _versions_of_a_state(before, "An item.")
    assert first == described
    assert _versions_of_a_state(after, "An item.")[0] != first


class _Pairs(Aggregate[dict[str, object], Deposit, Deposited]):
    """Its state is JSON at first, and no more after an event."""

    category, state_type, types, snapshot_every = "pairs", dict, TYPES, 2

    def initial(self) -> dict[str, object]:
        return {}

    def decide(
        self, state: dict[str, object], command: Deposit, env: Environment
    ) -> Decision[Deposited]:
        return [Deposited(command.amount)]

    def apply(self, state: dict[str, object], event: Deposited) -> dict[str, object]:
        return {**state, f"n{len(state)}": {(1, event.amount): "pair"}}


async def test_a_state_that_json_cannot_hold_costs_only_its_snapshot() -> None:
    # STORE-40: the command is stored, and answered
    store, snapshots = MemoryEventStore(), MemorySnapshots()
    async with open_actors() as system:
        ref = await system.start(
            lambda: AggregateActor(_Pairs(), "1", store, environment(), snapshots=snapshots)
        )
        for version in range(1, 6):
            done = await execute(ref, Deposit(version))
            assert isinstance(done, Done)
            assert done.version == version
    assert await snapshots.latest(StreamId("pairs-1")) is None


class _Opaque:
    """No plain data."""


class _Keeper(Aggregate[_Opaque, Deposit, Deposited]):
    category, state_type, types = "keeper", _Opaque, TYPES

    def initial(self) -> _Opaque:
        return _Opaque()

    def decide(self, state: _Opaque, command: Deposit, env: Environment) -> Decision[Deposited]:
        return [Deposited(command.amount)]

    def apply(self, state: _Opaque, event: Deposited) -> _Opaque:
        return state


def test_a_state_without_a_class_is_refused_where_snapshots_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # STORE-40
    monkeypatch.delattr(_Keeper, "state_type")
    with pytest.raises(AggregateContractError, match="_Keeper has no state_type"):
        AggregateActor(
            _Keeper(), "1", MemoryEventStore(), environment(), snapshots=MemorySnapshots()
        )


async def test_a_state_that_no_snapshot_can_hold_is_refused_at_start() -> None:
    # STORE-40: where there are snapshots; without them any state will do
    store, snapshots = MemoryEventStore(), MemorySnapshots()
    with pytest.raises(AggregateContractError, match="_Opaque cannot be kept as a snapshot"):
        AggregateActor(_Keeper(), "1", store, environment(), snapshots=snapshots)
    AggregateActor(_Keeper(), "1", store, environment())


@TYPES.event()
@dataclass(frozen=True)
class _Noted:
    text: str


class _Notes(Aggregate[int, str, _Noted]):
    category, state_type, types = "notes", int, TYPES

    def initial(self) -> int:
        return 0

    def decide(self, state: int, command: str, env: Environment) -> Decision[_Noted]:
        return [_Noted(command)]

    def apply(self, state: int, event: _Noted) -> int:
        return state + 1


async def test_what_an_event_cannot_hold_is_an_answer() -> None:
    # STORE-4: no crash, and the next command goes on
    store = MemoryEventStore()
    async with open_actors() as system:
        ref = await system.start(lambda: AggregateActor(_Notes(), "1", store, environment()))
        with pytest.raises(InvalidField):
            await execute(ref, "half a pair \ud800")
        done = await execute(ref, "whole")
        assert isinstance(done, Done)
        assert done.version == 1


async def test_an_aggregate_passes_by_what_became_of_its_stream() -> None:
    # STORE-28: archived it stores nothing, reopened it goes on
    store = MemoryEventStore()
    async with open_actors() as system:
        one = await _start(system, store)
        await execute(one, Deposit(5))
        await store.archive(ONE)
        for _ in range(2):
            with pytest.raises(StreamArchived):
                await execute(one, Deposit(1))
        assert isinstance(await execute(one, HowMuch()), Done)
        await store.reopen(ONE)
        await execute(one, Deposit(1))
        assert await ask_state(one) == (4, Balance(6, 2))
        other = await _start(system, store)
        assert await ask_state(other) == (4, Balance(6, 2))


async def test_an_aggregate_whose_stream_is_gone_keeps_nothing() -> None:
    # STORE-29
    store = MemoryEventStore()
    snapshots = MemorySnapshots(store.database)
    async with open_actors() as system:
        first = await _start(system, store, snapshots)
        for _ in range(5):
            await execute(first, Deposit(5))
        await store.tombstone(ONE)
        ends: list[object] = []

        async def watch() -> None:
            ends.append(await system.wait_down(first))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(StreamGone):
                await execute(first, Deposit(1))
        assert ends == [Shutdown("stream_gone")]
        second = await _start(system, store, snapshots)
        assert await ask_state(second) == (0, Balance(0, 0))
