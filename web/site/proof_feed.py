"""The figures on the home page, sent to its open streams at most once a second, when changed.

Nothing shown is a constant: each figure is read from the running process (SITE-6).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from actors.runtime import Actor, message
from web.realtime import Stream, joined, patch_elements
from web.views import ProofView, Renderer

# SITE-6: live, and no more than a person can read.
PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class ProofSource:
    """Where each figure comes from."""

    actors_alive: Callable[[], int]
    open_streams: Callable[[], int]
    messages_delivered: Callable[[], int]
    restarts: Callable[[], tuple[int, float | None]]
    uptime_s: Callable[[], int]

    def view(self) -> ProofView:
        """Call this to read all figures now."""
        restarts_survived, last_restart_ms = self.restarts()
        return ProofView(
            actors_alive=self.actors_alive(),
            open_streams=self.open_streams(),
            messages_delivered=self.messages_delivered(),
            restarts_survived=restarts_survived,
            last_restart_ms=last_restart_ms,
            uptime_s=self.uptime_s(),
        )


@message
class ProofReaderJoined:
    """A stream shows the figures from now on."""

    stream: Stream


@message
class ProofReaderLeft:
    """A stream shows them no more."""

    stream: Stream


@message
class Look:
    """Time to see whether a figure changed."""


Messages = ProofReaderJoined | ProofReaderLeft | Look


class ProofFeed(Actor[Messages]):
    """Sends the figures to who watches them; with nobody watching it looks at nothing."""

    def __init__(
        self, source: ProofSource, renderer: Renderer, readers: dict[Stream, None]
    ) -> None:
        self._source, self._renderer, self._readers = source, renderer, readers
        self._sent: ProofView | None = None

    def on_start(self) -> None:
        """Go on with the readers of an incarnation before."""
        if self._readers:
            self.after(PERIOD_S, Look(), key="look")

    def on_proof_reader_joined(self, message: ProofReaderJoined) -> None:
        """Send the figures at once, then as they change."""
        if not self._readers:
            self.after(PERIOD_S, Look(), key="look")
        self._readers[message.stream] = None
        view = self._source.view()
        message.stream.put_panel("proof", joined([patch_elements(self._renderer.proof(view))]))

    def on_proof_reader_left(self, message: ProofReaderLeft) -> None:
        """Send it nothing more."""
        self._readers.pop(message.stream, None)

    def on_look(self, _: Look) -> None:
        """Send the figures if one of them changed; the page counts the seconds by itself."""
        if not self._readers:
            return
        self.after(PERIOD_S, Look(), key="look")
        view = self._source.view()
        same_time = replace(view, uptime_s=0)
        if same_time == self._sent:
            return
        self._sent = same_time
        frame = joined([patch_elements(self._renderer.proof(view))])
        for stream in self._readers:
            stream.put_panel("proof", frame)
