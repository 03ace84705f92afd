"""Functions that modules hold by names of their own: found once, exchanged for each run.

`from time import monotonic` makes a name that no change of the module `time` reaches. Looked
through are the names of all modules, and in those that are not the standard library also what is
one step further: class attributes, defaults of parameters, variables of closures (a dataclass keeps
its `default_factory` there), lists, dicts and objects of the module. On the way generators of
random numbers are found too.

Not found is what lies deeper (in a `partial`, in an object of an object) or in C
(`msgspec.field(default_factory=time.time)`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random, SystemRandom
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Final, Protocol, TypeAlias, cast

Function: TypeAlias = Callable[..., object]  # type: ignore[explicit-any]  # of any signature

# What a function to be exchanged can be. Only these are looked up: to compare anything else might
# run code of users.
_FUNCTIONS: Final = (BuiltinFunctionType, FunctionType, MethodType)
# Here real functions and stand-ins have names that must stay.
_OURS: Final = __name__.rpartition(".")[0]
# A table that long is data; nobody keeps functions in it.
ITEMS_MAX: Final = 1000


class Slot(Protocol):
    """One place that holds a function."""

    def get(self) -> object:
        """What it holds now."""

    def put(self, function: Function) -> None:
        """Let it hold this."""


class Names:
    """Where functions are held; a module is looked through again when it has changed."""

    def __init__(self, stand_ins: Mapping[Function, Function]) -> None:
        """Each real function, with what stands in for it."""
        self._real_of = {f: real for real, instead in stand_ins.items() for f in (real, instead)}
        # By the names of modules.
        self._found: dict[str, _Found] = {}
        self._all = _All({}, {})

    def exchange(self, choose: Callable[[str, Function], Function]) -> None:
        """Call this to let every slot hold `choose(name of its module, real)`.

        Twice: before a run, and after it with the real ones; modules that were imported meanwhile
        hold stand-ins then.
        """
        if not self._all.is_so_still():
            self._look_anew()
        for name, slot in self._all.slots:
            held = slot.get()
            real = self._real_of.get(held) if isinstance(held, _FUNCTIONS) else None
            if real is not None and (chosen := choose(name, real)) is not held:
                slot.put(chosen)

    def generators(self) -> Iterator[tuple[str, str, Random]]:
        """Call this, after `exchange`, for generators: the module, the name there, and itself."""
        for module, found in self._found.items():
            for name in found.generators:
                held = found.names.get(name)
                if _is_generator(held):
                    assert isinstance(held, Random)
                    yield module, str(name), held

    def add(self, stand_in: Function, real: Function) -> None:
        """Call this for a further stand-in, that `choose` may give too."""
        self._real_of[stand_in] = real

    def _look_anew(self) -> None:
        modules = dict(sys.modules)
        for name, module in modules.items():
            known = self._found.get(name)
            if known is None or known.module is not module or len(known.names) != known.count:
                self._found[name] = self._look_through(name, module)
        self._all = _All(modules, self._found)

    def _look_through(self, name: str, module: ModuleType) -> _Found:
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict) or name.startswith(_OURS):
            return _Found(module, {}, 0, (), ())  # Not every entry of `sys.modules` is a module.
        deep = name.partition(".")[0] not in sys.stdlib_module_names - {"__main__"}
        slots = tuple(_in_module(name, names, self._real_of, deep=deep))
        generators = [name for name, value in names.items() if deep and _is_generator(value)]
        return _Found(module, names, len(names), slots, tuple(generators))


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found in a module, when it had so many names."""

    module: object
    names: dict[object, object]
    count: int
    slots: tuple[Slot, ...]
    generators: tuple[object, ...]


class _All:
    """What was found in all modules: a process has thousands, and each run looks twice."""

    def __init__(self, modules: Mapping[str, ModuleType], found: Mapping[str, _Found]) -> None:
        self.slots = [(name, slot) for name in modules for slot in found[name].slots]
        # Held, so that no other object gets its id.
        self._modules = modules
        self._keys, self._ids = [*modules], [*map(id, modules.values())]
        self._names = [found[name].names for name in modules]
        self._counts = [found[name].count for name in modules]

    def is_so_still(self) -> bool:
        """Whether no module came or went, and none has got or lost a name."""
        # Without a step of Python for each module, and without their `__eq__`.
        return (
            [*sys.modules] == self._keys
            and [*map(id, sys.modules.values())] == self._ids
            and [*map(len, self._names)] == self._counts
        )


