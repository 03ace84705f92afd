"""One actor, and the whole system, in figures: frozen records with attributes, and as JSON.

Read from the counters when asked; nothing here runs while messages do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Final, Literal, Never, cast

from actors.runtime.life.cell import Cell, Life
from actors.runtime.watching.presenting import redacted_state
from actors.runtime.words.counting import (
    LEVELS,
    SENDERS_WINDOW_S,
    Level,
    Meter,
    forget_senders,
)
from actors.runtime.words.exits import ExitSummary
from actors.runtime.words.showing import class_name

# Of links, monitors, timers, topics and senders: an actor may have 50,000, and nobody reads them.
RELATIONS_MAX: Final = 1000


def set_level(cell: Cell, level: Level) -> None:
    """Change what is measured of an actor, while it runs."""
    if level == cell.level:
        return
    cell.level = level
    # Senders read this. What is on its way already was timed, or not, by the old level.
    cell.mailbox.timed = LEVELS[level]
    if not LEVELS[level]:
        # What was measured has been told to whoever scrapes; it never goes back.
        cell.system.gone_sums_of(cell).add_times(cell.meter)
        cell.meter = None
    elif cell.meter is None:
        cell.meter = Meter()
    cell.senders = {} if level == "full" else None


class Figures:
    """Base of the frozen records here: attributes to read, `to_json()` for what leaves the process.

    Keys are the names of the attributes, but `class` for `class_name`; tuples become lists.
    """

    __slots__ = ()

    def to_json(self) -> dict[str, object]:
        """Call this to get the record as plain data; every key is always there."""
        names: Iterable[str] = getattr(self, "__dataclass_fields__", ())
        return {_KEYS.get(name, name): _plain(getattr(self, name)) for name in names}


# A word of Python cannot be the name of an attribute.
_KEYS: Final[Mapping[str, str]] = {"class_name": "class"}


def _plain(value: object) -> object:
    match value:
        case Figures() | ExitSummary():
            return value.to_json()
        case tuple():
            return [_plain(one) for one in value]
        case Mapping():
            return dict(value)
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Current(Figures):
    """The message in hand; `since` is when its handler began to wait, None while it computes."""

    message: str
    message_id: int
    since: float | None


@dataclass(frozen=True, slots=True)
class RestartWindow(Figures):
    """How much of the restart budget is used: `used` of `max` in `period` seconds."""

    used: int
    max: int
    period: float


@dataclass(frozen=True, slots=True)
class SetTimer(Figures):
    """A timer that is set: when it is due (trio's time), and its interval in seconds."""

    due: float
    interval: float | None


@dataclass(frozen=True, slots=True)
class ActorStats(Figures):
    """What is known of one actor. Figures that its level does not measure are None."""

    id: int
    path: str
    # Under which it is registered in the whole system.
    name: str | None
    class_name: str
    # With a task of its own, or given turns by the dispatcher.
    kind: Literal["task", "dispatched"]
    # The path of who restarts it; None without one.
    supervisor: str | None
    # How many times it was started, and when the last time was (trio's time, as all moments).
    incarnation: int
    started_at: float
    status: str
    status_since: float
    # The message in hand, and the path of the actor that its handler waits for.
    current: Current | None
    waiting_on: str | None
    # Messages handled since it was created; messages and entries of the system; their time.
    handled: int | None
    reductions: int | None
    busy_seconds: float | None
    # What waits: messages, entries of the system, messages set aside; the most that ever
    # waited, how many may, and how many senders and askers wait for room.
    queued: int
    system_queued: int
    stashed: int
    peak: int
    capacity: int
    waiting_senders: int
    # Lost at a full mailbox, replaced there, too old when their turn came, without a handler.
    overflowed: int
    coalesced: int
    expired: int
    unhandled: int
    # Asks given up while they waited, replies that came when nobody waited any more.
    withdrawn: int
    late_replies: int
    crashes: int
    restarts: int
    restart_window: RestartWindow | None
    # When its backoff is over.
    next_restart_at: float | None
    # The newest, oldest first.
    last_exits: tuple[ExitSummary, ...]
    # The paths of actors; as of timers, topics and senders 1,000 at most.
    links: tuple[str, ...]
    monitors: tuple[str, ...]
    monitored_by: tuple[str, ...]
    timers: tuple[SetTimer, ...]
    topics: tuple[str, ...]
    # The paths of who has sent it something within the last minute.
    senders: tuple[str, ...] | None
    # Histograms: number i counts times of i bits in microseconds, so 10 is 512 to 1023 us. How
    # long handlers took, and how long messages had waited.
    handling_us: tuple[int, ...] | None
    queue_us: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class ActorStatus(ActorStats):
    """The same with the state of the actor, redacted and cut; `to_json()` is ready for JSON."""

    state: object


@dataclass(frozen=True, slots=True)
class SystemStats(Figures):
    """The sums of a system; `System.totals` reads them."""

    # Since it was opened.
    spawned: int
    stopped: int
    passivated: int
    restarts: int
    # By reason.
    dead_letters: Mapping[str, int]
    # Now: actors that are not gone, asks that wait, timers, actors that wait for a turn.
    actors: int
    asks_open: int
    timers: int
    run_queue: int
    # How late the loop came: a histogram as in `ActorStats`.
    loop_lag_us: tuple[int, ...]


def actor_stats(cell: Cell) -> ActorStats:
    """Call this to read everything that is known of an actor."""
    counts, mailbox, life, meter = cell.counts, cell.mailbox, cell.life, cell.meter
    counted, queued, kind = cell.level != "off", mailbox.queued, cell.actor_class
    return ActorStats(
        id=cell.id,
        path=cell.path,
        name=cell.name,
        class_name="" if kind is None else kind.__qualname__,
        kind="task" if kind is not None and kind.__table__.is_task else "dispatched",
        supervisor=cell.path.rpartition("/")[0] or None,
        incarnation=cell.incarnation,
        started_at=cell.started_at,
        status=cell.status,
        status_since=cell.status_since,
        current=_current(cell),
        waiting_on=None if cell.waiting_on is None else cell.waiting_on.path,
        handled=counts.handled if counted else None,
        reductions=counts.reductions if counted else None,
        busy_seconds=None if meter is None else meter.busy_seconds,
        queued=queued,
        system_queued=mailbox.system_queued,
        stashed=len(life.stash) if life is not None and life.stash else 0,
        peak=max(mailbox.peak, queued),
        capacity=mailbox.capacity,
        waiting_senders=mailbox.waiting_senders,
        overflowed=counts.overflowed,
        coalesced=counts.coalesced,
        expired=counts.expired,
        unhandled=counts.unhandled,
        withdrawn=counts.withdrawn,
        late_replies=counts.late_replies,
        crashes=counts.crashes,
        restarts=counts.restarts,
        restart_window=None if cell.restart_window is None else RestartWindow(*cell.restart_window),
        next_restart_at=cell.next_restart_at,
        last_exits=tuple([exit_.summary() for exit_ in cell.last_exits]),
        links=_named(peer.path for peer in cell.links or ()),
        monitors=_monitors(life),
        monitored_by=_monitored_by(cell),
        timers=_timers(life),
        topics=_named(cell.topics or ()),
        senders=_senders(cell),
        handling_us=None if meter is None else tuple(meter.handling_us),
        queue_us=None if meter is None else tuple(meter.queue_us),
    )


def _named(paths: Iterable[str]) -> tuple[str, ...]:
    """In order, RELATIONS_MAX of them at most: those that came first."""
    return tuple(sorted(islice(paths, RELATIONS_MAX)))


def _monitors(life: Life | None) -> tuple[str, ...]:
    return () if life is None else _named(one.target.path for one in life.monitors or ())


def _monitored_by(cell: Cell) -> tuple[str, ...]:
    # Whoever waits for the end from outside has no path.
    return _named(filter(None, (getattr(one, "watcher", "") for one in cell.watchers or ())))


def _timers(life: Life | None) -> tuple[SetTimer, ...]:
    if life is None or not life.timers:
        return ()
    timers = islice(life.timers.values(), RELATIONS_MAX)
    return tuple(SetTimer(timer.due, timer.interval) for timer in timers)


def _current(cell: Cell) -> Current | None:
    life = cell.life
    if life is None or life.activity.cell is not cell or life.activity.envelope is None:
        return None
    message, message_id, *_ = life.activity.envelope
    return Current(class_name(type(message)), message_id, life.awaiting_since)


def _senders(cell: Cell) -> tuple[str, ...] | None:
    if not cell.senders:
        return None if cell.senders is None else ()
    forget_senders(cell.senders, perf_counter() - SENDERS_WINDOW_S)
    return tuple(sorted(cell.senders))


def actor_status(cell: Cell) -> ActorStatus:
    """Call this to read an actor's figures and its state, redacted, cut, ready for JSON."""
    life = cell.life
    state: object = None
    if life is not None and life.instance is not None:
        state = redacted_state(cell, life.instance)
    stats = actor_stats(cell)
    told = {name: getattr(stats, name) for name in ActorStats.__dataclass_fields__}
    return ActorStatus(**cast("dict[str, Never]", told), state=state)
