"""The actors that deliver timers and send the outbox: order, retries, giving up, no loss."""

import itertools
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio

from actors.persistence import (
    DueTimer,
    OutboxEntry,
    OutboxMessage,
    OutboxRelay,
    SetTimer,
    StoreUnavailable,
    StreamId,
    TimerService,
)
from actors.persistence.beside_log.outbox import ATTEMPTS_MAX
from actors.reducers import Environment
from actors.runtime import open_actors
from storage.memory import (
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryEventStore,
    MemoryOutbox,
    MemoryTimers,
)
from storage.testing.samples import new_events
from tests.actors.persistence.accounts import FixedIds

_NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
A = StreamId("order-a")


class TrioClock:
    """The time of day as trio's clock drives it."""

    def __init__(self) -> None:
        self._began = trio.current_time()

    def now(self) -> datetime:
        return _NOON + timedelta(seconds=trio.current_time() - self._began)


def _world() -> tuple[MemoryDatabase, Environment]:
    clock = TrioClock()
    return MemoryDatabase(now=clock.now), Environment(clock=clock, ids=FixedIds())


def _timer(due_s: float, name: str = "step") -> SetTimer:
    return SetTimer(uuid4(), "saga/1", name, "t", _NOON + timedelta(seconds=due_s))


def _message(key: str = "k", target: str = "mail") -> OutboxMessage:
    return OutboxMessage(uuid4(), "mail", target, key, b"x")


async def test_timers_fire_on_time_and_overdue_ones_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-50: lateness, and what was due while nobody ran
    database, env = _world()
    timers = MemoryTimers(database)
    for due_s in (-20, -30, 2.6, 0.4):
        await timers.set(_timer(due_s, name=str(due_s)))
    fired: list[tuple[str, float]] = []

    async def deliver(timer: DueTimer) -> bool:
        fired.append((timer.name, (env.clock.now() - _NOON).total_seconds()))
        return True

    async with open_actors() as system:
        await system.start(TimerService, timers, deliver, env, "w")
        await trio.sleep(5)
    assert [name for name, _ in fired] == ["-30", "-20", "0.4", "2.6"]
    assert fired[2][1] - 0.4 <= 0.25
    assert fired[3][1] - 2.6 <= 0.25
    assert await timers.pending() == 0


async def test_an_unhandled_timer_is_delivered_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-50: its handler closes it, or the claim ends
    database, env = _world()
    timers = MemoryTimers(database)
    await timers.set(_timer(1))
    attempts: list[int] = []

    async def deliver(timer: DueTimer) -> bool:
        attempts.append(timer.attempts)
        return timer.attempts == 3

    async with open_actors() as system:
        await system.start(TimerService, timers, deliver, env, "w")
        await trio.sleep(100)
    assert attempts == [1, 2, 3]


async def test_a_store_that_is_away_delays_timers(autojump_clock: trio.testing.MockClock) -> None:
    database, env = _world()
    timers = MemoryTimers(database)
    await timers.set(_timer(0))
    timers.fail_next(StoreUnavailable("planted"), times=3)
    fired: list[str] = []

    async def deliver(timer: DueTimer) -> bool:
        fired.append(timer.name)
        return True

    async with open_actors() as system:
        await system.start(TimerService, timers, deliver, env, "w")
        await trio.sleep(10)
    assert fired == ["step"]


async def test_messages_are_sent_in_order_and_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    messages = [_message(key=f"k{n % 3}") for n in range(12)]
    for one in messages:
        await store.append(A, new_events(1), outbox=[one])
    sent: list[OutboxEntry] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(entry)

    async with open_actors() as system:
        await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.sleep(3)
    for key in ("k0", "k1", "k2"):
        wanted = [one.message_id for one in messages if one.key == key]
        assert [one.message_id for one in sent if one.key == key] == wanted
    assert (await outbox.stats()).pending == 0


async def test_a_failing_message_is_retried_then_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52: ten attempts, 1 s doubling to 60 s; those behind it wait, others flow
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    dead = MemoryDeadLetters(database)
    bad, behind, other = _message("bad"), _message("bad"), _message("other")
    await store.append(A, new_events(1), outbox=[bad, behind, other])
    tried: list[tuple[object, float]] = []

    async def send(entry: OutboxEntry) -> None:
        tried.append((entry.message_id, trio.current_time()))
        if entry.message_id == bad.message_id:
            raise OSError("no route")

    async with open_actors() as system:

        def make() -> OutboxRelay:
            return OutboxRelay(outbox, send, env, "r", dead_letters=dead)

        await system.start(make)
        await trio.sleep(600)
        times = [at for id_, at in tried if id_ == bad.message_id]
        assert len(times) == ATTEMPTS_MAX
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert all(0.4 <= gap <= 61 for gap in gaps)
        assert gaps[-1] > gaps[0]
        assert [id_ for id_, _ in tried if id_ != bad.message_id] == [other.message_id]
        (letter,) = await dead.list(kind="outbox")
        assert letter.letter.error_message == "OSError: no route"
        assert await outbox.drop(int(letter.letter.message_id))
        await trio.sleep(1)
    assert tried[-1][0] == behind.message_id


async def test_what_was_sent_and_not_marked_is_sent_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-53: at least once; the inbox makes it once
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    await store.append(A, new_events(1), outbox=[_message()])
    handled: list[bool] = []

    async def send_and_die(entry: OutboxEntry) -> None:
        handled.append(await outbox.note("receiver", entry.message_id))
        ref.kill()
        await trio.sleep_forever()

    async def send(entry: OutboxEntry) -> None:
        handled.append(await outbox.note("receiver", entry.message_id))

    async with open_actors() as system:
        ref = await system.start(OutboxRelay, outbox, send_and_die, env, "r-1")
        await system.wait_down(ref)
        await system.start(OutboxRelay, outbox, send, env, "r-2")
        await trio.sleep(30)
    assert handled == [True, False]
    assert (await outbox.stats()).pending == 0


@pytest.mark.parametrize("owners", [("r-1", "r-2")])
async def test_two_relays_share_the_parts(
    autojump_clock: trio.testing.MockClock, owners: tuple[str, str]
) -> None:
    # STORE-52: one relay per part, nothing sent twice
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    sent: list[object] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(entry.message_id)

    async with open_actors() as system:
        for owner in owners:
            await system.start(OutboxRelay, outbox, send, env, owner)
        for number in range(20):
            await store.append(A, new_events(1), outbox=[_message(f"k{number}")])
        await trio.sleep(3)
    assert len(sent) == len(set(sent)) == 20
