"""What is to be made: a program with its options, and the parts added to it. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

# By path within the program; a wheel is bytes.
Files: TypeAlias = Mapping[str, str | bytes]

APP = "app"
KINDS = (APP, "actor", "aggregate", "projection", "saga")
OPTIONS = ("saga", "kafka", "web")
# How an option is typed.
SPELT = {"saga": "--saga", "kafka": "--bus kafka", "web": "--web"}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a program: of which kind, its name, and for a projection of which aggregate."""

    kind: str
    name: str
    of: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a program was made from: the same again gives the same files."""

    package: str
    options: frozenset[str] = frozenset()
    parts: tuple[Part, ...] = ()
    # As pip is told it; another one when it was made by another greenroom.
    requirement: str = ""
    # What somebody has removed since: it is not made again.
    left_out: frozenset[str] = frozenset()

    def with_part(self, part: Part) -> Recipe:
        """Call this for the recipe of the program once a part was added."""
        return replace(self, parts=(*self.parts, part))


def class_name(name: str) -> str:
    """Call this for the class that a part of this name has: ticket_list has TicketList."""
    return "".join(word[0].upper() + word[1:] for word in name.split("_") if word)
