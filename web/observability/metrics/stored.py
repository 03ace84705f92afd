"""What is looked up when a scrape comes: the store's tables, projections, the bus.

Each keeps what it found for some seconds, so that several who scrape cost no more than one. What
does not answer in time is absent from that scrape, and the next one tries again: a figure that is
not known is no figure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import trio

from actors.persistence import EventStore, ProjectionStore, StoreError
from actors.persistence.projections.store import Checkpoint, GenerationState, serves
from actors.persistence.words import Cursor, Lag
from actors.runtime import Log
from web.observability.bus_lag import GroupLag
from web.observability.metrics.scraping import Collector, Scrape

log = Log(__name__)

# Prometheus asks every 15 s or more rarely; two of them ask for the same.
KEPT_S: Final = 5.0
LOOK_S_MAX: Final = 2.0
_STATUSES: Final = ("pending", "processing", "resolved", "discarded")
_KINDS: Final = ("bus", "command", "mail", "hook")


class Figures(Protocol):
    """How the tables of a store are."""

    @property
    def outbox(self) -> Mapping[str, int]:
        """How many wait, by kind."""

    @property
    def outbox_oldest_s(self) -> float:
        """How long the oldest does."""

    @property
    def letters(self) -> Mapping[str, int]:
        """Dead letters by status."""

    @property
    def parked(self) -> Mapping[str, int]:
        """Events set aside, by projection."""

    @property
    def sagas_running(self) -> Mapping[str, int]:
        """By kind."""

    @property
    def sagas_stuck(self) -> Mapping[str, int]:
        """By kind."""

    @property
    def timers(self) -> int:
        """Timers that are set."""

    @property
    def sign_ins(self) -> int:
        """Sign-ins that have not ended."""

    @property
    def moderation_queue(self) -> int:
        """Messages that wait for a moderator."""

    @property
    def head(self) -> int:
        """Position of the newest event."""

    @property
    def oldest_transaction_s(self) -> float:
        """How long the oldest transaction is open that has written."""

    @property
    def archive_waiting_s(self) -> float:
        """How long the oldest part of the database's log waits to be archived."""


