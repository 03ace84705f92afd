"""What leaves after a commit, and what has arrived: the ports of outbox and inbox, and the relay.

A message is written into the outbox by the append that causes it, and sent by a relay:
at least once, in order per key. The receiver writes its inbox row in the transaction of the
effect (`AppendRequest.inbox`), and so has the effect exactly once.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Protocol
from uuid import UUID
from zlib import crc32

import trio

from actors.persistence.beside_log.dead_letters import (
    OUTBOX,
    PAYLOAD_BYTES_MAX,
    DeadLetters,
    DeadLettersFull,
    NewDeadLetter,
    chain_of,
    words_of,
)
from actors.persistence.errors import Fenced, InvalidField, StoreError
from actors.persistence.words import (
    BIGINT_MAX,
    FLEETING,
    INT_MAX,
    KEY_BYTES_MAX,
    READ_LIMIT_MAX,
    OutboxMessage,
    Shard,
    ShardLease,
    check_a,
    check_delay,
    check_integer,
    check_list,
    check_row,
    check_text,
    check_uuid,
)
from actors.reducers import Environment
from actors.runtime import (
    Actor,
    Context,
    Exit,
    Log,
    Shutdown,
    current_tallies,
    edge_context,
    message,
    span_of,
)

# Relays of several processes share these; more of them than parts would idle.
PARTITIONS = 8
# The parts of mail, which a relay of its own sends: as many as mails leave at a time.
MAIL_KIND, MAIL_PARTS = "mail", (PARTITIONS, PARTITIONS + 1)
# The parts of sagas that ask for them (`Saga.own_parts`), by a header: for two relays.
PARTS_HEADER, SAGAS = "outbox-parts", "sagas"
SAGA_PARTS = (PARTITIONS + 2, PARTITIONS + 3)
_OWN_PARTS: Mapping[str, Sequence[int]] = {MAIL_KIND: MAIL_PARTS, SAGAS: SAGA_PARTS}
BATCH_MAX = 100
# With less room than this a relay that has messages in hand does not look for more.
ROOM_MIN = BATCH_MAX // 2

# A dead relay's parts are taken over after this; a living one renews in a third of it, so that
# two renewals may fail before another takes over.
LEASE = timedelta(seconds=15)
# How often a relay looks for parts to renew, and for those another one left.
LEASE_LOOK_S = 1.0

ATTEMPTS_MAX = 10
RETRY_FIRST_S = 1.0
RETRY_S_MAX = 60.0

SENT_KEPT = timedelta(days=7)
INBOX_KEPT = timedelta(days=14)

# With something to send, or hints of it, the outbox is looked at so often at most; less and less
# often, down to the second, while what is there cannot be sent.
LOOK_S, LOOK_S_MAX = 0.25, 1.0
# With nothing to send, and no hint: one that was lost costs so much. All parts are one look.
IDLE_LOOK_S = 5.0
# A store that was away is asked again after this.
AWAY_S = 1.0
# A target that does not answer holds its part up for no longer.
SEND_S_MAX = 10.0
# A batch is left after this, however much of it is unsent: what comes back for its next attempt
# stands before the rest.
BATCH_S_MAX = 5.0
# What was sent is marked this soon. It is what a relay that is killed sends twice; a mark for
# each message would cost a fast target half its speed, and one for each batch its commit.
MARK_S = 0.1
# With so many unmarked nothing more is sent: what a look passes over has a bound.
UNMARKED_MAX = 1000
# What was stored is sent without a look, if it is handed over so soon after its append began.
HANDED_S_MAX = 3.0
# A stop waits so long for the messages in flight: less than the runtime gives a stop.
STOP_S_MAX = 3.0

_log = Log("actors.persistence")


def partition_of(key: str) -> int:
    """Call this to learn into which part of the outbox a key goes."""
    return crc32(key.encode()) % PARTITIONS


def part_of(message: "OutboxMessage | OutboxEntry") -> int:
    """Call this to learn into which part a message goes: mail has its own, and so have some sagas.

    So a mail server or a broker that is slow holds up nothing else.
    """
    own = _OWN_PARTS.get(message.headers.get(PARTS_HEADER, message.kind))
    return partition_of(message.key) if own is None else own[crc32(message.key.encode()) % len(own)]


def retry_delay(attempts: int, jitter: float) -> timedelta:
    """Call this for the wait after a failed attempt; `jitter` is drawn from 0 to 1."""
    # Not more doublings than matter: a message that cannot be given up is tried for ever.
    whole = min(RETRY_FIRST_S * 2.0 ** min(attempts - 1, 10), RETRY_S_MAX)
    return timedelta(seconds=whole * (0.5 + jitter / 2))


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message taken from the outbox to be sent."""

    id: int
    message_id: UUID
    kind: str
    target: str
    key: str
    payload: bytes
    headers: Mapping[str, str]
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """How much waits, how old the oldest of it is, and how many were given up."""

    pending: int
    oldest_s: float
    dead: int


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message that was not sent: what is tried when, or was given up."""

    id: int
    kind: str
    target: str
    key: str
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    last_error: str | None
    is_dead: bool


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key whose messages wait behind one that was given up: which one, and how many wait."""

    key: str
    dead_id: int
    target: str
    waiting: int


