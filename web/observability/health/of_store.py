"""The components that a program has of its event store, and of what stands beside it.

Each is made of a port, so an engine of one's own has them too. What only PostgreSQL can tell (its
oldest transaction, its pool) is added where adapters are named, in `web.app`.

What is late, or cannot be read just now, never makes a program unready. All of its processes share
the store: a probe that failed for that would take all of them away, from requests that have nothing
to do with it. That the store is away at all, `event_store` tells.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import trio

from actors.persistence import (
    Checkpoint,
    DeadLetters,
    DurableTimers,
    EventStore,
    Outbox,
    ProjectionStore,
    StoreError,
)
from actors.persistence.bus import BusState, EventBus
from actors.persistence.projections.store import GenerationState, serves
from web.observability.bus_lag import LOOK_S_MAX, BusLags
from web.observability.health.words import (
    Component,
    Finding,
    degraded,
    healthy,
    unhealthy,
)
from web.settings import OUTBOX_AGE_S_MAX, PROJECTION_LAG_S_MAX, TIMERS_LATE_S_MAX

# A line names so many; the number of all of them stands in the details.
NAMES_MAX = 3

AWAY = "the database does not answer"

# What a look at a store fails with.
_UNREAD = (StoreError, trio.TooSlowError)


@dataclass(frozen=True, slots=True, kw_only=True)
class LateAfter:
    """From when on what waits is late, in seconds.

    `passed_over` are projections that nobody fills any more, and nobody reads: those of a program
    that is gone, whose checkpoint is still there.
    """

    outbox_s: float = OUTBOX_AGE_S_MAX
    timers_s: float = TIMERS_LATE_S_MAX
    projections_s: float = PROJECTION_LAG_S_MAX
    passed_over: Collection[str] = ()


def store_component(events: EventStore) -> Component:
    """Call this for an event store of any kind: it is read, truly, and the answer awaited."""
    return Component("event_store", partial(_check_store, events))


def bus_component(
    bus: EventBus, lags: BusLags | None = None, *, is_needed: bool = True
) -> Component:
    """Call this for an event bus of any kind: degraded as soon as it is away.

    Unhealthy after a minute, which makes a program unready, unless it `is_needed` by nobody who is
    served: what is published waits in the outbox meanwhile. Its details say how far the group
    that is furthest behind is, in records and by the age of the oldest; `lags` keep what it finds.
    """
    return Component("event_bus", partial(_check_bus, bus, lags or BusLags(bus), is_needed))


def letters_component(letters: DeadLetters) -> Component:
    """Call this for the room that dead letters have left."""
    return Component("dead_letters", partial(_check_letters, letters))


def outbox_component(outbox: Outbox, late: LateAfter) -> Component:
    """Call this for how long the oldest message waits to be sent."""
    return Component("outbox", partial(_check_outbox, outbox, late.outbox_s))


def timers_component(
    timers: DurableTimers, now: Callable[[], datetime], late: LateAfter
) -> Component:
    """Call this for how long the next timer has been due, by the clock its service goes by."""
    return Component("timers", partial(_check_timers, timers, now, late.timers_s))


def projections_component(
    projections: ProjectionStore, events: EventStore, late: LateAfter
) -> Component:
    """Call this for how far behind the read models are, and which are halted."""
    return Component("projections", partial(_check_projections, projections, events, late))


async def _check_store(events: EventStore) -> Finding:
    try:
        with trio.fail_after(LOOK_S_MAX):
            await events.read_backwards(limit=1)
    except _UNREAD:
        return unhealthy(AWAY)
    return healthy()


async def _check_bus(bus: EventBus, lags: BusLags, is_needed: bool) -> Finding:
    try:
        with trio.fail_after(LOOK_S_MAX):
            found = await bus.health()
    except _UNREAD:
        return degraded("the event bus does not answer in time")
    if found.state is BusState.HEALTHY:
        return await _how_far(lags)
    away_s = round(found.away_s, 1)
    if found.state is BusState.UNHEALTHY and is_needed:
        return unhealthy("the event bus is away for long", away_s=away_s)
    return degraded("the event bus is away", away_s=away_s)


async def _how_far(lags: BusLags) -> Finding:
    """Many groups, or a slow broker, are no trouble of what is published and read."""
    try:
        found = await lags.look()
    except _UNREAD:
        return healthy("how far its groups are behind could not be asked in time")
    records = max((lag.records for lag in found), default=0)
    seconds = max((lag.seconds for lag in found), default=0.0)
    return healthy(groups=len(found), behind=records, behind_s=round(seconds, 1))


async def _check_letters(letters: DeadLetters) -> Finding:
    try:
        with trio.fail_after(LOOK_S_MAX):
            counts = await letters.counts()
    except _UNREAD:
        return unhealthy("the dead letters cannot be counted")
    numbers = {status.value: count for status, count in counts.by_status.items()}
    match counts.health:
        case "unhealthy":
            return unhealthy(
                "the dead letters are full: what fails from now on is not kept", **numbers
            )
        case "degraded":
            return degraded(f"the dead letters are {counts.fullness:.0%} full", **numbers)
    return healthy(**numbers)


async def _check_outbox(outbox: Outbox, late_s: float) -> Finding:
    try:
        with trio.fail_after(LOOK_S_MAX):
            stats = await outbox.stats()
    except _UNREAD:
        return degraded("the outbox cannot be read")
    numbers = {
        "pending": stats.pending,
        "oldest_s": round(stats.oldest_s, 1),
        "given_up": stats.dead,
    }
    if stats.oldest_s > late_s:
        return degraded(f"a message waits for {stats.oldest_s:.0f} s to be sent", **numbers)
    return healthy(**numbers)


async def _check_timers(
    timers: DurableTimers, now: Callable[[], datetime], late_s: float
) -> Finding:
    try:
        with trio.fail_after(LOOK_S_MAX):
            due = await timers.next_due()
    except _UNREAD:
        return degraded("the timers cannot be read")
    late = 0.0 if due is None else max(0.0, (now() - due).total_seconds())
    if late > late_s:
        return degraded(f"a timer is due for {late:.0f} s", late_s=round(late, 1))
    return healthy(late_s=round(late, 1))


async def _check_projections(
    projections: ProjectionStore, events: EventStore, late: LateAfter
) -> Finding:
    try:
        with trio.fail_after(LOOK_S_MAX):
            known = [
                one
                for name in await projections.names()
                if name not in late.passed_over
                for one in await projections.checkpoints(name)
            ]
            # A rebuild serves nobody, and is as far behind as it is long.
            serving = [one for one in known if serves(one)]
            lags = [await events.lag(one.cursor) for one in serving]
    except _UNREAD:
        return degraded("the projections cannot be read")
    behind = [
        one for one, lag in zip(serving, lags, strict=True) if lag.seconds > late.projections_s
    ]
    halted = [one for one in known if one.is_halted and one.state is not GenerationState.RETIRED]
    numbers = {
        "lag_events": max((lag.events for lag in lags), default=0),
        "lag_s": round(max((lag.seconds for lag in lags), default=0.0), 1),
        "behind": len(behind),
        "halted": len(halted),
    }
    said = [f"halted: {_names(halted)}"] if halted else []
    said += [f"over {late.projections_s:g} s behind: {_names(behind)}"] if behind else []
    if not said:
        return healthy(**numbers)
    # What is halted will not have come up by waiting for it.
    is_starting = any(not one.is_halted for one in behind)
    return Finding("degraded", "; ".join(said), numbers, is_starting)


def _names(checkpoints: Sequence[Checkpoint]) -> str:
    names = sorted({one.projection for one in checkpoints})
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
