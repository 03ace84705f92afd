"""The bus on Kafka or Redpanda, through confluent-kafka; needs the extra `kafka`.

The broker keeps records, groups and offsets; what is put aside and dead letters are kept in the
store, whose ports it is given. What the client does in the caller's thread runs in trio's worker
threads; each member polls in a thread of its own (`kafka_member.py`).

An offset here is `Cursor(0, n)`, where n is the next offset to be read, as Kafka commits it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from weakref import WeakSet

import trio
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from actors.persistence import DeadLetters
from actors.persistence.bus import (
    BusHealth,
    BusRejected,
    BusUnavailable,
    Goal,
    GroupError,
    GroupInfo,
    Parking,
    PartitionsDiffer,
    PartLag,
    PublishFailed,
    RawRecord,
    Record,
    StartAt,
    SubscriptionFailed,
    TopicInfo,
    UnknownGroup,
    UnknownTopic,
    partition_for,
)
from actors.persistence.bus.words import (
    PARTITIONS_DEFAULT,
    check_goal,
    check_group,
    check_partitions,
    check_records,
    check_topic,
)
from actors.persistence.words import Cursor
from storage.bus.kafka_member import KafkaMember
from storage.bus.kafka_words import (
    HEALTH_S_MAX,
    MESSAGE_TIMEOUT_MS,
    REQUEST_S_MAX,
    KafkaSettings,
    error_of,
    misfit_of,
    refusal_of,
    text_headers,
    word_of,
)

T = TypeVar("T")

# Behind the client's own limit, by which it has told what became of each record.
PUBLISH_S_MAX = MESSAGE_TIMEOUT_MS / 1000 + 1.0
# Asked about together; a broker of many programs has thousands.
GROUPS_AT_ONCE = 100

# Of a library that has no types for them.
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]

_IS_READ = "has members; stop them first"
_HAS_MEMBERS = (
    KafkaError.NON_EMPTY_GROUP,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
)

_Sent = tuple[int, bytes, bytes, list[tuple[str, bytes]]]


class _Heard:
    """What the clients complained of last that waiting does not mend.

    Not the bus itself: a client that it holds and that holds it is freed by the collector, which
    runs in any thread, the other client's own among them; that was seen to end the process.
    """

    def __init__(self) -> None:
        self.refusal: BusRejected | None = None

    def note(self, error: KafkaError) -> None:
        """Called by a client, in the thread that polls it."""
        self.refusal = refusal_of(error) or self.refusal


class KafkaBus:
    """The port `EventBus` on a broker; see the module's docstring.

    Opened by the first call, so that it may be made before its broker is there. `close` ends it.
    `consumer` makes the clients of its members. Raises `InvalidField` for files of TLS that are
    nothing of the kind.
    """

    has_transactions = False

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        parking: Parking,
        dead_letters: DeadLetters,
        consumer: Callable[[dict[str, object]], Consumer] = Consumer,
    ) -> None:
        self._settings, self._prefix, self._consumer = settings, settings.prefix, consumer
        self.parking, self.dead_letters = parking, dead_letters
        self._heard = _Heard()
        try:
            self._producer = Producer(settings.producing(self._heard.note))
            self._admin = AdminClient(settings.common(self._heard.note))  # type: ignore[arg-type]
        except KafkaException as error:
            raise misfit_of(error) from None
        self._partitions: dict[str, int] = {}
        self._away, self._away_since = "", 0.0
        self._joined: WeakSet[KafkaMember] = WeakSet()

    async def close(self) -> None:
        """Call this at the end; records in hand are sent or given up within 8 s."""
        await trio.to_thread.run_sync(self._producer.flush, PUBLISH_S_MAX, abandon_on_cancel=True)

    async def declare(self, topic: str, partitions: int = PARTITIONS_DEFAULT) -> None:
        """See `EventBus.declare`; the broker's own default says how often it is kept."""
        check_topic(topic)
        check_partitions(partitions)
        found = await self._call(self._declare, topic, partitions)
        if found != partitions:
            raise PartitionsDiffer(topic, partitions, found)
        self._partitions[topic] = found

    async def publish(self, topic: str, record: Record) -> None:
        """See `EventBus.publish`."""
        await self.publish_batch(topic, [record])

    async def publish_batch(self, topic: str, records: Sequence[Record]) -> None:
        """See `EventBus.publish_batch`."""
        records = check_records(topic, records)
        partitions = await self._partitions_of(topic)
        sent: list[_Sent] = [
            (
                partition_for(record.key, partitions),
                record.key.encode(),
                record.value,
                text_headers(record.wire_headers),
            )
            for record in records
        ]
        await self._call(self._produce, topic, sent)

    async def publish_raw(self, topic: str, partition: int, raw: Sequence[RawRecord]) -> None:
        """See `Engine.publish_raw`."""
        await self._partitions_of(topic)
        sent: list[_Sent] = [
            (partition, one.key, one.value, list(one.headers.items())) for one in raw
        ]
        await self._call(self._produce, topic, sent)

    async def lag(self, group: str) -> Sequence[PartLag]:
        """See `EventBus.lag`; when a record was last handled the broker does not know."""
        check_group(group)
        return await self._call(self._lag, group)

    async def topics(self) -> Sequence[TopicInfo]:
        """See `EventBus.topics`: those with our prefix."""
        return await self._call(self._topics)

    async def groups(self) -> Sequence[GroupInfo]:
        """See `EventBus.groups`; when a group was last seen the broker does not know."""
        return await self._call(self._groups)

    async def seek(self, group: str, goal: Goal, topic: str | None = None) -> int:
        """See `EventBus.seek`."""
        check_goal(group, goal, topic)
        return await self._call(self._seek, group, goal, topic)

    async def health(self) -> BusHealth:
        """See `EventBus.health`; a member that cannot read is told of as well."""
        try:
            await self._call(self._topics, HEALTH_S_MAX)
        except (BusUnavailable, BusRejected):
            pass  # it is noted, and told below
        troubles = [told for one in self._joined if (told := one.trouble()) is not None]
        if self._away:
            troubles.append((self._away_since, self._away))
        since, reason = min(troubles, default=(0.0, ""))
        return BusHealth.after(trio.current_time() - since, reason)

    async def join(self, group: str, topics: Sequence[str], start_at: StartAt) -> KafkaMember:
        """See `Engine.join`."""
        for topic in topics:
            try:
                await self._partitions_of(topic)
            except UnknownTopic as error:
                raise SubscriptionFailed([topic], error.reason) from None

        def make(on_error: Callable[[KafkaError], None]) -> Consumer:
            return self._consumer(self._settings.consuming(on_error, group))

        member = KafkaMember(self._prefix, group, topics, start_at, make)
        self._joined.add(member)
        return member

    async def _call(self, work: Callable[..., T], *args: object) -> T:  # type: ignore[explicit-any]  # as it takes
        try:
            result = await trio.to_thread.run_sync(partial(work, *args), abandon_on_cancel=True)
        except KafkaException as raised:
            # What the client heard of a refusal is told when it is asked.
            self._admin.poll(0)
            self._producer.poll(0)
            error = word_of(error_of(raised), self._heard.refusal)
            if not self._away:
                self._away_since = trio.current_time()
            self._away = error.reason
            raise error from None
        self._away, self._heard.refusal = "", None
        return result

    async def _partitions_of(self, topic: str) -> int:
        if topic not in self._partitions:
            for info in await self.topics():
                self._partitions[info.name] = info.partitions
        if topic not in self._partitions:
            raise UnknownTopic(topic)
        return self._partitions[topic]

    # In a worker thread.

    def _declare(self, topic: str, partitions: int) -> int:
        wanted = NewTopic(self._prefix + topic, num_partitions=partitions, replication_factor=-1)
        made = self._admin.create_topics([wanted], request_timeout=REQUEST_S_MAX)
        try:
            _result(made[self._prefix + topic])
        except KafkaException as error:
            if error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        return self._find(topic)

    def _find(self, topic: str) -> int:
        """How many partitions a topic has that was just made: brokers hear of it a little later."""
        ends_at = time.monotonic() + REQUEST_S_MAX
        while True:
            for info in self._topics():
                if info.name == topic and info.partitions:
                    return info.partitions
            if time.monotonic() > ends_at:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            time.sleep(0.05)

    def _topics(self, timeout_s: float = REQUEST_S_MAX) -> list[TopicInfo]:
        found = self._admin.list_topics(timeout=timeout_s).topics
        return [
            TopicInfo(name[len(self._prefix) :], len(one.partitions))
            for name, one in sorted(found.items())
            if name.startswith(self._prefix) and not name.startswith("__")
        ]

    def _produce(self, topic: str, sent: Sequence[_Sent]) -> None:
        left, failures = len(sent), list[KafkaError]()

        def told(error: KafkaError | None, _message: Message) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                failures.append(error)

        ends_at = time.monotonic() + PUBLISH_S_MAX
        for partition, key, value, headers in sent:
            while True:
                try:
                    self._producer.produce(
                        self._prefix + topic,
                        value,
                        key,
                        partition,
                        on_delivery=told,
                        headers=list(headers),
                    )
                    break
                except BufferError:
                    self._producer.poll(0.05)
        while left and time.monotonic() < ends_at:
            self._producer.poll(0.02)
        if failures:
            self._refuse(topic, failures[0])
        if left:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def _refuse(self, topic: str, error: KafkaError) -> None:
        if error.code() in (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC):
            raise UnknownTopic(topic)
        if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_EXCEPTION):
            raise PublishFailed(topic, error.name())
        raise KafkaException(error)

    def _committed(self, consumer: Consumer) -> list[TopicPartition]:
        """What the group of a consumer has read of ours.

        The consumer asks, and not the administrator: when the group's coordinator moves or loads,
        the administrator's question ends the whole process (librdkafka issue 5040).
        """
        topics = self._admin.list_topics(timeout=REQUEST_S_MAX).topics
        parts = [
            TopicPartition(name, number)
            for name, topic in sorted(topics.items())
            if name.startswith(self._prefix) and not name.startswith("__")
            for number in sorted(topic.partitions)
        ]
        found = consumer.committed(parts, timeout=REQUEST_S_MAX) if parts else []
        for one in found:
            if one.error is not None:
                raise KafkaException(one.error)
        return [one for one in found if one.offset >= 0]

    def _offsets_of(self, group: str, consumer: Consumer) -> list[TopicPartition]:
        found = self._committed(consumer)
        if not found:
            raise UnknownGroup(group)
        return found

    def _places(
        self, parts: Sequence[TopicPartition], of: OffsetSpec
    ) -> Mapping[tuple[str, int], int]:
        """Where something is in each partition; -1 where nothing is so."""
        asked = {TopicPartition(one.topic, one.partition): of for one in parts}
        told = self._admin.list_offsets(asked, request_timeout=REQUEST_S_MAX)
        return {(one.topic, one.partition): _result(told[one]).offset for one in told}

    def _lag(self, group: str) -> list[PartLag]:
        found: list[PartLag] = []
        with self._looking(self._prefix + group) as consumer:
            offsets = self._offsets_of(group, consumer)
            low = self._places(offsets, _EARLIEST)
            high = self._places(offsets, _LATEST)
            for one in offsets:
                at = one.topic, one.partition
                # What was dropped unread is not behind: nobody can read it any more.
                first = max(one.offset, low[at])
                behind = max(0, high[at] - first)
                age_s = _age_of(consumer, TopicPartition(*at, first)) if behind else 0.0
                name = one.topic[len(self._prefix) :]
                found.append(PartLag(name, one.partition, behind, age_s, None))
        return found

    def _groups(self) -> list[GroupInfo]:
        listed = _result(self._admin.list_consumer_groups(request_timeout=REQUEST_S_MAX))
        # Each broker answers for the groups it has: without one, the list would lack some.
        for error in listed.errors:
            raise KafkaException(error)
        names = sorted(
            one.group_id for one in listed.valid if one.group_id.startswith(self._prefix)
        )
        found: list[GroupInfo] = []
        for at in range(0, len(names), GROUPS_AT_ONCE):
            some = names[at : at + GROUPS_AT_ONCE]
            for name, members in zip(some, self._members(some), strict=True):
                with self._looking(name) as consumer:
                    offsets = self._committed(consumer)
                topics = sorted({one.topic[len(self._prefix) :] for one in offsets})
                found.append(GroupInfo(name[len(self._prefix) :], topics, members, None))
        return found

    def _members(self, wire_groups: Sequence[str]) -> list[int]:
        asked = self._admin.describe_consumer_groups(
            list(wire_groups), request_timeout=REQUEST_S_MAX
        )
        return [len(_result(asked[name]).members) for name in wire_groups]

    def _seek(self, group: str, goal: Goal, topic: str | None) -> int:
        with self._looking(self._prefix + group) as consumer:
            offsets = [
                one
                for one in self._offsets_of(group, consumer)
                if topic in (None, one.topic[len(self._prefix) :])
            ]
        (members,) = self._members([self._prefix + group])
        if members:
            raise GroupError(group, _IS_READ)
        if not offsets:
            return 0
        low = self._places(offsets, _EARLIEST)
        high = self._places(offsets, _LATEST)
        timed: Mapping[tuple[str, int], int] = {}
        if isinstance(goal, datetime):
            at = OffsetSpec.for_timestamp(int(goal.timestamp() * 1000))
            timed = self._places(offsets, at)
        for one in offsets:
            part = one.topic, one.partition
            one.offset = _place(goal, low[part], high[part], timed.get(part, -1))
        self._alter(group, offsets)
        return len(offsets)

    def _alter(self, group: str, offsets: list[TopicPartition]) -> None:
        asked = ConsumerGroupTopicPartitions(self._prefix + group, offsets)
        done = self._admin.alter_consumer_group_offsets([asked], request_timeout=REQUEST_S_MAX)
        try:
            errors = [one.error for one in _result(done[self._prefix + group]).topic_partitions]
        except KafkaException as raised:
            errors = [error_of(raised)]
        for error in filter(None, errors):
            # Somebody joined since we looked: the broker has the last word.
            if error.code() in _HAS_MEMBERS:
                raise GroupError(group, _IS_READ)
            raise KafkaException(error)

    @contextmanager
    def _looking(self, wire_group: str) -> Iterator[Consumer]:
        """A consumer that asks for a group, and does not join it."""
        consumer = Consumer(
            {
                **self._settings.common(self._heard.note),
                "group.id": wire_group,
                "enable.auto.commit": False,
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()


def _result(future: "Future[T]") -> T:
    return future.result(REQUEST_S_MAX + 1)


def _place(goal: Goal, low: int, high: int, timed: int) -> int:
    match goal:
        case Cursor():
            return min(max(goal.position, low), high)
        case StartAt.EARLIEST:
            return low
        case StartAt.LATEST:
            return high
        case datetime():
            return timed if timed >= 0 else high


def _age_of(consumer: Consumer, one: TopicPartition) -> float:
    """Of the first record that is not handled."""
    consumer.assign([TopicPartition(one.topic, one.partition, one.offset)])
    message = consumer.poll(REQUEST_S_MAX)
    if message is None or message.error() is not None:
        return 0.0
    _, milliseconds = message.timestamp()
    at = datetime.fromtimestamp(max(0, milliseconds) / 1000, UTC)
    return max(0.0, (datetime.now(UTC) - at).total_seconds())
