"""Timers of an actor: once, again and again, and after a silence.

They belong to the incarnation. Ticks are entries of the system lane, at most one each.
Rule 1: after `cancel` no tick is handled, also when it was queued.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final, Self

import trio

from actors.runtime.delivery.clock import Alarm
from actors.runtime.delivery.envelope import Context, Envelope, current_activity
from actors.runtime.delivery.ref import is_number
from actors.runtime.life.cell import Life
from actors.runtime.words.exits import without_cancelled
from actors.runtime.words.messages import FromRuntime, message

# Faster than this the ticks themselves are the load; use a child task that sleeps.
INTERVAL_MIN_S: Final = 0.01


@message
class IdleTimeout(FromRuntime):
    """No user message came for the time asked for with `idle_after`."""


class _Key:
    """The key of a timer, which the runtime looks up when nobody is there to get an error.

    So it is hashed once, and one that cannot be compared equals nothing else.
    """

    __slots__ = ("_hash", "_key")

    def __init__(self, key: Hashable) -> None:
        self._key, self._hash = key, hash(key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if type(other) is not _Key:
            return False
        try:
            return self._key is other._key or bool(self._key == other._key)
        except BaseException as error:  # noqa: BLE001 - the `__eq__` of a key, or what it gives
            without_cancelled(error)
            return False


class Timer:
    """One `self.after` or `self.every`; also the entry its ticks are."""

    __slots__ = ("_alarm", "_context", "_due", "_key", "_life", "_message", "_order", "_queued",
                 "interval", "skipped")  # fmt: skip

    def __init__(
        self, life: Life, delay: float, message: object, key: Hashable, interval: float | None
    ) -> None:
        # First of all: what cannot be hashed is refused before anything is set.
        # Without a key of its own a timer replaces none.
        self._key: Timer | _Key = self if key is None else _Key(key)
        self._life: Life | None = life
        self._message, self.interval = message, interval
        # Of whoever sets it: a handler, or a child task with a cause of its own.
        self._context: Context | None = current_activity.get().sending()
        self._queued = False
        self.skipped = 0
        """How many ticks of `every` came while one was still waiting."""
        self._due = trio.current_time() + delay
        self._alarm: Alarm = life.cell.system.wheel.call_at(self._due, self._tick)
        # Ticks due at the same time come in the order in which their timers were made.
        self._order = self._alarm.order
        if life.timers is None:
            life.timers = {}
        if (before := life.timers.get(self._key)) is not None:
            before.cancel()
        life.timers[self._key] = self

    def __deepcopy__(self, _: object) -> Self:
        return self  # A copy of an actor's state has the same timers.

    @property
    def active(self) -> bool:
        """Whether a tick is still to come."""
        return self._life is not None

    @property
    def due(self) -> float:
        """When the next tick is due."""
        return self._due

    def cancel(self) -> None:
        """Call this to have no tick handled any more; harmless afterwards."""
        life, self._life = self._life, None
        self._alarm.cancel()
        if life is not None and life.timers is not None and life.timers.get(self._key) is self:
            del life.timers[self._key]

    def _tick(self) -> None:
        life = self._life
        if life is None or life.phase == "over":
            return
        if self._queued:
            self.skipped += 1
        else:
            self._queued = True
            life.cell.mailbox.post(self)
        if self.interval is not None:
            # From the due time, not from now: a busy loop must not make the rhythm drift.
            self._due += self.interval
            self._alarm = life.cell.system.wheel.call_at(self._due, self._tick, self._order)

    def act(self) -> Envelope | None:
        """Called by the loop: gives the tick for its handler."""
        self._queued = False
        life = self._life
        if life is None:
            return None
        if self.interval is None:
            self.cancel()
        return life.wrap(self._message, self._context)

    def drop(self) -> None:
        """Called when the incarnation ended first."""


class IdleTimer:
    """`self.idle_after`: fires once after a silence; the next user message rearms it.

    Messages do not touch it, for that would cost each of them: it looks at the counts when its
    alarm comes up, and when the actor parks, and waits on from the last message it has seen.
    """

    __slots__ = ("_alarm", "_armed", "_late", "_life", "_paused_at", "_seen", "_since", "delay")

    def __init__(self, life: Life, delay: float) -> None:
        self._life: Life | None = life
        self.delay = delay
        self._since = trio.current_time()
        self._paused_at: float | None = None
        # User messages so far; system entries do not end a silence.
        self._seen = life.cell.counts.reductions
        self._armed = True
        # It was time to look while a message was in hand, perhaps a tick: look again after it.
        self._late = False
        self._alarm: Alarm = life.cell.system.wheel.call_about(self._since + delay, self._look)

    def cancel(self) -> None:
        """Called to stop looking; harmless afterwards."""
        self._life = None
        self._alarm.cancel()

    def parked(self) -> None:
        """Called each time the actor has nothing to do: after messages the time starts anew."""
        late, self._late = self._late, False
        if (self._was_touched() or late) and not self._armed and self._paused_at is None:
            self._arm()

    def pause(self) -> None:
        """Called when the actor is suspended: its silence is not its own."""
        self._paused_at = trio.current_time()

    def resume(self) -> None:
        """Called when it goes on; the time it stood still does not count."""
        if self._paused_at is not None:
            self._since += trio.current_time() - self._paused_at
            self._paused_at = None
            if not self._armed:
                self._arm()

    def _was_touched(self) -> bool:
        assert self._life is not None
        seen = self._life.cell.counts.reductions
        if seen == self._seen:
            return False
        self._seen = seen
        self._since = trio.current_time()
        return True

    def _arm(self) -> None:
        assert self._life is not None
        self._armed = True
        due = self._since + self.delay
        self._alarm = self._life.cell.system.wheel.call_about(due, self._look)

    def _look(self) -> None:
        life = self._life
        assert life is not None
        self._armed = False
        if self._paused_at is not None:
            return  # `resume` arms it again.
        if life.activity.envelope is not None and life.activity.cell is life.cell:
            self._late = True
            return  # `parked` arms it again.
        self._was_touched()
        if self._since + self.delay > trio.current_time():
            self._arm()
        else:
            life.cell.mailbox.post(self)

    def act(self) -> Envelope | None:
        """Called by the loop: gives the IdleTimeout, unless a message was handled first."""
        life = self._life
        if life is None or self._armed:
            return None
        return life.wrap(IdleTimeout())

    def drop(self) -> None:
        """Called when the incarnation ended first."""


def checked_delay(delay: float) -> float:
    """Call this to check a delay; ValueError unless it is a finite number >= 0."""
    if not is_number(delay) or not 0 <= delay < math.inf:
        raise ValueError(f"the delay is {delay!r}; it must be a finite number of seconds >= 0")
    return float(delay)  # A class of its own may have code of its own.


def checked_interval(interval: float) -> float:
    """Call this to check an interval; ValueError below INTERVAL_MIN_S."""
    plain = checked_delay(interval)
    if plain < INTERVAL_MIN_S:
        raise ValueError(f"the interval is {interval!r}; it must be at least {INTERVAL_MIN_S} s")
    return plain
