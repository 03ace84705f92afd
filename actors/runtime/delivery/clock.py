"""The one clock of a system, a wheel: deadlines of asks in coarse buckets, alarms to the instant.

An alarm that may be late, as that of a silence, is set to the end of its grain (`call_about`).

An ask adds itself to a bucket of 10 ms and takes itself out when it is answered: no cancel scope
and no heap operation each. Everything rarer (timers, stop deadlines, backoffs) is an `Alarm`.

A cancelled alarm stays in the heap until it comes up, or until there are too many of them: then
the heap is sifted, from its end, where one may be taken off and the rest is still a heap.

Rule 1: nothing fires early. Rule 2: an action never raises and never waits.
Rule 3: whatever is due, or cancelled, at once: `run` does it in slices.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final, NoReturn, TypeAlias

import trio

from actors.runtime.delivery.envelope import Reply

# How many buckets a second has. Coarser saves heap work, finer saves lateness: at most 10 ms.
BUCKETS_PER_SECOND: Final = 100
# What is due later has no bucket, as if it had no deadline: its number would be infinite.
NEVER: Final = 1e300
# Cancelled alarms are dropped at the top of the heap; beyond this many, and half of all, they are
# sifted out.
DEAD_ALARMS_MAX: Final = 512
# So many deadlines and alarms of one instant are seen to before others have a turn. It takes a few
# microseconds each, but all tasks they wake run before the next slice, and those take 30 and more:
# together well within the 5 ms that ACT-29 allows.
FIRED_AT_ONCE: Final = 64
# Alarms looked at in one step of a sifting.
SIFTED_A_STEP: Final = 16


class Bucket(dict[Reply, None]):
    """The asks whose deadlines fall into one grain; it fires at the last of them."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        super().__init__()
        self.due = -math.inf


