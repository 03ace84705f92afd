"""Letting go of what an ended incarnation held, a bit at a time.

Python frees a table of 100,000 entries in one go, which takes 10 ms and more: nobody else has a
turn meanwhile. So an instance that holds much is taken apart from the outside: what stands in it is
held on to while it goes itself, and is taken apart next.

Rule 1: only what nobody else holds is touched; whoever holds a part of it finds that as it was.
Rule 2: no code of its classes is called, and nothing that has a `__del__` is emptied before it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from gc import get_referents
from itertools import islice
from sys import getrefcount
from typing import Any, Final, TypeAlias

# Freed in well under a millisecond, if its entries are small.
SMALL_MAX: Final = 1000
# A container as small as this is looked into; a larger one is judged by its first entry.
LOOKED_INTO_MAX: Final = 32
# What an object counts that is no container, beside what it holds.
_OBJECT: Final = 16
# Held by so many it is hardly freed with the instance. Beside the instance these may be the
# arguments it was made with, and the call that asks, thrice.
_HOLDERS_MAX: Final = 8
_OURS: Final = __package__.rpartition(".")[0]
# Things looked at in one step of a chore, and entries taken out of a container at once.
THINGS_A_STEP: Final = 16
ENTRIES_A_STEP: Final = 32

# Of nothing but themselves.
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_Held: TypeAlias = list[Any]  # type: ignore[explicit-any]  # whatever a program has


def is_large(instance: object) -> bool:
    """Whether it takes its time to free an instance; a guess, in a microsecond or two.

    It looks at what the instance holds, by the sizes of containers, and of what they begin with.
    """
    weight = 0
    # It grows while it is walked.
    things = get_referents(instance)
    for one in things:
        cls = type(one)
        if cls in _ATOMS or getrefcount(one) > _HOLDERS_MAX:
            continue
        if cls in _TAKES or isinstance(one, _CONTAINERS):
            assert isinstance(one, _CONTAINERS)
            if (size := len(one)) > LOOKED_INTO_MAX:
                first = next(iter(one.values() if isinstance(one, dict) else one))
                weight += size * (1 + (len(first) if isinstance(first, _CONTAINERS) else 0))
            else:
                weight += size
                things += one.values() if isinstance(one, dict) else one
        elif not cls.__module__.startswith(_OURS):
            weight += _OBJECT
            things += get_referents(one)
        if weight > SMALL_MAX:
            return True
    return False


def let_go(held: _Held) -> Iterator[None]:
    """Free what `held` holds, a step at a time, unless somebody else holds it too."""
    while held:
        things = held[-THINGS_A_STEP:]
        del held[-THINGS_A_STEP:]
        small: _Held = []
        for one in things:
            # Held by `things`, by `one`, and by the call that asks.
            if getrefcount(one) > 3:
                continue
            take = _TAKES.get(type(one)) or _take_of(type(one))
            if take is None or len(one) <= ENTRIES_A_STEP:
                small.append(one)
                continue
            if take is not _nothing:
                # Again later; after what is taken out now.
                held.append(one)
                held += take(one, ENTRIES_A_STEP)
                continue
            # Nothing can be taken out of it; so it goes first, while all is held.
            entries: _Held = []
            entries_of = iter(one)
            while some := list(islice(entries_of, SMALL_MAX)):
                entries += some
                yield
            held.append(entries)
            del entries, entries_of
        held += _no_atoms(get_referents(*small))
        # They go now, not when the next step comes.
        del things, small, one
        yield


def _no_atoms(things: Iterable[object]) -> _Held:
    # Whatever holds nothing else goes with what held it.
    return [one for one in things if type(one) not in _ATOMS]


def _take_of(cls: type) -> _Take | None:
    """How to take entries out of a container of a user's class."""
    if hasattr(cls, "__del__"):
        return None
    for kind, take in _TAKES.items():
        if issubclass(cls, kind):
            return take
    return None


def _from_ordered(table: OrderedDict[object, object], count: int) -> _Held:
    pop = OrderedDict.popitem
    return _no_atoms(one for _ in range(count) for one in pop(table))


def _from_dict(table: dict[object, object], count: int) -> _Held:
    pop = dict.popitem
    return _no_atoms(one for _ in range(count) for one in pop(table))


def _from_list(items: list[object], count: int) -> _Held:
    taken = list.__getitem__(items, slice(-count, None))
    list.__delitem__(items, slice(-count, None))
    return _no_atoms(taken)


def _from_set(items: set[object], count: int) -> _Held:
    pop = set.pop
    return _no_atoms(pop(items) for _ in range(count))


def _from_deque(items: deque[object], count: int) -> _Held:
    pop = deque.pop
    return _no_atoms(pop(items) for _ in range(count))


def _nothing(_: object, __: int) -> _Held:
    return []


_Take: TypeAlias = Callable[[Any, int], _Held]  # type: ignore[explicit-any]  # each its own kind
# How entries are taken out, by the class that does it, whatever was made of that: methods of its
# own are not called. A class comes before what it is made of.
_TAKES: Final[Mapping[type, _Take]] = {
    OrderedDict: _from_ordered,
    dict: _from_dict,
    list: _from_list,
    set: _from_set,
    deque: _from_deque,
    tuple: _nothing,
    frozenset: _nothing,
}
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
