"""How an actor ended: four exits, and what can be read from them.

Frozen data only. Who decides on an exit: `life.py`. Who restarts after one: `supervision`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, TypedDict, TypeVar, final

from actors.runtime.showing import text_of

# One exit fills one line of a report; what is longer belongs into the crash report's stack.
EXIT_TEXT_MAX = 500

_SECRET = re.compile(
    r"(?i)(password|passwd|token|secret|cookie|authorization)([\"']?\s*[=:]\s*)"
    r"(\"[^\"]*\"|'[^']*'|(?:bearer\s+|basic\s+)?[^\s,;&)]+)"
)


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


def redact_text(text: str) -> str:
    """Call this to hide what follows a word like `password=` or `token:` in free text."""
    return _SECRET.sub(r"\1\2***", text)


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
    """A handler, hook or sub-task raised `error`, an exception or an ExceptionGroup."""

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


class _Path(Protocol):
    @property
    def path(self) -> str: ...


def by(exit_: _E, actor: _Path | None) -> _E:
    """Call this to write into an exit which actor asked for it, if none is written yet."""
    if actor is None or exit_.by is not None:
        return exit_
    return dataclasses.replace(exit_, by=actor.path)


def leaves_of(error: BaseException) -> tuple[BaseException, ...]:
    """Call this to take (nested) exception groups apart."""
    if isinstance(error, BaseExceptionGroup):
        return tuple(leaf for part in error.exceptions for leaf in leaves_of(part))
    return (error,)
