"""Copies of what an actor holds, whatever that is, made a step at a time.

`copy.deepcopy` for a state that may hold anything: a list, or a dictionary, of things that cannot
be copied is copied without them; any other object is copied as a whole or not at all. What runs is
never begun: a copy given up half-way would be collected, and its `__del__` would find half an
object.

A state of 100,000 entries takes half a second. So everything here is a generator that yields now
and then, and whoever drives it lets others run meanwhile; the actor has to stand still for that.
Its child tasks do not: so the entries of a container are noted before the first is copied, unless
they are very many; those are walked through, and a change of their number is noticed. One that
leaves their number as it is (two entries that change places) is not: nothing in Python tells of it,
but to look at all entries a second time. Nor is one in two containers. So a copy holds what was
there at some time, each thing at its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping
from copyreg import dispatch_table
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

from actors.runtime.words.exits import without_cancelled

T = TypeVar("T")
# Gives the copy in the end.
Copying: TypeAlias = Generator[None, None, object]

# A step is a look at so many things: some 50 microseconds.
THINGS_A_STEP: Final = 16
# Or at so many that are no things of their own.
CONSTANTS_A_STEP: Final = 256
BYTES_A_STEP: Final = 64 * 1024
# The entries of a container that are noted at once: some 300 microseconds, of a table 2 ms.
NOTED_MAX: Final = 32 * 1024
MEMO_PARTS: Final = 128
# What can be shared, for it never changes.
_CONSTANT: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(...), FunctionType,
     BuiltinFunctionType, Decimal, Fraction, UUID, date, datetime, time, timedelta}
)  # fmt: skip
# Nurseries, scopes and events; systems, cells and mailboxes. Their data (exits, messages) are not.
_LIVE_PACKAGES: Final = ("trio.", f"{__package__.rpartition('.')[0]}.")


class _LiveError(Exception):
    """It runs, or is part of what does: a copy would be half of it."""


class Copier:
    """Makes copies that share with each other what their originals share.

    `instead` gives what stands for a thing that cannot be copied.
    """

    def __init__(self, instead: Callable[[object], object]) -> None:
        self._instead = instead
        self._made = _Memo()
        # What was copied, so that no other thing gets its id; in order, to take some back.
        self._originals: list[object] = []
        self._looked_at = 0
        # Whether a container was found to change between two steps.
        self._has_changed = False

    def copy(self, value: object) -> Copying:
        """A copy, or what stands for a thing that cannot be copied.

        What others change meanwhile, as child tasks of the actor may, is copied again in one go.
        """
        before = len(self._originals)
        self._has_changed = False
        made = yield from self._copy(value)
        if self._has_changed:
            self._take_back(before)
            made = _in_one_go(self._copy(value))
        return made

    def forget(self) -> Generator[None, None, None]:
        """Free what was needed to make the copies."""
        while self._originals:
            del self._originals[-CONSTANTS_A_STEP:]
            yield
        while self._made.parts:
            self._made.parts.pop()
            yield

    def _copy(self, value: object) -> Copying:
        before = len(self._originals)
        try:
            return (yield from self._deep(value, self._copy))
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - sockets, locks, hooks of user code: no copy
            without_cancelled(error)
            self._take_back(before)
            return self._instead(value)

    def _whole(self, value: object) -> Copying:
        """A copy of something inside an object; raises when it cannot be copied."""
        return self._deep(value, self._whole)

    def _deep(self, value: object, inner: Callable[[object], Copying]) -> Copying:
        cls = type(value)
        if cls in _CONSTANT or issubclass(cls, type):
            return value
        number = id(value)
        if number in (part := self._made.part(number)):
            return part[number]
        self._looked_at += 1
        if self._looked_at % THINGS_A_STEP == 0:
            yield
        if cls is list or cls is deque:
            assert isinstance(value, list | deque)
            items: list[object] | deque[object] = []
            if isinstance(value, deque):
                items = deque(maxlen=value.maxlen)
            self._note(value, items)
            yield from self._each(value, inner, items.append)
            return items
        if cls is bytearray:
            assert isinstance(value, bytearray)
            copied = self._note(value, bytearray())
            while len(copied) < len(value):
                copied += value[len(copied) : len(copied) + BYTES_A_STEP]
                yield
            return copied
        if cls is dict:
            assert isinstance(value, dict)
            made_table: dict[object, object] = self._note(value, {})
            yield from self._table(_entries_of(value), inner, made_table)
            return made_table
        if cls in (tuple, set, frozenset):
            assert isinstance(value, tuple | set | frozenset)
            if cls is tuple:
                items = []
                yield from self._each(value, inner, items.append)
                return self._note(value, tuple(items))
            made: set[object] = set()
            yield from self._each(value, inner, made.add)
            return self._note(value, made if cls is set else frozenset(made))
        if (own := getattr(cls, "__deepcopy__", None)) is not None:
            return self._note(value, own(value, self._made))
        return (yield from self._rebuilt(value))

    def _each(
        self,
        values: Iterable[object],
        inner: Callable[[object], Copying],
        take: Callable[[object], None],
    ) -> Generator[None, None, None]:
        for number, one in enumerate(self._walked(values), 1):
            take(one if type(one) in _CONSTANT else (yield from inner(one)))
            if number % CONSTANTS_A_STEP == 0:
                yield

    def _table(
        self,
        entries: Iterable[tuple[object, object]],
        inner: Callable[[object], Copying],
        made: MutableMapping[object, object],
    ) -> Generator[None, None, None]:
        for number, (name, one) in enumerate(self._walked(entries), 1):
            key = name if type(name) in _CONSTANT else (yield from inner(name))
            made[key] = one if type(one) in _CONSTANT else (yield from inner(one))
            if number % CONSTANTS_A_STEP == 0:
                yield

    def _walked(self, values: Iterable[T]) -> Iterator[T]:
        # Tables, sets and what else an iterator may be of notice a change themselves; lists do not.
        size = len(values) if isinstance(values, list | deque | set | frozenset | tuple) else None
        if size is not None and size <= NOTED_MAX:
            yield from list(values)
            return
        try:
            for one in values:
                if size is not None and len(values) != size:  # type: ignore[arg-type]  # it has one
                    raise RuntimeError("changed size during iteration")
                yield one
            if size is not None and len(values) != size:  # type: ignore[arg-type]  # as above
                raise RuntimeError("changed size during iteration")
        except RuntimeError:
            self._has_changed = True
            raise

    def _rebuilt(self, value: object) -> Copying:
        """A copy of any object, by what pickling would write of it."""
        cls = type(value)
        is_live = f"{cls.__module__}.".startswith(_LIVE_PACKAGES) and not is_dataclass(cls)
        if is_live or hasattr(cls, "__del__"):
            raise _LiveError
        reduce = dispatch_table.get(cls)
        reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(reduced, str):
            return value
        make, args, state, items, pairs = (*reduced, None, None, None)[:5]
        given: list[object] = []
        yield from self._each(args, self._whole, given.append)
        made = self._note(value, make(*given))
        if state is not None:
            self._originals.append(state)
            _set_state(made, (yield from self._whole(state)))
        if items is not None:
            # Of a list; it would not notice that it has changed.
            items = list(items) if type(items) is _ListIterator else items
            yield from self._each(items, self._whole, made.append)
        if pairs is not None:
            if isinstance(value, dict) and type(value).items is dict.items:
                pairs = _entries_of(value)
            yield from self._table(pairs, self._whole, made)
        return made

    def _note(self, value: object, made: T) -> T:
        self._originals.append(value)
        self._made[id(value)] = made
        return made

    def _take_back(self, before: int) -> None:
        while len(self._originals) > before:
            self._made.pop(id(self._originals.pop()), None)


class _Memo(MutableMapping[int, object]):
    """The copies by the `id` of their original, in many small tables.

    A large one would take 10 ms and more each time it has to grow.
    """

    def __init__(self) -> None:
        self.parts: list[dict[int, object]] = [{} for _ in range(MEMO_PARTS)]

    def part(self, number: int) -> dict[int, object]:
        """Where the copy of the original with this `id` is, if there is one."""
        # The last bits are those of an address, the same for all.
        return self.parts[(number >> 5) % MEMO_PARTS]

    def __getitem__(self, number: int) -> object:
        return self.part(number)[number]

    def __setitem__(self, number: int, made: object) -> None:
        self.part(number)[number] = made

    def __delitem__(self, number: int) -> None:
        del self.part(number)[number]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))


# What iterating over a list gives, whatever class was made of it.
_ListIterator: Final[type[Iterator[object]]] = type(iter([]))


def _entries_of(table: dict[object, object]) -> Iterable[tuple[object, object]]:
    if len(table) > NOTED_MAX:
        return dict.items(table)
    return zip(list(dict.keys(table)), list(dict.values(table)), strict=True)


def _in_one_go(copying: Copying) -> object:
    while True:
        try:
            next(copying)
        except StopIteration as done:
            return done.value


def _set_state(made: object, state: Any) -> None:  # type: ignore[explicit-any]  # of any class
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        vars(made).update(attributes)
    for name, one in (slots or {}).items():
        object.__setattr__(made, name, one)
