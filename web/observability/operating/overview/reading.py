"""One look at a running process: what stands in its figures, and who of its actors is busiest.

Rule 1: with nobody watching nothing is looked at, and no times are taken for this. Several who
        watch have the same look.
Rule 2: a rate needs two looks, and is None in the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest
from typing import Final

import trio

from actors.persistence import StoreError
from actors.runtime import Cell, Log, System
from supervision import DependencyStats
from web.observability.metrics.scraping import Metrics, Scrape
from web.views.moderation import BreakerView, HotActor, Lagging, OverviewView, StatementsView
from web.views.nodes import NodesView

log = Log("web.overview")

# What a person reads as live; what it costs is below a hundredth of a processor.
PERIOD_S: Final = 2.0
HOT_MAX: Final = 8
# Cells looked at in one turn: a quarter of a millisecond.
_SLICE: Final = 200
_NAME_CHARS: Final = 8

# None where the store has none.
ReadStatements = Callable[[], Awaitable[StatementsView | None]]


async def no_statements() -> None:
    """Call this where there is no database that could know."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What an actor had handled, how many of that were timed, and how long those took."""

    count: int
    timed: int
    timed_s: float

    def busy_s(self, was: Handled) -> float:
        """Call this for how long it was at work since: as the timed ones took, so did the others.

        Of a message in sixteen times are taken, and not always of one since the look before.
        """
        timed, took = self.timed - was.timed, self.timed_s - was.timed_s
        if timed <= 0:
            # Or times began anew, where nobody took them in between.
            timed, took = self.timed, self.timed_s
        return (self.count - was.count) * took / timed if timed else 0.0


_NOTHING: Final = Handled(0, 0, 0.0)


@dataclass(slots=True)
class _Before:
    """What the look before counted, for rates."""

    at: float
    messages: float
    events: float | None
    late_us: Sequence[int]
    # By the number of a cell.
    cells: Mapping[int, Handled] = field(default_factory=dict)


