"""What became of commands, by the ids their clients gave them (WEB-41).

Rule 1: while a command of an id runs, and for ten minutes after, the same id is the same command:
        it is not carried out again and is answered alike, on whichever connection it is sent.
Rule 2: only what is final is kept. A command that may be tried again (a limit, a time-out, a bug)
        is forgotten; the next one of its id is carried out.
Rule 3: what clients can fill is bounded, of each client, of each share (the clients of one address)
        and of all. Who has too much loses its own oldest answers; when all is full, the share that
        has most. So nobody's flood pushes out what others wait to repeat.

Kept in memory: across a restart it is the store that knows a command, by the key it is handed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import trio

from web.realtime.errors import SocketCode

# WEB-41: a client that comes back later loads what it shows anew.
COMMAND_KEPT_S = 600.0
# An offline queue holds a hundred; a command is rarely sent twice.
PER_CLIENT_MAX = 1000
# A fifth of all: two clients of an address may be full, and five addresses.
PER_SHARE_MAX = 2000
# Each takes 1.4 KiB where every one has a client of its own: 14 of the 30 MiB of REL-72. What is
# forgotten sooner than `COMMAND_KEPT_S` is carried out again when it is sent again, so a command
# whose repeats must not count is known to the store as well, as posts are.
TOTAL_MAX = 10_000


class CommandKey(NamedTuple):
    """Names a command: whose it is, on which of their clients, and the id it has there."""

    user: str
    client: str
    id: str


@dataclass(frozen=True, slots=True)
class Done:
    """What `dispatch` gives for a command that is committed.

    `result` is told to the sender, with `position`, a place in the store behind what it did.
    `heard_on` names the topic whose subscribers hear it anyway: a plain connection that listens
    there is told nothing more.
    """

    result: msgspec.Struct | None = None
    heard_on: str | None = None
    position: str | None = None


class Refused(Exception):
    """Raised by `dispatch` when a command is refused; its text is for the client.

    Nothing was done, or with `TIMEOUT` perhaps. `retry_after` seconds later it may be tried again.
    `plain` is the event that a plain connection is told instead of an `error`.
    """

    def __init__(
        self,
        text: str,
        code: SocketCode = SocketCode.REFUSED,
        *,
        retry_after: float | None = None,
        plain: msgspec.Struct | None = None,
    ) -> None:
        super().__init__(text)
        self.text, self.code, self.retry_after = text, code, retry_after
        self.plain = plain


# Answers for good: whoever sends the same command again is told the same.
_FINAL = frozenset(
    {
        SocketCode.REFUSED,
        SocketCode.FORBIDDEN,
        SocketCode.CONFLICT,
        SocketCode.VALIDATION_ERROR,
    }
)


# For whoever asks later.
_KNOWN = trio.Event()
_KNOWN.set()


@dataclass(slots=True, eq=False)
class Fate:
    """What becomes of one command; `known` is set when `outcome` is there.

    An outcome of None: whoever carried it out was stopped before it was known.
    """

    # What was asked: the same id with another command is a mistake of the client.
    asked: bytes
    known: trio.Event = field(default_factory=trio.Event)
    outcome: Done | Refused | None = None


class CommandMemory:
    """Remembers commands by their keys. One for an endpoint; it outlives connections."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = trio.current_time,
        kept_s: float = COMMAND_KEPT_S,
        per_client_max: int = PER_CLIENT_MAX,
        per_share_max: int = PER_SHARE_MAX,
        total_max: int = TOTAL_MAX,
    ) -> None:
        self._now, self._kept_s = now, kept_s
        self._per_client_max, self._total_max = per_client_max, total_max
        self._per_share_max = per_share_max
        # Oldest first, of each client, of each share and of all: they are told by the same order.
        self._clients: dict[tuple[str, str], dict[str, Fate]] = {}
        self._shares: dict[str, dict[CommandKey, None]] = {}
        # Ordered ones: the first of a plain dict is found by a walk over all gaps before it.
        # The shares of each size, so that the largest is known at once, however many there are.
        self._sizes: dict[int, OrderedDict[str, None]] = {}
        self._largest = 0
        self._all: OrderedDict[CommandKey, tuple[float, str]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<CommandMemory commands={len(self._all)} clients={len(self._clients)}>"

    def __len__(self) -> int:
        return len(self._all)

    def claim(self, key: CommandKey, asked: bytes, share: str = "") -> tuple[Fate, bool]:
        """Call this for a command; True when it is new and the caller has to carry it out.

        `share` names whose memory it takes.
        """
        self._expire()
        known = self._clients.get(key[:2], {}).get(key.id)
        if known is not None:
            return known, False
        fate = Fate(asked)
        ids = self._clients.setdefault(key[:2], {})
        ids[key.id] = fate
        self._all[key] = (self._now(), share)
        of_share = self._shares.setdefault(share, {})
        of_share[key] = None
        self._resize(share, len(of_share) - 1, len(of_share))
        if len(ids) > self._per_client_max:
            self._drop(CommandKey(*key[:2], next(iter(ids))))
        if len(of_share) > self._per_share_max:
            self._drop(next(iter(of_share)))
        if len(self._all) > self._total_max:
            largest = next(iter(self._sizes[self._largest]))
            self._drop(next(iter(self._shares[largest])))
        return fate, True

    def settle(self, key: CommandKey | None, fate: Fate, outcome: Done | Refused | None) -> None:
        """Call this once for each claimed command, also for one that was cut off (None)."""
        fate.outcome = outcome
        fate.known.set()
        # Who waits has been woken; an event of its own is a third of what a command takes.
        fate.known = _KNOWN
        is_final = isinstance(outcome, Done) or (
            isinstance(outcome, Refused) and outcome.code in _FINAL
        )
        if key is not None and not is_final and self._clients.get(key[:2], {}).get(key.id) is fate:
            self._drop(key)

    def forget(self, user: str, client: str) -> None:
        """Call this when a client cannot come back; what still runs is not remembered then."""
        for message_id in self._clients.pop((user, client), {}):
            self._unlist(CommandKey(user, client, message_id))

    def _expire(self) -> None:
        before = self._now() - self._kept_s
        while self._all:
            key, (at, _) = next(iter(self._all.items()))
            if at > before:
                return
            self._drop(key)

    def _unlist(self, key: CommandKey) -> None:
        _, share = self._all.pop(key)
        of_share = self._shares[share]
        del of_share[key]
        self._resize(share, len(of_share) + 1, len(of_share))
        if not of_share:
            del self._shares[share]

    def _resize(self, share: str, before: int, size: int) -> None:
        """Note that a share has one command more, or one less."""
        if before:
            del self._sizes[before][share]
            if not self._sizes[before]:
                del self._sizes[before]
        if size:
            self._sizes.setdefault(size, OrderedDict())[share] = None
        # Only ever by one: the largest that shrank is still among the largest, or it was alone.
        self._largest = max(self._largest, size)
        if self._largest not in self._sizes:
            self._largest = size

    def _drop(self, key: CommandKey) -> None:
        self._unlist(key)
        ids = self._clients[key[:2]]
        del ids[key.id]
        if not ids:
            del self._clients[key[:2]]