# Called before a look; what it gives waits behind the look for a hint since then, or so long.
Listen = Callable[[], Callable[[float], Awaitable[None]]]


class Outbox(Protocol):
    """The queue of what leaves, in parts that one relay each may work on."""

    async def add(self, messages: Sequence[OutboxMessage]) -> int:
        """Call this for messages that go with no append; at most 1,000, all of them or none.

        A message whose id is known is left out: whoever asks again writes no second row. Returns
        how many were written.
        """
        ...

    async def lease(
        self, owner: str, partitions: Sequence[int], *, shard: Shard | None = None
    ) -> Mapping[int, int]:
        """Call this to take or renew parts; gives those held now, with the epoch of each.

        A part whose lease ran out may change hands, which raises its epoch: what the former
        holder says afterwards has no effect. Until then the part is still its holder's: marks
        count, and a renewal keeps the epoch. `owner` is the name of one relay in one process.

        Who owns the `shard` of the parts takes them at once, whoever had them: the shard is the
        lease. Raises `Fenced` when it is another's; nothing was taken.
        """
        ...

    async def release(self, owner: str) -> None:
        """Call this when a relay stops, so that another need not wait for the lease to end."""
        ...

    async def next_batch(
        self,
        partition: int,
        epoch: int,
        *,
        limit: int = BATCH_MAX,
        skipping: Sequence[str] = (),
        without: Sequence[int] = (),
    ) -> Sequence[OutboxEntry]:
        """Call this for the next messages of a part, in order, none before an open transaction.

        A message behind a failed or dead one of its key waits; behind a dead one it passes
        when its target is among `skipping`. Those with an id in `without` are passed over: the
        caller has them already. Nothing is given to an outdated epoch, nor to a holder whose
        lease ran out.
        """
        ...

    async def due_in(self, partitions: Sequence[int]) -> Mapping[int, float]:
        """Call this for the parts that have something to send, and in how many seconds: 0.0 now.

        A part may be due and yet give nothing: what is new may stand behind a transaction that is
        open, or behind another message of its key.
        """
        ...

    def heard(self) -> AbstractContextManager[Listen]:
        """Call this around looking and waiting: within it hints come of what there is to send."""
        ...

    async def mark_sent(self, partition: int, epoch: int, ids: Sequence[int]) -> int:
        """Call this after sending; returns how many were marked (0 for an outdated epoch)."""
        ...

    async def mark_failed(
        self, partition: int, epoch: int, id_: int, error: str, retry_in: timedelta | None
    ) -> bool:
        """Call this after a failed attempt; without `retry_in` the message is given up.

        False for an outdated epoch: nothing was noted.
        """
        ...

    async def revive(self, id_: int) -> bool:
        """Call this to send a message once more that was given up; False when it is not dead.

        Its letter stays open: resolve it when the message is sent.
        """
        ...

    async def drop(self, id_: int) -> bool:
        """Call this to let a given-up message rest as sent; those behind it go on."""
        ...

    async def stats(self) -> OutboxStats:
        """Call this for the gauges."""
        ...

    async def waiting(self, *, limit: int = 50, after: int = 0) -> Sequence[WaitingMessage]:
        """Call this for a page of what was not sent, by id, behind a given one."""
        ...

    async def held_keys(self, *, limit: int = 50) -> Sequence[HeldKey]:
        """Call this for the keys with a message that was given up, by the first of it.

        A relay that skips the message's target passes it: what it lists is held for the others.
        """
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove old sent and inbox rows, at most `limit` of each."""
        ...


class Inbox(Protocol):
    """Which messages a consumer has handled."""

    async def note(self, consumer: str, message_id: UUID) -> bool:
        """Call this for a handler without an append: True the first time, False ever after."""
        ...


# What is asked of a caller before any I/O, by every engine. Each raises `InvalidField`.


def check_messages(messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
    """Call this with what is to be added."""
    check_list("messages", messages)
    if len(messages) > READ_LIMIT_MAX:
        raise InvalidField("messages", f"are {len(messages)}, the limit is {READ_LIMIT_MAX}")
    for one in messages:
        check_a("a message", one, OutboxMessage)
    return list(messages)


def check_parts(owner: str, partitions: Sequence[int], shard: Shard | None = None) -> None:
    """Call this with what is to be leased, and under which ownership."""
    check_text("owner", owner)
    check_numbers(partitions)
    if shard is not None:
        check_a("shard", shard, Shard)


def check_numbers(partitions: Sequence[int]) -> None:
    """Call this with the parts that are asked about."""
    for partition in check_list("partitions", partitions):
        check_integer("a partition", partition, 0, INT_MAX)


def check_part(partition: int, epoch: int) -> None:
    """Call this with a part and the epoch it is held in."""
    check_integer("partition", partition, 0, INT_MAX)
    check_integer("epoch", epoch, 0, BIGINT_MAX)


def check_asked(limit: int, skipping: Sequence[str], without: Sequence[int]) -> None:
    """Call this with how many are asked for, whose dead ones hold nobody up, and what is had."""
    check_integer("limit", limit, 1, READ_LIMIT_MAX)
    check_rows("without", without)
    for target in check_list("skipping", skipping):
        check_text("a skipped target", target, KEY_BYTES_MAX)


def check_rows(field: str, ids: Sequence[int]) -> None:
    """Call this with the numbers of rows."""
    for id_ in check_list(field, ids):
        check_row(id_)


def check_failure(error: str, retry_in: timedelta | None) -> None:
    """Call this with why an attempt failed, and when the next is made."""
    check_a("error", error, str)
    if retry_in is not None:
        check_delay("retry_in", retry_in)


def check_noted(consumer: str, message_id: UUID) -> None:
    """Call this with a message and who handled it."""
    check_text("consumer", consumer)
    check_uuid("message_id", message_id)


Send = Callable[[OutboxEntry], Awaitable[None]]


class NotSent(Exception):
    """Raised by a `send` that knows better than the relay when to try again.

    The message waits for `retry_in`, however often it was tried; without one it is given up at
    once. `words` stand in the outbox and in the dead letter: no text of the message.
    """

    def __init__(self, words: str, retry_in: timedelta | None) -> None:
        super().__init__(words)
        self.retry_in = retry_in


@message
class LookAtOutbox:
    """Tells the relay to look now; without, it looks a quarter of a second after a hint at most.

    With `keys`, those of the messages as the outbox has them, at their parts alone. `entries` are
    messages that were stored just now, by an append that was begun at `since`, and each the first
    of its key there ever was: a relay that sends many keys at a time sends them as they are,
    without a look. Nothing depends on it: the outbox has them too.
    """

    keys: tuple[str, ...] = ()
    entries: tuple[OutboxEntry, ...] = ()
    since: float = 0.0


class _Part:
    """One part of the outbox as this relay sees it: for how long it is ours, and what is unmarked.

    Rule: nothing is sent outside of `scope`, which ends when the lease does.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.epoch = 0
        self.held_since, self.held_until = inf, -inf
        self.scope = trio.CancelScope()
        # Sent, and the store does not know it yet; marked by one task at a time.
        self.unmarked: list[int] = []
        self.marking = trio.Lock()
        self.look = trio.Event()
        # Whether to look at the outbox; what was handed to us needs no look.
        self.is_due = False
        self.handed: list[tuple[OutboxEntry, float]] = []
        # What we had of late, in two generations: it may be handed over yet.
        self.given, self.given_before = set[int](), set[int]()
        self.given_since = -inf
        self.ended = trio.Event()
        # Taken and not sent yet: by key, in order, each with when its turn is over.
        self.in_hand: dict[str, deque[tuple[OutboxEntry, float]]] = {}
        self.is_full = False
        # Keys that were let go since the last look began: it may not know why, so what it gives
        # of them could overtake what is before it.
        self.let_go_of: set[str] = set()
        self.error: StoreError | None = None

    def hold(self, epoch: int | None, until: float) -> None:
        """Call this with the answer to a renewal; None when somebody else holds the part."""
        if epoch is None or epoch != self.epoch:
            self.let_go()
            self.held_since = trio.current_time()
        if epoch is None:
            return
        if self.held_until <= trio.current_time():
            self.look_now()  # what waits in it was nobody's, or another's
        self.epoch, self.held_until, self.scope.deadline = epoch, until, until

    def let_go(self) -> None:
        """Call this when the part is no longer ours: what is being sent is cut."""
        self.held_until = -inf
        self.handed.clear()
        self.scope.cancel()

    def look_now(self) -> None:
        """Call this to have it looked at."""
        self.is_due = True
        self.look.set()

    def hand(self, entry: OutboxEntry, since: float) -> None:
        """Call this with what was stored just now, by an append that was begun at `since`."""
        if self.held_until > trio.current_time() and len(self.handed) < self.room():
            self.handed.append((entry, since))
            self.look.set()
        else:
            self.look_now()

    def note_given(self, batch: Sequence[OutboxEntry]) -> None:
        """Call this with what a look gave, or was handed over."""
        now = trio.current_time()
        if now - self.given_since >= HANDED_S_MAX:
            self.given_before, self.given, self.given_since = self.given, set(), now
        self.given.update([entry.id for entry in batch])

    def take_handed(self) -> list[OutboxEntry]:
        """Call this, with no look under way, for what was handed over and nobody had before.

        What another holder of the part may have had is left to a look, as is what was handed over
        so late that nobody knows any more if one gave it.
        """
        handed, self.handed = self.handed, []
        oldest = max(self.held_since, trio.current_time() - HANDED_S_MAX)
        if len(self.unmarked) >= UNMARKED_MAX:
            oldest = inf
        taken: list[OutboxEntry] = []
        for entry, since in handed:
            if since < oldest:
                self.is_due = True
            elif entry.id not in self.given and entry.id not in self.given_before:
                taken.append(entry)
        self.note_given(taken)
        return taken

    def room(self) -> int:
        """Call this for how much more may be taken."""
        return BATCH_MAX - sum(map(len, self.in_hand.values()))

    def taken(self) -> list[int]:
        """Call this for what a look need not give: it is in hand, or sent."""
        return self.unmarked + [one.id for queue in self.in_hand.values() for one, _ in queue]


