"""Looks through the spans of the last seconds, and keeps what is to be kept (OBS-4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from actors.runtime import Actor, Exit, message
from actors.runtime.telling.spans import Record, Spans
from web.observability.operating.traces.kept import KeptTraces

# Often enough that the ring holds what came since at 40,000 spans a second.
SWEEP_S: Final = 0.5


@message
class Sweep:
    """Time to look."""


class TraceSweeper(Actor[Sweep]):
    """Looks twice a second; `further` is given what is kept since the last look."""

    def __init__(
        self,
        spans: Callable[[], Spans | None],
        kept: KeptTraces,
        further: Callable[[Sequence[Record]], None],
    ) -> None:
        self._spans, self._kept, self._further = spans, kept, further

    def on_start(self) -> None:
        """Begin."""
        self.every(SWEEP_S, Sweep())

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Look a last time."""
        self._look()

    def on_sweep(self, _: Sweep) -> None:
        """Look."""
        self._look()

    def _look(self) -> None:
        spans = self._spans()
        if spans is None:
            return
        added = self._kept.look(spans, spans.tick())
        if added:
            self._further(added)
