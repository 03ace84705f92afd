"""Which figures a site tells, and to whom: the collectors of what stands between it and the net.

What the store has is registered by the composition root, which alone knows its adapters.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.runtime import System
from actors.runtime.words.tallies import Tallies
from supervision import ChildSpec
from web.observability.alerts import WAYS_IN, Alerts
from web.observability.metrics.collectors import (
    RequestTallies,
    SocketsLike,
    of_actors,
    of_rare,
    of_sockets,
    of_streams,
    of_tallies,
)
from web.observability.metrics.scraping import Metrics
from web.observability.metrics.serving import MetricsServer
from web.realtime import Streams
from web.server import RequestSpan
from web.settings import Settings


class SiteMetrics:
    """The figures of a site: `tallies` for who counts, `metrics` for who scrapes."""

    def __init__(
        self,
        settings: Settings,
        system: Callable[[], System],
        streams: Callable[[], Streams],
        sockets: Callable[[], SocketsLike | None],
        alerts: Alerts,
    ) -> None:
        self._settings = settings
        self.tallies = Tallies()
        self._requests = RequestTallies(self.tallies, WAYS_IN)
        collectors = [
            of_actors(system), of_tallies(self.tallies), of_streams(streams), of_sockets(sockets),
            of_rare(alerts.counts),
        ]  # fmt: skip
        self.metrics = Metrics(collectors)

    def begin(self, system: System) -> None:
        """Call this when the tree starts: with somebody to read them, times are taken."""
        if self._settings.has_metrics:
            system.measure_all("sampled")

    def heard(self, further: Callable[[RequestSpan], None]) -> Callable[[RequestSpan], None]:
        """Call this for what is told of each request: it is counted, and `further` hears it."""
        tell_count = self._requests.tell

        def tell(span: RequestSpan) -> None:
            tell_count(span)
            further(span)

        return tell

    def children(self) -> list[ChildSpec]:
        """Call this for what serves the figures on a port of their own, where one is set."""
        port = self._settings.metrics_port
        if port is None:
            return []
        return [ChildSpec("metrics", lambda: MetricsServer(self.metrics, port))]
