"""Timers that survive every restart: the port, and the service that delivers them.

A timer is set, cancelled and closed by appends (`SetTimer`, `CancelTimer`, `CloseTimer`) or
by this port. Delivery is at least once: a delivered timer that nobody closed is delivered
again when its claim ends. Of firing and cancelling exactly one has an effect.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from actors.persistence.errors import StoreError
from actors.persistence.words import SetTimer
from actors.reducers import Environment
from actors.runtime import Actor, Log, message

CLAIM_MAX = 100
CLAIM = timedelta(seconds=30)

# How often the service looks when nothing is due before; other processes set timers too.
LOOK_S = 1.0

_log = Log("actors.persistence")


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


class DurableTimers(Protocol):
    """Which timers are set, due, claimed and over."""

    async def set(self, timer: SetTimer) -> None:
        """Call this to set a timer; one with the same address, name and token stays as it is."""
        ...

    async def cancel(self, address: str, name: str) -> int:
        """Call this to cancel the open timers of a name; returns how many were."""
        ...

    async def claim_due(
        self, worker: str, now: datetime, *, limit: int = CLAIM_MAX
    ) -> Sequence[DueTimer]:
        """Call this for the timers due by `now`, in order of `due_at`; ours for half a minute."""
        ...

    async def close(self, timer_id: UUID) -> bool:
        """Call this when a timer was handled; False when it was cancelled or closed before."""
        ...

    async def next_due(self) -> datetime | None:
        """Call this for the time the next open timer is due or its claim ends."""
        ...

    async def pending(self) -> int:
        """Call this for the gauge of open timers."""
        ...


Deliver = Callable[[DueTimer], Awaitable[bool]]


@message
class LookForTimers:
    """Tells the service to look now; it tells itself so in time."""


class TimerService(Actor[LookForTimers]):
    """Delivers due timers: claims them, hands each to `deliver`, closes what it accepts.

    `deliver` returns True when the timer is done with, False when its handler closes it by
    its own append. One that raises is delivered again when the claim ends.
    """

    def __init__(
        self, timers: DurableTimers, deliver: Deliver, env: Environment, worker: str
    ) -> None:
        self._timers, self._deliver, self._env, self._worker = timers, deliver, env, worker
        self.delivered = 0
        self.late_s_max = 0.0

    async def on_start(self) -> None:
        """Begin to look."""
        self.ref.tell(LookForTimers())

    async def on_look_for_timers(self, message: LookForTimers) -> None:
        """Deliver what is due, then sleep until the next one."""
        wait_s = LOOK_S
        try:
            due = await self._timers.claim_due(self._worker, self._env.clock.now())
            for timer in due:
                await self._deliver_one(timer)
            if len(due) == CLAIM_MAX:
                wait_s = 0.0
            else:
                wait_s = await self._until_next()
        except StoreError as error:
            _log.warning("persistence.timers_wait", code=error.code)
        self.after(wait_s, LookForTimers(), key="look")

    async def _deliver_one(self, timer: DueTimer) -> None:
        late = (self._env.clock.now() - timer.due_at).total_seconds()
        self.late_s_max = max(self.late_s_max, late)
        if await self._deliver(timer):
            await self._timers.close(timer.timer_id)
        self.delivered += 1

    async def _until_next(self) -> float:
        due_at = await self._timers.next_due()
        if due_at is None:
            return LOOK_S
        wait = (due_at - self._env.clock.now()).total_seconds()
        return min(max(wait, 0.0), LOOK_S)
