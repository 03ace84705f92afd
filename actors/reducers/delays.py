"""Delays that outlive their process: the port of where they are kept, and what is told when due.

`actors.persistence` has the adapter on durable timers. An actor is handed it as `delays`; without
one a `Delay(durable=True)` is refused when the actor returns it.

Rule 1: writes of one actor go in the order in which its effects were begun, one at a time. So what
`Cancel` cancels is written when its turn comes, and no delay is cut short half-written.
Rule 2: a delay that was cancelled is not reduced, also when it is on its way already: until the
cancelling is written, its token is behind the fence; after that, the store says that it is over.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from uuid import UUID

import trio

from actors.reducers.effects import Cancel, Delay
from actors.runtime import Ask, AskError, Later, message


@message
class Fire(Ask[bool]):
    """Tells an actor that a durable delay of its own is due; False when the actor has closed it."""

    timer_id: UUID
    token: str
    payload: bytes
    key: str | None = None


@message
class Ring:
    """Tells an actor to reduce the action of a delay that stands, and to answer who delivers it."""

    fire: Fire
    action: object
    later: Later[bool]


class UnreadableDelay(AskError):
    """The action of a delay that is due cannot be read; nothing was reduced.

    Its class is gone from the reducer, or has other fields. The delay stays, and is delivered
    again: bring the class back, or discard the dead letter that it becomes.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, Fire, f"a delay of {path} cannot be read: {why}")


class DurableDelays(Protocol):
    """Where the durable delays of actors are kept; `path` is whose they are."""

    def check(self, path: str, handled: Collection[type]) -> None:
        """Called at an actor's start; TypeError for actions that cannot be told apart."""
        ...

    async def set(self, path: str, delay: Delay, token: str) -> None:
        """Keep a delay, from now on; its token is a UUIDv7, later ones sort behind earlier ones."""
        ...

    async def cancel(self, path: str, key: str) -> int:
        """Cancel those of a key that are not over; gives how many were."""
        ...

    async def is_open(self, path: str, due: Fire) -> bool:
        """Whether one that is due was neither cancelled nor handled before."""
        ...

    def action_of(self, path: str, due: Fire, handled: Collection[type]) -> object:
        """The action of one that is due; raises UnreadableDelay."""
        ...


class Writing:
    """A turn in the writes of one actor."""

    __slots__ = ("_before", "over", "token")

    def __init__(self, before: trio.Event | None, token: str) -> None:
        self._before = before
        self.token = token
        self.over = trio.Event()

    async def wait_turn(self) -> None:
        """Call this before writing."""
        if self._before is not None:
            await self._before.wait()
        self._before = None


class Fence:
    """The durable delays of one incarnation: who writes when, and what is cancelled already."""

    def __init__(self, delays: DurableDelays, path: str) -> None:
        self.delays, self.path = delays, path
        self._last: trio.Event | None = None
        # By key: what is older than this token is cancelled. Here until that is written.
        self._cancelled: dict[str, str] = {}

    def turn(self, token: str) -> Writing:
        """Call this when an effect begins, in order; `over` must be set however it ends."""
        writing = Writing(self._last, token)
        self._last = writing.over
        return writing

    def raise_to(self, key: str, token: str) -> None:
        """Call this when a key is cancelled, before that is written."""
        self._cancelled[key] = token

    def is_behind(self, due: Fire) -> bool:
        """Whether one that is due has been cancelled, as far as it is known here."""
        if due.key is None:
            return False
        return due.token < self._cancelled.get(due.key, "")

    async def write(self, effect: Delay | Cancel, writing: Writing) -> int:
        """Carry out a durable delay, or the cancelling of its key; gives how many were."""
        await writing.wait_turn()
        if isinstance(effect, Delay):
            await self.delays.set(self.path, effect, writing.token)
            return 0
        key = str(effect.key)
        count = await self.delays.cancel(self.path, key)
        if self._cancelled.get(key) == writing.token:
            del self._cancelled[key]
        return count