class PoolLike(Protocol):
    """Connections in use, idle, and who waits for one."""

    @property
    def in_use(self) -> int: ...
    @property
    def idle(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def connections_max(self) -> int: ...


Look = Callable[[Scrape], Awaitable[None]]


class Kept:
    """A look whose figures count for some seconds; see the module."""

    def __init__(self, name: str, look: Look) -> None:
        self._name, self._look = name, look
        self._found: Scrape | None = None
        self._found_at = -KEPT_S
        self._is_away = False

    async def __call__(self, scrape: Scrape) -> None:
        """Tell what is known; look again when that is old."""
        if trio.current_time() - self._found_at >= KEPT_S:
            self._found = await self._looked()
            self._found_at = trio.current_time()
        if self._found is not None:
            for name, rows in self._found.numbers.items():
                for labels, number in rows.items():
                    scrape.put(name, number, *labels)

    async def _looked(self) -> Scrape | None:
        found = Scrape()
        try:
            with trio.fail_after(LOOK_S_MAX):
                await self._look(found)
        except (StoreError, trio.TooSlowError) as error:
            if not self._is_away:
                log.warning("metrics.not_known", of=self._name, error=type(error).__name__)
            self._is_away = True
            return None
        self._is_away = False
        return found


def of_store(read: Callable[[], Awaitable[Figures]], letters_max: int) -> Collector:
    """Call this for the tables; `letters_max` is how many dead letters there may be."""

    async def look(found: Scrape) -> None:
        figures = await read()
        for kind in _KINDS:
            found.put("outbox_pending", figures.outbox.get(kind, 0), kind)
        found.put("mail_queue", figures.outbox.get("mail", 0))
        found.put("outbox_oldest_seconds", figures.outbox_oldest_s)
        for status in _STATUSES:
            found.put("dead_letters", figures.letters.get(status, 0), status)
        full = sum(figures.letters.values()) / letters_max
        found.put("dead_letters_fullness_ratio", full)
        for name, number in figures.parked.items():
            found.put("projection_parked", number, name)
        for kind in {*figures.sagas_running, *figures.sagas_stuck}:
            found.put("saga_running", figures.sagas_running.get(kind, 0), kind)
            found.put("saga_stuck", figures.sagas_stuck.get(kind, 0), kind)
        found.put("timers_pending", figures.timers)
        found.put("sessions_active", figures.sign_ins)
        found.put("moderation_queue", figures.moderation_queue)
        found.put("store_head_position", figures.head)
        found.put("store_oldest_transaction_seconds", figures.oldest_transaction_s)
        found.put("store_archive_waiting_seconds", figures.archive_waiting_s)

    return Kept("store", look)


def of_pool(read: Callable[[], PoolLike]) -> Collector:
    """Call this for the connections to the database; nothing is asked of it."""

    async def collect(scrape: Scrape) -> None:
        stats = read()
        scrape.put("pool_connections", stats.in_use, "in_use")
        scrape.put("pool_connections", stats.idle, "idle")
        scrape.put("pool_connections", stats.connections_max, "max")
        scrape.put("pool_waiting", stats.waiting)

    return collect


class _Pace:
    """How fast projections read, from one look to the next."""

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._before: dict[str, tuple[float, Mapping[tuple[int, int], Cursor]]] = {}

    def keep(self, names: Sequence[str]) -> None:
        """Call this with all there are: what is gone is forgotten."""
        self._before = {name: one for name, one in self._before.items() if name in names}

    async def of(
        self, name: str, serving: Sequence[Checkpoint], lags: Sequence[Lag]
    ) -> Mapping[str, float]:
        """Call this for the figures of a projection: of its part that is furthest behind.

        Without those that nobody can know: at the first look, and of one that stands still, when
        it will be there.
        """
        now, before = trio.current_time(), self._before.get(name)
        self._before[name] = (
            now,
            {(one.generation, one.partition): one.cursor for one in serving},
        )
        slowest, lag = max(zip(serving, lags, strict=True), key=lambda pair: pair[1].events)
        figures = {} if lag.events else {"projection_eta_seconds": 0.0}
        if before is None or (slowest.generation, slowest.partition) not in before[1]:
            return figures
        began, cursors = before
        passed = await self._events.lag(cursors[slowest.generation, slowest.partition])
        rate = max(0.0, (passed.events - lag.events) / (now - began))
        figures["projection_events_per_second"] = rate
        if lag.events and rate:
            figures["projection_eta_seconds"] = lag.events / rate
        return figures


def of_projections(projections: ProjectionStore, events: EventStore) -> Collector:
    """Call this for how far each projection is behind that readers read."""

    pace = _Pace(events)

    async def look(found: Scrape) -> None:
        names = await projections.names()
        pace.keep(names)
        for name in names:
            checkpoints = await projections.checkpoints(name)
            serving = [one for one in checkpoints if serves(one)]
            lags = [await events.lag(one.cursor) for one in serving]
            if lags:
                found.put("projection_lag_events", max(lag.events for lag in lags), name)
                found.put("projection_lag_seconds", max(lag.seconds for lag in lags), name)
                for figure, number in (await pace.of(name, serving, lags)).items():
                    found.put(figure, number, name)
            building = [one for one in checkpoints if one.state is GenerationState.BUILDING]
            ratio = 1.0
            if building:
                whole = await events.lag(None)
                left = max([(await events.lag(one.cursor)).events for one in building])
                ratio = 1.0 - left / whole.events if whole.events else 1.0
            found.put("projection_rebuild_ratio", max(0.0, ratio), name)

    return Kept("projections", look)


def of_bus(newest: Callable[[], Sequence[GroupLag]]) -> Collector:
    """Call this for how far groups are behind; who keeps it looks again while it is read."""

    async def collect(scrape: Scrape) -> None:
        for group in newest():
            for topic, (records, seconds) in group.by_topic().items():
                scrape.put("bus_lag_records", records, topic, group.group)
                scrape.put("bus_lag_seconds", seconds, topic, group.group)

    return collect
