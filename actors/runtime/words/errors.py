"""What can go wrong, one class for each different thing a caller can do about it.

All derive from `ActorError`; whatever an ask can end with derives from `AskError`. `AlreadyStarted`
holds a ref and stands beside who raises it, in `system/system.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import CoroutineType
from typing import Final, cast

from actors.runtime.words.exits import (
    Crashed,
    Exit,
    Normal,
    checked_exit,
    exit_text,
    leaves_of,
    readable,
    without_cancelled,
)
from actors.runtime.words.messages import Ask
from actors.runtime.words.places import told_in_place
from actors.runtime.words.showing import class_name, shown

# One line names so many of the actors that have crashed one for another.
THROUGH_MAX: Final = 5


class ActorError(Exception):
    """Base of every error the runtime raises on purpose."""


class AskError(ActorError):
    """An ask ended without a reply. `path` was asked a message of `message_type`."""

    def __init__(self, path: str, message_type: type | None, text: str) -> None:
        super().__init__(text)
        self.path, self.message_type = path, message_type


def _name(message_type: type | None) -> str:
    return "a message" if message_type is None else class_name(message_type)


class AskTimeout(AskError):
    """The deadline passed first.

    `stage` tells how far the message came: `mailbox` (no room, not delivered), `queued` (it will
    be dropped unhandled) or `handling` (the handler goes on; its reply will be dropped).
    """

    def __init__(self, path: str, message: object, waited: float, stage: str) -> None:
        super().__init__(
            path,
            type(message),
            f"{path} gave no reply to {class_name(type(message))} within {waited:.3f} s; the "
            f"message got as far as: {stage}. Ask with more time, or look at what {path} is doing.",
        )
        self.message, self.waited, self.stage = message, waited, stage


class ActorCrashed(AskError):
    """The handler of this message raised `error`. The message will not be handled again.

    Its text names class, text and place of the error; where one actor after another crashed for it,
    those of the first error, and the paths. `__cause__` is the error too, so that the traceback of
    an asker who does not expect it shows the line that raised it.
    """

    def __init__(self, path: str, error: BaseException, message_type: type | None = None) -> None:
        first: BaseException = error
        through: list[str] = []
        while type(first) is ActorCrashed and len(through) < THROUGH_MAX:
            before: object = getattr(first, "error", None)
            if not issubclass(type(before), BaseException):
                break  # Whoever raised it again may have written anything there.
            through.append(first.path)
            first = readable(cast(BaseException, before))
        way = f", as {', '.join(through)} did before it" if through else ""
        super().__init__(
            path,
            message_type,
            f"{path} crashed while it owed a reply to {_name(message_type)}{way}: "
            f"{told_in_place(first)}. The message is lost; "
            + (
                "it will be each time, as long as they wait for each other."
                if type(first) is DeadlockError
                else "ask again only if handling it twice is harmless."
            ),
        )
        self.error = error
        self.__cause__ = error


class ActorExited(AskError):
    """The actor stopped or was killed before it replied; `exit` says how.

    Without `begun` no handler ever had the message.
    `__cause__` is its error, when it had crashed before the message came to its turn.
    """

    def __init__(
        self, path: str, exit_: Exit, message_type: type | None = None, *, begun: bool = True
    ) -> None:
        super().__init__(
            path,
            message_type,
            f"{path} ended as {exit_text(exit_)} before it replied to {_name(message_type)}. "
            "Ask again if somebody starts it again.",
        )
        self.exit, self.begun = exit_, begun
        if isinstance(exit_, Crashed):
            self.__cause__ = exit_.error


class UnhandledMessage(AskError):
    """The actor has no handler for this class; it was not disturbed."""

    def __init__(self, path: str, message_type: type) -> None:
        super().__init__(
            path,
            message_type,
            f"{path} has no handler for {class_name(message_type)}; nothing happened. "
            "Send it to an actor whose class names this message.",
        )


class DeadlockError(AskError):
    """The ask, or the send, would close a ring of handlers and hooks that wait for each other.

    Nothing was queued. `cycle` has the paths, the first one again at the end. One that waits for
    an actor to start is in it too: an `on_start` cannot ask whoever waits for it.
    """

    def __init__(self, cycle: Sequence[str], message_type: type | None = None) -> None:
        what = "this" if message_type is None else f"sending {class_name(message_type)}"
        super().__init__(
            cycle[-1],
            message_type,
            f"{what} would wait for ever: {' -> '.join(cycle)}. Nothing was queued. Use tell and "
            "answer by another message, or start_soon.",
        )
        self.cycle = tuple(cycle)


class NoProc(AskError):
    """Nobody is there: dead, unknown or never started. Nothing was delivered."""

    def __init__(
        self, path: str, message_type: type | None = None, because: str | None = None
    ) -> None:
        reason = f" ({because})" if because else ""
        super().__init__(
            path,
            message_type,
            f"no actor {path!r}{reason}; {_name(message_type)} was not delivered. "
            "Take a new ref from whoever starts it.",
        )
        self.because = because


class BadReply(AskError):
    """A handler returned what nobody can use: `got`, in answer to `message`.

    A value to a message whose class is no `Ask`, a coroutine from a `def` handler, or (with
    `check_replies`) another type than the class promised. It is a bug of the handler, and crashes
    its actor. The reply to an `Ask` that was told is none of them: it is dropped and counted.
    """

    def __init__(self, path: str, message: object, got: object) -> None:
        kind, given = class_name(type(message)), class_name(type(got))
        if type(got) is CoroutineType:
            text = f"a coroutine for {kind}, from a handler that is not `async def`"
        elif issubclass(type(message), Ask):
            text = f"a {given} for {kind}, whose class promises something else"
        else:
            text = f"a {given} for {kind}, whose class is no Ask: nobody can get a reply to it"
        super().__init__(
            path,
            type(message),
            f"{path} returned {text}. Nothing was passed on; correct the handler.",
        )
        self.message, self.got = message, got


class MailboxFull(ActorError):
    """No room came before the deadline of a `send`.

    Nothing was delivered. The message is kept in `message`, so the caller may retry it, reroute
    it or drop it.
    """

    def __init__(self, path: str, capacity: int, message: object) -> None:
        super().__init__(
            f"{path} still holds {capacity} messages; nothing was delivered. "
            "Send later, or raise the actor's capacity."
        )
        self.path, self.capacity, self.message = path, capacity, message


class MailboxOverflow(ActorError):
    """The end of an actor with `overflow = "crash"` that got one message too many."""

    def __init__(self, path: str, capacity: int) -> None:
        super().__init__(
            f"{path} already held {capacity} messages when one more came; it ends, as its class "
            "asks. Raise its capacity, or choose another overflow."
        )
        self.path, self.capacity = path, capacity


class StopTimeout(ActorError):
    """The actor had not ended in time. The stop goes on."""

    def __init__(self, path: str, waited: float) -> None:
        super().__init__(
            f"{path} had not ended after {waited:.3f} s; the stop goes on. "
            "Wait for it with `system.wait_down`, or kill it."
        )
        self.path, self.waited = path, waited


class StartError(ActorError):
    """The actor could not be started; nothing of it is left. `cause` is the error.

    Its text names class, text and place of that error; `__cause__` is the error too, so that a
    traceback shows the line that raised it.
    """

    def __init__(self, path: str, cause: BaseException) -> None:
        super().__init__(f"{path} did not start: {told_in_place(cause)}. Nothing of it is left.")
        self.path, self.cause = path, cause
        self.__cause__ = cause


class StartTimeout(StartError):
    """`on_start` took longer than `start_timeout`; it was cancelled.

    `where` is the line at which it waited, if one is known.
    """

    def __init__(self, path: str, after: float, where: str | None = None) -> None:
        at = "" if where is None else f" ({where})"
        ActorError.__init__(
            self,
            f"on_start of {path} was cancelled after {after:.3f} s{at}. Nothing of it is left. "
            "Raise start_timeout, or do the slow part in a message to itself.",
        )
        self.path, self.after, self.cause, self.where = path, after, self, where


class StartIgnored(ActorError):
    """`on_start` returned IGNORE, and the caller asked for a ref."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} chose not to run (IGNORE); there is no ref. Where that may be, use "
            "`maybe_start`, or the `ref` of a StartResult."
        )
        self.path = path


