"""What holds of the event bus, as tests. Fixture `kit`, with an empty bus.

Real engines keep real time: what a test waits for is an event, and where time must pass,
`pass_time` makes leases older.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import trio

from actors.persistence import (
    AppendRequest,
    DeadLetters,
    DeadLetterStatus,
    InvalidField,
    InvalidTransition,
    NotHandedBack,
    StreamId,
)
from actors.persistence.bus import (
    DEAD,
    BusCodecError,
    BusState,
    Engine,
    GroupError,
    Guard,
    Handler,
    HandlerInTransaction,
    InvalidTopic,
    OnFailure,
    Part,
    PartitionsDiffer,
    RawRecord,
    Received,
    Record,
    RecordTooLarge,
    StartAt,
    SubscribeOptions,
    Subscription,
    SubscriptionFailed,
    UnknownGroup,
    UnknownTopic,
    partition_for,
    put_back,
)
from actors.persistence.words import START, Cursor
from storage.testing.kept import Kept
from storage.testing.samples import PATIENCE_S, new_event

TOPIC, GROUP = "order-events", "mail"
ANOTHER = "stock-events"
# For a real engine a delay is real.
FAST = (0.01, 0.02)


@dataclass
class BusKit:
    """An engine, other handles on the same, and the store that effects go to."""

    bus: Engine
    another: Callable[[], Engine]
    kept: Kept
    letters: DeadLetters
    # None where only a real death ends a lease; that has tests of its own.
    pass_time: Callable[[float], Awaitable[None]] | None
    effect: HandlerInTransaction | None = None
    effects: Callable[[], Awaitable[Sequence[str]]] | None = None
    knows_when: bool = True  # when a group last handled a record


@dataclass
class Heard:
    """A handler that notes what it was given, and can fail or wait."""

    records: list[Received] = field(default_factory=list)
    failing: dict[str, Exception] = field(default_factory=dict)
    # Values at which it stands until `gate` opens.
    standing: set[str] = field(default_factory=set)
    gate: trio.Event = field(default_factory=trio.Event)
    tried: list[str] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    async def __call__(self, received: Received) -> None:
        value = received.record.value.decode()
        self.tried.append(value)
        self._ring()
        if value in self.standing:
            await self.gate.wait()
        if value in self.failing:
            raise self.failing[value]
        self.records.append(received)
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    @property
    def values(self) -> list[str]:
        return [one.record.value.decode() for one in self.records]

    async def until(self, is_so: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not is_so():
                await self._changed.wait()

    async def count(self, count: int) -> None:
        await self.until(lambda: len(self.records) >= count)


def records(count: int, keys: int = 5) -> list[Record]:
    """Call this for so many records of so many keys, in turn; their values are their numbers."""
    return [
        Record(uuid4(), f"order-{number % keys}", str(number).encode(), {"event_type": "E"})
        for number in range(count)
    ]


def options(**values: object) -> SubscribeOptions:
    """Call this for options of which a test says only what it is about."""
    given = {
        "guard": Guard.IDEMPOTENT,
        "place_delays_s": FAST,
        "parked_delays_s": FAST,
        **values,
    }
    return SubscribeOptions(**given)  # type: ignore[arg-type]


@asynccontextmanager
async def subscribed(
    bus: Engine,
    handler: Handler | HandlerInTransaction,
    wanted: SubscribeOptions | None = None,
    group: str | None = GROUP,
    topics: Sequence[str] = (TOPIC,),
) -> AsyncIterator[Subscription]:
    """Call this for a subscription that runs meanwhile, and is stopped in order."""
    subscription = Subscription(bus, topics, group, handler, wanted or options())
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            await nursery.start(subscription.run)
        yield subscription
        with trio.fail_after(PATIENCE_S):
            await subscription.stop()


def _in_order(heard: Heard) -> bool:
    """Whether the records of each key came in their order, the first time they came."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for one in heard.records:
        number = int(one.record.value)
        if number not in by_key[one.record.key]:
            by_key[one.record.key].append(number)
    return all(numbers == sorted(numbers) for numbers in by_key.values())


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not await is_so():  # noqa: ASYNC110  (of engines with no event for it)
            await trio.sleep(0.01)


