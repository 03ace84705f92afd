"""The one place of a process that hears when browser sessions end (SEC-44), and what ends sign-ins.

Rule 1: a ring is only a hint. What is over is asked of the store: at each ring, and every half
        minute without one, about the sessions that have something open here.
Rule 2: whoever is told closes what is open; it is told again at every look while something is.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from typing import Never

import trio

from actors.accounts.members import Accounts
from actors.accounts.ports import ASKED_MAX, SessionEnded, SessionEnds
from actors.accounts.words import SessionId
from actors.persistence.errors import StoreError
from actors.runtime import Actor, Log, message

# SEC-44 gives a minute when the push is lost; a look may also be late by a store that was away.
LOOK_S = 30.0
# While the store is away, and between two looks when sessions end one after the other.
RETRY_S = 1.0
PAUSE_S = 0.1

_log = Log("actors.accounts")


class SessionEndWatch(Actor[Never]):
    """Calls `tell` for each session that is over and has something open in this process.

    `open_sessions` says which have; `tell` closes it and returns at once. Ends of other processes
    are heard within a second, and within a minute when the ring is lost.
    """

    def __init__(
        self,
        ends: SessionEnds,
        open_sessions: Callable[[], Collection[SessionId]],
        tell: Callable[[SessionEnded], None],
        *,
        look_s: float = LOOK_S,
        look_too: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`look_too` is awaited behind each look, for what else rings; it raises nothing."""
        self._ends, self._open_sessions, self._tell = ends, open_sessions, tell
        self._look_s, self._look_too = look_s, look_too
        self._is_away = False

    def on_start(self) -> None:
        """Begin to listen; what ended meanwhile is found at once."""
        self.start_soon(self._listen)

    async def _listen(self) -> None:
        async with aclosing(self._ends.rings(self._look_s)) as rings:
            async for _ in rings:
                await self._look()
                if self._look_too is not None:
                    await self._look_too()
                await trio.sleep(PAUSE_S)

    async def _look(self) -> None:
        waiting = [*self._open_sessions()]
        while waiting:
            asked = waiting[:ASKED_MAX]
            try:
                found = await self._ends.ended(asked)
            except StoreError as error:
                if not self._is_away:
                    _log.warning("sessions.ends_unknown", code=error.code)
                self._is_away = True
                await trio.sleep(RETRY_S)
                continue
            self._is_away = False
            del waiting[:ASKED_MAX]
            for session_id, how in found.items():
                self._tell(SessionEnded(session_id, how))


# -- sign-ins whose time is over (SITE-39) --------------------------------------------------

# One statement's worth; a full one is followed by another at once.
SWEPT_AT_ONCE = 1000
# Between two sweeps that find something others have the database.
PAUSE_S = 0.1
# The store's clock may be a little behind what it said.
MARGIN_S = 0.05


@message
class Sweep:
    """Time to look; the sweeper tells it itself."""


class SignInSweeper(Actor[Sweep]):
    """Looks every `every_s` seconds, and when the next one is over, so that it ends to the second.

    A sweep that the store refuses is logged, and the next one comes as ever. `swept` counts those
    that were ended.
    """

    def __init__(self, accounts: Accounts, every_s: float) -> None:
        self._accounts, self._every_s = accounts, every_s
        self.swept = 0

    def on_start(self) -> None:
        """Begin at once: what was over while nobody ran is over."""
        self.after(0.0, Sweep(), key="sweep")

    async def on_sweep(self, _: Sweep) -> None:
        """End what is over."""
        self.after(self._every_s, Sweep(), key="sweep")
        try:
            swept = await self._accounts.sweep(SWEPT_AT_ONCE)
        except StoreError as error:
            _log.warning("accounts.sweep_waits", code=error.code)
            return
        self.swept += swept.count
        if swept.count or swept.tokens:
            _log.info("accounts.swept", sign_ins=swept.count, tokens=swept.tokens)
        wait = self._every_s if swept.next_in_s is None else swept.next_in_s + MARGIN_S
        if max(swept.count, swept.tokens) >= SWEPT_AT_ONCE:
            wait = PAUSE_S
        self.after(max(PAUSE_S, min(self._every_s, wait)), Sweep(), key="sweep")