class _Turn:
    """A place of a limiter; where one is free it is taken without a turn of trio's loop."""

    __slots__ = ("_limit",)

    def __init__(self, limit: trio.CapacityLimiter) -> None:
        self._limit = limit

    async def __aenter__(self) -> None:
        try:
            self._limit.acquire_nowait()
        except trio.WouldBlock:
            await self._limit.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._limit.release()


def _caused_by(headers: Mapping[str, str]) -> AbstractContextManager[object]:
    """What a message leads to belongs to the request that led to it, recorded as spans or not."""
    correlation_id = headers.get("correlation_id")
    if correlation_id is None:
        return nullcontext()
    return edge_context(Context(correlation_id, traceparent=headers.get("traceparent")))


class OutboxRelay(Actor[LookAtOutbox]):
    """Leases parts of the outbox and hands their messages to `send`, those of a part in order.

    At most `sends_max` are sent at a time, one of each part; give 1 to a `send` that cannot bear
    two calls at once. With `keys_at_once` so many keys of a part are sent at a time, those of one
    key in order, and what comes meanwhile is taken too: for a `send` that waits for others, such
    as the answer of a participant. One that raises, or takes over `send_s_max`, is tried again
    after 1 s, doubling to 60 s; after ten attempts the message is a dead letter, and those behind
    it of the same key wait until that is settled. `NotSent` says itself when. Targets in
    `skipping` go on without.

    The leases are renewed while messages are sent, however long that takes, and what is sent is
    marked as it goes. When a part goes to another relay, sending from it is cut at once. A stop
    lets the messages in flight end, for up to 3 s, marks them, and gives the parts back.

    A node of a cluster gives the `shard` that it owns the parts by: then they are taken over as
    soon as the shard is, and nothing is sent while it may be another's. A renewal that is `Fenced`
    cuts what is being sent and ends the relay with exit `fenced`; its heir has the rest.
    """

    def __init__(
        self,
        outbox: Outbox,
        send: Send,
        env: Environment,
        owner: str,
        *,
        dead_letters: DeadLetters | None = None,
        skipping: Sequence[str] = (),
        partitions: Sequence[int] = tuple(range(PARTITIONS)),
        sends_max: int = PARTITIONS,
        keys_at_once: int = 1,
        send_s_max: float = SEND_S_MAX,
        shard: ShardLease | None = None,
    ) -> None:
        for name, value in (("sends_max", sends_max), ("keys_at_once", keys_at_once)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._keys_at_once, self._send_s_max = keys_at_once, send_s_max
        self._outbox, self._send, self._env, self._owner = outbox, send, env, owner
        self._dead_letters, self._skipping, self._shard = dead_letters, skipping, shard
        self._parts = [_Part(number) for number in partitions]
        self._by_number = {part.number: part for part in self._parts}
        self._sends = trio.CapacityLimiter(sends_max)
        self._has_sent = trio.Event()
        self._is_stopping = False
        self._is_away = False
        self.sent = 0

    async def on_start(self) -> None:
        """Begin to look."""
        self.start_soon(self._keep_leases)
        self.start_soon(self._keep_marking)
        self.start_soon(self._look_around)
        for part in self._parts:
            self.start_soon(self._serve, part)

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002  (the runtime's word)
        """Let what is being sent end, then give the parts to another relay at once."""
        self._is_stopping = True
        with trio.move_on_after(STOP_S_MAX):
            for part in self._parts:
                part.look.set()
                await part.ended.wait()
        # Before they are given away: nobody else may send beside us.
        for part in self._parts:
            part.let_go()
        try:
            for part in self._parts:
                await self._mark(part)
            await self._outbox.release(self._owner)
        except StoreError as error:
            _log.warning("persistence.lease_kept", code=error.code)

    async def on_look_at_outbox(self, message: LookAtOutbox) -> None:
        """Look at every part now, or at those of some keys, and send what is handed over."""
        if message.keys or not message.entries:
            wanted = {partition_of(key) for key in message.keys}
            for part in self._parts:
                # The parts of mail and of sagas that have their own are not told by a key alone.
                if not wanted or part.number in wanted or part.number >= PARTITIONS:
                    part.look_now()
        for entry in message.entries:
            found = self._by_number.get(part_of(entry))
            if found is not None and self._keys_at_once > 1:
                found.hand(entry, message.since)
            elif found is not None:
                found.look_now()

    # Leases and marks

    async def _keep_leases(self) -> None:
        while not self._is_stopping:
            await self._renew()
            await trio.sleep(LEASE_LOOK_S)

    async def _renew(self) -> None:
        # Counted from before the call: the lease of the store's clock ends later than ours.
        whole = LEASE.total_seconds()
        until = trio.current_time() + whole
        due = [part for part in self._parts if until - part.held_until >= whole / 3]
        if not due:
            return
        try:
            held = await self._lease([part.number for part in due])
        except Fenced as fenced:
            self._end_fenced(fenced)
            return
        except StoreError as error:
            self._note_away(error)
            return
        if not self._is_stopping:
            for part in due:
                part.hold(held.get(part.number), until)

    def _end_fenced(self, fenced: Fenced) -> None:
        """What is being sent is cut, and whoever has the shard by now sends what waits (CLU-14)."""
        _log.warning(
            "persistence.relay_fenced",
            owner=self._owner,
            shard=fenced.shard,
            held=fenced.held,
            current=fenced.current,
        )
        self._is_stopping = True
        for part in self._parts:
            part.let_go()
        self.stop(Shutdown(fenced.code))

    async def _lease(self, numbers: Sequence[int]) -> Mapping[int, int]:
        shard = None if self._shard is None else self._shard.shard
        return await self._outbox.lease(self._owner, numbers, shard=shard)

    def _holds(self) -> bool:
        return self._shard is None or self._shard.holds()

    async def _keep_marking(self) -> None:
        while True:
            await self._has_sent.wait()
            self._has_sent = trio.Event()
            await trio.sleep(MARK_S)
            try:
                for part in self._parts:
                    await self._mark(part)
            except StoreError as error:
                self._note_away(error)
                self._has_sent.set()
                await trio.sleep(AWAY_S)

    async def _mark(self, part: _Part) -> None:
        async with part.marking:
            ids = tuple(part.unmarked)
            if not ids:
                return
            marked = await self._outbox.mark_sent(part.number, part.epoch, ids)
            del part.unmarked[: len(ids)]
            if not marked:
                # Somebody else's by now, or marked by a call whose answer was lost: the next
                # renewal tells which.
                part.let_go()

    # Sending

    async def _look_around(self) -> None:
        """Tell the parts that have something to send, all of them by one look."""
        pause_s = LOOK_S
        with self._outbox.heard() as listen:
            while not self._is_stopping:
                wait, before = listen(), self.sent
                try:
                    due = await self._due_in()
                except StoreError as error:
                    self._note_away(error)
                    await trio.sleep(AWAY_S)
                    continue
                # A hint is no reason to look at once: one comes with every append.
                await trio.sleep(LOOK_S)
                if due is None:
                    await trio.sleep(LOOK_S_MAX - LOOK_S)
                elif 0.0 not in due.values():
                    pause_s = LOOK_S
                    await wait(max(0.0, min([IDLE_LOOK_S, *due.values()]) - LOOK_S))
                elif self.sent == before:
                    pause_s = min(2 * pause_s, LOOK_S_MAX)
                    await wait(pause_s - LOOK_S)
                else:
                    pause_s = LOOK_S

    async def _due_in(self) -> Mapping[int, float] | None:
        """Look at the parts that are ours, None without any."""
        now = trio.current_time()
        ours = {part.number: part for part in self._parts if part.held_until > now}
        if not ours:
            return None
        due = await self._outbox.due_in(tuple(ours))
        self._is_away = False
        for number, in_s in due.items():
            if in_s == 0.0:
                ours[number].look_now()
        return due

    async def _serve(self, part: _Part) -> None:
        try:
            while not self._is_stopping:
                await part.look.wait()
                part.look = trio.Event()
                try:
                    if self._keys_at_once > 1 and self._may_send(part):
                        await self._send_by_key(part)
                    else:
                        while self._may_send(part) and await self._send_in_order(part):
                            pass
                except StoreError as error:
                    self._note_away(error)
                    with trio.move_on_after(AWAY_S):
                        await part.look.wait()
                    part.look_now()
        finally:
            part.ended.set()

    def _may_send(self, part: _Part) -> bool:
        is_held = part.held_until > trio.current_time() and self._holds()
        return is_held and not self._is_stopping

    async def _take(self, part: _Part, limit: int = BATCH_MAX) -> Sequence[OutboxEntry]:
        """Look for what is next, and not in hand."""
        if len(part.unmarked) >= UNMARKED_MAX:
            await self._mark(part)
        part.let_go_of.clear()
        part.is_due = False
        batch = await self._outbox.next_batch(
            part.number, part.epoch, limit=limit, skipping=self._skipping, without=part.taken()
        )
        self._is_away = False
        return batch

    async def _send_in_order(self, part: _Part) -> bool:
        """Send a batch, one by one; True when there may be more at once."""
        batch = await self._take(part)
        if not batch:
            return False
        before, ends_at = self.sent, trio.current_time() + BATCH_S_MAX
        failed_keys: set[str] = set()
        with trio.CancelScope(deadline=part.held_until) as part.scope:
            for entry in batch:
                if entry.key not in failed_keys and not await self._send_one(part, entry, ends_at):
                    failed_keys.add(entry.key)
        return self.sent > before

    async def _send_by_key(self, part: _Part) -> None:
        """Send what is there and what comes, many keys at a time, until nothing is in hand."""
        part.error, limit = None, trio.CapacityLimiter(self._keys_at_once)
        try:
            with trio.CancelScope(deadline=part.held_until) as part.scope:
                async with trio.open_nursery() as nursery:
                    while self._may_send(part) and part.error is None:
                        if not await self._take_more(part, nursery, limit):
                            break
                        await part.look.wait()
                        part.look = trio.Event()
        finally:
            part.in_hand.clear()
            part.is_due = part.is_due or bool(part.handed)
            part.handed.clear()
        if part.error is not None:
            raise part.error

    async def _take_more(
        self, part: _Part, nursery: trio.Nursery, limit: trio.CapacityLimiter
    ) -> bool:
        """Take what there is room for, and begin to send it; False with nothing in hand."""
        self._begin(part, part.take_handed(), nursery, limit)
        if not part.is_due and not part.is_full:
            return bool(part.in_hand)
        room = part.room()
        part.is_full = room < ROOM_MIN
        if part.is_full:
            return True
        try:
            batch = await self._take(part, room)
        except StoreError as error:
            # One, not a group, and the others send what they have begun.
            part.error = error
            return False
        part.is_full = len(batch) == room
        begin = [entry for entry in batch if entry.key not in part.let_go_of]
        part.note_given(begin)
        part.is_due = part.is_due or len(begin) < len(batch)
        self._begin(part, begin, nursery, limit)
        return bool(part.in_hand) or bool(part.handed)

    def _begin(
        self,
        part: _Part,
        entries: Sequence[OutboxEntry],
        nursery: trio.Nursery,
        limit: trio.CapacityLimiter,
    ) -> None:
        """Send these in tasks of their keys, behind what is in hand."""
        ends_at = trio.current_time() + BATCH_S_MAX
        for entry in entries:
            queue = part.in_hand.get(entry.key)
            if queue is None:
                queue = part.in_hand[entry.key] = deque(maxlen=BATCH_MAX)
                nursery.start_soon(self._send_key, part, entry.key, limit)
            queue.append((entry, ends_at))

    async def _send_key(self, part: _Part, key: str, limit: trio.CapacityLimiter) -> None:
        queue = part.in_hand[key]
        try:
            async with _Turn(limit):
                while queue and part.error is None and await self._send_one(part, *queue[0]):
                    queue.popleft()
                    if queue:  # a `send` that never waits holds nobody up
                        await trio.lowlevel.checkpoint()
        except StoreError as error:
            part.error = error
        if queue:
            part.let_go_of.add(key)
            part.is_due = True
        del part.in_hand[key]
        if not part.in_hand or (part.is_full and part.room() >= ROOM_MIN):
            part.look.set()

    async def _send_one(self, part: _Part, entry: OutboxEntry, ends_at: float) -> bool:
        """Send a message; False when it was not, and what is behind it of its key must wait."""
        async with _Turn(self._sends):
            if self._is_stopping or trio.current_time() >= ends_at or not self._holds():
                return False
            error = await self._try(entry)
        if error is None:
            part.unmarked.append(entry.id)
            self.sent += 1
            current_tallies().add("outbox_sent_total", entry.kind)
            self._has_sent.set()
            return True
        await self._note_failure(part, entry, error)
        return False

    async def _try(self, entry: OutboxEntry) -> Exception | None:
        try:
            sending = span_of("outbox.send", entry.headers, kind=entry.kind, target=entry.target,
                              attempt=entry.attempts + 1)  # fmt: skip
            caused = _caused_by(entry.headers)
            with caused, sending, trio.CancelScope(relative_deadline=self._send_s_max) as limit:
                await self._send(entry)
        except Exception as error:  # noqa: BLE001  (whatever a target raises is a failed attempt)
            return error
        return trio.TooSlowError() if limit.cancelled_caught else None

    async def _note_failure(self, part: _Part, entry: OutboxEntry, error: Exception) -> None:
        # First what was sent before it: of a key what was tried stands before what was not.
        await self._mark(part)
        attempts, words = entry.attempts + 1, words_of(error)
        current_tallies().add("outbox_failed_total", entry.kind)
        retry_in: timedelta | None = retry_delay(
            attempts, (self._env.ids.new_id().int & 0xFFFF) / 0x10000
        )
        if isinstance(error, NotSent) and error.retry_in is not None:
            retry_in = error.retry_in
        elif isinstance(error, NotSent) or attempts >= ATTEMPTS_MAX:
            retry_in = None if await self._is_kept(entry, words, error) else retry_in
        if not await self._outbox.mark_failed(part.number, part.epoch, entry.id, words, retry_in):
            part.let_go()

    async def _is_kept(self, entry: OutboxEntry, words: str, error: Exception) -> bool:
        """Make a dead letter of it; False when there is no room for one: it is tried on then."""
        if self._dead_letters is None:
            return True
        is_small = len(entry.payload) <= PAYLOAD_BYTES_MAX and FLEETING not in entry.headers
        letter = NewDeadLetter(
            kind=OUTBOX,
            source=entry.target,
            message_id=str(entry.id),
            error_message=words,
            error_details=chain_of(error),
            # A larger one stays where it is, in the outbox's row; so does one that is to vanish.
            payload=entry.payload if is_small else None,
            metadata=entry.headers,
        )
        try:
            await self._dead_letters.add(letter)
        except DeadLettersFull as full:
            _log.error("persistence.dead_letters_full", limit=full.limit, target=entry.target)
            return False
        return True

    def _note_away(self, error: StoreError) -> None:
        # Once for each time it is away, not for every part and look.
        if not self._is_away:
            self._is_away = True
            _log.warning("persistence.outbox_waits", code=error.code)