@dataclass(frozen=True, slots=True)
class _Item:
    """An entry of a dict (the names of a module are one) or a list."""

    holder: dict[object, object] | list[object]
    key: object

    def get(self) -> object:
        if isinstance(self.holder, dict):
            return self.holder.get(self.key)
        assert isinstance(self.key, int)
        return self.holder[self.key] if self.key < len(self.holder) else None

    def put(self, function: Function) -> None:
        if isinstance(self.holder, dict):
            self.holder[self.key] = function
        else:
            assert isinstance(self.key, int)
            self.holder[self.key] = function


@dataclass(frozen=True, slots=True)
class _Attribute:
    """A class attribute. A built-in is never bound to an instance, so its stand-in must not be."""

    cls: type
    name: str
    raw: object

    def get(self) -> object:
        return _plain(vars(self.cls).get(self.name))

    def put(self, function: Function) -> None:
        is_raw = function == _plain(self.raw)
        setattr(self.cls, self.name, self.raw if is_raw else staticmethod(function))


@dataclass(frozen=True, slots=True)
class _Default:
    """The default of a positional parameter."""

    function: FunctionType
    at: int

    def get(self) -> object:
        defaults = self.function.__defaults__ or ()
        return defaults[self.at] if self.at < len(defaults) else None

    def put(self, function: Function) -> None:
        defaults = list(self.function.__defaults__ or ())
        defaults[self.at] = function
        self.function.__defaults__ = tuple(defaults)


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of a closure."""

    cell: CellType

    def get(self) -> object:
        return _content(self.cell)

    def put(self, function: Function) -> None:
        self.cell.cell_contents = function


def _in_module(
    module: str, names: dict[object, object], known: Container[object], *, deep: bool
) -> Iterator[Slot]:
    yield from _in_items(names, known)
    if not deep:
        return
    seen: set[int] = set()
    for value in list(names.values()):
        # What a module holds may have code of its own for whatever it is asked: metaclasses, and
        # proxies that are nobody outside of a request.
        with suppress(Exception):
            if value is not names:
                yield from _in_value(module, value, known, seen)


def _in_value(
    module: str, value: object, known: Container[object], seen: set[int]
) -> Iterator[Slot]:
    cls = type(value)
    if issubclass(cls, type):
        assert isinstance(value, type)
        yield from _in_class(module, value, known, seen)
    elif cls is FunctionType:
        assert isinstance(value, FunctionType)
        yield from _in_function(value, known, seen)
    elif cls is dict or cls is list:
        assert isinstance(value, dict | list)
        yield from _in_items(value, known)
    elif cls.__module__ == module:
        # Of a class that is written here; a stranger's `__dict__` may be anything.
        yield from _in_items(cast(dict[object, object], vars(value)), known)


def _in_items(
    holder: dict[object, object] | list[object], known: Container[object]
) -> Iterator[Slot]:
    is_names = isinstance(holder, dict) and "__name__" in holder  # Of a module, long or not.
    if len(holder) > ITEMS_MAX and not is_names:
        return
    items = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
    for key, value in items:
        if _is_function(value) and value in known:
            yield _Item(holder, key)


def _in_class(module: str, cls: type, known: Container[object], seen: set[int]) -> Iterator[Slot]:
    if cls.__module__ != module or id(cls) in seen:
        return
    seen.add(id(cls))
    for name, raw in list(vars(cls).items()):
        value = _plain(raw)
        if _is_function(value) and value in known:
            if isinstance(raw, staticmethod | BuiltinFunctionType):
                yield _Attribute(cls, name, raw)
        elif type(value) is FunctionType:
            yield from _in_function(value, known, seen)
        elif issubclass(type(value), type):
            assert isinstance(value, type)
            yield from _in_class(module, value, known, seen)


def _in_function(
    function: FunctionType, known: Container[object], seen: set[int]
) -> Iterator[Slot]:
    if id(function) in seen:
        return
    seen.add(id(function))
    for at, value in enumerate(function.__defaults__ or ()):
        if _is_function(value) and value in known:
            yield _Default(function, at)
    if function.__kwdefaults__:
        yield from _in_items(cast(dict[object, object], function.__kwdefaults__), known)
    for cell in function.__closure__ or ():
        value = _content(cell)
        if _is_function(value) and value in known:
            yield _Variable(cell)
        elif type(value) is FunctionType:
            yield from _in_function(value, known, seen)


def _is_generator(value: object) -> bool:
    # By its class: a proxy may raise when it is asked what it stands for.
    return issubclass(type(value), Random) and not issubclass(type(value), SystemRandom)


def _is_function(value: object) -> bool:
    return type(value) in _FUNCTIONS


def _plain(raw: object) -> object:
    return raw.__func__ if type(raw) is staticmethod else raw


def _content(cell: CellType) -> object:
    try:
        content: object = cell.cell_contents
    except ValueError:
        return None  # Not assigned yet.
    return content
