"""Who watches something: the open streams a feed sends to, and who of them waits for it whole.

Rule 1: membership changes at once, by plain calls of whoever opens and closes streams. A feed
that is restarted, behind, or away loses nobody and keeps nobody that is gone.
Rule 2: an `Arrivals` message is only a nudge. Whoever waits is kept here, and a feed looks here
whenever it does anything, so a nudge that is lost costs time and nothing else.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from actors.runtime import NoProc, message

R = TypeVar("R")

# Letters of a mark, none of which means anything in a selector or a header.
_MARK = re.compile(r"[A-Za-z0-9_-]{1,32}")
# A page keeps 100 messages; what claims to hold far more is no page of ours.
MARKS_MAX = 200


@dataclass(frozen=True, slots=True)
class PageHolds:
    """What a page says it shows: the marks of each of its panels, in the order they stand there.

    A mark is the same for the same content only, so a page can be sent what differs. It is no
    secret and no claim: who invents one is sent no more than it may see.
    """

    marks: Mapping[str, tuple[str, ...]]

    def all(self, panel: str) -> tuple[str, ...] | None:
        """Call this for the marks of a panel; None when the page does not say."""
        return self.marks.get(panel)

    def one(self, panel: str) -> str | None:
        """Call this for the mark of a panel that has a single one."""
        marks = self.marks.get(panel)
        return marks[0] if marks is not None and len(marks) == 1 else None


def read_holds(text: str) -> PageHolds | None:
    """Call this to read `tree=k3-5;chat=a,b,c`; None for anything else: the page is sent all.

    Not an error: a page of another version may say it in words of its own, and is served too.
    """
    marks: dict[str, tuple[str, ...]] = {}
    for part in text.split(";"):
        panel, equals, listed = part.partition("=")
        found = tuple(listed.split(",")) if listed else ()
        if not equals or not _MARK.fullmatch(panel) or len(found) > MARKS_MAX:
            return None
        if not all(map(_MARK.fullmatch, found)):
            return None
        marks[panel] = found
    return PageHolds(MappingProxyType(marks))


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
        self._waiting: dict[R, PageHolds | None] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._readers)}, waiting {len(self._waiting)}>"

    def __iter__(self) -> Iterator[R]:
        # A copy: to send to a reader may end it, and then it leaves.
        return iter([*self._readers])

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, reader: object) -> bool:
        return reader in self._readers

    def join(self, reader: R, holds: PageHolds | None = None) -> None:
        """Call this when a stream opens: it waits for the whole view, then gets what follows.

        Of what its page `holds` already it needs not be sent again.
        """
        self._readers[reader] = None
        self.want(reader, holds)

    def leave(self, reader: R) -> None:
        """Call this when a stream closed; harmless when it had left."""
        self._readers.pop(reader, None)
        self._waiting.pop(reader, None)

    def want(self, reader: R, holds: PageHolds | None = None) -> None:
        """Call this when a reader fell behind and needs the whole view; not for strangers."""
        if reader in self._readers:
            self._waiting[reader] = holds
            self._wake()

    def want_all(self) -> None:
        """Called by a feed that starts: everybody is served anew."""
        # Who was not served yet shows what its page came with; of the others nobody knows.
        self._waiting = {reader: self._waiting.get(reader) for reader in self._readers}

    def take_waiting(self) -> dict[R, PageHolds | None]:
        """Called by the feed: who waits now, and what they hold; they are taken as served."""
        # Taken and cleared at once: who wants the view while it is being sent, wants a newer one.
        taken, self._waiting = self._waiting, {}
        return taken
