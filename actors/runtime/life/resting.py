"""When an idle task actor gives its task back by itself, and who notices.

A class that says nothing of `hibernate_after` shares one sweep of its system (`Sweep`): its actors
pay nothing for it, neither an alarm each nor a look at the clock when they park, for the sweep
reads counters that are kept anyway. A class that names a time gets it to the instant (`Nap`).

Either only wishes for it. The task gives itself back, since only it knows that it stands between
two messages and that no child task runs (`Life.may_hibernate`).
"""

from __future__ import annotations

from typing import Final, NoReturn

import trio

from actors.runtime.delivery.clock import Alarm
from actors.runtime.life.cell import Life
from actors.runtime.life.hooks import HIBERNATE_AFTER_S, Hooks

# Looks in `HIBERNATE_AFTER_S`: more would be more exact, and cost more.
LOOKS: Final = 4
INTERVAL_S: Final = HIBERNATE_AFTER_S / LOOKS
# Of those that may rest, so many are woken for it before others get their turn: about a
# millisecond. Of those that are looked at, a thousand are half of one.
WOKEN_AT_ONCE: Final = 50
LOOKED_AT_ONCE: Final = 1_000


class Sweep:
    """The awake task actors of a system; `run` is the task that sends the idle ones to sleep.

    One is due when it has handled nothing for `LOOKS` looks: between a minute and a quarter more.
    """

    __slots__ = ("_awake",)

    def __init__(self) -> None:
        # How many messages it had handled at the last look, and how often that was the same.
        self._awake: dict[Life, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._awake)

    def add(self, life: Life) -> None:
        """Called when a task begins that may be given back."""
        self._awake[life] = _NEW

    def discard(self, life: Life) -> None:
        """Called when it has been given back, or its incarnation is over."""
        self._awake.pop(life, None)

    async def run(self) -> NoReturn:
        """Called once, in a task of the system; it ends by cancellation."""
        while True:
            await trio.sleep(INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Call this to look at all of them once; others get their turns meanwhile."""
        woken = 0
        for number, life in enumerate(list(self._awake), 1):
            if self._is_due(life):
                wish(life)
                woken += 1
            if woken == WOKEN_AT_ONCE or number % LOOKED_AT_ONCE == 0:
                woken = 0
                await trio.lowlevel.checkpoint()

    def _is_due(self, life: Life) -> bool:
        before = self._awake.get(life)
        if before is None:
            return False  # It ended while others had their turn.
        handled = life.cell.counts.handled
        seen, quiet = before
        if handled != seen or life.parked_task is None or life.has_child_tasks:
            self._awake[life] = (handled, 0)
            return False
        self._awake[life] = (handled, quiet + 1)
        return quiet + 1 >= LOOKS


# No count is negative: the first look finds it changed.
_NEW: Final = (-1, 0)


class Nap:
    """`hibernate_after` of a class: gives the task back when it has been parked for so long."""

    __slots__ = ("_alarm", "_life", "_parked_at", "delay")

    def __init__(self, life: Life, delay: float) -> None:
        self._life, self.delay = life, delay
        self._parked_at = trio.current_time()
        self._alarm: Alarm | None = None

    def parked(self) -> None:
        """Called each time the actor has nothing to do; one alarm serves many of them."""
        self._parked_at = trio.current_time()
        if self._alarm is None and not self._life.hibernating:
            self._arm()

    def cancel(self) -> None:
        """Called when the incarnation has ended."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _arm(self) -> None:
        due = self._parked_at + self.delay
        self._alarm = self._life.cell.system.wheel.call_at(due, self._look)

    def _look(self) -> None:
        self._alarm = None
        life = self._life
        if life.parked_task is None:
            return  # It is working, and will park again.
        if self._parked_at + self.delay > trio.current_time():
            self._arm()
        else:
            wish(life)


def stays_awake(life: Life) -> None:
    """Called when a life has got a task, its first one or another."""
    # Of its class, as all settings: what an instance says runs code of its own.
    cls = type(life.instance)
    assert issubclass(cls, Hooks)
    after = cls.hibernate_after
    if after is None or cls.opens_nursery or life.nap is not None:
        return
    # The very object: a class that names sixty seconds itself means them.
    if after is HIBERNATE_AFTER_S:
        life.cell.system.sweep.add(life)
    else:
        life.nap = Nap(life, after)


def wish(life: Life) -> None:
    """Called for a parked task that shall be given back."""
    life.wants_hibernation = True
    life.cell.mailbox.call_attention()
