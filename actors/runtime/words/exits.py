"""How an actor ended, or how its start did: four exits, three outcomes.

Frozen data, and how a caught error becomes a crash. Who decides on the exit of an incarnation:
`Life` in `life/cell.py`. Who restarts after one: `supervision`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Protocol, TypeAlias, TypedDict, TypeVar, final

import trio

from actors.runtime.words.places import leaves_in, told
from actors.runtime.words.showing import class_name, redact_text, shown, text_of

# One exit fills one line of a report; what is longer belongs into the crash report's stack.
EXIT_TEXT_MAX: Final = 500


class ExitJson(TypedDict):
    """An exit as it leaves the process; every key is always there."""

    kind: Literal["normal", "shutdown", "killed", "crashed"]
    info: str | None
    error: str | None
    message: str | None
    because: str | None
    by: str | None
    at: float
    incarnation: int


@dataclass(frozen=True, slots=True)
class ExitSummary:
    """An exit in words: it keeps no error and no frame alive. `to_json()` gives an `ExitJson`."""

    kind: Literal["normal", "shutdown", "killed", "crashed"]
    info: str | None
    error: str | None
    message: str | None
    because: str | None
    by: str | None
    at: float
    incarnation: int

    def to_json(self) -> ExitJson:
        """Call this to get it as plain data."""
        return {
            "kind": self.kind,
            "info": self.info,
            "error": self.error,
            "message": self.message,
            "because": self.because,
            "by": self.by,
            "at": self.at,
            "incarnation": self.incarnation,
        }


@dataclass(frozen=True, slots=True)
class _Circumstances:
    """When, to which incarnation, by whom and why; two exits are equal without them."""

    # Which incarnation ended, when (trio's time), the path of who asked for it, and why.
    incarnation: int = field(default=0, compare=False, kw_only=True)
    at: float = field(default=0.0, compare=False, kw_only=True)
    by: str | None = field(default=None, compare=False, kw_only=True)
    because: str | None = field(default=None, compare=False, kw_only=True)

    @property
    def clean(self) -> bool:
        """Whether the actor ended as it should; a clean end makes no crash report."""
        return True

    def leaves(self) -> tuple[BaseException, ...]:
        """Call this to get the single exceptions behind the exit, groups taken apart."""
        return ()

    def to_json(self, redact: Callable[[str], str] = redact_text) -> ExitJson:
        """Call this to get the exit as plain data; its texts pass through `redact`."""
        return self._json("normal", None, None, redact)

    def summary(self, redact: Callable[[str], str] = redact_text) -> ExitSummary:
        """Call this to get the exit in words, to keep or to show; they pass through `redact`."""
        return ExitSummary(**self.to_json(redact))

    def _json(
        self,
        kind: Literal["normal", "shutdown", "killed", "crashed"],
        info: object,
        error: BaseException | None,
        redact: Callable[[str], str],
    ) -> ExitJson:
        return {
            "kind": kind,
            "info": None if info is None else redact(text_of(info))[:EXIT_TEXT_MAX],
            "error": None if error is None else class_name(type(error)),
            "message": None if error is None else redact(text_of(error))[:EXIT_TEXT_MAX],
            "because": self.because,
            "by": self.by,
            "at": self.at,
            "incarnation": self.incarnation,
        }


@final
@dataclass(frozen=True, slots=True)
class Normal(_Circumstances):
    """It ended by itself, or an outsider called `ref.stop()`."""


@final
@dataclass(frozen=True, slots=True)
class Shutdown(_Circumstances):
    """It was asked to stop by its supervisor or a link, or chose an `info` of its own."""

    info: object = None

    def to_json(self, redact: Callable[[str], str] = redact_text) -> ExitJson:
        """Call this to get the exit as plain data; its texts pass through `redact`."""
        return self._json("shutdown", self.info, None, redact)


@final
@dataclass(frozen=True, slots=True)
class Killed(_Circumstances):
    """It ended by force: `ref.kill()`, or the shutdown deadline passed."""

    @property
    def clean(self) -> bool:
        """Never: what the actor had in hand is lost."""
        return False

    def to_json(self, redact: Callable[[str], str] = redact_text) -> ExitJson:
        """Call this to get the exit as plain data; its texts pass through `redact`."""
        return self._json("killed", None, None, redact)


@final
@dataclass(frozen=True, slots=True)
class Crashed(_Circumstances):
    """A handler, hook or child task raised `error`, an exception or an ExceptionGroup."""

    error: BaseException

    def __post_init__(self) -> None:
        if not issubclass(type(self.error), BaseException):
            raise TypeError(f"Crashed is made with an exception, not with {shown(self.error)}")

    @property
    def clean(self) -> bool:
        """Never."""
        return False

    def leaves(self) -> tuple[BaseException, ...]:
        """Call this to match policies: a group of one OSError gives that OSError."""
        return leaves_of(self.error)

    def to_json(self, redact: Callable[[str], str] = redact_text) -> ExitJson:
        """Call this to get the exit as plain data; its texts pass through `redact`."""
        return self._json("crashed", None, self.error, redact)


# How an incarnation ended; `match` on it, or ask `exit.clean`.
Exit: TypeAlias = Normal | Shutdown | Killed | Crashed
_E = TypeVar("_E", bound=Exit)


def checked_exit(exit_: Exit) -> Exit:
    """Call this for an exit that user code gives; TypeError for what is none."""
    if type(exit_) not in (Normal, Shutdown, Killed, Crashed):
        raise TypeError(
            f"{shown(exit_)} is no exit; give Normal(), or Shutdown(info) for a reason of your own"
        )
    return exit_


def exit_text(exit_: Exit) -> str:
    """Call this for an exit on one line: how it ended, with what, and why if that was said."""
    text = class_name(type(exit_))
    if isinstance(exit_, Crashed):
        text = f"Crashed: {told(exit_.error)}"
    elif isinstance(exit_, Shutdown) and exit_.info is not None:
        text = f"Shutdown: {' '.join(text_of(exit_.info).split())[:EXIT_TEXT_MAX]}"
    return text if exit_.because is None else f"{text} ({exit_.because})"


def stamped(exit_: _E, incarnation: int, at: float) -> _E:
    """Call this to write into an exit which incarnation it ended, and when."""
    return dataclasses.replace(exit_, incarnation=incarnation, at=at)


class _Named(Protocol):
    @property
    def path(self) -> str: ...


def asked_by(exit_: _E, actor: _Named | None) -> _E:
    """Call this to write into an exit which actor asked for it, if none is written yet."""
    if actor is None or exit_.by is not None:
        return exit_
    return dataclasses.replace(exit_, by=actor.path)


def leaves_of(error: BaseException) -> tuple[BaseException, ...]:
    """Call this to take (nested) exception groups apart."""
    return tuple(leaves_in(error))


# From an error to an exit

# These end the process, whoever raised them; nobody is restarted after a Ctrl-C.
_ENDS_ALL: Final = (KeyboardInterrupt, SystemExit)


def crash_from(error: BaseException, task: trio.lowlevel.Task | None = None) -> Crashed:
    """Call this to make what user code has raised an exit; re-raises what must not become one."""
    return Crashed(without_cancelled(error, task))


def without_cancelled(
    error: BaseException, task: trio.lowlevel.Task | None = None
) -> BaseException:
    """Call this under `except BaseException` around user code, for what its actor crashes with.

    That is the error itself, a group without its `Cancelled` leaves. Whatever user code raises is
    the crash of its actor alone, of whatever class it is: a `CancelledError` of asyncio, a class
    of its own, a `trio.Cancelled` that was kept and raised again elsewhere.

    `task` is the one it may have waited in, None for code that cannot wait (`def`). Raises the
    error again when it is none of the actor's: KeyboardInterrupt or SystemExit, also as a leaf;
    out of code that may wait, the cancellation of a scope around it, which is known by that scope
    being cancelled; and a GeneratorExit that closes the coroutine, for nobody runs it then.
    """
    error = readable(error)
    if isinstance(error, Exception):
        return error
    leaves = leaves_of(error)
    if any(isinstance(leaf, _ENDS_ALL) for leaf in leaves):
        raise error
    if task is not None and _has_closed(leaves) and not _runs(task):
        raise error
    others = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    if isinstance(error, BaseExceptionGroup) and 0 < len(others) < len(leaves):
        # What trio cancels while a nursery closes says nothing about why it closes.
        _, rest = error.split(trio.Cancelled)
        assert rest is not None
        return rest
    if task is not None and not others and trio.current_effective_deadline() == -math.inf:
        raise error
    return error


def readable(error: BaseException) -> BaseException:
    """Call this for an error of user code that others will look at: itself, nearly always.

    A class of errors may have code of its own for what everybody reads (`args`, `__cause__`,
    `exceptions`), and a group may be nested deeper than Python can split it. An error that cannot
    be read is a crash like any other one: a RuntimeError that says so then stands for it.
    """
    try:
        if isinstance(error, BaseExceptionGroup):
            error.split(trio.Cancelled)
        seen: set[type] = set()
        for one in (error, *leaves_of(error)):
            if type(one) not in seen:
                seen.add(type(one))
                _read(one)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failure:  # noqa: BLE001 - whatever the code of that class raises
        stand_in = RuntimeError(
            f"{class_name(type(error))} cannot be read: {class_name(type(failure))}"
        )
        trace = BaseException.__getattribute__(error, "__traceback__")
        return stand_in.with_traceback(trace if isinstance(trace, TracebackType) else None)
    return error


def _read(error: BaseException) -> None:
    """Look once at what is looked at later, where nothing may fail."""
    cls = type(error)
    said = error.message if isinstance(error, BaseExceptionGroup) else ""
    text = f"{cls.__module__}.{cls.__name__}{cls.__qualname__}{said}"
    around = (error.__traceback__, error.__cause__, error.__context__, error.__suppress_context__)
    if type(error.args) is not tuple or not text or not around:
        raise TypeError("args is no tuple")


def _has_closed(leaves: tuple[BaseException, ...]) -> bool:
    return any(isinstance(leaf, GeneratorExit) for leaf in leaves)


def _runs(task: trio.lowlevel.Task) -> bool:
    try:
        return trio.lowlevel.current_task() is task
    except RuntimeError:  # The run is over: what is left of it is being collected.
        return False


def lone_interrupt(error: BaseException | None) -> BaseException | None:
    """Call this for the KeyboardInterrupt or SystemExit that is all a group is about, or None.

    What trio cancelled meanwhile says nothing beside it.
    """
    found: BaseException | None = None
    for leaf in leaves_of(error) if isinstance(error, BaseExceptionGroup) else ():
        if isinstance(leaf, KeyboardInterrupt | SystemExit):
            found = found or leaf
        elif not isinstance(leaf, trio.Cancelled):
            return None
    return found


# How a start ended


@dataclass(frozen=True, slots=True)
class Ready:
    """The incarnation runs; `info` is what `on_start` handed out in `Started(info)`, or None."""

    info: object = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """`on_start` returned IGNORE; nothing is left of the incarnation."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The start raised `error` (StartTimeout, BadReturn ...); nothing is left of it."""

    error: BaseException


# How a start ended; the owner of a cell gets it in `child_started`.
StartOutcome: TypeAlias = Ready | Ignored | Failed
