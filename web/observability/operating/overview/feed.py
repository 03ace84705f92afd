"""The feed of the overview: what the open pages of operators see of the running process."""

from __future__ import annotations

import trio

from actors.runtime import Actor
from web.observability.operating.overview.reading import PERIOD_S, OverviewSource
from web.realtime import Arrivals, Audience, Stream, joined, patch_elements
from web.server import Frame
from web.views import Renderer


class OverviewFeed(Actor[Arrivals]):
    """Looks every two seconds while somebody watches; with nobody watching it looks at nothing."""

    def __init__(
        self, source: OverviewSource, renderer: Renderer, readers: Audience[Stream]
    ) -> None:
        self._source, self._renderer, self._readers = source, renderer, readers
        self._frame: Frame | None = None
        self._is_looking = False

    def on_start(self) -> None:
        """Go on with the readers of an incarnation before."""
        self._readers.want_all()
        self._look_from_now()

    def on_arrivals(self, _: Arrivals) -> None:
        """Send what is known at once, then each look."""
        if self._frame is not None:
            self._serve(self._frame)
        self._look_from_now()

    def _look_from_now(self) -> None:
        if self._readers and not self._is_looking:
            self._is_looking = True
            self.start_soon(self._look)

    async def _look(self) -> None:
        try:
            with self._source.watching():
                while self._readers:
                    html = self._renderer.overview(await self._source.read())
                    self._frame = joined([patch_elements(html)])
                    self._readers.want_all()
                    self._serve(self._frame)
                    await trio.sleep(PERIOD_S)
        finally:
            self._is_looking, self._frame = False, None

    def _serve(self, frame: Frame) -> None:
        for stream in self._readers.take_waiting():
            stream.put_panel("overview", frame)
