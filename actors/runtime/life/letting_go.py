"""Letting go of what an ended incarnation held, a bit at a time.

Python frees a table of 100,000 entries in one go, which takes 10 ms and more: nobody else has a
turn meanwhile. So large containers are held on to while the instance goes, and emptied in slices.
Only those that nobody else holds: emptying what somebody still looks at would be a theft.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from sys import getrefcount
from typing import Final, TypeAlias

# Freed in well under a millisecond, if its entries are small.
SMALL_MAX: Final = 1000
# A container as small as this is looked into: a few tables are often held in a dictionary.
LOOKED_INTO_MAX: Final = 8
# Entries let go of in one step of a chore.
ENTRIES_A_STEP: Final = 32

_Container: TypeAlias = dict[object, object] | list[object] | set[object] | deque[object]
# By their exact class: how one of a user's own gives up its entries is not known.
_KINDS: Final = (dict, list, set, deque, defaultdict, OrderedDict, Counter)


def large_parts(instance: object) -> list[_Container] | None:
    """The large containers among the attributes of an instance that is to go; None: none."""
    found: list[_Container] = []
    for value in vars(instance).values():
        if type(value) in _KINDS and not _note_large(value, found) and len(value) < LOOKED_INTO_MAX:
            for inner in value.values() if isinstance(value, dict) else value:
                _note_large(inner, found)
    return found or None


def _note_large(value: object, found: list[_Container]) -> bool:
    if type(value) not in _KINDS:
        return False
    assert isinstance(value, dict | list | set | deque)
    if len(value) <= SMALL_MAX:
        return False
    found.append(value)
    return True


def let_go(parts: list[_Container]) -> Iterator[None]:
    """Empty containers and what is large in them, unless somebody else holds them."""
    while parts:
        part = parts.pop()
        # Held by `part`, and by the call that asks.
        while part and getrefcount(part) == 2:
            for _ in range(min(len(part), ENTRIES_A_STEP)):
                _note_large(part.popitem()[1] if isinstance(part, dict) else part.pop(), parts)
            yield
        yield
