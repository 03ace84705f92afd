"""Durable delays of reducer actors, on durable timers; and how they come back when they are due.

    delays = TimerDelays(timers, env)
    ref = await start_reducer(system, OrderActor, env, delays=delays)
    TimerService(timers, DelayDelivery(system).deliver, env, "worker-1")

Rule: the address of a timer is the path of its actor, so the actor needs a name of its own. Whoever
has that name when the delay is due is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from typing import Final, cast
from uuid import UUID

import msgspec

from actors.persistence.beside_log.timers import DueTimer, DurableTimers
from actors.persistence.errors import InvalidField
from actors.persistence.reducing.effects import metadata_of
from actors.persistence.words import READ_LIMIT_MAX, SetTimer
from actors.reducers import Delay, Environment, Fire, UnreadableDelay
from actors.runtime import ActorError, AnyRef, Context, Ref, System, edge_context

# What the names of these timers begin with; a saga's never do.
PREFIX: Final = "delay:"

# A handler that takes longer goes on, and its delay is delivered again.
FIRE_S: Final = 30.0


class NobodyThere(ActorError):
    """Raised for a delay whose actor is not there: it is delivered again, and at last given up."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is not there; start it, or hand its delivery a way to do so")
        self.path = path


class _Kept(msgspec.Struct, frozen=True):
    """What a timer holds of a delay."""

    action: str
    data: msgspec.Raw


class TimerDelays:
    """The port `DurableDelays` on a store's timers.

    An action is kept as JSON under the name of its class; its fields are plain data. Raises what
    the store says, and `InvalidField` for an action that cannot be written.
    """

    def __init__(self, timers: DurableTimers, env: Environment) -> None:
        self._timers, self._env = timers, env

    def check(self, path: str, handled: Collection[type]) -> None:
        """See `DurableDelays.check`."""
        names = [one.__name__ for one in handled]
        twice = sorted({one for one in names if names.count(one) > 1})
        if twice:
            raise TypeError(f"{path} has two actions named {', '.join(twice)}: rename one")

    async def set(self, path: str, delay: Delay, token: str) -> None:
        """See `DurableDelays.set`."""
        kind = type(delay.action).__name__
        try:
            data = msgspec.json.encode(delay.action)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            # Not the encoder's own words, which may quote what somebody wrote.
            raise InvalidField(kind, f"cannot be kept as JSON ({type(error).__name__})") from None
        due_at = self._env.clock.now() + timedelta(seconds=delay.seconds)
        payload = msgspec.json.encode(_Kept(kind, msgspec.Raw(data)))
        metadata = metadata_of(self._env, None)
        name = _name(cast("str | None", delay.key))
        await self._timers.set(SetTimer(UUID(token), path, name, token, due_at, payload, metadata))

    async def cancel(self, path: str, key: str) -> int:
        """See `DurableDelays.cancel`."""
        return await self._timers.cancel(path, _name(key))

    async def is_open(self, path: str, due: Fire) -> bool:
        """See `DurableDelays.is_open`."""
        # Those due first come first, and this one is due.
        found = await self._timers.open_timers(address=path, limit=READ_LIMIT_MAX)
        return len(found) == READ_LIMIT_MAX or any(one.timer_id == due.timer_id for one in found)

    def action_of(self, path: str, due: Fire, handled: Collection[type]) -> object:
        """See `DurableDelays.action_of`."""
        try:
            kept = msgspec.json.decode(due.payload, type=_Kept)
            kind = next((one for one in handled if one.__name__ == kept.action), None)
            if kind is None:
                raise UnreadableDelay(path, f"{kept.action} is no action of its reducer")
            action: object = msgspec.json.decode(kept.data, type=kind)
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
            raise UnreadableDelay(path, str(error)) from error
        return action


class DelayDelivery:
    """Brings durable delays to their actors; `deliver` is what a `TimerService` is given.

    `start` is asked for an actor that is not there; it gives its ref, or None. Where one service
    delivers other timers too, `takes` says which are these.
    """

    def __init__(
        self,
        system: System,
        start: Callable[[str], Awaitable[AnyRef | None]] | None = None,
    ) -> None:
        self._system, self._start = system, start

    @staticmethod
    def takes(timer: DueTimer) -> bool:
        """Call this to ask whether a timer is a durable delay."""
        return timer.name.startswith(PREFIX)

    async def deliver(self, timer: DueTimer) -> bool:
        """Tell its actor; raises NobodyThere, and what an ask does: it is delivered again then."""
        cell = self._system.at(timer.address)
        ref = None if cell is None else cell.ref
        if ref is None and self._start is not None:
            ref = await self._start(timer.address)
        if ref is None:
            raise NobodyThere(timer.address)
        key = timer.name.removeprefix(PREFIX) or None
        fire = Fire(timer.timer_id, timer.token, timer.payload, key)
        with edge_context(_context_of(timer)):
            return await cast("Ref[Fire]", ref).ask(fire, timeout=FIRE_S)


def _name(key: str | None) -> str:
    return f"{PREFIX}{key or ''}"


def _context_of(timer: DueTimer) -> Context:
    found = timer.metadata
    return Context(
        found.get("correlation_id") or timer.token,
        # What had asked for the delay, also when that was in another process.
        found.get("causation_id"),
        traceparent=found.get("traceparent"),
        user_id=found.get("user_id"),
        tenant=found.get("tenant"),
    )
