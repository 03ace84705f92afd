"""A member of a group on Kafka: one thread that polls, and what trio asks of it.

Rule 1: only the thread polls; it never waits for trio, but for a partition that is to be given
back, at most so long as a handler has to end.
Rule 2: what both sides read stands under the lock, and nothing waits with the lock held.
Rule 3: a partition is moved by the thread, between two polls, and what was fetched of it is dropped
then: what comes behind that is of its new place.
Rule 4: a thread that failed has nothing any more, and answers who still asks it; a new one, with a
client of its own, begins by `renew`, when its time has come and the old one has ended.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from zlib import crc32

import trio
import trio.lowlevel
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from actors.persistence.bus import (
    Assignment,
    BusRejected,
    BusUnavailable,
    HandlerInTransaction,
    Held,
    Part,
    RawRecord,
    Received,
    StartAt,
)
from actors.persistence.bus.sharing import RECONNECT_FIRST_S, RECONNECT_S_MAX, backoff_s
from actors.persistence.bus.subscription import FINISH_S_MAX
from actors.persistence.bus.words import PART_BYTES, within
from actors.persistence.words import Cursor
from storage.bus.kafka_words import REQUEST_S_MAX, error_of, word_of

# What is asked of the thread, such as a commit, waits for the end of a poll.
POLL_S = 0.02
ASK_S_MAX = 10.0
POLL_MESSAGES = 200
# Of a partition at a time in our hands; the client stops fetching it beyond.
HIGH, LOW = 200, 50
HIGH_BYTES, LOW_BYTES = PART_BYTES, PART_BYTES // 4
# Later than the subscription's own limit, which cancels the handler.
GIVE_BACK_S_MAX = FINISH_S_MAX + 1.0
CLOSE_S_MAX = 10.0
# What the broker says instead of a message (that a topic is gone, that we may not read it any more)
# it says again with each look at its topics, every 5 min by default; until then it holds, unless
# something is read.
COMPLAINT_S = 330.0
# A thread that has nothing to read, and ran for so long, is as good as one that has.
PROVEN_S = RECONNECT_S_MAX

MakeConsumer = Callable[[Callable[[KafkaError], None]], Consumer]

_LOST = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)


class _Lost(Exception):
    """Tells that the partition is another member's."""


class _Asked:
    """Something that the thread is to do, and what came of it."""

    def __init__(
        self, call: Callable[[], object], token: trio.lowlevel.TrioToken, *, is_move: bool
    ) -> None:
        self._call, self._token, self.is_move = call, token, is_move
        self.done = trio.Event()
        self.failure: KafkaError | None = None

    def do(self) -> None:
        try:
            self._call()
        except KafkaException as error:
            self.failure = error_of(error)
        self._answer()

    def refuse(self) -> None:
        self.failure = KafkaError(KafkaError._DESTROY)
        self._answer()

    def _answer(self) -> None:
        try:
            self._token.run_sync_soon(self.done.set)
        except trio.RunFinishedError:
            pass  # nobody waits for it any more


class _Part:
    """A partition that is ours: its epoch, what was fetched of it, where it is read.

    `next` is what the next record has to come behind; None until the client is moved there.
    """

    def __init__(self, epoch: int, offset: int) -> None:
        self.epoch, self.offset = epoch, offset
        self.next: int | None = offset
        self.records: deque[RawRecord] = deque()  # at most HIGH and a poll's
        self.bytes = 0
        self.is_paused = self.is_leaving = False
        self.given_back = threading.Event()

    @property
    def is_high(self) -> bool:
        return len(self.records) >= HIGH or self.bytes >= HIGH_BYTES

    @property
    def is_low(self) -> bool:
        return len(self.records) < LOW and self.bytes < LOW_BYTES

    def take(self, limit: int, bytes_max: int) -> Sequence[RawRecord]:
        taken = within(list(islice(self.records, limit)), bytes_max)
        for one in taken:
            self.records.popleft()
            self.bytes -= one.size
        return taken

    def drop(self) -> None:
        self.records.clear()
        self.bytes = 0