class Alarm:
    """An action at a time; `cancel` guarantees that it does not run."""

    __slots__ = ("action", "due", "order", "wheel")

    def __init__(self, wheel: Wheel, due: float, action: Callable[[], None], order: int) -> None:
        self.wheel, self.due, self.order = wheel, due, order
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Call this to make sure the action does not run; harmless afterwards."""
        if self.action is not None:
            self.action = None
            self.wheel.forget_alarm()


class Wheel:
    """Call `add` for an ask, `call_at` for anything else; `run` is the task that fires them."""

    def __init__(self) -> None:
        # By the number of their grain of time; a heap of those numbers, one for each bucket.
        self._buckets: dict[int, Bucket] = {}
        self._slots: list[int] = []
        self._alarms: list[_Entry] = []
        # What is left of a heap that is sifted; a heap as well, until nothing is left of it.
        self._unsifted: list[_Entry] = []
        # Alarms of the same instant run in the order in which they were set.
        self._order = count()
        self._dead_alarms = 0
        # What `run` sleeps in; whoever adds something earlier moves its deadline forward.
        self._nap = trio.CancelScope()
        # Asks without a deadline: found again when the system closes, never due.
        self._patient = Bucket()
        # Asks that are due and have not all been told yet.
        self._firing = Bucket()

    @property
    def open_asks(self) -> int:
        """How many asks are waiting."""
        return sum(map(len, self._buckets.values())) + len(self._patient) + len(self._firing)

    @property
    def open_alarms(self) -> int:
        """How many alarms are set."""
        return len(self._alarms) + len(self._unsifted) - self._dead_alarms

    def add(self, reply: Reply) -> None:
        """Called by an ask that has to wait: `reply.expire` is called at its deadline."""
        due = reply.deadline
        if due > NEVER:
            bucket = self._patient
        else:
            slot = int(due * BUCKETS_PER_SECOND)
            found = self._buckets.get(slot)
            bucket = self._open(slot, due) if found is None else found
            if due > bucket.due:
                # The whole bucket fires at the last of its deadlines: late by a grain, never early.
                bucket.due = due
        bucket[reply] = None
        reply.bucket = bucket

    def call_at(self, due: float, action: Callable[[], None], order: int | None = None) -> Alarm:
        """Call this to run the synchronous `action` at `due`; equal times run in order of call.

        With the `order` of an alarm that has fired, the new one takes its place in that order.
        """
        alarm = Alarm(self, due, action, next(self._order) if order is None else order)
        heapq.heappush(self._alarms, (due, alarm.order, alarm))
        self._wake_by(due)
        return alarm

    def call_about(self, due: float, action: Callable[[], None]) -> Alarm:
        """Call this for what may be late by a grain: all of one grain take one wake of the loop."""
        return self.call_at(
            max(due, math.ceil(due * BUCKETS_PER_SECOND) / BUCKETS_PER_SECOND), action
        )

    def call_after(self, delay: float, action: Callable[[], None]) -> Alarm:
        """Call this to run the synchronous `action` in `delay` seconds."""
        return self.call_at(trio.current_time() + delay, action)

    def forget_alarm(self) -> None:
        """Called by `Alarm.cancel`: the heap keeps the dead one until it comes up."""
        self._dead_alarms += 1
        if (
            self._dead_alarms > DEAD_ALARMS_MAX
            and self._dead_alarms * 2 > len(self._alarms)
            and not self._unsifted
        ):
            self._alarms, self._unsifted = [], self._alarms
            self._wake_by(-math.inf)

    def open_replies(self) -> list[Reply]:
        """The asks that are still waiting, for the end of the system."""
        buckets = (self._patient, self._firing, *self._buckets.values())
        return [reply for bucket in buckets for reply in bucket]

    async def run(self) -> NoReturn:
        """Called once, in a task of the system; it ends by cancellation."""
        while True:
            with trio.CancelScope(deadline=self._next_due()) as self._nap:
                await trio.sleep_forever()
            for number, _ in enumerate(self._fire(trio.current_time()), 1):
                if number % FIRED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    def _open(self, slot: int, due: float) -> Bucket:
        bucket = self._buckets[slot] = Bucket()
        heapq.heappush(self._slots, slot)
        self._wake_by(due)
        return bucket

    def _wake_by(self, due: float) -> None:
        if due < self._nap.deadline:
            self._nap.deadline = due

    def _next_due(self) -> float:
        """When to look again; too early when what comes next has been given up meanwhile."""
        if self._unsifted:
            return -math.inf
        return min(_first_of(self._alarms), self._first_bucket())

    def _first_bucket(self) -> float:
        return self._buckets[self._slots[0]].due if self._slots else math.inf

    def _fire(self, now: float) -> Iterator[None]:
        """All that is due, what is dead before the next that is not, and the sifting; in steps."""
        while True:
            alarms = self._alarms
            if self._unsifted and (not alarms or self._unsifted[0] < alarms[0]):
                alarms = self._unsifted
            if alarms and alarms[0][2].action is None:
                heapq.heappop(alarms)
                self._dead_alarms -= 1
            elif self._slots and not self._buckets[self._slots[0]]:
                del self._buckets[heapq.heappop(self._slots)]
            elif self._first_bucket() <= now:
                # Out of the wheel first: who is woken may ask again, into a bucket of this grain.
                self._firing = self._buckets.pop(heapq.heappop(self._slots))
                for reply in list(self._firing):
                    reply.expire(now)
                    yield
            elif _first_of(alarms) <= now:
                _, _, alarm = heapq.heappop(alarms)
                action, alarm.action = alarm.action, None
                assert action is not None, "dead ones are dropped before"
                action()
            elif self._unsifted:
                self._sift()
            else:
                return
            yield

    def _sift(self) -> None:
        unsifted = self._unsifted
        for _ in range(min(SIFTED_A_STEP, len(unsifted))):
            entry = unsifted.pop()
            if entry[2].action is None:
                self._dead_alarms -= 1
            else:
                heapq.heappush(self._alarms, entry)


# When it is due, the order of alarms that are due together, and the alarm.
_Entry: TypeAlias = tuple[float, int, Alarm]


def _first_of(alarms: list[_Entry]) -> float:
    return alarms[0][0] if alarms else math.inf
