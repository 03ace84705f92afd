"""A reply that is given later, from the handler of another message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from actors.runtime.words.errors import BadReply
from actors.runtime.words.exits import Crashed

if TYPE_CHECKING:
    from actors.runtime.envelope import Envelope
    from actors.runtime.life import Life
    from actors.runtime.words.errors import AskError

R_contra = TypeVar("R_contra", contravariant=True)


class Later(Generic[R_contra]):
    """An owed reply, made by `self.reply_later()`; it fails when its incarnation ends."""

    __slots__ = ("_life", "envelope")

    def __init__(self, life: Life, envelope: Envelope) -> None:
        self._life, self.envelope = life, envelope
        if life.owed is None:
            life.owed = {}
        life.owed[self] = None

    def __deepcopy__(self, _: object) -> Self:
        return self  # A copy of an actor's state owes the same replies.

    @property
    def asker_gone(self) -> bool:
        """Whether nobody waits for the reply any more."""
        reply = self.envelope[2]
        return reply is None or reply.task is None

    def reply(self, value: R_contra) -> None:
        """Call this with the answer; a second or a late one is counted and dropped.

        With `check_replies` one of the wrong type crashes the actor; the asker gets that error.
        """
        self._forget()
        reply = self.envelope[2]
        if reply is None:
            return
        life, message = self._life, self.envelope[0]
        if life.cell.system.check_replies and not life.table.fits(type(message), value):
            error = BadReply(life.cell.path, message, value)
            reply.fail(error)
            life.abort(Crashed(error))
            return
        reply.give(value)

    def _forget(self) -> None:
        if self._life.owed is not None:
            self._life.owed.pop(self, None)

    def fail(self, error: AskError) -> None:
        """Call this to end the ask without a reply (the runtime does when the actor ends)."""
        self._forget()
        reply = self.envelope[2]
        if reply is not None:
            reply.fail(error)