class KafkaMember:
    """One membership; see `Member`. Made by `KafkaBus.join`.

    `make_consumer` gives a client that was not used before, and tells it whom to call on an error.
    """

    def __init__(
        self,
        prefix: str,
        group: str,
        topics: Sequence[str],
        start_at: StartAt,
        make_consumer: MakeConsumer,
    ) -> None:
        self._prefix, self._group, self._topics = prefix, group, topics
        self._start_at, self._make_consumer = start_at, make_consumer
        self._lock = threading.Lock()
        self._parts: dict[Part, _Part] = {}
        self._epochs = 0
        self._is_closing = False
        # One for each reader, and each waits for it.
        self._asked: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self._failure: BusUnavailable | BusRejected | None = None
        # Since when there is trouble, and how often the thread failed in it.
        self._trouble: tuple[float, str] | None = None
        self._failures, self._again_at, self._began = 0, 0.0, 0.0
        # What the broker says instead of messages: since when, until when it holds, and its name.
        self._complaint = (0.0, 0.0, "")
        self._token = trio.lowlevel.current_trio_token()
        self._news = trio.Event()
        self._since: dict[Part, trio.Event] = {}
        self._begin()

    async def renew(self) -> Assignment:
        """See `Member.renew`; raises once when the thread failed.

        A new one is made after 1 s, doubling to 30 s; until it is given partitions there are none.
        """
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        if self._failure is not None:
            self._renew_thread(now)
        with self._lock:
            held = {
                part: Held(one.epoch, Cursor(0, one.offset)) for part, one in self._parts.items()
            }
            leaving = frozenset(part for part, one in self._parts.items() if one.is_leaving)
        if self._failure is None and (held or now - self._began >= PROVEN_S):
            self._failures, self._trouble = 0, None
        return Assignment(held, leaving)

    def trouble(self) -> tuple[float, str] | None:
        """Call this since when the thread fails or reads errors, and why; None when well."""
        if self._failure is not None and self._trouble is None:
            self._trouble = trio.current_time(), self._failure.reason
        if self._is_closing:
            return None
        since, until, name = self._complaint
        if self._trouble is None and name and trio.current_time() < until:
            return since, name
        return self._trouble

    def _hear(self, complaint: str) -> None:
        """Note what the broker said instead of a message; nothing when it gave one."""
        now = trio.current_time()
        since, until, name = self._complaint
        if not complaint:
            self._complaint = (0.0, 0.0, "")
        else:
            self._complaint = (since if name and now < until else now, now + COMPLAINT_S, complaint)

    async def fetch(
        self, part: Part, after: Cursor, limit: int, bytes_max: int
    ) -> Sequence[RawRecord]:
        """See `Member.fetch`."""
        await trio.lowlevel.checkpoint()
        self._since[part] = self._news
        with self._lock:
            one = self._parts.get(part)
            if one is None:
                return []
            if one.next != after.position:
                one.next = None
            taken = [] if one.next is None else one.take(limit, bytes_max)
            if taken:
                one.next = taken[-1].offset.position
            is_low = one.is_paused and one.is_low
        wire = TopicPartition(self._prefix + part.topic, part.partition, after.position)
        if one.next is None:
            await self._ask(partial(self._move, one, wire), is_move=True)
            # Not before: what failed on the way is done again by the next fetch.
            with self._lock:
                one.next = after.position
        elif is_low:
            await self._ask(partial(self._resume, one, wire), is_move=True)
        return taken

    async def wait(self, part: Part, timeout_s: float) -> None:
        """See `Member.wait`."""
        with trio.move_on_after(timeout_s):
            await self._since.get(part, self._news).wait()

    async def commit(self, part: Part, epoch: int, offset: Cursor) -> bool:
        """See `Member.commit`."""
        if not self._has(part, epoch):
            return False
        wire = TopicPartition(self._prefix + part.topic, part.partition, offset.position)
        try:
            await self._ask(partial(self._consumer.commit, offsets=[wire], asynchronous=False))
        except _Lost:
            return False
        return True

    async def transact(
        self,
        part: Part,
        epoch: int,
        received: Received,
        handler: HandlerInTransaction,
        offset: Cursor | None,
    ) -> bool:
        """Refused when a subscription is made: there is no transaction to run it in."""
        raise NotImplementedError

    async def release(self, part: Part, epoch: int) -> None:
        """See `Member.release`."""
        await trio.lowlevel.checkpoint()
        with self._lock:
            one = self._parts.get(part)
            if one is not None and one.epoch == epoch:
                one.given_back.set()

    async def leave(self) -> None:
        """See `Member.leave`; the thread goes on to say goodbye, but is not waited for."""
        self._is_closing = True
        with self._lock:
            for one in self._parts.values():
                one.given_back.set()
        if self._thread is not None:
            await trio.to_thread.run_sync(self._thread.join, CLOSE_S_MAX, abandon_on_cancel=True)

    def _has(self, part: Part, epoch: int) -> bool:
        with self._lock:
            one = self._parts.get(part)
            return one is not None and one.epoch == epoch

    async def _ask(self, call: Callable[[], object], *, is_move: bool = False) -> None:
        """Have the thread do something with the consumer; beside a poll it would wait for ever.

        A move is not done within a poll: what that brings may be of the place before.
        """
        asked = _Asked(call, self._token, is_move=is_move)
        with self._lock:
            if self._is_over:
                raise BusUnavailable("the member has left, or failed")
            self._asked.put(asked)
        with trio.move_on_after(ASK_S_MAX) as limit:
            await asked.done.wait()
        if limit.cancelled_caught:
            raise BusUnavailable("the poll does not answer")
        if asked.failure is None:
            return
        if asked.failure.code() in _LOST:
            raise _Lost
        raise BusUnavailable(asked.failure.name())

    def _renew_thread(self, now: float) -> None:
        """Say that the thread failed, or make another when it is time for it."""
        failure = self._failure
        assert failure is not None, "it is asked for when there is one"
        if not self._again_at:
            self._failures += 1
            jitter = crc32(f"{self._group}{now}{self._failures}".encode()) / 2**32
            self._again_at = now + backoff_s(
                self._failures, RECONNECT_FIRST_S, RECONNECT_S_MAX, jitter
            )
            self.trouble()  # since now, if it was not asked for before
            raise type(failure)(failure.reason)
        # Until the client has said goodbye the broker may still take it for the member.
        is_over = self._thread is None or not self._thread.is_alive()
        if now >= self._again_at and is_over and not self._is_closing:
            self._begin()

    def _begin(self) -> None:
        try:
            self._consumer = self._make_consumer(self._on_error)
        except KafkaException as error:
            self._fail(error)
            self._again_at = 0.0
            return
        self._failure, self._is_over = None, False
        self._again_at, self._began = 0.0, trio.current_time()
        self._thread = threading.Thread(target=self._run, name=f"greenroom-bus-{self._group}")
        # It ends by itself when the member leaves; a process that dies does not wait for it.
        self._thread.daemon = True
        self._thread.start()

    # In the thread.

    def _do_asked(self, timeout_s: float = 0.0, *, is_in_poll: bool = False) -> None:
        later: list[_Asked] = []
        try:
            asked = self._asked.get(timeout=timeout_s) if timeout_s else self._asked.get_nowait()
            while True:
                if is_in_poll and asked.is_move:
                    later.append(asked)
                else:
                    asked.do()
                asked = self._asked.get_nowait()
        except queue.Empty:
            pass
        for asked in later:
            self._asked.put(asked)

    def _move(self, one: _Part, wire: TopicPartition) -> None:
        self._consumer.seek(wire)
        with self._lock:
            one.drop()
        self._resume(one, wire)

    def _resume(self, one: _Part, wire: TopicPartition) -> None:
        if one.is_paused:
            self._consumer.resume([wire])
            one.is_paused = False

    def _run(self) -> None:
        try:
            self._consumer.subscribe(
                [self._prefix + topic for topic in self._topics],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._is_closing and self._failure is None:
                self._do_asked()
                self._poll()
        except (KafkaException, RuntimeError) as error:
            self._fail(error)
        finally:
            self._end()

    def _fail(self, error: KafkaException | RuntimeError) -> None:
        is_ours = isinstance(error, KafkaException)
        told = word_of(error_of(error), None) if is_ours else BusUnavailable("the poll failed")  # type: ignore[arg-type]
        with self._lock:
            self._failure = told
            self._parts.clear()
        self._ring()

    def _end(self) -> None:
        """Say goodbye, and to those who asked meanwhile that nothing was done."""
        try:
            self._consumer.close()
        except (KafkaException, RuntimeError):
            pass  # it is gone, one way or the other
        with self._lock:
            self._is_over = True
            self._parts.clear()
        while not self._asked.empty():
            self._asked.get_nowait().refuse()

    def _poll(self) -> None:
        messages = self._consumer.consume(POLL_MESSAGES, POLL_S)
        raws = [_raw(self._prefix, message) for message in messages if message.error() is None]
        errors = [error for message in messages if (error := message.error()) is not None]
        told = [error.name() for error in errors if error.code() != KafkaError._PARTITION_EOF]
        full: list[TopicPartition] = []
        with self._lock:
            for raw in raws:
                one = self._parts.get(raw.part)
                if one is None:
                    continue
                one.records.append(raw)
                one.bytes += raw.size
                if one.is_high and not one.is_paused:
                    one.is_paused = True
                    full.append(TopicPartition(self._prefix + raw.part.topic, raw.part.partition))
        if full:
            self._consumer.pause(full)
        if messages:
            self._ring(told[-1] if told else "" if raws else None)

    def _ring(self, heard: str | None = None) -> None:
        def ring() -> None:
            if heard is not None:
                self._hear(heard)
            self._news.set()
            self._news = trio.Event()

        try:
            self._token.run_sync_soon(ring)
        except trio.RunFinishedError:
            self._is_closing = True  # nobody is there to leave

    def _on_assign(self, consumer: Consumer, wires: list[TopicPartition]) -> None:
        known = consumer.committed(wires, timeout=REQUEST_S_MAX) if wires else []
        first: list[TopicPartition] = []
        for wire in known:
            if wire.offset < 0:
                low, high = consumer.get_watermark_offsets(wire, timeout=REQUEST_S_MAX)
                wire.offset = high if self._start_at is StartAt.LATEST else low
                first.append(wire)
        consumer.incremental_assign(known)
        if known:
            # The client remembers that a partition was paused, also when it was lost meanwhile.
            consumer.resume(known)
        with self._lock:
            for wire in known:
                self._epochs += 1
                part = Part(wire.topic[len(self._prefix) :], wire.partition)
                self._parts[part] = _Part(self._epochs, wire.offset)
        if first:
            # A group that begins at the end has to know tomorrow where that was.
            consumer.commit(offsets=first, asynchronous=False)
        self._ring()

    def _on_revoke(self, consumer: Consumer, wires: list[TopicPartition]) -> None:
        parts = [Part(wire.topic[len(self._prefix) :], wire.partition) for wire in wires]
        ends_at = time.monotonic() + (0.0 if self._is_closing else GIVE_BACK_S_MAX)
        with self._lock:
            leaving = [self._parts[part] for part in parts if part in self._parts]
            for one in leaving:
                one.is_leaving = True
        while not all(one.given_back.is_set() for one in leaving) and time.monotonic() < ends_at:
            self._do_asked(POLL_S, is_in_poll=True)
        self._drop(parts)
        consumer.incremental_unassign(wires)

    def _on_lost(self, consumer: Consumer, wires: list[TopicPartition]) -> None:
        self._drop([Part(wire.topic[len(self._prefix) :], wire.partition) for wire in wires])
        consumer.incremental_unassign(wires)

    def _drop(self, parts: Sequence[Part]) -> None:
        with self._lock:
            for part in parts:
                self._parts.pop(part, None)
        self._ring()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(KafkaException(error))


def _raw(prefix: str, message: Message) -> RawRecord:
    offset = message.offset()
    assert offset is not None, "a message of a partition has one"
    headers = message.headers() or []
    listed = headers.items() if isinstance(headers, dict) else headers
    _, milliseconds = message.timestamp()
    return RawRecord(
        Part(str(message.topic())[len(prefix) :], message.partition() or 0),
        Cursor(0, offset + 1),
        message.key() or b"",
        message.value() or b"",
        {
            name: text if isinstance(text, bytes) else str(text or "").encode()
            for name, text in listed
        },
        datetime.fromtimestamp(max(0, milliseconds) / 1000, UTC),
    )
