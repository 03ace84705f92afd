"""The overview as rows of the control socket, and as a page of a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import trio

from web.observability.operating.control.serving import Tell
from web.observability.operating.overview.reading import PERIOD_S, OverviewSource


class TopCommand:
    """`top`: the overview once, or until who asked leaves."""

    def __init__(self, source: OverviewSource) -> None:
        self._source = source

    async def tell(self, words: Mapping[str, object], tell: Tell) -> None:
        """Tell one look, or one every two seconds."""
        with self._source.watching():
            while True:
                await tell(asdict(await self._source.read_rates()))
                if words.get("once") is True:
                    return
                await trio.sleep(PERIOD_S)
