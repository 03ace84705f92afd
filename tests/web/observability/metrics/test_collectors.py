"""What is read from requests, and from what stands around calls to others."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.chat import LOBBY
from actors.chat.newest import NewestCache, NewestWindow
from actors.chat.words import Newest
from actors.runtime import open_actors
from actors.runtime.words.tallies import Tallies
from supervision import (
    BreakerPolicy,
    CircuitOpen,
    Dependencies,
    DependencyPolicy,
    NotRetried,
    RetryPolicy,
)
from web.observability.alerts import WayIn
from web.observability.metrics import Scrape
from web.observability.metrics.collectors import (
    RequestTallies,
    of_actors,
    of_cache,
    of_dependencies,
    of_stop,
)
from web.observability.metrics.scraping import EXAMPLE_S
from web.observability.operating.traces.kept import KEPT_FOR_S
from web.server import RequestSpan


def span(
    path: str, status: int | None, *, method: str = "GET", route: str | None = ""
) -> RequestSpan:
    route = path if route == "" else route
    return RequestSpan(
        method=method, path=path, status=status, latency_s=0.2, request_id="1", route=route
    )


def test_requests_are_told_apart_by_route_and_class_of_status() -> None:  # OBS-1
    tallies = Tallies()
    tell = RequestTallies(tallies, {"/login": WayIn("password")}).tell
    for one in (
        span("/lab", 200), span("/lab", 204), span("/lab", 503), span("/lab", None),
        span("/etc/passwd", 404, route=None), span("/login", 401, method="POST"),
        span("/login", 303, method="POST"), span("/login", 429, method="POST"),
        span("/login", 400, method="POST"),
        span("/login", 200),
    ):  # fmt: skip
        tell(one)
    found = {(name, *labels): number for name, labels, number in tallies.counts()}
    assert found["http_requests_total", "/lab", "2xx"] == 2
    assert found["http_requests_total", "/lab", "5xx"] == 1
    assert found["http_requests_total", "/lab", "left"] == 1
    assert found["http_requests_total", "none", "4xx"] == 1
    assert found["auth_attempts_total", "password", "failed"] == 1
    assert found["auth_attempts_total", "password", "ok"] == 1
    assert found["auth_attempts_total", "password", "refused"] == 1
    assert found["auth_blocked_total", "password"] == 1
    assert found["rate_limited_total", "http"] == 1
    times = {labels: sum(one.counts) for _, labels, one in tallies.histograms()}
    assert times == {("/lab",): 4, ("none",): 1, ("/login",): 5}


async def test_an_example_is_told_as_long_as_its_trace_is_kept(autojump_clock: MockClock) -> None:
    # OBS-7
    tallies = Tallies()
    for value in (0.002, 3.0):
        tallies.histogram("http_request_seconds", "/lab").note_example(
            value, f"{value}", trio.current_time()
        )
        await trio.sleep(KEPT_FOR_S - 1)
    scrape = Scrape()
    scrape.put_tallies(tallies)
    assert KEPT_FOR_S == EXAMPLE_S
    found = scrape.buckets["http_request_seconds"]["/lab",].examples
    assert list(found.values()) == [(3.0, "3.0")]


async def test_spans_that_found_no_room_are_counted() -> None:  # OBS-4
    async with open_actors() as system:
        for lost in (0, 3):
            if lost:
                system.trace().lost = lost
            scrape = Scrape()
            await of_actors(lambda: system)(scrape)
            assert scrape.numbers["spans_lost_total"] == {(): lost}


async def test_dependencies_are_told_by_name(autojump_clock: MockClock) -> None:
    # OBS-1: each attempt beyond the first, and a breaker as it opens
    policy = DependencyPolicy(
        retry=RetryPolicy(attempts=3, first=1.0), breaker=BreakerPolicy(failures=2)
    )
    outside = Dependencies({"mail": policy, "gateway": policy})

    async def fail() -> None:
        raise ConnectionError("away")

    for _ in range(2):
        with pytest.raises(NotRetried):
            await outside.dependency("mail").call(fail)
    with pytest.raises(CircuitOpen):
        await outside.dependency("mail").call(fail)
    scrape = Scrape()
    await of_dependencies(outside.stats)(scrape)
    assert scrape.numbers["breaker_state"] == {("mail",): 1, ("gateway",): 0}
    calls = scrape.numbers["breaker_calls_total"]
    assert [calls["mail", one] for one in ("ok", "failed", "rejected")] == [0, 2, 1]
    assert scrape.numbers["retry_attempts_total"]["mail",] == 4
    assert scrape.numbers["retry_exhausted_total"]["mail",] == 2
    assert scrape.numbers["bulkhead_in_use"]["mail",] == 0


async def test_a_cache_and_a_stop_are_told() -> None:  # OBS-1
    cache, scrape = NewestCache(), Scrape()
    cache.put(LOBBY, NewestWindow(Newest((), 1, has_older=False, waiting=None)), 0.0)
    for at in (0.0, 0.0, 1e6):
        cache.maybe_window(LOBBY, at)
    await of_cache("newest", cache)(scrape)
    await of_stop(lambda: {"actors": (0.5, 3)})(scrape)
    assert scrape.numbers["cache_hits_total"] == {("newest",): 2}
    assert scrape.numbers["cache_misses_total"] == {("newest",): 1}
    assert scrape.numbers["shutdown_seconds"] == {("actors",): 0.5}
    assert scrape.numbers["shutdown_left"] == {("actors",): 3}
