"""A site's traces: where each begins, who keeps them, and who is shown them.

Rule 1: each request begins one, or goes on with that of its client; probes and files do not.
Rule 2: which trace is a browser's own is told by a digest of its session, which is shown to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from actors.runtime import System
from actors.runtime.delivery.envelope import child_of
from actors.runtime.telling.spans import TRACEPARENT_CHARS, Record, Spans, root_of
from actors.runtime.words.tallies import Tallies
from supervision import ChildSpec, Dependency
from web.observability.metrics.scraping import Scrape
from web.observability.operating.traces.examples import Examples
from web.observability.operating.traces.exporting.exporter import SHUTDOWN_S, TraceExporter
from web.observability.operating.traces.exporting.sending import OtlpCollector
from web.observability.operating.traces.exporting.waiting import WaitingSpans
from web.observability.operating.traces.kept import OWNER, REQUEST, KeptTraces
from web.observability.operating.traces.sweeping import TraceSweeper
from web.routing import paths
from web.server import RequestSpan, RequestState, TellBegin, TellSpan
from web.settings import Settings, Tracing

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Asked for far more often than all else, and by machines.
_UNTRACED: Final = ("/static/", "/health", "/ready", paths.METRICS, paths.FAVICON)


class SiteTraces:
    """The traces of a site, from its requests to its pages."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        tallies: Tallies,
        guard: Dependency | None,
    ) -> None:
        """`guard` stands before the collector; without one nothing is exported."""
        self._settings, self._tallies, self._guard = settings, tallies, guard
        self._is_on = settings.tracing is Tracing.ON
        self._now = now
        self.spans: Spans | None = None
        self.kept = KeptTraces()
        self.examples = Examples(self._class_at)
        self._system: System | None = None
        self.further: Callable[[Sequence[Record]], None] = _nowhere

    def begin(self, system: System) -> None:
        """Call this when the tree starts."""
        if self._is_on:
            self._system, self.spans = system, system.trace()

    def children(self) -> list[ChildSpec]:
        """Call this for who keeps what is to be kept."""
        if not self._is_on:
            return []
        sweeper = ChildSpec(
            "traces", lambda: TraceSweeper(lambda: self.spans, self.kept, self._tell)
        )
        # The sweeper stops first: what it finds at its last look goes out too.
        return [*self._exporting(), sweeper]

    def _exporting(self) -> list[ChildSpec]:
        endpoint, guard = self._settings.otlp_endpoint, self._guard
        if endpoint is None or guard is None:
            return []
        collector = OtlpCollector(guard, endpoint, self._settings.otlp_headers)
        waiting = WaitingSpans(self._tallies)
        self.further = waiting.put

        def make() -> TraceExporter:
            spans, tallies = self.spans, self._tallies
            assert spans is not None, "it began before its children"
            whose = _resource(self._settings)
            return TraceExporter(waiting, collector.take, spans.read, self._zero_ns, whose, tallies)

        return [ChildSpec("otlp", make, shutdown=SHUTDOWN_S)]

    def _zero_ns(self) -> int:
        return (self.time_of(0.0) - _EPOCH) // timedelta(microseconds=1) * 1000

    def _tell(self, added: Sequence[Record]) -> None:
        self.examples.note(added)
        self.further(added)

    def _class_at(self, path: str) -> type | None:
        cell = None if self._system is None else self._system.at(path)
        return None if cell is None else cell.actor_class

    def put_examples(self, scrape: Scrape) -> None:
        """Call this with a scrape whose figures are there."""
        if self.spans is not None:
            self.examples.put(scrape, self.spans.tick())

    def begins(self, further: TellBegin) -> TellBegin:
        """Call this for what the edge tells of a request that has come in; `further` hears it."""

        def begin(method: str, path: str, state: RequestState) -> None:
            further(method, path, state)
            spans = self.spans
            if spans is None or path.startswith(_UNTRACED):
                return
            above = state.traceparent
            if above is None or len(above) != TRACEPARENT_CHARS:
                above = root_of(os.urandom(16).hex())
            state.above, state.traceparent = above, child_of(above, spans.new_id())

        return begin

    def ends(self, further: TellSpan) -> TellSpan:
        """Call this for what the edge tells of a request that was answered."""

        def tell(span: RequestSpan) -> None:
            further(span)
            spans = self.spans
            if spans is not None and span.above is not None and span.traceparent is not None:
                self._record(spans, span, span.above, span.traceparent)

        return tell

    def _record(self, spans: Spans, span: RequestSpan, above: str, own: str) -> None:
        status, began = span.status or 0, spans.time_of(span.began)
        spans.add(
            (
                REQUEST,
                above,
                own[36:52],
                None,
                0,
                began,
                began + span.latency_s,
                "",
                span.correlation_id or span.request_id,
                str(status) if status >= 500 else "",
                {
                    "method": span.method,
                    "route": span.route,
                    "status": span.status,
                    OWNER: None if span.session_id is None else owner_of(span.session_id),
                },
            )
        )

    def time_of(self, at: float) -> datetime:
        """Call this for the date of a time of the spans, which there are."""
        assert self.spans is not None, "something has a time"
        return self._now() + timedelta(seconds=at - self.spans.tick())


def _resource(settings: Settings) -> Mapping[str, str]:
    """Whose spans they are, by the names that OpenTelemetry has for it."""
    found = {"service.name": settings.otel_service_name}
    if settings.node_name is not None:
        found["service.instance.id"] = settings.node_name
    return found


@lru_cache(1024)
def owner_of(session: str) -> str:
    """Call this for the name under which a session's traces are found."""
    return blake2b(session.encode(), digest_size=12).hexdigest()


def _nowhere(_: Sequence[Record]) -> None:
    return None
