"""What a conformance run says: a line for each program, never "passed" for what was not run."""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
# What `make conformance` brought, and what it leaves: reports and logs.
BUILD = ROOT / "build" / "conformance"


class Verdict(enum.Enum):
    """How it went."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report."""

    name: str
    verdict: Verdict
    words: str

    def __str__(self) -> str:
        return f"{self.verdict.value:8} {self.name}: {self.words}"


def judged(name: str, problems: list[str], words: str) -> Line:
    """Call this with what was found wrong, the first of it told, or what was found right."""
    if problems:
        shown = "; ".join(problems[:5]) + (f" (and {len(problems) - 5} more)" * (len(problems) > 5))
        return Line(name, Verdict.FAILED, shown)
    return Line(name, Verdict.PASSED, words)


def not_run(name: str, missing: str) -> Line:
    """Call this for what is not installed here."""
    return Line(name, Verdict.NOT_RUN, f"{missing} is not installed")


def find(program: str, variable: str) -> str | None:
    """Call this for the path of a program: the one a variable names, ours, or the machine's."""
    named = os.environ.get(variable)
    own = BUILD / "bin" / program
    return named or (str(own) if own.is_file() else shutil.which(program))
