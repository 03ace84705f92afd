"""What is read from those who count in this process: actors, connections, requests.

Each takes what it reads by a function: what it is about may be made anew, and is found then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from actors.runtime import System
from actors.runtime.telling.log import criticals
from actors.runtime.telling.spans import SLOW_S, is_sampled
from actors.runtime.words.counting import COUNTERS, MICRO, KindSums
from actors.runtime.words.tallies import Count, Histogram, Tallies
from supervision import BreakerStats, DependencyStats
from web.observability.alerts import Alert, WayIn
from web.observability.metrics.scraping import Collector, Scrape
from web.realtime import Outlet, SocketSums, Streams
from web.server import RequestSpan

# Counter `i` of the runtime is of times up to 2**i microseconds. Below half a millisecond they are
# told together, and above 17 s, as every histogram here is (OBS-2).
_FIRST: Final = 9
_LAST: Final = 24
RUNTIME_BOUNDS: Final = tuple([2**i / MICRO for i in range(_FIRST, _LAST + 1)])
# So many readers are looked at in half a millisecond.
READERS_SLICE: Final = 256
# What took no route of the table: files, and addresses that are none.
NO_ROUTE: Final = "none"


def of_actors(find: Callable[[], System]) -> Collector:
    """Call this for what a system counts of its actors, by their class, and what they tally."""

    async def collect(scrape: Scrape) -> None:
        system = find()
        scrape.put_tallies(system.tallies)
        for reason, number in system.dead_letters.by_reason.items():
            scrape.put("dead_letters_added_total", number, f"message_{reason}")
        scrape.put("spans_lost_total", 0 if system.spans is None else system.spans.lost)
        sums: dict[str, KindSums] = {}
        for _ in system.add_kinds(sums):
            await scrape.rest()
        for kind, of_kind in sums.items():
            _put_kind(scrape, kind, of_kind)

    return collect


def _put_kind(scrape: Scrape, kind: str, sums: KindSums) -> None:
    scrape.put("messages_total", sums.handled, kind)
    scrape.put("actors", sums.actors, kind)
    scrape.put("mailbox_depth", sums.queued, kind)
    scrape.put("asks_timed_out_total", sums.timed_out, kind)
    scrape.put("restarts_total", sums.restarts, kind)
    scrape.put("crashes_total", sums.crashes, kind)
    for name, counters, total in (
        ("handle_seconds", sums.handling_us, sums.busy_seconds),
        ("queue_seconds", sums.queue_us, sums.waited_seconds),
    ):
        if any(counters):
            scrape.put_buckets(name, RUNTIME_BOUNDS, coarser(counters), total, kind)


def coarser(counters: list[int]) -> list[int]:
    """Call this for the counters of the runtime as buckets of `RUNTIME_BOUNDS`."""
    assert len(counters) == COUNTERS, "a histogram of the runtime"
    return [
        sum(counters[: _FIRST + 1]),
        *counters[_FIRST + 1 : _LAST + 1],
        sum(counters[_LAST + 1 :]),
    ]


def of_tallies(tallies: Tallies) -> Collector:
    """Call this for what an owner keeps by name and labels."""

    async def collect(scrape: Scrape) -> None:
        scrape.put_tallies(tallies)

    return collect


def of_rare(counts: Callable[[], Mapping[Alert, int]]) -> Collector:
    """Call this for what should be rare, and for lines that tell what cannot be (SEC-137)."""

    async def collect(scrape: Scrape) -> None:
        scrape.put("log_critical_total", criticals.total)
        for what, count in counts().items():
            scrape.put("rare", count, what.value)

    return collect


# -- requests --------------------------------------------------------------------------------


class RequestTallies:
    """Counts requests as they are answered; `tell` costs a look into two maps.

    `ways_in` are the routes where somebody says who they are, and by which way.
    """

    def __init__(self, tallies: Tallies, ways_in: Mapping[str, WayIn]) -> None:
        self._tallies, self._ways_in = tallies, ways_in
        # Of routes of the application, and classes of status: both are few.
        self._counts: dict[tuple[str, int], Count] = {}
        self._times: dict[str, Histogram] = {}

    def tell(self, span: RequestSpan) -> None:
        """Call this with each request that was answered."""
        route, status = span.route or NO_ROUTE, (span.status or 0) // 100
        count = self._counts.get((route, status))
        if count is None:
            count = self._begin(route, status)
        count.number += 1
        times = self._times[route]
        times.note(span.latency_s)
        trace = span.traceparent
        if trace is not None and is_kept(span, trace[3:35]):
            times.note_example(span.latency_s, trace[3:35], span.began + span.latency_s)
        if span.status == 429:
            self._tallies.add("rate_limited_total", "http")
        way = self._ways_in.get(route)
        if way is not None and span.method == way.http_method:
            self._tell_try(way, span.status or 0)

    def _begin(self, route: str, status: int) -> Count:
        words = f"{status}xx" if status else "left"
        count = self._counts[route, status] = self._tallies.count(
            "http_requests_total", route, words
        )
        self._times[route] = self._tallies.histogram("http_request_seconds", route)
        return count

    def _tell_try(self, way: WayIn, status: int) -> None:
        if status == 429:
            self._tallies.add("auth_blocked_total", way.name)
            return
        result = "ok" if 200 <= status < 400 else "failed" if status == way.failed else "refused"
        self._tallies.add("auth_attempts_total", way.name, result)


def is_kept(span: RequestSpan, trace: str) -> bool:
    """Whether a request's trace will be kept, as far as is known when it is answered."""
    if span.above is None:
        return False  # Nobody records it.
    return is_sampled(trace) or span.latency_s > SLOW_S or (span.status or 0) >= 500


