"""The day of a recovery is over: who has the account hears of it (AUTH-10).

Rule: the store is the timer, and gives each to one process. What a process that died had not told
is told by the next one, later and once.
"""

from collections.abc import Callable, Sequence

from actors.accounts.kept.recoveries import READY_MAX, Known, Recoveries, Recovery, Telling
from actors.persistence.errors import StoreError
from actors.persistence.words import OutboxMessage
from actors.runtime import Actor, Log, message

# Of a day's wait nobody feels a minute.
LOOK_S = 60.0
# Behind a full look there may be more.
PAUSE_S = 0.1

_log = Log("actors.accounts")

# The mails to those who are known, that its day is over.
TellReady = Callable[[Recovery, Known], Sequence[OutboxMessage]]


@message
class LookForReady:
    """Time to look; the teller tells it itself."""


class RecoveryTeller(Actor[LookForReady]):
    """Tells that recoveries are ready, one after the other. `wake` lets the mails leave."""

    def __init__(
        self, recoveries: Recoveries, tell_ready: TellReady, wake: Callable[[], None]
    ) -> None:
        self._recoveries, self._tell_ready, self._wake = recoveries, tell_ready, wake
        self.told = 0

    def on_start(self) -> None:
        """Begin at once: what became ready while nobody ran is told."""
        self.after(0.0, LookForReady(), key="look")

    async def on_look_for_ready(self, _: LookForReady) -> None:
        """Tell of what is ready."""
        self.after(LOOK_S, LookForReady(), key="look")
        before = self.told
        try:
            due = await self._recoveries.due(READY_MAX)
            for one in due:
                await self._tell(one)
        except StoreError as error:
            _log.warning("accounts.recoveries_wait", code=error.code)
            return
        finally:
            if self.told > before:
                self._wake()
        if len(due) >= READY_MAX and self.told > before:
            self.after(PAUSE_S, LookForReady(), key="look")

    async def _tell(self, one: Recovery) -> None:
        known = await self._recoveries.known(one.user_id)
        if known is None:
            return
        outbox = self._tell_ready(one, known)
        if not outbox:
            return  # a site that has no address yet: it is told at the next look
        telling = Telling(known.emails, outbox)
        if await self._recoveries.make_ready(one.id, telling):
            self.told += 1
            _log.info("accounts.recovery_ready", user_id=str(one.user_id))
