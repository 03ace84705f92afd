"""Which figures a site tells, and to whom: the collectors of what stands between it and the net.

What the store has is registered by the composition root, which alone knows its adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from actors.runtime import System
from actors.runtime.words.tallies import Tallies
from supervision import ChildSpec
from web.observability.metrics.collectors import (
    RequestTallies,
    SocketsLike,
    of_actors,
    of_sockets,
    of_streams,
    of_tallies,
)
from web.observability.metrics.scraping import Metrics
from web.observability.metrics.serving import MetricsServer
from web.realtime import Streams
from web.routing import paths
from web.server import RequestSpan
from web.settings import Settings

# Where somebody says who they are, and how.
WAYS_IN: Final[Mapping[str, str]] = {
    paths.LOGIN: "password",
    paths.LOGIN_SECOND: "second_factor",
    paths.LOGIN_PASSKEY: "passkey",
    paths.LOGIN_SECOND_PASSKEY: "second_factor",
    paths.LOGIN_LINK_OPEN: "magic_link",
    paths.LINK_VERIFY: "magic_link",
    paths.API_PASSKEY_ENTER: "passkey",
    paths.RECOVERY: "recovery",
    paths.RECOVERY_FINISH: "recovery",
}


class SiteMetrics:
    """The figures of a site: `tallies` for who counts, `metrics` for who scrapes."""

    def __init__(
        self,
        settings: Settings,
        system: Callable[[], System],
        streams: Callable[[], Streams],
        sockets: Callable[[], SocketsLike | None],
    ) -> None:
        self._settings = settings
        self.tallies = Tallies()
        self._requests = RequestTallies(self.tallies, WAYS_IN)
        collectors = [
            of_actors(system), of_tallies(self.tallies), of_streams(streams), of_sockets(sockets),
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
