"""The port of the link: bytes to a subject, bytes from a subject, and whether there is a server.

It promises little on purpose. What was published comes once or not at all, in order for one sender
and one subject; nothing is kept for anybody who is not there, nor while the link is down. What must
not be lost goes through the store. Everything else (frames, numbers, windows) stands above it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came by a subject.

    `is_nobody` marks the server's word that nobody heard what was published with this subject as
    its `reply`; then there is no data. Anyone with the account's credentials may forge it.
    """

    subject: str
    data: bytes
    reply: str = ""
    is_nobody: bool = False


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """Whether there is a server, which, and what it takes.

    `connects` rises with each connection: of two statuses that are up with other numbers, the link
    was down between them, and what was under way may be lost.
    """

    is_up: bool
    connects: int
    server: str = ""
    version: str = ""
    payload_bytes_max: int = 0


class LinkSubscription(Protocol):
    """What is heard until it is ended; it outlives reconnects."""

    async def end(self) -> None:
        """Call this to hear no more; what is under way may still be given. Again does nothing."""
        ...


class Link(Protocol):
    """The link of one node. Its own messages do not come back to it."""

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Call this to hand bytes to the link; gives back once they are handed over.

        With `reply` the server answers there when nobody hears the subject. Raises `NoLink` while
        the link is down, and `MessageTooLarge` over the server's limit: nothing was sent, nothing
        is kept. Cancelled, it was handed over or not, never in part.
        """
        ...

    async def subscribe(
        self, pattern: str, hear: Callable[[Delivery], None], *, group: str = ""
    ) -> LinkSubscription:
        """Call this to hear a subject, or all below one by `>` at its end.

        Of those in a `group` one hears each message. `hear` is called in order, must be quick and
        must not raise: it puts what came where somebody waits for it. Once this gives back, what
        is published by anybody is heard. Raises `NoLink` while the link is down.
        """
        ...

    def status(self) -> LinkStatus:
        """Call this for how the link is; waits for nothing."""
        ...

    def watch(self, told: Callable[[LinkStatus], None]) -> None:
        """Call this to be told of each change, in order, at the moment the client reports it."""
        ...
