"""Keeps mails: for tests, which read them as their recipient would."""

from collections import deque
from collections.abc import Sequence

from web.mail.answers import Answer, Verdict
from web.mail.senders.port import BeforeLeaving, MayNotLeave, Outgoing

# A test reads some; a program left running keeps the newest.
KEPT_MAX = 1000


class MemorySender:
    """The way out of tests: `outbox_of(address)` are the mails that somebody has got."""

    def __init__(self) -> None:
        self._kept: deque[Outgoing] = deque(maxlen=KEPT_MAX)

    async def send(self, outgoing: Outgoing, before_leaving: BeforeLeaving) -> Answer:
        """See `Sender.send`."""
        if not await before_leaving():
            raise MayNotLeave
        self._kept.append(outgoing)
        return Answer(Verdict.SENT, "kept in memory")

    async def close_idle(self) -> None:
        """See `Sender.close_idle`: nothing is kept open."""

    async def close(self) -> None:
        """See `Sender.close`."""

    def outbox_of(self, address: str) -> Sequence[Outgoing]:
        """Call this for what was sent to an address, the oldest first."""
        return [one for one in self._kept if one.mail.to == address]
