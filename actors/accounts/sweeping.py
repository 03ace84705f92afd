"""Ends sign-ins when their time is over (SITE-39)."""

from actors.accounts.members import Accounts
from actors.persistence.errors import StoreError
from actors.runtime import Actor, Log, message

# One statement's worth; a full one is followed by another at once.
SWEPT_AT_ONCE = 1000
# Between two sweeps that find something others have the database.
PAUSE_S = 0.1
# The store's clock may be a little behind what it said.
MARGIN_S = 0.05

_log = Log("actors.accounts")


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
        if swept.count:
            _log.info("accounts.swept", sign_ins=swept.count)
        wait = self._every_s if swept.next_in_s is None else swept.next_in_s + MARGIN_S
        if swept.count >= SWEPT_AT_ONCE:
            wait = PAUSE_S
        self.after(max(PAUSE_S, min(self._every_s, wait)), Sweep(), key="sweep")
