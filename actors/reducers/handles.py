"""What others hold of the work that an action has caused: a handle on it, an outcome waited for.

Both follow an action along its feedback: what an effect feeds back was caused by the action that
had the effect, and so on. They are handed along with the actions, never looked up, so they cannot
be mixed up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import trio

from actors.runtime import AskError, Later

# Enough to see what is wrong; a cascade that goes on failing must not fill the memory.
ERRORS_KEPT: Final = 100


class Follower(Protocol):
    """Something that follows an action and whatever its feedback causes."""

    @property
    def is_open(self) -> bool:
        """Whether it still wants to know."""

    def caused(self, action: object) -> None:
        """An action that was caused by the one that is followed has been reduced."""

    def began(self) -> None:
        """An effect was started."""

    def ended(self, error: BaseException | None, *, is_done: bool) -> None:
        """An effect is over; `is_done` says whether it came to its end."""


def still_open(followers: tuple[Follower, ...]) -> tuple[Follower, ...]:
    """Those that still want to know."""
    if len(followers) == 1:
        return followers if followers[0].is_open else ()
    return tuple(one for one in followers if one.is_open)


class EffectHandle:
    """How far the effects of one action are; given by `ReducerRef.run`.

    With `track="direct"` those that the action itself had, with `"cascade"` also those of
    everything fed back, and so on. `pending` comes to zero also when they are cancelled, or their
    actor crashes.
    """

    def __init__(self, *, is_cascade: bool) -> None:
        self._is_cascade = is_cascade
        self._errors: list[BaseException] = []
        self._changed = trio.Event()
        self.pending = 0
        """How many have not ended."""
        self.completed = 0
        """How many came to their end without an error."""

    def __repr__(self) -> str:
        return (
            f"<EffectHandle {self.pending} pending, {self.completed} completed, "
            f"{len(self._errors)} errors>"
        )

    @property
    def is_cascade(self) -> bool:
        """Whether what is fed back counts too."""
        return self._is_cascade

    @property
    def is_open(self) -> bool:
        """Whether anything may still be added."""
        return True

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """What effects have failed with, the first hundred."""
        return tuple(self._errors)

    async def wait(self, timeout: float | None = None) -> bool:
        """Call this to wait until all are over; False when time ran out: nothing is cancelled."""
        return await self.wait_until(remaining=0, timeout=timeout)

    async def wait_until(self, *, remaining: int, timeout: float | None = None) -> bool:
        """Call this to wait until at most `remaining` are pending; False when time ran out."""
        if remaining < 0:
            raise ValueError(f"remaining is {remaining}; it must be >= 0")
        limit = trio.move_on_after(timeout) if timeout is not None else trio.CancelScope()
        await trio.lowlevel.checkpoint_if_cancelled()
        with limit:
            while self.pending > remaining:
                await self._changed.wait()
        return self.pending <= remaining

    def caused(self, action: object) -> None:
        """Called for each action that was fed back; only effects count here."""

    def began(self) -> None:
        """Called when an effect was started."""
        self.pending += 1

    def ended(self, error: BaseException | None, *, is_done: bool) -> None:
        """Called when an effect is over."""
        self.pending -= 1
        if error is not None:
            if len(self._errors) < ERRORS_KEPT:
                self._errors.append(error)
        elif is_done:
            self.completed += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class Outcome:
    """What one `ask_for` waits for: the first action that was caused by its own and matches."""

    __slots__ = ("_matches", "_wanted", "later")

    def __init__(self, wanted: object) -> None:
        self._wanted = wanted
        self._matches = _matcher(wanted)
        self.later: Later[object] | None = None

    def __repr__(self) -> str:
        if isinstance(self._wanted, tuple):
            return " or ".join(one.__name__ for one in self._wanted)
        return getattr(self._wanted, "__qualname__", None) or repr(self._wanted)

    @property
    def is_open(self) -> bool:
        """Whether it is still waited for."""
        return self.later is not None and not self.later.asker_gone

    def close(self, error: AskError) -> None:
        """Called when nobody waits any more; what is owed is taken off the actor."""
        later, self.later = self.later, None
        if later is not None:
            later.fail(error)

    def caused(self, action: object) -> None:
        """Called with each action that was caused and reduced."""
        later = self.later
        if later is None:
            return
        try:
            if not self._matches(action):
                return
            found: object = Found(action)
        except Exception as error:  # noqa: BLE001 - a predicate of the asker's: it is told
            found = Raised(error)
        self.later = None
        later.reply(found)

    def began(self) -> None:
        """Called when an effect was started."""

    def ended(self, error: BaseException | None, *, is_done: bool) -> None:
        """Called when an effect is over."""


class Found:
    """The outcome that came."""

    __slots__ = ("action",)

    def __init__(self, action: object) -> None:
        self.action = action


class Raised:
    """What code of the asker's raised inside the actor; it is raised where it was asked."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def _matcher(wanted: object) -> Callable[[object], object]:
    """Whether an action is what is wanted; TypeError for what says nothing about actions."""
    if isinstance(wanted, type):
        return lambda action: isinstance(action, wanted)
    if isinstance(wanted, tuple):
        if wanted and all(isinstance(one, type) for one in wanted):
            kinds: tuple[type, ...] = wanted
            return lambda action: isinstance(action, kinds)
    elif callable(wanted):
        return wanted
    raise TypeError(f"{wanted!r} is no outcome; give a class, a tuple of classes, or a predicate")