# -- streams and sockets ---------------------------------------------------------------------


class Sums(Protocol):
    """What readers were sent, and what they were not; those that are gone included."""

    sent: int
    dropped: int


class SocketsLike(Protocol):
    """An endpoint of sockets, whoever its clients are."""

    @property
    def gone(self) -> SocketSums:
        """Of those that are over."""

    def outlets(self) -> Sequence[Outlet]:
        """See `SocketEndpoint.outlets`."""


def of_streams(find: Callable[[], Streams]) -> Collector:
    """Call this for the streams of open pages, walked in slices."""

    async def collect(scrape: Scrape) -> None:
        streams = find()
        # Both in one moment: who closes meanwhile is still read as one that is open.
        sums, waiting, readers = replace(streams.gone), 0, streams.all()
        for at, stream in enumerate(readers, 1):
            sums.add(stream)
            waiting += stream.waiting
            if at % READERS_SLICE == 0:
                await scrape.rest()
        _put_transport(scrape, "sse", len(readers), sums, waiting, streams.refused)
        scrape.put("stream_resyncs_total", sums.resyncs)

    return collect


def of_sockets(find: Callable[[], SocketsLike | None]) -> Collector:
    """Call this for the sockets of client programs, walked in slices."""

    async def collect(scrape: Scrape) -> None:
        sockets = find()
        if sockets is None:
            return
        sums, waiting, readers = replace(sockets.gone), 0, sockets.outlets()
        for at, outlet in enumerate(readers, 1):
            sums.add(outlet)
            waiting += outlet.queued
            if at % READERS_SLICE == 0:
                await scrape.rest()
        _put_transport(scrape, "websocket", len(readers), sums, waiting, sockets.gone.refused)

    return collect


def _put_transport(
    scrape: Scrape, transport: str, open_: int, sums: Sums, waiting: int, refused: int
) -> None:
    scrape.put("streams_open", open_, transport)
    scrape.put("stream_sent_total", sums.sent, transport)
    scrape.put("stream_dropped_total", sums.dropped, transport)
    scrape.put("stream_queue_depth", waiting, transport)
    scrape.put("streams_refused_total", refused, transport)


# -- guards ----------------------------------------------------------------------------------

_STATES: Final[Mapping[str, int]] = {"closed": 0, "open": 1, "half_open": 2}


def of_dependencies(find: Callable[[], Iterable[DependencyStats]]) -> Collector:
    """Call this for what stands around calls to others, each by its name."""

    async def collect(scrape: Scrape) -> None:
        for stats in find():
            name = stats.name
            _put_breaker(scrape, stats.breaker)
            scrape.put("retry_attempts_total", stats.retried, name)
            scrape.put("retry_exhausted_total", stats.exhausted, name)
            scrape.put("bulkhead_in_use", stats.bulkhead.running, name)
            scrape.put("bulkhead_rejected_total", stats.bulkhead.refused, name)
            scrape.put("rate_limited_total", stats.bucket.refused, name)

    return collect


def _put_breaker(scrape: Scrape, stats: BreakerStats) -> None:
    scrape.put("breaker_state", _STATES[stats.state], stats.name)
    scrape.put("breaker_calls_total", stats.successes, stats.name, "ok")
    scrape.put("breaker_calls_total", stats.failures, stats.name, "failed")
    scrape.put("breaker_calls_total", stats.rejections, stats.name, "rejected")


def of_numbers(read: Callable[[], Mapping[str, float]]) -> Collector:
    """Call this for single figures without labels, read when a scrape comes."""

    async def collect(scrape: Scrape) -> None:
        for name, number in read().items():
            scrape.put(name, number)

    return collect


# -- what is kept, and the end ---------------------------------------------------------------


class CacheLike(Protocol):
    """What is kept of what a projection says, and how often that was enough."""

    hits: int
    misses: int


def of_cache(name: str, cache: CacheLike) -> Collector:
    """Call this for a cache, by the name of what it keeps."""

    async def collect(scrape: Scrape) -> None:
        scrape.put("cache_hits_total", cache.hits, name)
        scrape.put("cache_misses_total", cache.misses, name)

    return collect


def of_stop(read: Callable[[], Mapping[str, tuple[float, int]]]) -> Collector:
    """Call this for the phases of a stop under way: how long each took, and what is left."""

    async def collect(scrape: Scrape) -> None:
        for phase, (seconds, left) in read().items():
            scrape.put("shutdown_seconds", seconds, phase)
            scrape.put("shutdown_left", left, phase)

    return collect
