"""Messages that one handler takes together, each with its own papers: `Batch`, and `Taken` in it.

    async def on_save(self, saves: Batch[Save]) -> None:
        ids = await self.store.save([save.message.text for save in saves])
        for save, id in zip(saves, ids, strict=True):
            with save:               # its cause, deadline and stash, as if it had come alone
                self.audit.tell(Saved(id))
            save.reply(id)

`life/gathering.py` takes them out of the mailbox and sees to what is left open; what becomes of
them when the incarnation ends is told by `Life` (`life/cell.py`).

Rule 1: each is settled once, by its own reply, its own failure, or the end of the handler.
Rule 2: outside of `with` what is done is done for all: it has the cause of the first one, and the
latest deadline of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Generic, Literal, Never, Protocol, TypeVar, cast

from actors.runtime.delivery.envelope import (
    CONTEXT,
    DEADLINE,
    MESSAGE,
    MESSAGE_ID,
    REPLY,
    Activity,
    Context,
    Debtor,
    Envelope,
    Later,
    current_activity,
)
from actors.runtime.words.errors import AskError
from actors.runtime.words.messages import Ask

M_co = TypeVar("M_co", covariant=True)
R = TypeVar("R")


class Taker(Debtor, Protocol):
    """An incarnation, as far as a batch of its messages needs it."""

    @property
    def activity(self) -> Activity: ...
    @property
    def gathered(self) -> Batch[object] | None: ...

    set_aside: Envelope | None
    passed_on: Envelope | None


class Taken(Generic[M_co]):
    """One message of a batch, and whoever waits for its reply.

    In `with taken:` it is the message in hand: what is sent there is caused by it, and
    `self.deadline`, `self.asker_gone`, `self.reply_later`, `self.stash` and `self.forward` are
    about it. Only the handler itself may do that, and before it returns: RuntimeError else, and
    for one that was stashed or passed on.
    """

    __slots__ = ("_aside", "_is_done", "_is_over", "_out", "_outer", "_taker", "envelope")

    def __init__(self, taker: Taker, envelope: Envelope) -> None:
        self._taker, self.envelope = taker, envelope
        self._is_done = self._is_over = False
        self._aside: Literal["stashed", "passed on"] | None = None
        # The context of what it causes, and what was in hand before it.
        self._out: Context | None = None
        self._outer: tuple[Envelope | None, Context | None] = (None, None)

    @property
    def message(self) -> M_co:
        """The message itself."""
        return cast(M_co, self.envelope[MESSAGE])

    @property
    def deadline(self) -> float:
        """The absolute deadline of this message; `inf` when it has none."""
        return self.envelope[DEADLINE]

    @property
    def asker_gone(self) -> bool:
        """Whether nobody waits any more for the reply to this message."""
        reply = self.envelope[REPLY]
        return reply is not None and reply.task is None

    @property
    def reply(self: Taken[Ask[R]]) -> Callable[[R], None]:
        """Call this with the answer to this one; a second or a late one is counted and dropped.

        So is one to an `Ask` that was told. With `check_replies` one of the wrong type crashes the
        actor; the asker gets that error.
        """
        later: Later[R] = Later(self._taker, self.envelope)
        self._is_done = self._is_done or self.envelope[REPLY] is None
        return later.reply

    def fail(self, error: AskError) -> None:
        """Call this to end the ask without a reply; whoever asked gets `error` raised."""
        self._is_done = True
        later: Later[Never] = Later(self._taker, self.envelope)
        later.fail(error)

    def done(self) -> None:
        """Call this for a tell that is handled, though the handler goes on.

        Should it crash later, this one is no dead letter. When it returns all of them are done.
        """
        self._is_done = True

    @property
    def is_done(self) -> bool:
        """Whether it needs nothing any more: answered, failed, `done`, stashed or passed on."""
        reply = self.envelope[REPLY]
        if reply is None or self._aside is not None:
            return self._is_done or self._aside is not None
        # Failed by its handler, that is; not by the runtime, for a reply of the wrong type.
        return reply.outcome == "answered" or (self._is_done and reply.outcome == "failed")

    def comes_back(self) -> bool:
        """Called when its handler has failed: whether it lies in the stash, to be taken out."""
        if self._aside != "stashed":
            return False
        self._aside = None
        return True

    def __enter__(self) -> M_co:
        """Take it in hand; gives the message."""
        taker, activity = self._taker, self._taker.activity
        batch = taker.gathered
        if self._is_over or batch is None or current_activity.get() is not activity:
            raise RuntimeError(
                "a message of a batch is taken in hand by the handler it was given to, before "
                "that returns; not by a child task. Read what you need there, and pass it on."
            )
        if self._aside is not None:
            raise RuntimeError(f"this message was {self._aside}; it is not in hand any more")
        self._outer = activity.envelope, activity.out
        activity.envelope, activity.out = self.envelope, self._out
        batch.failed = None
        return self.message

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        taker, activity = self._taker, self._taker.activity
        self._out = activity.out
        activity.envelope, activity.out = self._outer
        batch, reply = taker.gathered, self.envelope[REPLY]
        if taker.set_aside is self.envelope:
            # It is answered when it comes back from the stash.
            taker.set_aside, self._aside = None, "stashed"
            if reply is not None:
                reply.stage = "stashed"
        elif taker.passed_on is self.envelope:
            taker.passed_on, self._aside = None, "passed on"
        if error is not None and batch is not None:
            batch.failed = self


class Batch(Generic[M_co]):
    """The messages of its kind that waited one behind the other when a handler was called.

    In the order they came, at least one, and at most `batch_max` of the actor's class.
    """

    __slots__ = ("_all", "began", "failed", "shared")

    def __init__(self, taken: Sequence[Taken[M_co]], began: float) -> None:
        self._all = taken
        # By `perf_counter`, 0.0 where nobody measures.
        self.began = began
        # In whose `with` an error has come up, as far as nothing else was begun since.
        self.failed: Taken[object] | None = None
        first = taken[0].envelope
        # In hand while none of them is: nobody's to answer.
        self.shared: Envelope = (
            first[MESSAGE],
            first[MESSAGE_ID],
            None,
            max(one.envelope[DEADLINE] for one in taken),
            0.0,
            first[CONTEXT],
        )

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Taken[M_co]]:
        return iter(self._all)

    def __getitem__(self, at: int) -> Taken[M_co]:
        return self._all[at]

    def close(self) -> None:
        """Called when the handler has returned: none of them is taken in hand any more."""
        for taken in self._all:
            taken._is_over = True
