"""Which names are refused for a program or a part, and why.

A name stands in import lines, paths, event names and a distribution: what fits all of them is a
letter, then letters, digits and single underscores. What shadows a module would break an import far
away, so it is refused here.
"""

from __future__ import annotations

import keyword
import re
import sys

from web.cli.making.words import APP, class_name

# The longest with which every line of a template still fits.
NAME_CHARS_MAX = 24
OURS = frozenset({"actors", "web", "storage", "supervision", "tests", "docs", "greenroom"})
# What a generated program imports beside us, and what its own folders are called.
BESIDE = frozenset({"trio", "quart", "pytest", "msgspec", "build", "dist", "vendor", "setup"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*", re.ASCII)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def problem_of(kind: str, name: str) -> str:
    """Call this for what is wrong with a name, as a sentence without its end; empty when well."""
    if not name.isidentifier():
        return f"{name!r:.60} is no Python identifier"
    if keyword.iskeyword(name):
        return f"{name!r} is a keyword of Python"
    if _NAME.fullmatch(name) is None:
        return f"{name!r:.60} has more than letters of ASCII, digits and single underscores between"
    if len(name) > NAME_CHARS_MAX:
        return f"{name!r:.60} is longer than {NAME_CHARS_MAX} characters"
    if kind == APP:
        return _shadowing(name)
    return ""


def _shadowing(name: str) -> str:
    folded = name.lower()
    if folded in OURS:
        return f"{name!r} is a package of greenroom, which it would shadow"
    if folded in BESIDE:
        return f"{name!r} would shadow what every program here has or imports"
    if name in sys.stdlib_module_names or folded in sys.stdlib_module_names:
        return f"{name!r} is a module of the standard library, which it would shadow"
    return ""


def module_name(name: str) -> str:
    """Call this for the module of a part: TicketList and ticket_list are the same part."""
    return _HUMP.sub("_", name).lower()


def taken_by(name: str, members: frozenset[str], made: str) -> str:
    """Call this for whether a part of this name would hide what the tree has; says what, or "".

    `members` are the names that the tree's class has by itself, `made` is the text of its file.
    """
    if name in members:
        return f"every supervisor has {name!r} already"
    bound = set(re.findall(r"\b(?:class|def|import|as) +(\w+)|^ {4}(\w+),$", made, re.MULTILINE))
    known = {one for pair in bound for one in pair if one}
    for line in re.findall(r"^from \S+ import ([^(\n]+)$", made, re.MULTILINE):
        known |= {word.strip() for word in line.split(",")}
    for one in (name, class_name(name)):
        if one in known:
            return f"{one!r} is a name in the tree already"
    return ""
