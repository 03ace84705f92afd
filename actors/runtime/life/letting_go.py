"""Letting go of what an ended incarnation held, a bit at a time.

Python frees a table of 100,000 entries in one go, which takes 10 ms and more: nobody else has a
turn meanwhile. So an instance that holds much is taken apart from the outside: what stands in it is
held on to while it goes itself, and is taken apart next.

Rule 1: only what nobody else holds is touched; whoever holds a part of it finds that as it was.
What somebody may still get at, by a weak reference, is held: it goes as a whole.
Rule 2: no code of its classes is called, and nothing that has a `__del__` is emptied before it.
A value is asked for its `type` and by methods of the builtin one: its own `__class__`, `__len__`
or `__iter__` may raise, and nothing here may. (The keys of an OrderedDict are hashed for it.)
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from gc import get_referents
from itertools import islice
from sys import getrefcount
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final, TypeAlias
from weakref import getweakrefcount

from actors.runtime.delivery.dispatcher import Dispatcher

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
        if (kind := _kind_of(cls)) is not None:
            if (size := kind.__len__(one)) > LOOKED_INTO_MAX:
                first = next(
                    iter(dict.values(one) if issubclass(kind, dict) else kind.__iter__(one))
                )
                inner = _kind_of(type(first))
                weight += size * (1 + (0 if inner is None else inner.__len__(first)))
            else:
                weight += size
                things += get_referents(one)
        elif cls is FunctionType:
            # Of a nested one; its module is no part of the instance.
            things += one.__closure__ or ()
        elif not (_is_ours(cls) or issubclass(cls, _STAYING)):
            weight += _OBJECT
            things += get_referents(one)
        if weight > SMALL_MAX:
            return True
    return False


def free(thing: object, dispatcher: Dispatcher) -> None:
    """Call this with what is given up, and give it up: a large one is freed in slices.

    Not in a simulation: whether it is large is guessed from what memory looks like.
    """
    if not dispatcher.is_simulated and is_large(thing):
        dispatcher.do_in_slices(let_go([thing]))


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
            kind = _kind_of(type(one))
            if kind is None or kind.__len__(one) <= ENTRIES_A_STEP:
                small.append(one)
                continue
            if (take := _TAKES[kind]) is not None:
                taken = None if _goes_whole(one) else take(one, ENTRIES_A_STEP)
                if taken is None:
                    # It goes with this step, and what is in it later.
                    held.append(get_referents(one))
                else:
                    # Again later; after what was taken out now.
                    held.append(one)
                    held += _no_atoms(taken)
                    del taken
                continue
            # Nothing can be taken out of it; so it goes first, while all is held.
            entries: _Held = []
            entries_of = kind.__iter__(one)
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


def _kind_of(cls: type) -> _Kind | None:
    """The builtin container that a class is, or is made of."""
    if cls in _TAKES:
        return cls
    if issubclass(cls, _KINDS):
        return next(kind for kind in _KINDS if issubclass(cls, kind))
    return None


def _goes_whole(one: object) -> bool:
    """Whether somebody may find a container before it has gone, and must not find it half empty."""
    if getweakrefcount(one):
        return True
    cls = type(one)
    # By what stands in the classes: a metaclass may have code of its own for what it is asked.
    return cls not in _TAKES and any("__del__" in _names_in(base) for base in _bases_of(cls))


def _is_ours(cls: type) -> bool:
    module = _names_in(cls).get("__module__")
    return type(module) is str and module.startswith(_OURS)


def _from_ordered(table: OrderedDict[object, object], count: int) -> _Held | None:
    pop = OrderedDict.popitem
    try:
        return [one for _ in range(count) for one in pop(table)]
    except Exception:  # noqa: BLE001 - of the `__hash__` of a key, or `dict` was used behind its back
        return None


def _from_dict(table: dict[object, object], count: int) -> _Held:
    pop = dict.popitem
    return [one for _ in range(count) for one in pop(table)]


def _from_list(items: list[object], count: int) -> _Held:
    taken = list.__getitem__(items, slice(-count, None))
    list.__delitem__(items, slice(-count, None))
    return taken


def _from_set(items: set[object], count: int) -> _Held:
    pop = set.pop
    return [pop(items) for _ in range(count)]


def _from_deque(items: deque[object], count: int) -> _Held:
    pop = deque.pop
    return [pop(items) for _ in range(count)]


_Kind: TypeAlias = type[Any]  # type: ignore[explicit-any]  # of whatever is in it
# Gives None when nothing more can be taken out.
_Take: TypeAlias = Callable[[Any, int], _Held | None]  # type: ignore[explicit-any]  # each its own
# How entries are taken out (None: they cannot be), by the class that does it, whatever was made of
# that: methods of its own are not called. A class comes before what it is made of.
_TAKES: Final[Mapping[type, _Take | None]] = {
    OrderedDict: _from_ordered,
    dict: _from_dict,
    list: _from_list,
    set: _from_set,
    deque: _from_deque,
    tuple: None,
    frozenset: None,
}
_KINDS: Final = (OrderedDict, dict, list, set, deque, tuple, frozenset)
# What belongs to the program, not to an instance.
_STAYING: Final = (type, ModuleType, CodeType, FrameType)
# What a class says of itself, past its metaclass.
_names_in: Final[Callable[[type], Mapping[str, object]]] = type.__dict__["__dict__"].__get__
_bases_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
