"""A reply that is given later, from the handler of another message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Never, TypeVar

if TYPE_CHECKING:
    from actors.runtime.envelope import Envelope
    from actors.runtime.errors import AskError

R_contra = TypeVar("R_contra", contravariant=True)


class Later(Generic[R_contra]):
    """An owed reply, made by `self.reply_later()`; it fails when its incarnation ends."""

    __slots__ = ("_owed", "envelope")

    def __init__(self, envelope: Envelope, owed: set[Later[Never]]) -> None:
        self.envelope = envelope
        self._owed = owed
        owed.add(self)

    @property
    def asker_gone(self) -> bool:
        """Whether nobody waits for the reply any more."""
        reply = self.envelope[2]
        return reply is None or reply.task is None

    def reply(self, value: R_contra) -> None:
        """Call this with the answer; a second or a late one is counted and dropped."""
        self._owed.discard(self)
        reply = self.envelope[2]
        if reply is not None:
            reply.give(value)

    def fail(self, error: AskError) -> None:
        """Call this to end the ask without a reply (the runtime does when the actor ends)."""
        self._owed.discard(self)
        reply = self.envelope[2]
        if reply is not None:
            reply.fail(error)
