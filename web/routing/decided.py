"""What commands of pages were answered, so that a repeat is answered alike (SITE-102).

Rule 1: looked at before anything else is judged: a repeat is the same command, whatever has become
possible or impossible since. Rule 2: two of one id that come together are one. Who decides without
a wait takes `get` and `put`; who waits meanwhile takes `once`. Rule 3: what was not decided (a
limit, a closed lab, no stream) is not put here: it may be sent again.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

import trio

# SITE-102.
KEPT_S = 600.0
PER_SESSION_MAX = 1000
# Each takes 0.7 KiB where every one has a session of its own: 7 of the 30 MiB of REL-72. At 30
# actions a minute 200 sessions fill it in 100 seconds, far longer than a page tries again.
TOTAL_MAX = 10_000


class CommandKey(NamedTuple):
    """Names a command: whose it is, what it is sent to, and the id its page gave it."""

    session: UUID
    route: str
    command_id: str


class Decided:
    """Remembers outcomes, by words of who asks; `now` is the loop's clock."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        per_session_max: int = PER_SESSION_MAX,
        total_max: int = TOTAL_MAX,
    ) -> None:
        self._now, self._per_session_max, self._total_max = now, per_session_max, total_max
        # Oldest first, of all and of each session: both by the same order.
        # An ordered one: the first of a plain dict is found by a walk over all gaps before it.
        self._all: OrderedDict[CommandKey, float] = OrderedDict()
        self._sessions: dict[UUID, dict[CommandKey, str]] = {}
        # No more than requests are in hand; set when the one that decides is over.
        self._under_way: dict[CommandKey, trio.Event] = {}

    def __len__(self) -> int:
        return len(self._all)

    def get(self, key: CommandKey) -> str | None:
        """Call this first for a command: what was decided, or None when it is new."""
        before = self._now() - KEPT_S
        while self._all and next(iter(self._all.values())) <= before:
            self._drop(next(iter(self._all)))
        return self._sessions.get(key.session, {}).get(key)

    def put(self, key: CommandKey, outcome: str) -> None:
        """Call this once it is decided, without a wait since `get` said that it is new."""
        self._all[key] = self._now()
        of_session = self._sessions.setdefault(key.session, {})
        of_session[key] = outcome
        if len(of_session) > self._per_session_max:
            self._drop(next(iter(of_session)))
        if len(self._all) > self._total_max:
            self._drop(next(iter(self._all)))

    async def once(
        self, key: CommandKey, decide: Callable[[], Awaitable[str | None]]
    ) -> str | None:
        """Call this to have a command decided once: gives the outcome, also of one before.

        `decide` gives it, None or an error when it was not decided. A repeat that comes meanwhile
        waits for it, and decides itself when that came to nothing. Cancelled, nothing is kept.
        """
        while (known := self.get(key)) is None:
            other = self._under_way.get(key)
            if other is None:
                break
            await other.wait()
        if known is not None:
            return known
        over = self._under_way[key] = trio.Event()
        try:
            outcome = await decide()
            if outcome is not None:
                self.put(key, outcome)
        finally:
            del self._under_way[key]
            over.set()
        return outcome

    def _drop(self, key: CommandKey) -> None:
        del self._all[key]
        of_session = self._sessions[key.session]
        del of_session[key]
        if not of_session:
            del self._sessions[key.session]
