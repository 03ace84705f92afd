"""A member on Kafka whose client fails: without a broker, with a planted client."""

import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from trio.testing import MockClock

from actors.persistence.bus import (
    BusRejected,
    BusState,
    BusUnavailable,
    Part,
    StartAt,
    TopicInfo,
)
from actors.persistence.words import Cursor
from storage.bus import MemoryBus
from storage.bus.kafka import KafkaBus
from storage.bus.kafka_member import COMPLAINT_S, HIGH, PROVEN_S, KafkaMember
from storage.bus.kafka_words import KafkaSettings
from tests.patience import PATIENCE_S, until
from web.observability.health import Finding
from web.observability.health.of_store import bus_component

AWAY = KafkaError._TRANSPORT
_Moved = Callable[["_Planted", list[TopicPartition]], None]


class _Planted:
    """A client that has partition 0 of each topic, or fails when it is polled."""

    def __init__(self, fails_with: int | None, on_error: Callable[[KafkaError], None]) -> None:
        self.fails_with, self._on_error = fails_with, on_error
        self.is_fatal = self.is_idle = False
        self.says: list[int | None] = []
        self._wires: list[TopicPartition] = []
        self._on_assign: _Moved | None = None
        self._on_lost: _Moved | None = None
        self.is_lost = False
        self.paused = False
        self.sought: list[int] = []
        self.closed = threading.Event()

    def subscribe(
        self, topics: list[str], on_assign: _Moved, on_revoke: _Moved, on_lost: _Moved
    ) -> None:
        self._wires = [TopicPartition(topic, 0, 7) for topic in topics]
        self._on_assign, self._on_lost = on_assign, on_lost

    def consume(self, most: int, timeout_s: float) -> list[Message]:
        if self.fails_with is not None:
            if not self.is_fatal:
                raise KafkaException(KafkaError(self.fails_with))
            self._on_error(KafkaError(self.fails_with, fatal=True))
        elif self._on_assign is not None and not self.is_idle:
            self._on_assign(self, self._wires)
            self._again, self._on_assign = self._on_assign, None
        if self.is_lost and self._on_lost is not None:
            self.is_lost = False
            self._on_lost(self, self._wires)
            self._again(self, self._wires)
        if self.says:
            return [_Said(self.says.pop(0))]  # type: ignore[list-item]
        self.closed.wait(timeout_s)
        return []

    def committed(self, wires: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return wires

    def incremental_assign(self, wires: list[TopicPartition]) -> None:
        pass

    def incremental_unassign(self, wires: list[TopicPartition]) -> None:
        pass

    def pause(self, wires: list[TopicPartition]) -> None:
        self.paused = True

    def resume(self, wires: list[TopicPartition]) -> None:
        self.paused = False

    def seek(self, wire: TopicPartition) -> None:
        self.sought.append(wire.offset)
        if len(self.sought) == 1:
            raise KafkaException(KafkaError(KafkaError._STATE))

    def commit(self, offsets: list[TopicPartition], *, asynchronous: bool) -> None:
        if self.fails_with is not None:
            raise KafkaException(KafkaError(self.fails_with))

    def close(self) -> None:
        self.closed.set()


class _Said:
    """A message, or what the broker says instead of one."""

    def __init__(self, code: int | None) -> None:
        self._code = code

    def error(self) -> KafkaError | None:
        return None if self._code is None else KafkaError(self._code)

    def topic(self) -> str:
        return "orders"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def headers(self) -> list[tuple[str, bytes]]:
        return []

    def timestamp(self) -> tuple[int, int]:
        return 0, 0

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"


class _Kit:
    """A member, the clients that were made for it, and what the next ones fail with."""

    def __init__(self, fails_with: list[int | None]) -> None:
        self.made: list[_Planted] = []
        self._fails_with = fails_with
        self.is_idle = False
        self.member = KafkaMember("", "mail", ["orders"], StartAt.EARLIEST, self._make)  # type: ignore[arg-type]

    def _make(self, on_error: Callable[[KafkaError], None]) -> _Planted:
        fails_with = self._fails_with.pop(0) if self._fails_with else None
        self.made.append(_Planted(fails_with, on_error))
        self.made[-1].is_idle = self.is_idle
        return self.made[-1]

    async def is_over(self) -> None:
        """Wait until the last client's thread has ended."""
        thread = self.member._thread
        assert thread is not None
        await trio.to_thread.run_sync(thread.join, PATIENCE_S)
        assert not thread.is_alive()

    async def has_parts(self) -> int:
        """Wait until it has partitions; gives the epoch."""
        with trio.fail_after(PATIENCE_S):
            while not (held := (await self.member.renew()).held):
                await trio.to_thread.run_sync(threading.Event().wait, 0.001)
        assert set(held) == {Part("orders", 0)}
        return held[Part("orders", 0)].epoch


async def test_a_member_whose_client_failed_makes_another(mock_clock: MockClock) -> None:
    # BUS-9
    kit = _Kit([AWAY])
    await kit.is_over()
    with pytest.raises(BusUnavailable, match="_TRANSPORT"):
        await kit.member.renew()
    assert (await kit.member.renew()).held == {}
    assert len(kit.made) == 1  # not before its time
    mock_clock.jump(1.0)
    assert await kit.has_parts() == 1
    assert len(kit.made) == 2
    await kit.member.leave()
    assert all(one.closed.is_set() for one in kit.made)


async def test_a_client_that_fails_again_is_waited_for_longer(mock_clock: MockClock) -> None:
    # BUS-9: 1 s doubling to 30 s, with up to half of it taken off
    kit = _Kit([AWAY] * 9)
    waits: list[float] = []
    for _ in range(9):
        await kit.is_over()
        with pytest.raises(BusUnavailable):
            await kit.member.renew()
        made, waited = len(kit.made), 0.0
        while len(kit.made) == made:
            mock_clock.jump(0.125)
            waited += 0.125
            await kit.member.renew()
        waits.append(waited)
    for wait, most in zip(waits, (1, 2, 4, 8, 16, 30, 30, 30, 30), strict=True):
        assert most / 2 <= wait <= most + 0.125
    await kit.has_parts()
    kit.made[-1].fails_with = AWAY
    await kit.is_over()
    with pytest.raises(BusUnavailable):
        await kit.member.renew()
    mock_clock.jump(1.0)
    await kit.member.renew()
    assert len(kit.made) == 11  # it was well, and begins at 1 s again
    await kit.member.leave()


async def test_what_a_failed_member_had_is_not_its_own_any_more() -> None:
    # BUS-5, BUS-9
    kit = _Kit([None])
    epoch = await kit.has_parts()
    kit.made[-1].is_fatal = True
    kit.made[-1].fails_with = AWAY
    await kit.is_over()
    part = Part("orders", 0)
    with trio.fail_after(PATIENCE_S):  # nobody waits for a thread that is gone
        assert not await kit.member.commit(part, epoch, Cursor(0, 8))
        assert await kit.member.fetch(part, Cursor(0, 7), 1, 1) == []
        with pytest.raises(BusUnavailable):
            await kit.member._ask(lambda: None)
    await kit.member.leave()


async def test_what_was_asked_of_a_thread_that_fails_is_answered() -> None:
    # BUS-9
    kit = _Kit([None])
    await kit.has_parts()
    client, begun, go_on = kit.made[-1], threading.Event(), threading.Event()

    def stand() -> None:
        begun.set()
        go_on.wait()
        client.fails_with = AWAY

    told: list[BusUnavailable] = []

    async def ask(call: Callable[[], object]) -> None:
        try:
            await kit.member._ask(call)
        except BusUnavailable as error:
            told.append(error)

    def refused() -> None:
        raise KafkaException(KafkaError(AWAY))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, stand)
        await trio.to_thread.run_sync(begun.wait)
        nursery.start_soon(ask, refused)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    await kit.is_over()
    assert [error.reason for error in told] == ["_TRANSPORT"]
    await kit.member.leave()


