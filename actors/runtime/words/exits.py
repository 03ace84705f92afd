"""How an actor ended, or how its start did: four exits, three outcomes.

Frozen data, and how a caught error becomes a crash. Who decides on the exit of an incarnation:
`Life` in `life/cell.py`. Who restarts after one: `supervision`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias, TypedDict, TypeVar, final

import trio

from actors.runtime.words.showing import redact_text, text_of

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
            "error": None if error is None else type(error).__name__,
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


Exit: TypeAlias = Normal | Shutdown | Killed | Crashed
_E = TypeVar("_E", bound=Exit)


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
    if isinstance(error, BaseExceptionGroup):
        return tuple(leaf for part in error.exceptions for leaf in leaves_of(part))
    return (error,)


# From an error to an exit


def crash_from(error: BaseException) -> Crashed:
    """Call this to make a caught error an exit; re-raises what must not become one."""
    return Crashed(without_cancelled(error))


def without_cancelled(error: BaseException) -> BaseException:
    """Call this to take `Cancelled` leaves out of a group.

    Raises the error again when it is no crash: nothing but cancellation, or a KeyboardInterrupt,
    SystemExit or GeneratorExit among the leaves.
    """
    if isinstance(error, Exception) or not isinstance(error, BaseExceptionGroup):
        return error
    # These end the process, whoever raised them; nobody is restarted after a Ctrl-C.
    if error.subgroup((KeyboardInterrupt, SystemExit, GeneratorExit)) is not None:
        raise error
    # What trio cancels while a nursery closes says nothing about why it closes.
    _, rest = error.split(trio.Cancelled)
    if rest is None:
        raise error
    return rest


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


StartOutcome: TypeAlias = Ready | Ignored | Failed
