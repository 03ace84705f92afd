"""One actor, and the whole system, as plain data: what the lab shows.

Read from the counters when asked; nothing here runs while messages do.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final, Literal, TypedDict

from actors.runtime.life.cell import Cell
from actors.runtime.watching.presenting import redacted_state
from actors.runtime.words.counting import LEVELS, Level, Meter
from actors.runtime.words.exits import ExitJson

# Who talks to whom is asked about now, not about last week.
SENDERS_WINDOW_S: Final = 60.0


def set_level(cell: Cell, level: Level) -> None:
    """Change what is measured of an actor, while it runs."""
    if level == cell.level:
        return
    cell.level = level
    # Senders read this. What is on its way already was timed, or not, by the old level.
    cell.mailbox.timed = LEVELS[level]
    if not LEVELS[level]:
        cell.meter = None
    elif cell.meter is None:
        cell.meter = Meter()
    cell.senders = {} if level == "full" else None


class Current(TypedDict):
    """The message in hand."""

    message: str
    message_id: int
    since: float | None


class RestartWindow(TypedDict):
    """How much of the restart budget is used."""

    used: int
    max: int
    period: float


class TimerJson(TypedDict):
    """A timer that is set."""

    due: float
    interval: float | None


_Fields = TypedDict("_Fields", {"class": str})


class ActorStats(_Fields):
    """What is known of one actor; every key is always there."""

    id: int
    path: str
    name: str | None
    kind: Literal["task", "dispatched"]
    supervisor: str | None
    incarnation: int
    started_at: float
    status: str
    status_since: float
    current: Current | None
    waiting_on: str | None
    handled: int | None
    reductions: int | None
    busy_seconds: float | None
    queued: int
    system_queued: int
    stashed: int
    peak: int
    capacity: int
    waiting_senders: int
    overflowed: int
    coalesced: int
    expired: int
    unhandled: int
    withdrawn: int
    late_replies: int
    crashes: int
    restarts: int
    restart_window: RestartWindow | None
    next_restart_at: float | None
    last_exits: list[ExitJson]
    links: list[str]
    monitors: list[str]
    monitored_by: list[str]
    timers: list[TimerJson]
    topics: list[str]
    senders: list[str] | None
    handling_us: list[int] | None
    queue_us: list[int] | None


class ActorStatus(ActorStats):
    """The same with the state of the actor, redacted and cut."""

    state: object


class SystemStats(TypedDict):
    """The sums of a system; `System.totals` reads them."""

    spawned: int
    stopped: int
    passivated: int
    restarts: int
    dead_letters: dict[str, int]
    actors: int
    asks_open: int
    timers: int
    run_queue: int
    loop_lag_us: list[int]


def actor_stats(cell: Cell) -> ActorStats:
    """Call this to read everything that is known of an actor."""
    counts, mailbox, life, meter = cell.counts, cell.mailbox, cell.life, cell.meter
    window = cell.restart_window
    counted = cell.level != "off"
    return {
        "id": cell.id,
        "path": cell.path,
        "name": cell.name,
        "class": "" if cell.actor_class is None else cell.actor_class.__qualname__,
        "kind": "task" if _is_task(cell) else "dispatched",
        "supervisor": cell.path.rpartition("/")[0] or None,
        "incarnation": cell.incarnation,
        "started_at": cell.started_at,
        "status": cell.status,
        "status_since": cell.status_since,
        "current": _current(cell),
        "waiting_on": None if cell.waiting_on is None else cell.waiting_on.path,
        "handled": counts.handled if counted else None,
        "reductions": counts.reductions if counted else None,
        "busy_seconds": None if meter is None else meter.busy_seconds,
        "queued": mailbox.queued,
        "system_queued": mailbox.system_queued,
        "stashed": 0 if life is None else len(life.stash or ()),
        "peak": max(mailbox.peak, mailbox.queued),
        "capacity": mailbox.capacity,
        "waiting_senders": mailbox.waiting_senders,
        "overflowed": counts.overflowed,
        "coalesced": counts.coalesced,
        "expired": counts.expired,
        "unhandled": counts.unhandled,
        "withdrawn": counts.withdrawn,
        "late_replies": counts.late_replies,
        "crashes": counts.crashes,
        "restarts": counts.restarts,
        "restart_window": None
        if window is None
        else {"used": window[0], "max": window[1], "period": window[2]},
        "next_restart_at": cell.next_restart_at,
        "last_exits": [exit_.to_json() for exit_ in cell.last_exits],
        **_relations(cell),
        "senders": _senders(cell),
        "handling_us": None if meter is None else list(meter.handling_us),
        "queue_us": None if meter is None else list(meter.queue_us),
    }


def _is_task(cell: Cell) -> bool:
    return cell.actor_class is not None and cell.actor_class.__table__.is_task


class _Relations(TypedDict):
    links: list[str]
    monitors: list[str]
    monitored_by: list[str]
    timers: list[TimerJson]
    topics: list[str]


def _relations(cell: Cell) -> _Relations:
    life = cell.life
    timers = [] if life is None else list((life.timers or {}).values())
    return {
        "links": sorted(peer.path for peer in cell.links or ()),
        "monitors": []
        if life is None
        else sorted(monitor.target.path for monitor in life.monitors or ()),
        "monitored_by": sorted(
            filter(None, (getattr(watch, "watcher", "") for watch in cell.watchers or ()))
        ),
        "timers": [{"due": timer.due, "interval": timer.interval} for timer in timers],
        "topics": sorted(cell.topics or ()),
    }


def _current(cell: Cell) -> Current | None:
    life = cell.life
    if life is None or life.activity.cell is not cell or life.activity.envelope is None:
        return None
    message, message_id, *_ = life.activity.envelope
    return {
        "message": type(message).__name__,
        "message_id": message_id,
        "since": life.awaiting_since,
    }


def _senders(cell: Cell) -> list[str] | None:
    if cell.senders is None:
        return None
    oldest = perf_counter() - SENDERS_WINDOW_S
    for path in [path for path, seen in cell.senders.items() if seen < oldest]:
        del cell.senders[path]
    return sorted(cell.senders)


def actor_status(cell: Cell) -> ActorStatus:
    """Call this to read an actor's figures and its state, redacted, cut, ready for JSON."""
    life = cell.life
    state: object = None
    if life is not None and life.instance is not None:
        state = redacted_state(cell, life.instance)
    return {**actor_stats(cell), "state": state}