async def test_health_tells_of_a_member_that_cannot_read(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # BUS-9: degraded at once, unhealthy after a minute, until it reads again
    beside, fails_with = MemoryBus(), [AWAY, AWAY, None]
    made: list[_Planted] = []

    def planted(config: dict[str, object]) -> _Planted:
        made.append(_Planted(fails_with.pop(0), config["error_cb"]))  # type: ignore[arg-type]
        return made[-1]

    bus = KafkaBus(
        KafkaSettings("127.0.0.1:1"),
        parking=beside.parking,
        dead_letters=beside.dead_letters,
        consumer=planted,  # type: ignore[arg-type]
    )
    monkeypatch.setattr(bus, "_topics", lambda *_: [TopicInfo("orders", 1)])
    member = await bus.join("mail", ["orders"], StartAt.EARLIEST)
    await trio.to_thread.run_sync(made[0].closed.wait)
    health = await bus.health()
    assert (health.state, health.reason) == (BusState.DEGRADED, "_TRANSPORT")
    with pytest.raises(BusUnavailable):
        await member.renew()
    mock_clock.jump(60.0)
    assert (await bus.health()).state is BusState.UNHEALTHY
    with trio.fail_after(PATIENCE_S):
        while len(made) < 2:
            await member.renew()
        await trio.to_thread.run_sync(made[1].closed.wait)
        assert (await bus.health()).state is BusState.UNHEALTHY  # it is still the same trouble
        with pytest.raises(BusUnavailable):
            await member.renew()
        mock_clock.jump(2.0)
        while not (await member.renew()).held:
            pass
    assert (await bus.health()).state is BusState.HEALTHY
    made[2].fails_with = AWAY
    await trio.to_thread.run_sync(made[2].closed.wait)
    assert (await bus.health()).state is BusState.DEGRADED
    await member.leave()
    assert (await bus.health()).state is BusState.HEALTHY  # nobody waits for it


async def test_a_member_with_nothing_to_read_is_well_when_it_ran_for_a_while(
    mock_clock: MockClock,
) -> None:
    # BUS-9: a group may have more members than partitions
    kit = _Kit([AWAY])
    await kit.is_over()
    with pytest.raises(BusUnavailable):
        await kit.member.renew()
    kit.is_idle = True
    mock_clock.jump(1.0)
    await kit.member.renew()
    assert kit.member.trouble() is not None
    mock_clock.jump(PROVEN_S)
    await kit.member.renew()
    assert kit.member.trouble() is None
    await kit.member.leave()


async def test_who_is_not_let_in_is_told_so(mock_clock: MockClock) -> None:
    # BUS-11
    kit = _Kit([KafkaError.GROUP_AUTHORIZATION_FAILED])
    await kit.is_over()
    with pytest.raises(BusRejected, match="GROUP_AUTHORIZATION_FAILED"):
        await kit.member.renew()
    await kit.member.leave()


async def test_what_the_broker_says_instead_of_messages_is_told(mock_clock: MockClock) -> None:
    # BUS-8, BUS-9: until something is read, or it was not said again for long
    kit = _Kit([None])
    await kit.has_parts()
    member, (client,) = kit.member, kit.made

    async def until(is_so: Callable[[tuple[float, str] | None], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not is_so(member.trouble()):
                await trio.to_thread.run_sync(threading.Event().wait, 0.001)

    client.says = [KafkaError._PARTITION_EOF, KafkaError.TOPIC_AUTHORIZATION_FAILED]
    await until(lambda told: told == (0.0, "TOPIC_AUTHORIZATION_FAILED"))
    mock_clock.jump(COMPLAINT_S - 1)
    client.says = [KafkaError.UNKNOWN_TOPIC_OR_PART]
    await until(lambda told: told == (0.0, "UNKNOWN_TOPIC_OR_PART"))
    client.says = [None]
    await until(lambda told: told is None)
    client.says = [KafkaError.UNKNOWN_TOPIC_OR_PART]
    await until(lambda told: told == (COMPLAINT_S - 1, "UNKNOWN_TOPIC_OR_PART"))
    mock_clock.jump(COMPLAINT_S)
    assert member.trouble() is None
    await member.leave()


async def test_a_broker_that_is_away_is_told_so_in_time() -> None:
    """And not that the bus gives no answer."""
    # DOC-4, BUS-9, WEB-21
    beside = MemoryBus()
    bus = KafkaBus(
        KafkaSettings("127.0.0.1:1"), parking=beside.parking, dead_letters=beside.dead_letters
    )
    check = bus_component(bus).check()
    assert not isinstance(check, Finding)
    found = await check
    assert (found.status, found.message) == ("degraded", "the event bus is away")


async def test_a_partition_that_was_paused_and_lost_is_read_again() -> None:
    """The client remembers the pause: a partition stood for ever behind a broker that was away."""
    # BUS-9
    kit = _Kit([])
    await kit.has_parts()
    client = kit.made[0]
    client.says = [None] * HIGH
    await until(lambda: client.paused)
    client.is_lost = True
    with trio.fail_after(PATIENCE_S):
        while await kit.has_parts() == 1:
            pass
    assert not client.paused
    await kit.member.leave()


async def test_a_move_that_failed_is_done_again_before_anything_is_read() -> None:
    """Else the records between are passed over."""
    # BUS-4
    kit, part = _Kit([]), Part("orders", 0)
    await kit.has_parts()
    client = kit.made[0]
    client.says = [None]
    with pytest.raises(BusUnavailable, match="_STATE"):
        await kit.member.fetch(part, Cursor(0, 3), 10, 1000)
    assert not await kit.member.fetch(part, Cursor(0, 3), 10, 1000)
    assert client.sought == [3, 3]
    await kit.member.leave()