class OverviewSource:
    """Reads the overview; `watching` is open for as long as somebody wants it."""

    def __init__(
        self,
        system: Callable[[], System],
        metrics: Metrics,
        breakers: Callable[[], Sequence[DependencyStats]],
        nodes: Callable[[], NodesView | None],
        now: Callable[[], datetime],
        *,
        closed: Container[str] = (),
        is_measured: bool = False,
    ) -> None:
        """Of those below a path of `closed` only the first letters of the name are told.

        `is_measured` says that times are taken anyway.
        """
        self._system, self._metrics = system, metrics
        self._breakers, self._nodes, self._now = breakers, nodes, now
        self._closed, self._is_measured = closed, is_measured
        # Set by the composition root, which alone knows the store.
        self.read_statements: ReadStatements = no_statements
        self._began, self._watchers = trio.current_time(), 0
        self._lock = trio.Lock()
        self._before: _Before | None = None
        self._newest: tuple[float, OverviewView] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Call this around looks: for so long times are taken of all actors."""
        self._watchers += 1
        if self._watchers == 1 and not self._is_measured:
            self._system().measure_all("sampled")
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._before = self._newest = None
                if not self._is_measured:
                    self._system().measure_all("counters")

    async def read(self) -> OverviewView:
        """Call this for a look, or that of whoever looked just before."""
        async with self._lock:
            now = trio.current_time()
            if self._newest is None or now - self._newest[0] >= PERIOD_S / 2:
                self._newest = now, await self._look(now)
            return self._newest[1]

    async def read_rates(self) -> OverviewView:
        """Call this for a look that knows rates: the first takes a second."""
        found = await self.read()
        if found.messages_per_s is not None:
            return found
        await trio.sleep(PERIOD_S / 2)
        return await self.read()

    async def _look(self, now: float) -> OverviewView:
        scrape = await self._metrics.collect()
        system, before = self._system(), self._before
        hot, cells = await self._hot(system, now)
        messages = _sum(scrape, "messages_total") or 0.0
        events, late = _one(scrape, "store_head_position"), system.totals().loop_lag_us
        self._before = _Before(now, messages, events, late, cells)
        passed = 0.0 if before is None else now - before.at
        statements = await self._statements()
        return OverviewView(
            at=self._now(),
            uptime_s=int(now - self._began),
            actors=len(cells),
            streams=int(_sum(scrape, "streams_open") or 0),
            messages_per_s=_rate(messages, None if before is None else before.messages, passed),
            events_per_s=_rate(events, None if before is None else before.events, passed),
            loop_late_ms=None if before is None else late_ms(late, before.late_us),
            pool_in_use=_whole(_one(scrape, "pool_connections", "in_use")),
            pool_max=_whole(_one(scrape, "pool_connections", "max")),
            pool_waiting=_whole(_one(scrape, "pool_waiting")),
            oldest_transaction_s=_one(scrape, "store_oldest_transaction_seconds"),
            outbox=_whole(_sum(scrape, "outbox_pending")),
            outbox_oldest_s=_one(scrape, "outbox_oldest_seconds"),
            letters=_whole(_one(scrape, "dead_letters", "pending")),
            spans_lost=_whole(_added(scrape, "spans_lost_total", "trace_spans_lost_total")),
            nodes=self._nodes(),
            lags=lags_of(scrape),
            breakers=tuple(
                BreakerView(one.name, one.breaker.state, round(one.breaker.retry_in))
                for one in self._breakers()
            ),
            busiest=_largest([one for one in hot if _busy(one) > (0, 0)], _busy),
            fullest=_largest([one for one in hot if one.queued], lambda one: (one.queued, 0)),
            statements=statements,
        )

    async def _statements(self) -> StatementsView | None:
        try:
            return await self.read_statements()
        except StoreError as error:
            log.info("overview.no_statements", error=type(error).__name__)
            return None

    async def _hot(self, system: System, now: float) -> tuple[list[HotActor], dict[int, Handled]]:
        """Those who did anything since the look before, or for whom something waits."""
        before = self._before
        passed = 0.0 if before is None else now - before.at
        hot: list[HotActor] = []
        cells: dict[int, Handled] = {}
        for number, cell in enumerate(system.cells(), 1):
            was = _NOTHING if before is None else before.cells.get(cell.id, _NOTHING)
            # Of most nothing is new, and then nothing is added up.
            counted = cells[cell.id] = was if cell.counts.handled == was.count else _handled(cell)
            if cell.mailbox.queued or (passed and counted is not was):
                hot.append(self._hot_actor(cell, counted, was, passed))
            if number % _SLICE == 0:
                await trio.lowlevel.checkpoint()
        return hot, cells

    def _hot_actor(self, cell: Cell, counted: Handled, was: Handled, passed: float) -> HotActor:
        above, _, name = cell.path.rpartition("/")
        kind = "actor" if cell.actor_class is None else cell.actor_class.__name__
        is_timed = passed > 0 and cell.meter is not None
        return HotActor(
            f"{above}/{name[:_NAME_CHARS]}" if above in self._closed else cell.path,
            kind,
            round((counted.count - was.count) / passed, 1) if passed else 0.0,
            # One message after the other: it has no more time than there is.
            round(min(100.0, 100 * counted.busy_s(was) / passed), 1) if is_timed else None,
            cell.mailbox.queued,
            cell.mailbox.capacity,
        )


def _largest(
    found: Sequence[HotActor], key: Callable[[HotActor], tuple[float, float]]
) -> tuple[HotActor, ...]:
    return tuple(nlargest(HOT_MAX, found, key=key))


def _handled(cell: Cell) -> Handled:
    meter = cell.meter
    if meter is None:
        return Handled(cell.counts.handled, 0, 0.0)
    return Handled(cell.counts.handled, sum(meter.handling_us), meter.busy_seconds)


def _busy(one: HotActor) -> tuple[float, float]:
    return one.busy_percent or 0.0, one.handled_per_s


def _added(scrape: Scrape, *names: str) -> float | None:
    """The sum of several, as far as they are known."""
    found = [number for name in names if (number := _sum(scrape, name)) is not None]
    return sum(found) if found else None


def _one(scrape: Scrape, name: str, *labels: str) -> float | None:
    return scrape.numbers.get(name, {}).get(labels)


def _sum(scrape: Scrape, name: str) -> float | None:
    found = scrape.numbers.get(name)
    return None if found is None else sum(found.values())


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _rate(now: float | None, before: float | None, passed: float) -> float | None:
    if now is None or before is None or passed <= 0:
        return None
    return round(max(0.0, now - before) / passed, 1)


def late_ms(late: Sequence[int], before: Sequence[int]) -> float | None:
    """Call this for how late the latest turn of a hundred came, at most, by counters of bits."""
    new = [one - was for one, was in zip(late, before, strict=True)]
    left = sum(new) * 0.01
    if not left:
        return None
    for bits in reversed(range(len(new))):
        left -= new[bits]
        if left < 0:
            return round(float(2**bits) / 1000, 3)
    return 0.0


def _rounded(scrape: Scrape, name: str, projection: str) -> float | None:
    found = _one(scrape, name, projection)
    return None if found is None else round(found, 1)


def _rebuilt_percent(scrape: Scrape, projection: str) -> float | None:
    ratio = _one(scrape, "projection_rebuild_ratio", projection)
    return None if ratio is None or ratio >= 1 else round(ratio * 100, 1)


def lags_of(scrape: Scrape) -> tuple[Lagging, ...]:
    """Call this for who is behind, the furthest first, as a scrape knows it."""
    found = [
        Lagging(
            name,
            int(number),
            _one(scrape, "projection_lag_seconds", name) or 0.0,
            _rounded(scrape, "projection_events_per_second", name),
            _rounded(scrape, "projection_eta_seconds", name),
            _rebuilt_percent(scrape, name),
        )
        for (name,), number in scrape.numbers.get("projection_lag_events", {}).items()
    ]
    found += [
        Lagging(
            f"{labels[1]} of {labels[0]}",
            int(number),
            _one(scrape, "bus_lag_seconds", *labels) or 0.0,
        )
        for labels, number in scrape.numbers.get("bus_lag_records", {}).items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.seconds, -one.behind, one.name)))
