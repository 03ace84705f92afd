"""The actors that deliver timers and send the outbox: order, retries, giving up, no loss."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import pytest
import trio

from actors.persistence import (
    Appended,
    Cleaner,
    DeadLetterStatus,
    DueTimer,
    NewDeadLetter,
    NotSent,
    OutboxEntry,
    OutboxMessage,
    OutboxRelay,
    Purge,
    SetTimer,
    StoreUnavailable,
    StreamId,
    TimerService,
)
from actors.persistence.beside_log.dead_letters import PAYLOAD_BYTES_MAX
from actors.persistence.beside_log.outbox import (
    ATTEMPTS_MAX,
    BATCH_MAX,
    LEASE,
    LOOK_S,
    LOOK_S_MAX,
    PARTITIONS,
    PARTS_HEADER,
    SAGA_PARTS,
    SAGAS,
    SEND_S_MAX,
    LookAtOutbox,
    Send,
    partition_of,
)
from actors.persistence.beside_log.timers import CLAIM, DELIVER_S_MAX, FAILURES_MAX
from actors.persistence.words import FLEETING
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
from tests.tallied import numbers, times

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


def _timer(due_s: float, name: str = "step", address: str = "saga/1") -> SetTimer:
    return SetTimer(uuid4(), address, name, "t", _NOON + timedelta(seconds=due_s), b"payload")


def _message(key: str = "k", target: str = "mail", payload: bytes = b"x") -> OutboxMessage:
    return OutboxMessage(uuid4(), "hook", target, key, payload)


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
        # OBS-1
        assert numbers(system, "timers_fired_total") == {(): 4}
        assert times(system, "timers_late_seconds") == {(): 4}
    assert [name for name, _ in fired] == ["-30", "-20", "0.4", "2.6"]
    assert fired[2][1] - 0.4 <= 0.25
    assert fired[3][1] - 2.6 <= 0.25
    assert await timers.pending() == 0


async def test_how_late_a_timer_was_leads_to_its_trace_where_that_is_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # OBS-7
    database, env = _world()
    timers = MemoryTimers(database)
    kept, dropped = "a" * 31 + "0", "a" * 31 + "1"
    for due_s, trace in ((-20, kept), (-200, dropped)):
        metadata = {"traceparent": f"00-{trace}-{'1' * 16}-01"}
        await timers.set(replace(_timer(due_s, name=trace), metadata=metadata))

    async def deliver(timer: DueTimer) -> bool:
        return True

    async with open_actors() as system:
        system.trace()
        await system.start(TimerService, timers, deliver, env, "w")
        await trio.sleep(1)
        (late,) = [one for name, _, one in system.tallies.histograms() if name.startswith("timers")]
        assert sum(late.counts) == 2
        ((took, trace),) = late.examples_since(0.0).values()
        assert (round(took), trace) == (20, kept)


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


async def test_a_handler_that_raises_holds_up_nobody_and_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-50: its own back-off, ten failures, a dead letter; STORE-60
    database, env = _world()
    timers, dead = MemoryTimers(database), MemoryDeadLetters(database)
    bad = _timer(0, name="bad")
    for one in (bad, _timer(0.1, name="good"), _timer(0, name="other", address="saga/2")):
        await timers.set(one)
    fired: list[tuple[str, float]] = []

    async def deliver(timer: DueTimer) -> bool:
        fired.append((timer.name, trio.current_time()))
        if timer.name == "bad":
            raise ZeroDivisionError("planted")
        return True

    async with open_actors() as system:

        def make() -> TimerService:
            return TimerService(timers, deliver, env, "w", dead_letters=dead)

        await system.start(make)
        await trio.sleep(1)
        assert {name for name, _ in fired} == {"bad", "good", "other"}
        await trio.sleep(600)
        times = [at for name, at in fired if name == "bad"]
        assert len(times) == FAILURES_MAX
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert all(0.4 <= gap <= 62 for gap in gaps)
        assert gaps[-1] > gaps[0]
        assert len(fired) == FAILURES_MAX + 2
        (letter,) = await dead.list(kind="message", source="timers")
        assert letter.letter.message_id == str(bad.timer_id)
        assert letter.letter.error_message == "ZeroDivisionError: planted"
        assert letter.letter.payload == b"payload"
        assert letter.letter.metadata["address"] == "saga/1"
        assert await timers.pending() == 0
        assert await timers.revive(bad.timer_id)
        await trio.sleep(2)
        assert len(fired) > FAILURES_MAX + 2


async def test_slow_handlers_keep_their_timers_and_hold_up_no_other_address(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-50: longer than a claim, each delivered once, by one of two services
    database, env = _world()
    timers = MemoryTimers(database)
    slow_s = 2 * CLAIM.total_seconds() - 5
    for due_s, name in ((0, "first"), (0.01, "second")):
        await timers.set(_timer(due_s, name=name, address="saga/slow"))
    fired: list[tuple[str, float]] = []

    async def deliver(timer: DueTimer) -> bool:
        if timer.address == "saga/slow":
            await trio.sleep(slow_s)
        fired.append((timer.name, (env.clock.now() - timer.due_at).total_seconds()))
        return True

    async with open_actors() as system:
        for worker in ("w-1", "w-2"):
            await system.start(TimerService, timers, deliver, env, worker)
        for number in range(20):
            await timers.set(_timer(number + 1.5, name=f"n{number}", address=f"saga/{number}"))
        await trio.sleep(200)
    assert sorted(name for name, _ in fired) == sorted(
        ["first", "second", *(f"n{number}" for number in range(20))]
    )
    assert [name for name, _ in fired if name in ("first", "second")] == ["first", "second"]
    assert max(late for name, late in fired if name.startswith("n")) <= 0.25


async def test_a_handler_that_never_returns_has_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-50
    database, env = _world()
    timers = MemoryTimers(database)
    await timers.set(_timer(0, name="stuck"))
    await timers.set(_timer(0.1, name="behind"))
    fired: list[str] = []

    async def deliver(timer: DueTimer) -> bool:
        fired.append(timer.name)
        if timer.name == "stuck":
            await trio.sleep_forever()
        return True

    async with open_actors() as system:
        await system.start(TimerService, timers, deliver, env, "w")
        await trio.sleep(DELIVER_S_MAX + 5)
    assert fired[0] == "stuck"
    assert "behind" in fired


async def test_a_store_that_is_away_makes_no_failures_of_timers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-50: handled once, and closed when the store is back
    database, env = _world()
    timers = MemoryTimers(database)
    await timers.set(_timer(0))
    fired: list[int] = []

    async def deliver(timer: DueTimer) -> bool:
        fired.append(timer.failures)
        if len(fired) == 1:
            raise StoreUnavailable("planted")
        timers.fail_next(StoreUnavailable("planted"), times=3)
        return True

    async with open_actors() as system:
        await system.start(TimerService, timers, deliver, env, "w")
        await trio.sleep(100)
    assert fired == [0, 0]
    assert await timers.pending() == 0


async def test_a_stop_gives_back_timers_that_were_not_begun(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-54
    database, env = _world()
    timers = MemoryTimers(database)
    for due_s in range(5):
        await timers.set(_timer(-due_s, name=str(due_s)))
    fired: list[str] = []

    async def deliver(timer: DueTimer) -> bool:
        await trio.sleep(1)
        fired.append(timer.name)
        return True

    async with open_actors() as system:
        ref = await system.start(TimerService, timers, deliver, env, "w")
        await trio.sleep(1.5)
        await ref.stop()
        assert fired == ["4", "3"]
        left = await timers.claim_due("another", env.clock.now())
        assert [one.name for one in left] == ["2", "1", "0"]


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
        # OBS-1
        assert numbers(system, "outbox_sent_total") == {("hook",): 12}
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
        tries = [at for id_, at in tried if id_ == bad.message_id]
        assert len(tries) == ATTEMPTS_MAX
        assert numbers(system, "outbox_failed_total") == {("hook",): ATTEMPTS_MAX}
        gaps = [after - before for before, after in itertools.pairwise(tries)]
        assert all(0.4 <= gap <= 61 for gap in gaps)
        assert gaps[-1] > gaps[0]
        assert [id_ for id_, _ in tried if id_ != bad.message_id] == [other.message_id]
        (letter,) = await dead.list(kind="outbox")
        assert letter.letter.error_message == "OSError: no route"
        assert await outbox.drop(int(letter.letter.message_id))
        await trio.sleep(1)
    assert tried[-1][0] == behind.message_id


async def test_a_send_says_itself_when_to_try_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # MAIL-5: so late and as often as it says, then given up at once; what vanishes is not copied
    database, env = _world()
    outbox, dead = MemoryOutbox(database), MemoryDeadLetters(database)
    tried: list[float] = []

    async def send(entry: OutboxEntry) -> None:
        tried.append(trio.current_time())
        again = timedelta(minutes=5) if len(tried) <= 12 else None
        raise NotSent("451", again)

    began = trio.current_time()
    await outbox.add([replace(_message(), headers={FLEETING: "1"}, payload=b"a secret")])
    async with open_actors() as system:

        def make() -> OutboxRelay:
            return OutboxRelay(outbox, send, env, "r", dead_letters=dead)

        await system.start(make)
        await trio.sleep(70 * 60)
    assert [at - began for at in tried] == [
        pytest.approx(300 * n, abs=60 * n + 1) for n in range(13)
    ]
    (letter,) = await dead.list(kind="outbox")
    assert (letter.letter.error_message, letter.letter.payload) == ("NotSent: 451", None)


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


class _CountedOutbox(MemoryOutbox):
    """Counts what it is asked."""

    asked = 0

    async def pass_faults(self) -> None:
        self.asked += 1
        await super().pass_faults()


async def test_an_idle_relay_asks_seldom_and_hears_of_a_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52: 0.2 looks a second at all parts, and as many renewals; a message is not late for it
    database, env = _world()
    store, outbox = MemoryEventStore(database), _CountedOutbox(database)
    sent: list[float] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(trio.current_time())

    async with open_actors() as system:
        await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.sleep(10)
        outbox.asked = 0
        await trio.sleep(600)
        assert outbox.asked <= 0.5 * 600
        for _ in range(20):
            await trio.sleep(2.7)
            began = trio.current_time()
            await store.append(A, new_events(1), outbox=[_message()])
            await trio.sleep(1)
            assert sent.pop() - began <= LOOK_S
        outbox.asked = 0
        for _ in range(1000):
            await store.append(A, new_events(1))
            await trio.sleep(0.01)
        # So many appends without a message are looked at together.
        assert outbox.asked <= 10 / LOOK_S + 0.5 * 10


async def test_what_stands_behind_an_open_transaction_is_sent_soon_after_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52: the hint came before it could be read
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    sent: list[float] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(trio.current_time())

    async with open_actors() as system:
        await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.sleep(10)
        open_txid = database.begin()
        await store.append(A, new_events(1), outbox=[_message()])
        await trio.sleep(60)
        assert sent == []
        database.open_txids.discard(open_txid)  # without a hint, as of a transaction that read
        ended = trio.current_time()
        await trio.sleep(10)
        assert sent[0] - ended <= LOOK_S_MAX


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


@pytest.mark.parametrize("relays", [1, 2])
@pytest.mark.parametrize(("count", "send_s"), [(BATCH_MAX, 0.2), (5, SEND_S_MAX - 1)])
async def test_a_slow_target_gets_each_message_once_and_in_order(
    autojump_clock: trio.testing.MockClock, relays: int, count: int, send_s: float
) -> None:
    # STORE-52: a batch that outlasts the lease many times
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    messages = [_message() for _ in range(count)]
    await store.append(A, new_events(1), outbox=messages)
    sent: list[object] = []

    async def send(entry: OutboxEntry) -> None:
        await trio.sleep(send_s)
        sent.append(entry.message_id)

    assert count * send_s > LEASE.total_seconds()
    async with open_actors() as system:
        for number in range(relays):
            await system.start(OutboxRelay, outbox, send, env, f"r-{number}")
        await trio.sleep(2 * count * send_s)
    assert sent == [one.message_id for one in messages]
    assert (await outbox.stats()).pending == 0


async def test_a_target_that_never_answers_holds_up_only_its_part(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    lost = [_message("k0", "lost") for _ in range(3)]
    others = [
        _message(f"k{n}") for n in range(1, 30) if partition_of(f"k{n}") != partition_of("k0")
    ]
    await store.append(A, new_events(1), outbox=[*lost, *others])
    sent: list[object] = []

    async def send(entry: OutboxEntry) -> None:
        if entry.target == "lost":
            await trio.sleep_forever()
        sent.append(entry.message_id)

    async with open_actors() as system:
        await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.sleep(2)
        assert set(sent) == {one.message_id for one in others}


async def test_many_keys_at_once_hold_up_only_what_is_behind_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52, SAGA-15: what comes while another key is being sent does not wait for it
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    other = next(f"k{n}" for n in range(50) if partition_of(f"k{n}") == partition_of("k"))
    slow, behind, later = _message(), _message(), _message(other)
    sent: list[object] = []

    async def send(entry: OutboxEntry) -> None:
        if entry.message_id == slow.message_id:
            await trio.sleep(8)
        sent.append(entry.message_id)

    async with open_actors() as system:
        await system.start(lambda: OutboxRelay(outbox, send, env, "r", keys_at_once=8))
        await trio.sleep(1)
        await store.append(A, new_events(1), outbox=[slow, behind])
        await trio.sleep(1)
        await store.append(A, new_events(1), outbox=[later])
        await trio.sleep(1)
        assert sent == [later.message_id]
        await trio.sleep(8)
    assert sent == [later.message_id, slow.message_id, behind.message_id]
    assert (await outbox.stats()).pending == 0


class _LateOutbox(MemoryOutbox):
    """What it says is some time old when it is heard, as across a network."""

    draw: Random

    async def next_batch(
        self,
        partition: int,
        epoch: int,
        *,
        limit: int = BATCH_MAX,
        skipping: Sequence[str] = (),
        without: Sequence[int] = (),
    ) -> Sequence[OutboxEntry]:
        found = await super().next_batch(
            partition, epoch, limit=limit, skipping=skipping, without=without
        )
        await trio.sleep(self.draw.uniform(0, 2))
        return found

    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        count = await super().mark_sent(partition, epoch, ids)
        await trio.sleep(self.draw.uniform(0, 2))
        return count


@pytest.mark.parametrize("seed", range(4))
async def test_many_keys_at_once_keep_the_order_of_each(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    # STORE-52: whatever fails, takes long, or is appended meanwhile
    database, env = _world()
    store, outbox, draw = MemoryEventStore(database), _LateOutbox(database), Random(seed)
    outbox.draw = draw
    wanted: dict[str, list[object]] = {}
    sent: dict[str, list[object]] = {}

    async def send(entry: OutboxEntry) -> None:
        await trio.sleep(draw.choice((0, 0, 0.1, 1, 4)))
        if draw.random() < 0.3:
            raise OSError("no route")
        sent.setdefault(entry.key, []).append(entry.message_id)

    async with open_actors() as system:
        ref = await system.start(lambda: OutboxRelay(outbox, send, env, "r", keys_at_once=4))
        for _ in range(150):
            one, since = _message(f"k{draw.randrange(12)}"), trio.current_time()
            appended = await store.append(A, new_events(1), outbox=[one])
            if one.key in wanted:
                ref.tell(LookAtOutbox((one.key,)))
            else:
                # Maybe late, when a look has given it, and it was sent and marked.
                await trio.sleep(draw.choice((0, 0, 1, 2, 4)))
                ref.tell(LookAtOutbox((), (_entry(one, appended),), since))
            wanted.setdefault(one.key, []).append(one.message_id)
            await trio.sleep(draw.choice((0, 0.05, 0.5)))
        await trio.sleep(600)
    assert sent == wanted
    assert (await outbox.stats()).pending == 0


def _entry(message: OutboxMessage, appended: Appended) -> OutboxEntry:
    """What the outbox would give."""
    one, (number,) = message, appended.outbox
    given = (one.message_id, one.kind, one.target, one.key, one.payload, one.headers)
    return OutboxEntry(number, *given, 0, _NOON)


@pytest.mark.parametrize("keys_at_once", [1, 4])
async def test_what_is_handed_over_is_sent_without_a_look_where_keys_go_side_by_side(
    autojump_clock: trio.testing.MockClock, keys_at_once: int
) -> None:
    # PERF-56, SAGA-15
    database, env = _world()
    store, outbox, sent = MemoryEventStore(database), _CountedOutbox(database), list[OutboxEntry]()

    async def send(entry: OutboxEntry) -> None:
        sent.append(entry)

    async with open_actors() as system:
        ref = await system.start(
            lambda: OutboxRelay(outbox, send, env, "r", keys_at_once=keys_at_once)
        )
        await trio.testing.wait_all_tasks_blocked()
        outbox.asked = 0
        one, since = _message(), trio.current_time()
        entry = _entry(one, await store.append(A, new_events(1), outbox=[one]))
        ref.tell(LookAtOutbox((), (entry,), since))
        await trio.testing.wait_all_tasks_blocked()
        looked = 0 if keys_at_once > 1 else 2
        assert (len(sent), outbox.asked) == (1, looked)
        assert (sent[0].id, sent[0].payload) == (entry.id, b"x")
        await trio.sleep(1)
        assert (await outbox.stats()).pending == 0
        outbox.asked = 0
        # Another relay may have had it since: it is looked for.
        ref.tell(LookAtOutbox((), (entry,), since - 1))
        await trio.testing.wait_all_tasks_blocked()
        assert (len(sent), outbox.asked) == (1, 1)


async def test_what_is_handed_over_and_given_by_a_look_too_is_sent_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # PERF-56: before it is sent, when it was, and when it is marked
    database, env = _world()
    store, outbox, sent = MemoryEventStore(database), MemoryOutbox(database), list[int]()

    async def send(entry: OutboxEntry) -> None:
        await trio.sleep(0.5)
        sent.append(entry.id)

    async with open_actors() as system:
        ref = await system.start(lambda: OutboxRelay(outbox, send, env, "r", keys_at_once=4))
        await trio.testing.wait_all_tasks_blocked()
        one, since = _message(), trio.current_time()
        entry = _entry(one, await store.append(A, new_events(1), outbox=[one]))
        ref.tell(LookAtOutbox((one.key,)))
        for pause_s in (0, 0.25, 0.35, 0.5, 1.5):
            await trio.sleep(pause_s)
            ref.tell(LookAtOutbox((), (entry,), since))
        for _ in range(3):  # until nobody knows any more that it was given
            await store.append(A, new_events(1), outbox=[_message()])
            ref.tell(LookAtOutbox())
            await trio.sleep(5)
        ref.tell(LookAtOutbox((), (entry,), since))
        await trio.sleep(5)
    assert len(sent) == len(set(sent)) == 4


async def test_a_hint_wakes_the_parts_that_are_not_told_by_a_key(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # SAGA-15: sagas with parts of their own hop as fast
    database, env = _world()
    store, outbox, came = MemoryEventStore(database), MemoryOutbox(database), trio.Event()

    async def send(entry: OutboxEntry) -> None:
        came.set()

    async with open_actors() as system:
        ref = await system.start(lambda: OutboxRelay(outbox, send, env, "r", partitions=SAGA_PARTS))
        await trio.sleep(1)
        # The second comes while the relay has just looked around.
        for _ in range(2):
            came = trio.Event()
            one = replace(_message(), headers={PARTS_HEADER: SAGAS})
            await store.append(A, new_events(1), outbox=[one])
            began = trio.current_time()
            ref.tell(LookAtOutbox((one.key,)))
            await came.wait()
            assert trio.current_time() == began


async def test_a_relay_that_cannot_renew_stops_before_its_lease_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52: never two at a time, in order, and what was sent before is marked
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    messages = [_message() for _ in range(40)]
    await store.append(A, new_events(1), outbox=messages)
    sent: list[tuple[str, object]] = []

    def sender(owner: str) -> Send:
        async def send(entry: OutboxEntry) -> None:
            await trio.sleep(1)
            sent.append((owner, entry.message_id))

        return send

    away = MemoryOutbox(database)  # another process's way to the same tables
    async with open_actors() as system:
        await system.start(OutboxRelay, away, sender("r-1"), env, "r-1")
        await trio.sleep(3.5)
        away.fail_next(StoreUnavailable("planted"), times=10**6)
        await trio.sleep(0.1)
        await system.start(OutboxRelay, outbox, sender("r-2"), env, "r-2")
        await trio.sleep(100)
    first = [id_ for owner, id_ in sent if owner == "r-1"]
    second = [id_ for owner, id_ in sent if owner == "r-2"]
    assert [owner for owner, _ in sent] == ["r-1"] * len(first) + ["r-2"] * len(second)
    assert len(first) < 16
    wanted = [one.message_id for one in messages]
    # Marked as it went: the second begins where the store went away, not with the batch.
    assert first == wanted[: len(first)]
    assert second == wanted[3:]


async def test_what_an_outage_kept_from_being_marked_is_not_sent_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52: the epoch, not the clock, says whether a mark counts
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    messages = [_message() for _ in range(3)]
    await store.append(A, new_events(1), outbox=messages)
    sent: list[object] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(entry.message_id)
        if len(sent) == 3:
            outbox.fail_next(StoreUnavailable("planted"), times=10**6)

    async with open_actors() as system:
        await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.sleep(2 * LEASE.total_seconds())
        outbox.fail_next(StoreUnavailable("planted"), times=0)
        await trio.sleep(5)
    assert sent == [one.message_id for one in messages]
    assert (await outbox.stats()).pending == 0


async def test_a_stop_lets_the_message_in_flight_end_and_marks_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-54
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    await store.append(A, new_events(1), outbox=[_message() for _ in range(5)])
    sent: list[object] = []

    async def send(entry: OutboxEntry) -> None:
        await trio.sleep(1)
        sent.append(entry.message_id)

    async with open_actors() as system:
        ref = await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.sleep(1.5)
        await ref.stop()
        assert len(sent) == 2
        assert (await outbox.stats()).pending == 3
        held = await outbox.lease("another", [partition_of("k")])  # given back at once
        assert len(held) == 1


async def test_without_room_for_a_dead_letter_the_message_is_tried_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-62: nothing is dropped, and nobody else waits for it
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    dead = MemoryDeadLetters(database, rows_max=1)
    full = await dead.add(NewDeadLetter("mail", "s", "m", "planted"))
    bad, other = _message("bad"), _message("other")
    await store.append(A, new_events(1), outbox=[bad])
    tried: list[object] = []

    async def send(entry: OutboxEntry) -> None:
        tried.append(entry.message_id)
        if entry.message_id == bad.message_id:
            raise OSError("no route")

    async with open_actors() as system:

        def make() -> OutboxRelay:
            return OutboxRelay(outbox, send, env, "r", dead_letters=dead)

        await system.start(make)
        await trio.sleep(1200)
        assert len(tried) > ATTEMPTS_MAX
        assert (await outbox.stats()).dead == 0
        await store.append(A, new_events(1), outbox=[other])
        await trio.sleep(1)
        assert tried[-1] == other.message_id
        await dead.discard(full, "ada", "made room")
        await trio.sleep(120)
        assert (await outbox.stats()).dead == 1
        (letter,) = await dead.list(status=DeadLetterStatus.PENDING)
        assert letter.letter.kind == "outbox"


async def test_whatever_fails_becomes_a_dead_letter(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-60: too large a payload, and an error no database takes
    database, env = _world()
    store, outbox = MemoryEventStore(database), MemoryOutbox(database)
    dead = MemoryDeadLetters(database)
    payload = b"x" * (PAYLOAD_BYTES_MAX + 1)
    await store.append(A, new_events(1), outbox=[_message(payload=payload)])

    async def send(entry: OutboxEntry) -> None:
        raise ValueError("a\x00b\ud800")

    async with open_actors() as system:

        def make() -> OutboxRelay:
            return OutboxRelay(outbox, send, env, "r", dead_letters=dead)

        await system.start(make)
        await trio.sleep(600)
    (letter,) = await dead.list(kind="outbox")
    assert letter.letter.payload is None
    assert letter.letter.error_message == "ValueError: a\ufffdb?"


async def test_what_is_over_is_removed_every_hour_in_chunks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-54
    left, asked, refused = {"a": 2500, "b": 10}, list[tuple[str, int]](), [True]

    def purging(name: str) -> Purge:
        async def purge(limit: int) -> int:
            if name == "a" and refused:
                refused.clear()
                raise StoreUnavailable("planted")
            gone = min(limit, left[name])
            left[name] -= gone
            asked.append((name, gone))
            return gone

        return purge

    cleaner = Cleaner({name: purging(name) for name in left})
    async with open_actors() as system:
        await system.start(lambda: cleaner)
        await trio.sleep(120)
        # One that is refused keeps no other from being cleaned, and is tried again.
        assert asked == [("b", 10)]
        await trio.sleep(3600)
        assert asked[1:] == [("a", 1000), ("a", 1000), ("a", 500), ("b", 0)]
        left["b"] = 5
        await trio.sleep(3600)
    assert left == {"a": 0, "b": 0}
    assert cleaner.removed == {"a": 2500, "b": 15}


async def test_services_that_start_while_the_store_is_away_wait_for_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-50, STORE-51: whoever crashed would never come back
    database, env = _world()
    timers, outbox = MemoryTimers(database), MemoryOutbox(database)
    await timers.set(_timer(1))
    await MemoryEventStore(database).append(A, new_events(1), outbox=[_message()])
    done: list[str] = []

    async def deliver(_: DueTimer) -> bool:
        done.append("timer")
        return True

    async def send(_: OutboxEntry) -> None:
        done.append("message")

    ports = (timers, outbox)
    for port in ports:
        port.fail_next(StoreUnavailable("planted"), times=10**6)
    async with open_actors() as system:
        await system.start(TimerService, timers, deliver, env, "w")
        await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.sleep(30)
        assert done == []
        for port in ports:
            port.fail_next(StoreUnavailable("planted"), times=0)
        await trio.sleep(5)
    assert sorted(done) == ["message", "timer"]


async def test_several_keys_of_a_part_are_sent_at_once_each_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # STORE-52: with `keys_at_once`, a slow key or one that fails holds up no other
    database, env = _world()
    outbox, store = MemoryOutbox(database), MemoryEventStore(database)
    keys = [f"k{number}" for number in range(200) if partition_of(f"k{number}") == 0][:10]
    messages = [_message(key, payload=b"%d" % n) for n in range(3) for key in keys]
    await store.append(StreamId("order-1"), new_events(1), outbox=messages)
    sent: dict[str, list[bytes]] = {key: [] for key in keys}
    under_way, most = 0, 0
    fails = [True]

    async def send(entry: OutboxEntry) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(1)
        under_way -= 1
        if entry.key == keys[0] and fails:
            raise ZeroDivisionError("planted")
        sent[entry.key].append(entry.payload)

    async with open_actors() as system:

        def make() -> OutboxRelay:
            return OutboxRelay(outbox, send, env, "r", sends_max=100, keys_at_once=4)

        await system.start(make)
        while not all(len(sent[key]) == 3 for key in keys[1:]):  # noqa: ASYNC110  (virtual time)
            await trio.sleep(0.1)
        assert sent[keys[0]] == []
        fails.clear()
        while len(sent[keys[0]]) < 3:  # noqa: ASYNC110  (virtual time)
            await trio.sleep(0.1)
    assert most == 4
    assert all(one == [b"0", b"1", b"2"] for one in sent.values())
    for wrong in ({"sends_max": 0}, {"keys_at_once": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            OutboxRelay(outbox, send, env, "r", **wrong)  # type: ignore[arg-type]


async def test_a_store_that_is_away_while_several_keys_are_sent_ends_no_relay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    database, env = _world()
    outbox, store = MemoryOutbox(database), MemoryEventStore(database)
    keys = [f"k{number}" for number in range(100) if partition_of(f"k{number}") == 0][:5]
    await store.append(StreamId("order-1"), new_events(1), outbox=[_message(key) for key in keys])
    tried: list[str] = []

    async def send(entry: OutboxEntry) -> None:
        tried.append(entry.key)
        if len(tried) <= len(keys):
            outbox.fail_next(StoreUnavailable("away"), times=20)
            raise ZeroDivisionError("planted")

    async with open_actors() as system:

        def make() -> OutboxRelay:
            return OutboxRelay(outbox, send, env, "r", keys_at_once=4)

        await system.start(make)
        await trio.sleep(300)
    assert set(tried) == set(keys)
    assert (await outbox.stats()).pending == 0


async def test_a_relay_that_is_told_of_keys_looks_at_their_parts_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    # PERF-56
    database, env = _world()
    outbox = _CountedOutbox(database)

    async def send(entry: OutboxEntry) -> None:
        raise AssertionError("there is nothing to send")

    async with open_actors() as system:
        relay = await system.start(OutboxRelay, outbox, send, env, "r")
        await trio.testing.wait_all_tasks_blocked()
        outbox.asked = 0
        relay.tell(LookAtOutbox(("a", "a")))
        await trio.testing.wait_all_tasks_blocked()
        assert outbox.asked == 1
        relay.tell(LookAtOutbox())
        await trio.testing.wait_all_tasks_blocked()
        assert outbox.asked == 1 + PARTITIONS