_MEANINGFUL: Final = {
    "on_start": "None, IGNORE or Started(info)",
    "on_stop": "None",
    "start": "an Actor",
}


class BadReturn(ActorError):
    """A hook returned `value`, which means nothing there."""

    def __init__(self, value: object, hook: str = "on_start") -> None:
        super().__init__(
            f"{hook} returned {shown(value)}; it must return {_MEANINGFUL[hook]}. A hook with "
            "something to wait for is declared `async def`."
        )
        self.value, self.hook = value, hook


def _ended(exit_: Exit | NoProc) -> str:
    return "nobody: it was not there" if isinstance(exit_, NoProc) else exit_text(exit_)


class LinkBroken(ActorError):
    """The end of an actor whose linked peer ended badly; `exit` is the peer's."""

    def __init__(self, path: str, exit_: Exit | NoProc) -> None:
        super().__init__(f"the linked actor {path} ended as {_ended(exit_)}")
        self.path, self.exit = path, exit_
        if isinstance(exit_, Crashed):
            self.__cause__ = exit_.error


class StashFull(ActorError):
    """`stash()` was called once too often; the message in hand was not set aside."""

    def __init__(self, path: str, capacity: int) -> None:
        super().__init__(
            f"{path} has {capacity} messages set aside already; this one was not. "
            "Call unstash_all sooner, or raise stash_capacity."
        )
        self.path, self.capacity = path, capacity


