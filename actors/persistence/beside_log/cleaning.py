"""What is kept for a time only, and the actor that removes it when the time is over.

Each port knows what of it is over, and how long that is kept; here is only when, and how much
at once. Several processes may clean one store: what one removes the others do not find.
"""

from collections.abc import Awaitable, Callable, Mapping

import trio

from actors.persistence.errors import StoreError
from actors.runtime import Actor, Log, message

# What is kept for days need not go to the minute.
EVERY_S = 3600.0
# A start has better things to do.
FIRST_S = 60.0
# One statement's worth: it holds its locks for milliseconds.
CHUNK = 1000
# Between two chunks others have the database; so an hour removes over ten million rows.
PAUSE_S = 0.1

# Removes at most so many, and returns how many it has removed.
Purge = Callable[[int], Awaitable[int]]

_log = Log("actors.persistence")


@message
class CleanUp:
    """Tells the cleaner to begin now; it tells itself so every hour."""


class Cleaner(Actor[CleanUp]):
    """Calls each purge every hour, in chunks of 1,000, until nothing is left to remove.

    `Cleaner({"outbox": outbox.purge, "keys": idempotency.purge})`. `removed` says how many rows
    of each are gone since the start. A purge that the store refuses is tried again at the next
    hour; a stop leaves the rest to it.
    """

    def __init__(self, purges: Mapping[str, Purge]) -> None:
        self._purges = purges
        self.removed = dict.fromkeys(purges, 0)

    async def on_start(self) -> None:
        """Begin in a minute."""
        self.after(FIRST_S, CleanUp(), key="clean")

    async def on_clean_up(self, message: CleanUp) -> None:
        """Remove all that is over."""
        self.after(EVERY_S, CleanUp(), key="clean")
        for name, purge in self._purges.items():
            began, before = trio.current_time(), self.removed[name]
            try:
                await self._clean(name, purge)
            except StoreError as error:
                _log.warning("persistence.cleaning_waits", what=name, code=error.code)
            rows = self.removed[name] - before
            if rows:
                seconds = round(trio.current_time() - began, 3)
                _log.info("persistence.cleaned", what=name, rows=rows, seconds=seconds)

    async def _clean(self, name: str, purge: Purge) -> None:
        while True:
            gone = await purge(CHUNK)
            self.removed[name] += gone
            if gone < CHUNK:
                return
            await trio.sleep(PAUSE_S)
