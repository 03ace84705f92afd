"""Who watches something: the open streams a feed sends to, and who of them waits for it whole.

Rule 1: membership changes at once, by plain calls of whoever opens and closes streams. A feed
that is restarted, behind, or away loses nobody and keeps nobody that is gone.
Rule 2: an `Arrivals` message is only a nudge. Whoever waits is kept here, and a feed looks here
whenever it does anything, so a nudge that is lost costs time and nothing else.
"""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from actors.runtime import NoProc, message

R = TypeVar("R")


@message
class Arrivals:
    """Somebody waits for the whole view."""


class TakesArrivals(Protocol):
    """A feed's ref, as far as a nudge needs it."""

    def tell(self, message: Arrivals, /) -> object:
        """Put the nudge into the feed's mailbox."""


def waker(find: Callable[[], TakesArrivals]) -> Callable[[], None]:
    """Call this to get what nudges the feed that `find` finds; nothing happens while it is away.

    Its next incarnation serves everybody anyway.
    """

    def wake() -> None:
        try:
            feed = find()
        except NoProc:
            return
        feed.tell(Arrivals())

    return wake


class Audience(Generic[R]):
    """The readers of one feed, in the order they came. It outlives the feed's incarnations."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._readers: dict[R, None] = {}
        self._waiting: dict[R, None] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._readers)}, waiting {len(self._waiting)}>"

    def __iter__(self) -> Iterator[R]:
        # A copy: to send to a reader may end it, and then it leaves.
        return iter([*self._readers])

    def __len__(self) -> int:
        return len(self._readers)

    def join(self, reader: R) -> None:
        """Call this when a stream opens: it waits for the whole view, then gets what follows."""
        self._readers[reader] = None
        self.want(reader)

    def leave(self, reader: R) -> None:
        """Call this when a stream closed; harmless when it had left."""
        self._readers.pop(reader, None)
        self._waiting.pop(reader, None)

    def want(self, reader: R) -> None:
        """Call this when a reader fell behind and needs the whole view; not for strangers."""
        if reader in self._readers:
            self._waiting[reader] = None
            self._wake()

    def want_all(self) -> None:
        """Called by a feed that starts: everybody is served anew."""
        self._waiting = dict(self._readers)

    def take_waiting(self) -> list[R]:
        """Called by the feed: who waits now; they are taken as served."""
        # Taken and cleared at once: who wants the view while it is being sent, wants a newer one.
        taken, self._waiting = [*self._waiting], {}
        return taken