class CallbackFailed(ActorError):
    """The function given to `replace_state` raised `error`; the state is as before."""

    def __init__(self, path: str, error: BaseException) -> None:
        super().__init__(
            f"the function for {path} raised {told_in_place(error)}; its state is unchanged."
        )
        self.path, self.error = path, error


class StopActor(Exception):
    """Raise this in a handler or child task to end the actor at once; an asker gets `ActorExited`.

    Out of a nursery it comes in a group: one of nothing else (but `Cancelled`) is that stop too.
    Raises TypeError for what is no exit.
    """

    # Also of a class that derives from this and does not call its `__init__`.
    exit: Exit = Normal()

    def __init__(self, exit_: Exit | None = None) -> None:
        super().__init__()
        if exit_ is not None:
            self.exit = checked_exit(exit_)

    def __str__(self) -> str:
        # Made when it is read: raising it is how an actor ends every day.
        return f"the actor ends itself as {exit_text(self.exit)}"


def exit_from(error: BaseException) -> Exit:
    """Call this for the exit that an error of user code is: the stop it has asked for, or a crash.

    First comes `without_cancelled` (`exits.py`), for not everything raised is an actor's end.
    """
    cause = cause_of(error)
    if not isinstance(cause, StopActor):
        return Crashed(cause)
    try:
        exit_ = checked_exit(cause.exit)
    except BaseException as failure:  # noqa: BLE001 - it can be set to anything, and be a property
        return Crashed(without_cancelled(failure))
    # Its error is looked at as one that was raised is.
    return Crashed(readable(exit_.error)) if isinstance(exit_, Crashed) else exit_


def cause_of(error: BaseException) -> BaseException:
    """Call this to take a `StopActor` out of the group that a nursery has made of it.

    Of several stops it is the first. With other errors beside them it is those: whoever asked for
    a clean end did not get one.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    stops, others = error.split(StopActor)
    if stops is None:
        return error
    return leaves_of(stops)[0] if others is None else others
