"""The nouns of health: what a check answers, the component it is of, and the report of all.

Rule: what is shown holds no host, no user and no secret. A check writes a few fixed words and
numbers of its own; addresses, passwords and paths that come in with the words of others are hidden
here, once for all.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from actors.runtime.words.showing import CUT, HIDDEN, redact_text

Status: TypeAlias = Literal["healthy", "degraded", "unhealthy"]
"""What serves, what serves but not as it should, and what does not serve."""
Detail: TypeAlias = int | float | bool | str
"""A number or a word that says more of a finding."""

WORST_FIRST: tuple[Status, ...] = ("unhealthy", "degraded", "healthy")

# A line on a screen: who needs more looks into the log.
TEXT_CHARS_MAX = 200
# Of a text that is longer only so much is looked at for what must be hidden: to look takes as long
# as the square of it, and 400 are two milliseconds at worst.
_LOOKED_AT_MAX = 400
# What a component tells of itself is read at a glance; more of it is a metric each.
DETAILS_MAX = 16
# As many as those who read JSON take.
INT_BITS_MAX = 63

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
# Addresses of the net with or without user and port, mail addresses, and paths of a machine.
_PLACE = re.compile(
    r"[a-z][a-z0-9+.-]*://\S+"
    r"|[^\s@]+@[\w.:\[\]-]+"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"
    r"|\[?(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\]?(?::\d+)?"
    r"|(?<![\w/.])/[\w.-]+(?:/[\w.-]+)+",
    re.IGNORECASE,
)


def shown_text(text: str) -> str:
    """Call this for a text as anybody may read it: one short line, without places and secrets."""
    line = " ".join(text[:_LOOKED_AT_MAX].split())
    line = redact_text(_PLACE.sub(HIDDEN, line))
    line = line.encode(errors="replace").decode()
    return line if len(line) <= TEXT_CHARS_MAX else line[: TEXT_CHARS_MAX - len(CUT)] + CUT


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: how its component is, why in a line, and its numbers.

    `is_starting`: it has not served yet, so neither has the program; of no meaning once it has.
    `stays_ready`: though unhealthy, requests should come here: nobody else could serve them better.
    Raises ValueError for more than 16 details or one with an odd name or of over 64 bits, TypeError
    for one that is neither a number nor a text.
    """

    status: Status
    message: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict)
    is_starting: bool = False
    stays_ready: bool = False

    def __post_init__(self) -> None:
        if self.status not in WORST_FIRST:
            raise ValueError(f"a status is one of {', '.join(WORST_FIRST)}, got {self.status!r}")
        if len(self.details) > DETAILS_MAX:
            raise ValueError(f"at most {DETAILS_MAX} details, got {len(self.details)}")
        details: dict[str, Detail] = {}
        for name, value in self.details.items():
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} names no detail; take a-z, 0-9 and _")
            if not isinstance(value, int | float | str):
                raise TypeError(f"detail {name} is a {type(value).__name__}, no number or text")
            if isinstance(value, int) and value.bit_length() > INT_BITS_MAX:
                raise ValueError(f"detail {name} has over {INT_BITS_MAX} bits")
            details[name] = shown_text(value) if isinstance(value, str) else value
        object.__setattr__(self, "message", shown_text(self.message))
        object.__setattr__(self, "details", details)


def healthy(message: str = "", /, **details: Detail) -> Finding:
    """Call this in a check of what is well."""
    return Finding("healthy", message, details)


def degraded(message: str, /, **details: Detail) -> Finding:
    """Call this in a check of what serves, but not as it should: the program stays ready."""
    return Finding("degraded", message, details)


def unhealthy(message: str, /, **details: Detail) -> Finding:
    """Call this in a check of what does not serve: no requests should come here."""
    return Finding("unhealthy", message, details)


# A plain function only looks at what is in memory, and returns at once: it is called before those
# that wait are started. What is raised counts as unhealthy, and is told in the log only.
Check: TypeAlias = Callable[[], Awaitable[Finding] | Finding]
"""What is asked how a part is; it may wait, and is given up where it does for too long."""


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a program that can be asked how it is: `Component("printer", check)`.

    A check that takes over 5 s is unhealthy and cancelled, so it must let itself be. Raises
    ValueError for a name that is none: a-z, 0-9 and _, at most 50.
    """

    name: str
    check: Check

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} names no component; take a-z, 0-9 and _")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of a component, when, and how long that took."""

    finding: Finding
    checked_at: datetime
    duration_ms: float

    @property
    def status(self) -> Status:
        """Call this for the status word."""
        return self.finding.status

    @property
    def message(self) -> str:
        """Call this for why it is so, in a line; often empty for what is well."""
        return self.finding.message

    def to_json(self, *, is_verbose: bool = False) -> dict[str, object]:
        """Call this for the component as `/health/ready` shows it; verbose with its numbers."""
        shown: dict[str, object] = {
            "healthy": self.status != "unhealthy",
            "status": self.status,
            "duration_ms": round(self.duration_ms, 3),
        }
        if self.message:
            shown["error" if self.status == "unhealthy" else "message"] = self.message
        if is_verbose:
            shown["checked_at"] = self.checked_at.isoformat()
            shown["details"] = dict(self.finding.details)
        return shown


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All components at one moment; none while it drains."""

    components: Mapping[str, Checked]
    duration_ms: float = 0.0
    is_draining: bool = False

    @property
    def status(self) -> Status:
        """Call this for the worst status of all components."""
        found = {component.status for component in self.components.values()}
        return next((word for word in WORST_FIRST if word in found), "healthy")

    @property
    def is_ready(self) -> bool:
        """Call this to learn whether requests should be sent here."""
        keeps_away = any(
            one.status == "unhealthy" and not one.finding.stays_ready
            for one in self.components.values()
        )
        return not keeps_away and not self.is_draining

    @property
    def has_started(self) -> bool:
        """Call this to learn whether all of it serves, and nothing is on its way to."""
        starting = any(one.finding.is_starting for one in self.components.values())
        return self.is_ready and not starting

    def to_public_json(self) -> dict[str, object]:
        """Call this for the answer of `/ready` to anybody: whether, and not why."""
        return {"ready": self.is_ready, "status": "draining" if self.is_draining else self.status}

    def to_json(self, *, is_verbose: bool = False) -> dict[str, object]:
        """Call this for the answer of `/ready` to an operator, with every component."""
        if self.is_draining:
            return self.to_public_json()
        return {
            **self.to_public_json(),
            "duration_ms": round(self.duration_ms, 3),
            "components": {
                name: found.to_json(is_verbose=is_verbose)
                for name, found in self.components.items()
            },
        }