async def _is_below(subscription: Subscription, most: int) -> bool:
    return subscription.statistics().in_hand <= most


async def _has_letters(kit: BusKit, count: int) -> bool:
    return len(await kit.letters.list(kind="bus")) == count


class BusSuite:
    """Publishing, groups, offsets, failures: what every engine does."""

    async def test_each_group_gets_all_in_order_of_their_keys(self, kit: BusKit) -> None:
        # BUS-1, BUS-3, BUS-5
        await kit.bus.declare(TOPIC)
        sent = records(60)
        await kit.bus.publish(TOPIC, sent[0])
        await kit.bus.publish_batch(TOPIC, sent[1:30])
        one, other = Heard(), Heard()
        async with subscribed(kit.bus, one), subscribed(kit.another(), other, group="search"):
            await one.count(30)
            await kit.bus.publish_batch(TOPIC, sent[30:])
            for heard in (one, other):
                await heard.count(60)
        for heard in (one, other):
            assert sorted(int(value) for value in heard.values) == list(range(60))
            assert _in_order(heard)
        found = {received.record.event_id: received for received in one.records}
        for record in sent:
            received = found[record.event_id]
            assert (received.topic, received.attempt) == (TOPIC, 1)
            assert received.record.key == record.key
            assert received.record.headers["event_type"] == "E"
            assert received.record.headers["content_type"] == "application/json"

    async def test_a_key_has_the_same_partition_in_all_engines(self, kit: BusKit) -> None:
        # BUS-3: crc32 of the key, as Kafka's own clients; 1000 keys
        await kit.bus.declare(TOPIC, 7)
        sent = [Record(uuid4(), f"key-{number}", b"{}") for number in range(1000)]
        await kit.bus.publish_batch(TOPIC, sent)
        heard = Heard()
        async with subscribed(kit.bus, heard):
            await heard.count(1000)
        for received in heard.records:
            assert received.partition == partition_for(received.record.key, 7)

    async def test_what_was_not_handled_comes_again(self, kit: BusKit) -> None:
        # BUS-4: the offset advances only behind the handler
        await kit.bus.declare(TOPIC, 1)
        await kit.bus.publish_batch(TOPIC, records(10))
        first = Heard(standing={"4"})
        subscription = Subscription(kit.bus, [TOPIC], GROUP, first, options())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscription.run)
            await first.until(lambda: "4" in first.tried)
            nursery.cancel_scope.cancel()
        again = Heard()
        async with subscribed(kit.another(), again):
            await again.until(lambda: "9" in again.values)
        assert {str(number) for number in range(4, 10)} <= set(again.values)
        assert {*first.values, *again.values} == {str(number) for number in range(10)}

    async def test_a_stop_lets_the_record_in_hand_end(self, kit: BusKit) -> None:
        # BUS-9: what it had in hand is handled and noted, the rest is the next member's
        await kit.bus.declare(TOPIC, 1)
        await kit.bus.publish_batch(TOPIC, records(5))
        first = Heard(standing={"2"})
        async with trio.open_nursery() as nursery, subscribed(kit.bus, first):
            await first.until(lambda: "2" in first.tried)
            nursery.start_soon(_open_soon, first)
        assert first.values == ["0", "1", "2"]
        rest = Heard()
        async with subscribed(kit.another(), rest):
            await rest.count(2)
        assert rest.values == ["3", "4"]

    async def test_members_share_and_what_one_leaves_the_other_takes(self, kit: BusKit) -> None:
        # BUS-5
        await kit.bus.declare(TOPIC, 4)
        one, other = Heard(), Heard()
        # Some engines share the partitions of all topics together; so it reads one only.
        wanted = options(on_failure=OnFailure.SKIP)
        async with subscribed(kit.bus, one, wanted) as first:
            await _until(_has_parts(first, 4))
            async with subscribed(kit.another(), other, wanted) as second:
                await _until(_has_parts(second, 2))
                await _until(_has_parts(first, 2))
                assert not set(first.statistics().parts) & set(second.statistics().parts)
                await kit.bus.publish_batch(TOPIC, records(80, keys=40))
                await _until(_counts(80, one, other))
                assert one.records
                assert other.records
            await _until(_has_parts(first, 4))
            await kit.bus.publish_batch(TOPIC, records(40, keys=40))
            await _until(_counts(120, one, other))
        assert len(one.records) + len(other.records) == 120

    async def test_members_of_one_group_may_read_different_topics(self, kit: BusKit) -> None:
        """As two sites of which one knows more: nobody is given what he does not read."""
        # BUS-5
        await kit.bus.declare(TOPIC, 2)
        await kit.bus.declare(ANOTHER, 2)
        both, one = Heard(), Heard()
        wanted = options(on_failure=OnFailure.SKIP)
        async with subscribed(kit.bus, both, wanted, topics=(TOPIC, ANOTHER)) as first:
            await _until(_has_parts(first, 2, ANOTHER))
            async with subscribed(kit.another(), one, wanted, topics=(ANOTHER,)) as second:
                await _until(_reads(second, ANOTHER))
                for topic in (TOPIC, ANOTHER):
                    await kit.bus.publish_batch(topic, records(40, keys=40))
                await _until(_counts(80, both, one))
                topics = {part.topic for part in second.statistics().parts}
                assert topics == {ANOTHER, f"{ANOTHER}.retry"} & topics
            assert {received.topic for received in one.records} == {ANOTHER}
            assert sum(received.topic == TOPIC for received in both.records) == 40
            await _until(_has_parts(first, 2, ANOTHER))
            await kit.bus.publish_batch(ANOTHER, records(40, keys=40))
            await _until(_counts(120, both, one))
        assert len(both.records) + len(one.records) == 120

    async def test_a_dead_members_partitions_go_to_others(self, kit: BusKit) -> None:
        # BUS-5, BUS-13: and what it says late is refused
        if kit.pass_time is None:
            pytest.skip("only a real death ends a lease of this engine")
        await kit.bus.declare(TOPIC, 2)
        await kit.bus.publish_batch(TOPIC, records(20, keys=9))
        dead = await kit.another().join(GROUP, [TOPIC], StartAt.EARLIEST)
        held = (await dead.renew()).held
        assert set(held) == {Part(TOPIC, 0), Part(TOPIC, 1)}
        fetched = [await dead.fetch(part, START, 5, 1_000_000) for part in held]
        assert all(fetched)
        heard = Heard()
        async with subscribed(kit.bus, heard):
            assert heard.records == []
            await kit.pass_time(6.5)
            await heard.count(20)
            for part, one in held.items():
                assert not await dead.commit(part, one.epoch, Cursor(5, 5))
        assert _in_order(heard)
        lag = await kit.bus.lag(GROUP)
        assert [one.records for one in lag if one.topic == TOPIC] == [0, 0]

    async def test_not_more_is_fetched_than_the_buffer_has_room_for(self, kit: BusKit) -> None:
        # BUS-6
        await kit.bus.declare(TOPIC, 3)
        await kit.bus.publish_batch(TOPIC, records(200, keys=50))
        heard = Heard(standing={str(number) for number in range(200)})
        wanted = options(buffer=10, on_failure=OnFailure.SKIP)
        async with subscribed(kit.bus, heard, wanted) as subscription:
            await heard.until(lambda: len(heard.tried) >= 1)
            await trio.sleep(0.2)
            assert 1 <= subscription.statistics().in_hand <= 10
            heard.gate.set()
            await heard.count(200)
            assert subscription.statistics().in_hand <= 10
        assert subscription.statistics().in_hand == 0
        assert len(heard.records) == 200

    async def test_not_more_is_fetched_than_a_partition_may_take_of_memory(
        self, kit: BusKit
    ) -> None:
        # BUS-6
        await kit.bus.declare(TOPIC)
        values = [str(number) * 100_000 for number in range(6)]
        sent = [Record(uuid4(), "order-1", value.encode()) for value in values]
        await kit.bus.publish_batch(TOPIC, sent)

        async def read(part_bytes: int, most: int) -> None:
            heard = Heard(standing={values[0]})
            wanted = options(on_failure=OnFailure.SKIP, part_bytes=part_bytes)
            async with subscribed(kit.bus, heard, wanted, group=f"{GROUP}-{most}") as subscription:
                await heard.until(lambda: values[0] in heard.tried)
                # A fetch that is under way, of another partition, has its places meanwhile.
                await _until(lambda: _is_below(subscription, most))
                heard.gate.set()
                await heard.count(6)
            assert list(dict.fromkeys(heard.values)) == values

        # Two and the headers of both; and each larger than all that is allowed.
        await read(250_000, 2)
        await read(1000, 1)

    async def test_what_fails_is_put_aside_with_what_follows_of_its_key(self, kit: BusKit) -> None:
        # BUS-7: others flow on, and the order of the key stays
        await kit.bus.declare(TOPIC, 1)
        heard = Heard(failing={"0": ValueError("not today")})
        wanted = options(parked_delays_s=(0.3, 0.3, 0.3))
        async with subscribed(kit.bus, heard, wanted) as subscription:
            await kit.bus.publish_batch(TOPIC, records(10, keys=2))
            await heard.until(lambda: {"1", "3", "5", "7", "9"} <= set(heard.values))
            await heard.until(lambda: heard.tried.count("0") >= 4)
            assert not {"2", "4", "6", "8"} & set(heard.values)
            heard.failing.clear()
            await heard.count(10)
            assert subscription.statistics().put_aside == 5
        even = [one.record.value.decode() for one in heard.records if one.record.key == "order-0"]
        assert even == ["0", "2", "4", "6", "8"]
        assert {one.topic for one in heard.records} == {TOPIC}
        assert (await kit.letters.counts()).by_status[DeadLetterStatus.PENDING] == 0

    async def test_what_goes_on_failing_is_a_dead_letter(self, kit: BusKit) -> None:
        # BUS-7: with its raw bytes, on the topic's .dead too; those behind it flow on
        await kit.bus.declare(TOPIC, 1)
        heard = Heard(failing={"0": ValueError("never")})
        sent = records(4, keys=1)
        await kit.bus.publish_batch(TOPIC, sent)
        async with subscribed(kit.bus, heard):
            await heard.count(3)
            assert heard.values == ["1", "2", "3"]
            # in place: once and twice more; aside: twice
            assert heard.tried.count("0") == 5
            letters = await kit.letters.list(kind="bus")
        assert [one.letter.payload for one in letters] == [b"0"]
        assert letters[0].letter.message_id == str(sent[0].event_id)
        assert letters[0].letter.source == f"{TOPIC}/{GROUP}"
        assert "never" in letters[0].letter.error_message
        member = await kit.bus.join("looking", [TOPIC + DEAD], StartAt.EARLIEST)
        found: Sequence[RawRecord] = ()
        with trio.fail_after(PATIENCE_S):
            while not found:
                await member.renew()
                found = await member.fetch(Part(TOPIC + DEAD, 0), START, 9, 1_000_000)
                await member.wait(Part(TOPIC + DEAD, 0), 0.1)
        assert [one.value for one in found] == [b"0"]
        await member.leave()

    async def test_a_blocked_partition_stands_and_others_do_not(self, kit: BusKit) -> None:
        # BUS-7
        await kit.bus.declare(TOPIC, 3)
        failing = _key_of(0)
        heard = Heard(failing={"0": ValueError("wait")})
        sent = [
            Record(uuid4(), failing, b"0"),
            Record(uuid4(), failing, b"1"),
            Record(uuid4(), _key_of(1), b"2"),
        ]
        await kit.bus.publish_batch(TOPIC, sent)
        async with subscribed(kit.bus, heard, options(on_failure=OnFailure.BLOCK)):
            await heard.until(lambda: heard.tried.count("0") >= 2 and "2" in heard.values)
            assert heard.values == ["2"]
            heard.failing.clear()
            await heard.count(3)
        assert heard.values == ["2", "0", "1"]

    async def test_skipped_is_a_dead_letter_at_once(self, kit: BusKit) -> None:
        # BUS-7
        await kit.bus.declare(TOPIC, 1)
        heard = Heard(failing={"1": ValueError("no")})
        await kit.bus.publish_batch(TOPIC, records(3))
        async with subscribed(kit.bus, heard, options(on_failure=OnFailure.SKIP)):
            await heard.count(2)
        assert heard.tried == ["0", "1", "2"]
        assert [one.letter.payload for one in await kit.letters.list(kind="bus")] == [b"1"]

    async def test_what_was_given_up_is_put_back_once(self, kit: BusKit) -> None:
        # BUS-7
        await kit.bus.declare(TOPIC)
        sent, heard = records(3), Heard(failing={"1": ValueError("no")})
        large = Record(uuid4(), "order-9", b"large", {"note": "x" * 300})
        heard.failing["large"] = ValueError("no")
        async with subscribed(kit.bus, heard, options(on_failure=OnFailure.SKIP)):
            await kit.bus.publish_batch(TOPIC, [*sent, large])
            await _until(lambda: _has_letters(kit, 2))
            found = {one.letter.payload: one for one in await kit.letters.list(kind="bus")}
            heard.failing.clear()
            back = await put_back(kit.bus, found[b"1"].id, "ada")
            assert back.status is DeadLetterStatus.RESOLVED
            await heard.until(lambda: "1" in heard.values)
            (again,) = (one for one in heard.records if one.record.value == b"1")
            first = sent[1]
            assert (again.topic, again.record.event_id) == (TOPIC, first.event_id)
            assert again.record.key == first.key
            assert again.record.headers["event_type"] == "E"
            with pytest.raises(InvalidTransition):
                await put_back(kit.bus, found[b"1"].id, "ada")
            # Its header was cut: what it had is on the topic's `.dead`.
            with pytest.raises(NotHandedBack, match="whole record"):
                await put_back(kit.bus, found[b"large"].id, "ada")
            kept = await kit.letters.get(found[b"large"].id)
            assert kept.status is DeadLetterStatus.PENDING

    async def test_what_cannot_be_read_is_a_dead_letter_with_its_bytes(self, kit: BusKit) -> None:
        # BUS-2, BUS-7: no event id, no key, no UTF-8, or the handler says so
        await kit.bus.declare(TOPIC, 1)
        id_ = str(uuid4()).encode()
        for key, value, headers in (
            (b"k", b"\x00\xff", {}),
            (b"", b"keyless", {"event_id": id_}),
            (b"k", b"odd id", {"event_id": b"seven"}),
        ):
            raw = RawRecord(Part(TOPIC, 0), START, key, value, headers, datetime.now(UTC))
            await kit.bus.publish_raw(TOPIC, 0, [raw])
        heard = Heard(failing={"0": BusCodecError("no order")})
        await kit.bus.publish_batch(TOPIC, records(2))
        async with subscribed(kit.bus, heard):
            await heard.count(1)
        assert heard.tried == ["0", "1"]
        letters = [one.letter.payload for one in await kit.letters.list(kind="bus")]
        assert letters == [b"\x00\xff", b"keyless", b"odd id", b"0"]

    async def test_behind_an_inbox_an_effect_happens_once(self, kit: BusKit) -> None:
        # BUS-4, BUS-16, REL-94: published twice, and replayed from the beginning
        await kit.bus.declare(TOPIC, 2)
        sent, stream = records(10), StreamId(f"effects-{uuid4()}")
        tried: list[UUID] = []

        async def handle(received: Received) -> None:
            id_ = received.record.event_id
            tried.append(id_)
            event = new_event(received.record.value)
            await kit.kept.events.append_request(AppendRequest(stream, [event], inbox=(GROUP, id_)))

        for count in (20, 40):
            if count == 20:
                await kit.bus.publish_batch(TOPIC, sent)
                await kit.bus.publish_batch(TOPIC, sent[::-1])
            else:
                assert await kit.bus.seek(GROUP, StartAt.EARLIEST, TOPIC) == 2
            async with subscribed(kit.bus, handle, options(guard=Guard.INBOX)):
                await _until(_length(tried, count))
        effects = [one.data async for one in kit.kept.events.load(stream)]
        assert sorted(effects) == sorted(record.value for record in sent)
        assert await kit.letters.list(kind="bus") == []

    async def test_effect_and_offset_are_one_commit(self, kit: BusKit) -> None:
        # BUS-10: also when the record is published again, and tried again
        if kit.effect is None or kit.effects is None:
            pytest.skip("this engine has no transactions")
        await kit.bus.declare(TOPIC, 1)
        sent = records(6, keys=2)
        await kit.bus.publish_batch(TOPIC, [*sent, *sent])
        handled: list[UUID] = []
        effect, failing = kit.effect, {"2"}

        async def handle(transaction: object, received: Received) -> None:
            value = received.record.value.decode()
            if value in failing:
                failing.discard(value)
                raise ValueError("once")
            await effect(transaction, received)
            handled.append(received.record.event_id)

        async with subscribed(kit.bus, handle, options(guard=Guard.TRANSACTION)) as subscription:
            await _until(_handled(subscription, 12))
        assert sorted(await kit.effects()) == ["0", "1", "2", "3", "4", "5"]
        assert sorted(handled) == sorted(record.event_id for record in sent)
        assert [one.records for one in await kit.bus.lag(GROUP) if one.topic == TOPIC] == [0]

    async def test_lag_groups_and_topics_are_told(self, kit: BusKit) -> None:
        # BUS-8, BUS-16
        await kit.bus.declare(TOPIC, 2)
        with pytest.raises(UnknownGroup):
            await kit.bus.lag("nobody")
        heard = Heard()
        async with subscribed(kit.bus, heard, options(on_failure=OnFailure.SKIP)):
            await kit.bus.publish_batch(TOPIC, records(8))
            await heard.count(8)
            with pytest.raises(GroupError):
                await kit.bus.seek(GROUP, StartAt.EARLIEST)
            assert [(one.name, one.members) for one in await kit.bus.groups()] == [(GROUP, 1)]
        await kit.bus.publish_batch(TOPIC, records(3))
        lag = await kit.bus.lag(GROUP)
        assert [(one.topic, one.partition) for one in lag] == [(TOPIC, 0), (TOPIC, 1)]
        assert sum(one.records for one in lag) == 3
        assert all(one.seconds >= 0 for one in lag)
        assert any(one.handled_at is not None for one in lag) is kit.knows_when
        names = {one.name: one.partitions for one in await kit.bus.topics()}
        assert names == {TOPIC: 2, TOPIC + DEAD: 2}
        assert [(one.name, one.members) for one in await kit.bus.groups()] == [(GROUP, 0)]

    async def test_a_stopped_group_is_moved(self, kit: BusKit) -> None:
        # BUS-5, BUS-16: to the ends, a time, an offset
        await kit.bus.declare(TOPIC, 1)
        await kit.bus.publish_batch(TOPIC, records(4, keys=1))
        late = Heard()
        async with subscribed(
            kit.bus, late, options(start_at=StartAt.LATEST, on_failure=OnFailure.SKIP)
        ) as subscription:
            await _until(_has_parts(subscription, 1))
            await kit.bus.publish_batch(TOPIC, records(1))
            await late.count(1)
        assert len(late.records) == 1
        second = late.records[0].offset
        goals = ((StartAt.EARLIEST, 5), (StartAt.LATEST, 0), (second, 0), (START, 5))
        for goal, behind in goals:
            assert await kit.bus.seek(GROUP, goal) == 1
            assert [one.records for one in await kit.bus.lag(GROUP)] == [behind]
        await kit.bus.seek(GROUP, datetime(2001, 1, 1, tzinfo=UTC))
        assert [one.records for one in await kit.bus.lag(GROUP)] == [5]
        await kit.bus.seek(GROUP, datetime(2100, 1, 1, tzinfo=UTC))
        assert [one.records for one in await kit.bus.lag(GROUP)] == [0]
        with pytest.raises(UnknownGroup):
            await kit.bus.seek("nobody", StartAt.LATEST)

    async def test_bad_input_is_refused_before_any_harm(self, kit: BusKit) -> None:
        # BUS-1, BUS-2, BUS-6
        await kit.bus.declare(TOPIC, 3)
        await kit.bus.declare(TOPIC, 3)
        with pytest.raises(PartitionsDiffer, match="has 3 partitions, 4"):
            await kit.bus.declare(TOPIC, 4)
        for wrong in ("", "Orders", "1st", "a b", "x" * 200, "ö", None, b"x", "a\0"):
            with pytest.raises(InvalidTopic):
                await kit.bus.publish(wrong, records(1)[0])  # type: ignore[arg-type]
            with pytest.raises(InvalidTopic):
                await kit.bus.declare(wrong)  # type: ignore[arg-type]
        for number in (0, -1, 257, "3", None, True):
            with pytest.raises(InvalidField):
                await kit.bus.declare("other-events", number)  # type: ignore[arg-type]
        with pytest.raises(UnknownTopic):
            await kit.bus.publish("unknown-events", records(1)[0])
        with pytest.raises(RecordTooLarge, match="900000"):
            await kit.bus.publish(TOPIC, Record(uuid4(), "k", b"x" * 900_000))
        small = Record(uuid4(), "k", b"")
        large = Record(uuid4(), "k", b"x" * (900_001 - small.size))
        with pytest.raises(RecordTooLarge):
            await kit.bus.publish_batch(TOPIC, [small, large])
        for many in ([], records(1001), "record", [b"x"], None):
            with pytest.raises(InvalidField):
                await kit.bus.publish_batch(TOPIC, many)  # type: ignore[arg-type]
        unknown = Subscription(kit.bus, ["unknown-events"], GROUP, Heard(), options())
        with pytest.raises(SubscriptionFailed, match="unknown-events"):
            await unknown.run()
        assert [one.name for one in await kit.bus.topics()] == [TOPIC]
        heard = Heard()
        exact = Record(uuid4(), "k", b"x" * (900_000 - small.size))
        await kit.bus.publish(TOPIC, exact)
        async with subscribed(kit.bus, heard):
            await heard.count(1)
        assert heard.records[0].record.value == exact.value

    async def test_the_bus_is_healthy(self, kit: BusKit) -> None:
        # BUS-9
        assert (await kit.bus.health()).state is BusState.HEALTHY


async def _open_soon(heard: Heard) -> None:
    await trio.sleep(0.05)
    heard.gate.set()


def _key_of(partition: int, partitions: int = 3) -> str:
    return next(
        key
        for key in (f"key-{number}" for number in range(99))
        if partition_for(key, partitions) == partition
    )


def _has_parts(
    subscription: Subscription, count: int, topic: str = TOPIC
) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        parts = subscription.statistics().parts
        return sum(part.topic == topic for part in parts) == count

    return is_so


def _reads(subscription: Subscription, topic: str) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return any(part.topic == topic for part in subscription.statistics().parts)

    return is_so


def _counts(count: int, *heards: Heard) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return sum(len(heard.records) for heard in heards) >= count

    return is_so


def _length(values: Sequence[object], count: int) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return len(values) >= count

    return is_so


def _handled(subscription: Subscription, count: int) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return subscription.statistics().handled >= count

    return is_so
