"""Timers that survive every restart: the port, and the service that delivers them.

A timer is set, cancelled and closed by appends (`SetTimer`, `CancelTimer`, `CloseTimer`) or
by this port. Delivery is at least once: a delivered timer that nobody closed is delivered
again when its claim ends. Of firing, cancelling and giving up exactly one has an effect.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import trio

from actors.persistence.beside_log.dead_letters import (
    PAYLOAD_BYTES_MAX,
    TIMERS,
    DeadLetters,
    DeadLettersFull,
    NewDeadLetter,
    chain_of,
    words_of,
)
from actors.persistence.beside_log.outbox import RETRY_S_MAX, retry_delay
from actors.persistence.errors import Fenced, StoreError
from actors.persistence.words import (
    KEY_BYTES_MAX,
    READ_LIMIT_MAX,
    SetTimer,
    Shard,
    ShardLease,
    check_a,
    check_integer,
    check_list,
    check_text,
    check_time,
    check_uuid,
)
from actors.reducers import Environment
from actors.runtime import (
    Actor,
    Exit,
    Log,
    Shutdown,
    carried,
    current_tallies,
    message,
    note_in_trace,
)

CLAIM_MAX = 100
# A dead service's timers are delivered by another after this; a living one renews in a third.
CLAIM = timedelta(seconds=30)
# No claim and no wait for the next try is as long. One that ends later was made before the clock
# was set back, and would hold for as long as that: it begins anew.
HELD_MAX = timedelta(minutes=3)
# As long as the longest wait is: no try comes early, and who lives has renewed its claims.
HELD_ANEW = timedelta(seconds=RETRY_S_MAX)

# So many addresses are delivered to at once; each gets its timers one after the other.
ADDRESSES_MAX = 100
# A handler that does not return has failed; its address is free for the next timer.
DELIVER_S_MAX = 60.0
FAILURES_MAX = 10
# A stop waits so long for the handlers that run: less than the runtime gives a stop.
STOP_S_MAX = 3.0
# Closed, cancelled and given-up timers are kept as long as what arrived in the inbox: a repeat
# within that time is known, and sets nothing anew.
OVER_KEPT = timedelta(days=14)

# How often the service looks when nothing is due before; other processes set timers too.
LOOK_S = 1.0
# What is due and cannot be had now (its address is busy) is asked for again after this.
LOOK_S_MIN = 0.1
# A store that was away is asked again after this.
AWAY_S = 1.0

_log = Log("actors.persistence")


# What is asked of a caller before any I/O, by every engine. Each raises `InvalidField`.


def check_due(
    worker: str, now: datetime, limit: int, busy: Sequence[str], shard: Shard | None = None
) -> None:
    """Call this with who claims what, and under which ownership."""
    check_text("worker", worker)
    if shard is not None:
        check_a("shard", shard, Shard)
    check_time("now", now)
    check_integer("limit", limit, 1, READ_LIMIT_MAX)
    for address in check_list("busy", busy):
        check_text("a busy address", address, KEY_BYTES_MAX)


def check_claimed(worker: str, timer_ids: Iterable[UUID], now: datetime) -> list[UUID]:
    """Call this with whose claims are renewed, for the ids as a list."""
    check_text("worker", worker)
    check_time("now", now)
    ids = check_list("timer_ids", timer_ids)
    for id_ in ids:
        check_uuid("a timer's id", id_)
    return [id_ for id_ in ids if isinstance(id_, UUID)]


def check_undelivered(worker: str, timer_id: UUID, error: str, retry_at: datetime | None) -> None:
    """Call this with a delivery that failed."""
    check_text("worker", worker)
    check_uuid("timer_id", timer_id)
    check_a("error", error, str)
    if retry_at is not None:
        check_time("retry_at", retry_at)


@dataclass(frozen=True, slots=True)
class DueTimer:
    """A claimed timer, to be delivered to its address."""

    timer_id: UUID
    address: str
    name: str
    token: str
    due_at: datetime
    payload: bytes
    metadata: Mapping[str, str]
    attempts: int
    failures: int = 0


@dataclass(frozen=True, slots=True)
class OpenTimer:
    """A timer that can still fire: where and when, and whether somebody has it in hand."""

    timer_id: UUID
    address: str
    name: str
    token: str
    due_at: datetime
    claimed_by: str | None
    attempts: int
    failures: int
    last_error: str | None


class DurableTimers(Protocol):
    """Which timers are set, due, claimed and over."""

    async def set(self, timer: SetTimer) -> None:
        """Call this to set a timer; one with the same address, name and token stays as it is."""
        ...

    async def cancel(self, address: str, name: str) -> int:
        """Call this to cancel the open timers of a name; returns how many were."""
        ...

    async def claim_due(
        self,
        worker: str,
        now: datetime,
        *,
        limit: int = CLAIM_MAX,
        busy: Sequence[str] = (),
        shard: Shard | None = None,
    ) -> Sequence[DueTimer]:
        """Call this for the timers due by `now`, in order of `due_at`; ours for half a minute.

        Addresses in `busy` are left out. `worker` is the name of one service in one process. Who
        owns the `shard` of the timers is alone with them, and takes also what another had claimed
        before. A claim or a wait that ends in more than three minutes is from before the clock was
        set back: it ends in one from now on, unless it is renewed. Raises `Fenced` when the shard
        is another's; nothing was claimed.
        """
        ...

    async def renew(self, worker: str, timer_ids: Iterable[UUID], now: datetime) -> int:
        """Call this to have claimed timers for another half minute; returns how many are ours."""
        ...

    async def release(self, worker: str) -> int:
        """Call this when a service stops, so that another need not wait for its claims to end."""
        ...

    async def close(self, timer_id: UUID) -> bool:
        """Call this when a timer was handled; False when it was over before."""
        ...

    async def failed(
        self, worker: str, timer_id: UUID, error: str, retry_at: datetime | None
    ) -> bool:
        """Call this after a failed delivery; without `retry_at` the timer is given up.

        False when it is over, or another's by now: nothing was noted.
        """
        ...

    async def revive(self, timer_id: UUID) -> bool:
        """Call this to deliver a given-up timer once more; False when it is not given up."""
        ...

    async def open_timers(
        self,
        *,
        address: str | None = None,
        due_by: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[OpenTimer]:
        """Call this for open timers, those due first; of one address, or those due by a time."""
        ...

    async def next_due(self) -> datetime | None:
        """Call this for the time the next open timer is due or its claim ends."""
        ...

    async def pending(self) -> int:
        """Call this for the gauge of open timers."""
        ...

    async def purge(self, limit: int = 1000) -> int:
        """Call this to remove timers that were over two weeks ago, at most `limit`."""
        ...


Deliver = Callable[[DueTimer], Awaitable[bool]]


@message
class LookForTimers:
    """Tells the service to look now; it tells itself so in time."""


class _InHand:
    """What is claimed for one address: the first is being delivered, the others wait."""

    def __init__(self) -> None:
        self.timers: deque[DueTimer] = deque()
        self.scope = trio.CancelScope()


class TimerService(Actor[LookForTimers]):
    """Delivers due timers: claims them, hands each to `deliver`, closes what it accepts.

    `deliver` returns True when the timer is done with, False when its handler closes it by
    its own append. It is called for up to 100 addresses at once, and for the timers of one
    address in order; two services may share an address. One that raises, or takes over a
    minute, is delivered again after 1 s, doubling to 60 s, and holds up nobody; after ten such
    failures it is a dead letter of kind `message` and source `timers`. A store that is away is no
    failure of the timer: it is delivered again when its claim ends.

    With nothing due it looks every `look_s` seconds, by two short statements: give more where no
    timer is ever due sooner after it was set, or whoever sets one says so (`LookForTimers`).

    Claims are renewed while handlers run. A stop lets them end, for up to 3 s, and gives back
    what was not begun.

    A node of a cluster gives the `shard` that it owns the timers by: then it takes over at once
    what the node before it had claimed, and delivers nothing while the shard may be another's. A
    claim that is `Fenced` cuts its handlers and ends it with exit `fenced`.
    """

    def __init__(
        self,
        timers: DurableTimers,
        deliver: Deliver,
        env: Environment,
        worker: str,
        *,
        dead_letters: DeadLetters | None = None,
        look_s: float = LOOK_S,
        shard: ShardLease | None = None,
    ) -> None:
        if not look_s > 0:
            raise ValueError(f"look_s must be above 0, got {look_s}")
        self._look_s, self._shard = look_s, shard
        self._timers, self._deliver, self._env, self._worker = timers, deliver, env, worker
        self._dead_letters = dead_letters
        self._in_hand: dict[str, _InHand] = {}
        self._ended = trio.Event()
        self._is_stopping = False
        self.delivered = 0
        self.late_s_max = 0.0

    async def on_start(self) -> None:
        """Begin to look."""
        self.start_soon(self._keep_claims)
        self.ref.tell(LookForTimers())

    async def on_stop(self, exit: Exit) -> None:  # noqa: A002  (the runtime's word)
        """Let the handlers that run end, then give back what is claimed."""
        self._is_stopping = True
        with trio.move_on_after(STOP_S_MAX):
            while self._in_hand:
                await self._ended.wait()
                self._ended = trio.Event()
        for in_hand in self._in_hand.values():
            in_hand.scope.cancel()
        try:
            await self._timers.release(self._worker)
        except StoreError as error:
            _log.warning("persistence.claims_kept", code=error.code)

    async def on_look_for_timers(self, message: LookForTimers) -> None:
        """Take in hand what is due, then sleep until the next one."""
        wait_s = self._look_s
        try:
            limit = min(CLAIM_MAX, ADDRESSES_MAX - len(self._in_hand))
            if limit > 0:
                due = await self._timers.claim_due(
                    self._worker,
                    self._env.clock.now(),
                    limit=limit,
                    busy=tuple(self._in_hand),
                    shard=None if self._shard is None else self._shard.shard,
                )
                for timer in due:
                    self._take(timer)
                wait_s = 0.0 if len(due) == limit else await self._until_next()
        except Fenced as fenced:
            self._end_fenced(fenced)
            return
        except StoreError as error:
            _log.warning("persistence.timers_wait", code=error.code)
            wait_s = AWAY_S
        if len(self._in_hand) >= ADDRESSES_MAX:
            wait_s = LOOK_S  # the first that ends looks again
        self.after(wait_s, LookForTimers(), key="look")

    def _end_fenced(self, fenced: Fenced) -> None:
        """Handlers are cut, and whoever has the shard by now delivers what is due (CLU-14)."""
        _log.warning(
            "persistence.timers_fenced",
            worker=self._worker,
            shard=fenced.shard,
            held=fenced.held,
            current=fenced.current,
        )
        self._is_stopping = True
        for in_hand in self._in_hand.values():
            in_hand.scope.cancel()
        self.stop(Shutdown(fenced.code))

    def _take(self, timer: DueTimer) -> None:
        in_hand = self._in_hand.get(timer.address)
        if in_hand is None:
            in_hand = self._in_hand[timer.address] = _InHand()
            self.start_soon(self._deliver_to, timer.address, in_hand)
        in_hand.timers.append(timer)

    async def _until_next(self) -> float:
        due_at = await self._timers.next_due()
        if due_at is None:
            return self._look_s
        wait = (due_at - self._env.clock.now()).total_seconds()
        return min(max(wait, LOOK_S_MIN if wait <= 0 else 0.0), self._look_s)

    async def _keep_claims(self) -> None:
        while True:
            await trio.sleep(CLAIM.total_seconds() / 3)
            ids = [one.timer_id for held in self._in_hand.values() for one in held.timers]
            if not ids:
                continue
            try:
                await self._timers.renew(self._worker, ids, self._env.clock.now())
            except StoreError as error:
                _log.warning("persistence.timers_wait", code=error.code)

    # Delivering

    async def _deliver_to(self, address: str, in_hand: _InHand) -> None:
        try:
            with in_hand.scope:
                while in_hand.timers and not self._is_stopping and self._holds():
                    await self._deliver_one(in_hand.timers[0])
                    in_hand.timers.popleft()
        finally:
            del self._in_hand[address]
            self._ended.set()
        if not self._is_stopping:
            # More may be due there, and were left out while it was busy.
            self.after(0.0, LookForTimers(), key="ended")

    def _holds(self) -> bool:
        return self._shard is None or self._shard.holds()

    async def _deliver_one(self, timer: DueTimer) -> None:
        late = (self._env.clock.now() - timer.due_at).total_seconds()
        self.late_s_max = max(self.late_s_max, late)
        try:
            # What it leads to is in the name of whoever set it, however long ago that was.
            with carried(timer.metadata), trio.fail_after(DELIVER_S_MAX):
                note_in_trace(current_tallies().histogram("timers_late_seconds"), max(0.0, late))
                is_done = await self._deliver(timer)
        except Exception as error:  # noqa: BLE001  (whatever a handler raises is its failure)
            await self._note_failure(timer, error)
            return
        self.delivered += 1
        current_tallies().add("timers_fired_total")
        while is_done:
            try:
                await self._timers.close(timer.timer_id)
                return
            except StoreError as error:
                # Handled, and still open in the store: not delivered again as long as it is ours.
                _log.warning("persistence.timers_wait", code=error.code)
                await trio.sleep(AWAY_S)

    async def _note_failure(self, timer: DueTimer, error: Exception) -> None:
        if isinstance(error, StoreError) and error.is_transient:
            _log.warning("persistence.timers_wait", code=error.code)
            return
        failures, text = timer.failures + 1, words_of(error)
        jitter = (self._env.ids.new_id().int & 0xFFFF) / 0x10000
        retry_at: datetime | None = self._env.clock.now() + retry_delay(failures, jitter)
        try:
            if failures >= FAILURES_MAX and await self._is_kept(timer, text, error):
                retry_at = None
            await self._timers.failed(self._worker, timer.timer_id, text, retry_at)
        except StoreError as away:
            _log.warning("persistence.timers_wait", code=away.code)

    async def _is_kept(self, timer: DueTimer, words: str, error: Exception) -> bool:
        """Make a dead letter of it; False when there is no room for one: it is tried on then."""
        if self._dead_letters is None:
            return True
        place = {"address": timer.address, "name": timer.name, "token": timer.token}
        letter = NewDeadLetter(
            kind="message",
            source=TIMERS,
            message_id=str(timer.timer_id),
            error_message=words,
            error_details=chain_of(error),
            # A larger one stays where it is, in the timer's row.
            payload=timer.payload if len(timer.payload) <= PAYLOAD_BYTES_MAX else None,
            metadata={**timer.metadata, **place, "due_at": timer.due_at.isoformat()},
        )
        try:
            await self._dead_letters.add(letter)
        except DeadLettersFull as full:
            _log.error("persistence.dead_letters_full", limit=full.limit, target=timer.address)
            return False
        return True
