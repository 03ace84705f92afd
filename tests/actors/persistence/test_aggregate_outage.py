"""An aggregate whose store is away: it lives, and whoever asks is told what the store says."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from actors.persistence import (
    ERASED,
    AggregateActor,
    AggregateRef,
    Done,
    EventStore,
    Private,
    StoreTimeout,
    StoreUnavailable,
    UnknownEventType,
    ask_state,
    execute,
)
from actors.reducers import Environment
from actors.runtime import Secret, StartError, open_actors
from storage.keyring import SubjectKeyring
from storage.memory import (
    MemoryDatabase,
    MemoryEventStore,
    MemorySnapshots,
    MemorySubjectKeys,
)
from storage.testing.private import Customer, Customers, Named
from tests.actors.persistence.accounts import Account, Balance, Deposit, environment

AWAY = StoreUnavailable("away", nothing_written=True)
# More operations than any test here makes.
ALWAYS = 1_000_000


@dataclass
class Stores:
    """A database, and its ports that can be taken away together."""

    events: MemoryEventStore
    snapshots: MemorySnapshots
    env: Environment = field(default_factory=environment)

    def go(self) -> None:
        self.events.fail_next(AWAY, ALWAYS)
        self.snapshots.fail_next(AWAY, ALWAYS)

    def hang(self) -> None:
        """Each operation fails, as the adapter's do, after 4 s."""
        self.go()
        self.events.slow(4.0)
        self.snapshots.slow(4.0)

    def come_back(self) -> None:
        for one in (self.events, self.snapshots):
            one.fail_next(AWAY, 0)
            one.slow(0.0)


def _stores() -> Stores:
    database = MemoryDatabase()
    return Stores(MemoryEventStore(database), MemorySnapshots(database))


def _account(stores: Stores) -> Callable[[], AggregateActor[Balance, object, object]]:
    def make() -> AggregateActor[Balance, object, object]:
        return AggregateActor(
            Account(),  # type: ignore[arg-type]  # asked with its own commands only
            "1",
            stores.events,
            stores.env,
            snapshots=stores.snapshots,
        )

    return make


async def _deposit_seven(stores: Stores) -> None:
    async with open_actors() as system:
        ref = await system.start(_account(stores))
        for _ in range(7):
            await execute(ref, Deposit(1))
        await trio.testing.wait_all_tasks_blocked()


async def test_one_that_starts_without_its_store_answers_until_it_is_back(
    autojump_clock: MockClock,
) -> None:
    # STORE-46
    stores = _stores()
    await _deposit_seven(stores)
    stores.go()
    async with open_actors() as system:
        ref = await system.start(_account(stores))
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                await execute(ref, Deposit(1))
            with pytest.raises(StoreUnavailable):
                await ask_state(ref)
        stores.come_back()
        # However short the ask: half of its time is for reading on.
        done = await execute(ref, Deposit(1), timeout=0.2)
        assert isinstance(done, Done)
        assert done.version == 8
        assert await ask_state(ref) == (8, Balance(8, 8))
        assert system.totals().restarts == 0


@pytest.mark.parametrize("when", ["before its start", "afterwards"])
async def test_all_who_ask_while_the_store_hangs_are_told_within_their_time(
    autojump_clock: MockClock, when: str
) -> None:
    # STORE-46: also those who wait behind others in the mailbox
    stores = _stores()
    await _deposit_seven(stores)
    errors: list[str] = []

    async def ask(ref: AggregateRef) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await execute(ref, Deposit(1))
        errors.append(caught.value.code)

    async with open_actors() as system:
        if when == "before its start":
            stores.hang()
        ref = await system.start(_account(stores))
        stores.hang()
        for _ in range(2):
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(ask, ref)
            assert trio.current_time() - began <= 5.0
        stores.come_back()
        # Whatever was answered with an error was not stored, and the state is as long as the log.
        assert await _state_soon(ref) == (7, Balance(7, 7))
    assert len(errors) == 200


async def test_a_long_stream_is_read_on_by_the_messages(autojump_clock: MockClock) -> None:
    # STORE-46: a start that takes long is none that fails
    stores = _stores()
    await _deposit_seven(stores)
    stores.events.slow(6.0)
    stores.snapshots.slow(3.0)
    async with open_actors() as system:
        ref = await system.start(_account(stores))
        with pytest.raises(StoreTimeout):
            await ask_state(ref)
        await trio.sleep(1.0)  # after a look that came to nothing it rests
        assert await ask_state(ref, timeout=20.0) == (7, Balance(7, 7))


async def test_what_waiting_does_not_mend_still_fails_the_start() -> None:
    # STORE-42
    stores = _stores()
    stores.events.fail_next(UnknownEventType("Old", "account-1", 1), ALWAYS)
    async with open_actors() as system:
        with pytest.raises(StartError):
            await system.start(_account(stores))


async def test_a_forgotten_state_is_not_told_while_the_store_is_away() -> None:
    # STORE-44: nor is the actor ended for it
    database = MemoryDatabase()
    ring = SubjectKeyring(MemorySubjectKeys(database), Secret(b"m" * 32), fresh_s=0.0)
    store = MemoryEventStore(database, keyring=ring)
    port: EventStore = store
    async with open_actors() as system:
        ref = await system.start(
            lambda: AggregateActor(Customers(), "ann", port, environment(), keyring=ring)
        )
        await execute(ref, Named("ann", Private("Ann Clear"), 1))
        await ring.forget("customer:ann", by="admin")
        store.fail_next(AWAY, ALWAYS)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await ask_state(ref)
        store.fail_next(AWAY, 0)
        assert await ask_state(ref) == (1, Customer(Private(ERASED), 1))


async def _state_soon(ref: AggregateRef) -> tuple[int, object]:
    """What it says a moment later: after a look that hung it rests."""
    await trio.sleep(1.0)
    return await ask_state(ref)
