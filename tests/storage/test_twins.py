"""The twins in memory fail as they are told, are emptied together, and have the clock given."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import MockClock

import storage.memory
from actors.accounts import NOWHERE, TICKET_KEPT, Allowed, AuditQuery, Limited, login_limits
from actors.accounts.kept.disavowals import Disavowal
from actors.accounts.ways.links import NewLink, mailbox_of
from actors.accounts.words import SessionId
from actors.chat import LOBBY, ChatLogUnavailable
from actors.persistence import (
    Claim,
    CursorOutdated,
    Idempotent,
    NewDeadLetter,
    StreamId,
)
from actors.persistence.beside_log.dead_letters import CLAIM
from actors.persistence.beside_log.idempotency import LIFETIME, PENDING_LIFETIME
from actors.persistence.beside_log.outbox import LEASE
from actors.persistence.bus import BusUnavailable, PublishFailed, StartAt
from actors.testing import FixedClock
from storage.bus.memory import MemoryBus
from storage.errors import IdempotencyInFlight, StoreUnavailable
from storage.memory import (
    MemoryAccounts,
    MemoryAddresses,
    MemoryApiTokens,
    MemoryAudit,
    MemoryChatLog,
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryDevices,
    MemoryDisavowals,
    MemoryEventStore,
    MemoryFactors,
    MemoryHoldings,
    MemoryIdempotency,
    MemoryIdentities,
    MemoryLogins,
    MemoryMailStates,
    MemoryNodes,
    MemoryOutbox,
    MemoryPasskeys,
    MemoryProjections,
    MemoryRateLimiter,
    MemoryRecoveries,
    MemorySessionEnds,
    MemorySignInLinks,
    MemorySnapshots,
    MemorySocketTickets,
    MemorySubjectKeys,
    MemoryTimers,
    Twin,
)
from storage.testing.event_store import following
from storage.testing.samples import PATIENCE_S, message, new_events

A = StreamId("order-a")
_KEY = Idempotent("scope", "key", b"hash")
_ADA, _TICKET = SessionId("ada"), sha256(b"a ticket").digest()
_AWAY = (StoreUnavailable, ChatLogUnavailable)

Operation = Callable[[MemoryDatabase], tuple[Twin, Callable[[], Awaitable[object]]]]


def _accounts(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryAccounts(database)
    return twin, lambda: twin.credentials("ada@example.org")


def _audit(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryAudit(database)
    return twin, lambda: twin.search(AuditQuery())


def _attempts(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryRateLimiter(database)
    return twin, twin.purge


def _chat(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryChatLog(database)
    return twin, twin.versions


def _letters(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryDeadLetters(database)
    return twin, twin.counts


def _events(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryEventStore(database)
    return twin, lambda: twin.head(A)


def _view(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryEventStore(database)
    view = twin.for_tenant("acme")
    return twin, lambda: view.append(A, new_events(1))


def _idempotency(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryIdempotency(database)
    return twin, twin.purge


def _outbox(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryOutbox(database)
    return twin, twin.stats


def _projections(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryProjections(database)
    return twin, lambda: twin.get("totals__g1", "a")


def _ends(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemorySessionEnds(database)
    return twin, lambda: twin.end([_ADA])


def _snapshots(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemorySnapshots(database)
    return twin, lambda: twin.latest(A)


def _tickets(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemorySocketTickets(database)
    return twin, lambda: twin.take(_TICKET)


def _keys(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemorySubjectKeys(database)
    return twin, twin.masters


def _links(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemorySignInLinks(database)
    link = NewLink(sha256(b"t").digest(), mailbox_of("a@b.example"), "a@b.example", None, None)
    return twin, lambda: twin.issue(link, ())


def _identities(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryIdentities(database)
    return twin, lambda: twin.of_user(uuid4())


def _addresses(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryAddresses(database)
    return twin, lambda: twin.find(uuid4())


def _recoveries(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryRecoveries(database)
    return twin, lambda: twin.find(uuid4())


def _disavowals(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryDisavowals(database)
    one = Disavowal(uuid4(), sha256(b"t").digest(), datetime(2025, 3, 1, tzinfo=UTC))
    return twin, lambda: twin.disavow(one, NOWHERE)


def _devices(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryDevices(database)
    return twin, lambda: twin.of_user(uuid4())


def _tokens(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryApiTokens(database)
    return twin, lambda: twin.of_user(uuid4())


def _logins(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryLogins(database)
    return twin, lambda: twin.find(uuid4())


def _passkeys(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryPasskeys(database)
    return twin, lambda: twin.of_user(uuid4())


def _factors(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryFactors(database)
    return twin, lambda: twin.held(uuid4())


def _holdings(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryHoldings(MemoryChatLog(database))
    return twin, lambda: twin.account(UUID(int=1))


def _timers(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryTimers(database)
    return twin, twin.pending


def _nodes(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryNodes(database)
    return twin, twin.survey


def _mails(database: MemoryDatabase) -> tuple[Twin, Callable[[], Awaitable[object]]]:
    twin = MemoryMailStates(database)
    return twin, twin.newest


_ALL: tuple[Operation, ...] = (
    _accounts, _audit, _attempts, _chat, _letters, _events, _view, _idempotency, _outbox,
    _projections, _ends, _snapshots, _tickets, _keys, _timers, _holdings, _factors, _links, _nodes,
    _mails, _identities, _passkeys, _disavowals, _addresses, _devices,
    _logins, _recoveries, _tokens,
)  # fmt: skip


def test_no_twin_is_left_out() -> None:
    # TEST-7
    exported = [getattr(storage.memory, name) for name in storage.memory.__all__]
    twins = {one for one in exported if isinstance(one, type) and issubclass(one, Twin)}
    assert {type(make(MemoryDatabase())[0]) for make in _ALL} == twins - {Twin}


@pytest.mark.parametrize("make", _ALL)
async def test_a_twin_fails_as_often_as_it_is_told(make: Operation) -> None:
    # TEST-7
    twin, operation = make(MemoryDatabase())
    twin.fail_next(StoreUnavailable("planted"), times=2)
    for _ in range(2):
        with pytest.raises(_AWAY, match="planted"):
            await operation()
    await operation()
    twin.lose_connection()
    with pytest.raises(_AWAY, match="connection"):
        await operation()
    await operation()
    twin.fail_next()
    twin.fail_next(times=0)
    await operation()


@pytest.mark.parametrize("times", [-1, 1.5, True, "2", None])
async def test_a_fault_that_would_never_come_is_refused(times: int) -> None:
    # TEST-7: a test that plants it would pass whatever the code does
    for twin in (MemoryEventStore(), MemoryBus()):
        with pytest.raises(ValueError, match="times is"):
            twin.fail_next(times=times)
        for wrong in (ValueError("x"), StoreUnavailable, "x"):
            with pytest.raises(TypeError, match=r"is no (Store|Bus)Error; the real one raises"):
                twin.fail_next(wrong)  # type: ignore[arg-type]
        for seconds in (-1.0, float("nan"), float("inf"), "2", True):
            with pytest.raises(ValueError, match="seconds is"):
                twin.slow(seconds)  # type: ignore[arg-type]


async def test_a_bus_fails_and_is_slow_as_the_other_twins(autojump_clock: MockClock) -> None:
    # TEST-7: its members too
    bus, error = MemoryBus(), PublishFailed("a-events", "planted")
    await bus.declare("a-events")
    member = await bus.join("group", ["a-events"], StartAt.EARLIEST)
    bus.fail_next(error, times=2)
    with pytest.raises(PublishFailed, match="planted"):
        await bus.topics()
    with pytest.raises(PublishFailed, match="planted"):
        await member.renew()
    await bus.topics()
    bus.lose_connection()
    with pytest.raises(BusUnavailable, match="connection"):
        await bus.topics()
    bus.slow(3.0)
    began = trio.current_time()
    await bus.topics()
    assert trio.current_time() - began == 3.0
    bus.fail_next(times=9)
    bus.reset()
    assert await bus.topics() == []
    assert trio.current_time() - began == 3.0


@pytest.mark.parametrize("make", _ALL)
async def test_a_twin_is_as_slow_as_it_is_told(make: Operation, autojump_clock: MockClock) -> None:
    # TEST-7
    database = MemoryDatabase()
    twin, operation = make(database)
    for own, shared in ((3.0, 0.0), (0.0, 3.0), (1.0, 2.0)):
        twin.slow(own)
        database.faults.slow(shared)
        began = trio.current_time()
        await operation()
        assert trio.current_time() - began == 3.0
    twin.slow(30.0)
    with trio.move_on_after(1.0) as scope:
        await operation()
    assert scope.cancelled_caught


async def test_what_fails_a_database_fails_all_that_stand_on_it() -> None:
    # TEST-7
    database = MemoryDatabase()
    operations = [make(database)[1] for make in _ALL]
    database.faults.fail_next(times=len(operations))
    for operation in operations:
        with pytest.raises(_AWAY):
            await operation()
    for operation in operations:
        await operation()


async def test_all_of_a_database_is_emptied_together() -> None:
    # TEST-7
    clock = FixedClock()
    database = MemoryDatabase(clock.now)
    events, outbox = MemoryEventStore(database), MemoryOutbox(database)
    letters, log = MemoryDeadLetters(database), MemoryChatLog(database)
    await log.ensure_rooms([LOBBY])
    first = await events.append(A, new_events(2), outbox=[message()])
    await outbox.lease("r-1", range(64))
    await letters.add(NewDeadLetter("event", "orders", "m-1", "boom"))
    assert (events.event_count(), events.current_version(A), events.stream_exists(A)) == (
        2,
        2,
        True,
    )
    database.faults.fail_next(times=9)
    letters.fail_next(times=9)
    letters.reset()
    assert (events.event_count(), events.current_version(A)) == (0, 0)
    assert not events.stream_exists(A)
    assert not events.for_tenant("acme").stream_exists(A)
    assert (await outbox.stats()).pending == 0
    assert await letters.list() == []
    assert await log.versions() == {}
    assert set(await outbox.lease("r-2", [1])) == {1}
    assert database.now() == clock.now()
    # No cursor is given twice, and who reads on hears that it is another store.
    assert (await events.append(A, new_events(1), expected=0)).cursor > first.cursor
    assert await log.ensure_rooms([LOBBY])


async def test_who_follows_a_store_that_is_emptied_is_told() -> None:
    # TEST-7
    store = MemoryEventStore()
    await store.append(A, new_events(1))
    with trio.fail_after(PATIENCE_S):
        async with following(store) as pages:
            await anext(pages)
            store.reset()
            with pytest.raises(CursorOutdated):
                await anext(pages)


async def test_what_is_held_back_when_a_store_is_emptied_is_rolled_back() -> None:
    # TEST-7
    store = MemoryEventStore()
    held = store.hold_next_commit()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                with pytest.raises(StoreUnavailable):
                    await store.append(A, new_events(1))

            nursery.start_soon(write)
            await held.reached.wait()
            store.hold_next_commit()  # of one that never comes: forgotten too
            store.reset()
    assert (await store.append(A, new_events(1), expected=0)).version == 1
    assert len((await store.read_all()).events) == 1


# Each gives whether what it has begun is still there; and after how long it is not.


async def _pending_key(database: MemoryDatabase) -> Callable[[], Awaitable[bool]]:
    keys = MemoryIdempotency(database)
    await keys.begin(_KEY)

    async def is_held() -> bool:
        try:
            await keys.begin(_KEY)
        except IdempotencyInFlight:
            return True
        return False

    return is_held


async def _answer(database: MemoryDatabase) -> Callable[[], Awaitable[bool]]:
    keys = MemoryIdempotency(database)
    claim = await keys.begin(_KEY)
    assert isinstance(claim, Claim)
    await keys.finish(claim, b"done")

    async def is_kept() -> bool:
        return await keys.begin(_KEY) == b"done"

    return is_kept


async def _lease(database: MemoryDatabase) -> Callable[[], Awaitable[bool]]:
    outbox = MemoryOutbox(database)
    await outbox.lease("r-1", [1])

    async def is_held() -> bool:
        return await outbox.lease("r-2", [1]) == {}

    return is_held


async def _letter_in_hand(database: MemoryDatabase) -> Callable[[], Awaitable[bool]]:
    letters = MemoryDeadLetters(database)
    await letters.retry(await letters.add(NewDeadLetter("event", "orders", "m-1", "boom")))

    async def is_held() -> bool:
        return await letters.retry_all() == []

    return is_held


async def _ticket(database: MemoryDatabase) -> Callable[[], Awaitable[bool]]:
    tickets = MemorySocketTickets(database)
    for number in range(2):
        await tickets.issue(sha256(bytes([number])).digest(), _ADA)
    left = [1, 0]

    async def is_good() -> bool:
        return await tickets.take(sha256(bytes([left.pop()])).digest()) is not None

    return is_good


async def _limit(database: MemoryDatabase) -> Callable[[], Awaitable[bool]]:
    limiter = MemoryRateLimiter(database)
    limits = login_limits("ada", "192.0.2.1")
    while isinstance(await limiter.hit(*limits), Allowed):
        pass

    async def is_reached() -> bool:
        return isinstance(await limiter.hit(*limits), Limited)

    return is_reached


async def _limit_s(database: MemoryDatabase) -> timedelta:
    verdict = await MemoryRateLimiter(database).peek(*login_limits("ada", "192.0.2.1"))
    assert isinstance(verdict, Limited)
    return timedelta(seconds=verdict.retry_after)


@pytest.mark.parametrize(
    ("begin", "lasts"),
    [
        (_pending_key, PENDING_LIFETIME),
        (_answer, LIFETIME),
        (_lease, LEASE),
        (_letter_in_hand, CLAIM),
        (_ticket, TICKET_KEPT),
        (_limit, None),
    ],
)
async def test_whatever_ends_in_time_ends_by_the_clock_given(
    begin: Callable[[MemoryDatabase], Awaitable[Callable[[], Awaitable[bool]]]],
    lasts: timedelta | None,
    mock_clock: MockClock,
) -> None:
    # TEST-4
    clock, second = FixedClock(), timedelta(seconds=1)
    database = MemoryDatabase(clock.now)
    is_there = await begin(database)
    lasts = await _limit_s(database) if lasts is None else lasts
    clock.advance(lasts - second)
    assert await is_there()
    clock.advance(second)
    assert not await is_there()
